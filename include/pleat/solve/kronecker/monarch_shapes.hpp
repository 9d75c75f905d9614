// SPDX-License-Identifier: MIT
// The shapes of a Monarch matrix that a number of bytes allows.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/solve/linear/largest_that.hpp"

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Blocks of inputs K, classes of outputs J, and the rank t of a slice; 0 for what is not given.
struct MonarchShape {
  Index blocks = 1;
  Index classes = 1;
  Index rank = 1;

  friend bool operator==(const MonarchShape&, const MonarchShape&) = default;

  /// p and q of an m x n weight: the columns and rows of a whole slice.
  [[nodiscard]] Index width(Index n) const { return (n + blocks - 1) / blocks; }
  [[nodiscard]] Index height(Index m) const { return (m + classes - 1) / classes; }
  /// Whether a block of n inputs has none.
  [[nodiscard]] bool has_empty_block(Index n) const { return (blocks - 1) * width(n) >= n; }
};

/// Bytes of an m x n Monarch matrix.
template <Real T>
[[nodiscard]] std::size_t monarch_bytes(Index m, Index n, const MonarchShape& shape,
                                        Storage storage = native_storage<T>) {
  const auto size = [](Index count) { return static_cast<std::size_t>(count); };
  const Index p = shape.width(n);
  return matrix_bytes(storage, size(m), size(shape.blocks * shape.rank)) + level_bytes(storage) +
         size(shape.rank * shape.classes) *
             (size(n / p) * row_bytes(storage, size(p)) + row_bytes(storage, size(n % p)));
}

/// How many blocks of so many inputs, or classes of outputs, are worth a trial: 1, and what is a
/// power of two or divides the size, up to twice its root.
[[nodiscard]] inline std::vector<Index> monarch_counts(Index size, Index given) {
  if (given > 0) return {given};
  std::vector<Index> counts{1};
  for (Index count = 2; count <= size && count * count <= 4 * size; ++count)
    if ((count & (count - 1)) == 0 || size % count == 0) counts.push_back(count);
  return counts;
}

/// Shapes within so many bytes that are worth a trial, those that `given` leaves open, fewest
/// blocks first; none if not even one fits. Each has the largest rank that fits. One block goes
/// with one class, which is low rank, unless that is what is given.
template <Real T>
[[nodiscard]] std::vector<MonarchShape> monarch_shapes(Index m, Index n, std::size_t limit,
                                                       const MonarchShape& given,
                                                       Storage storage = native_storage<T>) {
  std::vector<MonarchShape> shapes;
  const bool open = given.blocks == 0 && given.classes == 0;
  for (const Index blocks : monarch_counts(n, given.blocks))
    for (const Index classes : monarch_counts(m, given.classes)) {
      MonarchShape shape{blocks, classes, 1};
      if (open && (blocks == 1) != (classes == 1)) continue;
      if (given.blocks == 0 && shape.has_empty_block(n)) continue;
      const Index most = (std::min)(shape.height(m), shape.width(n));
      const auto fits = [&](Index rank) {
        return monarch_bytes<T>(m, n, {blocks, classes, rank}, storage) <= limit;
      };
      shape.rank = given.rank > 0 ? (given.rank <= most && fits(given.rank) ? given.rank : 0)
                                  : largest_that(1, most, fits);
      if (shape.rank > 0) shapes.push_back(shape);
    }
  std::sort(shapes.begin(), shapes.end(), [](const MonarchShape& x, const MonarchShape& y) {
    return std::tuple(x.blocks * x.classes, x.blocks) < std::tuple(y.blocks * y.classes, y.blocks);
  });
  return shapes;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
