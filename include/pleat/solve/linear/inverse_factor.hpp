// SPDX-License-Identifier: MIT
// The triangular factor of an inverse Gram matrix, by which an error in one weight is made up for
// by the weights after it.
#pragma once

#include "pleat/solve/linear/multiply.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Overwrites the upper triangle of a positive definite H with U, upper triangular, such that U H
/// U^T = I: then H^-1 = U^T U. False, and H spoilt, where a pivot is not positive.
///
/// By halves: with H = R R^T and U = R^-1,
///
///     R22, U22 from H22,   R12 = H12 U22^T,   R11, U11 from H11 - R12 R12^T,   U12 = -U11 R12 U22,
///
/// which needs neither the inverse of H nor a factorization of it, and is all products. `tell` is
/// called between those that take long. Cost: about n^3 multiply-adds on the library's kernels.
template <class = void>
[[nodiscard]] bool invert_to_factor(Matrix<double>& H, Index first, Index size,
                                    const std::function<void()>& tell = {}) {
  constexpr Index base = 48;
  constexpr Index long_enough = 512;
  if (tell && size >= long_enough) tell();
  if (size <= base) {
    // Column by column from the last: R in place, then its inverse.
    for (Index j = first + size - 1; j >= first; --j) {
      const double pivot = H(j, j);
      if (!(pivot > 0)) return false;
      const double root = std::sqrt(pivot);
      H(j, j) = root;
      for (Index i = first; i < j; ++i) H(i, j) /= root;
      for (Index k = first; k < j; ++k)
        for (Index i = first; i <= k; ++i) H(i, k) -= H(i, j) * H(k, j);
    }
    for (Index j = first; j < first + size; ++j) {
      const double inverse = 1 / H(j, j);
      H(j, j) = inverse;
      for (Index i = first; i < j; ++i) {
        double sum = 0;
        for (Index k = i; k < j; ++k) sum += H(i, k) * H(k, j);
        H(i, j) = -sum * inverse;
      }
    }
    return true;
  }
  const Index left = size / 2;
  const Index right = size - left;
  const Index middle = first + left;
  if (!invert_to_factor(H, middle, right, tell)) return false;
  const Matrix<double> U22 = H.block(middle, middle, right, right).triangularView<Eigen::Upper>();
  const Matrix<double> R12 =
      multiply(H.block(first, middle, left, right), Matrix<double>(U22.transpose()));
  H.block(first, first, left, left) -= multiply(R12, Matrix<double>(R12.transpose()));
  if (!invert_to_factor(H, first, left, tell)) return false;
  const Matrix<double> U11 = H.block(first, first, left, left).triangularView<Eigen::Upper>();
  H.block(first, middle, left, right) = -multiply(U11, multiply(R12, U22));
  return true;
}

/// U, upper triangular with U^T U = (H + damping I)^-1.
struct InverseFactor {
  Matrix<double> U{};
  double damping = 0;
  bool diagonal = false;  // of the diagonal of H alone: nothing else was positive definite
};

/// The factor for a Gram matrix H, damped by `relative` times its mean diagonal entry; where that
/// is not positive definite in double, by 10 and 100 times as much; where that is not either, of
/// the diagonal alone. Never an error. Any H, dead inputs and fewer samples than inputs included.
///
/// Source: E. Frantar and D. Alistarh, "SparseGPT", ICML 2023, for the damping; the rest is needed
/// in practice.
template <class = void>
[[nodiscard]] InverseFactor inverse_factor(const Matrix<double>& H, double relative = 0.01,
                                           const std::function<void()>& tell = {}) {
  const Index n = H.rows();
  const double mean = n > 0 ? H.trace() / static_cast<double>(n) : 0;
  InverseFactor result;
  if (mean > 0)
    for (const double factor : {1.0, 10.0, 100.0}) {
      result.damping = relative * factor * mean;
      result.U = H;
      result.U.diagonal().array() += result.damping;
      if (invert_to_factor(result.U, 0, n, tell) && is_finite(result.U.sum())) {
        result.U.triangularView<Eigen::StrictlyLower>().setZero();
        return result;
      }
    }
  result.diagonal = true;
  result.damping = mean > 0 ? (std::max)(relative, 1e-2) * mean : 1;
  result.U = Matrix<double>::Zero(n, n);
  result.U.diagonal() = (H.diagonal().cwiseMax(0).array() + result.damping).sqrt().inverse();
  return result;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
