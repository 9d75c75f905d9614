// SPDX-License-Identifier: MIT
// compress<SparseDictionary>: one dictionary and sparse codes, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/detail/target.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/sparse_dictionary.hpp"
#include "pleat/solve/dictionary/block_dictionary_shapes.hpp"
#include "pleat/solve/dictionary/sparse_dictionary_solver.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/metric_root.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<SparseDictionary>: makes || P^(1/2) (W - C D) X ||_F small in the shrunk metric of the
/// calibration (see `Calibration::shrinkage`), with P by its diagonal. Three solvers, of which the
/// later take longer and come closer:
///
///     rocket   the largest of the codes U Sigma over singular vectors, and D = (C^T C)^-1 C^T W,
///              which is the best for them in any metric: no inverse of X X^T
///     compot   from these, orthonormal atoms and the largest codes in turns, both exact; then
///              least squares, and better places within each group, in turns with D. The default
///     ksvd     from singular vectors, orthogonal least squares for every row and the approximate
///              K-SVD, see `detail::BlockDictionarySolver`; m k s^2 multiply-adds an iteration
///
/// No step raises the loss, and any calibration is legal. Sizes that `Options` leave to the budget:
/// the most atoms that it allows, for about a quarter, three, four or five eighths of M entries in
/// a group, whichever a short trial finds closest; half where a trial would take seconds, which is
/// best as a rule. Where even more fit, all entries of a row are kept: that is low rank. `error`
/// halves and halves again the bytes between too few and enough, at some seven times the cost.
///
/// Cost: 30 times 2 m n k multiply-adds and an eigendecomposition of k x k, fewer where that takes
/// seconds; in double.
///
/// Source: COMPOT, arXiv 2602.15200; CoSpaDi, arXiv 2509.22075.
template <Real T>
struct Compressor<SparseDictionary<T>> {
  using Options = typename SparseDictionary<T>::Options;

  static SparseDictionary<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                                 const Calibration<T>& calibration, const Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    Maker maker(W, calibration, options);
    const std::size_t least = maker.bytes(maker.smallest());
    detail::require_budget("SparseDictionary", m, n, budget, sizeof(T), least,
                           "its smallest dictionary");
    if (!budget.bounds_error()) return maker.within(budget.max_bytes(m, n, sizeof(T)));
    return detail::smallest_within_error<T>(
        "SparseDictionary", W, budget, calibration, least, (std::max)(least, maker.largest_bytes()),
        5, [&](std::size_t limit) { return maker.within(limit); }, [&] { return maker.stopped(); });
  }

 private:
  /// k atoms, and which of them a row uses: in free positions the group is all k.
  struct Size {
    Index atoms = 1;
    SparsePattern pattern{1, 1};
    bool is_free = true;

    [[nodiscard]] static Size of_free(Index atoms, Index nonzeros) {
      return {atoms, {nonzeros, atoms}, true};
    }
  };

  class Maker {
   public:
    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : m_(W.rows()),
          n_(W.cols()),
          options_(options),
          group_(detail::full_speed_group(detail::resolved_target<T>(options.target), sizeof(T))),
          steady_(detail::steadied(calibration)),
          calibration_(steady_ ? *steady_ : calibration),
          stop_(options.monitor) {
      check();
      weight_ = W.template cast<double>();
      scale_ = detail::power_of_two_below(weight_.cwiseAbs().maxCoeff());
      weight_ /= scale_;
      row_scale_ = detail::row_roots(calibration, m_);
    }
    Maker(const Maker&) = delete;
    Maker& operator=(const Maker&) = delete;
    ~Maker() = default;

    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    [[nodiscard]] std::size_t bytes(const Size& size) const {
      const std::size_t codes = size.is_free
                                    ? RowSparse<T>::stored_bytes(m_, size.atoms, size.pattern.kept)
                                    : detail::semi_structured_bytes(m_, size.atoms, size.pattern,
                                                                    options_.storage, places(size));
      return codes + matrix_bytes(options_.storage, static_cast<std::size_t>(size.atoms),
                                  static_cast<std::size_t>(n_));
    }

    /// The smallest that the options allow.
    [[nodiscard]] Size smallest() const {
      if (options_.pattern.group > 0)
        return {std::max<Index>(1, options_.atoms), options_.pattern, false};
      const Index s = std::max<Index>(1, options_.nonzeros);
      const Index k = options_.atoms > 0 ? options_.atoms : s;
      if (is_narrow(options_.storage)) return {k, {1, group_}, false};
      return Size::of_free(k, s);
    }

    /// Beyond these nothing is gained.
    [[nodiscard]] std::size_t largest_bytes() const {
      std::size_t most = 0;
      for (const Size& size : sizes((std::numeric_limits<std::size_t>::max)()))
        most = (std::max)(most, bytes(size));
      return most;
    }

    [[nodiscard]] SparseDictionary<T> within(std::size_t limit) {
      std::vector<Size> all = sizes(limit);
      if (all.empty()) all.push_back(smallest());
      prepare(all.front());
      const Size size = all.size() == 1 ? all.front() : best_of(all);
      if (size.is_free && size.pattern.kept == size.atoms && size.atoms <= (std::min)(m_, n_))
        return low_rank(size);
      return packed(found(size), size);
    }

   private:
    void check() const {
      const auto refuse = [](bool legal, const std::string& what) {
        detail::require(legal, [&] { return "compress<SparseDictionary>: " + what; });
      };
      const Index k = options_.atoms;
      const Index s = options_.nonzeros;
      constexpr Index most = Index{1} << 30;  // so that sizes in bytes do not overflow
      refuse(options_.solver <= DictionarySolver::ksvd, "unknown solver");
      refuse(options_.iterations >= 0,
             "iterations must not be negative, but are " + std::to_string(options_.iterations));
      refuse(
          0 <= k && k <= most && 0 <= s && s <= (k == 0 ? most : k),
          "there are no " + std::to_string(s) + " nonzeros among " + std::to_string(k) + " atoms");
      if (options_.solver != DictionarySolver::ksvd)
        refuse((std::max)(k, s) <= (std::min)(m_, n_),
               "a " + detail::shape_text(m_, n_) + " matrix has at most " +
                   std::to_string((std::min)(m_, n_)) + " orthonormal atoms, not " +
                   std::to_string((std::max)(k, s)) + "; ksvd takes any number");
      const bool patterned = options_.pattern != SparsePattern{0, 0};
      if (patterned) detail::require_pattern(options_.pattern);
      refuse(!patterned || s == 0,
             "a pattern and nonzeros are two ways to say how many atoms a row uses: give one");
      refuse(!patterned || options_.solver != DictionarySolver::ksvd,
             "ksvd chooses atoms freely: give nonzeros, not a pattern");
      const bool narrow = is_narrow(detail::require_storage<T>(options_.storage));
      refuse(!narrow || (s == 0 && options_.solver != DictionarySolver::ksvd),
             "codes in free positions are stored as they are: give a pattern, or native storage");
    }

    [[nodiscard]] static Places places(const Size& size) {
      return detail::smaller_places(size.pattern, size.atoms);
    }

    /// What is worth a trial within so many bytes: the most atoms, for some shares of them.
    [[nodiscard]] std::vector<Size> sizes(std::size_t limit) const {
      std::vector<Size> found;
      const bool ksvd = options_.solver == DictionarySolver::ksvd;
      const Index cap = (ksvd ? 2 : 1) * (std::min)(m_, n_);
      // `of(k)` is the size with k atoms.
      const auto add = [&](Index least, const auto& of) {
        const auto fits = [&](Index k) { return bytes(of(k)) <= limit; };
        const Index k = options_.atoms > 0 ? (fits(options_.atoms) ? options_.atoms : 0)
                                           : detail::largest_that(least, cap, fits);
        if (k >= least) found.push_back(of(k));
      };
      const auto in_groups = [&](SparsePattern pattern) {
        add(1, [=](Index k) { return Size{k, pattern, false}; });
      };
      const auto in_eighths = [](Index k, Index eighths) {
        const Index s = std::max<Index>(1, (k * eighths + 4) / 8);
        return Size::of_free(k, s);
      };
      if (options_.pattern.group > 0) {
        in_groups(options_.pattern);
      } else if (options_.nonzeros > 0) {
        add(options_.nonzeros, [this](Index k) { return Size::of_free(k, options_.nonzeros); });
      } else {
        for (const Index eighths : {4, 3, 5, 2}) {
          if (ksvd) add(1, [&](Index k) { return in_eighths(k, eighths); });
          else if (group_ * eighths % 8 == 0) in_groups({group_ * eighths / 8, group_});
        }
        if (!is_narrow(options_.storage)) add(1, [&](Index k) { return in_eighths(k, 8); });
        else in_groups({group_ - 1, group_});
      }
      return found;
    }

    /// Shrinks and roots the metric, once, by what suits low rank of such a size.
    void prepare(const Size& likely) {
      if (solver_) return;
      const Index rank = std::clamp<Index>(likely.atoms, 1, (std::min)(m_, n_));
      shrinkage_ = detail::low_rank_shrinkage(weight_, calibration_, rank, stop_.monitor());
      solver_.emplace((row_scale_.asDiagonal() * weight_).transpose(),
                      detail::MetricRoot<>::for_fitting(calibration_, shrinkage_), options_.seed);
    }

    [[nodiscard]] double work(const Size& size) const {
      return double(m_) * double(n_) * double(size.atoms);
    }

    [[nodiscard]] Size best_of(const std::vector<Size>& all) {
      const Index most = (std::min)(m_, n_);
      if (work(all.front()) > 1e9 && all.front().atoms < most) return all.front();
      const auto count = static_cast<Index>(all.size());
      const Monitor report = stop_.monitor();
      double least = std::numeric_limits<double>::infinity();
      Size best = all.front();
      for (Index i = 0; i < count; ++i) {
        const Size& size = all[static_cast<std::size_t>(i)];
        detail::CodedDictionary trial;
        const bool whole = size.pattern.kept >= size.atoms;
        trial.Ct =
            solver_->orthonormal_codes(size.atoms, size.pattern, whole || work(size) > 1e9 ? 0 : 8);
        trial.D = solver_->best_dictionary(trial.Ct);
        const double loss = solver_->loss(trial);
        if (loss < least) {
          least = loss;
          best = size;
        }
        if (report && !report({"sizes", i + 1, count, share(least)})) break;
      }
      return best;
    }

    [[nodiscard]] double share(double loss) const {
      return solver_->energy() > 0 ? std::sqrt((std::max)(0.0, loss) / solver_->energy()) : 0;
    }

    [[nodiscard]] detail::Proceed phase(const char* name) {
      const Monitor report = stop_.monitor();
      if (!report) return {};
      return [=, this](double done, double loss) {
        return report({name, std::max<Index>(1, std::lround(100 * done)), 100, share(loss)});
      };
    }

    [[nodiscard]] detail::CodedDictionary found(const Size& size) {
      detail::CodedDictionary result;
      if (options_.solver == DictionarySolver::ksvd) {
        result.Ct = solver_->pursuit_codes(size.atoms, size.pattern.kept,
                                           options_.iterations > 0 ? options_.iterations : 20,
                                           stop_.monitor());
        result.D = solver_->best_dictionary(result.Ct);
        return result;
      }
      if (options_.solver == DictionarySolver::rocket || stopped()) {
        result.Ct = solver_->one_shot(size.atoms, size.pattern);
        result.D = solver_->best_dictionary(result.Ct);
        return result;
      }
      const auto some = static_cast<Index>(std::clamp(2.5e11 / work(size), 10.0, 30.0));
      const Index iterations = options_.iterations > 0 ? options_.iterations : some;
      result.Ct = solver_->orthonormal_codes(size.atoms, size.pattern, iterations, phase("compot"));
      result.D = solver_->best_dictionary(result.Ct);
      if (!stopped())
        solver_->settle(result, size.pattern,
                        static_cast<Index>(std::clamp(2e10 / work(size), 2.0, 10.0)),
                        phase("codes and atoms"));
      return result;
    }

    /// Where every row uses every atom.
    [[nodiscard]] SparseDictionary<T> low_rank(const Size& size) {
      detail::LowRankSolver<> solver(weight_, calibration_, shrinkage_,
                                     {SvdMethod::automatic, 0, 6, options_.seed, stop_.monitor()});
      const auto [U, V] = solver.factors(size.atoms);
      return SparseDictionary<T>(free_codes(Matrix<T>((U * scale_).template cast<T>()), size.atoms),
                                 Dense<T>(V.template cast<T>(), options_.storage));
    }

    /// Codes and dictionary as they are stored. Atoms are scaled by powers of two to entries of
    /// about 1. What narrow codes have lost, their dictionary makes good as far as it can.
    [[nodiscard]] SparseDictionary<T> packed(detail::CodedDictionary best, const Size& size) const {
      for (Index k = 0; k < size.atoms; ++k) {
        const double unit = detail::power_of_two_below(best.D.row(k).cwiseAbs().maxCoeff());
        best.D.row(k) /= unit;
        best.Ct.row(k) *= unit;
      }
      const Vector<double> back = row_scale_.cwiseInverse();
      const Matrix<T> C = ((best.Ct * back.asDiagonal()).transpose() * scale_).template cast<T>();
      if (size.is_free)
        return SparseDictionary<T>(free_codes(C, size.pattern.kept),
                                   Dense<T>(best.D.template cast<T>()));
      SemiStructured<T> codes(C, size.pattern, options_.storage, places(size));
      if (is_narrow(options_.storage)) {
        const Matrix<double> stored = codes.to_dense().template cast<double>() / scale_;
        best.D = solver_->best_dictionary(
            Matrix<double>((row_scale_.asDiagonal() * stored).transpose()));
      }
      return SparseDictionary<T>(std::move(codes),
                                 Dense<T>(best.D.template cast<T>(), options_.storage));
    }

    /// s entries in every row, zeros among them where there are fewer.
    [[nodiscard]] static RowSparse<T> free_codes(const Matrix<T>& C, Index entries) {
      Matrix<T> values = Matrix<T>::Zero(C.rows(), entries);
      Matrix<Index> columns(C.rows(), entries);
      for (Index i = 0; i < C.rows(); ++i) {
        Index spare = entries - (C.row(i).array() != T(0)).count();
        Index e = 0;
        for (Index k = 0; k < C.cols() && e < entries; ++k) {
          if (C(i, k) == T(0) && spare-- <= 0) continue;
          values(i, e) = C(i, k);
          columns(i, e++) = k;
        }
      }
      return RowSparse<T>(C.cols(), values, columns);
    }

    Index m_;
    Index n_;
    const Options& options_;
    Index group_;
    std::optional<Calibration<T>> steady_;
    const Calibration<T>& calibration_;  // what is fitted to
    detail::StopMonitor stop_;
    Matrix<double> weight_{};  // scaled
    double scale_ = 1;
    Vector<double> row_scale_{};
    double shrinkage_ = 0;
    std::optional<detail::SparseDictionarySolver<>> solver_{};
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
