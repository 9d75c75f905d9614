// SPDX-License-Identifier: MIT
// An operator of your own, used together with the library's: a diagonal matrix, which pleat does
// not have, in a sum with a low-rank one, which it does.
#include <pleat/pleat.hpp>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

// What = diag(d). `OperatorBase` gives the six calls of an operator (apply, apply_add and
// apply_transpose, each with and without a workspace) with their checks, and to_dense. A type need
// not derive from it: whatever has these members is an operator.
class Diagonal : public pleat::OperatorBase<Diagonal, float> {
 public:
  explicit Diagonal(Eigen::VectorXf d) : d_(std::move(d)) {}

  [[nodiscard]] Eigen::Index rows() const { return d_.size(); }
  [[nodiscard]] Eigen::Index cols() const { return d_.size(); }

  // What must be stored, and what one sample costs, where a multiply-add counts two.
  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(d_.size()) * sizeof(float);
  }
  [[nodiscard]] double flops() const { return 2 * static_cast<double>(d_.size()); }

  // Optional: its name, where `describe` would say "custom".
  [[nodiscard]] std::string structure() const { return "Diagonal"; }

 private:
  // The two calls that the others are made of; their arguments have been checked. `overwrite` must
  // not read Y, where anything may lie. Scratch memory, which is not needed here, would come from
  // the workspace: operators are const and shared by threads.
  friend pleat::OperatorBase<Diagonal, float>;
  void evaluate(const pleat::ConstMatrixRef<float>& X, pleat::MatrixRef<float>& Y,
                pleat::Update update, pleat::Workspace&) const {
    if (update == pleat::Update::overwrite) Y = d_.asDiagonal() * X;
    else Y += d_.asDiagonal() * X;
  }
  void evaluate_transpose(const pleat::ConstMatrixRef<float>& Y, pleat::MatrixRef<float>& X,
                          pleat::Workspace&) const {
    X = d_.asDiagonal() * Y;  // a diagonal matrix is its own transpose
  }

  Eigen::VectorXf d_;
};

// The compiler says here, and not deep inside a template, if a member is missing.
static_assert(pleat::LinearOperator<Diagonal>);

int main() {
  // A weight that low rank alone cannot hold: rank 8 and a diagonal, which has full rank.
  constexpr Eigen::Index n = 128;
  std::srand(1);  // Eigen's Random() draws from rand()
  const Eigen::VectorXf d = 4 * Eigen::VectorXf::Random(n);
  const Eigen::MatrixXf smooth = Eigen::MatrixXf::Random(n, 8) * Eigen::MatrixXf::Random(8, n);
  Eigen::MatrixXf W = smooth;
  W.diagonal() += d;

  // Take the diagonal out, compress what is left, and add the two as operators.
  const auto low_rank = pleat::compress<pleat::LowRank>(W, pleat::keep(0.2));
  const pleat::Sum sum(Diagonal(d), pleat::compress<pleat::LowRank>(smooth, pleat::keep(0.19)));
  std::printf("%s: error %.2g\n", pleat::describe(low_rank).c_str(),
              pleat::relative_error(W, low_rank));
  std::printf("%s: error %.2g\n", pleat::describe(sum).c_str(), pleat::relative_error(W, sum));

  // A sum is an operator like any other, and fits where a model keeps its layers.
  const pleat::AnyOperator<float> layer = sum;
  const Eigen::MatrixXf X = Eigen::MatrixXf::Random(n, 10);
  Eigen::MatrixXf Y(n, 10);
  layer.apply(X, Y);

  const float error = (Y - W * X).norm() / (W * X).norm();
  std::printf("applied to 10 samples, it differs from the dense weight by %.2g\n",
              static_cast<double>(error));
  return error < 1e-5F ? EXIT_SUCCESS : EXIT_FAILURE;
}
