// SPDX-License-Identifier: MIT
// 2:4 sparse times activations: rows in lanes for few samples, samples in lanes for many.
#pragma once

#include "pleat/kernel/detail/lanes.hpp"
#include "pleat/kernel/detail/multiply_add.hpp"
#include "pleat/kernel/table.hpp"

#include <xsimd/xsimd.hpp>

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over the panels of a 2:4 matrix (see `Table::semi_structured_apply`). As with dense
/// panels, an output is one chain of multiply-adds over its kept values in the order of their
/// columns, so results depend neither on the batch nor on the split between threads.
template <class Arch, class T>
struct SemiStructured {
  using Batch = xsimd::batch<T, Arch>;
  using Pick = Lanes<Arch, T>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr std::size_t registers = sizeof(Batch) == 64 ? 32 : 16;
  static constexpr std::size_t group_values = 2 * panel_rows;  // of a panel, for four columns
  static constexpr std::size_t block_groups = 8;               // that one code word serves
  static constexpr std::size_t block_cols = 4 * block_groups;

  // Samples whose sums stay in registers beside the codes and the inputs.
  static constexpr std::size_t few = registers / (2 * vectors) < 4 ? registers / (2 * vectors) : 4;
  static_assert(few >= 1);
  // From here on a tile of the transposed inputs pays.
  static constexpr std::size_t many = 2 * lanes > 24 ? 2 * lanes : 24;

  /// P panels, far apart, by N samples that are read in place, or from a copy of the last columns.
  template <std::size_t P, std::size_t N>
  static void tile(const T* const* values, const std::uint32_t* const* codes, std::size_t cols,
                   const T* x, std::size_t ldx, T* const* y, std::size_t ldy, bool add) {
    Batch sum[N][P][vectors];
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t p = 0; p < P; ++p)
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v] = add ? Batch::load_unaligned(y[p] + j * ldy + v * lanes) : Batch(T(0));
    T last[N][4] = {};
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t k = cols / 4 * 4; k < cols; ++k) last[j][k % 4] = x[j * ldx + k];

    const std::size_t groups = (cols + 3) / 4;
    for (std::size_t block = 0; block < groups; block += block_groups) {
      const std::size_t end = groups - block < block_groups ? groups : block + block_groups;
      typename Pick::Codes code[P][vectors];
      for (std::size_t p = 0; p < P; ++p)
        for (std::size_t v = 0; v < vectors; ++v)
          code[p][v] = Pick::load(codes[p] + block / block_groups * panel_rows + v * lanes);
      for (std::size_t g = block; g < end; ++g) {
        typename Pick::Inputs in[N];
        for (std::size_t j = 0; j < N; ++j)
          in[j] = Pick::inputs(4 * g + 4 <= cols ? x + j * ldx + 4 * g : last[j]);
        for (std::size_t kept = 0; kept < 2; ++kept)
          for (std::size_t p = 0; p < P; ++p)
            for (std::size_t v = 0; v < vectors; ++v) {
              const Batch w =
                  Batch::load_aligned(values[p] + g * group_values + kept * panel_rows + v * lanes);
              for (std::size_t j = 0; j < N; ++j)
                sum[j][p][v] =
                    MultiplyAdd<Arch, T>::of(w, Pick::pick(in[j], code[p][v]), sum[j][p][v]);
              code[p][v] = Pick::next(code[p][v]);
            }
      }
    }
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t p = 0; p < P; ++p)
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v].store_unaligned(y[p] + j * ldy + v * lanes);
  }

  /// All rows by N samples; two or four panels at once, a fraction of the matrix apart, are as many
  /// streams of memory.
  template <std::size_t N>
  static void all_rows(std::size_t rows, std::size_t cols, const T* values,
                       const std::uint32_t* codes, const T* x, std::size_t ldx, T* y,
                       std::size_t ldy, bool add) {
    constexpr std::size_t most = registers / 2 / (vectors * N);
    constexpr std::size_t far = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const std::size_t groups = (cols + 3) / 4;
    const std::size_t value_stride = groups * group_values;
    const std::size_t code_stride = (groups + block_groups - 1) / block_groups * panel_rows;
    const std::size_t full = rows / panel_rows;
    const std::size_t part = full / far;
    for (std::size_t i = 0; i < part; ++i) {
      const T* value[far];
      const std::uint32_t* code[far];
      T* target[far];
      for (std::size_t p = 0; p < far; ++p) {
        value[p] = values + (p * part + i) * value_stride;
        code[p] = codes + (p * part + i) * code_stride;
        target[p] = y + (p * part + i) * panel_rows;
      }
      tile<far, N>(value, code, cols, x, ldx, target, ldy, add);
    }
    for (std::size_t p = part * far; p * panel_rows < rows; ++p) {
      const T* value = values + p * value_stride;
      const std::uint32_t* code = codes + p * code_stride;
      T* target = y + p * panel_rows;
      if (p < full) {
        tile<1, N>(&value, &code, cols, x, ldx, &target, ldy, add);
        continue;
      }
      // The last panel is short of rows: through a copy, so that nothing past Y is touched.
      const std::size_t height = rows - full * panel_rows;
      T copy[N * panel_rows] = {};
      T* whole = copy;
      if (add)
        for (std::size_t j = 0; j < N; ++j)
          for (std::size_t i = 0; i < height; ++i) copy[j * panel_rows + i] = target[j * ldy + i];
      tile<1, N>(&value, &code, cols, x, ldx, &whole, panel_rows, add);
      for (std::size_t j = 0; j < N; ++j)
        for (std::size_t i = 0; i < height; ++i) target[j * ldy + i] = copy[j * panel_rows + i];
    }
  }

  template <std::size_t N = few>
  static void few_samples(std::size_t samples, std::size_t rows, std::size_t cols, const T* values,
                          const std::uint32_t* codes, const T* x, std::size_t ldx, T* y,
                          std::size_t ldy, bool add) {
    if constexpr (N > 0) {
      if (samples == N) all_rows<N>(rows, cols, values, codes, x, ldx, y, ldy, add);
      else few_samples<N - 1>(samples, rows, cols, values, codes, x, ldx, y, ldy, add);
    }
  }

  // Many samples: X is transposed once. A tile of it, some columns by `width` samples, stays in the
  // first-level cache; each kept value is then one broadcast and `R` multiply-adds with operands at
  // an address that its code gives, into a row of a private panel of Y: one that fits the
  // second-level cache, and that no power-of-two stride puts on a single cache set.
  static constexpr std::size_t tile_vectors = 8;
  static constexpr std::size_t width = tile_vectors * lanes;
  static constexpr std::size_t tile_size = 16 * 1024 / sizeof(T);
  static_assert(tile_size >= block_cols * width);
  static constexpr std::size_t tall = 256;  // rows of the private panel

  template <std::size_t R>
  static void tile_rows(std::size_t rows, std::size_t first_block, std::size_t blocks,
                        std::size_t cols, const T* values, const std::uint32_t* codes,
                        const T* inputs, T* panel) {
    const std::size_t groups = (cols + 3) / 4;
    const std::size_t value_stride = groups * group_values;
    const std::size_t code_stride = (groups + block_groups - 1) / block_groups * panel_rows;
    constexpr std::size_t pitch = R * lanes;
    for (std::size_t r = 0; r < rows; ++r) {
      const T* value = values + r / panel_rows * value_stride + r % panel_rows;
      const std::uint32_t* code = codes + r / panel_rows * code_stride + r % panel_rows;
      Batch sum[R];
      for (std::size_t v = 0; v < R; ++v)
        sum[v] = Batch::load_aligned(panel + r * pitch + v * lanes);
      const T* input = inputs;
      for (std::size_t b = first_block; b < first_block + blocks; ++b) {
        std::uint32_t word = code[b * panel_rows];
        const std::size_t end =
            groups - b * block_groups < block_groups ? groups : (b + 1) * block_groups;
        for (std::size_t g = b * block_groups; g < end; ++g, input += 4 * pitch)
          for (std::size_t kept = 0; kept < 2; ++kept, word >>= 2U) {
            const T* in = input + (word & 3U) * pitch;
            const Batch w(value[g * group_values + kept * panel_rows]);
            for (std::size_t v = 0; v < R; ++v)
              sum[v] = MultiplyAdd<Arch, T>::of(w, Batch::load_aligned(in + v * lanes), sum[v]);
          }
      }
      for (std::size_t v = 0; v < R; ++v) sum[v].store_aligned(panel + r * pitch + v * lanes);
    }
  }

  template <std::size_t R = tile_vectors>
  static void tile_rows_of(std::size_t used, std::size_t rows, std::size_t first_block,
                           std::size_t blocks, std::size_t cols, const T* values,
                           const std::uint32_t* codes, const T* inputs, T* panel) {
    if constexpr (R > 0) {
      if (used == R) tile_rows<R>(rows, first_block, blocks, cols, values, codes, inputs, panel);
      else tile_rows_of<R - 1>(used, rows, first_block, blocks, cols, values, codes, inputs, panel);
    }
  }

  /// `samples` columns of `rows` values each, transposed to rows of `pitch`, zeros after the last
  /// sample. In strips of one cache line, so that a power-of-two `ld` does no harm.
  static void transpose_in(std::size_t rows, std::size_t samples, std::size_t pitch, const T* from,
                           std::size_t ld, T* to) {
    for (std::size_t i = 0; i < rows; i += panel_rows) {
      const std::size_t height = rows - i < panel_rows ? rows - i : panel_rows;
      for (std::size_t j = 0; j < samples; ++j)
        for (std::size_t t = 0; t < height; ++t) to[(i + t) * pitch + j] = from[j * ld + i + t];
      for (std::size_t t = 0; t < height; ++t)
        for (std::size_t j = samples; j < pitch; ++j) to[(i + t) * pitch + j] = T(0);
    }
  }

  static void many_samples(std::size_t samples, std::size_t rows, std::size_t cols, const T* values,
                           const std::uint32_t* codes, const T* x, std::size_t ldx, T* y,
                           std::size_t ldy, bool add, T* scratch) {
    T* const tile = scratch;
    T* const panel = tile + tile_size;
    T* const inputs = panel + tall * width;
    const std::size_t groups = (cols + 3) / 4;
    const std::size_t used = (samples + lanes - 1) / lanes;
    const std::size_t pitch = used * lanes;
    const std::size_t tile_cols = tile_size / pitch / block_cols * block_cols;
    transpose_in(cols, samples, pitch, x, ldx, inputs);
    for (std::size_t i = cols * pitch; i < 4 * groups * pitch; ++i) inputs[i] = T(0);
    for (std::size_t r = 0; r < rows; r += tall) {
      const std::size_t height = rows - r < tall ? rows - r : tall;
      const T* value = values + r / panel_rows * groups * group_values;
      const std::uint32_t* code =
          codes + r / panel_rows * ((groups + block_groups - 1) / block_groups) * panel_rows;
      if (add) transpose_in(height, samples, pitch, y + r, ldy, panel);
      else
        for (std::size_t i = 0; i < height * pitch; ++i) panel[i] = T(0);
      for (std::size_t k = 0; k < cols; k += tile_cols) {
        const std::size_t depth = 4 * groups - k < tile_cols ? 4 * groups - k : tile_cols;
        // In order, which the hardware prefetches; the rows then jump about in it.
        for (std::size_t i = 0; i < depth * pitch; i += lanes)
          Batch::load_aligned(inputs + k * pitch + i).store_aligned(tile + i);
        tile_rows_of(used, height, k / block_cols, (depth + block_cols - 1) / block_cols, cols,
                     value, code, tile, panel);
      }
      for (std::size_t i = 0; i < height; i += panel_rows) {
        const std::size_t strip = height - i < panel_rows ? height - i : panel_rows;
        for (std::size_t j = 0; j < samples; ++j)
          for (std::size_t t = 0; t < strip; ++t)
            y[j * ldy + r + i + t] = panel[(i + t) * pitch + j];
      }
    }
  }

  static void apply(std::size_t rows, std::size_t cols, const T* values, const std::uint32_t* codes,
                    std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                    T* scratch) {
    std::size_t j = 0;
    while (batch - j >= many) {
      const std::size_t samples = batch - j < width ? batch - j : width;
      many_samples(samples, rows, cols, values, codes, x + j * ldx, ldx, y + j * ldy, ldy, add,
                   scratch);
      j += samples;
    }
    while (j < batch) {
      const std::size_t parts = (batch - j + few - 1) / few;
      const std::size_t samples = (batch - j + parts - 1) / parts;
      few_samples(samples, rows, cols, values, codes, x + j * ldx, ldx, y + j * ldy, ldy, add);
      j += samples;
    }
  }

  static std::size_t scratch(std::size_t cols, std::size_t batch) {
    return batch >= many ? tile_size + (tall + (cols + 3) / 4 * 4) * width : 0;
  }

  /// X = W^T Y for a range of groups of four columns. Plain loops: training is not what this is
  /// for.
  static void apply_transpose(std::size_t rows, std::size_t cols, std::size_t first,
                              std::size_t last, const T* values, const std::uint32_t* codes,
                              std::size_t batch, const T* y, std::size_t ldy, T* x,
                              std::size_t ldx) {
    const std::size_t groups = (cols + 3) / 4;
    const std::size_t value_stride = groups * group_values;
    const std::size_t code_stride = (groups + block_groups - 1) / block_groups * panel_rows;
    for (std::size_t g = first; g < last; ++g)
      for (std::size_t j = 0; j < batch; ++j) {
        T sum[4] = {};
        for (std::size_t r = 0; r < rows; ++r) {
          const T* value =
              values + r / panel_rows * value_stride + g * group_values + r % panel_rows;
          const std::uint32_t code = codes[r / panel_rows * code_stride +
                                           g / block_groups * panel_rows + r % panel_rows] >>
                                     (4 * (g % block_groups));
          sum[code & 3U] += value[0] * y[j * ldy + r];
          sum[code >> 2U & 3U] += value[panel_rows] * y[j * ldy + r];
        }
        for (std::size_t c = 0; c < 4 && 4 * g + c < cols; ++c) x[j * ldx + 4 * g + c] = sum[c];
      }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
