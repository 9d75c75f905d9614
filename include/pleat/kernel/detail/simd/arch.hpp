// SPDX-License-Identifier: MIT
// The instruction sets that have kernels, as xsimd names them.
#pragma once

#include "pleat/kernel/detail/simd/xsimd.hpp"

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

// Not xsimd::default_arch: of the many x86 levels only three have kernels that differ, and batches
// of fma3<avx2> emit a fused multiply-add on every compiler, where those of avx2 leave it to
// chance.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
using StaticArch = xsimd::avx512bw;
#elif defined(__AVX2__) && defined(__FMA__)
using StaticArch = xsimd::fma3<xsimd::avx2>;
#elif defined(__aarch64__)
using StaticArch = xsimd::neon64;
#else
using StaticArch = xsimd::sse2;
#endif

/// The name of an instruction set, as `Table::arch` and PLEAT_FORCE_ARCH have it.
template <class Arch>
inline constexpr const char* arch_name = nullptr;
template <>
inline constexpr const char* arch_name<xsimd::avx512bw> = "avx512";
template <>
inline constexpr const char* arch_name<xsimd::fma3<xsimd::avx2>> = "fma3+avx2";
template <>
inline constexpr const char* arch_name<xsimd::neon64> = "neon64";
template <>
inline constexpr const char* arch_name<xsimd::sse2> = "sse2";

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
