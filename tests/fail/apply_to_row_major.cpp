// SPDX-License-Identifier: MIT
// Activations that lie row by row are not copied unasked: they are mapped as what they are.
// Expected: would be copied in every call
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Input = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
#else
using Input = Eigen::MatrixXf;
#endif

void run(const pleat::Dense<float>& op, const Input& X, Eigen::MatrixXf& Y);

void run(const pleat::Dense<float>& op, const Input& X, Eigen::MatrixXf& Y) { op.apply(X, Y); }
