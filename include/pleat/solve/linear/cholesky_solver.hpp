// SPDX-License-Identifier: MIT
// Linear systems of a positive definite matrix, on the library's own kernels and threads.
#pragma once

#include "pleat/matrix/dense.hpp"
#include "pleat/solve/linear/multiply.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A^-1 B for many B, by the Cholesky factor of A in blocks, whose diagonal blocks are inverted, so
/// that all is products: L is found in double, and kept and applied in T. `tell` is called on the
/// way. Cost: n^3 / 6 multiply-adds, an eighth of what the inverse itself takes, and for B of m
/// columns m n^2, as much as a product with it.
template <class T = double>
class CholeskySolver {
 public:
  CholeskySolver() = default;

  /// Of a symmetric A, n x n, of which the lower half is read; false, and then of no use, if that
  /// is not positive definite.
  [[nodiscard]] bool factor(Matrix<double> A, const std::function<void()>& tell = {}) {
    const Index n = A.rows();
    size_ = n;
    blocks_.clear();
    const Index height = n < 2048 ? 128 : 256;
    for (Index first = 0; first < n; first += height) {
      const Index count = (std::min)(height, n - first);
      const Index below = n - first - count;
      if (tell) tell();
      auto column = A.block(first, first, n - first, count);
      if (first > 0)
        column -= multiply(A.block(first, 0, n - first, first),
                           Matrix<double>(A.block(first, 0, count, first).transpose()));
      const Eigen::LLT<Matrix<double>> diagonal(column.topRows(count));
      if (diagonal.info() != Eigen::Success) return false;
      Matrix<double> inverse = Matrix<double>::Identity(count, count);
      diagonal.matrixL().solveInPlace(inverse);
      if (!is_finite(inverse.sum())) return false;
      if (below > 0)
        column.bottomRows(below) =
            multiply(column.bottomRows(below).eval(), Matrix<double>(inverse.transpose()));
      const Matrix<T> own = inverse.template cast<T>();
      const Matrix<T> before = -A.block(first, 0, count, first).template cast<T>();
      const Matrix<T> after = -column.bottomRows(below).template cast<T>();
      blocks_.push_back({first, count, Dense<T>(before), Dense<T>(own),
                         Dense<T>(Matrix<T>(after.transpose())),
                         Dense<T>(Matrix<T>(own.transpose()))});
    }
    return true;
  }

  /// B <- A^-1 B.
  void solve_in_place(Matrix<T>& B) const {
    Matrix<T> rows;
    const auto times = [&](const Dense<T>& D, const Block& block) {
      rows = B.middleRows(block.first, block.count);
      D.apply(rows, B.middleRows(block.first, block.count));
    };
    for (const Block& block : blocks_) {
      if (block.first > 0)
        block.before.apply_add(B.topRows(block.first), B.middleRows(block.first, block.count));
      times(block.inverse, block);
    }
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
      const Index below = size_ - block->first - block->count;
      if (below > 0)
        block->after.apply_add(B.bottomRows(below), B.middleRows(block->first, block->count));
      times(block->transposed, *block);
    }
  }

 private:
  /// So many rows of L, or of L^T.
  struct Block {
    Index first = 0;
    Index count = 0;
    Dense<T> before;      // minus what is left of the diagonal block,
    Dense<T> inverse;     // the inverse of that,
    Dense<T> after;       // minus the transpose of what is below it,
    Dense<T> transposed;  // and of its inverse
  };

  Index size_ = 0;
  std::vector<Block> blocks_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
