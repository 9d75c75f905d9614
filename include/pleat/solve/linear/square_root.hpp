// SPDX-License-Identifier: MIT
// The symmetric square root of a positive semidefinite matrix.
#pragma once

#include "pleat/core/error.hpp"

#include <Eigen/Eigenvalues>

#include <stdexcept>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// All eigenpairs of a symmetric matrix, eigenvalues ascending.
template <class = void>
[[nodiscard]] Eigen::SelfAdjointEigenSolver<Matrix<double>> eigenpairs(
    const Matrix<double>& K, int parts = Eigen::ComputeEigenvectors) {
  Eigen::SelfAdjointEigenSolver<Matrix<double>> solver(K, parts);
  if (solver.info() != Eigen::Success)
    throw std::runtime_error("pleat: the symmetric eigenvalue iteration did not converge");
  return solver;
}

/// R = R^T with R R = P; eigenvalues that rounding made negative count as 0.
template <class = void>
[[nodiscard]] Matrix<double> square_root(const Matrix<double>& P) {
  const auto solver = eigenpairs(P);
  return solver.eigenvectors() * solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal() *
         solver.eigenvectors().transpose();
}

/// The root of a metric of outputs divided by its largest entry; empty where it is.
template <class = void>
[[nodiscard]] Matrix<double> scaled_root(const Matrix<double>& P) {
  return P.size() > 0 ? square_root(P / P.diagonal().maxCoeff()) : P;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
