// SPDX-License-Identifier: MIT
// Pruning a weight to N:M between the two wrappers of ARMOR.
#pragma once

#include "pleat/solve/armor/armor_problem.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"

#include <Eigen/QR>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Prunes where the wrappers have moved the weights: W' = A^-1 W B^-1, by the sweep of optimal
/// brain surgery in the metric that S lives in, which is A^T A of rows times K = B G B^T of
/// columns. The root of its inverse is the product of the two roots: an error e in row r and column
/// i is made up for by the columns after i as in `column_sweep`, and what then is wrong with the
/// whole row by the rows after r of its block,
///
///     w'_k -= (w_r - q_r) R_rk / R_rr for k > r, with R^T R = (A^T A)^-1.
///
/// Blocks of A are independent. Cost: m n^2 / 2 multiply-adds for all of them.
template <class = void>
class ArmorPruner {
 public:
  /// `root` is U, upper triangular, with U^T U = (G + damping)^-1: the same for all B. `damping` is
  /// that of A^T A.
  ArmorPruner(const Matrix<double>& Wt, const ArmorFactors& factors, const Matrix<double>& root,
              ArmorReach reach, double damping)
      : A_(factors.A), pattern_(factors.pattern), reach_(reach), damping_(damping) {
    const BlockDiagonal inverse = damped_inverse(factors.B);
    wanted_ = inverse.transpose_times(damped_inverse(A_).transpose_after(Wt));
    // Of the block rows of U B^-1, only the squares on the diagonal are not triangular.
    roots_ = inverse.after(root);
    parallel_ranges(inverse.count(), [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j) {
        const Index first = inverse.first(j);
        const Index width = inverse.width(j);
        const Eigen::HouseholderQR<Matrix<double>> qr(roots_.block(first, first, width, width));
        roots_.block(first, first, width, roots_.cols() - first)
            .applyOnTheLeft(qr.householderQ().adjoint());
      }
    });
    for (Index first = 0; first < Wt.rows(); first += armor_chunk) {
      const Index next = (std::min)(first + armor_chunk, Wt.rows());
      later_.emplace_back(
          roots_.block(first, next, next - first, reach_(first).second - next).transpose());
    }
  }

  /// The rows of the blocks of A from `begin` to `end`, into the columns of S^T.
  void operator()(Index begin, Index end, Matrix<double>& St) {
    const Index n = wanted_.rows();
    Workspace serial;
    std::vector<Matrix<double>> of_rows;
    for (Index i = begin; i < end; ++i)
      of_rows.push_back(inverse_factor(A_[i].transpose() * A_[i], damping_).U);
    Matrix<double> w(n, end - begin);
    Matrix<double> errors((std::min)(armor_chunk, n), end - begin);
    for (Index r = 0; r < A_.width(begin); ++r) {
      // Only the last block can be smaller than the others.
      const Index rows = r < A_.width(end - 1) ? end - begin : end - begin - 1;
      for (Index t = 0; t < rows; ++t) w.col(t) = wanted_.col(A_.first(begin + t) + r);
      for (Index first = 0; first < n; first += armor_chunk) {
        const Index count = (std::min)(armor_chunk, n - first);
        for (Index t = 0; t < rows; ++t) prune_chunk(first, count, &w(first, t), &errors(0, t));
        const Index next = first + count;
        const Index bottom = reach_(first).second;
        if (bottom > next)
          later_[static_cast<std::size_t>(first / armor_chunk)].apply_add(
              errors.topLeftCorner(count, rows), w.block(next, 0, bottom - next, rows), serial);
      }
      for (Index t = 0; t < rows; ++t) {
        const Index i = begin + t;
        const Matrix<double>& root = of_rows[static_cast<std::size_t>(t)];
        const Vector<double> error = wanted_.col(A_.first(i) + r) - w.col(t);
        for (Index k = r + 1; k < A_.width(i); ++k)
          wanted_.col(A_.first(i) + k) -= root(r, k) / root(r, r) * error;
        St.col(A_.first(i) + r) = w.col(t);
      }
    }
  }

 private:
  /// The columns of one row in one chunk; e is what columns after it have to make up for, negated.
  void prune_chunk(Index first, Index count, double* w, double* e) const {
    std::array<bool, 32> keep{};
    for (Index i = 0; i < count; ++i) {
      if (i % pattern_.group == 0) {
        std::array<double, 32> score{};
        const Index width = (std::min)(pattern_.group, count - i);
        for (Index k = 0; k < width; ++k) {
          const double u = roots_(first + i + k, first + i + k);
          score[static_cast<std::size_t>(k)] = u != 0 ? std::abs(w[i + k] / u) : 0;
        }
        mark_largest(score.data(), width, pattern_.kept, keep.data());
      }
      e[i] = 0;
      if (keep[static_cast<std::size_t>(i % pattern_.group)]) continue;
      const double u = roots_(first + i, first + i);
      const double error = u != 0 ? w[i] / u : 0;
      w[i] = 0;
      for (Index j = i + 1; j < count; ++j) w[j] -= error * roots_(first + i, first + j);
      e[i] = -error;
    }
  }

  const BlockDiagonal& A_;
  SparsePattern pattern_;
  ArmorReach reach_;
  double damping_;
  Matrix<double> roots_{};              // U, with U^T U = (B (G + damping) B^T)^-1
  Matrix<double> wanted_{};             // (A^-1 W B^-1)^T, less what earlier rows have made up for
  std::vector<Dense<double>> later_{};  // of U^T: what columns of a chunk owe to those after it
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
