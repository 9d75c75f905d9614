// SPDX-License-Identifier: MIT
// The inline namespace of the kernels: what changes the code of an inline function changes its
// name.
#pragma once

// Two translation units compiled for different instruction sets, or with and without OpenMP, hold
// different bodies of the same inline functions. Were the names equal, the linker would keep one of
// them for the whole program, and an older CPU could meet instructions that it does not have. So
// the instruction set of the kernels and OpenMP are part of every symbol, and a function of the
// user's that takes a pleat type across such a border fails to link, with both names in the
// message.
//
// PLEAT_DISPATCH is defined by the CMake target pleat::dispatch: the kernels are then those of the
// CPU that the program finds itself on, and the instruction set of the user's own code does not
// matter.
#if defined(PLEAT_DISPATCH)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_dispatch_openmp
#else
#define PLEAT_KERNEL_ABI v0_dispatch
#endif
#elif defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) &&    \
    defined(__AVX512BW__) && defined(__AVX512VNNI__) && defined(__AVX512BF16__) && \
    defined(__AVX512VBMI__)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_avx512_vnni_bf16_openmp
#else
#define PLEAT_KERNEL_ABI v0_avx512_vnni_bf16
#endif
#elif defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512BW__) && defined(__AVX512VNNI__)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_avx512_vnni_openmp
#else
#define PLEAT_KERNEL_ABI v0_avx512_vnni
#endif
#elif defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512BW__)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_avx512_openmp
#else
#define PLEAT_KERNEL_ABI v0_avx512
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_avx2_vnni_openmp
#else
#define PLEAT_KERNEL_ABI v0_avx2_vnni
#endif
#elif defined(__AVX2__) && defined(__FMA__)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_fma3_avx2_openmp
#else
#define PLEAT_KERNEL_ABI v0_fma3_avx2
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_neon64_dot_openmp
#else
#define PLEAT_KERNEL_ABI v0_neon64_dot
#endif
#elif defined(__aarch64__)
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_neon64_openmp
#else
#define PLEAT_KERNEL_ABI v0_neon64
#endif
#else
#ifdef _OPENMP
#define PLEAT_KERNEL_ABI v0_sse2_openmp
#else
#define PLEAT_KERNEL_ABI v0_sse2
#endif
#endif
