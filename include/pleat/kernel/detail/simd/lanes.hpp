// SPDX-License-Identifier: MIT
// What the kernels need of an instruction set and xsimd does not have: picking one of some inputs,
// and interleaving whole vectors.
#pragma once

#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Picks, for each lane, one of M inputs by the low bits of a 32-bit code: M is 4, 8, 16 or 32.
///
/// `Codes` are the codes of a batch of lanes, `Inputs` M inputs in a form that `pick` is fast with;
/// `permutes` says whether that takes one instruction or two. This is the portable form, which
/// loads lane by lane; instruction sets that permute at run time have their own below.
template <class Arch, class T, std::size_t M>
struct Lanes {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t size = Batch::size;
  static constexpr bool permutes = false;

  struct Codes {
    std::uint32_t lane[size];
  };
  using Inputs = const T*;

  static Codes load(const std::uint32_t* codes) {
    Codes result;
#pragma GCC unroll 16
    for (std::size_t i = 0; i < size; ++i) result.lane[i] = codes[i];
    return result;
  }
  /// The next code of each lane.
  static Codes next(const Codes& codes) {
    Codes result;
#pragma GCC unroll 16
    for (std::size_t i = 0; i < size; ++i) result.lane[i] = codes.lane[i] >> code_bits(M);
    return result;
  }
  static Inputs inputs(const T* x) { return x; }
  static Batch pick(Inputs x, const Codes& codes) {
    alignas(sizeof(Batch)) T lane[size];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < size; ++i) lane[i] = x[codes.lane[i] & (M - 1)];
    return Batch::load_aligned(lane);
  }
};

#if defined(__SSE2__)
/// SSE2 has no permutation by a register: two levels of selection, by the bits of the code.
template <>
struct Lanes<xsimd::sse2, float, 4> {
  using Batch = xsimd::batch<float, xsimd::sse2>;
  static constexpr std::size_t size = 4;
  static constexpr bool permutes = false;
  using Codes = __m128i;
  struct Inputs {
    __m128 value[4];
  };

  static Codes load(const std::uint32_t* codes) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(codes));
  }
  static Codes next(Codes codes) { return _mm_srli_epi32(codes, 2); }
  static Inputs inputs(const float* x) {
    return {{_mm_set1_ps(x[0]), _mm_set1_ps(x[1]), _mm_set1_ps(x[2]), _mm_set1_ps(x[3])}};
  }
  static Batch pick(const Inputs& x, Codes codes) {
    const __m128 low = _mm_castsi128_ps(_mm_srai_epi32(_mm_slli_epi32(codes, 31), 31));
    const __m128 high = _mm_castsi128_ps(_mm_srai_epi32(_mm_slli_epi32(codes, 30), 31));
    return Batch(
        select(high, select(low, x.value[3], x.value[2]), select(low, x.value[1], x.value[0])));
  }

 private:
  static __m128 select(__m128 mask, __m128 yes, __m128 no) {
    return _mm_or_ps(_mm_and_ps(mask, yes), _mm_andnot_ps(mask, no));
  }
};
#endif

#if defined(__AVX2__) && defined(__FMA__)
// No gathers: mitigations of their leaks make them ten times as slow as what is here.
template <std::size_t M>
struct Lanes<xsimd::fma3<xsimd::avx2>, float, M> {
  using Batch = xsimd::batch<float, xsimd::fma3<xsimd::avx2>>;
  static constexpr std::size_t size = 8;
  static constexpr bool permutes = M <= 8;
  using Codes = __m256i;
  /// Four inputs twice, or so many times eight.
  struct Inputs {
    __m256 value[M <= 8 ? 1 : M / 8];
  };

  static Codes load(const std::uint32_t* codes) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(codes));
  }
  static Codes next(Codes codes) { return _mm256_srli_epi32(codes, int{code_bits(M)}); }
  static Inputs inputs(const float* x) {
    if constexpr (M == 4) {
      return {{_mm256_broadcast_ps(reinterpret_cast<const __m128*>(x))}};
    } else {
      Inputs result;
#pragma GCC unroll 16
      for (std::size_t i = 0; i < M / 8; ++i) result.value[i] = _mm256_loadu_ps(x + 8 * i);
      return result;
    }
  }
  static Batch pick(const Inputs& x, Codes codes) {
    if constexpr (M == 4) return Batch(_mm256_permutevar_ps(x.value[0], codes));
    else if constexpr (M == 8) return Batch(_mm256_permutevar8x32_ps(x.value[0], codes));
    else if constexpr (M == 16) return Batch(of_sixteen(x.value, codes));
    else
      return Batch(_mm256_blendv_ps(of_sixteen(x.value, codes), of_sixteen(x.value + 2, codes),
                                    _mm256_castsi256_ps(_mm256_slli_epi32(codes, 27))));
  }

 private:
  /// A blend looks at the sign, to where the fourth bit is moved.
  static __m256 of_sixteen(const __m256* x, Codes codes) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(x[0], codes),
                            _mm256_permutevar8x32_ps(x[1], codes),
                            _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28)));
  }
};

/// Beyond four or eight inputs, loads lane by lane.
template <std::size_t M>
requires(M <= 8) struct Lanes<xsimd::fma3<xsimd::avx2>, double, M> {
  using Batch = xsimd::batch<double, xsimd::fma3<xsimd::avx2>>;
  static constexpr std::size_t size = 4;
  static constexpr bool permutes = false;  // by way of halves, which takes four
  using Codes = __m256i;
  /// Four doubles each, as eight halves, which one instruction permutes freely.
  struct Inputs {
    __m256 value[M / 4];
  };

  static Codes load(const std::uint32_t* codes) {
    return _mm256_cvtepu32_epi64(_mm_load_si128(reinterpret_cast<const __m128i*>(codes)));
  }
  static Codes next(Codes codes) { return _mm256_srli_epi64(codes, int{code_bits(M)}); }
  static Inputs inputs(const double* x) {
    Inputs result;
#pragma GCC unroll 16
    for (std::size_t i = 0; i < M / 4; ++i)
      result.value[i] = _mm256_castpd_ps(_mm256_loadu_pd(x + 4 * i));
    return result;
  }
  static Batch pick(const Inputs& x, Codes codes) {
    // Input i is the halves 2 i and 2 i + 1.
    const __m256i low = _mm256_slli_epi64(_mm256_and_si256(codes, _mm256_set1_epi64x(3)), 1);
    const __m256i both =
        _mm256_or_si256(low, _mm256_slli_epi64(_mm256_or_si256(low, _mm256_set1_epi64x(1)), 32));
    const __m256d first = _mm256_castps_pd(_mm256_permutevar8x32_ps(x.value[0], both));
    if constexpr (M == 4) return Batch(first);
    else
      return Batch(_mm256_blendv_pd(first,
                                    _mm256_castps_pd(_mm256_permutevar8x32_ps(x.value[1], both)),
                                    _mm256_castsi256_pd(_mm256_slli_epi64(codes, 61))));
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
template <std::size_t M>
struct Lanes<xsimd::avx512bw, float, M> {
  using Batch = xsimd::batch<float, xsimd::avx512bw>;
  static constexpr std::size_t size = 16;
  static constexpr bool permutes = true;
  using Codes = __m512i;
  struct One {
    __m512 value;
  };
  struct Two {
    __m512 low, high;
  };
  using Inputs = std::conditional_t<M == 32, Two, One>;

  static Codes load(const std::uint32_t* codes) { return _mm512_load_si512(codes); }
  static Codes next(Codes codes) { return _mm512_srli_epi32(codes, unsigned{code_bits(M)}); }
  static Inputs inputs(const float* x) {
    if constexpr (M == 4) return {_mm512_broadcast_f32x4(_mm_loadu_ps(x))};
    else if constexpr (M == 8)
      return {_mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_loadu_ps(x))))};
    else if constexpr (M == 16) return {_mm512_loadu_ps(x)};
    else return {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
  }
  // Of an index only the bits count that a permutation has a use for: two, four, or five.
  static Batch pick(Inputs x, Codes codes) {
    if constexpr (M == 4) return Batch(_mm512_permutevar_ps(x.value, codes));
    else if constexpr (M == 32) return Batch(_mm512_permutex2var_ps(x.low, codes, x.high));
    else return Batch(_mm512_permutexvar_ps(codes, x.value));
  }
};

template <std::size_t M>
struct Lanes<xsimd::avx512bw, double, M> {
  using Batch = xsimd::batch<double, xsimd::avx512bw>;
  static constexpr std::size_t size = 8;
  static constexpr bool permutes = M <= 16;
  using Codes = __m512i;
  /// Four inputs twice, or so many times eight.
  struct Inputs {
    __m512d value[M <= 8 ? 1 : M / 8];
  };

  static Codes load(const std::uint32_t* codes) {
    return _mm512_cvtepu32_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(codes)));
  }
  static Codes next(Codes codes) { return _mm512_srli_epi64(codes, unsigned{code_bits(M)}); }
  static Inputs inputs(const double* x) {
    if constexpr (M == 4) {
      return {{_mm512_broadcast_f64x4(_mm256_loadu_pd(x))}};
    } else {
      Inputs result;
#pragma GCC unroll 16
      for (std::size_t i = 0; i < M / 8; ++i) result.value[i] = _mm512_loadu_pd(x + 8 * i);
      return result;
    }
  }
  // Three bits index the eight lanes. Where these hold four inputs twice, the third does not
  // matter.
  static Batch pick(const Inputs& x, Codes codes) {
    if constexpr (M <= 8) return Batch(_mm512_permutexvar_pd(codes, x.value[0]));
    else {
      const __m512d low = _mm512_permutex2var_pd(x.value[0], codes, x.value[1]);
      if constexpr (M == 16) return Batch(low);
      else
        return Batch(_mm512_mask_blend_pd(_mm512_test_epi64_mask(codes, _mm512_set1_epi64(16)), low,
                                          _mm512_permutex2var_pd(x.value[2], codes, x.value[3])));
    }
  }
};
#endif

#if defined(__aarch64__)
template <std::size_t M>
struct Lanes<xsimd::neon64, float, M> {
  using Batch = xsimd::batch<float, xsimd::neon64>;
  static constexpr std::size_t size = 4;
  static constexpr bool permutes = M <= 16;
  using Codes = uint32x4_t;
  struct Inputs {
    uint8x16_t value[M / 4];
  };

  static Codes load(const std::uint32_t* codes) { return vld1q_u32(codes); }
  static Codes next(Codes codes) { return vshrq_n_u32(codes, int{code_bits(M)}); }
  static Inputs inputs(const float* x) {
    Inputs result;
#pragma GCC unroll 16
    for (std::size_t i = 0; i < M / 4; ++i)
      result.value[i] = vreinterpretq_u8_f32(vld1q_f32(x + 4 * i));
    return result;
  }
  static Batch pick(const Inputs& x, Codes codes) {
    // Input i is the bytes 4 i to 4 i + 3.
    const uint8x16_t bytes = vreinterpretq_u8_u32(
        vmlaq_n_u32(vdupq_n_u32(0x0302'0100U), vandq_u32(codes, vdupq_n_u32(M - 1)), 0x0404'0404U));
    return Batch(vreinterpretq_f32_u8(look_up(x.value, bytes)));
  }

 private:
  static uint8x16_t look_up(const uint8x16_t* x, uint8x16_t bytes) {
    if constexpr (M == 4) return vqtbl1q_u8(x[0], bytes);
    else if constexpr (M == 8) return vqtbl2q_u8(uint8x16x2_t{{x[0], x[1]}}, bytes);
    else {
      const uint8x16_t low = vqtbl4q_u8(uint8x16x4_t{{x[0], x[1], x[2], x[3]}}, bytes);
      if constexpr (M == 16) return low;
      else  // what lies outside leaves the lower half as it is
        return vqtbx4q_u8(low, uint8x16x4_t{{x[4], x[5], x[6], x[7]}},
                          vsubq_u8(bytes, vdupq_n_u8(64)));
    }
  }
};
#endif

/// Interleaves two vectors a and b into a0 b0 a1 b1 ..., in two halves. Where vectors are wider
/// than 128 bits, xsimd's `zip_lo` and `zip_hi` do so within every 128 bits only.
template <class Arch, class T>
struct Interleave {
  using Batch = xsimd::batch<T, Arch>;
  static Batch low(const Batch& a, const Batch& b) { return xsimd::zip_lo(a, b); }
  static Batch high(const Batch& a, const Batch& b) { return xsimd::zip_hi(a, b); }
};

#if defined(__AVX2__) && defined(__FMA__)
template <>
struct Interleave<xsimd::fma3<xsimd::avx2>, float> {
  using Batch = xsimd::batch<float, xsimd::fma3<xsimd::avx2>>;
  static Batch low(const Batch& a, const Batch& b) { return combine<0x20>(a, b); }
  static Batch high(const Batch& a, const Batch& b) { return combine<0x31>(a, b); }

 private:
  template <int Halves>
  static Batch combine(__m256 a, __m256 b) {
    return Batch(
        _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), Halves));
  }
};

template <>
struct Interleave<xsimd::fma3<xsimd::avx2>, double> {
  using Batch = xsimd::batch<double, xsimd::fma3<xsimd::avx2>>;
  static Batch low(const Batch& a, const Batch& b) { return combine<0x20>(a, b); }
  static Batch high(const Batch& a, const Batch& b) { return combine<0x31>(a, b); }

 private:
  template <int Halves>
  static Batch combine(__m256d a, __m256d b) {
    return Batch(
        _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), Halves));
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
template <>
struct Interleave<xsimd::avx512bw, float> {
  using Batch = xsimd::batch<float, xsimd::avx512bw>;
  static Batch low(const Batch& a, const Batch& b) { return combine(a, b, 0); }
  static Batch high(const Batch& a, const Batch& b) { return combine(a, b, 8); }

 private:
  static Batch combine(__m512 a, __m512 b, int first) {
    const __m512i lane = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return Batch(_mm512_permutex2var_ps(a, _mm512_add_epi32(lane, _mm512_set1_epi32(first)), b));
  }
};

template <>
struct Interleave<xsimd::avx512bw, double> {
  using Batch = xsimd::batch<double, xsimd::avx512bw>;
  static Batch low(const Batch& a, const Batch& b) { return combine(a, b, 0); }
  static Batch high(const Batch& a, const Batch& b) { return combine(a, b, 4); }

 private:
  static Batch combine(__m512d a, __m512d b, long long first) {
    const __m512i lane = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    return Batch(_mm512_permutex2var_pd(a, _mm512_add_epi64(lane, _mm512_set1_epi64(first)), b));
  }
};
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
