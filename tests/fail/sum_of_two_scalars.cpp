// SPDX-License-Identifier: MIT
// An operator on floats and one on doubles have no sum.
// Expected: constraints? not satisfied|constraint failure
#include "pleat/core/compose.hpp"
#include "pleat/matrix/dense.hpp"

pleat::Index rows(const pleat::Dense<float>& a, const pleat::Dense<double>& b);

pleat::Index rows(const pleat::Dense<float>& a, const pleat::Dense<double>& b) {
#ifdef PLEAT_SHOULD_FAIL
  return pleat::Sum(a, b).rows();
#else
  return pleat::Sum(a, a).rows() + pleat::Sum(b, b).rows();
#endif
}
