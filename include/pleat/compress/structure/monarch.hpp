// SPDX-License-Identifier: MIT
// compress<Monarch>: the closest Monarch matrix, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/monarch.hpp"
#include "pleat/solve/kronecker/monarch_shapes.hpp"
#include "pleat/solve/kronecker/monarch_solver.hpp"
#include "pleat/solve/kronecker/monarch_spectra.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/metric/wide_metric.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Monarch>: makes || P^(1/2) (W - What) X ||_F small over Monarch matrices. Without a
/// calibration, and where X X^T is block-diagonal, the optimum of its shape; else no step raises
/// the loss, and the result is at least as close, in what is fitted to, as the optimum without; see
/// `detail::MonarchSolver`. Rows are weighted by the diagonal of P. Calibrations may be singular,
/// and what they do not see stays that of W as far as the rank allows; X X^T is shrunk, see
/// `Calibration::shrinkage`. Of 4096 inputs or more, while the calibration holds no more than n / 8
/// samples, they change nothing.
///
/// Shape: what `Options` give; the rest is chosen among numbers of blocks and classes that are
/// powers of two or divide a side, up to twice its root, each with the largest rank that the budget
/// allows, and K = J = 1, which is low rank. The closest is taken, by the spectra of slices (see
/// `detail::MonarchSpectra`); with a calibration, low rank and at most four that look closest are
/// tried on some of the classes. More blocks must be worth it by a hundredth of the squared error.
/// Do not expect much of K, J > 1 unless something put a grid into the weight: on noise they are
/// barely closer than low rank, and of layers that were trained dense low rank may well be closer.
///
/// In narrow storage R is rounded first, L fitted to what it became, and then rounded, where that
/// is closer than both rounded as they are. For `error`, the bytes are halved and halved again
/// between too few and enough, at some seven times the cost. Cost: m n min(p, q) multiply-adds,
/// with a calibration 2 m n^2 a sweep, in double.
template <Real T>
struct Compressor<Monarch<T>> {
  using Options = typename Monarch<T>::Options;

  static Monarch<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                        const Calibration<T>& calibration, const Options& options) {
    Maker maker(W, calibration, options);
    const Index m = W.rows();
    const Index n = W.cols();
    const std::size_t least = maker.bytes(maker.smallest());
    detail::require_budget("Monarch", m, n, budget, sizeof(T), least, "its smallest shape");
    if (!budget.bounds_error()) return maker.within(budget.max_bytes(m, n, sizeof(T)));
    return detail::smallest_within_error<T>(
        "Monarch", W, budget, calibration, least, (std::max)(least, maker.largest_bytes()), 5,
        [&](std::size_t limit) { return maker.within(limit); }, [&] { return maker.stopped(); });
  }

 private:
  using Shape = detail::MonarchShape;
  using Solver = detail::MonarchSolver<>;

  class Maker {
   public:
    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : W_(W),
          m_(W.rows()),
          n_(W.cols()),
          given_{options.input_blocks, options.output_classes, options.block_rank},
          iterations_(options.iterations),
          storage_(detail::require_storage<T>(options.storage)),
          seed_(options.seed),
          steady_(detail::steadied(calibration)),
          calibration_(steady_ ? *steady_ : calibration),
          stop_(options.monitor) {
      check();
      weight_ = W.template cast<double>();
      scale_ = detail::power_of_two_below(weight_.cwiseAbs().maxCoeff());
      row_roots_ = detail::row_roots(calibration, m_);
      weight_ = (row_roots_ / scale_).asDiagonal() * weight_;
      if (!detail::WideMetric<>::of(calibration_)) G_ = detail::scaled_gram(calibration_);
    }
    Maker(const Maker&) = delete;
    Maker& operator=(const Maker&) = delete;
    ~Maker() = default;

    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    [[nodiscard]] std::size_t bytes(const Shape& shape) const {
      return detail::monarch_bytes<T>(m_, n_, shape, storage_);
    }

    /// The smallest shape that the options allow.
    [[nodiscard]] Shape smallest() const {
      return {std::max<Index>(1, given_.blocks), std::max<Index>(1, given_.classes),
              std::max<Index>(1, given_.rank)};
    }

    /// Bytes beyond which nothing is gained.
    [[nodiscard]] std::size_t largest_bytes() const {
      std::size_t most = 0;
      for (const Shape& shape : shapes_within((std::numeric_limits<std::size_t>::max)()))
        most = (std::max)(most, bytes(shape));
      return most;
    }

    [[nodiscard]] Monarch<T> within(std::size_t limit) {
      std::vector<Shape> shapes = shapes_within(limit);
      if (shapes.empty()) shapes.push_back(smallest());
      shrink(shapes[shapes.size() / 2]);
      const Shape shape = shapes.size() == 1 ? shapes[0] : best_of(shapes);
      Solver solver = solved(shape);
      solver.balance(is_narrow(storage_));
      const KroneckerSparse<T> R = right(solver, shape);
      Monarch<T> best(left(solver, shape), R);
      if (!is_narrow(storage_)) return best;
      // Where rows of R came out alike, an L for them can be too large to be rounded.
      solver.refit(values_of(R, shape));
      Monarch<T> refitted(left(solver, shape), R);
      return error_of(refitted) < error_of(best) ? refitted : best;
    }

   private:
    [[nodiscard]] std::vector<Shape> shapes_within(std::size_t limit) const {
      return detail::monarch_shapes<T>(m_, n_, limit, given_, storage_);
    }

    void check() const {
      const auto refuse = [this](bool legal, const char* what, Index most, Index given) {
        detail::require(legal, [&] {
          return "compress<Monarch>: a " + detail::shape_text(m_, n_) +
                 " matrix has between 1 and " + std::to_string(most) + " " + what + ", not " +
                 std::to_string(given);
        });
      };
      const auto& [K, J, t] = given_;
      refuse(K >= 0 && K <= n_, "input blocks", n_, K);
      refuse(J >= 0 && J <= m_, "output classes", m_, J);
      const Index q = smallest().height(m_);
      const Index p = smallest().width(n_);
      detail::require(t >= 0 && t <= (std::min)(q, p), [this, q, p] {
        return "compress<Monarch>: slices of " + detail::shape_text(q, p) + " have no rank " +
               std::to_string(given_.rank);
      });
      detail::require(iterations_ >= 0, [this] {
        return "compress<Monarch>: iterations must not be negative, but are " +
               std::to_string(iterations_);
      });
    }

    /// Shrinks the Gram matrix, once, by what suits such a shape for some of the rows and blocks of
    /// at most 128 columns.
    void shrink(const Shape& shape) {
      if (shrunk_ || G_.size() == 0) return;
      shrunk_ = true;
      const double a =
          detail::chosen_shrinkage(calibration_, 1, stop_.monitor(), [&](const auto& folds) {
            const Index height = std::min<Index>(m_ / shape.classes, 128);
            const Index classes = std::clamp<Index>(128 / height, 1, shape.classes);
            Shape part{(std::max)(shape.blocks, (n_ + 127) / 128), classes, 1};
            const Index side = (std::min)(height, part.width(n_));
            const double share =
                double(side) / double((std::min)(shape.height(m_), shape.width(n_)));
            part.rank = std::clamp<Index>(std::lround(share * double(shape.rank)), 1, side);
            return std::function<double(double)>(
                [this, part, grams = detail::fold_grams(folds),
                 rows = rows_of(shape, height, classes)](double shrinkage) {
                  double sum = 0;
                  for (const std::size_t fold : {0U, 1U}) {
                    Solver solver(rows, detail::shrunk(grams[fold], shrinkage), part, seed_, {});
                    solver.run(1);
                    sum += solver.loss(grams[1 - fold]);
                  }
                  return sum;
                });
          });
      G_ = detail::shrunk(std::move(G_), a);
    }

    /// So many rows of so many classes of a shape, at even distances, as the weight of fewer of
    /// them.
    [[nodiscard]] Matrix<double> rows_of(const Shape& shape, Index height, Index classes) const {
      Matrix<double> rows(height * classes, n_);
      for (Index l = 0; l < height; ++l)
        for (Index j = 0; j < classes; ++j)
          rows.row(l * classes + j) = weight_.row(
              l * (m_ / shape.classes) / height * shape.classes + j * shape.classes / classes);
      return rows;
    }

    /// The solution in a shape, which a trial may have been already.
    [[nodiscard]] Solver solved(const Shape& shape) {
      const bool is_known = whole_ && whole_->shape() == shape;
      Solver solver =
          is_known ? std::move(*whole_) : Solver(weight_, G_, shape, seed_, stop_.monitor());
      if (!is_known) solver.run(stopped() ? 0 : iterations_);
      whole_.reset();
      return solver;
    }

    [[nodiscard]] Shape best_of(const std::vector<Shape>& shapes) {
      if (!spectra_) spectra_.emplace(weight_, G_, seed_);
      std::vector<std::pair<double, Shape>> losses;
      const auto count = static_cast<Index>(shapes.size());
      for (Index i = 0; i < count; ++i) {
        const Shape& shape = shapes[static_cast<std::size_t>(i)];
        losses.emplace_back(spectra_->loss(shape), shape);
        if (!report("shapes", i + 1, count) || losses.back().first == 0) break;
      }
      const auto closer = [](const auto& x, const auto& y) { return x.first < y.first; };
      const double least = std::min_element(losses.begin(), losses.end(), closer)->first;
      if (G_.size() == 0 || least == 0 || stopped()) return first_within(losses, least);
      losses = worth_trials(losses);
      const auto tried = static_cast<Index>(losses.size());
      for (Index i = 0; i < tried && tried > 1; ++i) {
        auto& [loss, shape] = losses[static_cast<std::size_t>(i)];
        const Index height = m_ / shape.classes;
        const Index classes = std::clamp<Index>(256 / height, 1, shape.classes);
        Solver solver(rows_of(shape, height, classes), G_, {shape.blocks, classes, shape.rank},
                      seed_, {});
        solver.run(2);
        loss = solver.whole() > 0 ? solver.loss() / solver.whole() : 0;
        if (shape.blocks * shape.classes == 1) whole_.emplace(std::move(solver));
        if (!report("trials", i + 1, tried)) {
          losses.resize(static_cast<std::size_t>(i) + 1);
          break;
        }
      }
      return first_within(losses, std::min_element(losses.begin(), losses.end(), closer)->first);
    }

    /// The first, and the closest for each number of blocks, at most four: what blocks make good
    /// of each other is not in the spectra, so that they do not compare those.
    [[nodiscard]] static std::vector<std::pair<double, Shape>> worth_trials(
        const std::vector<std::pair<double, Shape>>& losses) {
      std::map<Index, std::pair<double, Shape>> of_blocks;
      for (const auto& loss : losses) {
        const auto [place, is_new] = of_blocks.emplace(loss.second.blocks, loss);
        if (!is_new && loss.first < place->second.first) place->second = loss;
      }
      std::vector<std::pair<double, Shape>> chosen;
      chosen.reserve(of_blocks.size() + 1);
      for (const auto& [blocks, loss] : of_blocks) chosen.push_back(loss);
      std::stable_sort(chosen.begin(), chosen.end(),
                       [](const auto& x, const auto& y) { return x.first < y.first; });
      chosen.resize((std::min)(chosen.size(), std::size_t{4}));
      if (std::none_of(chosen.begin(), chosen.end(),
                       [&](const auto& loss) { return loss.second == losses.front().second; }))
        chosen.push_back(losses.front());
      std::sort(chosen.begin(), chosen.end(), [](const auto& x, const auto& y) {
        return std::pair(x.second.blocks * x.second.classes, x.second.blocks) <
               std::pair(y.second.blocks * y.second.classes, y.second.blocks);
      });
      return chosen;
    }

    /// The first of these, fewest blocks first, that is nearly the closest.
    [[nodiscard]] static Shape first_within(const std::vector<std::pair<double, Shape>>& losses,
                                            double least) {
      return std::find_if(losses.begin(), losses.end(),
                          [&](const auto& loss) { return loss.first <= 1.01 * least; })
          ->second;
    }

    [[nodiscard]] double error_of(const Monarch<T>& op) const {
      return relative_error(W_, op, calibration_);
    }

    [[nodiscard]] bool report(const char* phase, Index iteration, Index iterations) {
      const Monitor monitor = stop_.monitor();
      return !monitor || monitor({phase, iteration, iterations, 1});
    }

    /// Powers of two whose product is the scale.
    [[nodiscard]] double left_scale() const { return std::exp2(std::floor(std::log2(scale_) / 2)); }
    [[nodiscard]] double right_scale() const { return scale_ / left_scale(); }

    /// As it is stored.
    [[nodiscard]] KroneckerSparse<T> left(const Solver& solver, const Shape& shape) const {
      const Index q = shape.height(m_);
      const Index width = shape.blocks * shape.rank;
      Vector<T> values = Vector<T>::Zero(shape.classes * q * width);
      for (Index j = 0; j < shape.classes; ++j) {
        const Matrix<double>& L = solver.classes()[static_cast<std::size_t>(j)].L;
        for (Index l = 0; l < L.rows(); ++l)
          values.segment((j * q + l) * width, width) =
              (L.row(l) * (left_scale() / row_roots_(l * shape.classes + j)))
                  .transpose()
                  .template cast<T>();
      }
      return KroneckerSparse<T>(m_, shape.blocks * shape.classes * shape.rank,
                                {1, q, width, shape.classes}, values)
          .stored_as(storage_);
    }
    [[nodiscard]] KroneckerSparse<T> right(const Solver& solver, const Shape& shape) const {
      const Index p = shape.width(n_);
      const Index height = shape.rank * shape.classes;
      Vector<T> values = Vector<T>::Zero(shape.blocks * height * p);
      each_row(shape, [&](Index j, Index k, Index r, Index row) {
        const Matrix<double>& R =
            solver.classes()[static_cast<std::size_t>(j)].R[static_cast<std::size_t>(k)];
        values.segment(row * p, R.cols()) =
            (R.row(r) * right_scale()).transpose().template cast<T>();
      });
      return KroneckerSparse<T>(shape.blocks * height, n_, {shape.blocks, height, p, 1}, values)
          .stored_as(storage_);
    }

    /// R of each class and block, as it is stored, in the scale of the solver.
    [[nodiscard]] std::vector<std::vector<Matrix<double>>> values_of(const KroneckerSparse<T>& R,
                                                                     const Shape& shape) const {
      const Vector<double> values = R.values().template cast<double>() / right_scale();
      const Index p = shape.width(n_);
      std::vector<std::vector<Matrix<double>>> of(static_cast<std::size_t>(shape.classes));
      for (auto& blocks : of)
        for (Index k = 0; k < shape.blocks; ++k)
          blocks.push_back(Matrix<double>(shape.rank, std::clamp<Index>(n_ - k * p, 0, p)));
      Index next = 0;
      each_row(shape, [&](Index j, Index k, Index r, Index) {
        Matrix<double>& block = of[static_cast<std::size_t>(j)][static_cast<std::size_t>(k)];
        block.row(r) = values.segment(next, block.cols()).transpose();
        next += block.cols();
      });
      return of;
    }

    /// Calls `body(j, k, r, row)` for the rows of R in order.
    template <class Body>
    static void each_row(const Shape& shape, Body body) {
      Index row = 0;
      for (Index k = 0; k < shape.blocks; ++k)
        for (Index r = 0; r < shape.rank; ++r)
          for (Index j = 0; j < shape.classes; ++j) body(j, k, r, row++);
    }

    const ConstMatrixRef<T>& W_;
    Index m_;
    Index n_;
    Shape given_;
    Index iterations_;
    Storage storage_;
    std::uint64_t seed_;
    std::optional<Calibration<T>> steady_;
    const Calibration<T>& calibration_;  // what is fitted to
    detail::StopMonitor stop_;
    Matrix<double> weight_{};  // scaled, its rows weighted
    double scale_ = 1;
    Vector<double> row_roots_{};
    Matrix<double> G_{};  // scaled; empty for the identity
    bool shrunk_ = false;
    std::optional<detail::MonarchSpectra<>> spectra_{};
    std::optional<Solver> whole_{};  // the trial of one block and one class, which is no sample
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
