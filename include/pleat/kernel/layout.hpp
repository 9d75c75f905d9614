// SPDX-License-Identifier: MIT
// How matrices lie in memory for the kernels: numbers, panels, codes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {

/// Rows of a dense panel. Dense weights lie in panels of so many rows, rows in lanes: for each
/// column in turn, the values of `panel_rows` consecutive rows. The last panel is filled up with
/// zeros. One layout serves every instruction set (two AVX vectors of floats, one of AVX-512, four
/// of SSE or NEON).
inline constexpr std::size_t panel_rows = 16;

/// Weights narrower than the scalar. `bf16` and `f16` are 16-bit floats; `int8` and `int4` are
/// integers that a scale multiplies, one for so many columns of a row; `levels` are the same four
/// bits as `int4`, and stand for one of 16 signed bytes each, in 128ths of the scale.
enum class Format : std::uint8_t { bf16, f16, int8, int4, levels };

/// Whether weights have four bits each.
[[nodiscard, gnu::always_inline]] constexpr bool is_of_four_bits(Format format) noexcept {
  return format == Format::int4 || format == Format::levels;
}

/// What activations are rounded to before they meet narrow weights: nothing, integers with a scale
/// for each `scale_line_cols` of a sample, or 16-bit floats.
enum class Activations : std::uint8_t { native, int16, int8, bf16 };

/// Which dot products of narrow numbers an instruction set has: none; of pairs of 16-bit integers;
/// of four bytes; and of pairs of bf16 as well.
enum class DotProducts : std::uint8_t { none, int16, int8, int8_bf16 };

[[nodiscard, gnu::always_inline]] constexpr bool has_byte_dots(DotProducts dots) noexcept {
  return dots == DotProducts::int8 || dots == DotProducts::int8_bf16;
}

/// Columns that share a scale; 0 where there is none.
[[nodiscard, gnu::always_inline]] constexpr std::size_t scale_group(Format format) noexcept {
  return format == Format::int8 ? 64 : is_of_four_bits(format) ? 32 : 0;
}

/// Columns whose scales lie side by side: a panel of int8 or int4 has 64 bytes of them before each
/// so many columns, of which it fills up the last.
inline constexpr std::size_t scale_line_cols = 64;

/// Columns that share a word of 32 bits a row; 1 where each has 16 bits of its own.
[[nodiscard, gnu::always_inline]] constexpr std::size_t word_cols(Format format) noexcept {
  switch (format) {
    case Format::bf16: return 2;
    case Format::f16: return 1;
    case Format::int8: return 4;
    case Format::int4:
    case Format::levels: return 8;
  }
  return 1;
}

/// Bytes of one panel of narrow weights, rows in lanes: words of 32 bits, one a row, that hold
/// `word_cols` columns each, the first in the lowest bits; of f16, 16 bits a row for each column.
/// int8 is in two's complement, and int4 has 8 added to it. Of int8 and int4, each
/// `scale_line_cols` columns follow 64 bytes of scales: those of the 16 rows as f32; or as f16,
/// for the first 32 columns and then for the others. Of `levels`, which else are as int4, the 16
/// levels lie before all that, four times over.
[[nodiscard, gnu::always_inline]] constexpr std::size_t narrow_panel_bytes(
    Format format, std::size_t cols) noexcept {
  const std::size_t step = word_cols(format);
  const std::size_t steps = (cols + step - 1) / step;
  const std::size_t lines =
      scale_group(format) == 0 ? 0 : (cols + scale_line_cols - 1) / scale_line_cols;
  return (format == Format::levels ? 64 : 0) +
         (format == Format::f16 ? 2 : 4) * panel_rows * steps + 64 * lines;
}

/// Where in its panel a column lies: the byte at which the word of the first row begins, and that
/// of the first row's scale.
struct NarrowPlace {
  std::size_t word;
  std::size_t scale;
};
[[nodiscard, gnu::always_inline]] constexpr NarrowPlace narrow_place(Format format,
                                                                     std::size_t col) noexcept {
  if (scale_group(format) == 0)
    return {(format == Format::f16 ? 2 : 4) * panel_rows * (col / word_cols(format)), 0};
  const std::size_t first = col / scale_line_cols * scale_line_cols;
  const std::size_t line = narrow_panel_bytes(format, first);
  const std::size_t within = col - first;
  return {line + 64 + 64 * (within / word_cols(format)),
          line + (is_of_four_bits(format) ? within / 32 * 32 : 0)};
}

/// Values of scratch that one `narrow_apply_transpose` needs: a tile of 64 columns, and the sums of
/// as many for four samples.
inline constexpr std::size_t narrow_transpose_scratch = 5 * 64 * panel_rows;

/// Rows of a strip of interleaved matrices, which are computed together.
inline constexpr std::size_t strip_rows = 4;

/// Columns that one word of a bit mask stands for, the first in its lowest bit.
inline constexpr std::size_t mask_cols = 32;

/// N of every M: at most `kept` of every `group` consecutive columns of a row, which are 4, 8, 16
/// or 32; kept < group. Columns past the last belong to the last group.
struct SemiStructuredPattern {
  std::size_t kept;
  std::size_t group;
};

/// Bits of the code that says where in its group a kept value lies, as the kernels read them: three
/// would do for groups of eight, but where four are, eight codes fill a word.
[[nodiscard, gnu::always_inline]] constexpr unsigned code_bits(std::size_t group) noexcept {
  return group == 4 ? 2 : group == 32 ? 5 : 4;
}
/// Codes in a word, the first in its lowest bits.
[[nodiscard, gnu::always_inline]] constexpr std::size_t word_codes(std::size_t group) noexcept {
  return 32 / code_bits(group);
}
/// Groups whose codes share a word; one where a group takes a word or more.
[[nodiscard, gnu::always_inline]] constexpr std::size_t word_groups(
    SemiStructuredPattern pattern) noexcept {
  const std::size_t groups = word_codes(pattern.group) / pattern.kept;
  return groups < 1 ? 1 : groups;
}
/// Words that the codes of a group take; one where some share it.
[[nodiscard, gnu::always_inline]] constexpr std::size_t group_words(
    SemiStructuredPattern pattern) noexcept {
  return (pattern.kept + word_codes(pattern.group) - 1) / word_codes(pattern.group);
}

/// Where the code of a kept value of a row lies, of those counted through all its groups: in which
/// of the row's words, and after how many others.
struct CodePlace {
  std::size_t word;
  std::size_t before;
};
[[nodiscard, gnu::always_inline]] constexpr CodePlace code_place(SemiStructuredPattern pattern,
                                                                 std::size_t value) noexcept {
  const std::size_t group = value / pattern.kept;
  const std::size_t within = value % pattern.kept;
  const std::size_t groups = word_groups(pattern);
  const std::size_t codes = word_codes(pattern.group);
  return {group / groups * group_words(pattern) + within / codes,
          group % groups * pattern.kept + within % codes};
}

/// Words of kept values that meet activations of one scale: 64 of int8.
inline constexpr std::size_t picked_line_words = 16;

/// Whether kept values meet rounded activations in steps of halves: of 2:4, and int8 of 4:8 in the
/// same code. A word of values of a row is a step.
[[nodiscard, gnu::always_inline]] constexpr bool has_half_steps(
    Format format, SemiStructuredPattern pattern) noexcept {
  return 2 * pattern.kept == pattern.group &&
         (pattern.group == 4 || (pattern.group == 8 && format == Format::int8));
}
/// Columns of a step of halves.
[[nodiscard, gnu::always_inline]] constexpr std::size_t picked_cols(Format format) noexcept {
  return 2 * word_cols(format);
}
/// Steps whose controls share a word of 32 bits a row.
[[nodiscard, gnu::always_inline]] constexpr std::size_t control_steps(Format format) noexcept {
  return format == Format::bf16 ? 8 : 2;
}

/// Columns that the four values of a word of int8 can lie in, whatever the pattern: those of the
/// groups that any of them belongs to.
[[nodiscard, gnu::always_inline]] constexpr std::size_t picked_window(
    SemiStructuredPattern pattern) noexcept {
  const std::size_t groups = pattern.kept == 1 ? 4 : pattern.kept % 4 == 0 ? 1 : 2;
  return groups * pattern.group;
}
/// The column that the window of a kept value's word begins with, of those counted through a row.
[[nodiscard, gnu::always_inline]] constexpr std::size_t window_begin(SemiStructuredPattern pattern,
                                                                     std::size_t value) noexcept {
  return value / 4 * 4 / pattern.kept * pattern.group;
}

/// Which columns kept values of a row meet say the controls, words of 32 bits a row, in which a
/// value has the bits that it has in its word of values. In steps of halves these hold, for
/// `control_steps`, the first in the lowest, the number of its column in the step; else the byte is
/// that of its column in its window.
struct ControlPlace {
  std::size_t word;
  unsigned shift;
  std::size_t col;  ///< from which its number is counted
};
/// Of a panel's first row.
[[nodiscard, gnu::always_inline]] constexpr ControlPlace control_place(
    Format format, SemiStructuredPattern pattern, std::size_t value) noexcept {
  const std::size_t step = value / word_cols(format);
  const std::size_t bits = 32 / word_cols(format);
  const auto shift = static_cast<unsigned>(value % word_cols(format) * bits);
  if (!has_half_steps(format, pattern))
    return {step * panel_rows, shift, window_begin(pattern, value)};
  const std::size_t steps = control_steps(format);
  return {step / steps * panel_rows, shift + static_cast<unsigned>(step % steps * (bits / steps)),
          step * picked_cols(format)};
}

/// Narrow values are widened in blocks of so many of a row.
inline constexpr std::size_t block_values = 16;

/// Kept values of a row.
[[nodiscard, gnu::always_inline]] constexpr std::size_t row_values(SemiStructuredPattern pattern,
                                                                   std::size_t cols) noexcept {
  return (cols + pattern.group - 1) / pattern.group * pattern.kept;
}
/// Words of values of a row.
[[nodiscard, gnu::always_inline]] constexpr std::size_t row_words(Format format,
                                                                  SemiStructuredPattern pattern,
                                                                  std::size_t cols) noexcept {
  return (row_values(pattern, cols) + word_cols(format) - 1) / word_cols(format);
}
/// Words of controls of a panel.
[[nodiscard, gnu::always_inline]] constexpr std::size_t panel_controls(
    Format format, SemiStructuredPattern pattern, std::size_t cols) noexcept {
  const std::size_t together = has_half_steps(format, pattern) ? control_steps(format) : 1;
  return (row_words(format, pattern, cols) + together - 1) / together * panel_rows;
}
/// Sums of kept values of a panel, one a row for each `picked_line_words`.
[[nodiscard, gnu::always_inline]] constexpr std::size_t panel_sums(Format format,
                                                                   SemiStructuredPattern pattern,
                                                                   std::size_t cols) noexcept {
  return (row_words(format, pattern, cols) + picked_line_words - 1) / picked_line_words *
         panel_rows;
}
/// Words of codes of one panel.
[[nodiscard, gnu::always_inline]] constexpr std::size_t panel_words(SemiStructuredPattern pattern,
                                                                    std::size_t cols) noexcept {
  const std::size_t groups = (cols + pattern.group - 1) / pattern.group;
  const std::size_t together = word_groups(pattern);
  return (groups + together - 1) / together * group_words(pattern) * panel_rows;
}

}  // namespace v0
}  // namespace pleat::kernel
