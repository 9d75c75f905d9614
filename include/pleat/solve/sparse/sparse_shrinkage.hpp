// SPDX-License-Identifier: MIT
// How far pruning and rounding shrink a Gram matrix: their stand-ins, on some of the rows.
#pragma once

#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/sparse/grid_descent.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// At most so many rows of W at even distances, as columns.
template <Real T>
[[nodiscard]] Matrix<double> some_rows(const ConstMatrixRef<T>& W, Index most) {
  const Index count = (std::min)(W.rows(), most);
  Matrix<double> rows(W.cols(), count);
  for (Index i = 0; i < count; ++i)
    rows.col(i) = W.row(i * W.rows() / count).transpose().template cast<double>();
  return rows;
}

/// From so many inputs on, the choice of a shrinkage would take longer than what it is chosen for:
/// stand-ins are judged one way instead of both, and search less.
inline constexpr Index many_inputs = 1024;

/// The loss that `chosen_shrinkage` asks for, of a stand-in that makes of a Gram matrix a matrix
/// close to W^T.
template <Real T>
[[nodiscard]] std::function<double(double)> unseen_loss(
    const std::array<Calibration<T>, 2>& folds, Matrix<double> Wt,
    std::function<Matrix<double>(const Matrix<double>& H, const Matrix<double>& Wt)> stand_in) {
  return [grams = fold_grams(folds), Wt = std::move(Wt), stand_in = std::move(stand_in)](double a) {
    double sum = 0;
    for (std::size_t fold = 0; fold < (Wt.rows() < many_inputs ? 2 : 1); ++fold)
      sum += metric_loss(Dense<double>(grams[1 - fold]),
                         Wt - stand_in(fitting_gram(shrunk(grams[fold], a)), Wt));
    return sum;
  };
}

/// W^T pruned and refitted, as `prune` would with little time.
template <class = void>
[[nodiscard]] Matrix<double> prune_quickly(const Matrix<double>& H, const Matrix<double>& Wt,
                                           PruneCriterion criterion, const PruneMethod& method,
                                           Index iterations) {
  Matrix<double> St;
  if (criterion == PruneCriterion::sparsegpt || criterion == PruneCriterion::search) {
    // Masks that all columns together agree on want much less shrinkage than those of the sweep;
    // where a round of the search takes seconds, the sweep must do; where either takes long, the
    // search begins without.
    const bool searched = criterion == PruneCriterion::search && Wt.rows() <= 2048;
    const bool few = Wt.rows() < many_inputs;
    St = searched && !few ? prune_by(scores(H, Wt, PruneCriterion::wanda), Wt, method.pattern)
                          : column_sweep(Wt, inverse_factor(H), SweepRule{method.pattern})->values;
    if (searched) St = *mask_search(H, Wt, St, method.pattern, {}, few ? 6 : 3);
  } else {
    St = prune_by(scores(H, Wt, criterion), Wt, method.pattern);
  }
  if (method.refit) masked_refit(H, Wt, St, iterations);
  return St;
}

/// The calibration's Gram matrix, scaled, shrunk as suits pruning and what then rounds the values,
/// to no grid or a grid; by a quick way to prune some of the rows. Empty without samples.
template <Real T>
[[nodiscard]] Matrix<double> pruning_gram(const ConstMatrixRef<T>& W,
                                          const Calibration<T>& calibration,
                                          const PruneMethod& method, const Grid& grid,
                                          const Monitor& monitor) {
  const PruneCriterion criterion = resolve(method.criterion, true);
  const bool by_scores =
      criterion != PruneCriterion::sparsegpt && criterion != PruneCriterion::search;
  const auto steady = steadied(calibration);
  const Calibration<T>& seen = steady ? *steady : calibration;
  if (by_scores && !method.refit && grid.span == 0) return scaled_gram(seen);
  // What is best for kept values that are refitted falls as fast as T^-2 where samples are about as
  // many as they are, and slowly where they are few.
  const double ratio = double(calibration.samples()) / double(W.cols());
  const double decay = std::clamp(2 + std::log2((std::max)(ratio, 1e-3)), 1.0, 2.0);
  const double a = chosen_shrinkage(seen, decay, monitor, [&](const auto& folds) {
    Matrix<double> rows = some_rows<T>(W, 48);
    rows /= power_of_two_below(rows.cwiseAbs().maxCoeff());
    return unseen_loss(folds, std::move(rows),
                       [=, iterations = refit_iterations(W.cols(), W.rows())](
                           const Matrix<double>& H, const Matrix<double>& Wt) {
                         return prune_quickly(H, Wt, criterion, method, iterations);
                       });
  });
  return shrunk(scaled_gram(seen), a);
}

/// The same for rounding to a grid; by the column sweep and descent on some of the rows.
template <Real T>
[[nodiscard]] Matrix<double> rounding_gram(const ConstMatrixRef<T>& W,
                                           const Calibration<T>& calibration, const Grid& grid,
                                           const Monitor& monitor) {
  const auto steady = steadied(calibration);
  const Calibration<T>& seen = steady ? *steady : calibration;
  const double a = chosen_shrinkage(seen, 1, monitor, [&](const auto& folds) {
    Matrix<double> rows = some_rows<T>(W, 48);
    rows /= power_of_two_below(rows.cwiseAbs().maxCoeff());
    return unseen_loss(
        folds, std::move(rows), [grid](const Matrix<double>& H, const Matrix<double>& Wt) {
          auto swept = column_sweep(Wt, inverse_factor(H), SweepRule{{1, 1}, nullptr, grid});
          OnGrid Q{std::move(swept->values), std::move(swept->scales)};
          (void)grid_descent(H, Wt, grid, Q, nullptr, 2);
          return std::move(Q.values);
        });
  });
  return shrunk(scaled_gram(seen), a);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
