// SPDX-License-Identifier: MIT
// The library xsimd, whatever macros the program has.
#pragma once

// <complex.h> has a macro of this name, and xsimd template parameters.
#pragma push_macro("I")
#undef I
#include <xsimd/xsimd.hpp>
#pragma pop_macro("I")
