// SPDX-License-Identifier: MIT
// Packing a matrix costs a copy, so nothing becomes an operator unasked.
// Expected: could not convert|no viable conversion
#include "pleat/matrix/dense.hpp"

pleat::Dense<float> pack(const Eigen::MatrixXf& W);

pleat::Dense<float> pack(const Eigen::MatrixXf& W) {
#ifdef PLEAT_SHOULD_FAIL
  return W;
#else
  return pleat::Dense<float>(W);
#endif
}
