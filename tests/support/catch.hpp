// SPDX-License-Identifier: MIT
// Catch2, whichever of its versions 2 and 3 is installed.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

// The scalars of tests of bricks. Where tests are reduced, doubles are left to the conformance
// suite, which asks every brick in both, and to the kernels' own.
#ifdef PLEAT_TEST_REDUCED
#define PLEAT_TEST_SCALARS float
#else
#define PLEAT_TEST_SCALARS float, double
#endif
