// SPDX-License-Identifier: MIT
// Where values in 16, 8 or 4 bits, and their scales, lie in the panels of the kernels.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

[[nodiscard]] constexpr kernel::Format format_of(Storage storage) noexcept {
  switch (storage) {
    case Storage::f16: return kernel::Format::f16;
    case Storage::int8: return kernel::Format::int8;
    case Storage::int4: return kernel::Format::int4;
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

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
