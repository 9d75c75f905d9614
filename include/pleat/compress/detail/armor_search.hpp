// SPDX-License-Identifier: MIT
// ARMOR from beginning to end: where it starts, the rounds of steps, and the rounding of S.
#pragma once

#include "pleat/compress/detail/armor_solver.hpp"
#include "pleat/core/progress.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Tells a monitor where a compression stands, at most twice a second between the steps of a phase,
/// and remembers that it was asked to stop.
class ProgressReport {
 public:
  explicit ProgressReport(Monitor monitor) : monitor_(std::move(monitor)) {}

  /// False: stop. The loss that is told never rises.
  bool begin(std::string_view phase, Index iteration, Index iterations, double loss) {
    now_ = {phase, iteration, iterations, std::min(now_.loss, loss)};
    return tell();
  }
  bool within() {
    constexpr auto pause = std::chrono::milliseconds(500);
    const bool due = monitor_ && !stopped_ && std::chrono::steady_clock::now() - told_ >= pause;
    return due ? tell() : !stopped_;
  }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  bool tell() {
    if (!stopped_ && monitor_) stopped_ = !monitor_(now_);
    told_ = std::chrono::steady_clock::now();
    return !stopped_;
  }

  Monitor monitor_;
  Progress now_;
  std::chrono::steady_clock::time_point told_;
  bool stopped_ = false;
};

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
  Vector<double> of_cols;
  Vector<double> of_rows;
};

/// The energies of the inputs as NoWag takes them: of inputs that were never seen, the mean of the
/// others.
template <class = void>
[[nodiscard]] Vector<double> input_energies(Vector<double> d) {
  const auto seen = (d.array() > 0).eval();
  const double mean = seen.any() ? seen.select(d.array(), 0).sum() / double(seen.count()) : 1;
  return seen.select(d.array(), mean).matrix();
}

/// 16 rounds for 512 x 512 with a calibration, fewer where they take longer: a round costs about
/// 5 m n `reach` multiply-adds, with `reach` the columns that K couples to one.
[[nodiscard]] inline Index automatic_rounds(Index m, Index n, Index reach) {
  const double work = double(m) * double(n) * double(reach);
  return static_cast<Index>(std::clamp(16 * std::pow(0x1p27 / work, 0.2), 4.0, 32.0));
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
  if (!(least > nothing) || !report.begin(phase, 1, rounds, std::sqrt(least)))
    return {std::move(best), least};
  const Matrix<double> root = anew ? metric.inverse_root(damping) : Matrix<double>();
  const Index last_pruning = anew ? rounds - std::max<Index>(1, rounds / 4) : 0;
  double before = least;
  int failures = 0;  // of pruning anew: after one, a round of descent; after three, nothing else
  bool failed = false;
  for (Index round = 1; round <= rounds; ++round) {
    const bool last = round > last_pruning;
    const bool pruning = round > 1 && !last && !failed && failures < 3;
    if (round > 1) {
      if (!report.begin(phase, round, rounds, std::sqrt(least))) break;
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
[[nodiscard]] ArmorFactors armor_wrap(const Matrix<double>& Wt, const InputMetric& metric,
                                      ArmorFactors factors, Index turns) {
  ArmorSolver solver(Wt, metric, std::move(factors));
  for (Index turn = 0; turn < turns; ++turn) {
    solver.improve_a(false);
    solver.improve_b();
    solver.carry_metric();
    solver.carry_values();
  }
  solver.improve_a(false);
  return solver.factors();
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
