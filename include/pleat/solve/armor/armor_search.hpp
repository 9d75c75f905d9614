// SPDX-License-Identifier: MIT
// ARMOR from beginning to end: where it starts, and the rounds of steps.
#pragma once

#include "pleat/solve/armor/armor_solver.hpp"
#include "pleat/solve/linear/progress_report.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// W with columns, then rows, divided by their norms r1 and r2: W = diag(r2) Wbar diag(r1). Norms
/// are increased by 1e-5 of the largest, so that what is next to nothing stays small.
///
/// Source: NoWag (Liu et al., 2025), where the 1e-5 is absolute.
template <class = void>
struct NoWag {
  explicit NoWag(Matrix<double> Wt_) : Wt(std::move(Wt_)) {
    const auto raised = [](Vector<double> norms) {
      const double largest = norms.maxCoeff();
      norms.array() += largest > 0 ? 1e-5 * largest : 1;
      return norms;
    };
    of_cols = raised(Wt.rowwise().norm());
    Wt = of_cols.cwiseInverse().asDiagonal() * Wt;
    of_rows = raised(Wt.colwise().norm().transpose());
    Wt = Wt * of_rows.cwiseInverse().asDiagonal();
  }

  Matrix<double> Wt;  // (Wbar)^T
  Vector<double> of_cols{};
  Vector<double> of_rows{};
};

/// The energies of the inputs as NoWag takes them: of inputs that were never seen, the mean of the
/// others.
template <class = void>
[[nodiscard]] Vector<double> input_energies(Vector<double> d) {
  const auto seen = (d.array() > 0).eval();
  const double mean = seen.any() ? seen.select(d.array(), 0).sum() / double(seen.count()) : 1;
  return seen.select(d.array(), mean).matrix();
}

/// 32 rounds for 512 x 512 with a calibration, 10 for 512 x 1536, 5 for 4096 x 4096: a round costs
/// about 5 m n `reach` multiply-adds, with `reach` the columns that K couples to one, and the first
/// ones gain the most.
[[nodiscard]] inline Index automatic_rounds(Index m, Index n, Index reach) {
  const double work = double(m) * double(n) * double(reach);
  return std::lround((std::min)(32.0, 4.6 + 27.4 * std::pow(0x1p27 / work, 0.7)));
}

/// What a search came to, and its loss as a share of the squared norm of W in the metric.
struct ArmorFound {
  ArmorFactors factors;
  double loss;
};

/// Rounds of pruning anew, a sweep over all groups, A, another sweep, A, and B; the last ones
/// without pruning, and with conjugate gradients for the values. Pruning increases the loss, from
/// where the steps come back lower than before, as a rule; where they do not, the best so far is
/// taken up again. All rounds are without it unless `anew`. Returns the best of all rounds, no
/// worse than `start`.
template <class = void>
[[nodiscard]] ArmorFound armor_search(const Matrix<double>& Wt, const InputMetric& metric,
                                      ArmorFactors start, Index rounds, bool anew,
                                      ProgressReport& report) {
  constexpr double damping = 0.1;  // flat: from 0.01 to 0.3 of the mean, results hardly differ
  constexpr double nothing = 1e-14;
  ArmorSolver solver(Wt, metric, start, [&report] { return report.within(); });
  ArmorFactors best = std::move(start);
  double least = solver.loss();
  const auto keep = [&] {
    const double loss = solver.loss();
    const bool better = loss < least;
    if (better) least = loss;
    if (!is_finite(loss)) solver.set_factors(best);  // a wrapper without an inverse
    return better;
  };
  const std::string_view phase = anew ? "round" : "descent";
  report.reached(least);
  if (!(least > nothing) || !report.begin(phase, 1, rounds)) return {std::move(best), least};
  const Matrix<double> root =
      anew ? metric.inverse_root(damping, [&report] { (void)report.within(); }) : Matrix<double>();
  const Index last_pruning = anew ? rounds - std::max<Index>(1, rounds / 4) : 0;
  double before = least;
  int failures = 0;  // of pruning anew: after one, a round of descent; after three, nothing else
  bool failed = false;
  for (Index round = 1; round <= rounds; ++round) {
    const bool last = round > last_pruning;
    const bool pruning = round > 1 && !last && !failed && failures < 3;
    if (round > 1) {
      report.reached(least);
      if (!report.begin(phase, round, rounds)) break;
      if (pruning) solver.prune(root, damping);
      else if (!failed) solver.carry_values();
    }
    failed = false;
    solver.improve_groups();
    solver.improve_a();
    solver.improve_groups();
    if (last) solver.improve_values(4);
    solver.improve_a();
    const bool better = keep();
    if (pruning && !better && !report.stopped()) {
      solver.set_factors(best);
      failed = true;
      ++failures;
      continue;
    }
    if (!report.stopped()) solver.improve_b();
    if (better) best = solver.factors();
    if (report.stopped() || !(least > nothing)) break;
    solver.carry_metric();
    // Descent alone that has all but come to its end.
    if (last && before - least < 1e-4 * least) break;
    before = least;
  }
  if (report.stopped()) return {std::move(best), least};
  solver.set_factors(best);
  solver.improve_a();
  if (keep()) best = solver.factors();
  return {std::move(best), least};
}

/// Of S that has been rounded, and stays: A and B around it, in so many turns.
template <class = void>
[[nodiscard]] ArmorFound armor_wrap(const Matrix<double>& Wt, const InputMetric& metric,
                                    ArmorFactors factors, Index turns) {
  ArmorSolver solver(Wt, metric, std::move(factors));
  for (Index turn = 0; turn < turns; ++turn) {
    solver.improve_a(false);
    solver.improve_b();
    solver.carry_metric();
    solver.carry_values();
  }
  if (turns > 0) solver.improve_a(false);
  return {solver.factors(), solver.loss()};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
