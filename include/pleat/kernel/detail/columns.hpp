// SPDX-License-Identifier: MIT
// Which columns the entries of a sparse row lie in: walked from indices, or from a bit mask.
#pragma once

#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

// The instruction set is part of these names, or the linker could keep the wrong body.

/// Columns as indices of type I.
template <class Arch, class I>
struct IndexColumns {
  static constexpr std::size_t grain = 8;  // tiles are multiples of it; any would do

  const I* columns;

  /// Walks the entries of a row from its first, number `entry` of all; never asked for more than
  /// the row has.
  struct Walk {
    const I* at;
    std::size_t next() { return *at++; }
  };
  Walk walk(std::size_t /*row*/, std::size_t entry) const { return {columns + entry}; }

  /// Calls `use(entry, column)` for the entries [entry, end) of a row until one lies in or past the
  /// column `last`, and returns which one. They begin at `first`, a multiple of `grain`, or later.
  template <class Use>
  std::size_t each(std::size_t /*row*/, std::size_t entry, std::size_t end, std::size_t /*first*/,
                   std::size_t last, const Use& use) const {
    for (; entry < end && columns[entry] < last; ++entry) use(entry, columns[entry]);
    return entry;
  }

  /// Where the column of an entry in or after the column `first` is stored, and how many entries
  /// further on the next cache line is.
  const void* address(std::size_t /*row*/, std::size_t entry, std::size_t /*first*/) const {
    return columns + entry;
  }
  static constexpr std::size_t line_entries = 64 / sizeof(I);
};

/// Columns as the set bits of words, `words` of them for a row.
template <class Arch>
struct MaskColumns {
  static constexpr std::size_t grain = mask_cols;

  const std::uint32_t* masks;
  std::size_t words;

  static std::size_t lowest(std::uint32_t word) {
    return static_cast<std::size_t>(__builtin_ctz(word));
  }

  struct Walk {
    const std::uint32_t* at;  // the word after the current one
    std::uint32_t word;       // what is left of it
    std::size_t end;          // the column after its last
    std::size_t next() {
      for (; word == 0; end += mask_cols) word = *at++;
      const std::size_t column = end - mask_cols + lowest(word);
      word &= word - 1;
      return column;
    }
  };
  Walk walk(std::size_t row, std::size_t /*entry*/) const { return {masks + row * words, 0, 0}; }

  template <class Use>
  std::size_t each(std::size_t row, std::size_t entry, std::size_t /*end*/, std::size_t first,
                   std::size_t last, const Use& use) const {
    for (std::size_t k = first; k < last; k += mask_cols)
      for (std::uint32_t word = masks[row * words + k / mask_cols]; word != 0; word &= word - 1)
        use(entry++, k + lowest(word));
    return entry;
  }

  const void* address(std::size_t row, std::size_t /*entry*/, std::size_t first) const {
    return masks + row * words + first / mask_cols;
  }
  static constexpr std::size_t line_entries = 64 * 8;  // at most
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
