// SPDX-License-Identifier: MIT
// A weight pruned to a pattern: from the scores of single weights to the search for all of them.
#pragma once

#include "pleat/matrix/semi_structured.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/wide_metric.hpp"
#include "pleat/solve/sparse/group_descent.hpp"
#include "pleat/solve/sparse/mask_search.hpp"
#include "pleat/solve/sparse/masked_refit.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// How `prune` works; the fields are those of `SemiStructured::Options`.
struct PruneMethod {
  PruneCriterion criterion = PruneCriterion::automatic;
  bool refit = true;
  Index sweeps = 2;
  SparsePattern pattern = {};
};

/// The criterion that `automatic` stands for; throws `std::invalid_argument` for no criterion.
[[nodiscard]] inline PruneCriterion resolve(PruneCriterion criterion, bool calibrated) {
  require(criterion <= PruneCriterion::search,
          [] { return std::string("unknown criterion of pruning"); });
  if (criterion != PruneCriterion::automatic) return criterion;
  return calibrated ? PruneCriterion::search : PruneCriterion::magnitude;
}

/// The scores of `magnitude`, `wanda` and `nowag`, n x m; `H` may be empty.
template <class = void>
[[nodiscard]] Matrix<double> scores(const Matrix<double>& H, const Matrix<double>& Wt,
                                    PruneCriterion criterion) {
  Vector<double> weight = Vector<double>::Ones(Wt.rows());
  if (criterion != PruneCriterion::magnitude && H.size() > 0) weight = H.diagonal().cwiseSqrt();
  if (criterion == PruneCriterion::nowag)
    for (Index j = 0; j < Wt.rows(); ++j) {
      const double norm = Wt.row(j).norm();
      if (norm > 0) weight(j) /= norm;
    }
  return weight.asDiagonal() * Wt.cwiseAbs();
}

/// Keeps the largest scores of every group, and the weights there as they are.
template <class = void>
[[nodiscard]] Matrix<double> prune_by(const Matrix<double>& scores, Matrix<double> Wt,
                                      SparsePattern pattern) {
  const Index n = Wt.rows();
  const auto marks = std::make_unique<bool[]>(static_cast<std::size_t>(pattern.group));
  for (Index row = 0; row < Wt.cols(); ++row)
    for (Index first = 0; first < n; first += pattern.group) {
      const Index width = (std::min)(pattern.group, n - first);
      mark_largest(&scores(first, row), width, pattern.kept, marks.get());
      for (Index k = 0; k < width; ++k)
        if (!marks[static_cast<std::size_t>(k)]) Wt(first + k, row) = 0;
    }
  return Wt;
}

/// How often a refit of an n x m weight is improved: what costs little is run to the end, what
/// costs seconds to where it pays.
[[nodiscard]] inline Index refit_iterations(Index n, Index m) {
  const double work = std::pow(double(n), 2) * double(m);
  return static_cast<Index>(std::clamp(3e11 / work, 5.0, 40.0));
}

/// W^T pruned to a pattern in the metric H, which may be empty. Best so far where stopped. What the
/// column sweep made, where there is one, goes to `sweep` as well.
template <class = void>
[[nodiscard]] Matrix<double> prune(const Matrix<double>& H, const Matrix<double>& Wt,
                                   const PruneMethod& method, const Monitor& monitor,
                                   Matrix<double>* sweep = nullptr) {
  const bool calibrated = H.size() > 0;
  const SparsePattern pattern = method.pattern;
  const PruneCriterion criterion = resolve(method.criterion, calibrated);
  const bool swept = criterion == PruneCriterion::sparsegpt || criterion == PruneCriterion::search;
  Matrix<double> best =
      prune_by(scores(H, Wt, swept ? PruneCriterion::wanda : criterion), Wt, pattern);
  ProgressReport report(monitor);
  if (!calibrated) {
    report.relative_to(Wt.squaredNorm());
    report.reached((Wt - best).squaredNorm());
    (void)report.begin("prune", 1, 1);
    return best;
  }

  if (!report.begin("prune", 1, 1)) return best;
  const Dense<double> packed(H);
  report.relative_to(metric_loss(packed, Wt));
  (void)report.within();
  double least = metric_loss(packed, Wt - best);
  report.reached(least);
  const auto offer = [&](Matrix<double>&& candidate) {
    const double loss = metric_loss(packed, Wt - candidate);
    if (!(loss < least)) return;
    least = loss;
    best = std::move(candidate);
    report.reached(least);
  };
  if (!report.within()) return best;
  const auto tell = [&] { (void)report.within(); };

  const double work = std::pow(double(Wt.rows()), 2) * double(Wt.cols());
  const Index iterations = refit_iterations(Wt.rows(), Wt.cols());
  if (swept) {
    auto result =
        column_sweep(Wt, inverse_factor(H, 0.01, tell), SweepRule{pattern}, report.phase("sweep"));
    if (!result) return best;
    if (sweep != nullptr) *sweep = result->values;
    if (criterion == PruneCriterion::search) {
      auto found = mask_search(H, Wt, result->values, pattern, report.phase("search"));
      if (found && method.refit) masked_refit(H, Wt, *found, iterations, report.phase("refit"));
      if (found && pattern.group <= 32 && 128 % pattern.group == 0 && !report.stopped() &&
          method.refit && work < 2e10) {
        (void)group_descent(H, Wt, *found, pattern, method.sweeps, report.phase("descent"));
        masked_refit(H, Wt, *found, iterations, report.phase("refit"));
      }
      if (found) {
        offer(std::move(*found));
        if (work >= 2e10 && method.refit) return best;
      }
    }
    // What the search began with, refitted, is seldom better: worth it where it costs little.
    const bool last = criterion == PruneCriterion::sparsegpt;
    if (method.refit && !report.stopped() && (last || work < 5e8))
      masked_refit(H, Wt, result->values, iterations, report.phase("refit"));
    // A criterion that was asked for is what is returned, whether or not another does better.
    if (last && !report.stopped()) return std::move(result->values);
    offer(std::move(result->values));
  } else if (method.refit) {
    Matrix<double> candidate = best;
    masked_refit(H, Wt, candidate, iterations, report.phase("refit"));
    offer(std::move(candidate));
  }
  return best;
}

/// The same for a wide layer with few samples, in blocks of columns; where that is no better in
/// their metric than the largest entries as they are, those.
template <class = void>
[[nodiscard]] Matrix<double> prune_wide(const WideMetric<>& metric, const Matrix<double>& Wt,
                                        const PruneMethod& method, const Monitor& monitor) {
  const Matrix<double> largest =
      prune_by(scores({}, Wt, PruneCriterion::magnitude), Wt, method.pattern);
  const bool any = method.criterion != PruneCriterion::automatic;
  // The optimum where inputs are independent. And of groups that are wider than blocks would be.
  if ((metric.rank() == 0 && !any) || method.pattern.group > 512)
    return prune_by(metric.diagonal().cwiseSqrt().asDiagonal() * Wt.cwiseAbs(), Wt, method.pattern);
  PruneMethod of_block = method;
  if (!any) of_block.criterion = PruneCriterion::sparsegpt;  // to search takes seconds
  const double least = metric.loss(Wt - largest);
  ProgressReport report(monitor);
  report.relative_to(metric.loss(Wt));
  report.reached(least);
  (void)report.begin("prune", 1, 1);
  Matrix<double> found = metric.in_blocks(
      Wt, method.pattern.group, [&](const Matrix<double>& H, const Matrix<double>& wanted) {
        return prune(H, wanted, of_block, [&](const Progress&) { return report.within(); });
      });
  // A criterion that was asked for is what is returned.
  return any || metric.loss(Wt - found) < least ? found : largest;
}

/// The same for W itself: of any scale, the result likewise.
template <Real T>
[[nodiscard]] Matrix<double> prune_scaled(const ConstMatrixRef<T>& W, const Matrix<double>& H,
                                          const PruneMethod& method, const Monitor& monitor) {
  Matrix<double> Wt = W.transpose().template cast<double>();
  const double unit = power_of_two_below(Wt.cwiseAbs().maxCoeff());
  Wt /= unit;
  return prune(H, Wt, method, monitor) * unit;
}
template <Real T>
[[nodiscard]] Matrix<double> prune_scaled(const ConstMatrixRef<T>& W, const WideMetric<>& metric,
                                          const PruneMethod& method, const Monitor& monitor) {
  Matrix<double> Wt = W.transpose().template cast<double>();
  const double unit = power_of_two_below(Wt.cwiseAbs().maxCoeff());
  Wt /= unit;
  return prune_wide(metric, Wt, method, monitor) * unit;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
