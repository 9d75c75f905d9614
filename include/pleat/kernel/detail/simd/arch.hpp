// SPDX-License-Identifier: MIT
// The instruction sets that have kernels, as xsimd names them.
#pragma once

#include "pleat/kernel/detail/simd/dot_products.hpp"
#include "pleat/kernel/detail/simd/dot_products_neon.hpp"
#include "pleat/kernel/detail/simd/dot_products_x86.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"

#include <type_traits>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

// Not xsimd::default_arch: of the many x86 levels only three have kernels that differ, and batches
// of fma3<avx2> emit a fused multiply-add on every compiler, where those of avx2 leave it to
// chance.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
using StaticArch = xsimd::avx512bw;
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
using StaticDots = Vnni512Dots<true>;
#elif defined(__AVX512VNNI__)
using StaticDots = Vnni512Dots<false>;
#else
using StaticDots = Avx2Dots<StaticArch>;
#endif
#elif defined(__AVX2__) && defined(__FMA__)
using StaticArch = xsimd::fma3<xsimd::avx2>;
#if defined(__AVXVNNI__)
using StaticDots = Vnni256Dots<256>;
#else
using StaticDots = Avx2Dots<StaticArch>;
#endif
#elif defined(__aarch64__)
using StaticArch = xsimd::neon64;
#if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
using StaticDots = NeonDots<true>;
#else
using StaticDots = NeonDots<false>;
#endif
#else
using StaticArch = xsimd::sse2;
using StaticDots = PortableDots;
#endif

/// The name of an instruction set and its dot products, as `Table::arch` and PLEAT_FORCE_ARCH have
/// it.
template <class Arch, class Dots>
[[nodiscard]] constexpr const char* arch_name() noexcept {
  constexpr DotProducts dots = Dots::kind;
  if constexpr (std::is_same_v<Arch, xsimd::avx512bw>)
    return dots == DotProducts::int8_bf16 ? "avx512+vnni+bf16"
           : dots == DotProducts::int8    ? "avx512+vnni"
                                          : "avx512";
  else if constexpr (std::is_same_v<Arch, xsimd::fma3<xsimd::avx2>>)
    return dots == DotProducts::int8 ? "avx2+vnni" : "fma3+avx2";
  else if constexpr (std::is_same_v<Arch, xsimd::neon64>)
    return dots == DotProducts::int8 ? "neon64+dot+i8mm" : "neon64";
  else return "sse2";
}

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
