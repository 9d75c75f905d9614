// SPDX-License-Identifier: MIT
// The shapes of a BlockDictionary that a number of bytes allows.
#pragma once

#include "pleat/matrix/row_sparse.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Width of the blocks, atoms of each, and entries in each row of each; 0 for what is not given.
struct DictionaryShape {
  Index block = 1;
  Index atoms = 1;
  Index nonzeros = 1;

  friend bool operator==(const DictionaryShape&, const DictionaryShape&) = default;
};

/// Bytes of an m x n BlockDictionary.
template <Real T>
[[nodiscard]] std::size_t dictionary_bytes(Index m, Index n, const DictionaryShape& shape) {
  const Index blocks = (n + shape.block - 1) / shape.block;
  return RowSparse<T>::stored_bytes(m, blocks * shape.atoms, blocks * shape.nonzeros) +
         static_cast<std::size_t>(shape.atoms) * static_cast<std::size_t>(n) * sizeof(T);
}

/// The largest value in [least, most] that `fits`, which holds up to some value; least - 1 if none.
template <class Fits>
[[nodiscard]] Index largest_that(Index least, Index most, Fits fits) {
  Index below = least - 1;
  for (Index above = most + 1; below + 1 < above;) {
    const Index middle = below + (above - below) / 2;
    (fits(middle) ? below : above) = middle;
  }
  return below;
}

/// Shapes within so many bytes that are worth a trial, those that `given` leaves open; none if not
/// even one fits.
///
/// Blocks of 16 to 64 columns, as even as n allows, with once or twice as many atoms, and as many
/// entries as fit; or one entry more, and fewer atoms. What bytes are left go to further atoms.
/// Where none of those fits, wider blocks, up to one.
template <Real T>
[[nodiscard]] std::vector<DictionaryShape> dictionary_shapes(Index m, Index n, std::size_t limit,
                                                             const DictionaryShape& given) {
  std::vector<DictionaryShape> shapes;
  const auto add = [&](const DictionaryShape& shape) {
    if (dictionary_bytes<T>(m, n, shape) <= limit &&
        std::find(shapes.begin(), shapes.end(), shape) == shapes.end())
      shapes.push_back(shape);
  };
  const auto with_block = [&](Index block) {
    for (const Index times : {2, 1}) {
      const Index goal = given.atoms > 0 ? given.atoms : times * block;
      const Index least = given.nonzeros > 0 ? given.nonzeros : 1;
      const Index most = given.nonzeros > 0 ? given.nonzeros : (std::min)(block, goal);
      const Index fits = largest_that(least, most, [&](Index s) {
        return dictionary_bytes<T>(m, n, {block, (std::max)(goal, s), s}) <= limit;
      });
      for (const Index s : {fits, fits + 1}) {
        if (s < least || s > most) continue;
        const Index atoms = given.atoms > 0
                                ? given.atoms
                                : largest_that(s, (std::max)(s, goal + goal / 2), [&](Index k) {
                                    return dictionary_bytes<T>(m, n, {block, k, s}) <= limit;
                                  });
        if (atoms >= s) add({block, atoms, s});
      }
    }
  };
  if (given.block > 0) {
    with_block(given.block);
    return shapes;
  }
  for (const Index width : {16, 24, 32, 48, 64}) {
    const Index blocks = std::max<Index>(1, (n + width / 2) / width);
    with_block((n + blocks - 1) / blocks);
  }
  for (Index blocks = n / 64; shapes.empty() && blocks >= 1; blocks /= 2)
    with_block((n + blocks - 1) / blocks);
  if (shapes.empty()) with_block(n);
  return shapes;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
