// SPDX-License-Identifier: MIT
// compress<LowRank>: the closest matrix of low rank, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"
#include "pleat/solve/low_rank/rank_within.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<LowRank>: minimises || P^(1/2) (W - U V) X ||_F over all factors of rank r, in the
/// shrunk metric of the calibration (see `Calibration::shrinkage`).
///
/// The optimum is U = U_r, V = U_r^T W with U_r the leading left singular vectors of W S, S S^T =
/// (1 - a) X X^T + a diag(X X^T): no inverse, so calibrations may be singular and need no damping
/// (the same matrix as SVD-LLM, Wang et al. 2024, and SVD-LLM V2 reach through one). Singular
/// vectors come from the eigenvectors of the smallest of three Gram matrices; see
/// `detail::LowRankSolver`. All in double.
///
/// Rank: `Options::rank`, or what the budget and `Options::rank_rule` give; at least 1. An error
/// below the epsilon of T, 0 too, asks for the numerical rank: factors in T, other than W itself,
/// are only within about 2 epsilon (1 + sqrt(rank)) of anything, and that is then enough. Cost:
/// products of m n min(m, n), and an eigendecomposition of the smaller side, randomized above 1024.
template <Real T>
struct Compressor<LowRank<T>> {
  static LowRank<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                        const Calibration<T>& calibration,
                        const typename LowRank<T>::Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    check(W, budget, options);
    detail::StopMonitor stop(options.monitor);
    const detail::LowRankMethod method{options.svd, options.oversampling, options.power_iterations,
                                       options.seed, stop.monitor()};
    const Matrix<double> weight = W.template cast<double>();
    const auto steady = detail::steadied(calibration);
    const Calibration<T>& seen = steady ? *steady : calibration;
    const double shrinkage =
        detail::low_rank_shrinkage(weight, seen, likely_rank(W, budget, options), stop.monitor());
    detail::LowRankSolver<> solver(weight, seen, shrinkage, method);
    const bool by_rule = options.rank_rule != RankRule::budget;
    Index rank = options.rank > 0 ? options.rank
                                  : detail::largest_rank(m, n, budget.max_bytes(m, n, sizeof(T)),
                                                         options.storage);
    if (options.rank == 0) {
      if (options.rank_rule == RankRule::energy)
        rank = (std::min)(rank, detail::energy_rank(solver.spectrum(), options.energy));
      if (options.rank_rule == RankRule::elbow)
        rank = (std::min)(rank, detail::elbow_rank(solver.spectrum()));
      if (!by_rule && budget.bounds_error())
        rank = detail::rank_within(solver, weight, seen, shrinkage, method,
                                   detail::sought_error<T>(budget.max_error(), (std::min)(m, n)));
    }
    LowRank<T> best = pack(solver, rank, options.storage);
    if (!budget.bounds_error()) return best;

    const bool fixed = options.rank > 0 || by_rule;
    const Index most = (std::min)(m, n);
    const auto make = [&](Index other) { return pack(solver, other, options.storage); };
    const auto measure = [&](const LowRank<T>& made) {
      return relative_error(W, made, calibration);
    };
    const auto stopped = [&] { return stop.stopped(); };
    double reached =
        detail::keep_promise<T>(budget.max_error(), options.storage, fixed ? rank : most, rank,
                                best, make, measure, stopped);
    const auto allowed = [&] {
      return detail::allowed_error<T>(budget.max_error(), rank, most, options.storage);
    };
    if (shrinkage > 0 && !fixed && reached <= allowed())
      detail::take_no_more<T>(budget.max_error(), options.storage, most, rank, best, reached, make,
                              measure, stopped);
    detail::require(reached <= allowed() || stop.stopped(), [&] {
      return "compress<LowRank>: " + budget.text() + " cannot be met: rank " +
             std::to_string(rank) + " of a " + detail::shape_text(m, n) +
             " matrix has relative error " + detail::scientific(reached);
    });
    return best;
  }

 private:
  /// The rank for which the shrinkage is chosen, before there is a spectrum.
  static Index likely_rank(const ConstMatrixRef<T>& W, const Budget& budget,
                           const typename LowRank<T>::Options& options) {
    if (options.rank > 0) return options.rank;
    const Index most = detail::largest_rank(
        W.rows(), W.cols(), budget.max_bytes(W.rows(), W.cols(), sizeof(T)), options.storage);
    const bool open = options.rank_rule != RankRule::budget || budget.bounds_error();
    return open ? (std::min)(most, ((std::min)(W.rows(), W.cols()) + 3) / 4) : most;
  }

  static LowRank<T> pack(detail::LowRankSolver<>& solver, Index rank, Storage storage) {
    const auto [U, V] = solver.factors(rank);
    return LowRank<T>(Dense<T>(U.template cast<T>(), storage),
                      Dense<T>(V.template cast<T>(), storage));
  }

  static void check(const ConstMatrixRef<T>& W, const Budget& budget,
                    const typename LowRank<T>::Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    detail::require(options.rank >= 0 && options.rank <= (std::min)(m, n), [&] {
      return "compress<LowRank>: a " + detail::shape_text(m, n) + " matrix has no rank " +
             std::to_string(options.rank);
    });
    detail::require(
        options.rank_rule <= RankRule::elbow && options.svd <= SvdMethod::randomized,
        [] { return std::string("compress<LowRank>: unknown rank rule or SVD method"); });
    detail::require(options.energy > 0 && options.energy <= 1, [&] {
      return "compress<LowRank>: energy must lie in (0, 1], not " + std::to_string(options.energy);
    });
    detail::require(options.oversampling >= 0 && options.power_iterations >= 0, [] {
      return std::string(
          "compress<LowRank>: oversampling and power_iterations must not be negative");
    });
    (void)detail::require_storage<T>(options.storage);
    detail::require_budget("LowRank", m, n, budget, sizeof(T),
                           detail::low_rank_bytes(m, n, 1, options.storage), "rank 1");
    if (options.rank > 0)
      detail::require_budget("LowRank", m, n, budget, sizeof(T),
                             detail::low_rank_bytes(m, n, options.rank, options.storage),
                             ("rank " + std::to_string(options.rank)).c_str());
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
