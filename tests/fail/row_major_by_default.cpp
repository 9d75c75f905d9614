// SPDX-License-Identifier: MIT
// Expected: pleat needs Eigen's default order
// Where every matrix is row-major by default, nothing compiles: not even by accident.
#ifdef PLEAT_SHOULD_FAIL
#define EIGEN_DEFAULT_TO_ROW_MAJOR
#endif
#include "pleat/core/scalar.hpp"

int main() { return static_cast<int>(pleat::Index{0}); }
