// SPDX-License-Identifier: MIT
// Which blocks of a weight are kept: by their size, by what they do to outputs, or one by one,
// where the others make up for what is given up.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/linear/progress_report.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A matrix cut into blocks, smaller ones at the lower and the right edge.
struct BlockGrid {
  Index rows;
  Index cols;
  Index block_rows;
  Index block_cols;

  [[nodiscard]] static constexpr Index divided(Index size, Index by) noexcept {
    return size / by + (size % by != 0 ? 1 : 0);
  }
  /// Blocks on top of each other, and side by side.
  [[nodiscard]] constexpr Index tall() const noexcept { return divided(rows, block_rows); }
  [[nodiscard]] constexpr Index wide() const noexcept { return divided(cols, block_cols); }
  [[nodiscard]] constexpr Index top(Index i) const noexcept { return i * block_rows; }
  [[nodiscard]] constexpr Index left(Index j) const noexcept { return j * block_cols; }
  [[nodiscard]] constexpr Index height(Index i) const noexcept {
    return i + 1 < tall() ? block_rows : rows - top(i);
  }
  [[nodiscard]] constexpr Index width(Index j) const noexcept {
    return j + 1 < wide() ? block_cols : cols - left(j);
  }
};

/// Blocks in the order in which they are given up: i + tall j for the block of row i and column j.
using BlockOrder = std::vector<Index>;

/// tr(W_IJ H_JJ W_IJ^T) for every block, which is what outputs lose without it if nothing makes up
/// for it; || W_IJ ||_F^2 where H is empty. Cost: m n c multiply-adds.
template <class = void>
[[nodiscard]] Matrix<double> block_scores(const Matrix<double>& W, const Matrix<double>& H,
                                          const BlockGrid& grid) {
  Matrix<double> scores(grid.tall(), grid.wide());
  parallel_ranges(grid.wide(), [&](Index begin, Index end) {
    for (Index j = begin; j < end; ++j) {
      const auto columns = W.middleCols(grid.left(j), grid.width(j));
      Vector<double> squares;
      if (H.size() > 0) {
        const Matrix<double> product =
            columns * H.block(grid.left(j), grid.left(j), grid.width(j), grid.width(j));
        squares = product.cwiseProduct(columns).rowwise().sum().cwiseMax(0);
      } else {
        squares = columns.rowwise().squaredNorm();
      }
      for (Index i = 0; i < grid.tall(); ++i)
        scores(i, j) = squares.segment(grid.top(i), grid.height(i)).sum();
    }
  });
  return scores;
}

/// The cost of giving up each block alone, had all others been refitted: with P the inverse of the
/// metric, tr(W_IJ (P_JJ)^-1 W_IJ^T). Cost: m n c multiply-adds.
///
/// Source: B. Hassibi and D. Stork, "Second order derivatives for network pruning: optimal brain
/// surgeon", NIPS 1992, for blocks.
template <class = void>
[[nodiscard]] Matrix<double> surgery_scores(const Matrix<double>& W, const Matrix<double>& P,
                                            const BlockGrid& grid) {
  Matrix<double> scores(grid.tall(), grid.wide());
  parallel_ranges(grid.wide(), [&](Index begin, Index end) {
    for (Index j = begin; j < end; ++j) {
      const Index width = grid.width(j);
      const Eigen::LLT<Matrix<double>> cholesky(P.block(grid.left(j), grid.left(j), width, width));
      Matrix<double> columns = W.middleCols(grid.left(j), width).transpose();
      if (cholesky.info() == Eigen::Success) cholesky.matrixL().solveInPlace(columns);
      for (Index i = 0; i < grid.tall(); ++i)
        scores(i, j) = columns.middleCols(grid.top(i), grid.height(i)).squaredNorm();
    }
  });
  return scores;
}

/// The order by scores for each value, the least first; of equal ones the last.
[[nodiscard]] inline BlockOrder order_by(const Matrix<double>& scores, const BlockGrid& grid) {
  BlockOrder order(static_cast<std::size_t>(scores.size()));
  std::iota(order.begin(), order.end(), Index{0});
  const auto density = [&](Index block) {
    const Index i = block % grid.tall();
    const Index j = block / grid.tall();
    return scores(i, j) / static_cast<double>(grid.height(i) * grid.width(j));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](Index x, Index y) { return density(x) > density(y); });
  std::reverse(order.begin(), order.end());
  return order;
}

/// A block that is given up, and what this costs in the metric.
struct BlockRemoval {
  Index column;
  double cost;
};

/// All blocks of one block row W, in the order in which they cost least, given those before: each
/// time the least tr(W_J (P_JJ)^-1 W_J^T), where the others then make up for it as well as can be,
///
///     W -= W_J (P_JJ)^-1 P_J,   P -= P_J^T (P_JJ)^-1 P_J,
///
/// so that P is the inverse of the metric of the columns that are left, and W the least-squares
/// optimum on them. Takes P, the inverse of the metric, and the r x n rows. What is left is moved
/// together as it becomes less. Cost: some 0.45 n^3 multiply-adds.
template <class = void>
[[nodiscard]] std::vector<BlockRemoval> removal_path(Matrix<double> P, Matrix<double> W,
                                                     const BlockGrid& grid) {
  struct Live {
    Index column;
    Index first;  // in P and W as they are now
    Index width;
  };
  std::vector<Live> live;
  for (Index j = 0; j < grid.wide(); ++j) live.push_back({j, grid.left(j), grid.width(j)});
  std::vector<BlockRemoval> path;
  Index columns = W.cols();
  while (!live.empty()) {
    std::size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    double cost = 0;
    Matrix<double> share;  // W_J L^-T with P_JJ = L L^T
    Matrix<double> root;
    for (std::size_t b = 0; b < live.size(); ++b) {
      const Live& block = live[b];
      const Eigen::LLT<Matrix<double>> cholesky(
          P.block(block.first, block.first, block.width, block.width));
      Matrix<double> own = W.middleCols(block.first, block.width).transpose();
      if (cholesky.info() != Eigen::Success) continue;
      cholesky.matrixL().solveInPlace(own);
      const double score = own.squaredNorm();
      const double density = score / static_cast<double>(block.width);
      if (!(density < least)) continue;
      least = density;
      cost = score;
      best = b;
      share = own.transpose();
      root = cholesky.matrixL();
    }
    const Live gone = live[best];
    if (root.size() > 0) {
      Matrix<double> F = P.middleRows(gone.first, gone.width);
      root.triangularView<Eigen::Lower>().solveInPlace(F);
      W.noalias() -= share * F;
      P.noalias() -= F.transpose() * F;
    }
    // Where rounding left nothing definite, without compensation: it was all but nothing.
    path.push_back({gone.column, root.size() > 0 ? cost : 0.0});
    live.erase(live.begin() + static_cast<std::ptrdiff_t>(best));
    columns -= gone.width;
    if (columns > 0 && 4 * columns <= 3 * W.cols()) {
      std::vector<Index> kept;
      for (Live& block : live) {
        const auto first = static_cast<Index>(kept.size());
        for (Index k = 0; k < block.width; ++k) kept.push_back(block.first + k);
        block.first = first;
      }
      P = Matrix<double>(P(kept, kept));
      W = Matrix<double>(W(Eigen::all, kept));
    }
  }
  return path;
}

/// Multiply-adds that the paths of all block rows take; single columns are bound by memory.
[[nodiscard]] inline double path_work(const BlockGrid& grid) {
  const double n = static_cast<double>(grid.cols);
  return 0.45 * static_cast<double>(grid.tall()) * n * n * n *
         (std::max)(1.0, 4.0 / static_cast<double>(grid.block_cols));
}

/// The order by the paths of all block rows: which of them goes on is decided by what the next of
/// its blocks costs for each value, or one before did. Nothing where `proceed` stopped it.
template <class = void>
[[nodiscard]] std::optional<BlockOrder> order_by_paths(const Matrix<double>& W,
                                                       const Matrix<double>& P,
                                                       const BlockGrid& grid,
                                                       const Proceed& proceed = {}) {
  std::vector<std::vector<BlockRemoval>> paths(static_cast<std::size_t>(grid.tall()));
  const Index together = 4 * Index{thread_workspace().max_tasks()};
  for (Index first = 0; first < grid.tall(); first += together) {
    const Index count = (std::min)(together, grid.tall() - first);
    parallel_ranges(count, [&](Index begin, Index end) {
      for (Index i = first + begin; i < first + end; ++i)
        paths[static_cast<std::size_t>(i)] =
            removal_path(P, Matrix<double>(W.middleRows(grid.top(i), grid.height(i))), grid);
    });
    if (proceed && !proceed(double(first + count) / double(grid.tall()), 1)) return std::nullopt;
  }
  std::vector<std::pair<double, Index>> steps;
  for (Index i = 0; i < grid.tall(); ++i) {
    double highest = 0;
    for (const auto& [column, cost] : paths[static_cast<std::size_t>(i)]) {
      highest =
          (std::max)(highest, cost / static_cast<double>(grid.height(i) * grid.width(column)));
      steps.emplace_back(highest, i + grid.tall() * column);
    }
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const auto& x, const auto& y) { return x.first < y.first; });
  BlockOrder order;
  for (const auto& step : steps) order.push_back(step.second);
  return order;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
