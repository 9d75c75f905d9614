// SPDX-License-Identifier: MIT
// The least squares problem behind ARMOR, and the products that all of its steps share.
#pragma once

#include "pleat/matrix/sparse_pattern.hpp"
#include "pleat/solve/linear/block_diagonal.hpp"
#include "pleat/solve/linear/inverse_factor.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The metric of the inputs: G, n x n, or its diagonal alone.
class InputMetric {
 public:
  [[nodiscard]] static InputMetric full(Matrix<double> gram) {
    InputMetric metric;
    metric.gram_ = std::move(gram);
    return metric;
  }
  [[nodiscard]] static InputMetric diagonal(Vector<double> weights) {
    InputMetric metric;
    metric.weights_ = std::move(weights);
    return metric;
  }

  [[nodiscard]] bool is_diagonal() const noexcept { return gram_.size() == 0; }

  /// Rows [first, first + count) of G X.
  template <class = void>
  [[nodiscard]] Matrix<double> rows_times(Index first, Index count, const Matrix<double>& X) const {
    if (is_diagonal())
      return weights_.segment(first, count).asDiagonal() * X.middleRows(first, count);
    return multiply(gram_.middleRows(first, count), X);
  }
  template <class = void>
  [[nodiscard]] Matrix<double> times(const Matrix<double>& X) const {
    return rows_times(0, X.rows(), X);
  }
  [[nodiscard]] Matrix<double> block(Index row, Index col, Index rows, Index cols) const {
    if (!is_diagonal()) return gram_.block(row, col, rows, cols);
    if (row != col) return Matrix<double>::Zero(rows, cols);
    return weights_.segment(row, rows).asDiagonal();
  }
  /// U with U^T U = (G + damping)^-1, damped by so much of the mean of the diagonal.
  template <class = void>
  [[nodiscard]] Matrix<double> inverse_root(double damping,
                                            const std::function<void()>& tell = {}) const {
    if (!is_diagonal()) return inverse_factor(gram_, damping, tell).U;
    const double mean = weights_.mean();
    const double added = mean > 0 ? damping * mean : 1;
    return (weights_.array() + added).rsqrt().matrix().asDiagonal();
  }

 private:
  Matrix<double> gram_{};
  Vector<double> weights_{};
};

/// Columns whose products with K are put off, and made together.
inline constexpr Index armor_chunk = 64;

/// Which rows of K such columns reach: K couples blocks of `block` columns, or all of them.
struct ArmorReach {
  Index size = 0;
  Index block = 1;

  /// First and past the last, for the columns from `first` on.
  [[nodiscard]] std::pair<Index, Index> operator()(Index first) const noexcept {
    const Index last = (std::min)(first + armor_chunk, size) - 1;
    return {first / block * block, (std::min)(size, (last / block + 1) * block)};
  }
};

/// The factors of What = A S B; S, N:M, transposed, because its rows are what all steps run over.
struct ArmorFactors {
  BlockDiagonal A;
  Matrix<double> St;
  BlockDiagonal B;
  SparsePattern pattern = {};  // of S; of groups that divide a chunk
};

/// K = B G B^T, n x n: the metric in which rows of S count. Of a diagonal G, by blocks of B.
template <class = void>
[[nodiscard]] Matrix<double> carried_block(const InputMetric& metric, const BlockDiagonal& B,
                                           Index j) {
  return B[j] * metric.block(B.first(j), B.first(j), B.width(j), B.width(j)) * B[j].transpose();
}
template <class = void>
[[nodiscard]] Matrix<double> carried_metric(const InputMetric& metric, const BlockDiagonal& B) {
  const Index n = B.size();
  if (!metric.is_diagonal())
    return symmetric_part(B.transpose_after(B.times(metric.block(0, 0, n, n))));
  Matrix<double> K = Matrix<double>::Zero(n, n);
  for (Index j = 0; j < B.count(); ++j)
    K.block(B.first(j), B.first(j), B.width(j), B.width(j)) = carried_block(metric, B, j);
  return K;
}

/// Calls body(first, columns) for `armor_chunk` columns of K at a time, of the rows that they
/// reach. Nothing is n x n where G is diagonal.
template <class Body>
void carried_columns(const InputMetric& metric, const BlockDiagonal& B, ArmorReach reach,
                     Body&& body) {
  const Matrix<double> whole = metric.is_diagonal() ? Matrix<double>() : carried_metric(metric, B);
  Matrix<double> block;  // the one of number `held`
  Index held = -1;
  for (Index first = 0; first < B.size(); first += armor_chunk) {
    const Index count = (std::min)(armor_chunk, B.size() - first);
    const auto [top, bottom] = reach(first);
    if (whole.size() > 0) {
      body(first, whole.block(top, first, bottom - top, count));
      continue;
    }
    Matrix<double> columns = Matrix<double>::Zero(bottom - top, count);
    for (Index j = top / B.block(); j < B.count() && B.first(j) < bottom; ++j) {
      if (held != j) block = carried_block(metric, B, j);
      held = j;
      const Index left = (std::max)(first, B.first(j));
      const Index width = (std::min)(first + count, B.first(j) + B.width(j)) - left;
      columns.block(B.first(j) - top, left - first, B.width(j), width) =
          block.middleCols(left - B.first(j), width);
    }
    body(first, columns);
  }
}

/// x with (M + ridge) x = right, for M positive semidefinite: the change that a least squares step
/// makes. The ridge, 1e-10 of the mean of the diagonal, pulls towards no change, so that no step
/// increases the loss, whatever the rank of M.
template <class = void>
[[nodiscard]] Matrix<double> proximal_solve(Matrix<double> M, const Matrix<double>& right) {
  const double ridge = 1e-10 * M.trace() / static_cast<double>(M.rows());
  if (!(ridge > 0)) return Matrix<double>::Zero(right.rows(), right.cols());
  M.diagonal().array() += ridge;
  return M.ldlt().solve(right);
}

/// D^-1, where that exists: D^T (D D^T + ridge)^-1.
template <class = void>
[[nodiscard]] BlockDiagonal damped_inverse(BlockDiagonal D) {
  parallel_ranges(D.count(), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      D[i] = proximal_solve(D[i] * D[i].transpose(), D[i]).transpose().eval();
  });
  return D;
}

/// Runs body(0) ... body(count - 1) on all threads, and `proceed` between, on this one; false, and
/// the rest is left out, where that returned false.
template <class Body>
bool in_waves(Index count, const std::function<bool()>& proceed, Body&& body) {
  const Index width = thread_workspace().max_tasks();
  for (Index first = 0; first < count; first += width) {
    parallel_ranges((std::min)(width, count - first), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) body(first + i);
    });
    if (proceed && !proceed()) return false;
  }
  return true;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
