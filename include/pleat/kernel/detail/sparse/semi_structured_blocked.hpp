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

/// X is transposed once. A tile of it, some columns by some samples, stays in the first-level
/// cache; each kept value is then one broadcast and `R` multiply-adds with operands at an address
/// that its code gives, into a row of a private panel of Y: one that fits the second-level cache,
/// and that no power-of-two stride puts on a single cache set.
template <class Arch, class T>
struct SemiStructuredBlocked {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t tile_vectors = 8;
  static constexpr std::size_t width = tile_vectors * lanes;
  static constexpr std::size_t tile_size = 32 * 1024 / sizeof(T);
  // Whole groups of every pattern, and where half of the columns are kept whole blocks of values.
  static constexpr std::size_t tile_step = 2 * block_values;
  static_assert(tile_size / 2 >= tile_step * width);
  static constexpr std::size_t most_tile_cols = 512;
  static constexpr std::size_t tall = 512;  // rows of the private panel
  /// Samples of a tile, and how many values it has. Where other than half of the columns are kept,
  /// so few samples that it has 128 columns: of sparser patterns, sums would be loaded and stored
  /// for too few products.
  template <class Pattern>
  static constexpr std::size_t samples = Pattern::halves ? width : least(width, tile_size / 128);
  template <class Pattern>
  static constexpr std::size_t tile_values = Pattern::halves ? tile_size / 2 : tile_size;

  /// Rows that are computed at once: their sums are chains of multiply-adds of their own, and it
  /// takes eight of these to hide how long one takes.
  static constexpr std::size_t rows_at_once(std::size_t vectors_of_samples) {
    return vectors_of_samples > 4 ? 1 : vectors_of_samples > 2 ? 2 : 4;
  }

  /// A part of the values and codes of the rows of one panel.
  struct Part {
    const T* values;                  // the first of row 0
    const std::uint32_t* codes;       // the word of row 0 that the first value has its code in
    const T* next;                    // the first of the panel that comes next, or null
    const std::uint32_t* next_codes;  // its word, or null
    std::size_t groups_before;        // in that word
    std::size_t word_groups;          // that share a word
  };

  /// Up to `panel_rows` rows of one panel, by R vectors of samples: groups `first` to `last`, whose
  /// inputs lie in `inputs`. Sums begin at zero where they are `fresh`. `count`: kept values of a
  /// row. `widened`: room for those of `most_tile_cols` columns and a block more.
  template <std::size_t R, class Pattern, class Values>
  static void panel_tile(Pattern pattern, std::size_t rows, std::size_t first, std::size_t last,
                         std::size_t count, const Values& values, const std::uint32_t* codes,
                         const T* inputs, T* panel, bool fresh, T* widened) {
    const SemiStructuredPattern shape{pattern.kept(), pattern.group()};
    const std::size_t together = word_groups(shape);
    const std::size_t begin = first * pattern.kept();
    const std::size_t end = last * pattern.kept();
    codes += first / together * group_words(shape) * panel_rows;
    Part part{nullptr, codes, nullptr, nullptr, first % together, together};
    if constexpr (!Values::narrow) {
      part.values = values.values + begin * panel_rows;
      part.next = part.values + values.stride;
      part.next_codes = codes + panel_words(shape, count / pattern.kept() * pattern.group());
      all_rows<R>(pattern, rows, last - first, part, inputs, panel, fresh);
    } else if constexpr (Pattern::halves) {
      // One block at a time: then its columns stay the inner loop.
      typename Values::Block block;
      for (std::size_t i = begin; i < end; i += block_values) {
        const std::size_t of_block = values_of_block(i / block_values, count);
        const std::size_t groups = of_block / Pattern::kept_of_half;
        part.values = values.block(i / block_values, of_block, block);
        all_rows<R>(pattern, rows, groups, part, inputs, panel, fresh && i == begin);
        part.codes += (of_block + pattern.codes() - 1) / pattern.codes() * panel_rows;
        inputs += groups * Pattern::group() * R * lanes;
      }
    } else {
      const std::size_t whole = begin / block_values * block_values;
      values.range(whole, end - whole, widened);
      part.values = widened + (begin - whole) * panel_rows;
      all_rows<R>(pattern, rows, last - first, part, inputs, panel, fresh);
    }
  }

  /// So many groups of all rows of a panel.
  template <std::size_t R, class Pattern>
  static void all_rows(Pattern pattern, std::size_t rows, std::size_t groups, const Part& part,
                       const T* inputs, T* panel, bool fresh) {
    constexpr std::size_t together = rows_at_once(R);
    const std::size_t even = rows / together * together;
    some_rows<together, R>(pattern, 0, even, groups, part, inputs, panel, fresh);
    if constexpr (together > 1)
      some_rows<1, R>(pattern, even, rows, groups, part, inputs, panel, fresh);
  }

  /// Rows `first` to `last`, Q at a time, by R vectors of samples, while the panel that comes next
  /// is fetched.
  template <std::size_t Q, std::size_t R, class Pattern>
  [[gnu::noinline]] static void some_rows(Pattern pattern, std::size_t first, std::size_t last,
                                          std::size_t groups, const Part& part, const T* inputs,
                                          T* panel, bool fresh) {
    constexpr std::size_t pitch = R * lanes;
    const std::size_t group = pattern.group();
    const std::size_t kept = pattern.kept();
    const std::size_t codes_of_word = pattern.codes();
    const unsigned bits = pattern.bits();
    const std::size_t together = [&] {
      if constexpr (!Pattern::halves) return part.word_groups;
      else return word_groups({Pattern::kept_of_half, Pattern::group()});
    }();
    const std::size_t words = kept <= codes_of_word
                                  ? (groups + together - 1) / together
                                  : groups * ((kept + codes_of_word - 1) / codes_of_word);
    for (std::size_t row = first; row < last; row += Q) {
      T* const to = panel + row * pitch;
      Batch sum[Q][R];
#pragma GCC unroll 16
      for (std::size_t q = 0; q < Q; ++q)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R; ++v)
          sum[q][v] = fresh ? Batch(T(0)) : Batch::load_aligned(to + q * pitch + v * lanes);
      // A line of memory is a value of all rows: each row fetches its share.
      if (part.next != nullptr) {
        for (std::size_t i = row; i < groups * kept; i += panel_rows)
#pragma GCC unroll 16
          for (std::size_t q = 0; q < Q; ++q) __builtin_prefetch(part.next + (i + q) * panel_rows);
        for (std::size_t i = row; i < words; i += panel_rows)
#pragma GCC unroll 16
          for (std::size_t q = 0; q < Q; ++q)
            __builtin_prefetch(part.next_codes + (i + q) * panel_rows);
      }
      const T* w = part.values + row;
      const T* input = inputs;
      const std::uint32_t* from = part.codes + row;
      std::uint32_t word[Q];
      const auto next_word = [&] {
#pragma GCC unroll 16
        for (std::size_t q = 0; q < Q; ++q) word[q] = from[q];
        from += panel_rows;
      };
      const auto product = [&] {
#pragma GCC unroll 16
        for (std::size_t q = 0; q < Q; ++q) {
          const T* in = input + (word[q] & (group - 1)) * pitch;
          // One register, and not the sum of two in each of the addresses that follow, which would
          // cost every multiply-add an instruction more.
          __asm__("" : "+r"(in));
          word[q] >>= bits;
          const Batch wv(w[q]);
#pragma GCC unroll 16
          for (std::size_t v = 0; v < R; ++v)
            sum[q][v] =
                MultiplyAdd<Arch, T>::of(wv, Batch::load_aligned(in + v * lanes), sum[q][v]);
        }
        w += panel_rows;
      };
      if (kept <= codes_of_word) {  // a word is that of whole groups
        std::size_t before = part.groups_before;
        for (std::size_t g = 0; g < groups;) {
          next_word();
          if constexpr (!Pattern::halves)
#pragma GCC unroll 16
            for (std::size_t q = 0; q < Q; ++q)
              word[q] >>= static_cast<unsigned>(before * kept) * bits;
          const std::size_t end = least(groups, g + together - before);
          for (before = 0; g < end; ++g, input += group * pitch)
#pragma GCC unroll 2
            for (std::size_t i = 0; i < kept; ++i) product();
        }
      } else {
        for (std::size_t g = 0; g < groups; ++g, input += group * pitch)
          for (std::size_t i = 0; i < kept;) {
            next_word();
            for (const std::size_t end = least(kept, i + codes_of_word); i < end; ++i) product();
          }
      }
#pragma GCC unroll 16
      for (std::size_t q = 0; q < Q; ++q)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R; ++v) sum[q][v].store_aligned(to + q * pitch + v * lanes);
    }
  }

  /// All rows of a private panel of Y by so many vectors of samples as only the run knows.
  template <class Pattern, class Values, std::size_t R = tile_vectors>
  static void tile_rows(Pattern pattern, std::size_t used, std::size_t rows, std::size_t first,
                        std::size_t last, std::size_t cols, const Values& values,
                        const std::uint32_t* codes, const T* inputs, T* panel, bool fresh,
                        T* widened) {
    if constexpr (R > 0) {
      if (used != R)
        return tile_rows<Pattern, Values, R - 1>(pattern, used, rows, first, last, cols, values,
                                                 codes, inputs, panel, fresh, widened);
      const SemiStructuredPattern shape{pattern.kept(), pattern.group()};
      for (std::size_t r = 0; r < rows; r += panel_rows)
        panel_tile<R>(pattern, rows - r < panel_rows ? rows - r : panel_rows, first, last,
                      row_values(shape, cols), values.panel(r / panel_rows),
                      codes + r / panel_rows * panel_words(shape, cols), inputs,
                      panel + r * R * lanes, fresh, widened);
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
    T* const widened = panel + tall * width;
    T* const inputs = widened + widened_size;
    const std::size_t group = pattern.group();
    const std::size_t padded = (cols + group - 1) / group * group;
    const std::size_t used = (samples + lanes - 1) / lanes;
    const std::size_t pitch = used * lanes;
    const std::size_t fitting = least(tile_values<Pattern> / pitch, most_tile_cols);
    const std::size_t tile_cols = fitting / tile_step * tile_step;
    const bool is_near = cols * pitch <= 2 * tile_size;  // so little that it is still in cache
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
        tile_rows(pattern, used, height, k / group, (k + depth) / group, cols, value, code,
                  is_near ? inputs + k * pitch : tile, panel, !add && k == 0, widened);
      }
      Transpose<Arch, T>::apply(samples, height, panel, pitch, y + r, ldy);
    }
  }

  static constexpr std::size_t widened_size = (most_tile_cols + block_values) * panel_rows;
  /// Values of scratch.
  static constexpr std::size_t scratch(std::size_t cols) {
    return tile_size + widened_size +
           (tall + (cols + tile_step - 1) / tile_step * tile_step) * width;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
