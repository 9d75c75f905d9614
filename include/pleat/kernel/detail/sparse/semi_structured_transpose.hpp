// SPDX-License-Identifier: MIT
// The transpose of a matrix with N of M columns kept, times activations.
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
  static constexpr std::size_t most = 32;  // columns of a group

  /// X = W^T Y for a range of groups. Zeros in Y are skipped by panels: who asks for single rows
  /// of W, as errors are measured, has nothing else.
  template <class Values>
  static void values_of(SemiStructuredPattern pattern, std::size_t rows, std::size_t cols,
                        std::size_t first, std::size_t last, const Values& values,
                        const std::uint32_t* codes, std::size_t batch, const T* y, std::size_t ldy,
                        T* x, std::size_t ldx) {
    const std::size_t group = pattern.group;
    const std::size_t kept = pattern.kept;
    const std::size_t count = row_values(pattern, cols);
    // A group reaches into no more than three blocks.
    typename Values::Block widened[3];
    const T* block[3] = {};
    for (std::size_t c = first * group; c < last * group && c < cols; ++c)
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
      const std::uint32_t* const words = codes + r / panel_rows * panel_words(pattern, cols);
      std::size_t next = first * kept / block_values;  // block to be widened
      for (std::size_t g = first; g < last; ++g) {
        for (; next * block_values < (g + 1) * kept; ++next)
          block[next % 3] = panel.block(next, values_of_block(next, count), widened[next % 3]);
        for (std::size_t j = from; j < to; ++j) {
          T sum[most] = {};
          for (std::size_t value = g * kept; value < (g + 1) * kept; ++value) {
            const T* const w = block[value / block_values % 3] + value % block_values * panel_rows;
            const CodePlace place = code_place(pattern, value);
            const std::uint32_t* const word = words + place.word * panel_rows;
            const auto shift = static_cast<unsigned>(place.before) * code_bits(group);
            for (std::size_t i = 0; i < height; ++i)
              sum[(word[i] >> shift) & (group - 1)] += w[i] * y[j * ldy + r + i];
          }
          for (std::size_t c = 0; c < group && g * group + c < cols; ++c)
            x[j * ldx + g * group + c] += sum[c];
        }
      }
    }
  }

  static void apply(SemiStructuredPattern pattern, std::size_t rows, std::size_t cols,
                    std::size_t first, std::size_t last, const T* values,
                    const std::uint32_t* codes, std::size_t batch, const T* y, std::size_t ldy,
                    T* x, std::size_t ldx) {
    values_of(pattern, rows, cols, first, last,
              Plain{values, row_values(pattern, cols) * panel_rows}, codes, batch, y, ldy, x, ldx);
  }

  static void apply_narrow(Format format, SemiStructuredPattern pattern, std::size_t rows,
                           std::size_t cols, std::size_t first, std::size_t last,
                           const std::uint8_t* values, const std::uint32_t* codes,
                           std::size_t batch, const T* y, std::size_t ldy, T* x, std::size_t ldx) {
    const std::size_t stride = narrow_panel_bytes(format, row_values(pattern, cols));
    values_of(pattern, rows, cols, first, last, Widened{format, values, stride}, codes, batch, y,
              ldy, x, ldx);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
