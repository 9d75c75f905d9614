// SPDX-License-Identifier: MIT
// Low-rank factors in narrow storage: the right one is rounded, the left one fitted to it.
#pragma once

#include "pleat/factor/low_rank.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// C M^+ for C: m x r and M: r x r, symmetric positive semidefinite. M is scaled to a unit diagonal
/// first, so that only directions that depend on others are left out, not small ones; and those
/// whose place on the diagonal is no more than `least`. Cost: an eigendecomposition of M.
template <class = void>
[[nodiscard]] Matrix<double> divide_by_semidefinite(const Matrix<double>& C,
                                                    const Matrix<double>& M,
                                                    const Vector<double>& least) {
  const Vector<double> scale = M.diagonal().binaryExpr(
      least, [](double d, double bound) { return d > bound ? 1 / std::sqrt(d) : 0; });
  const auto solver = eigenpairs(symmetric_part(scale.asDiagonal() * M * scale.asDiagonal()));
  const Vector<double>& values = solver.eigenvalues();
  const double cut = std::numeric_limits<double>::epsilon() * static_cast<double>(M.rows()) *
                     (std::max)(values.maxCoeff(), 0.0);
  const Vector<double> inverse =
      values.unaryExpr([cut](double value) { return value > cut ? 1 / value : 0; });
  const Matrix<double> basis = scale.asDiagonal() * solver.eigenvectors();
  const Matrix<double> right = inverse.asDiagonal() * basis.transpose();
  return multiply(multiply(C, basis), right);
}

/// U V in narrow storage, as a stand-in for W in the shrunk metric of the calibration; U and V are
/// those of `LowRankSolver`.
///
/// V is rounded first: each of its rows is a direction with scales of its own. The best U for what
/// V became, U' = W G V^T (V G V^T)^+, absorbs what it can of that rounding; its columns are of one
/// size, as its groups, which run across them, like it. Where the metric sees the rounding of a row
/// of V as well as the row, its column of U stays. If all that is no better than nothing, it is
/// nothing.
template <Real T>
[[nodiscard]] LowRank<T> rounded_factors(const Matrix<double>& W, Matrix<double> U,
                                         Matrix<double> V, const Calibration<T>& calibration,
                                         double shrinkage, Storage storage) {
  const Dense<T> stored_V(V.template cast<T>(), storage);
  const Matrix<double> rounding = stored_V.to_dense().template cast<double>() - V;
  V += rounding;
  Matrix<double> Vt = V.transpose();
  Matrix<double> X = calibration.held_samples().template cast<double>();
  const bool few = few_for(X.rows(), X.cols());
  if ((shrinkage > 0 || few) && X.size() > 0) {  // as below, without an n x n matrix
    X /= power_of_two_below(X.cwiseAbs().maxCoeff());
    const Vector<double> d = X.rowwise().squaredNorm();
    const double mean = d.mean();
    if (mean > 0)
      Vt = ((1 - shrinkage) * multiply(X, multiply(X.transpose(), Vt)) +
            shrinkage * (d.asDiagonal() * Vt)) /
           mean;
  } else if (calibration.samples() > 0) {
    const Matrix<double> G = shrunk(calibration.gram(), shrinkage);
    const double mean = G.diagonal().mean();
    if (mean > 0) Vt = multiply(G / mean, Vt);
  }
  const Matrix<double> C = multiply(W, Vt);
  const Matrix<double> M = symmetric_part(multiply(V, Vt));
  U += divide_by_semidefinite(C - multiply(U, M), M, 4 * rounding.rowwise().squaredNorm());
  const Dense<T> stored_U(U.template cast<T>(), storage);
  U = stored_U.to_dense().template cast<double>();

  // ||W - U V||^2 - ||W||^2 in the metric, a term for each pair of rows.
  const Matrix<double> change = multiply(U, M) - 2 * C;
  double sum = 0;
  if (calibration.output_metric().size() > 0)
    sum = multiply(calibration.output_metric(), U).cwiseProduct(change).sum();
  else if (calibration.row_weights().size() > 0)
    sum = calibration.row_weights().dot(U.cwiseProduct(change).rowwise().sum());
  else sum = U.cwiseProduct(change).sum();
  if (sum > 0) return {Dense<T>(Matrix<T>::Zero(U.rows(), U.cols()), storage), stored_V};
  return {stored_U, stored_V};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
