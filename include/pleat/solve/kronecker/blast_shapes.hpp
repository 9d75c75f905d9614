// SPDX-License-Identifier: MIT
// The shapes of a BLAST matrix that a number of bytes allows.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/factor/blast.hpp"
#include "pleat/solve/linear/largest_that.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Rows and columns of blocks b1 and b2, and the rank r of a block; 0 for what is not given.
struct BlastShape {
  Index row_blocks = 1;
  Index column_blocks = 1;
  Index rank = 1;

  friend bool operator==(const BlastShape&, const BlastShape&) = default;

  /// p and q of an m x n weight: the rows and columns of a whole block.
  [[nodiscard]] Index height(Index m) const { return (m + row_blocks - 1) / row_blocks; }
  [[nodiscard]] Index width(Index n) const { return (n + column_blocks - 1) / column_blocks; }
};

/// Bytes of an m x n BLAST matrix.
template <Real T>
[[nodiscard]] std::size_t blast_bytes(Index m, Index n, const BlastShape& shape,
                                      Storage storage = native_storage<T>) {
  const auto size = [](Index count) { return static_cast<std::size_t>(count); };
  const Index q = shape.width(n);
  const std::size_t of_rank =
      size(n / q) * row_bytes(storage, size(q)) + row_bytes(storage, size(n % q)) +
      size(shape.row_blocks) *
          row_bytes(Blast<T>::coupling_storage(storage), size(shape.column_blocks));
  return matrix_bytes(storage, size(m), size(shape.rank)) + level_bytes(storage) +
         size(shape.rank) * of_rank;
}

/// Into how many blocks so many rows or columns are cut where `wanted` is wished for: the largest
/// power of two up to that which leaves blocks of at least 4.
[[nodiscard]] inline Index blast_count(Index size, Index wanted) {
  Index count = 1;
  while (2 * count <= wanted && 8 * count <= size) count *= 2;
  return count;
}

/// The largest rank that fits within so many bytes; 0 if none does. A multiple of 4 from 64 on, of
/// 8 from 256 on, as kernels like it, unless it is the largest that there is.
template <Real T>
[[nodiscard]] Index blast_rank(Index m, Index n, std::size_t limit, const BlastShape& shape,
                               Storage storage = native_storage<T>) {
  const Index most = (std::min)(m, n);
  const Index rank = largest_that(1, most, [&](Index r) {
    return blast_bytes<T>(m, n, {shape.row_blocks, shape.column_blocks, r}, storage) <= limit;
  });
  if (rank == most || rank < 64) return rank;
  return rank < 256 ? rank / 4 * 4 : rank / 8 * 8;
}

/// Shapes within so many bytes that are worth a trial, those that `given` leaves open, fewest
/// blocks first; none if not even one fits. Each has the largest rank that fits.
template <Real T>
[[nodiscard]] std::vector<BlastShape> blast_shapes(Index m, Index n, std::size_t limit,
                                                   const BlastShape& given,
                                                   Storage storage = native_storage<T>) {
  std::vector<BlastShape> shapes;
  for (const Index blocks : {1, 2, 4, 8, 16}) {
    BlastShape shape{given.row_blocks > 0 ? given.row_blocks : blast_count(m, blocks),
                     given.column_blocks > 0 ? given.column_blocks : blast_count(n, blocks),
                     given.rank};
    if (shape.rank == 0) shape.rank = blast_rank<T>(m, n, limit, shape, storage);
    if (shape.rank == 0 || blast_bytes<T>(m, n, shape, storage) > limit) continue;
    if (shapes.empty() || !(shapes.back() == shape)) shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
