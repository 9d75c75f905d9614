// SPDX-License-Identifier: MIT
// Where values in 16, 8 or fewer bits, and their scales, lie in the panels of the kernels.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

[[nodiscard]] constexpr kernel::Format format_of(Storage storage) noexcept {
  switch (storage) {
    case Storage::f16: return kernel::Format::f16;
    case Storage::int8: return kernel::Format::int8;
    case Storage::int4:
    case Storage::int3:  // the same integers, fewer of them
    case Storage::int2: return kernel::Format::int4;
    case Storage::int4_fitted:
    case Storage::int3_fitted:
    case Storage::int2_fitted: return kernel::Format::levels;
    default: return kernel::Format::bf16;
  }
}

/// Of a rows x cols matrix: byte offsets, as `kernel::narrow_panel_bytes` has them.
class NarrowLayout {
 public:
  NarrowLayout() = default;
  NarrowLayout(Storage storage, Index rows, Index cols)
      : storage_(storage),
        rows_(rows),
        cols_(cols),
        panel_bytes_(static_cast<Index>(
            kernel::narrow_panel_bytes(format_of(storage), static_cast<std::size_t>(cols)))) {}

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  [[nodiscard]] kernel::Format format() const noexcept { return format_of(storage_); }

  /// Columns that share a scale, 0 where there is none, and how many such groups a row has.
  [[nodiscard]] Index group() const noexcept {
    return static_cast<Index>(kernel::scale_group(format()));
  }
  [[nodiscard]] Index groups() const noexcept { return (cols_ + group() - 1) / group(); }

  [[nodiscard]] Index memory() const noexcept { return (rows_ + panel - 1) / panel * panel_bytes_; }
  /// Of the panel in which a row lies; there its levels are, if it has any.
  [[nodiscard]] Index panel_at(Index row) const noexcept { return row / panel * panel_bytes_; }
  /// Of 16-bit numbers.
  [[nodiscard]] Index half_at(Index row, Index col) const noexcept {
    return word_at(row, col, storage_ == Storage::f16 ? 2 : 4) +
           (storage_ == Storage::f16 ? 0 : col % 2 * 2);
  }
  [[nodiscard]] Index scale_at(Index row, Index col) const noexcept {
    return panel_at(row) + static_cast<Index>(place(col).scale) +
           row % panel * (format() == kernel::Format::int8 ? 4 : 2);
  }
  [[nodiscard]] Index byte_at(Index row, Index col) const noexcept {
    return word_at(row, col, 4) + (format() == kernel::Format::int8 ? col % 4 : col % 8 / 2);
  }

 private:
  static constexpr Index panel = Index{kernel::panel_rows};

  [[nodiscard]] kernel::NarrowPlace place(Index col) const noexcept {
    return kernel::narrow_place(format(), static_cast<std::size_t>(col));
  }
  [[nodiscard]] Index word_at(Index row, Index col, Index bytes) const noexcept {
    return panel_at(row) + static_cast<Index>(place(col).word) + row % panel * bytes;
  }

  Storage storage_ = Storage::bf16;
  Index rows_ = 0;
  Index cols_ = 0;
  Index panel_bytes_ = 0;
};

/// A row of a file's bytes in which numbers of a few bits lie one after another, the lowest bit
/// first.
struct PackedRow {
  const std::byte* bytes;
  Index count;

  /// What is there from a bit on: eight bits and more, unless the row ends before.
  [[nodiscard]] int at(Index bit) const noexcept {
    const Index i = bit / 8;
    const int high = i + 1 < count ? std::to_integer<int>(bytes[i + 1]) : 0;
    return (std::to_integer<int>(bytes[i]) | high << 8) >> bit % 8;
  }

  /// Byte i of a row of numbers `entry(col)` of so many bits.
  template <class Entry>
  [[nodiscard]] static std::uint8_t byte(Index i, Index bits, Index cols, Entry entry) {
    int result = 0;
    for (Index col = 8 * i / bits; col < cols && bits * col < 8 * i + 8; ++col) {
      const Index shift = bits * col - 8 * i;
      result |= shift < 0 ? entry(col) >> -shift : entry(col) << shift;
    }
    return static_cast<std::uint8_t>(result & 255);
  }
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
