// SPDX-License-Identifier: MIT
// Dot products of narrow numbers on 64-bit ARM: by widening multiplications, and by SDOT.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"

#if defined(__aarch64__)

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Weights are signed here, so nothing is owed. Where `Dot`, four bytes a lane are one instruction;
/// else int8 is widened to 16 bits, and so are its activations: int16 costs no more.
template <bool Dot>
struct NeonDots {
#if !defined(__ARM_FEATURE_DOTPROD)
  static_assert(!Dot);
#endif
  static constexpr DotProducts kind = Dot ? DotProducts::int8 : DotProducts::int16;
  static constexpr std::size_t lanes = 4;
  using Floats = float32x4_t;
  using Operand = int8x16_t;
  template <Pair P>
  using Sums = int32x4_t;
  template <Pair P>
  static constexpr bool wide = P == Pair::int8_int16 || (P == Pair::int8_int8 && !Dot);
  template <Pair P>
  static constexpr std::size_t parts = groups_of_line(P) == 2 || wide<P> ? 2 : 1;
  template <Pair P>
  static constexpr std::size_t value_bytes = wide<P> ? 2 : 1;

  template <Pair P, std::size_t Part>
  [[gnu::always_inline]] static int8x16_t operand(const std::uint8_t* word,
                                                  [[maybe_unused]] const std::uint8_t* panel) {
    const uint8x16_t w = vld1q_u8(word);
    if constexpr (groups_of_line(P) == 2) {
      const uint8x16_t nibbles = Part == 0 ? vandq_u8(w, vdupq_n_u8(15)) : vshrq_n_u8(w, 4);
      if constexpr (P == Pair::int4_int8)
        return vsubq_s8(vreinterpretq_s8_u8(nibbles), vdupq_n_s8(8));
      else return vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(panel), nibbles));
    }
    if constexpr (wide<P>) {  // columns 0 and 2 of each word, or 1 and 3
      const int16x8_t halves = vreinterpretq_s16_u8(w);
      return vreinterpretq_s8_s16(vshrq_n_s16(Part == 0 ? vshlq_n_s16(halves, 8) : halves, 8));
    }
    return vreinterpretq_s8_u8(w);
  }
  template <Pair P>
  [[gnu::always_inline]] static int32x4_t begin(std::int32_t) {
    return vdupq_n_s32(0);
  }
  template <Pair P>
  [[gnu::always_inline]] static void dot(int32x4_t& sum, int8x16_t operand, const std::uint8_t* x) {
    std::int32_t value;
    __builtin_memcpy(&value, x, sizeof value);
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(value));
    if constexpr (wide<P>) {
      const int16x8_t w = vreinterpretq_s16_s8(operand);
      const int16x8_t two = vreinterpretq_s16_s8(four);
      const int32x4_t low = vmull_s16(vget_low_s16(w), vget_low_s16(two));
      sum = vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(w, two)));
    } else if constexpr (Dot) {
#if defined(__ARM_FEATURE_DOTPROD)
      sum = vdotq_s32(sum, operand, four);
#endif
    } else {
      const int16x8_t low = vmull_s8(vget_low_s8(operand), vget_low_s8(four));
      const int16x8_t high = vmull_high_s8(operand, four);
      sum = vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
    }
  }
  template <Pair P>
  [[gnu::always_inline]] static float32x4_t end(int32x4_t sum, std::int32_t) {
    return vcvtq_f32_s32(sum);
  }

  [[gnu::always_inline]] static float32x4_t load(const float* from) { return vld1q_f32(from); }
  [[gnu::always_inline]] static void store(float* to, float32x4_t value) { vst1q_f32(to, value); }
  [[gnu::always_inline]] static float32x4_t multiply_add(float32x4_t a, float32x4_t b, float s,
                                                         float32x4_t c) {
    return vfmaq_f32(c, a, vmulq_n_f32(b, s));
  }
  template <Pair P>
  [[gnu::always_inline]] static float32x4_t scales(const std::uint8_t* at, std::size_t row) {
    if constexpr (groups_of_line(P) == 2)
      return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at + 2 * row)));
    else return vreinterpretq_f32_u8(vld1q_u8(at + 4 * row));
  }
  template <Pair P>
  static void round(const float* x, std::size_t count, std::uint8_t* to, float& scale,
                    std::int32_t* offsets) {
    round_plainly<P, wide<P>>(x, count, to, scale);
    for (std::size_t i = 0; i < groups_of_line(P); ++i) offsets[i] = 0;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel

#endif
