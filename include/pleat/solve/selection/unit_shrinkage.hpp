// SPDX-License-Identifier: MIT
// How far the choice of hidden units shrinks a Gram matrix: by the least squares of some rows.
#pragma once

#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/selection/unit_selection.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The shrinkage for `kept` of the inputs of V, m x n, which is W with its outputs weighted: for at
/// most 48 of the rows, the units of most energy, and least squares for them. From 4096 inputs on,
/// the folds are judged one way only. Cost: k^3 / 3 multiply-adds a trial.
template <Real T>
[[nodiscard]] double unit_shrinkage(const Matrix<double>& V, const Calibration<T>& calibration,
                                    Index kept, const Monitor& monitor) {
  // As for the kept values of pruning: what is best falls as fast as T^-2 where a fold has about as
  // many samples as units are kept, and slowly where it has fewer.
  const double ratio = double(calibration.samples()) / (2 * double(kept));
  const double decay = std::clamp(2 + std::log2((std::max)(ratio, 1e-3)), 1.0, 2.0);
  return chosen_shrinkage(calibration, decay, monitor, [&](const auto& folds) {
    const Index height = std::min<Index>(V.rows(), 48);
    Matrix<double> rows(height, V.cols());
    for (Index i = 0; i < height; ++i) rows.row(i) = V.row(i * V.rows() / height);
    auto grams = fold_grams(folds);
    std::array<std::vector<Index>, 2> units;
    for (const std::size_t fold : {0U, 1U}) {
      units[fold] = energy_order(grams[fold], V);
      units[fold].resize(static_cast<std::size_t>(kept));
      std::sort(units[fold].begin(), units[fold].end());
    }
    return std::function<double(double)>(
        [grams = std::move(grams), rows = std::move(rows), units = std::move(units)](double a) {
          double sum = 0;
          for (std::size_t fold = 0; fold < (rows.cols() < 4096 ? 2 : 1); ++fold) {
            const Matrix<double> fitted = refit_to_units(shrunk(grams[fold], a), rows, units[fold],
                                                         dependent_share<T>(rows.cols()));
            Matrix<double> error = rows;
            error(Eigen::all, units[fold]) -= fitted;
            sum += (std::max)(0.0, multiply(error, grams[1 - fold]).cwiseProduct(error).sum());
          }
          return sum;
        });
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
