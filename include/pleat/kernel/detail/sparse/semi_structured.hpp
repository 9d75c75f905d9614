// SPDX-License-Identifier: MIT
// N of M columns kept, times activations: rows in lanes for few samples; for many see
// semi_structured_blocked.hpp.
#pragma once

#include "pleat/kernel/detail/simd/lanes.hpp"
#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/partial.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/detail/sparse/semi_structured_blocked.hpp"
#include "pleat/kernel/detail/sparse/semi_structured_values.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over the panels of a matrix with N of M columns kept (see
/// `Table::semi_structured_apply`). As with dense panels, an output is one chain of multiply-adds
/// over its kept values in the order of their columns, so results depend neither on the batch nor
/// on the split between threads.
template <class Arch, class T>
struct SemiStructured {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr VectorUnit unit = VectorUnit::of(sizeof(Batch));
  static constexpr std::size_t registers = unit.registers;
  using Plain = PlainValues<T>;
  using Widened = WidenedValues<Arch, T>;
  using Blocked = SemiStructuredBlocked<Arch, T>;

  // Samples whose sums stay in registers beside the codes and the inputs.
  static constexpr std::size_t few = registers / (2 * vectors) < 4 ? registers / (2 * vectors) : 4;
  static_assert(few >= 1);
  template <class Pattern>
  static constexpr bool permutes = Lanes<Arch, T, Pattern::group()>::permutes;
  template <class Pattern>
  static constexpr bool is_few(Pattern pattern, bool narrow, std::size_t batch) {
    return semi_structured_regime(unit, sizeof(T), {pattern.kept(), Pattern::group()},
                                  permutes<Pattern>, narrow, batch) == Regime::in_place;
  }

  /// P panels, far apart, by N samples that are read in place, or from a copy of the last columns.
  /// The last panel has `height` rows.
  template <std::size_t P, std::size_t N, class Pattern, class Values>
  static void tile(Pattern pattern, const Values* values, const std::uint32_t* const* codes,
                   std::size_t cols, std::size_t height, const T* x, std::size_t ldx, T* const* y,
                   std::size_t ldy, bool add) {
    using Rows = PanelRows<Arch, T>;
    constexpr std::size_t group = Pattern::group();
    using Pick = Lanes<Arch, T, group>;
    const auto rows_of = [=](std::size_t p) { return p + 1 < P ? panel_rows : height; };
    Batch sum[N][P][vectors];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v] = add ? Rows::load(y[p] + j * ldy, v, rows_of(p)) : Batch(T(0));
    T last[N][group] = {};
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t k = cols / group * group; k < cols; ++k) last[j][k % group] = x[j * ldx + k];

    const std::size_t groups = (cols + group - 1) / group;
    const std::size_t kept = pattern.kept();
    const std::size_t count = groups * kept;
    typename Values::Block widened[P];
    const T* value[P];
    std::size_t at = 0;  // in the values of the block, the same for all panels
    const std::uint32_t* word[P];
    typename Pick::Codes code[P][vectors];
    typename Pick::Inputs in[N];
#pragma GCC unroll 16
    for (std::size_t p = 0; p < P; ++p) word[p] = codes[p];
    const auto next_block = [&](std::size_t b) {
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
        value[p] = values[p].block(b, values_of_block(b, count), widened[p]);
      at = 0;
    };
    const auto next_word = [&] {
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p, word[p - 1] += panel_rows)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v) code[p][v] = Pick::load(word[p] + v * lanes);
    };
    const auto next_group = [&](std::size_t g) {
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
        in[j] = Pick::inputs((g + 1) * group <= cols ? x + j * ldx + g * group : last[j]);
    };
    const auto product = [&] {
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v) {
          const Batch w = Batch::load_aligned(value[p] + at + v * lanes);
#pragma GCC unroll 16
          for (std::size_t j = 0; j < N; ++j)
            sum[j][p][v] = MultiplyAdd<Arch, T>::of(w, Pick::pick(in[j], code[p][v]), sum[j][p][v]);
          code[p][v] = Pick::next(code[p][v]);
        }
      at += panel_rows;
    };
    if constexpr (Pattern::halves) {
      constexpr std::size_t codes_of_word = Pattern::codes();
      constexpr std::size_t half = group / 2;
      constexpr std::size_t block_groups = block_values / half;
      for (std::size_t first = 0; first < groups; first += block_groups) {
        next_block(first / block_groups);
        const std::size_t of_block = groups - first < block_groups ? groups - first : block_groups;
        if constexpr (half <= codes_of_word) {
          for (std::size_t g = 0; g < of_block;) {
            next_word();
            const std::size_t left = of_block - g;
            const std::size_t of_word = codes_of_word / half;
            for (const std::size_t end = g + (left < of_word ? left : of_word); g < end; ++g) {
              next_group(first + g);
#pragma GCC unroll 4
              for (std::size_t k = 0; k < half; ++k) product();
            }
          }
        } else {
          next_group(first);
          for (std::size_t k = 0; k < half;) {
            next_word();
            const std::size_t left = half - k;
            const std::size_t end = k + (left < codes_of_word ? left : codes_of_word);
            for (; k < end; ++k) product();
          }
        }
      }
    } else {
      const SemiStructuredPattern shape{kept, group};
      const std::size_t codes_of_word = least(Pattern::codes(), word_groups(shape) * kept);
      std::size_t of_block = 0;  // values that are left of the block, and of the word
      std::size_t of_word = 0;
      std::size_t block = 0;
      if constexpr (!Values::narrow) next_block(0);  // and all that follow lie behind it
      for (std::size_t g = 0; g < groups; ++g) {
        next_group(g);
        for (std::size_t left = kept; left > 0;) {
          if (of_word == 0) {
            next_word();
            of_word = kept > codes_of_word ? least(codes_of_word, left) : codes_of_word;
          }
          const std::size_t run = least(left, of_word);
          left -= run;
          of_word -= run;
          for (std::size_t k = 0; k < run; ++k) {
            if constexpr (Values::narrow) {
              if (of_block == 0) {
                next_block(block++);
                of_block = block_values;
              }
              --of_block;
            }
            product();
          }
        }
      }
    }
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          Rows::store(sum[j][p][v], y[p] + j * ldy, v, rows_of(p));
  }

  /// N samples, `whole` times, then N - 1 samples, `rest` times.
  template <std::size_t P, std::size_t N, class Pattern, class Values>
  static void tiles(Pattern pattern, std::size_t whole, std::size_t rest, const Values* values,
                    const std::uint32_t* const* codes, std::size_t cols, std::size_t height,
                    const T* x, std::size_t ldx, T* const* y, std::size_t ldy, bool add) {
    T* to[P];
#pragma GCC unroll 16
    for (std::size_t p = 0; p < P; ++p) to[p] = y[p];
    for (std::size_t i = 0; i < whole + rest; ++i) {
      const std::size_t samples = i < whole ? N : N - 1;
      if (i < whole) tile<P, N>(pattern, values, codes, cols, height, x, ldx, to, ldy, add);
      else if constexpr (N > 1)
        tile<P, N - 1>(pattern, values, codes, cols, height, x, ldx, to, ldy, add);
      x += samples * ldx;
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p) to[p] += samples * ldy;
    }
  }

  /// All rows by some times N, and some times N - 1 samples; two or four panels at once, a fraction
  /// of the matrix apart, are as many streams of memory. They stay in cache for all samples.
  template <std::size_t N, class Pattern, class Values>
  static void all_rows(Pattern pattern, std::size_t whole, std::size_t rest, std::size_t rows,
                       std::size_t cols, const Values& values, const std::uint32_t* codes,
                       const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add) {
    constexpr bool worth = Pattern::halves || (Pattern::group() > 4 && permutes<Pattern>);
    constexpr std::size_t most = worth ? registers / 2 / (vectors * N) : 1;
    constexpr std::size_t streams = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const std::size_t code_stride = panel_words({pattern.kept(), pattern.group()}, cols);
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
      tiles<streams, N>(pattern, whole, rest, value, code, cols, panel_rows, x, ldx, target, ldy,
                        add);
    }
    for (std::size_t p = part * streams; p * panel_rows < rows; ++p) {
      const Values value = values.panel(p);
      const std::uint32_t* code = codes + p * code_stride;
      T* target = y + p * panel_rows;
      const std::size_t left = rows - p * panel_rows;
      tiles<1, N>(pattern, whole, rest, &value, &code, cols, left < panel_rows ? left : panel_rows,
                  x, ldx, &target, ldy, add);
    }
  }

  /// In tiles as even as can be.
  template <class Pattern, class Values, std::size_t N = few>
  static void few_samples(Pattern pattern, std::size_t samples, std::size_t rows, std::size_t cols,
                          const Values& values, const std::uint32_t* codes, const T* x,
                          std::size_t ldx, T* y, std::size_t ldy, bool add) {
    const std::size_t tiles = (samples + few - 1) / few;
    if constexpr (N > 1)
      if ((samples + tiles - 1) / tiles != N)
        return few_samples<Pattern, Values, N - 1>(pattern, samples, rows, cols, values, codes, x,
                                                   ldx, y, ldy, add);
    const std::size_t whole = samples - tiles * (N - 1);
    all_rows<N>(pattern, whole, tiles - whole, rows, cols, values, codes, x, ldx, y, ldy, add);
  }

  template <class Pattern, class Values>
  static void apply_values(Pattern pattern, std::size_t rows, std::size_t cols,
                           const Values& values, const std::uint32_t* codes, std::size_t batch,
                           const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                           T* scratch) {
    // Many samples need no pattern to be known, but are faster where all of it is.
    const auto of_many = [=] {
      if constexpr (Pattern::halves) return pattern;
      else return AnyPattern{{pattern.kept(), pattern.group()}};
    }();
    std::size_t j = 0;
    while (!is_few(pattern, Values::narrow, batch - j)) {
      const std::size_t samples = semi_structured_tile_samples(
          unit, sizeof(T), permutes<Pattern>, Values::narrow,
          least(batch - j, Blocked::template samples<decltype(of_many)>));
      Blocked::many_samples(of_many, samples, rows, cols, values, codes, x + j * ldx, ldx,
                            y + j * ldy, ldy, add, scratch);
      j += samples;
    }
    // All panels read some samples from a cache before they read others.
    const std::size_t fitting = std::size_t{64} * 1024 / (cols + 1);
    const std::size_t step = fitting < 64 ? 64 : fitting;
    for (; j < batch; j += step)
      few_samples(pattern, least(batch - j, step), rows, cols, values, codes, x + j * ldx, ldx,
                  y + j * ldy, ldy, add);
  }

  static void apply(SemiStructuredPattern pattern, std::size_t rows, std::size_t cols,
                    const T* values, const std::uint32_t* codes, std::size_t batch, const T* x,
                    std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
    const Plain plain{values, row_values(pattern, cols) * panel_rows};
    with_pattern(pattern, [&](auto known) {
      apply_values(known, rows, cols, plain, codes, batch, x, ldx, y, ldy, add, scratch);
    });
  }

  static void apply_narrow(Format format, SemiStructuredPattern pattern, std::size_t rows,
                           std::size_t cols, const std::uint8_t* values, const std::uint32_t* codes,
                           std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy,
                           bool add, T* scratch) {
    const Widened widened{format, values, narrow_panel_bytes(format, row_values(pattern, cols))};
    with_pattern(pattern, [&](auto known) {
      apply_values(known, rows, cols, widened, codes, batch, x, ldx, y, ldy, add, scratch);
    });
  }

  static bool as_dense(SemiStructuredPattern pattern, std::size_t rows, std::size_t cols) {
    bool permutes = false;
    with_pattern(pattern, [&](auto known) {
      permutes = Lanes<Arch, T, decltype(known)::group()>::permutes;
    });
    return semi_structured_as_dense(sizeof(T), permutes, rows, cols);
  }

  static std::size_t scratch(std::size_t cols, std::size_t batch) {
    const KnownPattern<4, 2> half{};  // of all patterns the first that has many samples
    return is_few(half, true, batch) ? 0 : Blocked::scratch(cols);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
