// SPDX-License-Identifier: MIT
// Dot products of kept values with activations that one instruction picks for many rows: where
// there are dot products of bytes, on x86 and on 64-bit ARM.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/detail/narrow/dot_products_neon.hpp"
#include "pleat/kernel/detail/narrow/dot_products_x86.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// The activations of a line of one sample, rounded in plain loops, 128 added; of `size` bytes, a
/// multiple of 64, those past the `count` activations are 128.
[[gnu::always_inline]] inline void round_line_plainly(const float* x, std::size_t count,
                                                      std::size_t size, std::uint8_t* to,
                                                      float& scale) {
  const LineScale line = LineScale::of(largest_bits(x, count), largest_of(Pair::int8_int8));
  scale = line.scale;
  for (std::size_t k = 0; k < size; ++k) {
    std::int32_t value = 0;
    if (k < count && line.inverse > 0)
      value = static_cast<std::int32_t>(__builtin_nearbyintf(x[k] * line.inverse));
    to[k] = static_cast<std::uint8_t>(value + 128);
  }
}

/// The name by which an instruction set, that of some dot products, has the plain loops: no two
/// share a function.
template <class Dots>
struct PlainLoops {};

/// What a trait of dot products has besides where weights are N of every M columns. The values of
/// `lanes` rows of one step are words of 32 bits; the controls of the rows say which activations
/// meet them. In steps of halves that is four of eight bytes (P is int8_int8, the activations
/// unsigned, 128 added), or two of four bf16; else, of int8, four of a window of `picks` bytes.
///
///     begin(at)                   sums of integers from what they start from
///     values(at), controls(at)    of `lanes` rows
///     next<P>(controls)           those of the next step of halves
///     activations(at)             8 bytes for every row
///     pick<P>(sum, values, controls, activations)
///     window(at)                  `picks` bytes for every row
///     pick_of(sum, values, controls, window)
///     round_line(x, count, size, to, scale)
///                                 see `round_line_plainly`
///     widest                      samples of the largest tile
///
/// This one has windows of any size, and no steps of halves.
template <class Dots>
struct PickedDots : PortableDots {
  static constexpr std::size_t widest = 4;
  static constexpr std::size_t picks = 256;
  static constexpr bool has_halves = false;
  using Controls = const std::uint8_t*;
  using Window = const std::uint8_t*;

  [[gnu::always_inline]] static Integers begin(const std::int32_t* at) {
    Integers result;
    __builtin_memcpy(result.lane, at, sizeof result.lane);
    return result;
  }
  [[gnu::always_inline]] static const std::uint8_t* values(const std::uint8_t* at) { return at; }
  [[gnu::always_inline]] static Controls controls(const std::uint32_t* at) {
    return reinterpret_cast<const std::uint8_t*>(at);
  }
  [[gnu::always_inline]] static Window window(const std::uint8_t* at) { return at; }
  [[gnu::always_inline]] static void pick_of(Integers& sum, const std::uint8_t* values,
                                             Controls controls, Window window) {
    for (std::size_t i = 0; i < lanes; ++i)
      for (std::size_t b = 0; b < 4; ++b) {
        const int value = values[4 * i + b];
        sum.lane[i] += (value < 128 ? value : value - 256) * window[controls[4 * i + b]];
      }
  }
  [[gnu::always_inline]] static void round_line(const float* x, std::size_t count, std::size_t size,
                                                std::uint8_t* to, float& scale) {
    round_line_plainly(x, count, size, to, scale);
  }
};

// A shuffle of bytes sees of each control its lowest four bits, and the highest, which is 0 as
// codes are below 8: what lies between, the code of a step before or after, needs no mask. The 8
// activations repeat, so that of the four bits only three matter; and of those that pick 16-bit
// numbers, two.

#if defined(__AVX2__) && defined(__FMA__) && \
    (defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__)))
template <int Encoding>
struct PickedDots<Vnni256Dots<Encoding>> : Vnni256Dots<Encoding> {
  static constexpr std::size_t widest = 4;
  static constexpr std::size_t picks = 16;
  static constexpr bool has_halves = true;
  using Controls = __m256i;
  using Window = __m256i;

  [[gnu::always_inline]] static __m256i begin(const std::int32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  [[gnu::always_inline]] static __m256i values(const std::uint8_t* at) {
    return Dots256::words(at);
  }
  [[gnu::always_inline]] static __m256i controls(const std::uint32_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  template <Pair P>
  [[gnu::always_inline]] static void next(__m256i& controls) {
    controls = _mm256_srli_epi32(controls, 4);
  }
  [[gnu::always_inline]] static __m256i activations(const std::uint8_t* at) {
    long long eight;
    __builtin_memcpy(&eight, at, sizeof eight);
    return _mm256_set1_epi64x(eight);
  }
  template <Pair P>
  [[gnu::always_inline]] static void pick(__m256i& sum, __m256i values, __m256i controls,
                                          __m256i x) {
    const __m256i picked = _mm256_shuffle_epi8(x, controls);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    sum = _mm256_dpbusd_epi32(sum, picked, values);
#else
    sum = _mm256_dpbusd_avx_epi32(sum, picked, values);
#endif
    keep_in_register(sum);
  }

  [[gnu::always_inline]] static __m256i window(const std::uint8_t* at) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  [[gnu::always_inline]] static void pick_of(__m256i& sum, __m256i values, __m256i controls,
                                             __m256i window) {
    pick<Pair::int8_int8>(sum, values, controls, window);
  }

  static void round_line(const float* x, std::size_t count, std::size_t size, std::uint8_t* to,
                         float& scale) {
    const LineScale line = LineScale::of(largest_bits(x, count), largest_of(Pair::int8_int8));
    scale = line.scale;
    // NaN times 0 is no integer; all of such a line is 0.
    const __m256 inverse = _mm256_set1_ps(line.inverse);
    const __m256i kept = _mm256_set1_epi32(line.inverse > 0 ? -1 : 0);
    for (std::size_t k = 0; k < size; k += 32) {
      alignas(32) float copy[32];
      const float* from = x + k;
      if (k + 32 > count) {
        for (std::size_t i = 0; i < 32; ++i) copy[i] = k + i < count ? x[k + i] : 0.0F;
        from = copy;
      }
      __m256i q[4];
      for (std::size_t i = 0; i < 4; ++i)
        q[i] = _mm256_and_si256(
            kept, _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from + 8 * i), inverse)));
      __m256i packed =
          _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
      packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k),
                          _mm256_xor_si256(packed, _mm256_set1_epi8(-128)));
    }
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
template <bool Halves>
struct PickedDots<Vnni512Dots<Halves>> : Vnni512Dots<Halves> {
  static constexpr std::size_t widest = 8;
  static constexpr std::size_t picks = Halves ? 64 : 16;  // a byte of 64 needs VBMI
  static constexpr bool has_halves = true;
  template <Pair P>
  using Sums = typename Vnni512Dots<Halves>::template Sums<P>;
  using Controls = __m512i;
  using Window = __m512i;

  [[gnu::always_inline]] static __m512i begin(const std::int32_t* at) {
    return _mm512_loadu_si512(at);
  }
  [[gnu::always_inline]] static __m512i values(const std::uint8_t* at) {
    __m512i result = _mm512_loadu_si512(at);
    keep_in_register(result);  // or every use of it is a load
    return result;
  }
  [[gnu::always_inline]] static __m512i controls(const std::uint32_t* at) {
    __m512i result = _mm512_loadu_si512(at);
    keep_in_register(result);
    return result;
  }
  template <Pair P>
  [[gnu::always_inline]] static void next(__m512i& controls) {
    controls = _mm512_srli_epi32(controls, P == Pair::bf16_bf16 ? 2 : 4);
    keep_in_register(controls);
  }
  [[gnu::always_inline]] static __m512i activations(const std::uint8_t* at) {
    long long eight;
    __builtin_memcpy(&eight, at, sizeof eight);
    return _mm512_set1_epi64(eight);
  }
  template <Pair P>
  [[gnu::always_inline]] static void pick(Sums<P>& sum, __m512i values, __m512i controls,
                                          __m512i x) {
    if constexpr (P == Pair::bf16_bf16) {
#if defined(__AVX512BF16__)
      const __m512i picked = _mm512_permutexvar_epi16(controls, x);
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(picked),
                             reinterpret_cast<__m512bh>(values));
#endif
    } else {
      sum = _mm512_dpbusd_epi32(sum, _mm512_shuffle_epi8(x, controls), values);
    }
    keep_in_register(sum);
  }

  [[gnu::always_inline]] static __m512i window(const std::uint8_t* at) {
    if constexpr (picks == 64) return _mm512_loadu_si512(at);
    else return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  [[gnu::always_inline]] static void pick_of(__m512i& sum, __m512i values, __m512i controls,
                                             __m512i window) {
    __m512i picked;
#if defined(__AVX512VBMI__)
    if constexpr (picks == 64) picked = _mm512_permutexvar_epi8(controls, window);
    else
#endif
      picked = _mm512_shuffle_epi8(window, controls);
    sum = _mm512_dpbusd_epi32(sum, picked, values);
    keep_in_register(sum);
  }

  static void round_line(const float* x, std::size_t count, std::size_t size, std::uint8_t* to,
                         float& scale) {
    const auto some = [&](std::size_t k) {
      const std::size_t left = count > k ? count - k : 0;
      if (left >= 16) return _mm512_loadu_ps(x + k);
      return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << left) - 1U), x + k);
    };
    __m512i most = _mm512_setzero_si512();
    for (std::size_t k = 0; k < count; k += 16)
      most = _mm512_max_epu32(
          most, _mm512_and_si512(_mm512_castps_si512(some(k)), _mm512_set1_epi32(0x7fff'ffff)));
    const LineScale line =
        LineScale::of(_mm512_reduce_max_epu32(most), largest_of(Pair::int8_int8));
    scale = line.scale;
    const __m512 inverse = _mm512_set1_ps(line.inverse);
    const auto kept = static_cast<__mmask16>(line.inverse > 0 ? 0xffff : 0);
    for (std::size_t k = 0; k < size; k += 16) {
      const __m512i q = _mm512_maskz_cvtps_epi32(kept, _mm512_mul_ps(some(k), inverse));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + k),
                       _mm_xor_si128(_mm512_cvtepi32_epi8(q), _mm_set1_epi8(-128)));
    }
  }
};
#endif

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
template <>
struct PickedDots<NeonDots<true>> : NeonDots<true> {
  static constexpr std::size_t widest = 4;
  static constexpr std::size_t picks = 32;
  static constexpr bool has_halves = true;
  using Controls = uint8x16_t;
  using Window = uint8x16x2_t;

  [[gnu::always_inline]] static int32x4_t begin(const std::int32_t* at) { return vld1q_s32(at); }
  [[gnu::always_inline]] static int8x16_t values(const std::uint8_t* at) {
    return vreinterpretq_s8_u8(vld1q_u8(at));
  }
  [[gnu::always_inline]] static uint8x16_t controls(const std::uint32_t* at) {
    return vreinterpretq_u8_u32(vld1q_u32(at));
  }
  template <Pair P>
  [[gnu::always_inline]] static void next(uint8x16_t& controls) {
    controls = vshrq_n_u8(controls, 4);
  }
  [[gnu::always_inline]] static uint8x16_t activations(const std::uint8_t* at) {
    std::uint64_t eight;
    __builtin_memcpy(&eight, at, sizeof eight);
    return vreinterpretq_u8_u64(vdupq_n_u64(eight));
  }
  /// A table of bytes takes what lies past its end for 0, so here controls are masked.
  template <Pair P>
  [[gnu::always_inline]] static void pick(int32x4_t& sum, int8x16_t values, uint8x16_t controls,
                                          uint8x16_t x) {
    sum = vusdotq_s32(sum, vqtbl1q_u8(x, vandq_u8(controls, vdupq_n_u8(7))), values);
  }
  [[gnu::always_inline]] static uint8x16x2_t window(const std::uint8_t* at) {
    return {{vld1q_u8(at), vld1q_u8(at + 16)}};
  }
  [[gnu::always_inline]] static void pick_of(int32x4_t& sum, int8x16_t values, uint8x16_t controls,
                                             uint8x16x2_t window) {
    sum = vusdotq_s32(sum, vqtbl2q_u8(window, controls), values);
  }
  [[gnu::always_inline]] static void round_line(const float* x, std::size_t count, std::size_t size,
                                                std::uint8_t* to, float& scale) {
    round_line_plainly(x, count, size, to, scale);
  }
};
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
