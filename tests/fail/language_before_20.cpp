// SPDX-License-Identifier: MIT
// The standard before C++20 is named first, not what it does not parse.
// Flags: -std=c++17
// Expected: pleat needs C\+\+20
#include <pleat/matrix/dense.hpp>
