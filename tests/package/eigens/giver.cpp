// SPDX-License-Identifier: MIT
// Hands an operator to another translation unit.
#include <pleat/matrix/diagonal.hpp>

Eigen::Index size_of_theirs(const pleat::Diagonal<float>& op);

int main() {
  const pleat::Diagonal<float> op(Eigen::VectorXf::Ones(3));
  return size_of_theirs(op) == 3 ? 0 : 1;
}
