// SPDX-License-Identifier: MIT
// What the kernels need of an instruction set and xsimd does not have: widening loads.
#pragma once

#include "pleat/kernel/detail/simd/xsimd.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Narrow numbers to floats, as many as a batch has lanes:
///
///     Batch f16(const std::uint8_t*)      // 2 bytes a lane
///     Words words(const std::uint8_t*)    // 4 bytes a lane, of which these take a part:
///     Batch half<i>(Words)                // bf16 number i of 2
///     Batch byte<i>(Words)                // int8 number i of 4
///     Batch nibble<bit>(Words)            // int4 number at a bit up to 16, which has 8 added
///     Words high(Words)                   // what lies from bit 20 on, moved to the lowest
///     Words levels<i>(Words, Words table) // for each byte, that of the table which its low or
///                                         // (i = 1) high half says; the table: the first 16
///                                         // bytes, and all others if they repeat these
template <class Arch>
struct Narrow;

#if defined(__SSE2__)
template <>
struct Narrow<xsimd::sse2> {
  using Batch = xsimd::batch<float, xsimd::sse2>;

  /// The exponent is moved by a sum of integers. What was subnormal then has one too few, and a
  /// leading digit that is taken away again; no product could do it where a program has the
  /// processor take subnormal floats for 0. Infinities and NaN get the exponent that they need.
  static Batch f16(const std::uint8_t* p) {
    const __m128i bits = _mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)),
                                            _mm_setzero_si128());
    const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(bits, _mm_set1_epi32(0x7fff)), 13);
    const __m128i sign = _mm_slli_epi32(_mm_and_si128(bits, _mm_set1_epi32(0x8000)), 16);
    const __m128i special = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x0f7f'ffff)),
                                          _mm_set1_epi32(0x7f80'0000));
    const __m128i tiny = _mm_cmplt_epi32(magnitude, _mm_set1_epi32(0x0080'0000));
    const __m128i moved = _mm_sub_epi32(_mm_add_epi32(magnitude, _mm_set1_epi32(0x3800'0000)),
                                        _mm_slli_epi32(tiny, 23));
    const __m128 scaled =
        _mm_sub_ps(_mm_castsi128_ps(moved),
                   _mm_castsi128_ps(_mm_and_si128(tiny, _mm_set1_epi32(0x3880'0000))));
    return Batch(_mm_or_ps(scaled, _mm_castsi128_ps(_mm_or_si128(sign, special))));
  }
  using Words = __m128i;
  static Words words(const std::uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  template <int i>
  static Batch half(Words words) {
    return Batch(_mm_castsi128_ps(i == 0 ? _mm_slli_epi32(words, 16)
                                         : _mm_and_si128(words, _mm_set1_epi32(~0xffff))));
  }
  template <int i>
  static Batch byte(Words words) {
    return Batch(_mm_cvtepi32_ps(_mm_srai_epi32(_mm_slli_epi32(words, 24 - 8 * i), 24)));
  }
  static Words high(Words words) { return _mm_srli_epi32(words, 20); }
  template <int bit>
  static Batch nibble(Words words) {
    const __m128i one = _mm_or_si128(_mm_and_si128(words, _mm_set1_epi32(15 << bit)),
                                     _mm_set1_epi32((150 - bit) << 23));
    return Batch(_mm_sub_ps(_mm_castsi128_ps(one), _mm_set1_ps(float((1 << (23 - bit)) + 8))));
  }
  template <int i>
  static Words levels(Words words, Words table) {
    alignas(16) std::uint8_t from[16];
    alignas(16) std::uint8_t level[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(from), words);
    _mm_store_si128(reinterpret_cast<__m128i*>(level), table);
    alignas(16) std::uint8_t to[16];
#pragma GCC unroll 16
    for (std::size_t k = 0; k < 16; ++k) to[k] = level[from[k] >> 4U * i & 15U];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(to));
  }
};
#endif

#if defined(__AVX2__) && defined(__FMA__)
template <>
struct Narrow<xsimd::fma3<xsimd::avx2>> {
  using Batch = xsimd::batch<float, xsimd::fma3<xsimd::avx2>>;

  static Batch f16(const std::uint8_t* p) {
#if defined(__F16C__)
    return Batch(_mm256_cvtph_ps(load(p)));
#else
    float lane[8];
    Narrow<xsimd::sse2>::f16(p).store_unaligned(lane);
    Narrow<xsimd::sse2>::f16(p + 8).store_unaligned(lane + 4);
    return Batch::load_unaligned(lane);
#endif
  }
  using Words = __m256i;
  static Words words(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <int i>
  static Batch half(Words words) {
    return Batch(_mm256_castsi256_ps(i == 0 ? _mm256_slli_epi32(words, 16)
                                            : _mm256_and_si256(words, _mm256_set1_epi32(~0xffff))));
  }
  template <int i>
  static Batch byte(Words words) {
    return Batch(_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 24 - 8 * i), 24)));
  }
  static Words high(Words words) { return _mm256_srli_epi32(words, 20); }
  template <int bit>
  static Batch nibble(Words words) {
    const __m256i one = _mm256_or_si256(_mm256_and_si256(words, _mm256_set1_epi32(15 << bit)),
                                        _mm256_set1_epi32((150 - bit) << 23));
    return Batch(
        _mm256_sub_ps(_mm256_castsi256_ps(one), _mm256_set1_ps(float((1 << (23 - bit)) + 8))));
  }
  template <int i>
  static Words levels(Words words, Words table) {
    return _mm256_shuffle_epi8(
        table, _mm256_and_si256(_mm256_srli_epi16(words, 4 * i), _mm256_set1_epi8(15)));
  }

 private:
  static __m128i load(const std::uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
template <>
struct Narrow<xsimd::avx512bw> {
  using Batch = xsimd::batch<float, xsimd::avx512bw>;

  static Batch f16(const std::uint8_t* p) { return Batch(_mm512_cvtph_ps(load(p))); }
  using Words = __m512i;
  static Words words(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  template <int i>
  static Batch half(Words words) {
    return Batch(_mm512_castsi512_ps(i == 0 ? _mm512_slli_epi32(words, 16)
                                            : _mm512_and_si512(words, _mm512_set1_epi32(~0xffff))));
  }
  template <int i>
  static Batch byte(Words words) {
    return Batch(_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 24 - 8 * i), 24)));
  }
  static Words high(Words words) { return _mm512_srli_epi32(words, 20); }
  template <int bit>
  static Batch nibble(Words words) {
    const __m512i one = _mm512_or_si512(_mm512_and_si512(words, _mm512_set1_epi32(15 << bit)),
                                        _mm512_set1_epi32((150 - bit) << 23));
    return Batch(
        _mm512_sub_ps(_mm512_castsi512_ps(one), _mm512_set1_ps(float((1 << (23 - bit)) + 8))));
  }
  template <int i>
  static Words levels(Words words, Words table) {
    return _mm512_shuffle_epi8(
        table, _mm512_and_si512(_mm512_srli_epi16(words, 4 * i), _mm512_set1_epi8(15)));
  }

 private:
  static __m256i load(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
};
#endif

#if defined(__aarch64__)
template <>
struct Narrow<xsimd::neon64> {
  using Batch = xsimd::batch<float, xsimd::neon64>;

  static Batch f16(const std::uint8_t* p) {
    return Batch(vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))));
  }
  using Words = uint32x4_t;
  static Words words(const std::uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); }
  template <int i>
  static Batch half(Words words) {
    return Batch(vreinterpretq_f32_u32(i == 0 ? vshlq_n_u32(words, 16)
                                              : vandq_u32(words, vdupq_n_u32(0xffff'0000U))));
  }
  template <int i>
  static Batch byte(Words words) {
    const int32x4_t shifted =
        vreinterpretq_s32_u32(i == 3 ? words : vshlq_n_u32(words, 24 - 8 * i));
    return Batch(vcvtq_f32_s32(vshrq_n_s32(shifted, 24)));
  }
  static Words high(Words words) { return vshrq_n_u32(words, 20); }
  template <int bit>
  static Batch nibble(Words words) {
    const uint32x4_t one =
        vorrq_u32(vandq_u32(words, vdupq_n_u32(15U << bit)), vdupq_n_u32((150U - bit) << 23U));
    return Batch(vsubq_f32(vreinterpretq_f32_u32(one), vdupq_n_f32(float((1 << (23 - bit)) + 8))));
  }
  template <int i>
  static Words levels(Words words, Words table) {
    const uint8x16_t bytes = vreinterpretq_u8_u32(words);
    const uint8x16_t at = i == 0 ? vandq_u8(bytes, vdupq_n_u8(15)) : vshrq_n_u8(bytes, 4);
    return vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(table), at));
  }
};
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
