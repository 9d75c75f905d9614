// SPDX-License-Identifier: MIT
// <complex.h> before everything else: its macro I is the name of template parameters elsewhere.
#include <complex.h>
#ifndef I
#error "this tests nothing: I is no macro"
#endif
#include <pleat/pleat.hpp>
#ifndef I
#error "pleat takes macros away"
#endif

int main() { return pleat::version().major_number; }
