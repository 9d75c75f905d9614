// SPDX-License-Identifier: MIT
// The linear systems of one factor of Kronecker products, given the other, in a metric of inputs.
#pragma once

#include "pleat/matrix/kronecker_sum.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/low_rank/low_rank_refit.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Entry (i, j) of A_r is at i + m1 j in column r of A, m1 n1 x R; of B_r likewise.
struct KroneckerTerms {
  Matrix<double> A{};
  Matrix<double> B{};
};

/// W as the matrix, m1 n1 x m2 n2, for which a Kronecker product A (x) B is vec(A) vec(B)^T; zeros
/// where W ends.
template <class = void>
[[nodiscard]] Matrix<double> rearranged(const Matrix<double>& W, const KroneckerShape& shape) {
  const Index m1 = shape.left_rows;
  const Index m2 = shape.right_rows;
  const Index n2 = shape.right_cols;
  Matrix<double> R = Matrix<double>::Zero(m1 * shape.left_cols, m2 * n2);
  for (Index col = 0; col < W.cols(); ++col)
    for (Index row = 0; row < W.rows(); ++row)
      R(row / m2 + m1 * (col / n2), row % m2 + m2 * (col % n2)) = W(row, col);
  return R;
}

/// C M^+ for C: m x k and M: k x k, symmetric positive semidefinite: by Cholesky, k^3 / 3
/// multiply-adds, or, where M is singular to rounding, by its eigenvectors.
template <class = void>
[[nodiscard]] Matrix<double> quotient(const Matrix<double>& C, const Matrix<double>& M) {
  const Vector<double> scale =
      M.diagonal().unaryExpr([](double d) { return d > 0 ? 1 / std::sqrt(d) : 0; });
  Matrix<double> unit = scale.asDiagonal() * M * scale.asDiagonal();
  unit.diagonal().setOnes();  // where M has nothing, nothing is divided by it
  const Eigen::LLT<Matrix<double>> cholesky(unit);
  const double tolerance =
      100 * std::numeric_limits<double>::epsilon() * static_cast<double>(M.rows());
  if (cholesky.info() != Eigen::Success ||
      !(cholesky.matrixLLT().diagonal().cwiseAbs2().minCoeff() > tolerance))
    return divide_by_semidefinite(C, M, Vector<double>(Vector<double>::Zero(M.rows())));
  return (scale.asDiagonal() * cholesky.solve(Matrix<double>(scale.asDiagonal() * C.transpose())))
      .transpose();
}

/// What a metric G of inputs, n x n, is for Kronecker products of a shape. Of G a slice at a time
/// is copied, some 256 columns, into the order that makes the sums over one of the factors a
/// product of matrices. Cost of a system: R^2 n^2 multiply-adds.
template <class = void>
class KroneckerSystem {
 public:
  /// G must live as long.
  KroneckerSystem(const Matrix<double>& G, const KroneckerShape& shape) : G_(G), shape_(shape) {}
  KroneckerSystem(const KroneckerSystem&) = delete;
  KroneckerSystem& operator=(const KroneckerSystem&) = delete;
  ~KroneckerSystem() = default;

  /// M for all A_r, given the B_r; R n1 x R n1, row r n1 + j1.
  [[nodiscard]] Matrix<double> left(const Matrix<double>& B) const {
    const Index n1 = shape_.left_cols;
    const Matrix<double> products = products_of(B, shape_.right_rows);
    Matrix<double> M(n1 * B.cols(), n1 * B.cols());
    for_slices([&](Index first, Index count) {
      place(multiply(slice(first, count), products), first, n1, M);
    });
    return symmetric_part(std::move(M));
  }
  /// M for all B_r, given the A_r; R n2 x R n2, row r n2 + j2.
  [[nodiscard]] Matrix<double> right(const Matrix<double>& A) const {
    const Index n1 = shape_.left_cols;
    const Index n2 = shape_.right_cols;
    const Matrix<double> products = products_of(A, shape_.left_rows);
    Matrix<double> sum = Matrix<double>::Zero(n2 * n2, products.cols());
    for_slices([&](Index first, Index count) {
      sum += multiply(slice(first, count).transpose(),
                      Matrix<double>(products.middleRows(first * n1, count * n1)));
    });
    Matrix<double> M(n2 * A.cols(), n2 * A.cols());
    place(sum, 0, n2, M);
    return symmetric_part(std::move(M));
  }

  /// C1, n1 x n1, and C2, n2 x n2, whose Kronecker product is nearest to G, but for a factor: by
  /// power iteration for the leading pair of the rearranged G, each step of which keeps them
  /// positive semidefinite.
  [[nodiscard]] std::pair<Matrix<double>, Matrix<double>> nearest_product() const {
    const Index n1 = shape_.left_cols;
    const Index n2 = shape_.right_cols;
    const auto block = [&](Index j, Index k) { return G_.block(j * n2, k * n2, n2, n2); };
    Matrix<double> C1 = Matrix<double>::Identity(n1, n1) / std::sqrt(static_cast<double>(n1));
    Matrix<double> C2(n2, n2);
    for (int i = 0; i < 20; ++i) {
      C2.setZero();
      for (Index j = 0; j < n1; ++j)
        for (Index k = 0; k < n1; ++k) C2 += C1(j, k) * block(j, k);
      C2 /= C2.norm();
      Matrix<double> next(n1, n1);
      for (Index j = 0; j < n1; ++j)
        for (Index k = 0; k < n1; ++k) next(j, k) = C2.cwiseProduct(block(j, k)).sum();
      next /= next.norm();
      const double change = (next - C1).norm();
      C1 = std::move(next);
      if (change < 1e-10) break;
    }
    return {std::move(C1), std::move(C2)};
  }

 private:
  /// All terms side by side: with entries (i, j) of a term at i + rows j, what lies in memory.
  [[nodiscard]] static Eigen::Map<const Matrix<double>> side_by_side(const Matrix<double>& terms,
                                                                     Index rows) {
    return {terms.data(), rows, terms.size() / rows};
  }

  /// Products of terms T_r^T T_s, of n columns each: entry (j, k) of that of r and s at j + n k in
  /// column r + R s.
  [[nodiscard]] static Matrix<double> products_of(const Matrix<double>& terms, Index rows) {
    const Index count = terms.cols();
    const Matrix<double> all = outer_gram(side_by_side(terms, rows).transpose());
    const Index n = all.rows() / count;
    Matrix<double> products(n * n, count * count);
    for (Index s = 0; s < count; ++s)
      for (Index r = 0; r < count; ++r)
        Eigen::Map<Matrix<double>>(products.col(r + count * s).data(), n, n) =
            all.block(r * n, s * n, n, n);
    return products;
  }

  /// Some block columns k1 of G: entry (j1 j2)(k1 k2) at row j1 + n1 (k1 - first) and column j2 +
  /// n2 k2.
  [[nodiscard]] Matrix<double> slice(Index first, Index count) const {
    const Index n1 = shape_.left_cols;
    const Index n2 = shape_.right_cols;
    Matrix<double> part(n1 * count, n2 * n2);
    for (Index k1 = 0; k1 < count; ++k1)
      for (Index k2 = 0; k2 < n2; ++k2) {
        const double* const from = G_.col((first + k1) * n2 + k2).data();
        for (Index j1 = 0; j1 < n1; ++j1)
          for (Index j2 = 0; j2 < n2; ++j2) part(j1 + n1 * k1, j2 + n2 * k2) = from[j1 * n2 + j2];
      }
    return part;
  }
  /// Calls body(first, count) for block columns of G, some 256 columns of G at once.
  template <class Body>
  void for_slices(Body body) const {
    const Index n1 = shape_.left_cols;
    const Index step = std::max<Index>(1, 256 / shape_.right_cols);
    for (Index first = 0; first < n1; first += step) body(first, (std::min)(step, n1 - first));
  }

  /// From entries (j, k) of r and s at row j + n k and column r + R s to row r n + j and column s n
  /// + k.
  static void place(const Matrix<double>& from, Index first, Index n, Matrix<double>& M) {
    const Index count = M.rows() / n;
    for (Index s = 0; s < count; ++s)
      for (Index r = 0; r < count; ++r) {
        const Index width = from.rows() / n;
        M.block(r * n, s * n + first, n, width) =
            Eigen::Map<const Matrix<double>>(from.col(r + count * s).data(), n, width);
      }
  }

  const Matrix<double>& G_;
  KroneckerShape shape_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
