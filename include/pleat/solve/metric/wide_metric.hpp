// SPDX-License-Identifier: MIT
// The metric of a wide layer with few samples: a diagonal and a low rank, never n x n.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// H = D + X X^T, n x n, with D diagonal and X: n x T of a few samples; of trace about n.
///
/// From samples x, scaled to a mean square of 1, it is H = a diag((1 - b) d + b) + (1 - a) sum of
/// x x^T / T, with d their energies: what so few samples say of covariances, and of energies, is
/// drawn towards none, and towards equal ones, by as much as it is noise (O. Ledoit and M. Wolf
/// 2003; J. Schaefer and K. Strimmer 2005, the estimates of a and b). For inputs that are
/// independent, H is about the identity.
template <class = void>
class WideMetric {
 public:
  /// Of D, positive, and X.
  WideMetric(Vector<double> D, Matrix<double> X) : D_(std::move(D)), X_(std::move(X)) {}

  /// For a calibration that still holds its samples, and that few of them that a matrix of n x n
  /// would be waste; else nothing.
  template <Real T>
  [[nodiscard]] static std::optional<WideMetric> of(const Calibration<T>& calibration) {
    if (calibration.samples() == 0 || !few_for(calibration.inputs(), calibration.samples()))
      return std::nullopt;
    const Matrix<T> held = calibration.held_samples();
    if (held.cols() == 0) return std::nullopt;
    return of_samples(held.template cast<double>(), calibration.shrinkage());
  }

  /// For samples, n x T; with the shrinkage a that was set, if one was, and b = 0.
  [[nodiscard]] static WideMetric of_samples(Matrix<double> X, std::optional<double> set = {}) {
    const Index n = X.rows();
    const auto count = static_cast<double>(X.cols());
    const double largest = X.size() > 0 ? X.cwiseAbs().maxCoeff() : 0;
    if (!(largest > 0)) return {Vector<double>::Ones(n), Matrix<double>(n, 0)};
    X /= largest;
    X *= std::sqrt(static_cast<double>(n) / X.squaredNorm());  // d below: of mean 1
    const Vector<double> d = X.rowwise().squaredNorm();
    const double spread = (d.array() - 1).square().sum();
    const double b =
        set ? 0
            : share_of_noise(X.array().square().square().sum() - d.squaredNorm() / count, spread,
                             count);
    // Covariances as correlations: else the largest inputs would speak for all.
    const Vector<double> scale =
        d.unaryExpr([](double energy) { return energy > 0 ? 1 / std::sqrt(energy) : 0; });
    const Matrix<double> Y = scale.asDiagonal() * X;
    const auto alive = static_cast<double>((d.array() > 0).count());
    const double products = multiply(Matrix<double>(Y.transpose()), Y).squaredNorm() - alive;
    const double squares =
        Y.colwise().squaredNorm().squaredNorm() - Y.array().square().square().sum();
    // As SparseGPT damps, at the least.
    const double a =
        set ? *set : (std::max)(0.01, share_of_noise(squares - products / count, products, count));
    Vector<double> D = (a * ((1 - b) * d.array() + b) + 1e-8).matrix();
    if (a >= 1) return {std::move(D), Matrix<double>(n, 0)};
    X *= std::sqrt(1 - a);
    return {std::move(D), std::move(X)};
  }

  /// Columns of X.
  [[nodiscard]] Index rank() const noexcept { return X_.cols(); }

  /// The diagonal of H.
  [[nodiscard]] Vector<double> diagonal() const { return D_ + X_.rowwise().squaredNorm(); }

  /// tr(E H E^T) for E^T.
  [[nodiscard]] double loss(const Matrix<double>& Et) const {
    return (D_.cwiseSqrt().asDiagonal() * Et).squaredNorm() +
           multiply(Matrix<double>(X_.transpose()), Et).squaredNorm();
  }

  /// A stand-in S for W that is made of some columns at a time, `unit` of which belong together,
  /// from left to right, by `make(H_b, W_b^T)`, which returns S_b^T. As a sweep of optimal brain
  /// surgery does with single columns, and exactly so: H_b is the metric in which an error of the
  /// block counts once all later columns make up for what they can of it,
  ///
  ///     H_b = D_b + X_b M^-1 X_b^T,   M = I + sum over later j of x_j x_j^T / D_j,   T x T,
  ///
  /// and W_b is what is wanted of them, given the errors of those before. Cost: n (m + T) T
  /// multiply-adds, n / 128 times T^3, and those of `make`, for blocks of about 128.
  template <class Make>
  [[nodiscard]] Matrix<double> in_blocks(const Matrix<double>& Wt, Index unit,
                                         const Make& make) const {
    const Index n = Wt.rows();
    const Index width = std::max<Index>(1, 128 / unit) * unit;
    const Index rank = X_.cols();
    Matrix<double> M = Matrix<double>::Identity(rank, rank);
    const auto share = [&](Index first, Index count) {
      const Matrix<double> scaled =
          D_.segment(first, count).cwiseSqrt().cwiseInverse().asDiagonal() *
          X_.middleRows(first, count);
      return multiply(Matrix<double>(scaled.transpose()), scaled);
    };
    for (Index first = 0; first < n; first += width)
      M += share(first, (std::min)(width, n - first));
    Matrix<double> St(n, Wt.cols());
    Matrix<double> missed = Matrix<double>::Zero(rank, Wt.cols());  // X^T (W - S)^T so far
    for (Index first = 0; first < n; first += width) {
      const Index count = (std::min)(width, n - first);
      const Matrix<double> X = X_.middleRows(first, count);
      Matrix<double> wanted = Wt.middleRows(first, count);
      Matrix<double> H = D_.segment(first, count).asDiagonal();
      if (rank > 0) {
        wanted += D_.segment(first, count).cwiseInverse().asDiagonal() *
                  multiply(X, M.llt().solve(missed));
        M = symmetric_part(M - share(first, count));
        H += symmetric_part(multiply(X, M.llt().solve(Matrix<double>(X.transpose()))));
      }
      St.middleRows(first, count) = make(H, wanted);
      missed += multiply(Matrix<double>(X.transpose()),
                         Matrix<double>(Wt.middleRows(first, count) - St.middleRows(first, count)));
    }
    return St;
  }

 private:
  /// The variance of estimates over the square of what they are, or are off from the target.
  [[nodiscard]] static double share_of_noise(double variance, double square, double count) {
    if (count < 2 || !(square > 0)) return 1;
    return std::clamp(count / (count - 1) * variance / square, 0.0, 1.0);
  }

  Vector<double> D_;
  Matrix<double> X_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
