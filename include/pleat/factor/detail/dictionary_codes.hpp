// SPDX-License-Identifier: MIT
// The sparse codes of the dictionary structures: N:M, which the kernels are fast with, or free.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/factor/detail/one_of.hpp"
#include "pleat/matrix/row_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <string>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {

/// Codes of a dictionary: a `SemiStructured` whose groups are of atoms, or a `RowSparse`, whose
/// entries may be of any atoms. `get_if<SemiStructured<T>>()` tells.
template <Real T>
using DictionaryCodes = detail::OneOf<SemiStructured<T>, RowSparse<T>>;

namespace detail {

/// Whether there are N:M codes of s of k atoms.
[[nodiscard]] constexpr bool has_pattern(Index nonzeros, Index atoms) noexcept {
  return (atoms == 4 || atoms == 8 || atoms == 16 || atoms == 32) && nonzeros >= 1 &&
         nonzeros < atoms;
}

/// How many entries every row of codes has in each of `blocks` blocks of `atoms` columns. Throws
/// `std::invalid_argument`, in the name of a structure, unless they are as many in all of them.
template <Real T>
[[nodiscard]] Index entries_of_each_block(std::string_view structure,
                                          const DictionaryCodes<T>& codes, Index blocks,
                                          Index atoms) {
  if (const auto* const brick = codes.template get_if<SemiStructured<T>>()) {
    require(brick->pattern().group == atoms, [&] {
      return std::string(structure) + ": codes of " + to_string(brick->pattern()) +
             " are not over groups of " + std::to_string(atoms) + " atoms";
    });
    return brick->pattern().kept;
  }
  const RowSparse<T>& free = *codes.template get_if<RowSparse<T>>();
  const Index of_row = free.row_entries();
  require(of_row % blocks == 0, [&] {
    return std::string(structure) + ": " + std::to_string(of_row) +
           " entries a row are not as many for each of " + std::to_string(blocks) + " blocks";
  });
  // Columns ascend: entry i of a row is one of block i / s.
  const Index of_block = of_row / blocks;
  Index entry = 0;
  free.each([&](Index row, Index col, T) {
    require(col / atoms == entry++ % of_row / of_block, [&] {
      return std::string(structure) + ": row " + std::to_string(row) +
             " of the codes does not have " + std::to_string(of_block) + " entries in each block";
    });
  });
  return of_block;
}

/// ", stored as int8, activations as int8" or nothing, for the values of codes, or, where only
/// their dictionary rounds its activations, for that.
template <Real T, class Dictionary>
[[nodiscard]] std::string codes_storage_text(const DictionaryCodes<T>& codes,
                                             const Dictionary& dictionary) {
  const auto* const brick = codes.template get_if<SemiStructured<T>>();
  const std::string text = brick == nullptr ? "" : stored_text(*brick);
  const std::string own = stored_text(dictionary);
  return own.size() > text.size() ? own : text;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
