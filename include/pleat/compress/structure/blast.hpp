// SPDX-License-Identifier: MIT
// compress<Blast>: a BLAST matrix close to a weight, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/blast.hpp"
#include "pleat/solve/kronecker/blast_shapes.hpp"
#include "pleat/solve/kronecker/blast_solver.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Blast>: makes || P^(1/2) (W - What) X ||_F small over BLAST matrices, in the shrunk
/// metric of the calibration, by exact least squares over the factors in turns: from the best
/// factors of low rank, than which the result is never further; see `detail::BlastSolver`. Rows are
/// weighted by the diagonal of P. Calibrations may be singular; what they do not see is fitted as
/// far as that costs nothing.
///
/// Shape: what `Options` give; the rest is chosen among b x b blocks with b = 1, 2, 4, 8 and 16, of
/// at least 4 rows and columns: the most for which the coupling is at most a third of the values,
/// and b2 r at most 2^14 where there is a calibration, with the largest rank that the budget
/// allows. Where low rank of the same bytes, which is b = 1, turns out closer, it is taken.
///
/// In narrow storage V is rounded first, the coupling and U fitted to what it became, and so on,
/// where that is closer than all rounded as they are. For `error`, the bytes are halved and halved
/// again between too few and enough, at some seven times the cost. Cost: that of `LowRank`, and of
/// sweeps (see `detail::BlastSolver`), in double; with a calibration some n^2 doubles.
template <Real T>
struct Compressor<Blast<T>> {
  using Options = typename Blast<T>::Options;

  static Blast<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                      const Calibration<T>& calibration, const Options& options) {
    Maker maker(W, calibration, options);
    const Index m = W.rows();
    const Index n = W.cols();
    const std::size_t least = maker.bytes(maker.smallest());
    detail::require_budget("Blast", m, n, budget, sizeof(T), least, "its smallest shape");
    if (!budget.bounds_error()) return maker.within(budget.max_bytes(m, n, sizeof(T)));
    return detail::smallest_within_error<T>(
        "Blast", W, budget, calibration, least, (std::max)(least, maker.bytes(maker.largest())), 5,
        [&](std::size_t limit) { return maker.within(limit); }, [&] { return maker.stopped(); });
  }

 private:
  using Shape = detail::BlastShape;
  using Solver = detail::BlastSolver<>;

  class Maker {
   public:
    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : W_(W),
          m_(W.rows()),
          n_(W.cols()),
          given_{options.row_blocks, options.column_blocks, options.rank},
          iterations_(options.iterations),
          storage_(detail::require_storage<T>(options.storage)),
          seed_(options.seed),
          calibration_(calibration),
          stop_(options.monitor) {
      check();
      weight_ = W.template cast<double>();
      scale_ = detail::power_of_two_below(weight_.cwiseAbs().maxCoeff());
      weight_ /= scale_;
      row_roots_ = detail::row_roots(calibration, m_);
    }
    Maker(const Maker&) = delete;
    Maker& operator=(const Maker&) = delete;
    ~Maker() = default;

    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    [[nodiscard]] std::size_t bytes(const Shape& shape) const {
      return detail::blast_bytes<T>(m_, n_, shape, storage_);
    }

    /// The smallest and the largest shape that the options allow.
    [[nodiscard]] Shape smallest() const {
      return {std::max<Index>(1, given_.row_blocks), std::max<Index>(1, given_.column_blocks),
              std::max<Index>(1, given_.rank)};
    }
    [[nodiscard]] Shape largest() const {
      return {given_.row_blocks > 0 ? given_.row_blocks : detail::blast_count(m_, 16),
              given_.column_blocks > 0 ? given_.column_blocks : detail::blast_count(n_, 16),
              given_.rank > 0 ? given_.rank : (std::min)(m_, n_)};
    }

    [[nodiscard]] Blast<T> within(std::size_t limit) {
      std::vector<Shape> shapes = detail::blast_shapes<T>(m_, n_, limit, given_, storage_);
      if (shapes.empty()) shapes.push_back(smallest());
      prepare(shapes.back());
      const Shape shape = likely(shapes);
      const double flat = flat_loss(shapes, shape);  // first: its rank is higher
      Solver solver(weight_, G_, shape, stop_.monitor());
      begin(solver, shape);
      solver.run(stopped() ? 0 : sweeps(shape));
      if (!(flat < solver.loss())) return made(solver, shape);
      Solver of_low_rank(weight_, G_, shapes[0], {});
      begin(of_low_rank, shapes[0]);
      return made(of_low_rank, shapes[0]);
    }

   private:
    /// As it is stored.
    [[nodiscard]] Blast<T> made(Solver& solver, const Shape& shape) {
      solver.normalise();
      const Blast<T> best(left(solver, shape), coupling(solver, shape), right(solver, shape));
      if (!is_narrow(storage_)) return best;
      return refitted(solver, shape, best);
    }

    void check() const {
      const auto refuse = [this](bool legal, const char* what, Index most, Index given) {
        detail::require(legal, [&] {
          return "compress<Blast>: a " + detail::shape_text(m_, n_) + " matrix has between 1 and " +
                 std::to_string(most) + " " + what + ", not " + std::to_string(given);
        });
      };
      refuse(given_.row_blocks >= 0 && given_.row_blocks <= m_, "rows of blocks", m_,
             given_.row_blocks);
      refuse(given_.column_blocks >= 0 && given_.column_blocks <= n_, "columns of blocks", n_,
             given_.column_blocks);
      detail::require(given_.rank >= 0 && given_.rank <= (std::min)(m_, n_), [this] {
        return "compress<Blast>: a " + detail::shape_text(m_, n_) + " matrix has no rank " +
               std::to_string(given_.rank);
      });
      detail::require(iterations_ >= 0, [this] {
        return "compress<Blast>: iterations must not be negative, but are " +
               std::to_string(iterations_);
      });
    }

    /// The metric, once, shrunk by what suits low rank of about such a shape; and what finds low
    /// rank in it.
    void prepare(const Shape& shape) {
      if (low_rank_) return;
      const auto steady = detail::steadied(calibration_);
      const Calibration<T>& seen = steady ? *steady : calibration_;
      const double a = detail::low_rank_shrinkage(weight_, seen, shape.rank, stop_.monitor());
      G_ = detail::fitting_gram(detail::shrunk(detail::scaled_gram(seen), a));
      weight_ = row_roots_.asDiagonal() * weight_;
      if (G_.size() > 0) metric_ = Calibration<double>::from_gram(G_, 1).shrinkage(0);
      low_rank_ = std::make_unique<detail::LowRankSolver<>>(
          weight_, metric_, 0.0,
          detail::LowRankMethod{SvdMethod::automatic, 0, 6, seed_, stop_.monitor()});
    }

    void begin(Solver& solver, const Shape& shape) {
      auto factors = low_rank_->factors(shape.rank);
      solver.start(std::move(factors.U), factors.V);
    }

    /// What was given; else 30 sweeps, and fewer where those would take minutes.
    [[nodiscard]] Index sweeps(const Shape& shape) const {
      if (iterations_ > 0) return iterations_;
      const double most = G_.size() > 0 ? 1.2e12 : 3.1e11;
      return static_cast<Index>(std::clamp(most / work(shape), 3.0, 30.0));
    }
    /// Multiply-adds of a sweep, about.
    [[nodiscard]] double work(const Shape& shape) const {
      const auto size = [](Index count) { return static_cast<double>(count); };
      const double r = size(shape.rank);
      const double b1 = size(shape.row_blocks);
      const double b2 = size(shape.column_blocks);
      const double n = size(n_);
      const double of_all = (4 * size(m_) * n + (size(m_) + n) * r + (b1 + b2) * r * r / 6) * r;
      if (G_.size() == 0) return of_all;
      return of_all + 2 * size(m_) * n * n + n * r * (n + b2 * r / 2) + 13 * b1 * b2 * b2 * r * r;
    }

    /// The most blocks whose coupling is worth its bytes, and whose moments fit into memory.
    [[nodiscard]] Shape likely(const std::vector<Shape>& shapes) const {
      constexpr Index most = Index{1} << 14;
      Shape best = shapes[0];
      for (const Shape& shape : shapes)
        if (2 * shape.row_blocks * shape.column_blocks <= m_ + n_ &&
            (G_.size() == 0 || shape.column_blocks * shape.rank <= most))
          best = shape;
      return best;
    }

    /// What low rank of the same bytes loses; more than anything where that is no choice.
    [[nodiscard]] double flat_loss(const std::vector<Shape>& shapes, const Shape& shape) {
      const Shape& flat = shapes[0];
      if (flat.row_blocks > 1 || flat.column_blocks > 1 || flat == shape)
        return std::numeric_limits<double>::infinity();
      Solver solver(weight_, G_, flat, {});
      begin(solver, flat);
      return solver.loss();
    }

    /// With factors that are stored one after the other, and the others fitted to what that leaves.
    [[nodiscard]] Blast<T> refitted(Solver& solver, const Shape& shape, const Blast<T>& best) {
      detail::BlastFactors factors = solver.factors();
      const Vector<double> of_right = best.right().values().template cast<double>() / right_scale();
      each_of_right(shape, [&](Index row, Index col, Index at) {
        factors.V(col, row % shape.rank) = of_right(at);
      });
      solver.start(factors);
      solver.fit_left();
      solver.fit_coupling();
      solver.fit_left();
      const KroneckerSparse<T> stored = coupling(solver, shape);
      factors = solver.factors();
      const Vector<double> of_coupling = stored.values().template cast<double>() / middle_scale();
      each_of_coupling(shape, [&](Index e, Index i, Index j, Index at) {
        factors.s[static_cast<std::size_t>(i)](e, j) = of_coupling(at);
      });
      if (!is_finite(factors.U.sum()) || !is_finite(of_coupling.sum())) return best;
      solver.start(std::move(factors));
      solver.fit_left();
      if (!is_finite(solver.factors().U.sum())) return best;
      const Blast<T> fitted(left(solver, shape), stored, best.right());
      return relative_error(W_, fitted, calibration_) < relative_error(W_, best, calibration_)
                 ? fitted
                 : best;
    }

    // Powers of two whose product is the scale.
    [[nodiscard]] double left_scale() const { return std::exp2(std::trunc(std::log2(scale_) / 3)); }
    [[nodiscard]] double right_scale() const { return left_scale(); }
    [[nodiscard]] double middle_scale() const { return scale_ / left_scale() / right_scale(); }

    // Factors as they are stored.
    [[nodiscard]] KroneckerSparse<T> left(const Solver& solver, const Shape& shape) const {
      const Index p = shape.height(m_);
      const Index r = shape.rank;
      const Matrix<double>& U = solver.factors().U;
      Vector<T> values = Vector<T>::Zero(shape.row_blocks * p * r);
      for (Index row = 0; row < m_; ++row)
        values.segment(row * r, r) =
            (U.row(row) * (left_scale() / row_roots_(row))).transpose().template cast<T>();
      return KroneckerSparse<T>(m_, shape.row_blocks * r, {shape.row_blocks, p, r, 1}, values)
          .stored_as(storage_);
    }
    [[nodiscard]] KroneckerSparse<T> coupling(const Solver& solver, const Shape& shape) const {
      const Index b1 = shape.row_blocks;
      const Index b2 = shape.column_blocks;
      Vector<T> values(shape.rank * b1 * b2);
      each_of_coupling(shape, [&](Index e, Index i, Index j, Index at) {
        values(at) =
            static_cast<T>(solver.factors().s[static_cast<std::size_t>(i)](e, j) * middle_scale());
      });
      return KroneckerSparse<T>(b1 * shape.rank, b2 * shape.rank, {1, b1, b2, shape.rank}, values)
          .stored_as(Blast<T>::coupling_storage(storage_));
    }
    [[nodiscard]] KroneckerSparse<T> right(const Solver& solver, const Shape& shape) const {
      const Index q = shape.width(n_);
      const Index rows = shape.column_blocks * shape.rank;
      const Matrix<double>& V = solver.factors().V;
      Vector<T> values = Vector<T>::Zero(rows * q);
      each_of_right(shape, [&](Index row, Index col, Index) {
        values(row * q + col % q) = static_cast<T>(V(col, row % shape.rank) * right_scale());
      });
      return KroneckerSparse<T>(rows, n_, {shape.column_blocks, shape.rank, q, 1}, values)
          .stored_as(storage_);
    }

    /// Calls `body(e, i, j, number)` for the values of the coupling in order.
    template <class Body>
    static void each_of_coupling(const Shape& shape, Body body) {
      Index number = 0;
      for (Index e = 0; e < shape.rank; ++e)
        for (Index i = 0; i < shape.row_blocks; ++i)
          for (Index j = 0; j < shape.column_blocks; ++j) body(e, i, j, number++);
    }
    /// Calls `body(row, col, number)` for those of V^T.
    template <class Body>
    void each_of_right(const Shape& shape, Body body) const {
      const Index q = shape.width(n_);
      Index number = 0;
      for (Index row = 0; row < shape.column_blocks * shape.rank; ++row) {
        const Index first = row / shape.rank * q;
        for (Index col = first; col < (std::min)(n_, first + q); ++col) body(row, col, number++);
      }
    }

    const ConstMatrixRef<T>& W_;
    Index m_;
    Index n_;
    Shape given_;
    Index iterations_;
    Storage storage_;
    std::uint64_t seed_;
    const Calibration<T>& calibration_;
    detail::StopMonitor stop_;
    Matrix<double> weight_{};  // scaled, its rows weighted
    double scale_ = 1;
    Vector<double> row_roots_{};
    Matrix<double> G_{};            // shrunk; empty for the identity
    Calibration<double> metric_{};  // the same
    std::unique_ptr<detail::LowRankSolver<>> low_rank_{};
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
