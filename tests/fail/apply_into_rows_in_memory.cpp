// SPDX-License-Identifier: MIT
// A row-major output is not written through a copy that nobody would see.
// Expected: the output is written in place, so it is column-major
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Output = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
#else
using Output = Eigen::MatrixXf;
#endif

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output& Y);

void run(const pleat::Dense<float>& op, const Eigen::MatrixXf& X, Output& Y) { op.apply(X, Y); }
