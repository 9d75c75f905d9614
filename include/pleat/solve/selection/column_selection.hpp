// SPDX-License-Identifier: MIT
// Which columns of a matrix span it best, and how others are made of them.
#pragma once

#include "pleat/solve/linear/multiply.hpp"

#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The squared lengths of the columns of F, k x n. Where F has orthonormal rows that span the
/// leading right singular vectors of a matrix, these are the leverage scores of its columns, and
/// their sum is k (M. Mahoney and P. Drineas 2009).
template <class = void>
[[nodiscard]] Vector<double> leverage_scores(const Matrix<double>& F) {
  return F.colwise().squaredNorm().transpose();
}

/// All indices, those of the largest scores first; of equal ones the lower.
template <class = void>
[[nodiscard]] std::vector<Index> largest_first(const Vector<double>& scores) {
  std::vector<Index> order(static_cast<std::size_t>(scores.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Index i, Index j) { return scores(i) > scores(j); });
  return order;
}

/// All indices of columns of F, k x n: first those that QR with column pivoting takes, each the one
/// that is farthest from the span of those before; beyond the rank of F the others, the longest
/// first. For orthonormal rows F the k x k matrix of the first k columns is well-conditioned, which
/// is what an interpolation at them needs (Q-DEIM: Z. Drmac and S. Gugercin, "A new selection
/// operator for the discrete empirical interpolation method", SIAM J. Sci. Comput. 2016, and D.
/// Sorensen and M. Embree, "A DEIM induced CUR factorization", 2016). Cost: 2 k^2 n flops.
template <class = void>
[[nodiscard]] std::vector<Index> pivoted_columns(const Matrix<double>& F) {
  std::vector<Index> order;
  std::vector<bool> taken(static_cast<std::size_t>(F.cols()));
  if (F.size() > 0 && F.cwiseAbs().maxCoeff() > 0) {
    const Eigen::ColPivHouseholderQR<Matrix<double>> qr(F);
    const Index rank = qr.rank();
    for (Index k = 0; k < rank; ++k) {
      order.push_back(static_cast<Index>(qr.colsPermutation().indices()(k)));
      taken[static_cast<std::size_t>(order.back())] = true;
    }
  }
  for (const Index j : largest_first(leverage_scores(F)))
    if (!taken[static_cast<std::size_t>(j)]) order.push_back(j);
  return order;
}

/// Least squares on some columns of a matrix T, k x c, by QR with column pivoting: columns that
/// depend on others, to a share of the longest, get no part in the solution.
template <class = void>
class PivotedSolver {
 public:
  explicit PivotedSolver(const Matrix<double>& T) : qr_(T) {}

  /// How many columns stand out from those before by more than this share of the longest.
  [[nodiscard]] Index rank(double share) const {
    const auto pivots = qr_.matrixQR().diagonal().cwiseAbs();
    Index count = 0;
    while (count < pivots.size() && pivots(count) > share * pivots(0)) ++count;
    return count;
  }

  /// The X, c x p, that minimises || T X - B ||_F over those that are 0 but in the rows of the
  /// first `rank` pivots.
  [[nodiscard]] Matrix<double> solve(const Matrix<double>& B, Index rank) const {
    Matrix<double> X = Matrix<double>::Zero(qr_.cols(), B.cols());
    if (rank == 0 || B.cols() == 0) return X;
    Matrix<double> right = B;
    right.applyOnTheLeft(qr_.householderQ().adjoint());
    const Matrix<double> top = qr_.matrixQR()
                                   .topLeftCorner(rank, rank)
                                   .template triangularView<Eigen::Upper>()
                                   .solve(right.topRows(rank));
    for (Index k = 0; k < rank; ++k) X.row(qr_.colsPermutation().indices()(k)) = top.row(k);
    return X;
  }

 private:
  Eigen::ColPivHouseholderQR<Matrix<double>> qr_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
