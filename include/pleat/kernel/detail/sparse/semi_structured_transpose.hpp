// SPDX-License-Identifier: MIT
// The transpose of a 2:4 sparse matrix times activations.
#pragma once

#include "pleat/kernel/detail/sparse/semi_structured_values.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// See `Table::semi_structured_apply_transpose`. Plain loops: training is not what this is for.
template <class Arch, class T>
struct SemiStructuredTranspose {
  using Plain = PlainValues<T>;
  using Widened = WidenedValues<Arch, T>;
  static constexpr std::size_t group_values = Plain::group_values;
  static constexpr std::size_t block_groups = Plain::block_groups;

  /// X = W^T Y for a range of groups of four columns. Zeros in Y are skipped by panels: who asks
  /// for single rows of W, as errors are measured, has nothing else.
  template <class Values>
  static void values_of(std::size_t rows, std::size_t cols, std::size_t first, std::size_t last,
                        const Values& values, const std::uint32_t* codes, std::size_t batch,
                        const T* y, std::size_t ldy, T* x, std::size_t ldx) {
    const std::size_t groups = (cols + 3) / 4;
    typename Values::Block widened;
    for (std::size_t g = first; g < last; ++g)
      for (std::size_t c = 4 * g; c < 4 * g + 4 && c < cols; ++c)
        for (std::size_t j = 0; j < batch; ++j) x[j * ldx + c] = T(0);
    for (std::size_t r = 0; r < rows; r += panel_rows) {
      const std::size_t height = rows - r < panel_rows ? rows - r : panel_rows;
      std::size_t from = batch;
      std::size_t to = 0;
      for (std::size_t j = 0; j < batch; ++j)
        for (std::size_t i = 0; i < height; ++i)
          if (y[j * ldy + r + i] != T(0)) {
            from = j < from ? j : from;
            to = j + 1;
          }
      if (from >= to) continue;
      const Values panel = values.panel(r / panel_rows);
      const std::uint32_t* const code =
          codes + r / panel_rows * ((groups + block_groups - 1) / block_groups * panel_rows);
      for (std::size_t g = first; g < last;) {
        const std::size_t b = g / block_groups;
        const std::size_t begin = b * block_groups;
        const std::size_t count = groups - begin < block_groups ? groups - begin : block_groups;
        const std::size_t end = begin + count < last ? begin + count : last;
        const T* const value = panel.block(b, count, widened);
        for (; g < end; ++g)
          for (std::size_t j = from; j < to; ++j) {
            T sum[4] = {};
            for (std::size_t i = 0; i < height; ++i) {
              const T* const w = value + (g - begin) * group_values + i;
              const std::uint32_t bits = code[b * panel_rows + i] >> (4 * (g - begin));
              const T yi = y[j * ldy + r + i];
              sum[bits & 3U] += w[0] * yi;
              sum[bits >> 2U & 3U] += w[panel_rows] * yi;
            }
            for (std::size_t c = 0; c < 4 && 4 * g + c < cols; ++c)
              x[j * ldx + 4 * g + c] += sum[c];
          }
      }
    }
  }

  static void apply(std::size_t rows, std::size_t cols, std::size_t first, std::size_t last,
                    const T* values, const std::uint32_t* codes, std::size_t batch, const T* y,
                    std::size_t ldy, T* x, std::size_t ldx) {
    values_of(rows, cols, first, last, Plain{values, (cols + 3) / 4 * Plain::group_values}, codes,
              batch, y, ldy, x, ldx);
  }

  static void apply_narrow(Format format, std::size_t rows, std::size_t cols, std::size_t first,
                           std::size_t last, const std::uint8_t* values, const std::uint32_t* codes,
                           std::size_t batch, const T* y, std::size_t ldy, T* x, std::size_t ldx) {
    const std::size_t stride = narrow_panel_bytes(format, (cols + 3) / 4 * 2);
    values_of(rows, cols, first, last, Widened{format, values, stride}, codes, batch, y, ldy, x,
              ldx);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
