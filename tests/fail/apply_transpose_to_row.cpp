// SPDX-License-Identifier: MIT
// A row of a matrix has its values far apart: it is not copied unasked.
// Expected: would be copied in every call
#include "pleat/matrix/dense.hpp"

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& Y, Eigen::MatrixXf& X);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& Y, Eigen::MatrixXf& X) {
#ifdef PLEAT_SHOULD_FAIL
  op.apply_transpose(Y.row(0).transpose(), X);
#else
  op.apply_transpose(Y.col(0), X);
#endif
}
