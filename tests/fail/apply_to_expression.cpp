// SPDX-License-Identifier: MIT
// An expression is not evaluated anew in every call unasked.
// Expected: would be copied in every call
#include "pleat/matrix/dense.hpp"

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Eigen::MatrixXf& Y);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Eigen::MatrixXf& Y) {
#ifdef PLEAT_SHOULD_FAIL
  op.apply_add(2 * X, Y);
#else
  op.apply_add(X, Y);
#endif
}
