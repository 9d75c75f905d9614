// SPDX-License-Identifier: MIT
// The shapes of a BlockDictionary that a number of bytes allows.
#pragma once

#include "pleat/factor/block_dictionary.hpp"
#include "pleat/solve/linear/largest_that.hpp"

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

/// How the places of N:M codes in so many blocks are stored: as what takes fewer bytes.
[[nodiscard]] inline Places code_places(Index blocks, const DictionaryShape& shape) {
  return smaller_places({shape.nonzeros, shape.atoms}, blocks * shape.atoms);
}

/// Bytes of an m x n BlockDictionary. Codes that are not N:M are stored as they are.
template <Real T>
[[nodiscard]] std::size_t dictionary_bytes(Index m, Index n, const DictionaryShape& shape,
                                           Storage storage = native_storage<T>) {
  const Index blocks = (n + shape.block - 1) / shape.block;
  const std::size_t codes =
      has_pattern(shape.nonzeros, shape.atoms)
          ? semi_structured_bytes(m, blocks * shape.atoms, {shape.nonzeros, shape.atoms}, storage,
                                  code_places(blocks, shape))
          : RowSparse<T>::stored_bytes(m, blocks * shape.atoms, blocks * shape.nonzeros);
  const auto atoms_of = [&](Index width) {
    return static_cast<std::size_t>(shape.atoms) *
           row_bytes(storage, static_cast<std::size_t>(width));
  };
  return codes + static_cast<std::size_t>(n / shape.block) * atoms_of(shape.block) +
         atoms_of(n % shape.block) + level_bytes(storage);
}

/// Shapes within so many bytes that are worth a trial, those that `given` leaves open; none if not
/// even one fits. Codes of more than `most_atoms`, or more than two atoms a column, are not the
/// fastest on the machine; with `only_fast`, if there are any that are, there is nothing else.
///
/// First codes in lanes, of 8, 16 or 32 atoms: for each number of entries the narrowest blocks that
/// fit, from a quarter as many columns as atoms up to as many. Then any: blocks of 16 to 64
/// columns, as even as n allows, with once or twice as many atoms, and as many entries as fit; or
/// one entry more, and fewer atoms; what bytes are left go to further atoms. Where none of those
/// fits, wider blocks, up to one. In narrow storage there are codes in lanes alone, of 4 atoms too,
/// and of blocks up to four times as wide as there are atoms, or wider where only those fit.
template <Real T>
[[nodiscard]] std::vector<DictionaryShape> dictionary_shapes(Index m, Index n, std::size_t limit,
                                                             const DictionaryShape& given,
                                                             Index most_atoms = 32,
                                                             bool only_fast = false,
                                                             Storage storage = native_storage<T>) {
  std::vector<DictionaryShape> shapes;
  const bool narrow = is_narrow(storage);
  const auto fits = [&](const DictionaryShape& shape) {
    return dictionary_bytes<T>(m, n, shape, storage) <= limit;
  };
  const auto add = [&](const DictionaryShape& shape) {
    if (fits(shape) && std::find(shapes.begin(), shapes.end(), shape) == shapes.end())
      shapes.push_back(shape);
  };
  const auto in_lanes = [&](Index atoms, Index widest) {
    if (given.atoms > 0 && given.atoms != atoms) return;
    if (only_fast && atoms > most_atoms) return;
    const Index most_entries = given.nonzeros > 0 ? atoms - 1 : atoms / 2;
    for (Index s = 1; s <= most_entries; ++s) {
      if (given.nonzeros > 0 && given.nonzeros != s) continue;
      const Index most = given.block > 0 ? given.block : (std::min)(widest, n);
      const Index least =
          given.block > 0 ? given.block : (std::max)(atoms / (only_fast ? 2 : 4), s);
      Index block = least;
      while (block <= most && !fits({block, atoms, s})) ++block;
      if (block > most) continue;
      const Index blocks = (n + block - 1) / block;  // as even as n allows
      add({given.block > 0 ? block : (n + blocks - 1) / blocks, atoms, s});
    }
  };
  for (const Index atoms : {8, 16, 32}) in_lanes(atoms, narrow ? 4 * atoms : atoms);
  if (narrow) {
    in_lanes(4, 16);
    for (const Index atoms : {4, 8, 16, 32})
      if (shapes.empty()) in_lanes(atoms, n);
    return shapes;
  }
  if (only_fast && !shapes.empty()) return shapes;
  const auto with_block = [&](Index block) {
    for (const Index times : {2, 1}) {
      const Index goal = given.atoms > 0 ? given.atoms : times * block;
      const Index least = given.nonzeros > 0 ? given.nonzeros : 1;
      const Index most = given.nonzeros > 0 ? given.nonzeros : (std::min)(block, goal);
      const Index entries = largest_that(least, most, [&](Index s) {
        return fits({block, (std::max)(goal, s), s});
      });
      for (const Index s : {entries, entries + 1}) {
        if (s < least || s > most) continue;
        const Index atoms = given.atoms > 0
                                ? given.atoms
                                : largest_that(s, (std::max)(s, goal + goal / 2), [&](Index k) {
                                    return fits({block, k, s});
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
