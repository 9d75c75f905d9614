// SPDX-License-Identifier: MIT
// A static object whose destructor applies an operator, after the workspace of its thread has gone.
#include "pleat/core/compose.hpp"
#include "pleat/matrix/dense.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

struct Late {
  pleat::Product<pleat::Dense<float>, pleat::Dense<float>> op{
      pleat::Dense<float>(Eigen::MatrixXf::Identity(300, 300)),
      pleat::Dense<float>(Eigen::MatrixXf::Identity(300, 300))};
  Eigen::MatrixXf X = Eigen::MatrixXf::Random(300, 100);

  Late() = default;
  Late(const Late&) = delete;
  Late& operator=(const Late&) = delete;
  ~Late() {
    Eigen::MatrixXf Y(300, 100);
    for (int i = 0; i < 2; ++i) op.apply(X, Y);
    if (Y != X) {
      std::fputs("what was applied in a destructor is wrong\n", stderr);
      std::_Exit(EXIT_FAILURE);
    }
    std::puts("applied in a destructor");
  }
};

const Late& late() {
  static const Late object;
  return object;
}

}  // namespace

int main() {
  Eigen::MatrixXf Y(300, 100);
  late().op.apply(late().X, Y);
}
