// SPDX-License-Identifier: MIT
// The main of Catch2 2, for a CPU that the installed library with it is not for.
#define CATCH_CONFIG_MAIN
#include "support/catch.hpp"
