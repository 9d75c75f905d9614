// SPDX-License-Identifier: MIT
// compress<Kronecker>: the closest sum of Kronecker products, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/kronecker.hpp"
#include "pleat/solve/kronecker/kronecker_shapes.hpp"
#include "pleat/solve/kronecker/kronecker_solver.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Kronecker>: makes || P^(1/2) (W - What) X ||_F small over all sums of Kronecker
/// products of a shape. Without a calibration it is the optimum, by the singular vectors of the
/// rearranged W (Van Loan and Pitsianis 1993), whose tail is the error. With one, A_r and B_r are
/// fitted in turns by exact half-steps in the shrunk metric (see `Calibration::shrinkage`), and the
/// result is never further from W in the metric of the samples than without; see
/// `detail::KroneckerSolver`. Rows are weighted by the diagonal of P, for which the nearest
/// Kronecker product stands. Calibrations may be singular. Of 4096 inputs or more, while the
/// calibration holds no more than n / 8 samples, these change nothing. Where m1 does not divide m,
/// or n1 n, What is the corner of a larger matrix: the optimum for W with zeros around it, so not
/// always for W.
///
/// Shape: m1 and n1 as `Options` give them; what they leave open is chosen by the spectra of
/// samples of the rearranged W, among divisors of m and n and, where these have none that are
/// useful, numbers of parts of which the last is not whole; the best three are made, with a
/// calibration the best, the best whose half-steps are of a size to solve, and columns times rows,
/// which is low rank, unless these two leave more than four times as much of W. Terms:
/// `Options::terms`, or as many as the budget allows, or fewer by `Options::rank_rule`, of the
/// spectrum of the rearranged W; without `terms` those that are 0 are left out. In narrow storage
/// B_r are rounded first, and A_r fitted to those. For `error`, the bytes are halved and halved
/// again between too few and enough, of one shape each time. Cost, for each shape that is made: m n
/// min(m1 n1, m2 n2) multiply-adds and an eigendecomposition of that size, randomized above 1024;
/// with a calibration another of these, m n^2, and 2 R^2 n^2 a round.
///
/// Source: C. Van Loan and N. Pitsianis, "Approximation with Kronecker products", 1993; the
/// half-steps are alternating least squares.
template <Real T>
struct Compressor<Kronecker<T>> {
  using Options = typename Kronecker<T>::Options;

  static Kronecker<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                          const Calibration<T>& calibration, const Options& options) {
    Maker maker(W, calibration, options);
    const Index m = W.rows();
    const Index n = W.cols();
    const auto [least, most] = maker.bounds();
    detail::require_budget("Kronecker", m, n, budget, sizeof(T), least,
                           maker.smallest_text().c_str());
    if (!budget.bounds_error()) return maker.within(budget.max_bytes(m, n, sizeof(T)), 3);
    return detail::smallest_within_error<T>(
        "Kronecker", W, budget, calibration, least, most, 6,
        [&](std::size_t limit) { return maker.within(limit, 1); }, [&] { return maker.stopped(); });
  }

 private:
  class Maker {
   public:
    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : original_(W),
          calibration_(calibration),
          options_(options),
          stop_(options.monitor),
          report_(stop_.monitor()) {
      check();
      for (const Index m1 : counts(W.rows(), options.left_rows))
        for (const Index n1 : counts(W.cols(), options.left_cols)) {
          const auto shape = detail::shape_of_term(W.rows(), W.cols(), m1, n1);
          if (options.terms <= detail::most_terms(shape)) shapes_.push_back(shape);
        }
      detail::require(!shapes_.empty(), [&] {
        return "compress<Kronecker>: no shape of a " + detail::shape_text(W.rows(), W.cols()) +
               " matrix has " + std::to_string(options.terms) + " terms" + open_text();
      });
      W_ = W.template cast<double>();
      scale_ = detail::power_of_two_below(W_.cwiseAbs().maxCoeff());
      W_ /= scale_;
    }

    /// The fewest bytes, and those beyond which nothing is gained.
    [[nodiscard]] std::pair<std::size_t, std::size_t> bounds() const {
      const auto bytes = [&](const KroneckerShape& shape, Index terms) {
        return Kronecker<T>::stored_bytes(
            detail::with_terms(shape, options_.terms > 0 ? options_.terms : terms),
            options_.storage);
      };
      std::size_t least = bytes(shapes_[0], 1);
      std::size_t most = bytes(shapes_[0], detail::most_terms(shapes_[0]));
      for (const KroneckerShape& shape : shapes_) {
        least = (std::min)(least, bytes(shape, 1));
        const std::size_t all = bytes(shape, detail::most_terms(shape));
        // All terms of one shape are exact; a given number of them may suit any.
        most = options_.terms > 0 ? (std::max)(most, all) : (std::min)(most, all);
      }
      return {least, (std::max)(least, most)};
    }
    [[nodiscard]] std::string smallest_text() const {
      const Index terms = std::max<Index>(1, options_.terms);
      return std::to_string(terms) + (terms == 1 ? " term" : " terms") + open_text();
    }

    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    /// Of the shapes that leave least of samples so many are made, and the best of them taken.
    [[nodiscard]] Kronecker<T> within(std::size_t limit, std::size_t alternatives) {
      prepare();
      struct Choice {
        KroneckerShape shape;
        double left;
      };
      std::vector<Choice> choices;
      for (const detail::KroneckerCandidate& candidate : candidates_) {
        const Index fits = detail::terms_within<T>(candidate.shape, limit, options_.storage);
        const Index terms = options_.terms > 0 ? options_.terms : fits;
        if (fits < std::max<Index>(1, terms)) continue;
        choices.push_back({detail::with_terms(candidate.shape, terms), candidate.left_by(terms)});
      }
      if (choices.empty()) choices.push_back({smallest(), 1});
      // Of those that leave nothing but rounding the smallest.
      constexpr double nothing = 1e-12;
      std::stable_sort(choices.begin(), choices.end(), [](const Choice& x, const Choice& y) {
        if (x.left > nothing || y.left > nothing) return x.left < y.left;
        return bytes_of_term(x.shape) < bytes_of_term(y.shape);
      });
      // What samples correlate is worth more than what lies between most shapes: first low rank,
      // whose closed form is the optimum, and the best that half-steps can improve.
      if (G_.size() > 0 && choices[0].left > nothing) {
        const double near_best = 4 * choices[0].left;
        const auto first = [&](auto wanted) {
          const auto found =
              std::find_if(choices.begin(), choices.end(), [&](const Choice& choice) {
                return choice.left <= near_best && wanted(choice.shape);
              });
          if (found != choices.end()) std::rotate(choices.begin(), found, found + 1);
        };
        first([](const KroneckerShape& s) { return detail::KroneckerSolver<>::solvable(s); });
        first([](const KroneckerShape& s) { return s.left_cols == 1 && s.right_rows == 1; });
      }
      std::optional<Kronecker<T>> best;
      double least = 0;
      const std::size_t count = std::min<std::size_t>(alternatives, choices.size());
      for (std::size_t i = 0; i < count && !(i > 0 && (least <= 0 || stopped())); ++i) {
        auto [op, error] = made(choices[i].shape, count > 1);
        if (!best || error < least) {
          best.emplace(std::move(op));
          least = error;
        }
      }
      return *std::move(best);
    }

   private:
    struct Made {
      Kronecker<T> op;
      double error;  // relative, in the metric of the samples; 0 where nobody asks
    };

    [[nodiscard]] static std::size_t bytes_of_term(const KroneckerShape& shape) {
      return Kronecker<T>::stored_bytes(detail::with_terms(shape, 1));
    }

    [[nodiscard]] static std::vector<Index> counts(Index size, Index given) {
      return given > 0 ? std::vector<Index>{given} : detail::part_counts(size);
    }

    [[nodiscard]] std::string open_text() const {
      return options_.left_rows > 0 || options_.left_cols > 0
                 ? " with left matrices of " +
                       (options_.left_rows > 0 ? std::to_string(options_.left_rows) : "any") +
                       " rows and " +
                       (options_.left_cols > 0 ? std::to_string(options_.left_cols) : "any") +
                       " columns"
                 : std::string();
    }

    void check() const {
      check_parts("left_rows", options_.left_rows, original_.rows(), "rows");
      check_parts("left_cols", options_.left_cols, original_.cols(), "columns");
      detail::require(options_.terms >= 0 && options_.iterations >= 0, [&] {
        return "compress<Kronecker>: terms and iterations must not be negative, but are " +
               std::to_string(options_.terms) + " and " + std::to_string(options_.iterations);
      });
      detail::require(options_.rank_rule <= RankRule::elbow,
                      [] { return std::string("compress<Kronecker>: unknown rank rule"); });
      detail::require(options_.energy > 0 && options_.energy <= 1, [&] {
        return "compress<Kronecker>: energy must lie in (0, 1], not " +
               std::to_string(options_.energy);
      });
      (void)detail::require_storage<T>(options_.storage);
    }
    static void check_parts(const char* option, Index given, Index size, const char* what) {
      detail::require(given >= 0 && given <= size, [&] {
        return std::string("compress<Kronecker>: ") + option + " of a matrix with " +
               std::to_string(size) + ' ' + what + " lies between 1 and " + std::to_string(size) +
               ", or is 0, but not " + std::to_string(given);
      });
      if (given == 0) return;
      const Index part = detail::divided_up(size, given);
      const Index used = detail::divided_up(size, part);
      detail::require(used == given, [&] {
        return std::string("compress<Kronecker>: ") + option + " = " + std::to_string(given) +
               " times " + std::to_string(part) + " is more than " + std::to_string(size) + ' ' +
               what + " need: " + std::to_string(used) + " would do, or " +
               std::to_string(detail::divided_up(size, (std::max)(Index{1}, part - 1)));
      });
    }

    /// What all shapes share: the metric, and the spectra by which they are chosen.
    void prepare() {
      if (!candidates_.empty()) return;
      const auto steady = detail::steadied(calibration_);
      const Calibration<T>& seen = steady ? *steady : calibration_;
      calibrated_ =
          calibration_.row_weights().size() > 0 || calibration_.output_metric().size() > 0;
      if (calibrated_) roots_ = detail::row_roots(seen, W_.rows());
      if (seen.samples() > 0 && !detail::few_for(seen.inputs(), seen.samples())) {
        const Index likely = std::max<Index>(1, ((std::min)(W_.rows(), W_.cols()) + 3) / 4);
        const double a = detail::low_rank_shrinkage(W_, seen, likely, stop_.monitor());
        G_ = detail::fitting_gram(detail::shrunk(detail::scaled_gram(seen), a));
        calibrated_ = calibrated_ || G_.size() > 0;
      }
      Matrix<double> weighted = W_;
      if (roots_.size() > 0) weighted = roots_.asDiagonal() * weighted;
      if (G_.size() > 0) weighted = weighted * G_.diagonal().cwiseSqrt().asDiagonal();
      const auto count = static_cast<Index>(shapes_.size());
      for (Index i = 0; i < count; ++i) {
        const KroneckerShape& shape = shapes_[static_cast<std::size_t>(i)];
        // The only one needs no spectrum.
        if (count == 1) candidates_.push_back({shape, Vector<double>::Zero(1)});
        else candidates_.push_back(detail::kronecker_candidate(weighted, shape, options_.seed));
        if (count > 1 && !report_.begin("shapes", i + 1, count)) break;
      }
    }

    [[nodiscard]] KroneckerShape smallest() const {
      const auto bytes = [&](const KroneckerShape& shape) {
        return Kronecker<T>::stored_bytes(shape, options_.storage);
      };
      KroneckerShape best = detail::with_terms(shapes_[0], std::max<Index>(1, options_.terms));
      for (const KroneckerShape& shape : shapes_) {
        const auto other = detail::with_terms(shape, best.terms);
        if (bytes(other) < bytes(best)) best = other;
      }
      return best;
    }

    [[nodiscard]] Made made(KroneckerShape shape, bool compared) {
      const detail::LowRankMethod method{SvdMethod::automatic, 0, 6, options_.seed,
                                         stop_.monitor()};
      const Matrix<double> identity;
      const Vector<double> ones;
      const Index all = detail::most_terms(shape);
      const auto by_rule = [&](const detail::KroneckerSolver<>& solver) {
        if (options_.terms > 0 || options_.rank_rule == RankRule::budget) return;
        const Vector<double> spectrum = solver.spectrum();
        shape.terms = (std::min)(shape.terms, options_.rank_rule == RankRule::energy
                                                  ? detail::energy_rank(spectrum, options_.energy)
                                                  : detail::elbow_rank(spectrum));
      };
      const auto measured = [&](Kronecker<T> op) {
        const double error = relative_error(original_, op, calibration_);
        return Made{std::move(op), error};
      };
      // All terms are exact: nothing to fit.
      if (!calibrated_ || (shape.terms == all && options_.rank_rule == RankRule::budget)) {
        detail::KroneckerSolver<> solver(W_, identity, ones, shape, method);
        by_rule(solver);
        auto op = packed(solver, solver.by_singular_vectors(shape.terms), shape);
        return compared ? measured(std::move(op)) : Made{std::move(op), 0};
      }
      std::optional<Made> fitted;
      {
        detail::KroneckerSolver<> solver(W_, G_, roots_, shape, method);
        by_rule(solver);
        fitted.emplace(measured(
            packed(solver, solver.fitted(shape.terms, options_.iterations, report_), shape)));
        // Singular vectors are at hand; but what is rounded without a metric is fitted without one.
        if (roots_.size() == 0 && !is_narrow(options_.storage)) {
          Made plain = measured(packed(solver, solver.by_singular_vectors(shape.terms), shape));
          return plain.error < fitted->error ? std::move(plain) : *std::move(fitted);
        }
      }
      detail::KroneckerSolver<> solver(W_, identity, ones, shape, method);
      Made plain = measured(packed(solver, solver.by_singular_vectors(shape.terms), shape));
      return plain.error < fitted->error ? std::move(plain) : *std::move(fitted);
    }

    /// As they are stored.
    [[nodiscard]] Kronecker<T> packed(const detail::KroneckerSolver<>& solver,
                                      detail::KroneckerTerms terms, const KroneckerShape& shape) {
      balance(terms, shape);
      if (options_.terms == 0) leave_out_zeros(terms);
      if (!is_narrow(options_.storage)) return stored(terms, shape);
      // Each is rounded; or B_r are, and A_r are fitted to what those became.
      const Kronecker<T> blunt = stored(terms, shape);
      if (!solver.has_half_steps(terms.A.cols())) return blunt;
      terms.B = all_of(blunt.right_terms());
      terms.A = solver.left_for(terms.B) * scale_;
      if (!is_finite(terms.A.sum())) return blunt;
      const Kronecker<T> refined = stored(terms, shape);
      const bool better = relative_error(original_, refined, calibration_) <
                          relative_error(original_, blunt, calibration_);
      return better ? refined : blunt;
    }
    /// Terms that are nothing: W has no more.
    static void leave_out_zeros(detail::KroneckerTerms& terms) {
      Index kept = terms.A.cols();
      while (kept > 1 && terms.A.col(kept - 1).isZero(0)) --kept;
      terms.A.conservativeResize(terms.A.rows(), kept);
      terms.B.conservativeResize(terms.B.rows(), kept);
    }

    [[nodiscard]] Kronecker<T> stored(const detail::KroneckerTerms& terms,
                                      const KroneckerShape& shape) const {
      return Kronecker<T>(shape.rows, shape.cols, list(terms.A, shape.left_rows, shape.left_cols),
                          list(terms.B, shape.right_rows, shape.right_cols), options_.storage);
    }
    [[nodiscard]] static std::vector<Matrix<T>> list(const Matrix<double>& terms, Index rows,
                                                     Index cols) {
      std::vector<Matrix<T>> result;
      for (Index r = 0; r < terms.cols(); ++r)
        result.push_back(
            Eigen::Map<const Matrix<double>>(terms.col(r).data(), rows, cols).template cast<T>());
      return result;
    }
    [[nodiscard]] static Matrix<double> all_of(const std::vector<Matrix<T>>& list) {
      Matrix<double> terms(list[0].size(), static_cast<Index>(list.size()));
      for (Index r = 0; r < terms.cols(); ++r) {
        const Matrix<T>& term = list[static_cast<std::size_t>(r)];
        terms.col(r) =
            Eigen::Map<const Vector<T>>(term.data(), term.size()).template cast<double>();
      }
      return terms;
    }

    /// Signs: the largest entry of every A_r is positive. Sizes, by powers of two: of the matrices
    /// that lie side by side, and share scales in narrow storage, all are of one size, and the
    /// largest entries of all A_r and of all B_r are.
    void balance(detail::KroneckerTerms& terms, const KroneckerShape& shape) const {
      Matrix<double>& beside = shape.right_first() ? terms.A : terms.B;
      Matrix<double>& below = shape.right_first() ? terms.B : terms.A;
      for (Index r = 0; r < terms.A.cols(); ++r) {
        Index largest = 0;
        const double left = terms.A.col(r).cwiseAbs().maxCoeff(&largest);
        const double right = terms.B.col(r).cwiseAbs().maxCoeff();
        if (!(left > 0 && right > 0)) {
          terms.A.col(r).setZero();
          terms.B.col(r).setZero();
          continue;
        }
        if (terms.A(largest, r) < 0) {
          terms.A.col(r) *= -1;
          terms.B.col(r) *= -1;
        }
        const double unit = detail::power_of_two_below(beside.col(r).cwiseAbs().maxCoeff());
        beside.col(r) /= unit;
        below.col(r) *= unit;
      }
      const double height = below.cwiseAbs().maxCoeff();
      double half = scale_;
      if (height > 0) half = std::exp2(std::round(std::log2(height) / 2 + std::log2(scale_) / 2));
      beside *= half;
      below *= scale_ / half;
    }

    const ConstMatrixRef<T>& original_;
    const Calibration<T>& calibration_;
    const Options& options_;
    detail::StopMonitor stop_;
    detail::ProgressReport report_;
    std::vector<KroneckerShape> shapes_{};  // of one term
    std::vector<detail::KroneckerCandidate> candidates_{};
    Matrix<double> W_{};  // scaled
    double scale_ = 1;
    Matrix<double> G_{};      // shrunk; empty for the identity
    Vector<double> roots_{};  // of the weights of rows; empty for ones
    bool calibrated_ = false;
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
