// SPDX-License-Identifier: MIT
// 2:4 sparse times activations: rows in lanes for few samples, samples in lanes for many.
#pragma once

#include "pleat/kernel/detail/simd/lanes.hpp"
#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/partial.hpp"
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

  /// P panels, far apart, by N samples that are read in place, or from a copy of the last columns.
  /// The last panel has `height` rows.
  template <std::size_t P, std::size_t N, class Values>
  static void tile(const Values* values, const std::uint32_t* const* codes, std::size_t cols,
                   std::size_t height, const T* x, std::size_t ldx, T* const* y, std::size_t ldy,
                   bool add) {
    using Rows = PanelRows<Arch, T>;
    const auto rows_of = [=](std::size_t p) { return p + 1 < P ? panel_rows : height; };
    Batch sum[N][P][vectors];
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t p = 0; p < P; ++p)
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v] = add ? Rows::load(y[p] + j * ldy, v, rows_of(p)) : Batch(T(0));
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
          Rows::store(sum[j][p][v], y[p] + j * ldy, v, rows_of(p));
  }

  /// N samples, `whole` times, then N - 1 samples, `rest` times.
  template <std::size_t P, std::size_t N, class Values>
  static void tiles(std::size_t whole, std::size_t rest, const Values* values,
                    const std::uint32_t* const* codes, std::size_t cols, std::size_t height,
                    const T* x, std::size_t ldx, T* const* y, std::size_t ldy, bool add) {
    T* to[P];
    for (std::size_t p = 0; p < P; ++p) to[p] = y[p];
    for (std::size_t i = 0; i < whole + rest; ++i) {
      const std::size_t samples = i < whole ? N : N - 1;
      if (i < whole) tile<P, N>(values, codes, cols, height, x, ldx, to, ldy, add);
      else if constexpr (N > 1) tile<P, N - 1>(values, codes, cols, height, x, ldx, to, ldy, add);
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
      tiles<streams, N>(whole, rest, value, code, cols, panel_rows, x, ldx, target, ldy, add);
    }
    for (std::size_t p = part * streams; p * panel_rows < rows; ++p) {
      const Values value = values.panel(p);
      const std::uint32_t* code = codes + p * code_stride;
      T* target = y + p * panel_rows;
      const std::size_t left = rows - p * panel_rows;
      tiles<1, N>(whole, rest, &value, &code, cols, left < panel_rows ? left : panel_rows, x, ldx,
                  &target, ldy, add);
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

  /// Rows that are computed at once: their sums are chains of multiply-adds of their own, and it
  /// takes eight of these to hide how long one takes.
  static constexpr std::size_t rows_at_once(std::size_t vectors_of_samples) {
    return vectors_of_samples > 4 ? 1 : vectors_of_samples > 2 ? 2 : 4;
  }

  /// Up to `panel_rows` rows of one panel, by R vectors of samples: some blocks of columns, whose
  /// inputs lie in `inputs`. Sums begin at zero where they are `fresh`.
  template <std::size_t R, class Values>
  static void panel_tile(std::size_t rows, std::size_t first_block, std::size_t blocks,
                         std::size_t cols, const Values& values, const std::uint32_t* codes,
                         const T* inputs, T* panel, bool fresh) {
    constexpr std::size_t pitch = R * lanes;
    constexpr std::size_t together = rows_at_once(R);
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
      const T* const input = inputs + (begin - first_block) * block_cols * pitch;
      std::size_t r = 0;
      for (; r + together <= rows; r += together)
        some_rows<together, R>(begin, step, groups, value + r, codes + r,
                               next == nullptr ? nullptr : next + r * panel_rows, input,
                               panel + r * pitch, fresh && begin == first_block);
      for (; r < rows; ++r)
        some_rows<1, R>(begin, step, groups, value + r, codes + r,
                        next == nullptr ? nullptr : next + r * panel_rows, input, panel + r * pitch,
                        fresh && begin == first_block);
    }
  }

  /// Q rows by R vectors of samples, while the panel that comes next is fetched.
  template <std::size_t Q, std::size_t R>
  static void some_rows(std::size_t begin, std::size_t step, std::size_t groups, const T* w,
                        const std::uint32_t* codes, const T* next, const T* input, T* to,
                        bool fresh) {
    constexpr std::size_t pitch = R * lanes;
    Batch sum[Q][R];
    for (std::size_t q = 0; q < Q; ++q)
      for (std::size_t v = 0; v < R; ++v)
        sum[q][v] = fresh ? Batch(T(0)) : Batch::load_aligned(to + q * pitch + v * lanes);
    if (next != nullptr)
      for (std::size_t b = begin; b < begin + step; ++b)
        for (std::size_t q = 0; q < Q; ++q)
          __builtin_prefetch(next + b * block_groups * group_values + q * panel_rows);
    for (std::size_t b = begin; b < begin + step; ++b) {
      std::uint32_t word[Q];
      for (std::size_t q = 0; q < Q; ++q) word[q] = codes[b * panel_rows + q];
      const std::size_t count =
          groups - b * block_groups < block_groups ? groups - b * block_groups : block_groups;
      for (std::size_t g = 0; g < count; ++g, input += 4 * pitch)
        for (std::size_t kept = 0; kept < 2; ++kept, w += panel_rows)
          for (std::size_t q = 0; q < Q; ++q) {
            const T* in = input + (word[q] & 3U) * pitch;
            // One register, and not the sum of two in each of the addresses that follow, which
            // would cost every multiply-add an instruction more.
            __asm__("" : "+r"(in));
            word[q] >>= 2U;
            const Batch wv(w[q]);
            for (std::size_t v = 0; v < R; ++v)
              sum[q][v] =
                  MultiplyAdd<Arch, T>::of(wv, Batch::load_aligned(in + v * lanes), sum[q][v]);
          }
    }
    for (std::size_t q = 0; q < Q; ++q)
      for (std::size_t v = 0; v < R; ++v) sum[q][v].store_aligned(to + q * pitch + v * lanes);
  }

  /// All rows of a private panel of Y by so many vectors of samples as only the run knows.
  template <class Values, std::size_t R = tile_vectors>
  static void tile_rows(std::size_t used, std::size_t rows, std::size_t first_block,
                        std::size_t blocks, std::size_t cols, const Values& values,
                        const std::uint32_t* codes, const T* inputs, T* panel, bool fresh) {
    if constexpr (R > 0) {
      if (used != R)
        return tile_rows<Values, R - 1>(used, rows, first_block, blocks, cols, values, codes,
                                        inputs, panel, fresh);
      for (std::size_t r = 0; r < rows; r += panel_rows)
        panel_tile<R>(rows - r < panel_rows ? rows - r : panel_rows, first_block, blocks, cols,
                      values.panel(r / panel_rows), codes + r / panel_rows * code_words(cols),
                      inputs, panel + r * R * lanes, fresh);
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
    const bool is_near = cols * pitch <= 4 * tile_size;  // so little that it is still in cache
    transpose_in(cols, samples, pitch, x, ldx, inputs);
    for (std::size_t i = cols * pitch; i < 4 * groups * pitch; ++i) inputs[i] = T(0);
    for (std::size_t r = 0; r < rows; r += tall) {
      const std::size_t height = rows - r < tall ? rows - r : tall;
      const Values value = values.panel(r / panel_rows);
      const std::uint32_t* code = codes + r / panel_rows * code_words(cols);
      if (add || cols == 0) transpose_in(height, add ? samples : 0, pitch, y + r, ldy, panel);
      for (std::size_t k = 0; k < cols; k += tile_cols) {
        const std::size_t depth = 4 * groups - k < tile_cols ? 4 * groups - k : tile_cols;
        // In order, which the hardware prefetches; the rows then jump about in it.
        if (!is_near)
          for (std::size_t i = 0; i < depth * pitch; i += lanes)
            Batch::load_aligned(inputs + k * pitch + i).store_aligned(tile + i);
        tile_rows(used, height, k / block_cols, (depth + block_cols - 1) / block_cols, cols, value,
                  code, is_near ? inputs + k * pitch : tile, panel, !add && k == 0);
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

  static bool as_dense(std::size_t rows, std::size_t cols) {
    return semi_structured_as_dense(sizeof(T), Pick::permutes, rows, cols);
  }

  static std::size_t scratch(std::size_t cols, std::size_t batch) {
    return is_few(true, batch) ? 0 : tile_size + (tall + (cols + 3) / 4 * 4) * width;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
