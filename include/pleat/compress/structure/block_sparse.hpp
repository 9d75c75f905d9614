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
#include "pleat/solve/sparse/block_selection.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>

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
/// The smallest result has no block, and 4 bytes a block row. All blocks are W itself. For `error`,
/// the bytes are halved between too few and enough. Cost: some 0.5 (m / r) n^3 multiply-adds, in
/// double, and for each block row those of a Cholesky factorization of the columns that it keeps.
template <Real T>
struct Compressor<BlockSparse<T>> {
  using Options = typename BlockSparse<T>::Options;

  static BlockSparse<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                            const Calibration<T>& calibration, const Options& options) {
    Maker maker(W, calibration, options);
    const std::size_t least = maker.bytes(0, 0);
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

    /// Of so many blocks with so many values.
    [[nodiscard]] std::size_t bytes(std::size_t blocks, std::size_t values) const {
      return values * sizeof(T) + blocks * index_bytes() +
             static_cast<std::size_t>(grid_.tall()) * sizeof(std::uint32_t);
    }
    [[nodiscard]] std::size_t largest_bytes() const {
      return bytes(by_size_.size(), static_cast<std::size_t>(W_.size()));
    }

    [[nodiscard]] BlockSparse<T> within(std::size_t limit) {
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

   private:
    [[nodiscard]] static detail::BlockGrid checked(Index rows, Index cols, const Options& options) {
      const Storage storage = detail::require_storage<T>(options.storage);
      detail::require(!is_narrow(storage), [&] {
        return "compress<BlockSparse>: blocks are stored in " +
               std::string(to_string(native_storage<T>)) + ", not in " +
               std::string(to_string(storage));
      });
      detail::require(options.block_rows >= 1 && options.block_cols >= 1, [&] {
        return "compress<BlockSparse>: blocks have at least 1 row and 1 column, not " +
               detail::shape_text(options.block_rows, options.block_cols);
      });
      return {rows, cols, options.block_rows, options.block_cols};
    }

    [[nodiscard]] std::size_t index_bytes() const {
      return grid_.wide() > (Index{1} << 16) ? sizeof(std::uint32_t) : sizeof(std::uint16_t);
    }

    /// What is left when blocks have been given up in this order until it fits.
    [[nodiscard]] Matrix<bool> kept_within(const detail::BlockOrder& order,
                                           std::size_t limit) const {
      Matrix<bool> kept = Matrix<bool>::Constant(grid_.tall(), grid_.wide(), true);
      std::size_t size = largest_bytes();
      for (std::size_t k = 0; k < order.size() && size > limit; ++k) {
        const Index i = order[k] % grid_.tall();
        const Index j = order[k] / grid_.tall();
        kept(i, j) = false;
        size -=
            static_cast<std::size_t>(grid_.height(i) * grid_.width(j)) * sizeof(T) + index_bytes();
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
    detail::BlockGrid grid_;
    const Calibration<T>& whole_;
    std::optional<Calibration<T>> steady_;
    const Calibration<T>& calibration_;  // what is fitted to
    detail::StopMonitor stop_;
    detail::ProgressReport report_;
    Matrix<double> weight_;  // scaled, its rows weighted
    double scale_ = 1;
    Vector<double> row_roots_;
    Matrix<double> G_;  // scaled and shrunk; empty for none
    detail::BlockOrder by_size_;
    detail::BlockOrder order_;
    bool prepared_ = false;
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
