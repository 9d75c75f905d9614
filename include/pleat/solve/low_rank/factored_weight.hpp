// SPDX-License-Identifier: MIT
// A product of two factors as a weight of few rows, in which its best low rank is found, and the
// distance between two of them: never m x n.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/linear/thin_qr.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// (A, B) side by side.
[[nodiscard]] inline Matrix<double> side_by_side(const Matrix<double>& A, const Matrix<double>& B) {
  Matrix<double> both(A.rows(), A.cols() + B.cols());
  both.leftCols(A.cols()) = A;
  both.rightCols(B.cols()) = B;
  return both;
}

/// Divides by a power of two, so that the largest entry is between 1 and 2; returns its exponent.
[[nodiscard]] inline int take_exponent(Matrix<double>& A) {
  const double unit = A.size() > 0 ? power_of_two_below(A.cwiseAbs().maxCoeff()) : 1;
  A /= unit;
  return static_cast<int>(std::lround(std::log2(unit)));
}

/// U V = 2^exponent Q E, for U: m x q and V: q x n: with k = min(m, q), Q: m x k has orthonormal
/// columns, and E is k x n. What is close to E, in any metric of the inputs, is as close to U V
/// once Q stands before it (H. Zha and H. Simon, "On updating problems in latent semantic
/// indexing", 1999; M. Brand, "Fast low-rank modifications of the thin singular value
/// decomposition", 2006). Cost: 4 m q k + 2 k q n flops.
template <class = void>
class FactoredWeight {
 public:
  FactoredWeight(Matrix<double> U, Matrix<double> V)
      : exponent_(take_exponent(U) + take_exponent(V)) {
    ThinQr qr = thin_qr(U);
    Q_ = std::move(qr.Q);
    E_ = multiply(qr.R, V);
  }

  [[nodiscard]] const Matrix<double>& Q() const noexcept { return Q_; }
  [[nodiscard]] const Matrix<double>& E() const noexcept { return E_; }

  /// The largest rank that it can have.
  [[nodiscard]] Index most() const noexcept { return (std::min)(E_.rows(), E_.cols()); }

  /// Factors of what stands before n inputs, made from those of a stand-in for E.
  void lift(Matrix<double>& U, Matrix<double>& V) const {
    U = multiply(Q_, U) * std::exp2(exponent_ / 2);
    V *= std::exp2(exponent_ - exponent_ / 2);
  }

 private:
  int exponent_;
  Matrix<double> Q_{};
  Matrix<double> E_{};
};

/// How far other products are from A = U V, relative to it, in the metric of a calibration:
///
///     || P^(1/2) (A - B) X ||_F / || P^(1/2) A X ||_F,
///
/// as `relative_error` is of a matrix. With (U, U_B) = Q R, A - B is Q times a matrix of few rows,
/// and its rounding is that of the difference. Cost: 8 m q^2 + 4 q n^2 flops for factors of rank q.
template <class = void>
class ProductDistance {
 public:
  template <Real T>
  ProductDistance(Matrix<double> U, Matrix<double> V, const Calibration<T>& calibration)
      : exponent_(take_exponent(U) + take_exponent(V)), U_(std::move(U)), V_(std::move(V)) {
    const Matrix<double> X = calibration.held_samples().template cast<double>();
    held_ = X.size() > 0;
    if (held_) {
      const double largest = X.cwiseAbs().maxCoeff();
      if (largest > 0) metric_ = Dense<double>(Matrix<double>(X.transpose()) / largest);
      else blind_ = true;
    } else if (calibration.samples() > 0) {
      const Matrix<double> G = scaled_gram(calibration);
      if (G.size() > 0) metric_ = Dense<double>(G);
      else blind_ = true;
    }
    if (calibration.row_weights().size() > 0)
      weights_ = calibration.row_weights() / calibration.row_weights().maxCoeff();
    if (calibration.output_metric().size() > 0)
      P_ = calibration.output_metric() / calibration.output_metric().diagonal().maxCoeff();
  }

  [[nodiscard]] double to(Matrix<double> U, Matrix<double> V) const {
    if (blind_) return 0;
    const int exponent = take_exponent(U) + take_exponent(V);
    const ThinQr qr = thin_qr(side_by_side(U_, U));
    const Matrix<double> A = multiply(qr.R.leftCols(U_.cols()), V_);
    const Matrix<double> difference =
        A - multiply(qr.R.rightCols(U.cols()), V) * std::exp2(exponent - exponent_);
    Matrix<double> root;
    if (weights_.size() > 0) root = weights_.asDiagonal() * qr.Q;
    if (P_.size() > 0) root = multiply(P_, qr.Q);
    if (root.size() > 0) root = square_root(symmetric_part(multiply(qr.Q.transpose(), root)));
    double loss = energy(difference, root);
    const double reference = energy(A, root);
    // Outputs without weight are rounded like the others, and may be all that there is.
    if (root.size() > 0 && loss <= 1e-31 * energy(A, {})) loss = 0;
    if (reference > 0) return std::sqrt(loss / reference);
    return loss > 0 ? std::numeric_limits<double>::infinity() : 0;
  }

 private:
  [[nodiscard]] double energy(const Matrix<double>& D, const Matrix<double>& root) const {
    const Matrix<double> rows = root.size() > 0 ? multiply(root, D) : D;
    if (metric_.rows() == 0) return rows.squaredNorm();
    const Matrix<double> Dt = rows.transpose();
    if (held_) return multiply(metric_, Dt).squaredNorm();
    const double sum = multiply(metric_, Dt).cwiseProduct(Dt).sum();
    return sum < 0 ? 0 : sum;
  }

  int exponent_;
  Matrix<double> U_;
  Matrix<double> V_;
  Dense<double> metric_{};  // X^T, or G; empty for the identity
  bool held_ = false;
  bool blind_ = false;  // all inputs were 0
  Vector<double> weights_{};
  Matrix<double> P_{};  // both empty for the identity
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
