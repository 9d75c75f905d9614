// SPDX-License-Identifier: MIT
// The outputs of an apply are written, so they cannot be const.
// Expected: the output is written, so it is neither const nor a temporary
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Output = Eigen::Map<const Eigen::MatrixXf>;
#else
using Output = Eigen::Map<Eigen::MatrixXf>;
#endif

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output Y);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output Y) { op.apply(X, Y); }
