// SPDX-License-Identifier: MIT
// One optimized call: compilers have seen writes past a buffer here that are none.
#include <pleat/matrix/dense.hpp>

void apply(const pleat::Dense<double>& op, const Eigen::VectorXd& x, Eigen::VectorXd& y);
void apply(const pleat::Dense<double>& op, const Eigen::VectorXd& x, Eigen::VectorXd& y) {
  op.apply(x, y);
}
