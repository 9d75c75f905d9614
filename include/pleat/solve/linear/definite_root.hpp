// SPDX-License-Identifier: MIT
// A root and the inverse of a Gram matrix, which may be singular.
#pragma once

#include "pleat/solve/linear/square_root.hpp"

#include <Eigen/Cholesky>

#include <algorithm>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

struct DefiniteRoot {
  Matrix<double> root;     // S with S S^T = A
  Matrix<double> inverse;  // of A
};

/// Of a positive semidefinite A = D C D with C of ones on its diagonal, with 1e-8 added to these:
/// too little to be seen in any error, and enough that what hardly is in A does not come back from
/// the inverse as rounding. Rows and columns of zeros, or of entries below 1e-15 of the largest,
/// are zeros in the inverse. Cost: about n^3 multiply-adds.
template <class = void>
[[nodiscard]] DefiniteRoot definite_root(const Matrix<double>& A) {
  constexpr double ridge = 1e-8;
  const Vector<double> lengths = A.diagonal().cwiseMax(0).cwiseSqrt();
  const double least = lengths.size() > 0 ? 1e-15 * lengths.maxCoeff() : 0;
  const Vector<double> inverses =
      lengths.unaryExpr([least](double length) { return length > least ? 1 / length : 0; });
  Matrix<double> C = inverses.asDiagonal() * A * inverses.asDiagonal();
  C.diagonal().setConstant(1 + ridge);
  const Eigen::LLT<Matrix<double>> cholesky(C);
  if (cholesky.info() == Eigen::Success)
    return {lengths.asDiagonal() * Matrix<double>(cholesky.matrixL()),
            inverses.asDiagonal() *
                Matrix<double>(cholesky.solve(Matrix<double>::Identity(A.rows(), A.rows()))) *
                inverses.asDiagonal()};
  // Where rounding, or what was given as a Gram matrix, has eigenvalues below zero.
  const auto solver = eigenpairs(C);
  const Vector<double> values = solver.eigenvalues().cwiseMax(ridge);
  const Matrix<double>& vectors = solver.eigenvectors();
  const Matrix<double> half = vectors * values.cwiseSqrt().cwiseInverse().asDiagonal();
  return {lengths.asDiagonal() * vectors * values.cwiseSqrt().asDiagonal(),
          inverses.asDiagonal() * Matrix<double>(half * half.transpose()) * inverses.asDiagonal()};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
