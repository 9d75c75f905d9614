// SPDX-License-Identifier: MIT
// Weights and inputs for the tests of the makers.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "support/random.hpp"

#include <Eigen/SVD>

#include <cmath>

namespace pleat::test {

/// Inputs as layers see them: correlated, with a power-law spectrum, a few outlier channels, and
/// one input that is always zero.
template <Real T>
[[nodiscard]] Matrix<T> correlated_inputs(Random& random, Index inputs, Index samples) {
  Matrix<T> mixing = random.matrix<T>(inputs, inputs);
  for (Index j = 0; j < inputs; ++j)
    mixing.col(j) *= static_cast<T>(std::pow(1.0 + double(j), -0.8));
  Matrix<T> X = mixing * random.matrix<T>(inputs, samples);
  if (inputs > 8) {
    X.row(5) *= T(10);
    X.row(inputs / 2).setZero();
  }
  return X;
}

/// The calibration that saw X once.
template <class Derived>
[[nodiscard]] Calibration<typename Derived::Scalar> calibration_of(
    const Eigen::MatrixBase<Derived>& X) {
  Calibration<typename Derived::Scalar> calibration(X.rows());
  calibration.add(X);
  return calibration;
}

/// The same where those are all the inputs that there are: nothing is shrunk, and what is the
/// optimum in theory is that of the samples.
template <class Derived>
[[nodiscard]] Calibration<typename Derived::Scalar> exact_calibration(
    const Eigen::MatrixBase<Derived>& X) {
  return calibration_of(X).shrinkage(0);
}

/// A weight and a calibration for numbers from other programs, W_ij = sin(1 + 1.7 i^2 + 2.3 j^2 +
/// 0.9 i j) and G_ij = s_i (0.5^|i - j| + 0.1 [i = j]) s_j with s_i = 1 + cos(i) / 2.
[[nodiscard]] inline Matrix<double> golden_weight() {
  return Matrix<double>::NullaryExpr(12, 16, [](Index i, Index j) {
    return std::sin(1 + 1.7 * double(i * i) + 2.3 * double(j * j) + 0.9 * double(i * j));
  });
}
[[nodiscard]] inline Calibration<double> golden_calibration() {
  const auto scale = [](Index i) { return 1 + 0.5 * std::cos(double(i)); };
  const Matrix<double> G = Matrix<double>::NullaryExpr(16, 16, [&](Index i, Index j) {
    return scale(i) * (std::pow(0.5, double(i > j ? i - j : j - i)) + (i == j ? 0.1 : 0)) *
           scale(j);
  });
  return Calibration<double>::from_gram(G, 16).shrinkage(0);
}

/// X X^T of such inputs.
[[nodiscard]] inline Matrix<double> gram_of(Random& random, Index inputs, Index samples) {
  const Matrix<double> X = correlated_inputs<double>(random, inputs, samples);
  return X * X.transpose();
}

/// tr((W - S) H (W - S)^T), from W^T and S^T.
[[nodiscard]] inline double loss_of(const Matrix<double>& H, const Matrix<double>& Wt,
                                    const Matrix<double>& St) {
  return (Wt - St).cwiseProduct(H * (Wt - St)).sum();
}

/// Descending.
template <class Derived>
[[nodiscard]] Vector<typename Derived::Scalar> singular_values(
    const Eigen::MatrixBase<Derived>& A) {
  return Eigen::JacobiSVD<Matrix<typename Derived::Scalar>>(A).singularValues();
}

}  // namespace pleat::test
