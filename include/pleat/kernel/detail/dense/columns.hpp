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
template <class Arch, class Column>
struct IndexColumns {
  static constexpr std::size_t grain = 8;  // tiles are multiples of it; any would do

  const Column* columns;

  /// Columns of a row are found so many columns at a time.
  static constexpr std::size_t span = ~std::size_t{0};
  using Position = Column;
  struct Memory {};

  /// Where in the `span` columns from `first` on, which must be in the row, the next entries of a
  /// row lie: [entry, end) if they all do. Sets their number.
  const Column* find(std::size_t /*row*/, std::size_t entry, std::size_t end, std::size_t /*first*/,
                     Memory& /*memory*/, std::size_t& count) const {
    count = end - entry;
    return columns + entry;
  }

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
  static constexpr std::size_t line_entries = 64 / sizeof(Column);
};

/// Which bits of a byte are set: their positions in ascending order, a byte each, and their number.
template <class Arch>
struct BitPositions {
  std::uint64_t positions[256];
  std::uint8_t count[256];

  static constexpr BitPositions make() {
    BitPositions made{};
    for (unsigned bits = 0; bits < 256; ++bits)
      for (unsigned bit = 0; bit < 8; ++bit)
        if ((bits >> bit & 1U) != 0)
          made.positions[bits] |= std::uint64_t{bit} << (8 * made.count[bits]++);
    return made;
  }
  static const BitPositions table;
};
template <class Arch>
constexpr BitPositions<Arch> BitPositions<Arch>::table = BitPositions::make();

/// Columns as the set bits of words, `words` of them for a row.
template <class Arch>
struct MaskColumns {
  static constexpr std::size_t grain = mask_cols;

  const std::uint32_t* masks;
  std::size_t words;

  static std::size_t lowest(std::uint32_t word) {
    return static_cast<std::size_t>(__builtin_ctz(word));
  }

  static constexpr std::size_t span = 256;  // so that a position is a byte
  using Position = std::uint8_t;
  struct Memory {
    std::uint8_t positions[span + 8];  // eight are written where fewer count
  };

  /// Eight bits a step: bit by bit, each entry would wait for the one before.
  const std::uint8_t* find(std::size_t row, std::size_t /*entry*/, std::size_t /*end*/,
                           std::size_t first, Memory& memory, std::size_t& count) const {
    const std::size_t begin = first / mask_cols;
    const std::size_t end = words - begin < span / mask_cols ? words : begin + span / mask_cols;
    std::uint64_t offset = 0;  // column of the lowest bit, in each byte
    std::size_t found = 0;
    for (std::size_t i = begin; i < end; ++i)
#pragma GCC unroll 4
      for (std::size_t shift = 0; shift < mask_cols; shift += 8) {
        const std::uint32_t bits = masks[row * words + i] >> shift & 255U;
        const std::uint64_t eight = BitPositions<Arch>::table.positions[bits] + offset;
        __builtin_memcpy(memory.positions + found, &eight, sizeof eight);
        found += BitPositions<Arch>::table.count[bits];
        offset += 0x0808080808080808U;
      }
    count = found;
    return memory.positions;
  }

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
