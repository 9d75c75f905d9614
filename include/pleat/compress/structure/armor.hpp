// SPDX-License-Identifier: MIT
// compress<Armor>: the closest 2:4 sparse matrix between two block-diagonal ones.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/compress/structure/semi_structured.hpp"
#include "pleat/factor/armor.hpp"
#include "pleat/solve/armor/armor_search.hpp"
#include "pleat/solve/sparse/rounded_weights.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Armor>: makes || P^(1/2) (W - A S B) X ||_F small, with P the weights of the outputs;
/// of an output metric, its diagonal. Or, with `ArmorObjective::proxy`, the loss of NoWag, sum over
/// i and j of (Wbar - Abar S Bbar)_ij^2 ||X_j||^2, with W = diag(r2) Wbar diag(r1) of unit rows and
/// A = diag(r2) Abar, B = Bbar diag(r1); it does not look at P.
///
/// In rounds of exact steps: on A, on blocks of B, on the places and values of one group of S after
/// another, and pruning anew in the coordinates to which A and B have moved the weights; see
/// `detail::ArmorSolver`. With a calibration twice: from SparseGPT's N:M matrix, which leaves
/// pruning anew the most to find, and, without that, from the matrix of compress<SemiStructured>.
/// The best of all rounds is taken, if, as it is stored, it is better than that matrix, in the same
/// storage, between identities: never worse, in any storage, and where both are of rotated inputs.
/// Entries of What are at most 8 times the largest of W and that matrix, rotated where they are. No
/// calibration has to be regular: errors on inputs that are off by 1e-3 of their size count as
/// well. Of 4096 inputs or more, while a calibration holds no more than n / 8 samples, what is
/// minimised takes inputs as uncorrelated. All in double. Nothing in it is random but the signs of
/// a rotation.
///
/// Blocks: `Options`, or as large as the budget allows, up to 256 and of equal size for A and B,
/// where that is 16 or more a multiple of 16, and what then is left goes to A; for `error`, the
/// smallest found that meet it. Values of S in int8 to int2 are rounded within a sweep of optimal
/// brain surgery, in other narrow storage to nearest, and A and B solved anew around them. Cost:
/// about 5 m n^2 multiply-adds a round, 5 m n b in a diagonal metric with blocks of b, and n^3
/// once.
///
/// Source: ARMOR (arXiv 2510.05528) for the structure and the proxy loss; SparseGPT (Frantar and
/// Alistarh, 2023) for the pruning of one matrix.
template <Real T>
struct Compressor<Armor<T>> {
  using Options = typename Armor<T>::Options;

  static Armor<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                      const Calibration<T>& calibration, const Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    check(W, options);
    const detail::PatternChoice pattern = core(m, n, budget, options);
    detail::ProgressReport report(options.monitor);
    const Problem problem(W, calibration, options, pattern, report);
    const bool fixed = options.block_rows > 0 && options.block_cols > 0;
    if (fixed || !budget.bounds_error()) {
      const Blocks blocks = chosen(m, n, budget.max_bytes(m, n, sizeof(T)), pattern, options);
      const Armor<T> op = make(W, problem, calibration, blocks, options, report);
      if (budget.bounds_error()) {
        const double reached = relative_error(W, op, calibration);
        detail::require(reached <= budget.max_error(),
                        [&] { return missed(W, budget, blocks, reached); });
      }
      return op;
    }
    // The smallest blocks that meet the error: twice as large until they do, then by halves.
    const auto of = [&](Index size) {
      return Blocks{options.block_rows > 0 ? options.block_rows : (std::min)(size, m),
                    options.block_cols > 0 ? options.block_cols : (std::min)(size, n)};
    };
    const Index largest = (std::min)(largest_block, (std::max)(m, n));
    Index misses = 0;
    for (Index size = 1;; size = (std::min)(2 * size, largest)) {
      Armor<T> best = make(W, problem, calibration, of(size), options, report);
      const double reached = relative_error(W, best, calibration);
      if (reached > budget.max_error() && !report.stopped()) {
        detail::require(size < largest, [&] { return missed(W, budget, of(size), reached); });
        misses = size;
        continue;
      }
      const Index step = size > 16 ? 16 : 1;
      while (size - misses > step && !report.stopped()) {
        const Index middle = (misses + size) / 2 / step * step;
        if (middle <= misses) break;
        Armor<T> smaller = make(W, problem, calibration, of(middle), options, report);
        if (relative_error(W, smaller, calibration) <= budget.max_error()) {
          best = std::move(smaller);
          size = middle;
        } else {
          misses = middle;
        }
      }
      return best;
    }
  }

 private:
  static constexpr Index largest_block = 256;
  /// What is minimised is the error on inputs that are off by so much of their mean square, at
  /// random: 1e-3 of their size. What they see as nothing is then worth keeping as it is, and costs
  /// what it is worth; without it, factors walk off where the Gram matrix is singular.
  static constexpr double ridge = 1e-6;

  struct Blocks {
    Index rows;
    Index cols;
  };

  /// What is minimised: W as it is scaled and weighted, and how What comes back from it.
  struct Problem {
    detail::PatternChoice core;
    Matrix<double> Wt;
    detail::InputMetric metric{};
    Vector<double> of_rows{};  // What = diag(of_rows) (A S B) diag(of_cols)
    Vector<double> of_cols{};
    Matrix<double> start{};      // S^T
    Matrix<double> swept{};      // another, SparseGPT's, where there is a calibration
    bool wide = false;           // then nothing is n x n
    bool measured = false;       // results, by `relative_error`
    SemiStructured<T> pruned{};  // `start` of W itself, as it is stored: what is to be bettered

    Problem(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options,
            const detail::PatternChoice& pattern, detail::ProgressReport& report)
        : core(pattern), Wt(W.template cast<double>().transpose()) {
      const Index m = W.rows();
      const Index n = W.cols();
      const double scale = detail::power_of_two_below(Wt.cwiseAbs().maxCoeff());
      Wt /= scale;
      of_rows = Vector<double>::Constant(m, scale);
      of_cols = Vector<double>::Ones(n);
      const auto few = detail::WideMetric<>::of(calibration);
      wide = few.has_value();
      if (options.objective == ArmorObjective::proxy) {
        const Vector<double> d = detail::input_energies(energies(calibration, n));
        detail::NoWag normal(std::move(Wt));
        Wt = std::move(normal.Wt);
        of_rows = normal.of_rows * scale;
        of_cols = normal.of_cols;
        metric = detail::InputMetric::diagonal((d.array() + ridge * d.mean()).matrix());
        start = detail::prune_by(d.cwiseSqrt().asDiagonal() * Wt.cwiseAbs(), Wt, core.pattern);
        const auto kept = (start.transpose().array() != 0).eval();
        pruned = SemiStructured<T>(Matrix<T>(kept.select(W, T(0))), core.pattern, options.storage,
                                   core.places);
        return;
      }
      // Rows are pruned each by itself: weights of outputs change only what is told of the error.
      const bool weighted =
          calibration.row_weights().size() > 0 || calibration.output_metric().size() > 0;
      Matrix<double> fitting;
      const detail::PruneMethod method{.pattern = core.pattern};
      if (few) {
        start = detail::prune_wide(*few, Wt, method,
                                   [&](const Progress&) { return report.begin("prune", 1, 1); });
      } else {
        fitting = detail::fitting_gram(detail::pruning_gram(
            W, calibration, method, detail::Grid::of(options.storage, core.pattern),
            [&](const Progress& now) {
              return report.begin(now.phase, now.iteration, now.iterations);
            }));
        start = detail::prune(
            fitting, Wt, method,
            [&](const Progress& now) {
              if (!weighted) report.reached(now.loss * now.loss);
              return report.begin(now.phase, now.iteration, now.iterations);
            },
            &swept);
      }
      if (report.stopped()) swept.resize(0, 0);
      pruned = detail::stored_semi_structured<T>(W, fitting, start * scale, core, options.storage,
                                                 report.stopped(), [&](const Progress& now) {
                                                   return report.begin(now.phase, now.iteration,
                                                                       now.iterations);
                                                 });
      weigh(calibration);
      if (fitting.size() > 0) fitting.diagonal().array() += ridge * fitting.diagonal().mean();
      measured = wide || fitting.size() > 0;
      metric = fitting.size() > 0
                   ? detail::InputMetric::full(std::move(fitting))
                   : detail::InputMetric::diagonal(few ? few->diagonal() : Vector<double>::Ones(n));
    }

    /// The error of What, in the metric of the calibration as it is, or in that of the proxy.
    [[nodiscard]] double error(const ConstMatrixRef<T>& W, const Armor<T>& op,
                               const Calibration<T>& calibration) const {
      if (measured) return relative_error(W, op, calibration);
      const Matrix<double> difference = Wt - of_cols.cwiseInverse().asDiagonal() *
                                                 op.to_dense().transpose().template cast<double>() *
                                                 of_rows.cwiseInverse().asDiagonal();
      return metric.times(difference).cwiseProduct(difference).sum();
    }

   private:
    /// The sums of squares of the inputs, to a scale; ones where there were none.
    [[nodiscard]] static Vector<double> energies(const Calibration<T>& calibration, Index n) {
      const Matrix<T> held = calibration.held_samples();
      const double largest = held.size() > 0 ? double(held.cwiseAbs().maxCoeff()) : 0;
      if (largest > 0) return (held.template cast<double>() / largest).rowwise().squaredNorm();
      const Matrix<double> gram =
          held.size() > 0 ? Matrix<double>() : detail::scaled_gram(calibration);
      return gram.size() > 0 ? Vector<double>(gram.diagonal()) : Vector<double>::Ones(n);
    }

    /// Outputs times the roots of their weights. Those of no weight count next to nothing, so that
    /// there is a way back.
    void weigh(const Calibration<T>& calibration) {
      Vector<double> weights = calibration.row_weights();
      if (calibration.output_metric().size() > 0) weights = calibration.output_metric().diagonal();
      if (weights.size() == 0) return;
      const Vector<double> roots = (weights / weights.maxCoeff()).cwiseMax(1e-8).cwiseSqrt();
      Wt = Wt * roots.asDiagonal();
      start = start * roots.asDiagonal();
      if (swept.size() > 0) swept = swept * roots.asDiagonal();
      of_rows = of_rows.cwiseQuotient(roots);
    }
  };

  static Armor<T> make(const ConstMatrixRef<T>& W, const Problem& problem,
                       const Calibration<T>& calibration, Blocks blocks, const Options& options,
                       detail::ProgressReport& report) {
    const Index m = W.rows();
    const Index n = W.cols();
    const Index reach = problem.metric.is_diagonal() ? blocks.cols : n;
    const Index rounds =
        options.rounds > 0 ? options.rounds : detail::automatic_rounds(m, n, reach);
    const auto search = [&](const Matrix<double>& start, Index count, bool anew) {
      return detail::armor_search(problem.Wt, problem.metric,
                                  {detail::BlockDiagonal(m, blocks.rows), start,
                                   detail::BlockDiagonal(n, blocks.cols), problem.core.pattern},
                                  count, anew, report);
    };
    const bool twice = problem.swept.size() > 0;
    // To prune anew takes the root of a metric of n x n.
    detail::ArmorFound found = search(twice ? problem.swept : problem.start, rounds, !problem.wide);
    detail::ArmorFound second = found;
    if (twice) {
      second = search(problem.start, std::max<Index>(1, rounds / 6), false);
      if (second.loss < found.loss) std::swap(found, second);
    }
    // All that follows is of operators as they are stored, whose rounding no step has seen.
    const detail::ArmorFactors none{detail::BlockDiagonal(m, blocks.rows), problem.start,
                                    detail::BlockDiagonal(n, blocks.cols), problem.core.pattern};
    Armor<T> best(packed(none.A, Vector<double>::Ones(m), true), problem.pruned,
                  packed(none.B, Vector<double>::Ones(n), false));
    const double bound = 8 * (std::max)(largest(W), largest(best.to_dense()));
    double least = problem.error(W, best, calibration);
    const auto offer = [&](Armor<T> candidate) {
      const double reached = problem.error(W, candidate, calibration);
      if (!(reached < least) || !(largest(candidate.to_dense()) <= bound)) return false;
      least = reached;
      best = std::move(candidate);
      return true;
    };
    if (!is_narrow(options.storage)) {
      const auto stored = [&](const detail::ArmorFactors& factors) {
        return packed(problem, factors,
                      SemiStructured<T>(Matrix<T>(factors.St.transpose().template cast<T>()),
                                        problem.core.pattern, problem.core.places));
      };
      if (!offer(stored(found.factors)) && twice) (void)offer(stored(second.factors));
      return best;
    }
    for (const auto* factors : {&std::as_const(found.factors), &none}) {
      Rounded rounded = round(problem, *factors, options.storage, report);
      (void)offer(packed(problem, rounded.found.factors, std::move(rounded.S)));
    }
    return best;
  }

  [[nodiscard]] static double largest(const ConstMatrixRef<T>& values) {
    return static_cast<double>(values.cwiseAbs().maxCoeff());
  }

  /// S in narrow storage, and the wrappers around it.
  struct Rounded {
    SemiStructured<T> S;
    detail::ArmorFound found;
  };

  /// Rounds S, where storage has a grid within a sweep of optimal brain surgery in the metric that
  /// B carries, whose later columns make up for earlier ones; then solves for A and B anew.
  static Rounded round(const Problem& problem, detail::ArmorFactors factors, Storage storage,
                       detail::ProgressReport& report) {
    SemiStructured<T> S(Matrix<T>(factors.St.transpose().template cast<T>()), problem.core.pattern,
                        storage, problem.core.places);
    const detail::Grid grid = detail::Grid::of(storage, problem.core.pattern);
    if (grid.span > 0 && !report.stopped() && !problem.wide)
      S = detail::rounded(std::move(S), detail::carried_metric(problem.metric, factors.B),
                          factors.St, factors.St, true, grid, [&](const Progress& now) {
                            return report.begin("rounding", now.iteration, now.iterations);
                          });
    factors.St = S.to_dense().transpose().template cast<double>();
    detail::ArmorFound found = detail::armor_wrap(problem.Wt, problem.metric, std::move(factors),
                                                  report.stopped() ? 0 : 3);
    return {std::move(S), std::move(found)};
  }

  static Armor<T> packed(const Problem& problem, const detail::ArmorFactors& factors,
                         SemiStructured<T> S) {
    return Armor<T>(packed(factors.A, problem.of_rows, true), std::move(S),
                    packed(factors.B, problem.of_cols, false));
  }

  /// diag(scales) D, or D diag(scales).
  static KroneckerSparse<T> packed(const detail::BlockDiagonal& D, const Vector<double>& scales,
                                   bool of_rows) {
    const Index b = D.block();
    Vector<T> values = Vector<T>::Zero(D.count() * b * b);
    for (Index i = 0; i < D.count(); ++i)
      for (Index p = 0; p < D.width(i); ++p)
        for (Index q = 0; q < D.width(i); ++q)
          values((i * b + p) * b + q) =
              static_cast<T>(D[i](p, q) * scales(D.first(i) + (of_rows ? p : q)));
    return KroneckerSparse<T>(D.size(), D.size(), {D.count(), b, b, 1}, values);
  }

  static std::size_t wrapper_bytes(Index size, Index block) {
    const Index rest = size % block;
    return static_cast<std::size_t>(size / block * block * block + rest * rest) * sizeof(T);
  }
  static std::size_t stored(Index m, Index n, Blocks blocks, const detail::PatternChoice& core,
                            Storage storage) {
    return detail::semi_structured_bytes(m, n, core.pattern, storage, core.places) +
           wrapper_bytes(m, blocks.rows) + wrapper_bytes(n, blocks.cols);
  }

  /// The pattern of S, beside the smallest wrappers that the options allow.
  static detail::PatternChoice core(Index m, Index n, const Budget& budget,
                                    const Options& options) {
    const Blocks least{std::max<Index>(1, options.block_rows),
                       std::max<Index>(1, options.block_cols)};
    const bool is_open = options.places == Places::automatic;
    detail::PatternChoice core = detail::chosen_pattern<T>(
        "Armor", m, n, budget, wrapper_bytes(m, least.rows) + wrapper_bytes(n, least.cols),
        options.pattern, is_open ? Places::masks : options.places, options.target, options.storage,
        options.activations, " between " + text(least));
    if (is_open && core.pattern.group == 4) core.places = Places::codes;
    return core;
  }

  /// The blocks of the options, and the largest within the limit where they leave it open.
  static Blocks chosen(Index m, Index n, std::size_t limit, const detail::PatternChoice& core,
                       const Options& options) {
    const bool free_rows = options.block_rows == 0;
    const bool free_cols = options.block_cols == 0;
    Blocks best{free_rows ? 1 : options.block_rows, free_cols ? 1 : options.block_cols};
    const auto grow = [&](bool rows, bool cols, Index step) {
      for (Index size = step; size <= largest_block; size += step) {
        const Blocks larger{rows ? (std::max)(best.rows, (std::min)(size, m)) : best.rows,
                            cols ? (std::max)(best.cols, (std::min)(size, n)) : best.cols};
        if (stored(m, n, larger, core, options.storage) > limit) break;
        best = larger;
      }
    };
    grow(free_rows, free_cols, 1);
    if (free_rows && best.rows > 16 && best.rows < m) best.rows -= best.rows % 16;
    if (free_cols && best.cols > 16 && best.cols < n) best.cols -= best.cols % 16;
    grow(free_rows, false, best.rows >= 16 ? 16 : 1);
    grow(false, free_cols, best.cols >= 16 ? 16 : 1);
    return best;
  }

  static std::string text(Blocks blocks) {
    return "blocks of " + std::to_string(blocks.rows) + " and " + std::to_string(blocks.cols);
  }
  static std::string missed(const ConstMatrixRef<T>& W, const Budget& budget, Blocks blocks,
                            double reached) {
    return "compress<Armor>: " + budget.text() + " cannot be met: with " + text(blocks) + ", a " +
           detail::shape_text(W.rows(), W.cols()) + " matrix has relative error " +
           detail::scientific(reached);
  }

  static void check(const ConstMatrixRef<T>& W, const Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    const auto fits = [](Index block, Index size) { return block >= 0 && block <= size; };
    detail::require(fits(options.block_rows, m) && fits(options.block_cols, n), [&] {
      return "compress<Armor>: a " + detail::shape_text(m, n) + " matrix has no " +
             text({options.block_rows, options.block_cols});
    });
    detail::require(options.objective <= ArmorObjective::proxy,
                    [] { return std::string("compress<Armor>: unknown objective"); });
    detail::require(options.rounds >= 0, [&] {
      return "compress<Armor>: rounds must not be negative, but are " +
             std::to_string(options.rounds);
    });
    (void)detail::require_storage<T>(options.storage);
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
