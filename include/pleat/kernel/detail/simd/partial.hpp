// SPDX-License-Identifier: MIT
// Loading and storing the first few lanes of a vector, where memory ends before it does.
#pragma once

#include "pleat/kernel/detail/simd/xsimd.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// The first `count` lanes, 0 < count < size; the others are zero, and touch no memory. This is the
/// portable form; instruction sets with masks have their own below. Its loops are bounded by what
/// g++ knows, or it warns of lanes that no count reaches.
template <class Arch, class T>
struct Partial {
  using Batch = xsimd::batch<T, Arch>;

  static Batch load(const T* from, std::size_t count) {
    alignas(sizeof(Batch)) T lane[Batch::size] = {};
    for (std::size_t i = 0; i < Batch::size && i < count; ++i) lane[i] = from[i];
    return Batch::load_aligned(lane);
  }
  static void store(const Batch& values, T* to, std::size_t count) {
    alignas(sizeof(Batch)) T lane[Batch::size];
    values.store_aligned(lane);
    for (std::size_t i = 0; i < Batch::size && i < count; ++i) to[i] = lane[i];
  }
};

#if defined(__AVX2__) && defined(__FMA__)
template <class T>
struct Partial<xsimd::fma3<xsimd::avx2>, T> {
  using Batch = xsimd::batch<T, xsimd::fma3<xsimd::avx2>>;
  static constexpr bool single = sizeof(T) == sizeof(float);

  static Batch load(const T* from, std::size_t count) {
    if constexpr (single) return Batch(_mm256_maskload_ps(from, mask(count)));
    else return Batch(_mm256_maskload_pd(from, mask(count)));
  }
  static void store(const Batch& values, T* to, std::size_t count) {
    if constexpr (single) _mm256_maskstore_ps(to, mask(count), values);
    else _mm256_maskstore_pd(to, mask(count), values);
  }

 private:
  static __m256i mask(std::size_t count) {
    if constexpr (single)
      return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    else
      return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(count)),
                                _mm256_setr_epi64x(0, 1, 2, 3));
  }
};
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)
template <class T>
struct Partial<xsimd::avx512bw, T> {
  using Batch = xsimd::batch<T, xsimd::avx512bw>;
  static constexpr bool single = sizeof(T) == sizeof(float);

  static Batch load(const T* from, std::size_t count) {
    if constexpr (single) return Batch(_mm512_maskz_loadu_ps(mask(count), from));
    else return Batch(_mm512_maskz_loadu_pd(mask(count), from));
  }
  static void store(const Batch& values, T* to, std::size_t count) {
    if constexpr (single) _mm512_mask_storeu_ps(to, mask(count), values);
    else _mm512_mask_storeu_pd(to, mask(count), values);
  }

 private:
  using Mask = std::conditional_t<single, __mmask16, __mmask8>;
  static Mask mask(std::size_t count) { return static_cast<Mask>((1U << count) - 1U); }
};
#endif

/// Vector number `v` of an output, and the same back, where only `height` rows of its panel exist.
template <class Arch, class T>
struct PanelRows {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;

  static Batch load(const T* y, std::size_t v, std::size_t height) {
    if (height >= (v + 1) * lanes) return Batch::load_unaligned(y + v * lanes);
    return height > v * lanes ? Partial<Arch, T>::load(y + v * lanes, height - v * lanes)
                              : Batch(T(0));
  }
  static void store(const Batch& values, T* y, std::size_t v, std::size_t height) {
    if (height >= (v + 1) * lanes) values.store_unaligned(y + v * lanes);
    else if (height > v * lanes) Partial<Arch, T>::store(values, y + v * lanes, height - v * lanes);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
