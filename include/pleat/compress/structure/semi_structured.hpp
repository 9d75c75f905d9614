// SPDX-License-Identifier: MIT
// compress<SemiStructured>: the closest N:M matrix, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/detail/target.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/sparse/rounded_weights.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// A pattern and how its places are stored.
struct PatternChoice {
  SparsePattern pattern;
  Places places;
};

/// What `pattern`, `places` and `target` of the options leave to a budget, of which `taken` bytes
/// are for something else, which stands `beside` the pattern in what is thrown. Throws
/// `std::invalid_argument` for options out of range, and where nothing fits.
template <Real T>
[[nodiscard]] PatternChoice chosen_pattern(const char* structure, Index rows, Index cols,
                                           const Budget& budget, std::size_t taken,
                                           SparsePattern pattern, Places places,
                                           const std::string& target, Storage storage,
                                           Activations activations,
                                           const std::string& beside = {}) {
  require(places <= Places::masks,
          [&] { return "compress<" + std::string(structure) + ">: unknown form of places"; });
  const Index group = full_speed_group_of<T>(target, storage, activations);
  std::vector<SparsePattern> patterns{pattern};
  if (pattern == SparsePattern{0, 0}) {
    patterns = {{group / 2, group}};
    if (group != 4) patterns.push_back({2, 4});
  } else {
    require_pattern(pattern);
  }
  // What rounded activations do not meet, the largest pattern may be; the last is 2:4 or given.
  require_sparse_activations<T>(storage, patterns.back(), activations);
  const std::size_t limit = budget.max_bytes(rows, cols, sizeof(T));
  std::size_t smallest = (std::numeric_limits<std::size_t>::max)();
  for (const SparsePattern candidate : patterns) {
    if (!sparse_meets<T>(storage, candidate, activations)) continue;
    for (const Places form : {Places::codes, Places::masks}) {
      if (places != Places::automatic && form != places) continue;
      const std::size_t needed =
          semi_structured_bytes(rows, cols, candidate, storage, form) + taken;
      if (needed <= limit) return {candidate, form};
      smallest = (std::min)(smallest, needed);
    }
  }
  require_budget(structure, rows, cols, budget, sizeof(T), smallest,
                 (to_string(patterns.back()) + beside).c_str());
  return {patterns.back(), Places::codes};
}

/// W pruned to S, in the metric H, as it is stored: in integers rounded in a sweep of its own
/// where there is a metric.
template <Real T>
[[nodiscard]] SemiStructured<T> stored_semi_structured(const ConstMatrixRef<T>& W,
                                                       const Matrix<double>& H,
                                                       const Matrix<double>& St,
                                                       const PatternChoice& choice, Storage storage,
                                                       bool stopped, const Monitor& monitor) {
  SemiStructured<T> result(Matrix<T>(St.transpose().template cast<T>()), choice.pattern, storage,
                           choice.places);
  const Grid grid = Grid::of(storage, choice.pattern);
  if (grid.span == 0 || H.size() == 0 || stopped) return result;
  return rounded(std::move(result), H, Matrix<double>(W.transpose().template cast<double>()), St,
                 true, grid, monitor);
}

/// What the options ask of `prune`; throws `std::invalid_argument` for options out of range.
template <class Options>
[[nodiscard]] PruneMethod prune_method(const Options& options, SparsePattern pattern) {
  require(options.sweeps >= 0, [&] {
    return "compress<SemiStructured>: sweeps must not be negative, but are " +
           std::to_string(options.sweeps);
  });
  (void)resolve(options.criterion, false);
  return {options.criterion, options.refit, options.sweeps, pattern};
}

/// W pruned in a metric of its inputs, a Gram matrix (which may be empty) or a `WideMetric`, as it
/// is stored.
template <Real T, class Metric>
[[nodiscard]] SemiStructured<T> pruned_semi_structured(const ConstMatrixRef<T>& W,
                                                       const Metric& metric,
                                                       const PruneMethod& method,
                                                       const PatternChoice& choice, Storage storage,
                                                       StopMonitor& stop) {
  const Matrix<double> St = prune_scaled(W, metric, method, stop.monitor());
  const auto stored = [&](const Matrix<double>& H) {
    return stored_semi_structured<T>(W, H, St, choice, storage, stop.stopped(), stop.monitor());
  };
  if constexpr (std::same_as<Metric, Matrix<double>>) return stored(metric);
  else return stored({});
}

}  // namespace detail

/// compress<SemiStructured>: minimises || (W - What) X ||_F, in the shrunk metric of the
/// calibration (see `Calibration::shrinkage`), over matrices with at most N nonzeros in every M
/// consecutive columns of a row.
///
/// Which weights are kept is a choice in every group, of six for 2:4 and of 12870 for 8:16; see
/// `PruneCriterion`. By default, with a calibration, it is found by the column sweep of SparseGPT,
/// then by operator splitting, then group by group (for M > 4 by swaps of one place for another);
/// the kept values are the least-squares optimum on their mask. Without a calibration the largest
/// are kept as they are, which is the optimum. In int8 to int2, values are rounded within a
/// further sweep, whose later columns make up for the rounding of earlier ones, and improved one by
/// one, their scales too; where N does not divide M, to the nearest.
///
/// By default half of every M columns are kept: 16 where AVX-512 runs floats, 8 where AVX2 or NEON
/// do, else 4 (of doubles half as many); of int8 values 8 where they meet activations rounded to
/// bytes (VNNI, SDOT), and of bf16 values 4 where there are dot products of bf16; by masks where
/// codes do not fit the budget; and 2:4 where only that fits.
///
/// The smallest budget is the bytes of the matrix. Row weights change nothing, because every row is
/// fitted by itself; neither does an output metric, which would couple the rows: only errors are
/// measured in it. Any calibration is legal. Cost: for m x n, at most some 60 products of m n^2,
/// and fewer where they take seconds. Of 4096 inputs or more, while a calibration holds no more
/// than n / 8 samples, nothing is n x n: columns are taken in blocks, see `detail::WideMetric`, and
/// values are rounded to nearest.
template <Real T>
struct Compressor<SemiStructured<T>> {
  static SemiStructured<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                               const Calibration<T>& calibration,
                               const typename SemiStructured<T>::Options& options) {
    const Storage storage = detail::require_storage<T>(options.storage);
    const detail::PatternChoice choice =
        detail::chosen_pattern<T>("SemiStructured", W.rows(), W.cols(), budget, 0, options.pattern,
                                  options.places, options.target, storage, options.activations);

    detail::StopMonitor stop(options.monitor);
    const detail::PruneMethod method = detail::prune_method(options, choice.pattern);
    const auto wide = detail::WideMetric<>::of(calibration);
    const SemiStructured<T> result = [&] {
      if (wide) return detail::pruned_semi_structured(W, *wide, method, choice, storage, stop);
      const Matrix<double> G = detail::pruning_gram(
          W, calibration, method, detail::Grid::of(storage, choice.pattern), stop.monitor());
      return detail::pruned_semi_structured(W, detail::fitting_gram(G), method, choice, storage,
                                            stop);
    }();
    if (budget.bounds_error() && !stop.stopped()) {
      const double reached = relative_error(W, result, calibration);
      detail::require(reached <= budget.max_error(), [&] {
        return "compress<SemiStructured>: " + budget.text() +
               " cannot be met: " + to_string(choice.pattern) + " has relative error " +
               detail::scientific(reached);
      });
    }
    return result;
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
