// SPDX-License-Identifier: MIT
// How far an operator is from the matrix it stands for.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// The relative error of `op` as a stand-in for W, m x n, in the metric of a calibration:
///
///     || P^(1/2) (W - What) X ||_F / || P^(1/2) W X ||_F,
///
/// where X are the samples that the calibration saw and P its weights of the outputs; no samples or
/// no weights mean the identity. 0 where both norms are 0, infinite where only the second is. What
/// is never formed but for blocks of 64 of its rows; sums are in double. Cost: m applications of
/// What^T and m n^2 multiply-adds; m n T while the calibration holds its T <= n samples, and then
/// no memory of n^2; m n without samples. Throws `std::invalid_argument` if the shapes differ, or W
/// is not finite.
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
  // Neither norm changes if W and the Gram matrix are scaled, and squares could overflow.
  const double scale =
      detail::power_of_two_below(static_cast<double>(weight.cwiseAbs().maxCoeff()));
  // Samples that are still held are what X is; else their Gram matrix stands for them.
  Matrix<double> samples = calibration.held_samples().template cast<double>();
  Matrix<double> moment;
  if (samples.size() > 0) {
    const double largest = samples.cwiseAbs().maxCoeff();
    if (!(largest > 0)) return 0;  // no input but 0
    samples /= detail::power_of_two_below(largest);
  } else if (calibration.samples() > 0) {
    moment = detail::scaled_gram(calibration);
    if (moment.size() == 0) return 0;
  }
  const bool held = samples.size() > 0;
  const Dense<double> metric(held ? Matrix<double>(samples.transpose()) : std::move(moment));
  samples.resize(0, 0);
  const Matrix<double> root = detail::scaled_root(calibration.output_metric());
  const auto norm = [&](const Matrix<double>& rows) {  // rows of a matrix, as columns
    if (metric.rows() == 0) return rows.squaredNorm();
    if (held) return detail::multiply(metric, rows).squaredNorm();
    const double sum = rows.cwiseProduct(detail::multiply(metric, rows)).sum();
    return sum < 0 ? 0 : sum;  // a NaN is none of the operator's good sides
  };

  constexpr Index block = 64;
  double loss = 0;
  double reference = 0;
  Matrix<T> outputs(m, (std::min)(block, m));
  Matrix<T> inputs(n, (std::min)(block, m));
  for (Index first = 0; first < m; first += block) {
    const Index count = (std::min)(block, m - first);
    outputs.leftCols(count).setZero();
    for (Index j = 0; j < count; ++j) {
      if (root.size() > 0) outputs.col(j) = root.col(first + j).template cast<T>();
      else outputs(first + j, j) = T(1);
    }
    op.apply_transpose(outputs.leftCols(count), inputs.leftCols(count));
    Matrix<double> exact =
        root.size() > 0
            ? detail::multiply(weight.transpose().template cast<double>(),
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
    loss += norm(difference);
    reference += norm(exact);
  }
  if (reference > 0) return std::sqrt(loss / reference);
  return loss > 0 ? std::numeric_limits<double>::infinity() : 0;
}

/// The plain relative error || W - What ||_F / || W ||_F.
template <class Derived, LinearOperator Op>
[[nodiscard]] double relative_error(const Eigen::MatrixBase<Derived>& W, const Op& op) {
  return pleat::relative_error(W, op, Calibration<typename Op::Scalar>());
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
