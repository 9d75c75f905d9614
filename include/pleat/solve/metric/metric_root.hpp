// SPDX-License-Identifier: MIT
// A square root of a metric, by which a weighted norm becomes a plain one.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <Eigen/Cholesky>

#include <cmath>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// S, n x k, such that || A S ||_F^2 = tr(A G A^T) for a metric G, n x n, up to a power of two: the
/// samples, while a calibration holds them; else the Cholesky factor, or, where rounding does not
/// let it be, the symmetric root. The identity by default.
template <class = void>
class MetricRoot {
 public:
  MetricRoot() = default;

  /// Of the inputs as they were seen. No ridge: what no sample had is nothing.
  template <Real T>
  [[nodiscard]] static MetricRoot of_inputs(const Calibration<T>& calibration) {
    MetricRoot root;
    Matrix<double> X = calibration.held_samples().template cast<double>();
    if (X.size() > 0) {
      root.L_ = X / power_of_two_below(X.cwiseAbs().maxCoeff());
      return root;
    }
    Matrix<double> G = scaled_gram(calibration);
    if (G.size() > 0) root.L_ = factor(std::move(G));
    else if (calibration.samples() > 0) root.L_ = Matrix<double>::Zero(calibration.inputs(), 1);
    return root;
  }

  /// Of the shrunk metric that weights are fitted in, definite by `fitting_gram`; where samples are
  /// few, without an n x n matrix: (X, D^(1/2)).
  template <Real T>
  [[nodiscard]] static MetricRoot for_fitting(const Calibration<T>& calibration, double shrinkage) {
    MetricRoot root;
    Matrix<double> X = calibration.held_samples().template cast<double>();
    if (X.size() > 0 && few_for(X.rows(), X.cols())) {
      X /= power_of_two_below(X.cwiseAbs().maxCoeff());
      const Vector<double> d = X.rowwise().squaredNorm();
      if (!(d.maxCoeff() > 0)) return root;
      root.d_ = (shrinkage * d.array() + 1e-8 * d.mean()).sqrt().matrix();
      root.L_ = std::sqrt(1 - shrinkage) * X;
      return root;
    }
    Matrix<double> G = fitting_gram(shrunk(scaled_gram(calibration), shrinkage));
    if (G.size() > 0) root.L_ = factor(std::move(G));
    return root;
  }

  /// Of the weights of the outputs, definite by as little.
  template <Real T>
  [[nodiscard]] static MetricRoot of_outputs(const Calibration<T>& calibration) {
    MetricRoot root;
    const Vector<double>& w = calibration.row_weights();
    if (w.size() > 0) {
      const Vector<double> scaled = w / w.maxCoeff();
      root.d_ = (scaled.array() + 1e-8 * scaled.mean()).sqrt().matrix();
    }
    const Matrix<double>& P = calibration.output_metric();
    if (P.size() > 0) root.L_ = factor(fitting_gram(P / P.diagonal().maxCoeff()));
    return root;
  }

  [[nodiscard]] bool is_identity() const noexcept { return L_.size() == 0 && d_.size() == 0; }

  /// A S.
  [[nodiscard]] Matrix<double> after(const Matrix<double>& A) const {
    if (is_identity()) return A;
    if (d_.size() == 0) return multiply(A, L_);
    Matrix<double> result(A.rows(), L_.cols() + d_.size());
    if (L_.cols() > 0) result.leftCols(L_.cols()) = multiply(A, L_);
    result.rightCols(d_.size()) = A * d_.asDiagonal();
    return result;
  }

  /// The roots of the diagonal of G, n x 1.
  [[nodiscard]] Vector<double> lengths(Index n) const {
    if (is_identity()) return Vector<double>::Ones(n);
    Vector<double> squares = Vector<double>::Zero(n);
    if (L_.size() > 0) squares += L_.rowwise().squaredNorm();
    if (d_.size() > 0) squares += d_.cwiseAbs2();
    return squares.cwiseSqrt();
  }

 private:
  static Matrix<double> factor(Matrix<double> G) {
    const Eigen::LLT<Matrix<double>> cholesky(G);
    if (cholesky.info() == Eigen::Success) return cholesky.matrixL();
    return square_root(G);
  }

  Matrix<double> L_{};  // n x k; empty for none
  Vector<double> d_{};  // and n columns more, of a diagonal; empty for none
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
