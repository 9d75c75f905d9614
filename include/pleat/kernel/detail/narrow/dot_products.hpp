// SPDX-License-Identifier: MIT
// Dot products of narrow numbers, in plain C++: the contract of one small trait for each
// instruction set that has them, and xsimd does not.
#pragma once

#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Stored weights, and the activations that they meet.
enum class Pair : std::uint8_t { int8_int8, int8_int16, int4_int8, levels_int8, bf16_bf16 };

[[nodiscard, gnu::always_inline]] constexpr Format weights_of(Pair pair) noexcept {
  return pair == Pair::bf16_bf16     ? Format::bf16
         : pair == Pair::int4_int8   ? Format::int4
         : pair == Pair::levels_int8 ? Format::levels
                                     : Format::int8;
}
/// What stored integers are counted in, beside their scale.
[[nodiscard, gnu::always_inline]] constexpr float unit_of(Pair pair) noexcept {
  return pair == Pair::levels_int8 ? 1.0F / 128 : 1.0F;
}
/// The integer that the largest activation of a line of 64 columns becomes.
[[nodiscard, gnu::always_inline]] constexpr float largest_of(Pair pair) noexcept {
  return pair == Pair::int8_int16 ? 32767.0F : 127.0F;
}
/// Groups of weights, each with scales of its own, in a line.
[[nodiscard, gnu::always_inline]] constexpr std::size_t groups_of_line(Pair pair) noexcept {
  return is_of_four_bits(weights_of(pair)) ? 2 : 1;
}

/// The largest magnitude of some floats: as an unsigned integer of its bits, so that what is not
/// finite wins, whatever the compiler assumes of numbers.
[[nodiscard, gnu::always_inline]] inline std::uint32_t largest_bits(const float* x,
                                                                    std::size_t count) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fff'ffffU;
    largest = largest < bits ? bits : largest;
  }
  return largest;
}

/// A 16-bit float, by integers where it is no normal number: a program may have the processor take
/// subnormal floats for 0.
[[nodiscard, gnu::always_inline]] inline float float_of_half(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t exponent = half >> 10U & 31U;
  const std::uint32_t digits = half & 0x3ffU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(static_cast<std::int32_t>(digits)) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t bits =
      sign | (exponent == 31 ? 0xffU : exponent + 112U) << 23U | digits << 13U;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}

/// What turns the activations of a line into integers, and back.
struct LineScale {
  float scale;
  float inverse;  // 0 where all become 0

  /// From the bits of the largest magnitude. Where that is not finite, the scale is NaN, and so is
  /// every output of the sample; where it is so small that the inverse would not be finite, all of
  /// the line is taken for 0.
  [[nodiscard, gnu::always_inline]] static LineScale of(std::uint32_t largest, float most) {
    if (largest >= 0x7f80'0000U) {
      const std::uint32_t nan = 0x7fc0'0000U;
      float scale;
      __builtin_memcpy(&scale, &nan, sizeof scale);
      return {scale, 0};
    }
    float magnitude;
    __builtin_memcpy(&magnitude, &largest, sizeof magnitude);
    if (magnitude < 1e-33F) return {0, 0};
    return {magnitude / most, most / magnitude};
  }
};

/// Up to 64 activations of a sample, rounded in plain loops; `Wide`: in 16 bits each.
template <Pair P, bool Wide>
[[gnu::always_inline]] inline void round_plainly(const float* x, std::size_t count,
                                                 std::uint8_t* to, float& scale) {
  const LineScale line = LineScale::of(largest_bits(x, count), largest_of(P));
  scale = unit_of(P) * line.scale;
  for (std::size_t k = 0; k < scale_line_cols; ++k) {
    std::int32_t value = 0;
    if (k < count && line.inverse > 0)
      value = static_cast<std::int32_t>(__builtin_nearbyintf(x[k] * line.inverse));
    const std::size_t at = Wide                     ? k / 4 * 4 + k % 2 * 2 + k % 4 / 2
                           : groups_of_line(P) == 2 ? k / 8 * 8 + k % 2 * 4 + k % 8 / 2
                                                    : k;
    const auto narrow = static_cast<std::int16_t>(value);
    __builtin_memcpy(to + (Wide ? 2 : 1) * at, &narrow, Wide ? 2 : 1);
  }
}

/// The trait for an instruction set without such instructions. What it has, others have, for a pair
/// P and as many rows as there are lanes:
///
///     parts<P>, value_bytes<P>       operands in a word of each row, which meet 4 bytes of
///                                    activations each; bytes of an activation
///     operand<P, part>(word, panel)  one of them, of the words from one on of a panel
///     begin<P>(offset), dot<P>(sum, operand, x), end<P>(sum, offset)
///                                    the sums of a group; `offset` is what is owed where weights
///                                    have something added to them
///     scales<P>(at, row)             those of the weights from a row of the panel on
///     round<P>(x, count, to, scale, offsets)
///                                    up to 64 activations of a sample; all 64 are written
///
/// Parts are taken out of a word by shifts and masks, so rounded activations follow each other as
/// these need them: of each four for int16 0 2 1 3, of each eight for int4 and levels
/// 0 2 4 6 1 3 5 7, in 16 bits 0 4 2 6 1 5 3 7.
struct PortableDots {
  static constexpr DotProducts kind = DotProducts::none;
  static constexpr std::size_t lanes = panel_rows;
  struct Floats {
    float lane[lanes];
  };
  struct Integers {
    std::int32_t lane[lanes];
  };
  struct Operand {
    std::int32_t lane[4][lanes];
  };
  template <Pair P>
  using Sums = Integers;
  template <Pair P>
  static constexpr std::size_t parts = P == Pair::int8_int8 ? 1 : 2;
  template <Pair P>
  static constexpr std::size_t value_bytes = P == Pair::int8_int16 ? 2 : 1;

  template <Pair P, std::size_t Part>
  [[gnu::always_inline]] static Operand operand(const std::uint8_t* word,
                                                [[maybe_unused]] const std::uint8_t* panel) {
    Operand result;
    for (std::size_t b = 0; b < 4; ++b)
      for (std::size_t i = 0; i < lanes; ++i) {
        int stored = word[4 * i + (P == Pair::int8_int16 ? b % 2 * 2 + Part : b)];
        if constexpr (groups_of_line(P) == 2) stored = Part == 0 ? stored & 15 : stored >> 4;
        if constexpr (P == Pair::levels_int8) stored = panel[stored];
        if constexpr (P == Pair::int4_int8) result.lane[b][i] = stored - 8;
        else result.lane[b][i] = stored < 128 ? stored : stored - 256;
      }
    return result;
  }
  template <Pair P>
  [[gnu::always_inline]] static Integers begin(std::int32_t) {
    return {};
  }
  template <Pair P>
  [[gnu::always_inline]] static void dot(Integers& sum, const Operand& operand,
                                         const std::uint8_t* x) {
    constexpr std::size_t count = 4 / value_bytes<P>;
    for (std::size_t b = 0; b < count; ++b) {
      std::int32_t value;
      if constexpr (P == Pair::int8_int16) {
        std::int16_t half;
        __builtin_memcpy(&half, x + 2 * b, sizeof half);
        value = half;
      } else {
        value = x[b] < 128 ? x[b] : x[b] - 256;
      }
      for (std::size_t i = 0; i < lanes; ++i) sum.lane[i] += operand.lane[b][i] * value;
    }
  }
  template <Pair P>
  [[gnu::always_inline]] static Floats end(const Integers& sum, std::int32_t) {
    Floats result;
    for (std::size_t i = 0; i < lanes; ++i) result.lane[i] = static_cast<float>(sum.lane[i]);
    return result;
  }

  [[gnu::always_inline]] static Floats load(const float* from) {
    Floats result;
    __builtin_memcpy(result.lane, from, sizeof result.lane);
    return result;
  }
  [[gnu::always_inline]] static void store(float* to, const Floats& value) {
    __builtin_memcpy(to, value.lane, sizeof value.lane);
  }
  /// a (b s) + c, where s is one number.
  [[gnu::always_inline]] static Floats multiply_add(const Floats& a, const Floats& b, float s,
                                                    const Floats& c) {
    Floats result;
    for (std::size_t i = 0; i < lanes; ++i)
      result.lane[i] = a.lane[i] * (b.lane[i] * s) + c.lane[i];
    return result;
  }

  template <Pair P>
  [[gnu::always_inline]] static Floats scales(const std::uint8_t* at, std::size_t) {
    Floats result;
    if constexpr (groups_of_line(P) == 2) {
      std::uint16_t half[lanes];
      __builtin_memcpy(half, at, sizeof half);
      for (std::size_t i = 0; i < lanes; ++i) result.lane[i] = float_of_half(half[i]);
    } else {
      __builtin_memcpy(result.lane, at, sizeof result.lane);
    }
    return result;
  }

  template <Pair P>
  [[gnu::always_inline]] static void round(const float* x, std::size_t count, std::uint8_t* to,
                                           float& scale, std::int32_t* offsets) {
    round_plainly<P, P == Pair::int8_int16>(x, count, to, scale);
    for (std::size_t i = 0; i < groups_of_line(P); ++i) offsets[i] = 0;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
