// SPDX-License-Identifier: MIT
// Some columns kept whole beside a low rank: the best values in closed form, the columns by gains.
#pragma once

#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/linear/square_root.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Columns I of W that are kept whole, and the low rank beside them.
struct ColumnOutliers {
  std::vector<Index> columns;  // ascending
  Matrix<double> St;           // n x m, rows I not 0
  Matrix<double> U;            // m x r, orthonormal
  Matrix<double> Vt;           // n x r, rows I 0
  double loss = 0;             // tr((W - S - U V) H (W - S - U V)^T)
};

/// H, or the identity where it is empty.
template <class = void>
[[nodiscard]] Matrix<double> metric_or_identity(const Matrix<double>& H, Index n) {
  return H.size() > 0 ? H : Matrix<double>(Matrix<double>::Identity(n, n));
}

/// The best S on the columns I, and U V of a rank on all others, J: with K = H_JI H_II^-1 and the
/// Schur complement H_s = H_JJ - K H_IJ, L_J = U U^T W_J with U the leading left singular vectors
/// of W_J H_s^(1/2), and S_I = W_I + (W_J - L_J) K. The loss is the tail of the squared singular
/// values of W_J H_s^(1/2). Cost: n^2 |I| + m n^2 multiply-adds and an eigendecomposition,
/// randomized above 1024 outputs.
template <class = void>
[[nodiscard]] ColumnOutliers beside_columns(const Matrix<double>& H, const Matrix<double>& Wt,
                                            std::vector<Index> columns, Index rank,
                                            std::uint64_t seed) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  std::vector<Index> others;
  for (Index j = 0; j < n; ++j)
    if (!std::binary_search(columns.begin(), columns.end(), j)) others.push_back(j);
  ColumnOutliers result{std::move(columns), Matrix<double>::Zero(n, m), Matrix<double>(m, 0),
                        Matrix<double>(n, 0)};
  const auto& kept = result.columns;
  const Matrix<double> whole = metric_or_identity(H, n);
  Matrix<double> H_s = whole(others, others);
  Matrix<double> K_t;  // K^T = H_II^-1 H_IJ
  if (!kept.empty() && !others.empty()) {
    Matrix<double> H_II = whole(kept, kept);
    const Matrix<double> H_IJ = whole(kept, others);
    H_II.diagonal().array() += 1e-13 * H_II.diagonal().mean();
    K_t = H_II.llt().solve(H_IJ);
    H_s = symmetric_part(H_s - multiply(Matrix<double>(H_IJ.transpose()), K_t));
  }
  const Matrix<double> W_J = Wt(others, Eigen::all);  // transposed
  Matrix<double> left = W_J;
  if (rank > 0 && !others.empty()) {
    const Matrix<double> M =
        symmetric_part(multiply(Matrix<double>(W_J.transpose()), multiply(H_s, W_J)));
    const bool exact = m <= 1024 || 2 * rank > m;
    const Eigenpairs pairs = exact
                                 ? exact_eigenpairs(M)
                                 : randomized_eigenpairs(M, rank, std::max<Index>(10, rank / 10), 6,
                                                         seed, [](Index, double) { return true; });
    result.U = pairs.vectors.leftCols((std::min)(rank, pairs.vectors.cols()));
    const Matrix<double> V_t = multiply(W_J, result.U);
    left -= multiply(V_t, Matrix<double>(result.U.transpose()));
    result.Vt = Matrix<double>::Zero(n, result.U.cols());
    for (std::size_t j = 0; j < others.size(); ++j)
      result.Vt.row(others[j]) = V_t.row(static_cast<Index>(j));
  }
  result.loss = (std::max)(0.0, left.cwiseProduct(multiply(H_s, left)).sum());
  if (kept.empty()) return result;
  Matrix<double> S_I = Wt(kept, Eigen::all);
  if (!others.empty()) S_I += multiply(K_t, left);
  for (std::size_t i = 0; i < kept.size(); ++i)
    result.St.row(kept[i]) = S_I.row(static_cast<Index>(i));
  return result;
}

/// So many columns, one after another the one that gains most where those before are exact: || (E
/// H)_:j ||^2 / H_jj of what is left of E = W - L and of H, of which every choice leaves the Schur
/// complement. Ascending. Cost: n (n + m) multiply-adds a column.
template <class = void>
[[nodiscard]] std::vector<Index> outlier_columns(const Matrix<double>& H, const Matrix<double>& Et,
                                                 Index count) {
  const Index n = Et.rows();
  Matrix<double> left = metric_or_identity(H, n);
  Matrix<double> B = multiply(left, Et);  // (E H)^T
  const Vector<double> least = 1e-12 * left.diagonal();
  std::vector<Index> columns;
  std::vector<bool> taken(static_cast<std::size_t>(n), false);
  while (static_cast<Index>(columns.size()) < count) {
    Index best = -1;
    double most = -1;
    for (Index j = 0; j < n; ++j) {
      if (taken[static_cast<std::size_t>(j)]) continue;
      const double gain = left(j, j) > least(j) ? B.row(j).squaredNorm() / left(j, j) : 0;
      if (gain > most) {
        most = gain;
        best = j;
      }
    }
    taken[static_cast<std::size_t>(best)] = true;
    columns.push_back(best);
    if (!(left(best, best) > least(best))) continue;
    const Vector<double> column = left.col(best) / left(best, best);
    const Eigen::RowVectorXd row = B.row(best);
    const Vector<double> pivot = left.row(best).transpose();
    for (Index j = 0; j < n; ++j) left.col(j) -= pivot(j) * column;
    for (Index i = 0; i < B.cols(); ++i) B.col(i) -= row(i) * column;
  }
  std::sort(columns.begin(), columns.end());
  return columns;
}

/// Columns and low rank in turns, the columns for the U of the turn before: the best of all turns.
template <class = void>
[[nodiscard]] ColumnOutliers column_outliers(const Matrix<double>& H, const Matrix<double>& Wt,
                                             Index count, Index rank, std::uint64_t seed,
                                             Index turns, const Proceed& proceed = {}) {
  ColumnOutliers best = beside_columns(H, Wt, {}, rank, seed);
  if (count == 0) return best;
  Matrix<double> U = best.U;
  best.loss = std::numeric_limits<double>::infinity();
  for (Index turn = 1; turn <= turns; ++turn) {
    Matrix<double> Et = Wt;
    if (U.cols() > 0) Et -= multiply(multiply(Wt, U), Matrix<double>(U.transpose()));
    ColumnOutliers next = beside_columns(H, Wt, outlier_columns(H, Et, count), rank, seed);
    U = next.U;
    const bool better = next.loss < best.loss;
    if (better) best = std::move(next);
    if (!better || (proceed && !proceed(double(turn) / double(turns), best.loss))) break;
  }
  return best;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
