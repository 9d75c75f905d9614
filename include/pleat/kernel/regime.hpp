// SPDX-License-Identifier: MIT
// Which kernel serves a batch: pure functions of the vectors of a machine, testable on any host.
#pragma once

#include "pleat/kernel/table.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {

/// The vectors of an instruction set: how many bytes in one, and how many of them the kernels may
/// count on.
struct VectorUnit {
  std::size_t bytes;
  std::size_t registers;

  /// SSE2, AVX2 and NEON have 16 (NEON could have 32); AVX-512 has 32.
  [[nodiscard]] static constexpr VectorUnit of(std::size_t vector_bytes) noexcept {
    return {vector_bytes, vector_bytes == 64 ? std::size_t{32} : std::size_t{16}};
  }
};

/// How a batch is computed.
enum class Regime {
  in_place,  ///< few samples, which are read where they lie, rows in lanes; weights read once
  blocked,   ///< many samples, which are packed or transposed block by block for the caches
};

/// Samples of one tile of a dense kernel: what the registers hold beside one column of weights and
/// one broadcast. A tile is two vectors high where a panel of 16 rows is one.
[[nodiscard, gnu::always_inline]] constexpr std::size_t dense_tile_samples(
    VectorUnit unit, std::size_t scalar_bytes) noexcept {
  const std::size_t vectors = 16 * scalar_bytes / unit.bytes;  // of a panel
  return unit.registers * 3 / 4 / (vectors == 1 ? 2 : vectors);
}

/// Half a tile of samples is read in place. So are two tiles if the inputs of one fit 32 KiB, and
/// any number if the weights are small besides: then packing would not pay. Columns of X that do
/// not fit, and lie a power of two apart, push each other out of the first-level cache. What holds
/// for a matrix holds for some of its rows.
[[nodiscard, gnu::always_inline]] constexpr Regime dense_regime(VectorUnit unit,
                                                                std::size_t scalar_bytes,
                                                                std::size_t rows, std::size_t cols,
                                                                std::size_t batch) noexcept {
  const std::size_t tile = dense_tile_samples(unit, scalar_bytes);
  const bool fits = tile * cols * scalar_bytes <= 32 * 1024;
  const bool is_small = rows * cols * scalar_bytes <= 64 * 1024;
  return batch <= (tile + 1) / 2 || (fits && (is_small || batch <= 2 * tile)) ? Regime::in_place
                                                                              : Regime::blocked;
}

/// From here on a kernel of N of M transposes the samples: when they fill two vectors, and no less
/// than make up for it. Where there are registers enough, and an instruction picks the inputs of a
/// group from one of them, patterns other than halves never do, but for groups of four; nor where
/// so few are kept that sums are loaded and stored for little.
[[nodiscard, gnu::always_inline]] constexpr Regime semi_structured_regime(
    VectorUnit unit, std::size_t scalar_bytes, SemiStructuredPattern pattern, bool permutes,
    bool narrow, std::size_t batch) noexcept {
  const bool is_half = 2 * pattern.kept == pattern.group;
  const bool one_register = pattern.group * scalar_bytes <= unit.bytes;
  const bool is_sparse = 8 * pattern.kept < pattern.group;
  if (!is_half && permutes && !narrow && unit.registers == 32 &&
      ((one_register && pattern.group > 4) || is_sparse))
    return Regime::in_place;
  const std::size_t least = 2 * unit.bytes / scalar_bytes;
  return batch < (least > 24 ? least : 24) ? Regime::in_place : Regime::blocked;
}

/// Of some samples, as many as a tile has at most, those that are transposed: if the last vector is
/// no more than half full, they are read in place faster where an instruction picks the inputs.
[[nodiscard, gnu::always_inline]] constexpr std::size_t semi_structured_tile_samples(
    VectorUnit unit, std::size_t scalar_bytes, bool permutes, bool narrow,
    std::size_t samples) noexcept {
  const std::size_t lanes = unit.bytes / scalar_bytes;
  const std::size_t last = samples % lanes;
  return permutes && !narrow && unit.registers == 32 && 2 * last <= lanes ? samples - last
                                                                          : samples;
}

/// Whether a matrix with N of M columns kept is multiplied as a dense one, whose panels it then
/// keeps: where these fit the first-level cache, finding the inputs takes longer than the
/// multiplications saved. Without an instruction that permutes so many lanes it does so up to the
/// size of the second-level cache.
[[nodiscard, gnu::always_inline]] constexpr bool semi_structured_as_dense(
    std::size_t scalar_bytes, bool permutes, std::size_t rows, std::size_t cols) noexcept {
  const std::size_t panels = (rows + 15) / 16 * 16 * cols * scalar_bytes;
  return panels <= (permutes ? std::size_t{32} : std::size_t{128}) * 1024;
}

/// Narrow weights are widened as they are multiplied for up to eight samples of float, four at a
/// time, and once for a block of samples otherwise.
[[nodiscard, gnu::always_inline]] constexpr Regime narrow_regime(std::size_t scalar_bytes,
                                                                 std::size_t batch) noexcept {
  return scalar_bytes == 4 && batch <= 8 ? Regime::in_place : Regime::blocked;
}

/// Whether narrow weights of one block of many, each a call of a kernel, are held widened besides:
/// a call would take longer to widen them than for all else.
[[nodiscard]] constexpr bool holds_widened(std::size_t rows, std::size_t cols) noexcept {
  return rows * cols <= 1024;
}

/// Whether `narrow_dot_apply` is a kernel of its own for weights and activations: where there are
/// no dot products of them, it may be one in plain integers, which is slow; bf16 has none then.
[[nodiscard]] constexpr bool has_narrow_dot(DotProducts dots, Format format,
                                            Activations activations) noexcept {
  switch (format) {
    case Format::int8: return activations == Activations::int8 || activations == Activations::int16;
    case Format::int4:
    case Format::levels: return activations == Activations::int8;
    case Format::bf16: return activations == Activations::bf16 && dots == DotProducts::int8_bf16;
    case Format::f16: return false;
  }
  return false;
}

/// What rounding of activations serves narrow weights of a shape best: that of the dot products of
/// the machine where it has some; for int8 weights the coarsest that is not slower. Small matrices
/// do not make up for the rounding.
[[nodiscard]] constexpr Activations automatic_activations(DotProducts dots, Format format,
                                                          std::size_t rows,
                                                          std::size_t cols) noexcept {
  if (dots == DotProducts::none || rows * cols < 64 * 64 || rows < 32) return Activations::native;
  switch (format) {
    case Format::int8: return dots == DotProducts::int16 ? Activations::int16 : Activations::int8;
    case Format::int4:
    case Format::levels: return Activations::int8;
    case Format::bf16:
      return dots == DotProducts::int8_bf16 ? Activations::bf16 : Activations::native;
    case Format::f16: break;
  }
  return Activations::native;
}

/// Whether `semi_structured_dot_apply` serves kept values of a pattern with such activations by
/// instructions made for them: int8 where there are dot products of bytes, and one instruction
/// picks bytes from `picks`, as many as any four values of a row may need; bf16 of 2:4 where there
/// are those of bf16.
[[nodiscard]] constexpr bool has_semi_structured_dot(DotProducts dots, std::size_t picks,
                                                     Format format, SemiStructuredPattern pattern,
                                                     Activations activations) noexcept {
  switch (format) {
    case Format::int8:
      return has_byte_dots(dots) && activations == Activations::int8 &&
             (has_half_steps(format, pattern) || picked_window(pattern) <= picks);
    case Format::bf16:
      return activations == Activations::bf16 && has_half_steps(format, pattern) &&
             dots == DotProducts::int8_bf16;
    default: return false;
  }
}

/// Whether the kept values of a pattern have the scales of a dense matrix in the same format: those
/// that share one are of whole groups of columns, and these of whole groups of dense columns.
[[nodiscard]] constexpr bool has_dense_scales(Format format,
                                              SemiStructuredPattern pattern) noexcept {
  return scale_group(format) == 0 || scale_group(format) % pattern.kept == 0;
}

/// How kept values that meet rounded activations are multiplied.
enum class SparseDot {
  kept,   ///< by `semi_structured_dot_apply`, in plain loops where there are no instructions
  dense,  ///< as a dense matrix in the same format, by `narrow_dot_apply`
};

/// A dense matrix serves where there are no instructions for kept values, and it has their scales.
[[nodiscard]] constexpr SparseDot sparse_dot(DotProducts dots, std::size_t picks, Format format,
                                             SemiStructuredPattern pattern,
                                             Activations activations) noexcept {
  return has_semi_structured_dot(dots, picks, format, pattern, activations) ||
                 !has_dense_scales(format, pattern)
             ? SparseDot::kept
             : SparseDot::dense;
}

/// `automatic_activations` for kept values of a pattern: those of a kernel for it, if there are
/// instructions for one; else those of a dense matrix, which the kept values can be multiplied as:
/// that is faster than to widen them where they are integers and a quarter of all or more; int8
/// without dot products of bytes, half.
[[nodiscard]] constexpr Activations automatic_sparse_activations(DotProducts dots,
                                                                 std::size_t picks, Format format,
                                                                 SemiStructuredPattern pattern,
                                                                 std::size_t rows,
                                                                 std::size_t cols) noexcept {
  const Activations dense = automatic_activations(dots, format, rows, cols);
  const std::size_t most = format == Format::int8 && !has_byte_dots(dots) ? 2 : 4;
  const bool as_dense = scale_group(format) != 0 && has_dense_scales(format, pattern) &&
                        pattern.group <= most * pattern.kept;
  return as_dense || has_semi_structured_dot(dots, picks, format, pattern, dense)
             ? dense
             : Activations::native;
}

}  // namespace v0
}  // namespace pleat::kernel
