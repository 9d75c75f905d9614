// SPDX-License-Identifier: MIT
// Columns and rows of a weight, and the matrix between them that fits it best.
#pragma once

#include "pleat/factor/cur.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/thin_qr.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/metric_root.hpp"
#include "pleat/solve/selection/column_selection.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What a weight W, m x n, is made of in a metric || P^(1/2) (W - C U R) S ||_F, with S S^T the
/// shrunk Gram matrix and both metrics definite by 1e-8 of their mean (see `fitting_gram`).
///
/// With M = P^(1/2) W S and L the span of its k leading left singular vectors, an orthonormal basis
/// Q of L, a column w_j of W is Q^T P^(1/2) w_j as far as it lies in L. F, k x n, is made of these,
/// in coordinates in which F S has orthonormal rows, and column j then times the root of the energy
/// of input j. Without a calibration these are the right singular vectors, and the squared lengths
/// of its columns the leverage scores; for inputs that are not correlated these sum to k, too. A
/// column with a zero input has almost none. Rows are treated as columns are, in the other metric.
template <class = void>
class CurSolver {
 public:
  template <Real T>
  CurSolver(Matrix<double> W, const Calibration<T>& calibration, double shrinkage,
            LowRankMethod method)
      : W_(std::move(W)),
        inputs_(MetricRoot<>::for_fitting(calibration, shrinkage)),
        outputs_(MetricRoot<>::of_outputs(calibration)),
        PW_(outputs_.after(W_.transpose()).transpose()),
        M_(inputs_.after(PW_)),
        leading_(M_, plain_, 0, std::move(method)) {}

  CurSolver(const CurSolver&) = delete;
  CurSolver& operator=(const CurSolver&) = delete;
  ~CurSolver() = default;

  /// Squared singular values of M, descending.
  [[nodiscard]] const Vector<double>& spectrum() { return leading_.spectrum(); }

  struct Choice {
    std::vector<Index> columns{};
    std::vector<Index> rows{};
  };
  /// c columns and r rows, in the order of their choice.
  [[nodiscard]] Choice choose(Index c, Index r, CurSelection selection) {
    Choice choice;
    const auto take = [&](const Matrix<double>& F, Index count) {
      auto order = selection == CurSelection::leverage ? largest_first(leverage_scores(F))
                                                       : pivoted_columns(F);
      order.resize(static_cast<std::size_t>(count));
      return order;
    };
    const Index most = (std::min)(W_.rows(), W_.cols());
    const Factors columns = leading_.factors((std::min)(c, most));
    choice.columns = take(column_features(columns), c);
    choice.rows = take(row_features((std::min)(r, most) == (std::min)(c, most)
                                        ? columns
                                        : leading_.factors((std::min)(r, most))),
                       r);
    return choice;
  }

  /// The U, c x r, for C: m x c and R: r x n, which need not be those of W to the bit. `stored`
  /// says what becomes of a U when it is stored. Exactly, U = C^+ W R^+ in the metric (G. W.
  /// Stewart 1999). Where columns, or rows, almost depend on each other, U is large, and what its
  /// rounding loses may be more than what the last of them gain: of several ranks the best is
  /// taken.
  template <class Stored>
  [[nodiscard]] Matrix<double> middle(const Matrix<double>& C, const Matrix<double>& R,
                                      const Stored& stored) const {
    Matrix<double> PC = outputs_.after(C.transpose()).transpose();
    Matrix<double> RS = inputs_.after(R).transpose();
    const Vector<double> left = normalised(PC);
    const Vector<double> right = normalised(RS);
    const ThinQr columns = thin_qr(PC);
    const ThinQr rows = thin_qr(RS);
    const Matrix<double> K = multiply(multiply(columns.Q.transpose(), M_), rows.Q);
    const PivotedSolver<> by_columns(columns.R);
    const PivotedSolver<> by_rows(rows.R);
    Matrix<double> best = Matrix<double>::Zero(C.cols(), R.rows());
    double least = K.squaredNorm();
    std::array<Index, 2> tried{0, 0};
    for (const double share : {1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-13}) {
      const std::array<Index, 2> ranks{by_columns.rank(share), by_rows.rank(share)};
      if (ranks == tried) continue;
      tried = ranks;
      const Matrix<double> half = by_columns.solve(K, ranks[0]).transpose();
      const Matrix<double> U = by_rows.solve(half, ranks[1]).transpose();
      const Matrix<double> made = stored(left.asDiagonal() * U * right.asDiagonal());
      // What is made, in the units of K again.
      const Matrix<double> back = inverse(left).asDiagonal() * made * inverse(right).asDiagonal();
      const double loss =
          (K - multiply(multiply(columns.R, back), Matrix<double>(rows.R.transpose())))
              .squaredNorm();
      if (loss < least) {
        least = loss;
        best = made;
      }
    }
    return best;
  }

 private:
  using Factors = LowRankSolver<>::Factors;

  /// Brings columns to length 1, and returns by what they were multiplied; 0 stays.
  static Vector<double> normalised(Matrix<double>& A) {
    const Vector<double> by = inverse(A.colwise().norm().transpose());
    A *= by.asDiagonal();
    return by;
  }
  static Vector<double> inverse(const Vector<double>& lengths) {
    return lengths.unaryExpr([](double length) { return length > 0 ? 1 / length : 0; });
  }

  /// Those of the columns of A that are not 0, as an orthonormal basis of what they span.
  static Matrix<double> basis(const Matrix<double>& A) {
    Index found = A.cols();
    while (found > 0 && A.col(found - 1).cwiseAbs().maxCoeff() == 0) --found;
    return thin_qr(A.leftCols(found)).Q;
  }

  /// R^-T A^T for the R of `orthogonal` = Q R, of which `A` are other coordinates; columns times
  /// `lengths`.
  static Matrix<double> features(const Matrix<double>& orthogonal, const Matrix<double>& A,
                                 const Vector<double>& lengths) {
    const Matrix<double> R = thin_qr(orthogonal).R;
    const Matrix<double> F = R.transpose().template triangularView<Eigen::Lower>().solve(A);
    return F * lengths.asDiagonal();
  }

  [[nodiscard]] Matrix<double> column_features(const Factors& factors) const {
    const Matrix<double> Q = basis(factors.U);
    if (Q.cols() == 0) return Matrix<double>::Zero(1, W_.cols());
    const Matrix<double> Qt = Q.transpose();
    return features(multiply(Qt, M_).transpose(), multiply(Qt, PW_), inputs_.lengths(W_.cols()));
  }
  [[nodiscard]] Matrix<double> row_features(const Factors& factors) const {
    const Matrix<double> Q = basis(factors.V.transpose());
    if (Q.cols() == 0) return Matrix<double>::Zero(1, W_.rows());
    const Matrix<double> seen = multiply(M_, Q);
    const Matrix<double> plain = outputs_.is_identity() ? seen : multiply(inputs_.after(W_), Q);
    return features(seen, plain.transpose(), outputs_.lengths(W_.rows()));
  }

  Matrix<double> W_;
  MetricRoot<> inputs_;
  MetricRoot<> outputs_;
  Matrix<double> PW_;
  Matrix<double> M_;
  Calibration<double> plain_{};  // none
  LowRankSolver<> leading_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
