// SPDX-License-Identifier: MIT
// 2:4 sparse times activations: rows in lanes for few samples, samples in lanes for many.
#pragma once

#include "pleat/kernel/detail/simd/lanes.hpp"
#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/transpose.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/detail/sparse/semi_structured_values.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

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
  static constexpr VectorUnit unit = VectorUnit::of(sizeof(Batch));
  static constexpr std::size_t registers = unit.registers;
  using Plain = PlainValues<T>;
  using Widened = WidenedValues<Arch, T>;
  static constexpr std::size_t group_values = Plain::group_values;
  static constexpr std::size_t block_groups = Plain::block_groups;
  static constexpr std::size_t block_cols = 4 * block_groups;

  // Samples whose sums stay in registers beside the codes and the inputs.
  static constexpr std::size_t few = registers / (2 * vectors) < 4 ? registers / (2 * vectors) : 4;
  static_assert(few >= 1);
  static constexpr bool is_few(bool narrow, std::size_t batch) {
    return semi_structured_regime(unit, sizeof(T), narrow, batch) == Regime::in_place;
  }
  static constexpr std::size_t most_few = 47;
  static_assert(!is_few(false, most_few + 1) && !is_few(true, most_few + 1));

  /// P panels, far apart, by N samples that are read in place, or from a copy of the last columns.
  template <std::size_t P, std::size_t N, class Values>
  static void tile(const Values* values, const std::uint32_t* const* codes, std::size_t cols,
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
    typename Values::Block widened[P];
    for (std::size_t first = 0; first < groups; first += block_groups) {
      const std::size_t count = groups - first < block_groups ? groups - first : block_groups;
      const T* value[P];
      typename Pick::Codes code[P][vectors];
      for (std::size_t p = 0; p < P; ++p) {
        value[p] = values[p].block(first / block_groups, count, widened[p]);
        for (std::size_t v = 0; v < vectors; ++v)
          code[p][v] = Pick::load(codes[p] + first / block_groups * panel_rows + v * lanes);
      }
      for (std::size_t g = 0; g < count; ++g) {
        const std::size_t col = 4 * (first + g);
        typename Pick::Inputs in[N];
        for (std::size_t j = 0; j < N; ++j)
          in[j] = Pick::inputs(col + 4 <= cols ? x + j * ldx + col : last[j]);
        for (std::size_t kept = 0; kept < 2; ++kept)
          for (std::size_t p = 0; p < P; ++p)
            for (std::size_t v = 0; v < vectors; ++v) {
              const Batch w =
                  Batch::load_aligned(value[p] + g * group_values + kept * panel_rows + v * lanes);
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

  /// N samples, `whole` times, then N - 1 samples, `rest` times.
  template <std::size_t P, std::size_t N, class Values>
  static void tiles(std::size_t whole, std::size_t rest, const Values* values,
                    const std::uint32_t* const* codes, std::size_t cols, const T* x,
                    std::size_t ldx, T* const* y, std::size_t ldy, bool add) {
    T* to[P];
    for (std::size_t p = 0; p < P; ++p) to[p] = y[p];
    for (std::size_t i = 0; i < whole + rest; ++i) {
      const std::size_t samples = i < whole ? N : N - 1;
      if (i < whole) tile<P, N>(values, codes, cols, x, ldx, to, ldy, add);
      else if constexpr (N > 1) tile<P, N - 1>(values, codes, cols, x, ldx, to, ldy, add);
      x += samples * ldx;
      for (std::size_t p = 0; p < P; ++p) to[p] += samples * ldy;
    }
  }

  /// All rows by some times N, and some times N - 1 samples; two or four panels at once, a fraction
  /// of the matrix apart, are as many streams of memory. They stay in cache for all samples.
  template <std::size_t N, class Values>
  static void all_rows(std::size_t whole, std::size_t rest, std::size_t rows, std::size_t cols,
                       const Values& values, const std::uint32_t* codes, const T* x,
                       std::size_t ldx, T* y, std::size_t ldy, bool add) {
    constexpr std::size_t most = registers / 2 / (vectors * N);
    constexpr std::size_t streams = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const std::size_t code_stride = code_words(cols);
    const std::size_t full = rows / panel_rows;
    const std::size_t part = full / streams;
    for (std::size_t i = 0; i < part; ++i) {
      Values value[streams];
      const std::uint32_t* code[streams];
      T* target[streams];
      for (std::size_t p = 0; p < streams; ++p) {
        value[p] = values.panel(p * part + i);
        code[p] = codes + (p * part + i) * code_stride;
        target[p] = y + (p * part + i) * panel_rows;
      }
      tiles<streams, N>(whole, rest, value, code, cols, x, ldx, target, ldy, add);
    }
    for (std::size_t p = part * streams; p * panel_rows < rows; ++p) {
      const Values value = values.panel(p);
      const std::uint32_t* code = codes + p * code_stride;
      T* target = y + p * panel_rows;
      if (p < full) {
        tiles<1, N>(whole, rest, &value, &code, cols, x, ldx, &target, ldy, add);
        continue;
      }
      // The last panel is short of rows: through a copy, so that nothing past Y is touched.
      const std::size_t height = rows - full * panel_rows;
      T copy[most_few * panel_rows] = {};
      T* copied = copy;
      const std::size_t samples = whole * N + rest * (N - 1);
      if (add)
        for (std::size_t j = 0; j < samples; ++j)
          for (std::size_t i = 0; i < height; ++i) copy[j * panel_rows + i] = target[j * ldy + i];
      tiles<1, N>(whole, rest, &value, &code, cols, x, ldx, &copied, panel_rows, add);
      for (std::size_t j = 0; j < samples; ++j)
        for (std::size_t i = 0; i < height; ++i) target[j * ldy + i] = copy[j * panel_rows + i];
    }
  }

  /// Words of codes of one panel.
  static constexpr std::size_t code_words(std::size_t cols) {
    return (cols + block_cols - 1) / block_cols * panel_rows;
  }

  /// In tiles as even as can be.
  template <class Values, std::size_t N = few>
  static void few_samples(std::size_t samples, std::size_t rows, std::size_t cols,
                          const Values& values, const std::uint32_t* codes, const T* x,
                          std::size_t ldx, T* y, std::size_t ldy, bool add) {
    const std::size_t tiles = (samples + few - 1) / few;
    if constexpr (N > 1)
      if ((samples + tiles - 1) / tiles != N)
        return few_samples<Values, N - 1>(samples, rows, cols, values, codes, x, ldx, y, ldy, add);
    const std::size_t whole = samples - tiles * (N - 1);
    all_rows<N>(whole, tiles - whole, rows, cols, values, codes, x, ldx, y, ldy, add);
  }

  // Many samples: X is transposed once. A tile of it, some columns by `width` samples, stays in the
  // first-level cache; each kept value is then one broadcast and `R` multiply-adds with operands at
  // an address that its code gives, into a row of a private panel of Y: one that fits the
  // second-level cache, and that no power-of-two stride puts on a single cache set.
  static constexpr std::size_t tile_vectors = 8;
  static constexpr std::size_t width = tile_vectors * lanes;
  static constexpr std::size_t tile_size = 16 * 1024 / sizeof(T);
  static_assert(tile_size >= block_cols * width);
  static constexpr std::size_t tall = 512;  // rows of the private panel

  /// Up to `panel_rows` rows of one panel, by R vectors of samples: some blocks of columns, whose
  /// inputs lie in `inputs`.
  template <std::size_t R, class Values>
  static void panel_tile(std::size_t rows, std::size_t first_block, std::size_t blocks,
                         std::size_t cols, const Values& values, const std::uint32_t* codes,
                         const T* inputs, T* panel) {
    constexpr std::size_t pitch = R * lanes;
    const std::size_t groups = (cols + 3) / 4;
    // One block at a time where values are widened: then its columns stay the inner loop.
    const std::size_t step = Values::narrow ? 1 : blocks;
    typename Values::Block widened;
    const T* next = nullptr;
    if constexpr (!Values::narrow) next = values.values + values.stride;
    for (std::size_t begin = first_block; begin < first_block + blocks; begin += step) {
      const std::size_t first = begin * block_groups;
      const std::size_t left = groups - first;
      const T* const value =
          values.block(begin, left < block_groups ? left : block_groups, widened);
      for (std::size_t r = 0; r < rows; ++r) {
        T* const to = panel + r * pitch;
        Batch sum[R];
        for (std::size_t v = 0; v < R; ++v) sum[v] = Batch::load_aligned(to + v * lanes);
        if (next != nullptr)
          for (std::size_t b = 0; b < step; ++b)
            __builtin_prefetch(next + (begin + b) * block_groups * group_values + r * panel_rows);
        const T* input = inputs + (begin - first_block) * block_cols * pitch;
        const T* w = value + r;
        for (std::size_t b = begin; b < begin + step; ++b) {
          std::uint32_t word = codes[b * panel_rows + r];
          const std::size_t count =
              groups - b * block_groups < block_groups ? groups - b * block_groups : block_groups;
          for (std::size_t g = 0; g < count; ++g, input += 4 * pitch)
            for (std::size_t kept = 0; kept < 2; ++kept, word >>= 2U, w += panel_rows) {
              const T* in = input + (word & 3U) * pitch;
              const Batch wv(*w);
              for (std::size_t v = 0; v < R; ++v)
                sum[v] = MultiplyAdd<Arch, T>::of(wv, Batch::load_aligned(in + v * lanes), sum[v]);
            }
        }
        for (std::size_t v = 0; v < R; ++v) sum[v].store_aligned(to + v * lanes);
      }
    }
  }

  /// All rows of a private panel of Y by so many vectors of samples as only the run knows.
  template <class Values, std::size_t R = tile_vectors>
  static void tile_rows(std::size_t used, std::size_t rows, std::size_t first_block,
                        std::size_t blocks, std::size_t cols, const Values& values,
                        const std::uint32_t* codes, const T* inputs, T* panel) {
    if constexpr (R > 0) {
      if (used != R)
        return tile_rows<Values, R - 1>(used, rows, first_block, blocks, cols, values, codes,
                                        inputs, panel);
      for (std::size_t r = 0; r < rows; r += panel_rows)
        panel_tile<R>(rows - r < panel_rows ? rows - r : panel_rows, first_block, blocks, cols,
                      values.panel(r / panel_rows), codes + r / panel_rows * code_words(cols),
                      inputs, panel + r * R * lanes);
    }
  }

  /// `samples` columns of `rows` values each, transposed to rows of `pitch`, zeros after the last
  /// sample.
  static void transpose_in(std::size_t rows, std::size_t samples, std::size_t pitch, const T* from,
                           std::size_t ld, T* to) {
    Transpose<Arch, T>::apply(rows, samples, from, ld, to, pitch);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = samples; j < pitch; ++j) to[i * pitch + j] = T(0);
  }

  template <class Values>
  static void many_samples(std::size_t samples, std::size_t rows, std::size_t cols,
                           const Values& values, const std::uint32_t* codes, const T* x,
                           std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
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
      const Values value = values.panel(r / panel_rows);
      const std::uint32_t* code = codes + r / panel_rows * code_words(cols);
      if (add) transpose_in(height, samples, pitch, y + r, ldy, panel);
      else
        for (std::size_t i = 0; i < height * pitch; ++i) panel[i] = T(0);
      for (std::size_t k = 0; k < cols; k += tile_cols) {
        const std::size_t depth = 4 * groups - k < tile_cols ? 4 * groups - k : tile_cols;
        // In order, which the hardware prefetches; the rows then jump about in it.
        for (std::size_t i = 0; i < depth * pitch; i += lanes)
          Batch::load_aligned(inputs + k * pitch + i).store_aligned(tile + i);
        tile_rows(used, height, k / block_cols, (depth + block_cols - 1) / block_cols, cols, value,
                  code, tile, panel);
      }
      Transpose<Arch, T>::apply(samples, height, panel, pitch, y + r, ldy);
    }
  }

  template <class Values>
  static void apply_values(std::size_t rows, std::size_t cols, const Values& values,
                           const std::uint32_t* codes, std::size_t batch, const T* x,
                           std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
    std::size_t j = 0;
    while (!is_few(Values::narrow, batch - j)) {
      const std::size_t samples = batch - j < width ? batch - j : width;
      many_samples(samples, rows, cols, values, codes, x + j * ldx, ldx, y + j * ldy, ldy, add,
                   scratch);
      j += samples;
    }
    if (j < batch)
      few_samples(batch - j, rows, cols, values, codes, x + j * ldx, ldx, y + j * ldy, ldy, add);
  }

  static void apply(std::size_t rows, std::size_t cols, const T* values, const std::uint32_t* codes,
                    std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                    T* scratch) {
    apply_values(rows, cols, Plain{values, (cols + 3) / 4 * group_values}, codes, batch, x, ldx, y,
                 ldy, add, scratch);
  }

  static void apply_narrow(Format format, std::size_t rows, std::size_t cols,
                           const std::uint8_t* values, const std::uint32_t* codes,
                           std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy,
                           bool add, T* scratch) {
    const std::size_t stride = narrow_panel_bytes(format, (cols + 3) / 4 * 2);
    apply_values(rows, cols, Widened{format, values, stride}, codes, batch, x, ldx, y, ldy, add,
                 scratch);
  }

  static std::size_t scratch(std::size_t cols, std::size_t batch) {
    return is_few(true, batch) ? 0 : tile_size + (tall + (cols + 3) / 4 * 4) * width;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
