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

#include "pleat/kernel/abi.hpp"

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

// Two translation units that include different Eigens, or one that aligns memory differently,
// disagree on how a matrix lies in memory, and on how it is freed. So Eigen's version and alignment
// are part of every symbol, beside what is part of those of the kernels: "v0_fma3_avx2_4_0_32" is
// that of AVX2 and Eigen 3.4.0 where it aligns memory to 32 bytes. A function of the user's that
// takes a pleat type across such a border fails to link, with both names in the message.
#define PLEAT_ABI                                                           \
  EIGEN_CAT(EIGEN_CAT(PLEAT_KERNEL_ABI, EIGEN_CAT(_, EIGEN_MAJOR_VERSION)), \
            EIGEN_CAT(EIGEN_CAT(_, EIGEN_MINOR_VERSION), EIGEN_CAT(_, EIGEN_MAX_ALIGN_BYTES)))
