// SPDX-License-Identifier: MIT
// Composes, applies and describes an operator, and checks the result.
#include "other.hpp"

#include <pleat/pleat.hpp>

#include <cstdio>
#include <cstdlib>

int main() {
  Eigen::MatrixXf W(3, 2);
  W << 1, 2, 3, 4, 5, 6;
  const pleat::AnyOperator<float> op = twice(pleat::Dense<float>(W));
  const Eigen::VectorXf x = Eigen::VectorXf::Ones(2);
  Eigen::VectorXf y(3);
  op.apply(x, y);

  const pleat::Version version = pleat::version();
  std::printf("pleat %d.%d.%d: %s\n", version.major_number, version.minor_number,
              version.patch_number, pleat::describe(op).c_str());
  return y == Eigen::Vector3f(6, 14, 22) ? EXIT_SUCCESS : EXIT_FAILURE;
}
