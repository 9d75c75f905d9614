// SPDX-License-Identifier: MIT
// The outputs of an apply are written, so they cannot be const.
// Expected: THIS_EXPRESSION_IS_NOT_A_LVALUE__IT_IS_READ_ONLY
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Output = Eigen::Map<const Eigen::MatrixXf>;
#else
using Output = Eigen::Map<Eigen::MatrixXf>;
#endif

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output Y);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output Y) { op.apply(X, Y); }
