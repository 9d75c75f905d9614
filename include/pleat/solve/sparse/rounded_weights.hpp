// SPDX-License-Identifier: MIT
// A weight rounded to a grid in the metric of its inputs.
#pragma once

#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/sparse/grid_descent.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// W^T rounded to a grid: the column sweep from `start`, which rounds each column and lets the
/// later ones make up for it, then descent on numbers and scales. Only where `start` is not zero
/// if it is `sparse`. Nothing where that is not better than `nearest`, or was stopped before it
/// could be.
template <class = void>
[[nodiscard]] std::optional<OnGrid> round_to_grid(const Matrix<double>& H, const Matrix<double>& Wt,
                                                  const Matrix<double>& start, bool sparse,
                                                  const Grid& grid, const Matrix<double>& nearest,
                                                  const Monitor& monitor) {
  const Dense<double> packed(H);
  const double least = metric_loss(packed, Wt - nearest);
  ProgressReport report(monitor);
  report.relative_to(metric_loss(packed, Wt));
  report.reached(least);
  if (!report.begin("round", 1, 1)) return std::nullopt;
  const Matrix<double>* const places = sparse ? &start : nullptr;
  auto swept = column_sweep(start, inverse_factor(H), SweepRule{{1, 1}, places, grid},
                            report.phase("round"));
  if (!swept) return std::nullopt;
  OnGrid result{std::move(swept->values), std::move(swept->scales)};
  const double work = std::pow(double(Wt.rows()), 2) * double(Wt.cols());
  const auto sweeps = static_cast<Index>(std::clamp(3e11 / work, 3.0, 12.0));
  const double loss = grid_descent(H, Wt, grid, result, places, sweeps, report.phase("round"));
  if (!(loss < least)) return std::nullopt;
  return result;
}

/// `nearest`, in a storage with a grid, or what the steps above make of it where that is better.
template <class Op>
[[nodiscard]] Op rounded(Op nearest, const Matrix<double>& H, const Matrix<double>& Wt,
                         const Matrix<double>& start, bool sparse, const Grid& grid,
                         const Monitor& monitor) {
  using T = typename Op::Scalar;
  // In numbers as the storage has them.
  const int exponent = nearest.exponent();
  const double power = std::ldexp(1.0, exponent);
  const double inverse = std::ldexp(1.0, -exponent);
  const Matrix<double> begin = start * inverse;
  const Grid own = grid.fitted_to(begin, sparse, H.diagonal());
  const std::optional<OnGrid> found = round_to_grid(
      H, Wt * inverse, begin, sparse, own,
      Matrix<double>(nearest.to_dense().transpose().template cast<double>() * inverse), monitor);
  if (!found) return nearest;
  const Matrix<T> values = (found->values.transpose() * power).template cast<T>();
  const Matrix<float> scales =
      found->scales.transpose().unaryExpr([](double scale) { return to_single(scale); });
  if constexpr (requires { nearest.pattern(); })
    return Op(values, nearest.pattern(), nearest.storage(), scales, exponent, nearest.places(),
              own.numbers.levels());
  else return Op(values, nearest.storage(), scales, exponent, own.numbers.levels());
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
