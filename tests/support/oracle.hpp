// SPDX-License-Identifier: MIT
// What an operator must compute, by plain loops in a wider type, and how far it may be from that.
#pragma once

#include "support/tolerance.hpp"

#include <algorithm>
#include <limits>

namespace pleat::test {

/// A B by plain loops.
template <class M>
[[nodiscard]] M multiply(const M& A, const M& B) {
  M C = M::Zero(A.rows(), B.cols());
  for (Index j = 0; j < B.cols(); ++j)
    for (Index k = 0; k < A.cols(); ++k)
      for (Index i = 0; i < A.rows(); ++i) C(i, j) += A(i, k) * B(k, j);
  return C;
}

/// An operator as the oracle knows it: the matrix, and what bounds the error of applying it.
///
/// For a matrix A of n columns that is applied as sums of products,
///     |computed - A x| <= gamma_n |A| |x| + n eta,
/// where eta is what an underflow can lose; for a product, |A| is |A1| |A2| and the terms add up,
/// because the error of the inner stage passes through |A1|; for a sum, everything adds up.
template <Real T>
struct Oracle {
  Oracle() = default;

  /// A matrix that is stored as it is.
  explicit Oracle(const Matrix<T>& stored)
      : exact(stored.template cast<Wide<T>>()),
        magnitude(exact.cwiseAbs()),
        terms(static_cast<double>(std::max(stored.rows(), stored.cols()))),
        lost(WideMatrix<T>::Constant(stored.rows(), 1, eta(stored.cols()))),
        lost_transposed(WideMatrix<T>::Constant(stored.cols(), 1, eta(stored.rows()))) {}

  friend Oracle operator*(const Oracle& a, const Oracle& b) {
    Oracle c;
    c.exact = multiply(a.exact, b.exact);
    c.magnitude = multiply(a.magnitude, b.magnitude);
    c.terms = a.terms + b.terms;
    c.lost = multiply(a.magnitude, b.lost) + a.lost;
    c.lost_transposed =
        multiply<WideMatrix<T>>(b.magnitude.transpose(), a.lost_transposed) + b.lost_transposed;
    return c;
  }

  friend Oracle operator+(const Oracle& a, const Oracle& b) {
    Oracle c;
    c.exact = a.exact + b.exact;
    c.magnitude = a.magnitude + b.magnitude;
    c.terms = a.terms + b.terms;
    c.lost = a.lost + b.lost;
    c.lost_transposed = a.lost_transposed + b.lost_transposed;
    return c;
  }

  [[nodiscard]] Oracle transpose() const {
    Oracle c;
    c.exact = exact.transpose();
    c.magnitude = magnitude.transpose();
    c.terms = terms;
    c.lost = lost_transposed;
    c.lost_transposed = lost;
    return c;
  }

  WideMatrix<T> exact;
  WideMatrix<T> magnitude;
  double terms = 0;
  WideMatrix<T> lost;             // a column: by underflow, in each output
  WideMatrix<T> lost_transposed;  // the same for the transpose

 private:
  static Wide<T> eta(Index n) {
    return static_cast<Wide<T>>(n) * std::numeric_limits<T>::denorm_min();
  }
};

/// What Y = base + What X must be.
template <Real T>
struct Reference {
  Reference(const Oracle<T>& oracle, const Matrix<T>& X, const Matrix<T>& base) {
    const WideMatrix<T> x = X.template cast<Wide<T>>();
    const WideMatrix<T> b = base.template cast<Wide<T>>();
    exact = b + multiply(oracle.exact, x);
    // Two more roundings: adding to the base, and those of the oracle itself.
    bound = (multiply(oracle.magnitude, WideMatrix<T>(x.cwiseAbs())) + b.cwiseAbs()) *
                gamma<T>(oracle.terms + 2) +
            2 * oracle.lost.replicate(1, x.cols());
  }
  Reference(const Oracle<T>& oracle, const Matrix<T>& X)
      : Reference(oracle, X, Matrix<T>::Zero(oracle.exact.rows(), X.cols())) {}

  WideMatrix<T> exact;
  WideMatrix<T> bound;
};

}  // namespace pleat::test
