// SPDX-License-Identifier: MIT
// compress<SparseLowRank>: the closest sum of a sparse matrix and one of low rank, in the metric of
// the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/detail/target.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/compress/structure/semi_structured.hpp"
#include "pleat/factor/sparse_low_rank.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_refit.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"
#include "pleat/solve/sparse_low_rank/column_outliers.hpp"
#include "pleat/solve/sparse_low_rank/joint_search.hpp"
#include "pleat/solve/sparse_low_rank/sparse_low_rank_shrinkage.hpp"
#include "pleat/solve/sparse_low_rank/sparse_low_rank_sizes.hpp"

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

/// compress<SparseLowRank>: makes || P^(1/2) (W - S - U V) X ||_F small, in the shrunk metric of
/// the calibration (see `Calibration::shrinkage`).
///
/// By default S and U V are sought together, by operator splitting in which U V is eliminated in
/// closed form at every step, see `detail::joint_search`; then the kept values and U V by least
/// squares in turns. On real layers this takes a fifth off the error of the same sparse pattern and
/// rank one after the other, as `compensate` has them. Whole columns are exact given which; they
/// are chosen one by one, in turns with U. U V is at last the best of all for S as it is stored.
///
/// How many bytes S gets is chosen, unless `share` or `rank` say so, by a short search for each of
/// the sparse patterns that fit, from the densest down. `error` halves and halves again the bytes
/// between too few and enough, at some eight times the cost. Row weights count in both parts, an
/// output metric in U V entirely and in S by its diagonal. Any calibration is legal. Of 4096 inputs
/// or more, while it holds no more than n / 8 samples, nothing is n x n: S sees inputs by their
/// energies alone, see `detail::WideMetric`.
///
/// Cost: up to 108 products of m n^2 multiply-adds, and fewer where they take seconds; as much
/// again for the choice of sizes, of at most 768 rows.
template <Real T>
struct Compressor<SparseLowRank<T>> {
  using Options = typename SparseLowRank<T>::Options;

  static SparseLowRank<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                              const Calibration<T>& calibration, const Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    Maker maker(W, calibration, options);
    const std::size_t least = maker.sizes().smallest();
    detail::require_budget("SparseLowRank", m, n, budget, sizeof(T), least, "its smallest size");
    if (!budget.bounds_error()) return maker.within(budget.max_bytes(m, n, sizeof(T)));

    // Beyond the most bytes nothing is gained: a full rank loses nothing.
    return detail::smallest_within_error<T>(
        "SparseLowRank", W, budget, calibration, least, (std::max)(least, maker.sizes().largest()),
        6, [&](std::size_t limit) { return maker.within(limit); }, [&] { return maker.stopped(); });
  }

 private:
  using Size = detail::SparseLowRankSize;

  class Maker {
   public:
    Maker(const Maker&) = delete;
    Maker& operator=(const Maker&) = delete;
    ~Maker() = default;

    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : W_(W),
          options_(checked(W, options)),
          sizes_(W.rows(), W.cols(), options_, group(options)),
          steady_(detail::steadied(calibration)),
          calibration_(steady_ ? *steady_ : calibration),
          wide_(detail::WideMetric<>::of(calibration_)),
          stop_(options.monitor) {
      Wt_ = W.transpose().template cast<double>();
      unit_ = detail::power_of_two_below(Wt_.cwiseAbs().maxCoeff());
      Wt_ /= unit_;
      row_scale_ = detail::row_roots(calibration, W.rows());
      Wt_ *= row_scale_.asDiagonal();
    }

    [[nodiscard]] const detail::SparseLowRankSizes<T>& sizes() const { return sizes_; }
    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    [[nodiscard]] SparseLowRank<T> within(std::size_t limit) {
      const std::vector<Size> sizes = sizes_.within(limit);
      shrink(sizes.front());
      std::vector<Found> found;
      for (const Size& size : worth_it(sizes)) {
        found.push_back(solved(size));
        if (stop_.stopped()) break;
      }
      const auto best =
          std::min_element(found.begin(), found.end(),
                           [](const Found& a, const Found& b) { return a.loss < b.loss; });
      return packed(*best);
    }

   private:
    /// Where products are so cheap, more than one size is tried to the end.
    static constexpr double cheap = 3e8;

    struct Found {
      Size size;
      Matrix<double> St;  // scaled
      double loss = 0;
    };

    static const Options& checked(const ConstMatrixRef<T>& W, const Options& options) {
      const auto refuse = [](bool legal, const char* what) {
        detail::require(legal, [&] { return "compress<SparseLowRank>: " + std::string(what); });
      };
      refuse(options.sparse <= SparseKind::columns, "unknown kind of sparse part");
      refuse(options.method <= SparseLowRankMethod::godec, "unknown method");
      refuse(options.places <= Places::masks, "unknown form of places");
      detail::require(options.share >= 0 && options.share <= 1, [&] {
        return "compress<SparseLowRank>: share must lie in [0, 1], not " +
               std::to_string(options.share);
      });
      detail::require(options.rank >= 0 && options.rank <= (std::min)(W.rows(), W.cols()), [&] {
        return "compress<SparseLowRank>: a " + detail::shape_text(W.rows(), W.cols()) +
               " matrix has no rank " + std::to_string(options.rank);
      });
      detail::require(options.iterations >= 0, [&] {
        return "compress<SparseLowRank>: iterations must not be negative, but are " +
               std::to_string(options.iterations);
      });
      if (!(options.pattern == SparsePattern{0, 0})) detail::require_pattern(options.pattern);
      (void)detail::require_storage<T>(options.storage);
      return options;
    }

    static Index group(const Options& options) {
      return detail::full_speed_group_of<T>(options.target, options.storage, options.activations);
    }

    [[nodiscard]] Index full_rank() const { return (std::min)(W_.rows(), W_.cols()); }

    void shrink(const Size& size) {
      if (ready_) return;
      ready_ = true;
      if (wide_) {
        shrinkage_ = detail::low_rank_shrinkage(Matrix<double>(W_.template cast<double>() / unit_),
                                                calibration_, std::max<Index>(1, size.rank),
                                                stop_.monitor());
        return;
      }
      shrinkage_ = detail::sparse_low_rank_shrinkage<T>(W_, calibration_, size.rule, size.rank,
                                                        options_.seed, stop_.monitor());
      H_ = detail::fitting_gram(detail::shrunk(detail::scaled_gram(calibration_), shrinkage_));
    }

    /// The sizes to solve: the best in a short search, where products are cheap the best two.
    [[nodiscard]] std::vector<Size> worth_it(std::vector<Size> sizes) {
      if (sizes.size() == 1 || wide_ || stop_.stopped()) return {sizes.front()};
      const Index n = W_.cols();
      if (sizes.size() > 4 && double(n) * double(n) * double(W_.rows()) > cheap) sizes.resize(4);
      const auto most = static_cast<Index>(std::clamp(6e8 / (double(n) * double(n)), 192.0, 768.0));
      const Index height = (std::min)(W_.rows(), most);
      Matrix<double> some(n, height);
      for (Index i = 0; i < height; ++i) some.col(i) = Wt_.col(i * W_.rows() / height);
      const double part = double(height) / double(W_.rows());
      const auto share_of = [&](Index count) {
        return static_cast<Index>(std::lround(part * double(count)));
      };
      std::vector<double> losses;
      detail::ProgressReport report(stop_.monitor());
      if (sizes.front().rule.kind == detail::SparseRule::Kind::columns) {
        for (const Size& size : sizes) {
          losses.push_back(detail::column_outliers(H_, some, size.rule.count, share_of(size.rank),
                                                   options_.seed, 1)
                               .loss);
          const auto tried = static_cast<Index>(losses.size());
          if (!report.begin("sizes", tried, static_cast<Index>(sizes.size()))) break;
        }
      } else {
        std::vector<detail::JointState> states;
        for (const Size& size : sizes) {
          detail::SparseRule rule = size.rule;
          if (rule.kind == detail::SparseRule::Kind::entries) rule.count = share_of(rule.count);
          const Index rank = (std::min)(share_of(size.rank), (std::min)(height, n));
          states.push_back({rule, detail::LeadingSubspace<>(height, rank, options_.seed)});
        }
        detail::joint_search(H_, some, states, {6, 3}, report.phase("sizes"));
        for (detail::JointState& state : states)
          losses.push_back(detail::settle(H_, some, state, 0));
      }
      // A short search, unlike the closed form of columns, does not yet have what a larger rank
      // will give it: within 4 % of the least error, the sparsest. Of the stopped, the first.
      const bool is_short = sizes.front().rule.kind != detail::SparseRule::Kind::columns;
      const double least = *std::min_element(losses.begin(), losses.end());
      std::size_t chosen = losses.size() - 1;
      while (chosen > 0 && !(losses[chosen] <= (is_short ? 1.08 : 1) * least)) --chosen;
      if (stop_.stopped()) chosen = 0;
      std::vector<Size> best{sizes[chosen]};
      const double product = double(n) * double(n) * double(W_.rows());
      const auto first =
          static_cast<std::size_t>(std::min_element(losses.begin(), losses.end()) - losses.begin());
      const std::size_t other = chosen != first ? first : (std::min)(chosen + 1, sizes.size() - 1);
      if (product < cheap && other != chosen) best.push_back(sizes[other]);
      return best;
    }

    [[nodiscard]] Found solved(const Size& size) {
      using Method = SparseLowRankMethod;
      detail::ProgressReport report(stop_.monitor());
      const Index n = W_.cols();
      const Index m = W_.rows();
      detail::JointState state{size.rule, detail::LeadingSubspace<>(m, size.rank, options_.seed)};
      const bool exact_columns = size.rule.kind == detail::SparseRule::Kind::columns &&
                                 options_.method == Method::joint && !wide_;
      if (size.rank >= full_rank()) {
        state.St.resize(n, m);
        detail::project(size.rule, Wt_, state.St);
        return {size, std::move(state.St), 0};
      }
      if (exact_columns) {
        auto found = detail::column_outliers(H_, Wt_, size.rule.count, size.rank, options_.seed, 4,
                                             report.phase("columns"));
        return {size, std::move(found.St), found.loss};
      }
      if (options_.method != Method::joint || wide_) {
        Vector<double> scale = Vector<double>::Ones(n);
        if (options_.method != Method::godec) {
          if (wide_) scale = wide_->diagonal().cwiseSqrt();
          else if (H_.size() > 0) scale = H_.diagonal().cwiseSqrt();
        }
        const Index turns = options_.iterations > 0 ? options_.iterations : 80;
        detail::alternate(scale, Wt_, state, wide_ ? std::min<Index>(turns, 20) : turns,
                          report.phase("turns"));
        if (wide_ && size.rule.kind == detail::SparseRule::Kind::pattern &&
            options_.method == Method::joint && size.rank == 0 && !stop_.stopped())
          state.St = detail::prune_wide(*wide_, Wt_, method_for(size), stop_.monitor());
        return {size, std::move(state.St), 0};
      }
      if (size.rank == 0 && size.rule.kind == detail::SparseRule::Kind::pattern) {
        Matrix<double> St = detail::prune(H_, Wt_, method_for(size), stop_.monitor());
        const double loss = detail::SplittingMetric(H_).loss(Wt_ - St);
        return {size, std::move(St), loss};
      }
      const detail::JointPlan plan = options_.iterations > 0
                                         ? detail::JointPlan::of_steps(options_.iterations)
                                         : detail::JointPlan::of(n, m);
      std::vector<detail::JointState> states{std::move(state)};
      detail::joint_search(H_, Wt_, states, plan, report.phase("search"));
      state = std::move(states.front());
      report.relative_to(detail::SplittingMetric(H_).loss(Wt_));
      const double product = double(n) * double(n) * double(m);
      const auto iterations = static_cast<Index>(std::clamp(2e11 / product, 3.0, 12.0));
      const Index turns = stop_.stopped() ? 0 : product > 5e9 ? 1 : 4;
      double loss = detail::settle(H_, Wt_, state, turns, report.phase("refit"), iterations);
      report.reached(loss);
      // One after the other is seldom better: worth it where it costs little.
      if (product < cheap / 10 && !stop_.stopped() &&
          size.rule.kind == detail::SparseRule::Kind::pattern) {
        detail::JointState other{size.rule, state.low,
                                 detail::prune(H_, Wt_, method_for(size), stop_.monitor())};
        const double reached = detail::settle(H_, Wt_, other, 4);
        if (reached < loss) {
          loss = reached;
          state = std::move(other);
        }
      }
      return {size, std::move(state.St), loss};
    }

    [[nodiscard]] static detail::PruneMethod method_for(const Size& size) {
      return {PruneCriterion::automatic, true, 2, size.rule.pattern};
    }

    /// S as it is stored, and the best factors for what it leaves of W.
    [[nodiscard]] SparseLowRank<T> packed(const Found& found) {
      const Index n = W_.cols();
      const Index m = W_.rows();
      const Size& size = found.size;
      Matrix<double> St = found.St * row_scale_.cwiseInverse().asDiagonal();
      St *= unit_;
      const auto beside = [&](auto S) {
        const Matrix<double> left =
            W_.template cast<double>() - Matrix<T>(S.to_dense()).template cast<double>();
        return SparseLowRank<T>(std::move(S), factors(left, size.rank));
      };
      if (size.rule.kind == detail::SparseRule::Kind::entries)
        return beside(Csr<T>(St.transpose().template cast<T>()));
      if (size.rule.kind == detail::SparseRule::Kind::columns) {
        std::vector<Index> columns;
        for (Index j = 0; j < n; ++j)
          if ((St.row(j).array() != 0).any()) columns.push_back(j);
        const auto count = static_cast<Index>(columns.size());
        Matrix<T> kept(m, count);
        Matrix<T> selection = Matrix<T>::Zero(count, n);
        for (Index i = 0; i < count; ++i) {
          const Index j = columns[static_cast<std::size_t>(i)];
          kept.col(i) = St.row(j).transpose().template cast<T>();
          selection(i, j) = T(1);
        }
        return beside(typename SparseLowRank<T>::Columns(Dense<T>(kept, options_.storage),
                                                         Csr<T>(selection)));
      }
      if (!is_narrow(options_.storage) || H_.size() == 0 || stop_.stopped())
        return beside(SemiStructured<T>(Matrix<T>(St.transpose().template cast<T>()),
                                        size.rule.pattern, options_.storage, size.places));
      // What S stands for beside U V, so that its rounding is made up for within S first.
      const Matrix<double> L =
          low_rank(Matrix<double>(W_.template cast<double>() - St.transpose()), size.rank);
      const Matrix<T> target = (W_.template cast<double>() - L).template cast<T>();
      return beside(detail::stored_semi_structured<T>(target, H_, St,
                                                      {size.rule.pattern, size.places},
                                                      options_.storage, false, stop_.monitor()));
    }

    [[nodiscard]] detail::LowRankSolver<> solver(const Matrix<double>& left) {
      return {left,
              calibration_,
              shrinkage_,
              {SvdMethod::automatic, 0, 6, options_.seed, stop_.monitor()}};
    }
    [[nodiscard]] Matrix<double> low_rank(const Matrix<double>& left, Index rank) {
      if (rank == 0) return Matrix<double>::Zero(left.rows(), left.cols());
      const auto [U, V] = solver(left).factors(rank);
      return detail::multiply(U, V);
    }
    [[nodiscard]] LowRank<T> factors(const Matrix<double>& left, Index rank) {
      if (rank == 0)
        return {Dense<T>(Matrix<T>(left.rows(), 0)), Dense<T>(Matrix<T>(0, left.cols()))};
      auto [U, V] = solver(left).factors(rank);
      if (is_narrow(options_.storage))
        return detail::rounded_factors<T>(left, std::move(U), std::move(V), calibration_,
                                          shrinkage_, options_.storage);
      return {Dense<T>(U.template cast<T>()), Dense<T>(V.template cast<T>())};
    }

    const ConstMatrixRef<T>& W_;
    const Options& options_;
    detail::SparseLowRankSizes<T> sizes_;
    std::optional<Calibration<T>> steady_;
    const Calibration<T>& calibration_;  // what is fitted to
    std::optional<detail::WideMetric<>> wide_;
    detail::StopMonitor stop_;
    Matrix<double> Wt_{};  // scaled, rows by the roots of their weights
    double unit_ = 1;
    Vector<double> row_scale_{};
    Matrix<double> H_{};  // scaled, shrunk; empty for the identity
    double shrinkage_ = 0;
    bool ready_ = false;
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
