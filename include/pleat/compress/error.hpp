// SPDX-License-Identifier: MIT
// How far an operator is from the matrix it stands for.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// || P^(1/2) (What X' - W X) ||_F^2 and || P^(1/2) W X ||_F^2, both over the square of `unit`; X'
/// is X where samples are no pairs.
struct ErrorNorms {
  double loss = 0;
  double reference = 0;
  double unit = 1;
};

/// X = What^T Y of any operator: what is made for this is compiled once, not for each.
template <Real T>
using TransposedProduct = std::function<void(const ConstMatrixRef<T>& Y, MatrixRef<T> X)>;

/// For a weight, an operator and a calibration of one shape; the weight not empty.
template <Real T>
[[nodiscard]] ErrorNorms error_norms(const ConstMatrixRef<T>& weight,
                                     const TransposedProduct<T>& apply_transpose,
                                     const Calibration<T>& calibration) {
  const Index m = weight.rows();
  const Index n = weight.cols();
  ErrorNorms norms;
  // Neither norm changes if W and the Gram matrix are scaled, and squares could overflow.
  const double scale = power_of_two_below(static_cast<double>(weight.cwiseAbs().maxCoeff()));
  // Samples that are still held are what X is; else their Gram matrix stands for them. Of pairs
  // there is the difference, too, or its moments.
  const bool pairs = CalibrationAccess::differs(calibration);
  Matrix<double> samples = calibration.held_samples().template cast<double>();
  Matrix<double> differences = CalibrationAccess::differences(calibration);
  Matrix<double> moment;
  CrossMoment<> cross;
  double unit = 1;
  if (samples.size() > 0) {
    const double largest =
        (std::max)(samples.cwiseAbs().maxCoeff(), pairs ? differences.cwiseAbs().maxCoeff() : 0.0);
    if (!(largest > 0)) return norms;  // no input but 0
    unit = power_of_two_below(largest);
    samples /= unit;
    differences /= unit;
  } else if (calibration.samples() > 0) {
    moment = calibration.gram();
    if (pairs) cross = CalibrationAccess::cross_moment(calibration);
    const double largest =
        (std::max)(moment.diagonal().maxCoeff(), pairs ? cross.Q.diagonal().maxCoeff() : 0.0);
    if (!(largest > 0)) return norms;
    const double square = power_of_two_below(largest);
    unit = std::sqrt(square);
    moment /= square;
    cross.D /= square;
    cross.Q /= square;
  }
  norms.unit = scale * unit;
  const bool held = samples.size() > 0;
  const Dense<double> metric(held ? Matrix<double>(samples.transpose()) : std::move(moment));
  const Dense<double> left(held ? Matrix<double>(differences.transpose())
                                : Matrix<double>(cross.D.transpose()));
  const Dense<double> own(cross.Q);
  samples.resize(0, 0);
  differences.resize(0, 0);
  cross = {};
  const Matrix<double> root = scaled_root(calibration.output_metric());
  const auto norm = [&](const Matrix<double>& rows) {  // rows of a matrix, as columns
    if (metric.rows() == 0) return rows.squaredNorm();
    if (held) return multiply(metric, rows).squaredNorm();
    const double sum = rows.cwiseProduct(multiply(metric, rows)).sum();
    return sum < 0 ? 0 : sum;  // a NaN is none of the operator's good sides
  };
  const auto count_in = [&](const Matrix<double>& difference, const Matrix<double>& exact) {
    if (!pairs) {
      norms.loss += norm(difference);
      norms.reference += norm(exact);
      return;
    }
    // W X - What X' is (W - What) X' + W Delta.
    const Matrix<double> moved = multiply(left, exact);
    if (held) {
      norms.loss += (multiply(metric, difference) + moved).squaredNorm();
      norms.reference += (multiply(metric, exact) + moved).squaredNorm();
      return;
    }
    const double rest = exact.cwiseProduct(multiply(own, exact)).sum();
    const auto with = [&](const Matrix<double>& rows) {
      const double sum = rows.cwiseProduct(multiply(metric, rows)).sum() +
                         2 * rows.cwiseProduct(moved).sum() + rest;
      return sum < 0 ? 0 : sum;
    };
    norms.loss += with(difference);
    norms.reference += with(exact);
  };

  constexpr Index block = 64;
  Matrix<T> outputs(m, (std::min)(block, m));
  Matrix<T> inputs(n, (std::min)(block, m));
  for (Index first = 0; first < m; first += block) {
    const Index count = (std::min)(block, m - first);
    outputs.leftCols(count).setZero();
    for (Index j = 0; j < count; ++j) {
      if (root.size() > 0) outputs.col(j) = root.col(first + j).template cast<T>();
      else outputs(first + j, j) = T(1);
    }
    apply_transpose(outputs.leftCols(count), inputs.leftCols(count));
    Matrix<double> exact =
        root.size() > 0
            ? multiply(weight.transpose().template cast<double>(),
                       outputs.leftCols(count).template cast<double>().eval())
            : Matrix<double>(weight.middleRows(first, count).transpose().template cast<double>());
    Matrix<double> difference = (exact - inputs.leftCols(count).template cast<double>()) / scale;
    exact /= scale;
    if (calibration.row_weights().size() > 0)
      for (Index j = 0; j < count; ++j) {
        const double weight_root = std::sqrt(calibration.row_weights()(first + j));
        difference.col(j) *= weight_root;
        exact.col(j) *= weight_root;
      }
    count_in(difference, exact);
  }
  return norms;
}

}  // namespace detail

/// The relative error of `op` as a stand-in for W, m x n, in the metric of a calibration:
///
///     || P^(1/2) (W - What) X ||_F / || P^(1/2) W X ||_F,
///
/// where X are the samples that the calibration saw and P its weights of the outputs; no samples or
/// no weights mean the identity. Where samples came in pairs (see `Calibration::add`) it is
///
///     || P^(1/2) (What X' - W X) ||_F / || P^(1/2) W X ||_F.
///
/// 0 where both norms are 0, infinite where only the second is. What is never formed but for blocks
/// of 64 of its rows; sums are in double, and with moments of pairs an error below about 1e-8 is
/// not told from 0. Cost: m applications of What^T and m n^2 multiply-adds, twice as many for
/// pairs; m n T while the calibration holds its T <= n samples, and then no memory of n^2; m n
/// without samples. Throws `std::invalid_argument` if the shapes differ, or W is not finite.
template <class Derived, LinearOperator Op>
[[nodiscard]] double relative_error(const Eigen::MatrixBase<Derived>& W, const Op& op,
                                    const Calibration<typename Op::Scalar>& calibration) {
  using T = typename Op::Scalar;
  static_assert(std::same_as<typename Derived::Scalar, T>,
                "W and the operator have one scalar type");
  const ConstMatrixRef<T> weight(W.derived());
  const Index m = weight.rows();
  const Index n = weight.cols();
  detail::require(op.rows() == m && op.cols() == n, [&] {
    return "relative_error: the matrix is " + detail::shape_text(m, n) + ", the operator " +
           detail::shape_text(static_cast<Index>(op.rows()), static_cast<Index>(op.cols()));
  });
  calibration.require_fit(m, n);
  detail::require_finite(weight, "the weights");
  if (m == 0 || n == 0) return 0;

  [[maybe_unused]] const detail::SerialEigen serial;
  const auto [loss, reference, unit] = detail::error_norms<T>(
      weight, [&op](const auto& Y, auto X) { op.apply_transpose(Y, X); }, calibration);
  if (reference > 0) return std::sqrt(loss / reference);
  return loss > 0 ? std::numeric_limits<double>::infinity() : 0;
}

/// The plain relative error || W - What ||_F / || W ||_F.
template <class Derived, LinearOperator Op>
[[nodiscard]] double relative_error(const Eigen::MatrixBase<Derived>& W, const Op& op) {
  return pleat::relative_error(W, op, Calibration<typename Op::Scalar>());
}

/// How far the outputs of `op` for inputs X, n x batch, are from those of W, m x n:
///
///     || W X - op.apply(X) ||_F / || W X ||_F.
///
/// `relative_error` is of the matrix What alone, and never calls `apply`; this is of all that the
/// call does, its rounding of inputs and of sums too. 0 where both norms are 0, infinite where only
/// the second is, NaN where an output is. In double, 64 samples at a time. Cost: m n multiply-adds
/// a sample, and `apply`. Throws `std::invalid_argument` if the shapes differ, or W or X is not
/// finite.
template <class Derived, LinearOperator Op, class Inputs>
[[nodiscard]] double apply_error(const Eigen::MatrixBase<Derived>& W, const Op& op,
                                 const Eigen::MatrixBase<Inputs>& X) {
  using T = typename Op::Scalar;
  static_assert(
      std::same_as<typename Derived::Scalar, T> && std::same_as<typename Inputs::Scalar, T>,
      "W, the operator and X have one scalar type");
  const ConstMatrixRef<T> weight(W.derived());
  const ConstMatrixRef<T> inputs(X.derived());
  const Index m = weight.rows();
  const Index n = weight.cols();
  detail::require(op.rows() == m && op.cols() == n && inputs.rows() == n, [&] {
    return "apply_error: the matrix is " + detail::shape_text(m, n) + ", the operator " +
           detail::shape_text(static_cast<Index>(op.rows()), static_cast<Index>(op.cols())) +
           ", the inputs " + detail::shape_text(inputs.rows(), inputs.cols());
  });
  detail::require_finite(weight, "the weights");
  detail::require_finite(inputs, "the inputs");
  if (m == 0 || n == 0 || inputs.cols() == 0) return 0;

  [[maybe_unused]] const detail::SerialEigen serial;
  // Powers of two, so that no square overflows: neither norm's share of the other changes.
  const double scale =
      detail::power_of_two_below(static_cast<double>(weight.cwiseAbs().maxCoeff()));
  const double unit = detail::power_of_two_below(static_cast<double>(inputs.cwiseAbs().maxCoeff()));
  const Matrix<double> exact_weight = weight.template cast<double>() / scale;
  double loss = 0;
  double reference = 0;
  constexpr Index block = 64;
  Matrix<T> outputs(m, (std::min)(block, inputs.cols()));
  for (Index first = 0; first < inputs.cols(); first += block) {
    const Index count = (std::min)(block, inputs.cols() - first);
    const auto samples = inputs.middleCols(first, count);
    op.apply(samples, outputs.leftCols(count));
    const Matrix<double> exact =
        detail::multiply(exact_weight, Matrix<double>(samples.template cast<double>() / unit));
    loss += (outputs.leftCols(count).template cast<double>() / scale / unit - exact).squaredNorm();
    reference += exact.squaredNorm();
  }
  if (reference > 0) return std::sqrt(loss / reference);
  return loss > 0 ? std::numeric_limits<double>::infinity() : std::sqrt(loss);
}

namespace detail {

/// The smallest operator found within the error of a budget, of those that `within(bytes)` makes:
/// from a quarter of dense up between `least` and `most` bytes until it is enough, which is then
/// halved towards too few so many times. Throws `std::invalid_argument`, in the name of a
/// structure, if the most are not enough; what is `stopped` before is returned as it is.
template <Real T, class Within, class Stopped>
[[nodiscard]] auto smallest_within_error(const char* structure, const ConstMatrixRef<T>& W,
                                         const Budget& budget, const Calibration<T>& calibration,
                                         std::size_t least, std::size_t most, int halvings,
                                         const Within& within, const Stopped& stopped) {
  std::size_t few = least - 1;
  std::size_t enough = std::clamp(static_cast<std::size_t>(W.size()) * sizeof(T) / 4, least, most);
  auto best = within(enough);
  double reached = relative_error(W, best, calibration);
  while (reached > budget.max_error() && enough < most && !stopped()) {
    few = enough;
    enough = (std::min)(2 * enough, most);
    best = within(enough);
    reached = relative_error(W, best, calibration);
  }
  require(reached <= budget.max_error() || stopped(), [&] {
    return "compress<" + std::string(structure) + ">: " + budget.text() + " cannot be met: with " +
           best.parameters() + " the relative error is " + scientific(reached);
  });
  enough = best.bytes();
  for (int halving = 0; halving < halvings && enough > few + enough / 50 && !stopped(); ++halving) {
    const std::size_t middle = few + (enough - few) / 2;
    auto op = within(middle);
    if (relative_error(W, op, calibration) <= budget.max_error()) {
      enough = op.bytes();
      best = std::move(op);
    } else {
      few = middle;
    }
  }
  return best;
}

}  // namespace detail

}  // namespace PLEAT_ABI
}  // namespace pleat
