// SPDX-License-Identifier: MIT
// A root and the inverse of a Gram matrix, which may be singular, and linear systems of one.
#pragma once

#include "pleat/solve/linear/cholesky_solver.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A positive semidefinite A as D C D, with C of ones on its diagonal and 1e-8 added to these: too
/// little to be seen in any error, and enough that what hardly is in A does not come back from the
/// inverse as rounding.
struct UnitDiagonal {
  static constexpr double ridge = 1e-8;

  explicit UnitDiagonal(const Matrix<double>& A) : lengths(A.diagonal().cwiseMax(0).cwiseSqrt()) {
    const double least = lengths.size() > 0 ? 1e-15 * lengths.maxCoeff() : 0;
    inverses =
        lengths.unaryExpr([least](double length) { return length > least ? 1 / length : 0; });
    C = inverses.asDiagonal() * A * inverses.asDiagonal();
    C.diagonal().setConstant(1 + ridge);
  }

  Matrix<double> C{};
  Vector<double> lengths;     // D
  Vector<double> inverses{};  // of D, and 0 where it is below 1e-15 of its largest
};

struct DefiniteRoot {
  Matrix<double> root;     // S with S S^T = A
  Matrix<double> inverse;  // of A
};

/// Of a positive semidefinite A, with the ridge of `UnitDiagonal`. Rows and columns of zeros, or of
/// entries below 1e-15 of the largest, are zeros in the inverse. Cost: about n^3 multiply-adds.
template <class = void>
[[nodiscard]] DefiniteRoot definite_root(const Matrix<double>& A) {
  const auto [C, lengths, inverses] = UnitDiagonal(A);
  const Eigen::LLT<Matrix<double>> cholesky(C);
  if (cholesky.info() == Eigen::Success)
    return {lengths.asDiagonal() * Matrix<double>(cholesky.matrixL()),
            inverses.asDiagonal() *
                Matrix<double>(cholesky.solve(Matrix<double>::Identity(A.rows(), A.rows()))) *
                inverses.asDiagonal()};
  // Where rounding, or what was given as a Gram matrix, has eigenvalues below zero.
  const auto solver = eigenpairs(C);
  const Vector<double> values = solver.eigenvalues().cwiseMax(UnitDiagonal::ridge);
  const Matrix<double>& vectors = solver.eigenvectors();
  const Matrix<double> half = vectors * values.cwiseSqrt().cwiseInverse().asDiagonal();
  return {lengths.asDiagonal() * vectors * values.cwiseSqrt().asDiagonal(),
          inverses.asDiagonal() * Matrix<double>(half * half.transpose()) * inverses.asDiagonal()};
}

/// A^-1 B for many B, with the inverse of `definite_root`. Cost: n^3 / 6 multiply-adds, and for B
/// of m columns m n^2.
template <class = void>
class DefiniteSolver {
 public:
  DefiniteSolver() = default;
  explicit DefiniteSolver(const Matrix<double>& A) {
    UnitDiagonal scaled(A);
    inverses_ = std::move(scaled.inverses);
    if (!cholesky_.factor(std::move(scaled.C))) inverse_ = definite_root(A).inverse;
  }

  [[nodiscard]] Matrix<double> solve(const Matrix<double>& B) const {
    if (inverse_.size() > 0) return multiply(inverse_, B);
    Matrix<double> result = inverses_.asDiagonal() * B;
    cholesky_.solve_in_place(result);
    return inverses_.asDiagonal() * result;
  }

 private:
  CholeskySolver<> cholesky_{};
  Vector<double> inverses_{};
  Matrix<double> inverse_{};  // where rounding, or what was given, is not positive definite
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
