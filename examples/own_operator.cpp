// SPDX-License-Identifier: MIT
// An operator of your own, used together with the library's: a convolution, which pleat does not
// have, in a sum with a low-rank matrix, which it does.
#include <pleat/pleat.hpp>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

// A causal convolution of n samples of a signal: y_i = f_0 x_i + f_1 x_(i - 1) + ..., where what
// lies before the first sample counts as 0. `OperatorBase` gives the six calls of an operator
// (apply, apply_add and apply_transpose, each with and without a workspace) with their checks, and
// to_dense. A type need not derive from it: whatever has these members is an operator.
class Convolution : public pleat::OperatorBase<Convolution, float> {
 public:
  Convolution(Eigen::VectorXf filter, Eigen::Index samples)
      : filter_(std::move(filter)), samples_(samples) {}

  [[nodiscard]] Eigen::Index rows() const { return samples_; }
  [[nodiscard]] Eigen::Index cols() const { return samples_; }

  // What must be stored, and what one signal costs, where a multiply-add counts two.
  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(filter_.size()) * sizeof(float);
  }
  [[nodiscard]] double flops() const {
    return 2 * static_cast<double>(filter_.size()) * static_cast<double>(samples_);
  }

  // Optional: its name, where `describe` would say "custom".
  [[nodiscard]] std::string structure() const { return "Convolution"; }

 private:
  // The two calls that the others are made of; their arguments have been checked. With `overwrite`,
  // Y must not be read before it is set: anything may lie there. Scratch memory, which is not
  // needed here, would come from the workspace: operators are const and shared by threads.
  friend pleat::OperatorBase<Convolution, float>;
  void evaluate(const pleat::ConstMatrixRef<float>& X, pleat::MatrixRef<float>& Y,
                pleat::Update update, pleat::Workspace&) const {
    if (update == pleat::Update::overwrite) Y.setZero();
    for (Eigen::Index k = 0; k < filter_.size(); ++k)
      Y.bottomRows(samples_ - k) += filter_[k] * X.topRows(samples_ - k);
  }
  void evaluate_transpose(const pleat::ConstMatrixRef<float>& Y, pleat::MatrixRef<float>& X,
                          pleat::Workspace&) const {
    X.setZero();
    for (Eigen::Index k = 0; k < filter_.size(); ++k)
      X.topRows(samples_ - k) += filter_[k] * Y.bottomRows(samples_ - k);
  }

  Eigen::VectorXf filter_;  // not longer than the signal
  Eigen::Index samples_;
};

// The compiler says here, and not deep inside a template, if a member is missing.
static_assert(pleat::LinearOperator<Convolution>);

int main() {
  // A weight that low rank alone cannot hold: rank 8 and a convolution, which has full rank.
  constexpr Eigen::Index n = 128;
  std::srand(1);  // Eigen's Random() draws from rand()
  const Eigen::VectorXf filter = 4.0F * Eigen::VectorXf::Random(5);
  const Eigen::MatrixXf smooth = Eigen::MatrixXf::Random(n, 8) * Eigen::MatrixXf::Random(8, n);
  Eigen::MatrixXf W = smooth;
  for (Eigen::Index k = 0; k < filter.size(); ++k) W.diagonal(-k).array() += filter[k];

  // Take the convolution out, compress what is left, and add the two as operators.
  const auto low_rank = pleat::compress<pleat::LowRank>(W, pleat::keep(0.2));
  const pleat::Sum sum(Convolution(filter, n),
                       pleat::compress<pleat::LowRank>(smooth, pleat::keep(0.19)));
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
