// SPDX-License-Identifier: MIT
// The library throws, and says so.
// Flags: -fno-exceptions
// Expected: pleat reports errors by exceptions
#include <pleat/matrix/dense.hpp>
