// SPDX-License-Identifier: MIT
// cross_validate<Structure>: the error to expect on inputs that a calibration has not seen.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Outputs, or weights, times the square root of what a calibration says of outputs.
template <Real T>
[[nodiscard]] Matrix<double> as_weighted(Matrix<double> values, const Calibration<T>& fold) {
  if (fold.row_weights().size() > 0)
    values = (fold.row_weights() / fold.row_weights().maxCoeff()).cwiseSqrt().asDiagonal() * values;
  if (fold.output_metric().size() > 0) values = multiply(scaled_root(fold.output_metric()), values);
  return values;
}

/// || P^(1/2) W X ||_F^2 of one fold, with W and X divided by their scales.
template <Real T>
[[nodiscard]] double reference_loss(const ConstMatrixRef<T>& W, const Calibration<T>& fold,
                                    double input_scale) {
  Matrix<double> weights = W.template cast<double>();
  weights /= power_of_two_below(weights.cwiseAbs().maxCoeff());
  weights = as_weighted(std::move(weights), fold);
  const Calibration<T> seen = CalibrationAccess::originals(fold);
  const Matrix<double> X = seen.held_samples().template cast<double>() / input_scale;
  if (X.size() > 0) return multiply(weights, X).squaredNorm();
  const Matrix<double> G = seen.gram() / (input_scale * input_scale);
  return multiply(weights, G).cwiseProduct(weights).sum();
}

/// The squared error of what `op.apply` makes of the samples that a fold holds, in the units of
/// `reference_loss`; none where it holds none, or they are pairs.
template <Real T, class Op>
[[nodiscard]] std::optional<double> applied_loss(const ConstMatrixRef<T>& W, const Op& op,
                                                 const Calibration<T>& fold, double input_scale) {
  if (fold.paired()) return {};
  const Matrix<T> X = fold.held_samples();
  if (X.size() == 0) return {};
  Matrix<T> Y(W.rows(), X.cols());
  op.apply(X, Y);
  const double scale = power_of_two_below(static_cast<double>(W.cwiseAbs().maxCoeff()));
  const Matrix<double> exact = multiply(Matrix<double>(W.template cast<double>() / scale),
                                        Matrix<double>(X.template cast<double>() / input_scale));
  return as_weighted(exact - Y.template cast<double>() / scale / input_scale, fold).squaredNorm();
}

}  // namespace detail

/// The relative error that `compress<Structure>` with these arguments is to be expected to have on
/// inputs like those of the calibration: what is fitted to one of its two folds is judged by the
/// other, both ways, and the squares are added,
///
///     sqrt(sum || P^(1/2) (W - What_k) X_l ||_F^2 / sum || P^(1/2) W X_l ||_F^2),
///
/// with What_k X'_l in the place of What_k X_l where samples are pairs; where `relative_error` of
/// the result says how well it fits the samples it was fitted to. A fold has half of the samples,
/// so the result for all of them will be a little better than this. Where the result rounds
/// activations (see `Dense::with_activations`) and a fold still holds its samples, which are no
/// pairs, their rounding is in it. The shrinkage of the fits, one
/// number, is chosen with the help of both folds. Cost: twice that of `compress`.
///
/// Throws `std::invalid_argument` as `compress` does, and where there are no two folds: without
/// samples, of one sample, of a Gram matrix alone, or with `Folds::one`.
template <template <Real> class Structure, class Derived>
[[nodiscard]] double cross_validate(
    const Eigen::MatrixBase<Derived>& W, const Budget& budget,
    const Calibration<typename Derived::Scalar>& calibration,
    const typename Structure<typename Derived::Scalar>::Options& options = {}) {
  using T = typename Derived::Scalar;
  const ConstMatrixRef<T> weight(W.derived());
  detail::require_weight<T>(weight, calibration);
  auto folds = detail::CalibrationAccess::folds(calibration);
  detail::require(folds.has_value(), [&] {
    return "cross_validate: a calibration of " + std::to_string(calibration.samples()) +
           " samples has no two folds: it takes two samples at least, added to a calibration that "
           "keeps them apart";
  });
  [[maybe_unused]] const detail::SerialEigen serial;
  detail::CalibrationAccess::acquaint(*folds);
  const double scale = detail::input_unit(*folds);
  double loss = 0;
  double total = 0;
  for (const std::size_t k : {0U, 1U}) {
    const Calibration<T>& judge = (*folds)[1 - k];
    const auto op = compress<Structure>(weight, budget, (*folds)[k], options);
    const double reference = detail::reference_loss<T>(weight, judge, scale);
    std::optional<double> applied;
    if (detail::rounds_activations(op)) applied = detail::applied_loss<T>(weight, op, judge, scale);
    if (!applied) {
      const double error = relative_error(weight, op, judge);
      applied = error * error * reference;
    }
    if (!is_finite(*applied)) return *applied;
    loss += *applied;
    total += reference;
  }
  return total > 0 ? std::sqrt(loss / total) : 0;
}

}  // namespace PLEAT_ABI
}  // namespace pleat
