// SPDX-License-Identifier: MIT
// compress<SemiStructured>: the closest 2:4 matrix, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/sparse/rounded_weights.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"

#include <cstddef>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// W pruned to S, in the metric H, as it is stored: in int8 and int4 rounded in a sweep of its own
/// where there is a metric.
template <Real T>
[[nodiscard]] SemiStructured<T> stored_semi_structured(const ConstMatrixRef<T>& W,
                                                       const Matrix<double>& H,
                                                       const Matrix<double>& St, Storage storage,
                                                       bool stopped, const Monitor& monitor) {
  SemiStructured<T> result(Matrix<T>(St.transpose().template cast<T>()), storage);
  const Grid grid = Grid::of(storage, 2);
  if (grid.span == 0 || H.size() == 0 || stopped) return result;
  return rounded(std::move(result), H, Matrix<double>(W.transpose().template cast<double>()), St,
                 true, grid, monitor);
}

}  // namespace detail

/// compress<SemiStructured>: minimises || (W - What) X ||_F, in the shrunk metric of the
/// calibration (see `Calibration::shrinkage`), over matrices with at most two nonzeros in every
/// four consecutive columns of a row.
///
/// Which weights are kept is a choice of six in every group; see `PruneCriterion`. By default, with
/// a calibration, it is found by the column sweep of SparseGPT, then by operator splitting, then
/// group by group; the kept values are the least-squares optimum on their mask. Without a
/// calibration the largest are kept as they are, which is the optimum. In int8 and int4, values are
/// rounded within a further sweep, whose later columns make up for the rounding of earlier ones,
/// and improved one by one, their scales too.
///
/// The smallest budget is the bytes of the matrix: there is nothing to choose. Row weights change
/// nothing, because every row is fitted by itself; neither does an output metric, which would
/// couple the rows: only errors are measured in it. Any calibration is legal. Cost: for m x n, at
/// most some 60 products of m n^2, and fewer where they take seconds. Of 4096 inputs or more, while
/// a calibration holds no more than n / 8 samples, nothing is n x n: columns are taken in blocks,
/// see `detail::WideMetric`, and values are rounded to nearest.
template <Real T>
struct Compressor<SemiStructured<T>> {
  static SemiStructured<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                               const Calibration<T>& calibration,
                               const typename SemiStructured<T>::Options& options) {
    const Storage storage = detail::require_storage<T>(options.storage);
    detail::require(options.sweeps >= 0, [&] {
      return "compress<SemiStructured>: sweeps must not be negative, but are " +
             std::to_string(options.sweeps);
    });
    (void)detail::resolve(options.criterion, false);
    detail::require_budget("SemiStructured", W.rows(), W.cols(), budget, sizeof(T),
                           detail::semi_structured_bytes(W.rows(), W.cols(), storage), "2:4");

    detail::StopMonitor stop(options.monitor);
    const detail::PruneMethod method{options.criterion, options.refit, options.sweeps, {}};
    const auto wide = detail::WideMetric<>::of(calibration);
    const Matrix<double> H =
        wide ? Matrix<double>()
             : detail::fitting_gram(detail::pruning_gram(
                   W, calibration, method, detail::Grid::of(storage, 2), stop.monitor()));
    const Matrix<double> St = wide ? detail::prune_scaled(W, *wide, method, stop.monitor())
                                   : detail::prune_scaled(W, H, method, stop.monitor());
    const SemiStructured<T> result =
        detail::stored_semi_structured<T>(W, H, St, storage, stop.stopped(), stop.monitor());
    if (budget.bounds_error() && !stop.stopped()) {
      const double reached = relative_error(W, result, calibration);
      detail::require(reached <= budget.max_error(), [&] {
        return "compress<SemiStructured>: " + budget.text() +
               " cannot be met: 2:4 has relative error " + detail::scientific(reached);
      });
    }
    return result;
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
