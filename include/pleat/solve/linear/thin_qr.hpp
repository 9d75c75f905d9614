// SPDX-License-Identifier: MIT
// The thin QR factorization, by Householder reflections.
#pragma once

#include "pleat/core/scalar.hpp"

#include <Eigen/QR>

#include <algorithm>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A = Q R with Q: m x k of orthonormal columns, R: k x n upper triangular (trapezoidal where n >
/// m), and k = min(m, n).
struct ThinQr {
  Matrix<double> Q{};
  Matrix<double> R{};
};

/// Of any A, whatever its rank: where columns depend on others, Q has columns that A does not have,
/// and R has zeros, to rounding. Each column of Q R is that of A to its own rounding. Cost: 4 m n k
/// flops.
template <class = void>
[[nodiscard]] ThinQr thin_qr(const Matrix<double>& A) {
  const Index k = (std::min)(A.rows(), A.cols());
  if (k == 0) return {Matrix<double>(A.rows(), 0), Matrix<double>(0, A.cols())};
  const Eigen::HouseholderQR<Matrix<double>> qr(A);
  ThinQr result;
  result.Q = qr.householderQ() * Matrix<double>::Identity(A.rows(), k);
  result.R = qr.matrixQR().topRows(k).template triangularView<Eigen::Upper>();
  return result;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
