// SPDX-License-Identifier: MIT
// The weights that make of compressed inputs what others make of the original ones.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/solve/linear/inverse_factor.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// For pairs of inputs x and x' = x - delta (see `CrossMoment`) and W: m x n, the change N for
/// which (W + N) x' is close to W x. With d the diagonal of G' = X' X'^T, it minimises
///
///     (1 - a) || N X' - W Delta ||_F^2 + a || N diag(d)^(1/2) ||_F^2,
///
/// so N = (1 - a) W D G'_a^-1 with the shrunk Gram matrix G'_a = (1 - a) G' + a diag(d): from least
/// squares, a = 0, to W as it is, a = 1, to which few samples come near. Of all N that are as good
/// it is the least in d: what no x' has shown keeps the weights of W.
///
/// Solved in C = diag(d)^(-1/2) G' diag(d)^(-1/2), n x n; while T samples are held, with Y =
/// diag(d)^(-1/2) X', in Y^T Y, T x T, and no n x n matrix is formed. Directions that carry less
/// than 1e-8 of the mean of C, in float 2.4e-7, are not told from the rounding of sums and of x',
/// and keep the weights of W, too; steps of refinement take away what damping by so little changes
/// in the others.
template <class = void>
class CrossFit {
 public:
  template <Real T>
  CrossFit(const Matrix<double>& W, const Calibration<T>& pairs)
      : relative_((std::max)(1e-8, 2 * double(std::numeric_limits<T>::epsilon()))) {
    samples_ = pairs.held_samples().template cast<double>();
    if (samples_.size() > 0) {
      Matrix<double> differences = CalibrationAccess::differences(pairs);
      unit_ = power_of_two_below(
          (std::max)(samples_.cwiseAbs().maxCoeff(), differences.cwiseAbs().maxCoeff()));
      samples_ /= unit_;
      differences /= unit_;
      take_roots(samples_.rowwise().squaredNorm());
      target_ = multiply(W, differences);
      K_ = outer_gram(Matrix<double>(samples_.transpose() * inverse_.asDiagonal()));
      return;
    }
    CrossMoment<> cross = CalibrationAccess::cross_moment(pairs);
    K_ = pairs.gram();
    const Index n = K_.rows();
    if (cross.empty()) cross = {Matrix<double>::Zero(n, n), Matrix<double>::Zero(n, n)};
    unit_ = std::sqrt(
        power_of_two_below((std::max)(K_.diagonal().maxCoeff(), cross.Q.diagonal().maxCoeff())));
    const double square = unit_ * unit_;
    take_roots(K_.diagonal().cwiseMax(0) / square);
    K_ = inverse_.asDiagonal() * (K_ / square) * inverse_.asDiagonal();
    K_.diagonal().setOnes();
    target_ = multiply(W, cross.D) / square;
    rest_ = multiply(W, cross.Q).cwiseProduct(W).sum() / square;
  }

  /// N, m x n.
  [[nodiscard]] Matrix<double> change(double a) const {
    const Index n = roots_.size();
    if (a >= 1 || !(roots_.maxCoeff() > 0)) return Matrix<double>::Zero(target_.rows(), n);
    Matrix<double> H = (1 - a) * K_;
    const bool held = samples_.size() > 0;
    if (held) H.diagonal().array() += a;
    else H.diagonal().setOnes();
    const InverseFactor factor = inverse_factor(H, relative_);
    if (factor.diagonal) return Matrix<double>::Zero(target_.rows(), n);
    const Matrix<double> lower = factor.U.transpose();
    const auto over = [&](const Matrix<double>& B) {
      return multiply(multiply(B, lower), factor.U);
    };
    if (!held) {
      const Matrix<double> R = (1 - a) * (target_ * inverse_.asDiagonal());
      Matrix<double> N = over(R);
      for (int step = 0; step < refinements; ++step) N += over(R - multiply(N, H));
      return N * inverse_.asDiagonal();
    }
    // H H^-2: equal samples may have had different originals, and what H has no part in must not
    // be divided by the damping alone.
    const auto within = [&](const Matrix<double>& B) { return over(over(multiply(B, H))); };
    const Matrix<double> R = (1 - a) * target_;
    Matrix<double> Z = within(R);
    for (int step = 0; step < refinements; ++step) Z += within(R - multiply(Z, H));
    return multiply(Z, Matrix<double>(samples_.transpose() * inverse_.asDiagonal())) *
           inverse_.asDiagonal();
  }

  /// || (W + N) X' - W X ||_F^2 over the square of `unit`.
  [[nodiscard]] double loss(const Matrix<double>& N) const {
    if (samples_.size() > 0) return (multiply(N, samples_) - target_).squaredNorm();
    const Matrix<double> V = N * roots_.asDiagonal();
    const double sum =
        multiply(V, K_).cwiseProduct(V).sum() - 2 * N.cwiseProduct(target_).sum() + rest_;
    return sum < 0 ? 0 : sum;
  }
  [[nodiscard]] double unit() const noexcept { return unit_; }

 private:
  static constexpr int refinements = 2;

  void take_roots(const Vector<double>& squares) {
    roots_ = squares.cwiseSqrt();
    inverse_ = roots_.unaryExpr([](double root) { return root > 0 ? 1 / root : 0; });
  }

  double relative_;
  double unit_ = 1;
  Matrix<double> samples_{};  // X', while they are held
  Vector<double> roots_{};    // d^(1/2)
  Vector<double> inverse_{};  // d^(-1/2), and 0 where d is
  Matrix<double> K_{};        // Y^T Y where samples are held, else C
  Matrix<double> target_{};   // W Delta where samples are held, else W D
  double rest_ = 0;           // tr(W Q W^T), where they are not
};

/// The a of `CrossFit` for W: the change fitted to one fold, judged by the other, for at most 128
/// rows; from 1024 inputs on one way only. Unlike a Gram matrix, N may well be 0: where the most
/// that is tried of shrinkage is best, more is tried, up to 1. Takes W times a scale that does not
/// overflow.
template <Real T>
[[nodiscard]] double cross_shrinkage(const Matrix<double>& W, const Calibration<T>& pairs,
                                     const Monitor& monitor) {
  std::function<double(double)> judge;
  double best = 0;
  double least = std::numeric_limits<double>::infinity();
  const double a = chosen_shrinkage(pairs, 1, monitor, [&](const auto& folds) {
    const Matrix<double> rows = some_weighted_rows(W, pairs, 128);
    const std::size_t ways = W.cols() < 1024 ? 2 : 1;
    judge = [ways, fits = std::array<CrossFit<>, 2>{CrossFit<>(rows, folds[0]),
                                                    CrossFit<>(rows, folds[1])}](double tried) {
      double sum = 0;
      for (std::size_t fold = 0; fold < ways; ++fold) {
        const double share = fits[1 - fold].unit() / fits[0].unit();
        sum += fits[1 - fold].loss(fits[fold].change(tried)) * share * share;
      }
      return sum;
    };
    return std::function<double(double)>([&](double tried) {
      const double loss = judge(tried);
      if (loss < least) {
        least = loss;
        best = tried;
      }
      return loss;
    });
  });
  if (best < 0.9) return a;
  for (const double more : {0.97, 0.99, 0.997, 1.0}) {
    if (more <= best) continue;
    const double loss = judge(more);
    if (!(loss <= least)) break;
    least = loss;
    best = more;
  }
  // As `chosen_shrinkage` has it: of twice as many samples half the odds are wanted.
  return best <= 0.9 ? a : best / (2 - best);
}

/// W + N for a, m x n; W itself where no pair differs.
template <Real T>
[[nodiscard]] Matrix<double> cross_target(const Matrix<double>& W, const Calibration<T>& pairs,
                                          double a) {
  const double scale = power_of_two_below(W.cwiseAbs().maxCoeff());
  return W + scale * CrossFit<>(W / scale, pairs).change(a);
}

/// Throws `std::invalid_argument` where samples came in pairs, for what can do nothing with them.
template <Real T>
void require_no_pairs(const char* call, const Calibration<T>& calibration) {
  require(!calibration.paired(), [&] {
    return std::string(call) +
           ": it takes a calibration of samples, add(X), not of pairs, add(X, X_compressed)";
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
