// SPDX-License-Identifier: MIT
// a b + c with the same rounding for a vector and for a single value.
#pragma once

#include "pleat/kernel/detail/simd/xsimd.hpp"

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

// Compilers keep an array of sums in registers only where every loop over it is unrolled. At -O2
// g++ unrolls none, and clang none of the largest, so all loops over registers in the kernels of
// floats say `#pragma GCC unroll 16`: no tile has more of one kind. Without, these kernels take two
// to three times as long.

/// Rounds once where the instruction set can. xsimd 8.1 does so for AVX2 and NEON, but for AVX-512
/// it multiplies, then adds, and leaves it to the compiler to fuse the two, which may differ from
/// one place to the next.
template <class Arch, class T>
struct MultiplyAdd {
  using Batch = xsimd::batch<T, Arch>;

  static Batch of(const Batch& a, const Batch& b, const Batch& c) { return xsimd::fma(a, b, c); }
  static T of(T a, T b, T c) {
    if constexpr (sizeof(T) == sizeof(float)) return __builtin_fmaf(a, b, c);
    else return __builtin_fma(a, b, c);
  }
};

#if defined(__SSE2__)
template <class T>
struct MultiplyAdd<xsimd::sse2, T> {
  using Batch = xsimd::batch<T, xsimd::sse2>;

  static Batch of(const Batch& a, const Batch& b, const Batch& c) { return xsimd::fma(a, b, c); }
  static T of(T a, T b, T c) { return a * b + c; }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
template <>
struct MultiplyAdd<xsimd::avx512bw, float> {
  using Batch = xsimd::batch<float, xsimd::avx512bw>;

  static Batch of(const Batch& a, const Batch& b, const Batch& c) {
    return Batch(_mm512_fmadd_ps(a, b, c));
  }
  static float of(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};

template <>
struct MultiplyAdd<xsimd::avx512bw, double> {
  using Batch = xsimd::batch<double, xsimd::avx512bw>;

  static Batch of(const Batch& a, const Batch& b, const Batch& c) {
    return Batch(_mm512_fmadd_pd(a, b, c));
  }
  static double of(double a, double b, double c) { return __builtin_fma(a, b, c); }
};
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
