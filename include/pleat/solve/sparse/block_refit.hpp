// SPDX-License-Identifier: MIT
// Least squares of the values of kept blocks, in the metric of the inputs.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/block_selection.hpp"
#include "pleat/solve/sparse/masked_refit.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The columns of the blocks that a block row keeps.
[[nodiscard]] inline std::vector<Index> kept_columns(const Matrix<bool>& kept,
                                                     const BlockGrid& grid, Index row) {
  std::vector<Index> columns;
  for (Index j = 0; j < grid.wide(); ++j)
    if (kept(row, j))
      for (Index k = 0; k < grid.width(j); ++k) columns.push_back(grid.left(j) + k);
  return columns;
}

/// W where blocks are kept, and zeros.
[[nodiscard]] inline Matrix<double> kept_blocks(Matrix<double> W, const Matrix<bool>& kept,
                                                const BlockGrid& grid) {
  for (Index j = 0; j < grid.wide(); ++j)
    for (Index i = 0; i < grid.tall(); ++i)
      if (!kept(i, j)) W.block(grid.top(i), grid.left(j), grid.height(i), grid.width(j)).setZero();
  return W;
}

/// What is to be added to the kept blocks of W so that they are closest to all of W in the metric
/// H, m x n, with zeros elsewhere: for the kept columns K of a block row and the others R,
///
///     (H_KK + ridge) D_K^T = H_KR W_R^T,
///
/// one Cholesky factorization a block row. The ridge pulls towards W, not to 0: 1e-12 of the mean
/// of the diagonal, and more where H_KK is not positive definite. Cost: m n^2 multiply-adds, and
/// for each block row k^3 / 6 and r k^2; where all of these are too many, conjugate gradients.
/// Where `proceed` stops it, block rows to come stay as they are.
template <class = void>
[[nodiscard]] Matrix<double> block_refit(const Matrix<double>& W, const Matrix<double>& H,
                                         const BlockGrid& grid, const Matrix<bool>& kept,
                                         const Proceed& proceed = {}) {
  const Matrix<double> S = kept_blocks(W, kept, grid);
  Matrix<double> change = Matrix<double>::Zero(W.rows(), W.cols());
  double work = 0;
  for (Index i = 0; i < grid.tall(); ++i) {
    const auto k = static_cast<double>(kept_columns(kept, grid, i).size());
    work += k * k * k / 6;
  }
  if (work > 1e12) {
    const Matrix<double> Wt = W.transpose();
    const Matrix<double> start = S.transpose();
    Matrix<double> St = start;
    refit_iteratively(H, Wt, St, 40, proceed);
    return (St - start).transpose();
  }
  const Matrix<double> Z = multiply(H, Matrix<double>((W - S).transpose()));
  const Index together = 4 * Index{thread_workspace().max_tasks()};
  for (Index first = 0; first < grid.tall(); first += together) {
    const Index count = (std::min)(together, grid.tall() - first);
    parallel_ranges(count, [&](Index begin, Index end) {
      for (Index i = first + begin; i < first + end; ++i) {
        const std::vector<Index> columns = kept_columns(kept, grid, i);
        const auto size = static_cast<Index>(columns.size());
        if (size == 0 || size == grid.cols) continue;
        double ridge = 1e-12;
        for (int attempt = 0; attempt < 4; ++attempt, ridge *= 1e3) {
          Matrix<double> block = H(columns, columns);
          block.diagonal().array() += ridge * block.diagonal().mean();
          const Eigen::LLT<Eigen::Ref<Matrix<double>>> cholesky(block);
          if (cholesky.info() != Eigen::Success) continue;
          Matrix<double> D = Z(columns, Eigen::seqN(grid.top(i), grid.height(i)));
          cholesky.solveInPlace(D);
          if (!is_finite(D.sum())) continue;
          change(Eigen::seqN(grid.top(i), grid.height(i)), columns) = D.transpose();
          break;
        }
      }
    });
    if (proceed && !proceed(double(first + count) / double(grid.tall()), 1)) break;
  }
  return change;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
