// SPDX-License-Identifier: MIT
// Activations have the operator's scalar: doubles are not rounded to floats unasked.
// Expected: no matching (member )?function|YOU_MIXED_DIFFERENT_NUMERIC_TYPES
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Output = Eigen::MatrixXd;
#else
using Output = Eigen::MatrixXf;
#endif

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output& Y);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output& Y) { op.apply(X, Y); }
