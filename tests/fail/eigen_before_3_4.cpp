// SPDX-License-Identifier: MIT
// Expected: pleat needs Eigen 3\.4 or later
// An Eigen that another project found, too old, is refused by name.
#include <Eigen/Core>
#ifdef PLEAT_SHOULD_FAIL
#undef EIGEN_MAJOR_VERSION
#define EIGEN_MAJOR_VERSION 3
#endif
#include "pleat/core/scalar.hpp"

int main() { return static_cast<int>(pleat::Index{0}); }
