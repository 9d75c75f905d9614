// SPDX-License-Identifier: MIT
// Exchanging lanes of a vector whose numbers differ in one bit.
#pragma once

#include "pleat/kernel/detail/simd/xsimd.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Lane i of the result is lane i xor Distance, a power of two. This is the portable form, by way
/// of memory; instruction sets that permute have their own below.
template <class Arch, class T>
struct Exchange {
  using Batch = xsimd::batch<T, Arch>;

  template <std::size_t Distance>
  static Batch lanes(const Batch& values) {
    alignas(sizeof(Batch)) T from[Batch::size];
    alignas(sizeof(Batch)) T to[Batch::size];
    values.store_aligned(from);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < Batch::size; ++i) to[i] = from[i ^ Distance];
    return Batch::load_aligned(to);
  }
};

#if defined(__SSE2__)
template <>
struct Exchange<xsimd::sse2, float> {
  using Batch = xsimd::batch<float, xsimd::sse2>;

  template <std::size_t Distance>
  static Batch lanes(__m128 values) {
    return Batch(_mm_shuffle_ps(values, values, Distance == 1 ? 0xb1 : 0x4e));
  }
};

template <>
struct Exchange<xsimd::sse2, double> {
  using Batch = xsimd::batch<double, xsimd::sse2>;

  template <std::size_t>
  static Batch lanes(__m128d values) {
    return Batch(_mm_shuffle_pd(values, values, 1));
  }
};
#endif

#if defined(__AVX2__) && defined(__FMA__)
template <>
struct Exchange<xsimd::fma3<xsimd::avx2>, float> {
  using Batch = xsimd::batch<float, xsimd::fma3<xsimd::avx2>>;

  template <std::size_t Distance>
  static Batch lanes(__m256 values) {
    if constexpr (Distance == 4) return Batch(_mm256_permute2f128_ps(values, values, 1));
    else return Batch(_mm256_permute_ps(values, Distance == 1 ? 0xb1 : 0x4e));
  }
};

template <>
struct Exchange<xsimd::fma3<xsimd::avx2>, double> {
  using Batch = xsimd::batch<double, xsimd::fma3<xsimd::avx2>>;

  template <std::size_t Distance>
  static Batch lanes(__m256d values) {
    if constexpr (Distance == 2) return Batch(_mm256_permute2f128_pd(values, values, 1));
    else return Batch(_mm256_permute_pd(values, 5));
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
template <>
struct Exchange<xsimd::avx512bw, float> {
  using Batch = xsimd::batch<float, xsimd::avx512bw>;

  template <std::size_t Distance>
  static Batch lanes(__m512 values) {
    constexpr int order = Distance == 1 || Distance == 4 ? 0xb1 : 0x4e;
    if constexpr (Distance >= 4) return Batch(_mm512_shuffle_f32x4(values, values, order));
    else return Batch(_mm512_permute_ps(values, order));
  }
};

template <>
struct Exchange<xsimd::avx512bw, double> {
  using Batch = xsimd::batch<double, xsimd::avx512bw>;

  template <std::size_t Distance>
  static Batch lanes(__m512d values) {
    if constexpr (Distance == 1) return Batch(_mm512_permute_pd(values, 0x55));
    else return Batch(_mm512_shuffle_f64x2(values, values, Distance == 2 ? 0xb1 : 0x4e));
  }
};
#endif

#if defined(__aarch64__)
template <>
struct Exchange<xsimd::neon64, float> {
  using Batch = xsimd::batch<float, xsimd::neon64>;

  template <std::size_t Distance>
  static Batch lanes(float32x4_t values) {
    if constexpr (Distance == 1) return Batch(vrev64q_f32(values));
    else return Batch(vextq_f32(values, values, 2));
  }
};

template <>
struct Exchange<xsimd::neon64, double> {
  using Batch = xsimd::batch<double, xsimd::neon64>;

  template <std::size_t>
  static Batch lanes(float64x2_t values) {
    return Batch(vextq_f64(values, values, 1));
  }
};
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
