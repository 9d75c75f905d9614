// SPDX-License-Identifier: MIT
// The exact steps of ARMOR: on A, on B, and on the places and values of S.
#pragma once

#include "pleat/solve/armor/armor_problem.hpp"
#include "pleat/solve/armor/armor_prune.hpp"
#include "pleat/solve/sparse/group_descent.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Minimises L = tr((W - A S B) G (W - A S B)^T) over block-diagonal A and B and N:M S, in steps
/// that are each exact. With the metric carried through the right wrapper,
///
///     K = B G B^T (n x n),   V = W G B^T,   U = S K,
///
/// everything else is local to one block of A and its rows of S, V and U:
///
///     L = tr(W G W^T) + sum over blocks of tr(A U S^T A^T) - 2 tr(A^T V S^T)
///     A-step:      A = V S^T (U S^T)^-1
///     group step:  with Z = A^T V - A^T A U, the best two of the four of one group of row r, given
///                  the rest, see `PairChoice` and `SwapChoice`: S_r in the metric K, as far as
///                  column r of A sees it
///
/// so blocks of A run in parallel, and U is kept up to date by what each row adds to it. The B-step
/// is exact block by block: dB_j = (Q_j^T Q_j)^-1 Q_j^T ((W - A S B) G)_j G_jj^-1 with Q = A S.
/// Where G is diagonal, so is K by blocks, and all costs of n^2 become n times the block.
///
/// No step increases L. Cost: m n^2 multiply-adds each for a B-step, for a sweep over all groups,
/// and for U after B has changed; an A-step is m n times the block.
template <class = void>
class ArmorSolver {
 public:
  /// W^T: n x m.
  ArmorSolver(Matrix<double> Wt, InputMetric metric, ArmorFactors start,
              std::function<bool()> proceed = {})
      : Wt_(std::move(Wt)),
        metric_(std::move(metric)),
        factors_(std::move(start)),
        proceed_(std::move(proceed)),
        reach_{Wt_.rows(), metric_.is_diagonal() ? factors_.B.block() : Wt_.rows()} {
    tell();
    WGt_ = metric_.times(Wt_);
    tell();
    total_ = WGt_.cwiseProduct(Wt_).sum();
    carry_metric();
    carry_values();
  }

  [[nodiscard]] const ArmorFactors& factors() const { return factors_; }

  void set_factors(ArmorFactors factors) {
    factors_ = std::move(factors);
    carry_metric();
    carry_values();
  }

  /// L / tr(W G W^T), to rounding: not below 0, and 0 where both are. Cost: as an A-step.
  [[nodiscard]] double loss() const {
    const BlockDiagonal& A = factors_.A;
    Vector<double> parts = Vector<double>::Zero(A.count());
    parallel_ranges(A.count(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const auto S = factors_.St.middleCols(A.first(i), A.width(i));
        const Matrix<double> C = Vt_.middleCols(A.first(i), A.width(i)).transpose() * S;
        const Matrix<double> M = S.transpose() * Ut_.middleCols(A.first(i), A.width(i));
        parts(i) = (A[i] * M - 2 * C).cwiseProduct(A[i]).sum();
      }
    });
    return total_ > 0 ? (std::max)(0.0, 1 + parts.sum() / total_) : 0;
  }

  /// The best A given S and B. Then, to `balance` them, its columns are scaled to norm 1, and rows
  /// of S back: What is the same, and problems are better conditioned.
  void improve_a(bool balance = true) {
    const BlockDiagonal& shape = factors_.A;
    parallel_ranges(shape.count(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        auto S = factors_.St.middleCols(shape.first(i), shape.width(i));
        auto U = Ut_.middleCols(shape.first(i), shape.width(i));
        Matrix<double>& A = factors_.A[i];
        const Matrix<double> M = S.transpose() * U;
        const Matrix<double> C = Vt_.middleCols(shape.first(i), shape.width(i)).transpose() * S;
        A += proximal_solve(M, (C - A * M).transpose()).transpose();
        for (Index r = 0; balance && r < A.cols(); ++r) {
          const double norm = A.col(r).norm();
          if (!(norm > 0)) continue;
          A.col(r) /= norm;
          S.col(r) *= norm;
          U.col(r) *= norm;
        }
      }
    });
  }

  /// The best block of B given all else, from the first to the last. Blocks are taken 128 columns
  /// at a time, for products worth the name. What follows from B is not yet up to date: see
  /// `carry_metric`, `carry_values`.
  void improve_b() {
    const BlockDiagonal& B = factors_.B;
    const Matrix<double> Qt = factors_.A.transpose_after(factors_.St);
    Matrix<double> Rt = Wt_ - B.transpose_times(Qt);
    const Index together = std::max<Index>(1, 128 / B.block());
    for (Index begin = 0; begin < B.count(); begin += together) {
      const Index end = (std::min)(B.count(), begin + together);
      const Index top = B.first(begin);
      const Index height = B.first(end - 1) + B.width(end - 1) - top;
      Matrix<double> E = metric_.rows_times(top, height, Rt);  // (R G)^T
      for (Index j = begin; j < end; ++j) {
        const Index first = B.first(j);
        const Index width = B.width(j);
        const auto Q = Qt.middleRows(first, width);
        const Matrix<double> right = Q * E.middleRows(first - top, width).transpose();
        const Matrix<double> change =
            proximal_solve(metric_.block(first, first, width, width),
                           proximal_solve(Q * Q.transpose(), right).transpose())
                .transpose();
        factors_.B[j] += change;
        const Matrix<double> moved = change.transpose() * Q;
        Rt.middleRows(first, width) -= moved;
        const Index rest = top + height - first - width;
        if (rest > 0 && !metric_.is_diagonal())
          E.bottomRows(rest).noalias() -= metric_.block(first + width, first, rest, width) * moved;
      }
      if (proceed_ && !proceed_()) return;
    }
  }

  /// K and V, after B has changed.
  void carry_metric() {
    Vt_ = factors_.B.times(WGt_);
    chunks_.clear();
    squares_.clear();
    groups_.clear();
    carried_columns(metric_, factors_.B, reach_, [this](Index first, const auto& columns) {
      const Index count = columns.cols();
      squares_.emplace_back(columns.middleRows(first - reach_(first).first, count));
      chunks_.emplace_back(columns);
      groups_.emplace_back(squares_.back(), factors_.pattern);
    });
    tell();
  }

  /// U, after B or S has changed other than by a step of this class.
  void carry_values() { Ut_ = times_metric(factors_.St); }

  /// The values of S on its mask, by conjugate gradients preconditioned by the diagonal: of use at
  /// the end, where sweeps are slow in an ill-conditioned metric. Cost: m n^2 multiply-adds each.
  void improve_values(Index iterations) {
    BlockDiagonal M = factors_.A;
    for (Index i = 0; i < M.count(); ++i) M[i] = factors_.A[i].transpose() * factors_.A[i];
    Matrix<double> residual = factors_.A.after(Vt_) - M.after(Ut_);
    Matrix<double> scaled(residual.rows(), residual.cols());
    const auto precondition = [&] {  // what lies on the mask; returns its product with the residual
      Vector<double> sums(residual.cols());
      parallel_ranges(M.count(), [&](Index begin, Index end) {
        for (Index b = begin; b < end; ++b)
          for (Index r = 0; r < M.width(b); ++r) {
            const Index col = M.first(b) + r;
            for (Index i = 0; i < residual.rows(); ++i) {
              const double diagonal = diagonal_of_metric(i) * M[b](r, r);
              if (factors_.St(i, col) == 0 || !(diagonal > 0)) residual(i, col) = 0;
              scaled(i, col) = diagonal > 0 ? residual(i, col) / diagonal : 0;
            }
            sums(col) = residual.col(col).dot(scaled.col(col));
          }
      });
      return sums.sum();
    };
    double squares = precondition();
    Matrix<double> direction = scaled;
    for (Index it = 0; it < iterations && squares > 0; ++it) {
      const Matrix<double> carried = times_metric(direction);
      const Matrix<double> product = M.after(carried);
      const double curvature = direction.cwiseProduct(product).sum();
      if (!(curvature > 0)) return;
      const double step = squares / curvature;
      factors_.St += step * direction;
      Ut_ += step * carried;
      residual -= step * product;
      const double next = precondition();
      direction = scaled + (next / squares) * direction;
      squares = next;
      if (proceed_ && !proceed_()) return;
    }
  }

  /// Prunes anew; see `ArmorPruner`. Not monotone: it is what leads out of a local optimum.
  void prune(const Matrix<double>& root, double damping) {
    ArmorPruner pruner(Wt_, factors_, root, reach_, damping);
    in_waves(panel_count(), proceed_, [&](Index p) {
      const auto [begin, end] = panel_range(p);
      pruner(begin, end, factors_.St);
    });
    carry_values();
  }

  /// One sweep over all groups, row by row within each block of A: each group in turn takes the two
  /// places and values that are the best given all else. Products with K are put off for 64 columns
  /// and as many rows as there are blocks side by side.
  void improve_groups() {
    const Index panels = panel_count();
    in_waves(panels, proceed_, [&](Index p) {
      const auto [begin, end] = panel_range(p);
      improve_groups(begin, end);
    });
  }

 private:
  static constexpr Index chunk = armor_chunk;

  /// Where stopping would leave things half done: that it was asked to is noticed later.
  void tell() const {
    if (proceed_) (void)proceed_();
  }

  /// K X.
  [[nodiscard]] Matrix<double> times_metric(const Matrix<double>& X) const {
    Matrix<double> result = Matrix<double>::Zero(X.rows(), X.cols());
    for (Index first = 0; first < X.rows(); first += chunk) {
      const auto [top, bottom] = reach_(first);
      chunks_[static_cast<std::size_t>(first / chunk)].apply_add(
          X.middleRows(first, (std::min)(chunk, X.rows() - first)),
          result.middleRows(top, bottom - top));
      tell();
    }
    return result;
  }

  [[nodiscard]] double diagonal_of_metric(Index i) const {
    return squares_[static_cast<std::size_t>(i / chunk)](i % chunk, i % chunk);
  }

  [[nodiscard]] Index panel_width() const {
    return std::clamp<Index>(factors_.A.count() / 4, 1, 24);
  }
  [[nodiscard]] Index panel_count() const {
    return (factors_.A.count() + panel_width() - 1) / panel_width();
  }
  [[nodiscard]] std::pair<Index, Index> panel_range(Index p) const {
    return {p * panel_width(), (std::min)(factors_.A.count(), (p + 1) * panel_width())};
  }

  /// The sweep over the blocks of A from `begin` to `end`.
  void improve_groups(Index begin, Index end) {
    const BlockDiagonal& A = factors_.A;
    const Index n = Wt_.rows();
    Workspace serial;
    Matrix<double> start(n, end - begin);
    Matrix<double> moved(n, end - begin);
    Matrix<double> changes((std::min)(chunk, n), end - begin);
    std::array<double, chunk> z{};
    for (Index r = 0; r < A.width(begin); ++r) {
      // Only the last block can be smaller than the others.
      const Index rows = r < A.width(end - 1) ? end - begin : end - begin - 1;
      // Z_r / alpha; alpha = 0 leaves the row as it is.
      std::vector<bool> seen(static_cast<std::size_t>(rows));
      for (Index t = 0; t < rows; ++t) {
        const Index i = begin + t;
        const double alpha = A[i].col(r).squaredNorm();
        seen[static_cast<std::size_t>(t)] = alpha > 0;
        if (!(alpha > 0)) continue;
        const Vector<double> column = A[i].col(r) / alpha;
        const Vector<double> mixed = A[i].transpose() * column;
        start.col(t).noalias() = Vt_.middleCols(A.first(i), A.width(i)) * column;
        start.col(t).noalias() -= Ut_.middleCols(A.first(i), A.width(i)) * mixed;
      }
      moved.setZero();
      for (Index first = 0; first < n; first += chunk) {
        const Index count = (std::min)(chunk, n - first);
        for (Index t = 0; t < rows; ++t) {
          double* const d = &changes(0, t);
          if (!seen[static_cast<std::size_t>(t)]) {
            std::fill(d, d + count, 0.0);
            continue;
          }
          double* const s = &factors_.St(first, A.first(begin + t) + r);
          for (Index i = 0; i < count; ++i)
            z[static_cast<std::size_t>(i)] = start(first + i, t) - moved(first + i, t);
          improve_chunk(first, count, z.data(), s, d);
        }
        const auto [top, bottom] = reach_(first);
        chunks_[static_cast<std::size_t>(first / chunk)].apply_add(
            changes.topLeftCorner(count, rows), moved.block(top, 0, bottom - top, rows), serial);
      }
      for (Index t = 0; t < rows; ++t) Ut_.col(A.first(begin + t) + r) += moved.col(t);
    }
  }

  /// The groups of one row in one chunk: z is their gradient, s their values, d how they change.
  void improve_chunk(Index first, Index count, double* z, double* s, double* d) const {
    const Matrix<double>& square = squares_[static_cast<std::size_t>(first / chunk)];
    const Index group = factors_.pattern.group;
    for (Index i = 0; i < count; i += group) {
      const Index width = (std::min)(group, count - i);
      groups_[static_cast<std::size_t>(first / chunk)].improve(i, z + i, s + i, d + i);
      for (Index k = i; k < i + width; ++k) {
        if (d[k] == 0) continue;
        s[k] += d[k];
        const double* const column = &square(0, k);
        for (Index j = 0; j < count; ++j) z[j] -= d[k] * column[j];
      }
    }
  }

  Matrix<double> Wt_;
  InputMetric metric_;
  ArmorFactors factors_;
  std::function<bool()> proceed_;
  ArmorReach reach_;
  Matrix<double> WGt_{};                   // (W G)^T
  double total_ = 0;                       // tr(W G W^T)
  Matrix<double> Vt_{};                    // (W G B^T)^T
  Matrix<double> Ut_{};                    // (S K)^T
  std::vector<Dense<double>> chunks_{};    // of 64 columns of K = B G B^T
  std::vector<Matrix<double>> squares_{};  // of 64 rows of these, on the diagonal
  std::vector<GroupChoices<>> groups_{};   // of these
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
