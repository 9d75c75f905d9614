// SPDX-License-Identifier: MIT
// compress<BlockSparse>: the blocks of a weight that matter, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/matrix/block_sparse.hpp"
#include "pleat/solve/linear/inverse_factor.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/metric/wide_metric.hpp"
#include "pleat/solve/sparse/block_refit.hpp"
#include "pleat/solve/sparse/block_rounding.hpp"
#include "pleat/solve/sparse/block_selection.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<BlockSparse>: makes || P^(1/2) (W - What) X ||_F small over matrices of which as many
/// blocks of r x c are kept as the budget allows, the others zero.
///
/// Without a calibration the largest blocks are kept as they are, which is the optimum. With one,
/// block rows give up their blocks one by one, each time the one whose loss the others can make up
/// for best (optimal brain surgery), until what all of them lose next is the same for each value;
/// see `detail::removal_path`. Where that would take more than some 10 s, blocks are judged each
/// alone, by what outputs lose without it, with the others refitted or as they are, whichever is
/// better on some of the rows. The kept values are the least-squares optimum on their places; where
/// that is no closer, in the calibration as it is, the result without one. Rows are weighted by the
/// diagonal of P. Calibrations may be singular; X X^T is shrunk, see `Calibration::shrinkage`. Of
/// 4096 inputs or more, while a calibration holds no more than n / 8 samples, blocks are judged by
/// the energy of their inputs, and keep the values of W.
///
/// In narrow storage there are more blocks in a budget. Their values are rounded to the nearest;
/// but in int8 to int2, with a calibration that gives a metric, row by row in the metric of the
/// columns that are kept, in a sweep in which later columns make up for the rounding of earlier
/// ones, and then one by one, with their scales (see `Compressor<Dense<T>>`): in the calibration
/// never worse than to the nearest.
///
/// The smallest result has no block, and 4 bytes a block row (and with fitted levels a table of
/// these). All blocks are W itself, or W rounded. For `error`, the bytes are halved between too few
/// and enough. Cost: some 0.5 (m / r) n^3 multiply-adds, in double, and for each block row those of
/// a Cholesky factorization of the columns that it keeps, and of the factor of an inverse where
/// they are rounded in a sweep.
template <Real T>
struct Compressor<BlockSparse<T>> {
  using Options = typename BlockSparse<T>::Options;

  static BlockSparse<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                            const Calibration<T>& calibration, const Options& options) {
    Maker maker(W, calibration, options);
    const std::size_t least = maker.least_bytes();
    detail::require_budget("BlockSparse", W.rows(), W.cols(), budget, sizeof(T), least,
                           "a matrix without blocks");
    if (!budget.bounds_error())
      return maker.within(budget.max_bytes(W.rows(), W.cols(), sizeof(T)));
    return detail::smallest_within_error<T>(
        "BlockSparse", W, budget, calibration, least, maker.largest_bytes(), 12,
        [&](std::size_t limit) { return maker.within(limit); }, [&] { return maker.stopped(); });
  }

 private:
  class Maker {
   public:
    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : W_(W),
          storage_(detail::require_storage<T>(options.storage)),
          grid_(checked(W.rows(), W.cols(), options)),
          whole_(calibration),
          steady_(detail::steadied(calibration)),
          calibration_(steady_ ? *steady_ : calibration),
          stop_(options.monitor),
          report_(stop_.monitor()) {
      weight_ = W.template cast<double>();
      scale_ = detail::power_of_two_below(weight_.cwiseAbs().maxCoeff());
      row_roots_ = detail::row_roots(calibration, W.rows());
      weight_ = (row_roots_ / scale_).asDiagonal() * weight_;
      by_size_ = detail::order_by(detail::block_scores(weight_, {}, grid_), grid_);
    }
    Maker(const Maker&) = delete;
    Maker& operator=(const Maker&) = delete;
    ~Maker() = default;

    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    /// Of no block, and of all.
    [[nodiscard]] std::size_t least_bytes() const {
      return level_bytes(storage_) + static_cast<std::size_t>(grid_.tall()) * sizeof(std::uint32_t);
    }
    [[nodiscard]] std::size_t largest_bytes() const {
      return least_bytes() + by_size_.size() * index_bytes() +
             static_cast<std::size_t>(grid_.rows) * row_size(grid_.cols);
    }

    [[nodiscard]] BlockSparse<T> within(std::size_t limit) {
      BlockSparse<T> native = native_within(limit);
      if (!is_narrow(storage_)) return native;
      BlockSparse<T> nearest = native.stored_as(storage_);
      const detail::Grid grid = detail::Grid::of(storage_);
      if (grid.span == 0 || calibration_.samples() == 0 || stopped()) return nearest;
      const Matrix<double>& H = rounding_metric(grid);
      if (H.size() == 0 || stopped()) return nearest;
      auto rounded = detail::rounded_blocks(native, nearest, H, grid, report_.phase("round"));
      return rounded && relative_error(W_, *rounded, whole_) < relative_error(W_, nearest, whole_)
                 ? std::move(*rounded)
                 : std::move(nearest);
    }

   private:
    /// As many blocks as fit in narrow storage, with values as they are.
    [[nodiscard]] BlockSparse<T> native_within(std::size_t limit) {
      const Matrix<bool> largest = kept_within(by_size_, limit);
      BlockSparse<T> plain(W_, grid_.block_rows, grid_.block_cols, largest);
      if (calibration_.samples() == 0 || largest.all() || stopped()) return plain;
      prepare(limit);
      if (order_.empty()) return plain;
      const Matrix<bool> kept = kept_within(order_, limit);
      Matrix<T> values = W_;
      if (G_.size() > 0 && !stopped()) {
        const Matrix<double> change =
            detail::block_refit(weight_, G_, grid_, kept, report_.phase("refit"));
        const Matrix<double> unscaled = row_roots_.cwiseInverse().asDiagonal() * (change * scale_);
        values = (W_.template cast<double>() + unscaled).template cast<T>();
      }
      BlockSparse<T> result(values, grid_.block_rows, grid_.block_cols, kept);
      return relative_error(W_, result, whole_) < relative_error(W_, plain, whole_)
                 ? std::move(result)
                 : std::move(plain);
    }

    [[nodiscard]] static detail::BlockGrid checked(Index rows, Index cols, const Options& options) {
      detail::require(options.block_rows >= 1 && options.block_cols >= 1, [&] {
        return "compress<BlockSparse>: blocks have at least 1 row and 1 column, not " +
               detail::shape_text(options.block_rows, options.block_cols);
      });
      return {rows, cols, options.block_rows, options.block_cols};
    }

    [[nodiscard]] std::size_t index_bytes() const {
      return grid_.wide() > (Index{1} << 16) ? sizeof(std::uint32_t) : sizeof(std::uint16_t);
    }
    /// Of the values of a row that keeps so many.
    [[nodiscard]] std::size_t row_size(Index kept) const {
      return row_bytes(storage_, static_cast<std::size_t>(kept));
    }

    /// What is left when blocks have been given up in this order until it fits.
    [[nodiscard]] Matrix<bool> kept_within(const detail::BlockOrder& order,
                                           std::size_t limit) const {
      Matrix<bool> kept = Matrix<bool>::Constant(grid_.tall(), grid_.wide(), true);
      std::vector<Index> left(static_cast<std::size_t>(grid_.tall()), grid_.cols);
      std::size_t size = largest_bytes();
      for (std::size_t k = 0; k < order.size() && size > limit; ++k) {
        const Index i = order[k] % grid_.tall();
        const Index j = order[k] / grid_.tall();
        kept(i, j) = false;
        Index& columns = left[static_cast<std::size_t>(i)];
        const std::size_t before = row_size(columns);
        columns -= grid_.width(j);
        size -= static_cast<std::size_t>(grid_.height(i)) * (before - row_size(columns)) +
                index_bytes();
      }
      return kept;
    }

    /// Finds, once, the metric and the order in which blocks are given up in it; the limit says how
    /// many will be.
    void prepare(std::size_t limit) {
      if (prepared_) return;
      prepared_ = true;
      if (const auto wide = detail::WideMetric<>::of(calibration_)) {
        const Matrix<double> weighted = weight_ * wide->diagonal().cwiseSqrt().asDiagonal();
        order_ = detail::order_by(detail::block_scores(weighted, {}, grid_), grid_);
        return;
      }
      G_ = detail::scaled_gram(calibration_);
      if (G_.size() == 0) return;
      const double share = std::clamp(double(limit) / double(largest_bytes()), 0.0, 1.0);
      const std::pair<Matrix<double>, detail::BlockGrid> some = some_block_rows();
      const double ratio = double(calibration_.samples()) / double(W_.cols());
      const double decay = std::clamp(2 + std::log2((std::max)(ratio, 1e-3)), 1.0, 2.0);
      const double a =
          detail::chosen_shrinkage(calibration_, decay, stop_.monitor(), [&](const auto& folds) {
            return std::function<double(double)>(
                [share, &rows = some.first, &part = some.second,
                 grams = detail::fold_grams(folds)](double shrinkage) {
                  double sum = 0;
                  for (const std::size_t fold : {0U, 1U}) {
                    if (fold == 1 && part.cols >= 1024) break;
                    const Matrix<double> H =
                        detail::fitting_gram(detail::shrunk(grams[fold], shrinkage));
                    const detail::BlockOrder order =
                        detail::path_work(part) <= 1e9
                            ? *detail::order_by_paths(rows, inverse_of(H), part)
                            : detail::order_by(detail::block_scores(rows, H, part), part);
                    sum += loss_of(rows, H, grams[1 - fold], part, order, share);
                  }
                  return sum;
                });
          });
      G_ = detail::fitting_gram(detail::shrunk(std::move(G_), a));
      if (stopped()) return;
      find_order(some.first, some.second, share);
    }

    /// What values are rounded in: the metric that blocks were chosen in; where all are kept, none
    /// was, and it is that of rounding.
    [[nodiscard]] const Matrix<double>& rounding_metric(const detail::Grid& grid) {
      if (prepared_ || rounding_.size() > 0 || detail::WideMetric<>::of(calibration_))
        return prepared_ ? G_ : rounding_;
      rounding_ = detail::fitting_gram(detail::rounding_gram(W_, whole_, grid, stop_.monitor()));
      return rounding_;
    }

    void find_order(const Matrix<double>& rows, const detail::BlockGrid& part, double share) {
      const Matrix<double> P = inverse_of(G_);
      if (detail::path_work(grid_) <= 5e10) {
        auto order = detail::order_by_paths(weight_, P, grid_, report_.phase("blocks"));
        if (order) order_ = std::move(*order);
        return;
      }
      const auto judged = [&](const Matrix<double>& scores) {
        return loss_of(rows, G_, G_, part, detail::order_by(scores, part), share);
      };
      const double alone = judged(detail::block_scores(rows, G_, part));
      const double refitted = judged(detail::surgery_scores(rows, P, part));
      order_ = detail::order_by(refitted < alone ? detail::surgery_scores(weight_, P, grid_)
                                                 : detail::block_scores(weight_, G_, grid_),
                                grid_);
      (void)report_.begin("blocks", 1, 1);
    }

    [[nodiscard]] static Matrix<double> inverse_of(const Matrix<double>& H) {
      const detail::InverseFactor factor = detail::inverse_factor(H, 1e-9);
      return detail::multiply(factor.U.transpose(), factor.U);
    }

    /// At most 48 rows in whole block rows, or of one, at even distances.
    [[nodiscard]] std::pair<Matrix<double>, detail::BlockGrid> some_block_rows() const {
      const Index tall = std::min<Index>({grid_.block_rows, grid_.rows, 48});
      const Index count = std::clamp<Index>(48 / tall, 1, grid_.tall());
      Matrix<double> rows(count * tall, grid_.cols);
      for (Index i = 0; i < count; ++i) {
        const Index top = (std::min)(grid_.top(i * grid_.tall() / count), grid_.rows - tall);
        rows.middleRows(i * tall, tall) = weight_.middleRows(top, tall);
      }
      const detail::BlockGrid part{rows.rows(), grid_.cols, tall, grid_.block_cols};
      return {std::move(rows), part};
    }

    /// What `rows` lose in the metric G when a share of their blocks is kept, refitted in H.
    [[nodiscard]] static double loss_of(const Matrix<double>& rows, const Matrix<double>& H,
                                        const Matrix<double>& G, const detail::BlockGrid& grid,
                                        const detail::BlockOrder& order, double share) {
      Matrix<bool> kept = Matrix<bool>::Constant(grid.tall(), grid.wide(), true);
      const auto gone = static_cast<std::size_t>((1 - share) * static_cast<double>(order.size()));
      for (std::size_t k = 0; k < gone; ++k)
        kept(order[k] % grid.tall(), order[k] / grid.tall()) = false;
      const Matrix<double> lost =
          rows - detail::kept_blocks(rows, kept, grid) - detail::block_refit(rows, H, grid, kept);
      return detail::metric_loss(Dense<double>(G), lost.transpose());
    }

    const ConstMatrixRef<T>& W_;
    Storage storage_;
    detail::BlockGrid grid_;
    const Calibration<T>& whole_;
    std::optional<Calibration<T>> steady_;
    const Calibration<T>& calibration_;  // what is fitted to
    detail::StopMonitor stop_;
    detail::ProgressReport report_;
    Matrix<double> weight_{};  // scaled, its rows weighted
    double scale_ = 1;
    Vector<double> row_roots_{};
    Matrix<double> G_{};         // scaled and shrunk; empty for none
    Matrix<double> rounding_{};  // the same for rounding alone
    detail::BlockOrder by_size_{};
    detail::BlockOrder order_{};
    bool prepared_ = false;
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
