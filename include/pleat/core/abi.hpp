// SPDX-License-Identifier: MIT
// What a program must be compiled with, and the inline namespace of the library: what changes the
// code or the layout of a type changes its name.
#pragma once

// Before anything that older compilers could stumble over.
#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 202002L
#error "pleat needs C++20: compile with -std=c++20 (or /std:c++20)"
#endif
#if !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "pleat reports errors by exceptions: compile without -fno-exceptions"
#endif

#include <Eigen/Core>

#include <cstddef>

// The build finds some Eigen, but another project may have found it first, of any version.
static_assert(EIGEN_VERSION_AT_LEAST(3, 4, 0), "pleat needs Eigen 3.4 or later");
// Matrices of that order would be read as their transposes.
static_assert(!Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic>::IsRowMajor,
              "pleat needs Eigen's default order, column by column: no EIGEN_DEFAULT_TO_ROW_MAJOR");
// A product of two extents would overflow.
static_assert(sizeof(Eigen::Index) >= sizeof(std::ptrdiff_t),
              "pleat needs Eigen's default index: no EIGEN_DEFAULT_DENSE_INDEX_TYPE");

// Two translation units compiled for different instruction sets, or with and without OpenMP, hold
// different bodies of the same inline functions. Were the names equal, the linker would keep one of
// them for the whole program, and an older CPU could meet instructions that it does not have. And
// two that include different Eigens, or one that aligns memory differently, disagree on how a
// matrix lies in memory, and on how it is freed. So the instruction set of the kernels, OpenMP, and
// Eigen's version and alignment are part of every symbol, and a function of the user's that takes a
// pleat type across such a border fails to link, with both names in the message:
// "v0_fma3_avx2_4_0_32" is that of AVX2 and Eigen 3.4.0 where it aligns memory to 32 bytes.
//
// PLEAT_DISPATCH is defined by the CMake target pleat::dispatch: the kernels are then those of the
// CPU that the program finds itself on, and the instruction set of the user's own code does not
// matter.
// clang-format off
#if defined(PLEAT_DISPATCH)
#ifdef _OPENMP
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_dispatch_openmp_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#else
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_dispatch_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#endif
#elif defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512BW__)
#ifdef _OPENMP
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_avx512_openmp_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#else
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_avx512_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#endif
#elif defined(__AVX2__) && defined(__FMA__)
#ifdef _OPENMP
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_fma3_avx2_openmp_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#else
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_fma3_avx2_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#endif
#elif defined(__aarch64__)
#ifdef _OPENMP
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_neon64_openmp_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#else
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_neon64_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#endif
#else
#ifdef _OPENMP
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_sse2_openmp_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#else
#define PLEAT_ABI EIGEN_CAT(EIGEN_CAT(EIGEN_CAT(v0_sse2_, EIGEN_MAJOR_VERSION), \
  EIGEN_CAT(_, EIGEN_MINOR_VERSION)), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES))
#endif
#endif
// clang-format on
