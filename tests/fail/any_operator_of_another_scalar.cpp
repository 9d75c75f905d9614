// SPDX-License-Identifier: MIT
// An AnyOperator of floats does not hold an operator on doubles.
// Expected: no matching (function|conversion)
#include "pleat/core/any_operator.hpp"
#include "pleat/matrix/dense.hpp"

pleat::AnyOperator<float> hold(const pleat::Dense<float>& a, const pleat::Dense<double>& b);

pleat::AnyOperator<float> hold(const pleat::Dense<float>& a, const pleat::Dense<double>& b) {
#ifdef PLEAT_SHOULD_FAIL
  return pleat::AnyOperator<float>(b);
#else
  (void)b;
  return pleat::AnyOperator<float>(a);
#endif
}
