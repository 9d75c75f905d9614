// SPDX-License-Identifier: MIT
// Inputs have the operator's scalar: doubles are not rounded to floats unasked.
// Expected: the input is not of the operator's scalar
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Input = Eigen::MatrixXd;
#else
using Input = Eigen::MatrixXf;
#endif

void run(const pleat::Dense<float>& op, const Input& X, Eigen::MatrixXf& Y);

void run(const pleat::Dense<float>& op, const Input& X, Eigen::MatrixXf& Y) { op.apply(X, Y); }
