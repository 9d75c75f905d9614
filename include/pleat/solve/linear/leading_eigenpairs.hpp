// SPDX-License-Identifier: MIT
// The largest eigenpairs of a positive semidefinite matrix, exactly or by randomized subspace
// iteration.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/random.hpp"
#include "pleat/solve/linear/square_root.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Orthonormal columns that span those of Y, as many as are numerically independent: Cholesky QR,
/// twice (Yamamoto et al. 2015), which is all matrix products; where Y is too ill-conditioned for
/// it, by the eigenvectors of Y^T Y (Stathopoulos and Wu 2002). After one pass they are independent
/// enough to go on with. Cost: 1.5 k l^2 multiply-adds for k x l and a pass.
template <class = void>
[[nodiscard]] Matrix<double> orthonormal(Matrix<double> Y, int passes = 2) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  for (int pass = 0; pass < passes; ++pass) {
    Vector<double> norm = Y.colwise().norm().transpose();
    if (norm.size() == 0 || norm.maxCoeff() == 0) return Matrix<double>(Y.rows(), 0);
    for (Index j = 0; j < Y.cols(); ++j)
      if (norm(j) > 0) Y.col(j) /= norm(j);
    const Matrix<double> S = outer_gram(Y.transpose());
    Eigen::LLT<Matrix<double>> cholesky(S);
    const double tolerance = 10 * epsilon * static_cast<double>(Y.cols());
    const bool independent = cholesky.info() == Eigen::Success &&
                             cholesky.matrixLLT().diagonal().cwiseAbs2().minCoeff() > tolerance;
    if (independent) {
      const Matrix<double> inverse =
          cholesky.matrixU().solve(Matrix<double>::Identity(Y.cols(), Y.cols()));
      Y = multiply(Y, inverse);
    } else {
      const auto solver = eigenpairs(S);
      const Vector<double>& values = solver.eigenvalues();
      const double least = tolerance * values.maxCoeff();
      const Index kept = (values.array() > least).count();
      const Matrix<double> basis = solver.eigenvectors().rightCols(kept) *
                                   values.tail(kept).cwiseSqrt().cwiseInverse().asDiagonal();
      Y = multiply(Y, basis);
    }
  }
  return Y;
}

/// Eigenvalues, descending and not negative, with eigenvectors in the columns.
struct Eigenpairs {
  Vector<double> values{};
  Matrix<double> vectors{};
};

/// Keeps the first `count` pairs whose eigenvalue stands out from the rounding of the whole, so far
/// that no rounding is left in the eigenvector: what it has of others is epsilon over the root of
/// this share, relative to the whole.
template <class = void>
[[nodiscard]] Eigenpairs numerically_positive(Eigenpairs pairs, Index count, double trace) {
  const double least = 1e-8 * (std::max)(trace, 0.0);
  Index kept = 0;
  while (kept < (std::min)(count, pairs.values.size()) && pairs.values(kept) > least) ++kept;
  return {pairs.values.head(kept), pairs.vectors.leftCols(kept)};
}

/// All pairs of K, by Eigen's tridiagonal QR. About 9 k^3 flops on one core.
template <class = void>
[[nodiscard]] Eigenpairs exact_eigenpairs(const Matrix<double>& K) {
  const auto solver = eigenpairs(K);
  return {solver.eigenvalues().reverse().cwiseMax(0), solver.eigenvectors().rowwise().reverse()};
}

/// The `count` largest pairs of K, k x k, from a random subspace of `count + oversampling`
/// dimensions (Halko, Martinsson, Tropp 2011, algorithm 4.4): Q <- orthonormal(K Q), `iterations`
/// times after the first, then Rayleigh and Ritz. Each product with K = M M^T is a full power
/// iteration on M. `proceed` is told the share of the trace that the subspace holds, and may stop
/// the iteration. Fewer pairs, or none, where K has no more. Cost: 2 k^2 l flops an iteration on
/// the library's kernels.
template <class = void>
[[nodiscard]] Eigenpairs randomized_eigenpairs(const Matrix<double>& K, Index count,
                                               Index oversampling, Index iterations,
                                               std::uint64_t seed,
                                               const std::function<bool(Index, double)>& proceed) {
  const Index size = K.rows();
  const double trace = K.trace();
  const Dense<double> packed(K);
  const Index spare = (std::min)(size - count, oversampling);
  const auto basis = [iterations](Matrix<double> images, Index iteration) {
    return orthonormal(std::move(images), iteration < iterations ? 1 : 2);
  };
  Matrix<double> Q = basis(multiply(packed, Random(seed).normal(size, count + spare)), 0);
  Matrix<double> Y = multiply(packed, Q);
  for (Index i = 1; i <= iterations && Q.cols() > 0; ++i) {
    const double held = trace > 0 ? Q.cwiseProduct(Y).sum() / trace : 1;
    if (!proceed(i, held)) {
      Q = orthonormal(std::move(Q));
      Y = multiply(packed, Q);
      break;
    }
    Q = basis(std::move(Y), i);
    Y = multiply(packed, Q);
  }
  if (Q.cols() == 0) return {Vector<double>(0), Matrix<double>(size, 0)};
  const Eigenpairs inner = exact_eigenpairs(symmetric_part(multiply(Q.transpose(), Y)));
  const Index kept = (std::min)(count, inner.values.size());
  return {inner.values.head(kept), multiply(Q, inner.vectors.leftCols(kept))};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
