// SPDX-License-Identifier: MIT
// Outputs have the operator's scalar: floats are not made doubles unasked.
// Expected: the output is not of the operator's scalar
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Output = Eigen::MatrixXd;
#else
using Output = Eigen::MatrixXf;
#endif

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output& Y);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output& Y) { op.apply(X, Y); }
