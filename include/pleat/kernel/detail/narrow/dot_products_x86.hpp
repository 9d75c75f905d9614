// SPDX-License-Identifier: MIT
// Dot products of narrow numbers on x86: by the instructions of AVX2, and by those made for them.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"

#if defined(__AVX2__) && defined(__FMA__)

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// g++ 12 moves sums of integers between registers and memory in every step of a loop, which is a
/// fifth to a half slower, unless they pass through an empty statement.
template <class Register>
[[gnu::always_inline]] inline void keep_in_register([[maybe_unused]] Register& sum) {
#if defined(__GNUC__) && !defined(__clang__)
  asm("" : "+v"(sum));
#endif
}

/// What the traits with vectors of 256 bits share. The activations of int8 are 16 bits wide here,
/// which products of two take as they are: so those of int16 cost no more.
struct Dots256 {
  static constexpr std::size_t lanes = 8;
  using Floats = __m256;
  using Operand = __m256i;

  [[gnu::always_inline]] static __m256i words(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  [[gnu::always_inline]] static __m256i broadcast(const std::uint8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
  /// Bytes 0 and 2 of each word, or 1 and 3, in 16 bits each.
  template <std::size_t Part>
  [[gnu::always_inline]] static __m256i halves(__m256i w) {
    return _mm256_srai_epi16(Part == 0 ? _mm256_slli_epi16(w, 8) : w, 8);
  }
  template <std::size_t Part>
  [[gnu::always_inline]] static __m256i nibbles(const std::uint8_t* word) {
    const __m256i w = words(word);
    return _mm256_and_si256(Part == 0 ? w : _mm256_srli_epi16(w, 4), _mm256_set1_epi8(15));
  }
  /// The levels that nibbles stand for, bytes.
  template <std::size_t Part>
  [[gnu::always_inline]] static __m256i levels(const std::uint8_t* word,
                                               const std::uint8_t* panel) {
    return _mm256_shuffle_epi8(words(panel), nibbles<Part>(word));
  }
  [[gnu::always_inline]] static Floats load(const float* from) { return _mm256_loadu_ps(from); }
  [[gnu::always_inline]] static void store(float* to, Floats value) { _mm256_storeu_ps(to, value); }
  [[gnu::always_inline]] static Floats multiply_add(Floats a, Floats b, float s, Floats c) {
    return _mm256_fmadd_ps(a, _mm256_mul_ps(b, _mm256_set1_ps(s)), c);
  }

  template <Pair P>
  [[gnu::always_inline]] static Floats scales(const std::uint8_t* at, std::size_t row) {
    if constexpr (groups_of_line(P) == 2) {
#if defined(__F16C__)
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 2 * row)));
#else
      float lane[lanes];
      for (std::size_t i = 0; i < lanes; ++i) {
        std::uint16_t half;
        __builtin_memcpy(&half, at + 2 * (row + i), sizeof half);
        lane[i] = float_of_half(half);
      }
      return load(lane);
#endif
    } else {
      return _mm256_castsi256_ps(words(at + 4 * row));
    }
  }

  /// `wide`: in 16 bits each. The sums of 32 columns each go to `sums`.
  template <Pair P, bool Wide>
  [[gnu::always_inline]] static void round_to(const float* x, std::size_t count, std::uint8_t* to,
                                              float& scale, std::int32_t (&sums)[2]) {
    alignas(32) float copy[scale_line_cols];
    if (count < scale_line_cols) {
      for (std::size_t k = 0; k < scale_line_cols; ++k) copy[k] = k < count ? x[k] : 0.0F;
      x = copy;
    }
    const __m256i magnitude = _mm256_set1_epi32(0x7fff'ffff);
    __m256i most = _mm256_setzero_si256();
    for (std::size_t i = 0; i < 8; ++i)
      most = _mm256_max_epu32(
          most, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + 8 * i)), magnitude));
    __m128i best = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    best = _mm_max_epu32(best, _mm_shuffle_epi32(best, 0x4e));
    best = _mm_max_epu32(best, _mm_shuffle_epi32(best, 0xb1));
    const LineScale line =
        LineScale::of(static_cast<std::uint32_t>(_mm_cvtsi128_si32(best)), largest_of(P));
    scale = unit_of(P) * line.scale;
    // NaN times 0 is no integer; all of such a line is 0.
    const __m256 inverse = _mm256_set1_ps(line.inverse);
    const __m256i kept = _mm256_set1_epi32(line.inverse > 0 ? -1 : 0);
    for (std::size_t half = 0; half < 2; ++half) {
      __m256i q[4];
      for (std::size_t i = 0; i < 4; ++i)
        q[i] = _mm256_and_si256(kept, _mm256_cvtps_epi32(_mm256_mul_ps(
                                          _mm256_loadu_ps(x + 32 * half + 8 * i), inverse)));
      const __m256i sum =
          _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
      __m128i total = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
      total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4e));
      total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xb1));
      sums[half] = _mm_cvtsi128_si32(total);
      if constexpr (Wide) {
        const __m256i order = _mm256_broadcastsi128_si256(
            P == Pair::levels_int8
                ? _mm_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, 2, 3, 10, 11, 6, 7, 14, 15)
                : _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
        for (std::size_t i = 0; i < 2; ++i) {
          const __m256i packed =
              _mm256_permute4x64_epi64(_mm256_packs_epi32(q[2 * i], q[2 * i + 1]), 0xd8);
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 64 * half + 32 * i),
                              _mm256_shuffle_epi8(packed, order));
        }
      } else {
        __m256i packed =
            _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        if constexpr (groups_of_line(P) == 2)
          packed = _mm256_shuffle_epi8(
              packed, _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, 0, 2,
                                       4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32 * half), packed);
      }
    }
  }
};

/// AVX2 multiplies bytes only into 16 bits, which eight products of nibbles fit and those of bytes
/// do not. int8 is widened to 16 bits, and so are its activations: exact, and int16 costs no more.
template <class Arch>
struct Avx2Dots : Dots256 {
  static constexpr DotProducts kind = DotProducts::int16;
  template <Pair P>
  using Sums = __m256i;
  template <Pair P>
  static constexpr std::size_t parts = P == Pair::levels_int8 ? 4 : 2;
  template <Pair P>
  static constexpr std::size_t value_bytes = P == Pair::int4_int8 ? 1 : 2;

  template <Pair P, std::size_t Part>
  [[gnu::always_inline]] static __m256i operand(const std::uint8_t* word,
                                                [[maybe_unused]] const std::uint8_t* panel) {
    if constexpr (P == Pair::int4_int8) return nibbles<Part>(word);
    else if constexpr (P == Pair::levels_int8)
      return halves<Part % 2>(levels<Part / 2>(word, panel));
    else return halves<Part>(words(word));
  }
  template <Pair P>
  [[gnu::always_inline]] static __m256i begin(std::int32_t) {
    return _mm256_setzero_si256();
  }
  template <Pair P>
  [[gnu::always_inline]] static void dot(__m256i& sum, __m256i operand, const std::uint8_t* x) {
    // A product of two nibbles' worth is at most 2 * 15 * 127, and a group adds up eight of them.
    if constexpr (P == Pair::int4_int8)
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(operand, broadcast(x)));
    else sum = _mm256_add_epi32(sum, _mm256_madd_epi16(operand, broadcast(x)));
    keep_in_register(sum);
  }
  template <Pair P>
  [[gnu::always_inline]] static Floats end(__m256i sum, std::int32_t offset) {
    if constexpr (P == Pair::int4_int8)
      sum =
          _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), _mm256_set1_epi32(offset));
    return _mm256_cvtepi32_ps(sum);
  }
  template <Pair P>
  static void round(const float* x, std::size_t count, std::uint8_t* to, float& scale,
                    std::int32_t* offsets) {
    std::int32_t sums[2];
    round_to<P, P != Pair::int4_int8>(x, count, to, scale, sums);
    for (std::size_t i = 0; i < groups_of_line(P); ++i) offsets[i] = -8 * sums[i];
  }
};

#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
/// Dot products in vectors of 256 bits. Bytes of weights are made unsigned by their highest bit,
/// which adds 128; `Encoding` tells the instructions of AVX-512 from those of AVX-VNNI.
template <int Encoding>
struct Vnni256Dots : Dots256 {
  static constexpr DotProducts kind = DotProducts::int8;
  template <Pair P>
  using Sums = __m256i;
  template <Pair P>
  static constexpr std::size_t parts = P == Pair::int8_int8 ? 1 : 2;
  template <Pair P>
  static constexpr std::size_t value_bytes = P == Pair::int8_int16 ? 2 : 1;

  template <Pair P, std::size_t Part>
  [[gnu::always_inline]] static __m256i operand(const std::uint8_t* word,
                                                [[maybe_unused]] const std::uint8_t* panel) {
    if constexpr (P == Pair::int4_int8) return nibbles<Part>(word);
    else if constexpr (P == Pair::int8_int16) return halves<Part>(words(word));
    else if constexpr (P == Pair::levels_int8)
      return _mm256_shuffle_epi8(_mm256_xor_si256(words(panel), _mm256_set1_epi8(-128)),
                                 nibbles<Part>(word));
    else return _mm256_xor_si256(words(word), _mm256_set1_epi8(-128));
  }
  template <Pair P>
  [[gnu::always_inline]] static __m256i begin(std::int32_t offset) {
    return _mm256_set1_epi32(P == Pair::int8_int16 ? 0 : offset);
  }
  template <Pair P>
  [[gnu::always_inline]] static void dot(__m256i& sum, __m256i operand, const std::uint8_t* x) {
    const __m256i four = broadcast(x);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    if constexpr (P == Pair::int8_int16) sum = _mm256_dpwssd_epi32(sum, operand, four);
    else sum = _mm256_dpbusd_epi32(sum, operand, four);
#else
    if constexpr (P == Pair::int8_int16) sum = _mm256_dpwssd_avx_epi32(sum, operand, four);
    else sum = _mm256_dpbusd_avx_epi32(sum, operand, four);
#endif
    keep_in_register(sum);
  }
  template <Pair P>
  [[gnu::always_inline]] static Floats end(__m256i sum, std::int32_t) {
    return _mm256_cvtepi32_ps(sum);
  }
  template <Pair P>
  static void round(const float* x, std::size_t count, std::uint8_t* to, float& scale,
                    std::int32_t* offsets) {
    std::int32_t sums[2];
    round_to<P, P == Pair::int8_int16>(x, count, to, scale, sums);
    if constexpr (P == Pair::int8_int8) offsets[0] = -128 * (sums[0] + sums[1]);
    else
      for (std::size_t i = 0; i < groups_of_line(P); ++i)
        offsets[i] = (P == Pair::levels_int8 ? -128 : -8) * sums[i];
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__)
template <bool Floats>
struct Register512 {
  using Type = __m512i;
};
template <>
struct Register512<true> {
  using Type = __m512;
};

/// Dot products in vectors of 512 bits, as above, and where `Halves`, those of bf16.
template <bool Halves>
struct Vnni512Dots {
  static constexpr DotProducts kind = Halves ? DotProducts::int8_bf16 : DotProducts::int8;
  static constexpr std::size_t lanes = 16;
  using Floats = __m512;
  using Operand = __m512i;
  template <Pair P>
  using Sums = typename Register512<P == Pair::bf16_bf16>::Type;
  template <Pair P>
  static constexpr std::size_t parts = P == Pair::int8_int8 || P == Pair::bf16_bf16 ? 1 : 2;
  template <Pair P>
  static constexpr std::size_t value_bytes = P == Pair::int8_int16 || P == Pair::bf16_bf16 ? 2 : 1;

  template <std::size_t Part>
  [[gnu::always_inline]] static __m512i nibbles(__m512i w) {
    return _mm512_and_si512(Part == 0 ? w : _mm512_srli_epi16(w, 4), _mm512_set1_epi8(15));
  }
  template <Pair P, std::size_t Part>
  [[gnu::always_inline]] static __m512i operand(const std::uint8_t* word,
                                                [[maybe_unused]] const std::uint8_t* panel) {
    const __m512i w = _mm512_loadu_si512(word);
    if constexpr (P == Pair::int8_int8) return _mm512_xor_si512(w, _mm512_set1_epi8(-128));
    else if constexpr (P == Pair::int4_int8) return nibbles<Part>(w);
    else if constexpr (P == Pair::levels_int8)
      return _mm512_shuffle_epi8(
          _mm512_xor_si512(_mm512_loadu_si512(panel), _mm512_set1_epi8(-128)), nibbles<Part>(w));
    else if constexpr (P == Pair::int8_int16)
      return _mm512_srai_epi16(Part == 0 ? _mm512_slli_epi16(w, 8) : w, 8);
    else return w;
  }
  template <Pair P>
  [[gnu::always_inline]] static Sums<P> begin(std::int32_t offset) {
    if constexpr (P == Pair::bf16_bf16) return _mm512_setzero_ps();
    else return _mm512_set1_epi32(P == Pair::int8_int16 ? 0 : offset);
  }
  template <Pair P>
  [[gnu::always_inline]] static void dot(Sums<P>& sum, __m512i operand, const std::uint8_t* x) {
    std::int32_t value;
    __builtin_memcpy(&value, x, sizeof value);
    const __m512i four = _mm512_set1_epi32(value);
    if constexpr (P == Pair::bf16_bf16) {
#if defined(__AVX512BF16__)
      sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(operand),
                             reinterpret_cast<__m512bh>(four));
#endif
    } else if constexpr (P == Pair::int8_int16) {
      sum = _mm512_dpwssd_epi32(sum, operand, four);
    } else {
      sum = _mm512_dpbusd_epi32(sum, operand, four);
    }
    keep_in_register(sum);
  }
  template <Pair P>
  [[gnu::always_inline]] static Floats end(Sums<P> sum, std::int32_t) {
    if constexpr (P == Pair::bf16_bf16) return sum;
    else return _mm512_cvtepi32_ps(sum);
  }
  template <Pair P>
  [[gnu::always_inline]] static Floats scales(const std::uint8_t* at, std::size_t) {
    if constexpr (groups_of_line(P) == 2)
      return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    else return _mm512_loadu_ps(at);
  }
  [[gnu::always_inline]] static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  [[gnu::always_inline]] static void store(float* to, Floats value) { _mm512_storeu_ps(to, value); }
  [[gnu::always_inline]] static Floats multiply_add(Floats a, Floats b, float s, Floats c) {
    return _mm512_fmadd_ps(a, _mm512_mul_ps(b, _mm512_set1_ps(s)), c);
  }

  template <Pair P>
  static void round(const float* x, std::size_t count, std::uint8_t* to, float& scale,
                    std::int32_t* offsets) {
    __m512 v[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t left = count > 16 * i ? count - 16 * i : 0;
      v[i] = left >= 16
                 ? _mm512_loadu_ps(x + 16 * i)
                 : _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << left) - 1U), x + 16 * i);
    }
    if constexpr (P == Pair::bf16_bf16) {
#if defined(__AVX512BF16__)
      for (std::size_t i = 0; i < 2; ++i)
        _mm512_storeu_si512(to + 64 * i,
                            reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(v[2 * i + 1], v[2 * i])));
#endif
      return;
    }
    __m512i most = _mm512_setzero_si512();
    for (std::size_t i = 0; i < 4; ++i)
      most = _mm512_max_epu32(
          most, _mm512_and_si512(_mm512_castps_si512(v[i]), _mm512_set1_epi32(0x7fff'ffff)));
    const LineScale line = LineScale::of(_mm512_reduce_max_epu32(most), largest_of(P));
    scale = unit_of(P) * line.scale;
    const __m512 inverse = _mm512_set1_ps(line.inverse);
    const auto kept = static_cast<__mmask16>(line.inverse > 0 ? 0xffff : 0);
    __m512i q[4];
    for (std::size_t i = 0; i < 4; ++i)
      q[i] = _mm512_maskz_cvtps_epi32(kept, _mm512_mul_ps(v[i], inverse));
    if constexpr (P == Pair::int8_int16) {
      const __m512i order = _mm512_broadcast_i32x4(
          _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
      for (std::size_t i = 0; i < 2; ++i) {
        const __m512i packed =
            _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(q[2 * i])),
                               _mm512_cvtepi32_epi16(q[2 * i + 1]), 1);
        _mm512_storeu_si512(to + 64 * i, _mm512_shuffle_epi8(packed, order));
      }
    } else {
      const __m512i low = _mm512_add_epi32(q[0], q[1]);
      const __m512i high = _mm512_add_epi32(q[2], q[3]);
      __m512i packed = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(q[0]));
      packed = _mm512_inserti32x4(packed, _mm512_cvtepi32_epi8(q[1]), 1);
      packed = _mm512_inserti32x4(packed, _mm512_cvtepi32_epi8(q[2]), 2);
      packed = _mm512_inserti32x4(packed, _mm512_cvtepi32_epi8(q[3]), 3);
      if constexpr (P == Pair::int8_int8) {
        offsets[0] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
      } else {
        constexpr std::int32_t added = P == Pair::levels_int8 ? 128 : 8;
        offsets[0] = -added * _mm512_reduce_add_epi32(low);
        offsets[1] = -added * _mm512_reduce_add_epi32(high);
        packed =
            _mm512_shuffle_epi8(packed, _mm512_broadcast_i32x4(_mm_setr_epi8(
                                            0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15)));
      }
      _mm512_storeu_si512(to, packed);
    }
  }
};
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel

#endif
