// SPDX-License-Identifier: MIT
// The instruction set that this translation unit is compiled for, as xsimd names it.
#pragma once

#include "pleat/kernel/abi.hpp"

#include <xsimd/xsimd.hpp>

namespace pleat {
inline namespace PLEAT_ABI {
namespace kernel::detail {

// Not xsimd::default_arch: of the many x86 levels only three have kernels that differ, and batches
// of fma3<avx2> emit a fused multiply-add on every compiler, where those of avx2 leave it to
// chance.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
using StaticArch = xsimd::avx512bw;
inline constexpr const char* static_arch_name = "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
using StaticArch = xsimd::fma3<xsimd::avx2>;
inline constexpr const char* static_arch_name = "fma3+avx2";
#elif defined(__aarch64__)
using StaticArch = xsimd::neon64;
inline constexpr const char* static_arch_name = "neon64";
#else
using StaticArch = xsimd::sse2;
inline constexpr const char* static_arch_name = "sse2";
#endif

}  // namespace kernel::detail
}  // namespace PLEAT_ABI
}  // namespace pleat
