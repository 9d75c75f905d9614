// SPDX-License-Identifier: MIT
// The instruction sets that have kernels, as xsimd names them.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/detail/narrow/dot_products_neon.hpp"
#include "pleat/kernel/detail/narrow/dot_products_x86.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

// Not xsimd::default_arch: of the many x86 levels only three have kernels that differ, and batches
// of fma3<avx2> emit a fused multiply-add on every compiler, where those of avx2 leave it to
// chance.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
using StaticArch = xsimd::avx512bw;
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__) && defined(__AVX512VBMI__)
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

/// The name of an instruction set, as `Table::arch` and PLEAT_FORCE_ARCH have it: without dot
/// products of its own, and with them.
template <class Arch>
struct ArchName {
  static constexpr const char* plain = "sse2";
  static constexpr const char* dots = "sse2";
};
template <>
struct ArchName<xsimd::avx512bw> {
  static constexpr const char* plain = "avx512";
  static constexpr const char* dots = "avx512+vnni";
};
template <>
struct ArchName<xsimd::fma3<xsimd::avx2>> {
  static constexpr const char* plain = "fma3+avx2";
  static constexpr const char* dots = "avx2+vnni";
};
template <>
struct ArchName<xsimd::neon64> {
  static constexpr const char* plain = "neon64";
  static constexpr const char* dots = "neon64+dot+i8mm";
};
template <class Arch, class Dots>
[[nodiscard, gnu::always_inline]] constexpr const char* arch_name() noexcept {
  return Dots::kind == DotProducts::int8_bf16 ? "avx512+vnni+bf16"
         : Dots::kind == DotProducts::int8    ? ArchName<Arch>::dots
                                              : ArchName<Arch>::plain;
}

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
