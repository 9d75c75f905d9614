// SPDX-License-Identifier: MIT
// An index of 32 bits would overflow where a matrix has more elements.
// Expected: pleat needs Eigen's default index
#ifdef PLEAT_SHOULD_FAIL
#define EIGEN_DEFAULT_DENSE_INDEX_TYPE int
#endif
#include <pleat/core/scalar.hpp>

int main() { return static_cast<int>(sizeof(pleat::Index)) == 0; }
