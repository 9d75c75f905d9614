// SPDX-License-Identifier: MIT
// N of M columns kept, times many samples: samples in lanes.
#pragma once

#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/transpose.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/detail/sparse/semi_structured_values.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// X is transposed once. A tile of it, some columns by `width` samples, stays in the first-level
/// cache; each kept value is then one broadcast and `R` multiply-adds with operands at an address
/// that its code gives, into a row of a private panel of Y: one that fits the second-level cache,
/// and that no power-of-two stride puts on a single cache set.
template <class Arch, class T>
struct SemiStructuredBlocked {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t tile_vectors = 8;
  static constexpr std::size_t width = tile_vectors * lanes;
  static constexpr std::size_t tile_size = 16 * 1024 / sizeof(T);
  // Whole groups of every pattern, and where half of the columns are kept whole blocks of values.
  static constexpr std::size_t tile_step = 2 * block_values;
  static_assert(tile_size >= tile_step * width);
  static constexpr std::size_t tall = 512;  // rows of the private panel
  /// Samples of a tile. Where other than half of the columns are kept it has half as many, and
  /// twice as many columns: of sparser patterns, sums would be loaded and stored for too few
  /// products.
  template <class Pattern>
  static constexpr std::size_t samples = Pattern::halves ? width : width / 2;

  /// Rows that are computed at once: their sums are chains of multiply-adds of their own, and it
  /// takes eight of these to hide how long one takes.
  static constexpr std::size_t rows_at_once(std::size_t vectors_of_samples) {
    return vectors_of_samples > 4 ? 1 : vectors_of_samples > 2 ? 2 : 4;
  }

  /// Up to `panel_rows` rows of one panel, by R vectors of samples: kept values `first` to `last`
  /// of the `count` of a row, whole groups, whose inputs lie in `inputs`. Sums begin at zero where
  /// they are `fresh`.
  template <std::size_t R, class Pattern, class Values>
  static void panel_tile(Pattern pattern, std::size_t rows, std::size_t first, std::size_t last,
                         std::size_t count, const Values& values, const std::uint32_t* codes,
                         const T* inputs, T* panel, bool fresh) {
    constexpr std::size_t pitch = R * lanes;
    constexpr std::size_t together = rows_at_once(R);
    typename Values::Block widened;
    const T* next = nullptr;
    if constexpr (!Values::narrow) next = values.values + values.stride;
    const T* group_inputs = inputs;  // of the group that value `begin` belongs to
    for (std::size_t begin = first, end; begin < last; begin = end) {
      // One block at a time where values are widened: then its columns stay the inner loop.
      const std::size_t b = begin / block_values;
      end = Values::narrow && (b + 1) * block_values < last ? (b + 1) * block_values : last;
      const T* const value =
          values.block(b, values_of_block(b, count), widened) + begin % block_values * panel_rows;
      const Position position = position_of(pattern, begin);
      std::size_t r = 0;
      for (; r + together <= rows; r += together)
        some_rows<together, R>(pattern, begin, end, position, value + r, codes + r,
                               next == nullptr ? nullptr : next + r * panel_rows, group_inputs,
                               panel + r * pitch, fresh && begin == first);
      for (; r < rows; ++r)
        some_rows<1, R>(pattern, begin, end, position, value + r, codes + r,
                        next == nullptr ? nullptr : next + r * panel_rows, group_inputs,
                        panel + r * pitch, fresh && begin == first);
      group_inputs += (end / pattern.kept() - begin / pattern.kept()) * pattern.group() * pitch;
    }
  }

  /// Where a kept value lies. It takes divisions, each as long as some twenty products.
  struct Position {
    CodePlace code;
    std::size_t word_size;   // codes of a word, unless it is the last of a group of more
    std::size_t left_group;  // values of its group from it on
  };
  template <class Pattern>
  static Position position_of(Pattern pattern, std::size_t value) {
    const SemiStructuredPattern shape{pattern.kept(), pattern.group()};
    return {code_place(shape, value), least(pattern.codes(), word_groups(shape) * pattern.kept()),
            pattern.kept() - value % pattern.kept()};
  }

  /// Q rows by R vectors of samples, while the panel that comes next is fetched.
  template <std::size_t Q, std::size_t R, class Pattern>
  static void some_rows(Pattern pattern, std::size_t begin, std::size_t end, Position position,
                        const T* w, const std::uint32_t* codes, const T* next, const T* input,
                        T* to, bool fresh) {
    constexpr std::size_t pitch = R * lanes;
    Batch sum[Q][R];
    for (std::size_t q = 0; q < Q; ++q)
      for (std::size_t v = 0; v < R; ++v)
        sum[q][v] = fresh ? Batch(T(0)) : Batch::load_aligned(to + q * pitch + v * lanes);
    if (next != nullptr)
      for (std::size_t i = begin / block_values * block_values; i < end; i += block_values)
        for (std::size_t q = 0; q < Q; ++q) __builtin_prefetch(next + (i + q) * panel_rows);
    const std::size_t group = pattern.group();
    const std::size_t kept = pattern.kept();
    const std::size_t codes_of_word = pattern.codes();
    std::uint32_t word[Q];
    const std::uint32_t* from = codes + position.code.word * panel_rows;
    const auto next_word = [&] {
      for (std::size_t q = 0; q < Q; ++q) word[q] = from[q];
      from += panel_rows;
    };
    const auto product = [&] {
      for (std::size_t q = 0; q < Q; ++q) {
        const T* in = input + (word[q] & (group - 1)) * pitch;
        // One register, and not the sum of two in each of the addresses that follow, which would
        // cost every multiply-add an instruction more.
        __asm__("" : "+r"(in));
        word[q] >>= pattern.bits();
        const Batch wv(w[q]);
        for (std::size_t v = 0; v < R; ++v)
          sum[q][v] = MultiplyAdd<Arch, T>::of(wv, Batch::load_aligned(in + v * lanes), sum[q][v]);
      }
      w += panel_rows;
    };
    if constexpr (Pattern::halves) {
      for (std::size_t b = begin; b < end; b += block_values) {
        const std::size_t count = end - b < block_values ? end - b : block_values;
        for (std::size_t k = 0; k < count;) {
          next_word();
          const std::size_t left = count - k;
          const std::size_t word_end = k + (left < codes_of_word ? left : codes_of_word);
          if constexpr (Pattern::kept_of_half <= Pattern::codes()) {
            for (; k < word_end; k += kept, input += group * pitch)
              for (std::size_t i = 0; i < kept; ++i) product();
          } else {  // a group is the block
            for (; k < word_end; ++k) product();
          }
        }
        if constexpr (Pattern::kept_of_half > Pattern::codes()) input += group * pitch;
      }
    } else {
      std::size_t of_group = position.left_group;
      std::size_t of_word = position.word_size - position.code.before;
      next_word();
      for (std::size_t q = 0; q < Q; ++q)
        word[q] >>= static_cast<unsigned>(position.code.before) * pattern.bits();
      for (std::size_t i = begin; i < end;) {
        if (of_word == 0) {
          next_word();
          of_word = position.word_size;
        }
        const std::size_t run = least(least(of_word, of_group), end - i);
        for (std::size_t k = 0; k < run; ++k) product();
        i += run;
        of_word -= run;
        of_group -= run;
        if (of_group == 0) {
          of_group = kept;
          input += group * pitch;
          if (kept >= position.word_size) of_word = 0;  // words that no groups share
        }
      }
    }
    for (std::size_t q = 0; q < Q; ++q)
      for (std::size_t v = 0; v < R; ++v) sum[q][v].store_aligned(to + q * pitch + v * lanes);
  }

  /// All rows of a private panel of Y by so many vectors of samples as only the run knows.
  template <class Pattern, class Values, std::size_t R = tile_vectors>
  static void tile_rows(Pattern pattern, std::size_t used, std::size_t rows, std::size_t first,
                        std::size_t last, std::size_t cols, const Values& values,
                        const std::uint32_t* codes, const T* inputs, T* panel, bool fresh) {
    if constexpr (R > 0) {
      if (used != R)
        return tile_rows<Pattern, Values, R - 1>(pattern, used, rows, first, last, cols, values,
                                                 codes, inputs, panel, fresh);
      const SemiStructuredPattern shape{pattern.kept(), pattern.group()};
      for (std::size_t r = 0; r < rows; r += panel_rows)
        panel_tile<R>(pattern, rows - r < panel_rows ? rows - r : panel_rows, first, last,
                      row_values(shape, cols), values.panel(r / panel_rows),
                      codes + r / panel_rows * panel_words(shape, cols), inputs,
                      panel + r * R * lanes, fresh);
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

  template <class Pattern, class Values>
  static void many_samples(Pattern pattern, std::size_t samples, std::size_t rows, std::size_t cols,
                           const Values& values, const std::uint32_t* codes, const T* x,
                           std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
    T* const tile = scratch;
    T* const panel = tile + tile_size;
    T* const inputs = panel + tall * width;
    const std::size_t group = pattern.group();
    const std::size_t padded = (cols + group - 1) / group * group;
    const std::size_t used = (samples + lanes - 1) / lanes;
    const std::size_t pitch = used * lanes;
    const std::size_t tile_cols = tile_size / pitch / tile_step * tile_step;
    const bool is_near = cols * pitch <= 4 * tile_size;  // so little that it is still in cache
    transpose_in(cols, samples, pitch, x, ldx, inputs);
    for (std::size_t i = cols * pitch; i < padded * pitch; ++i) inputs[i] = T(0);
    for (std::size_t r = 0; r < rows; r += tall) {
      const std::size_t height = rows - r < tall ? rows - r : tall;
      const Values value = values.panel(r / panel_rows);
      const std::uint32_t* code =
          codes + r / panel_rows * panel_words({pattern.kept(), group}, cols);
      if (add || cols == 0) transpose_in(height, add ? samples : 0, pitch, y + r, ldy, panel);
      for (std::size_t k = 0; k < cols; k += tile_cols) {
        const std::size_t depth = padded - k < tile_cols ? padded - k : tile_cols;
        // In order, which the hardware prefetches; the rows then jump about in it.
        if (!is_near)
          for (std::size_t i = 0; i < depth * pitch; i += lanes)
            Batch::load_aligned(inputs + k * pitch + i).store_aligned(tile + i);
        tile_rows(pattern, used, height, k / group * pattern.kept(),
                  (k + depth) / group * pattern.kept(), cols, value, code,
                  is_near ? inputs + k * pitch : tile, panel, !add && k == 0);
      }
      Transpose<Arch, T>::apply(samples, height, panel, pitch, y + r, ldy);
    }
  }

  /// Values of scratch.
  static constexpr std::size_t scratch(std::size_t cols) {
    return tile_size + (tall + (cols + tile_step - 1) / tile_step * tile_step) * width;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
