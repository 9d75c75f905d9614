// SPDX-License-Identifier: MIT
// How far a computed number may lie from the true one: a bound that is derived, not tuned.
#pragma once

#include "pleat/core/scalar.hpp"

#include <concepts>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

namespace pleat::test {

/// The type that an oracle computes in: wide enough that its own rounding does not count.
template <Real T>
using Wide = std::conditional_t<std::same_as<T, float>, double, long double>;

template <Real T>
using WideMatrix = Eigen::Matrix<Wide<T>, Eigen::Dynamic, Eigen::Dynamic>;

/// gamma_k = k u / (1 - k u): the relative error that k roundings in a row can add up to (Higham,
/// Accuracy and Stability of Numerical Algorithms, section 3.1).
template <Real T>
[[nodiscard]] Wide<T> gamma(double k) {
  const Wide<T> ku = static_cast<Wide<T>>(k) * (std::numeric_limits<T>::epsilon() / 2);
  if (!(ku < 1)) throw std::logic_error("too many roundings for a bound");
  return ku / (1 - ku);
}

/// Empty where |actual - exact| <= bound in every entry, else a text about the first that is not.
template <class Actual, Real T = typename Actual::Scalar>
[[nodiscard]] std::string beyond(const Actual& actual, const WideMatrix<T>& exact,
                                 const WideMatrix<T>& bound) {
  std::ostringstream text;
  text.precision(17);
  if (actual.rows() != exact.rows() || actual.cols() != exact.cols()) {
    text << "the shape is " << actual.rows() << " x " << actual.cols();
    return text.str();
  }
  for (Index j = 0; j < exact.cols(); ++j)
    for (Index i = 0; i < exact.rows(); ++i) {
      const Wide<T> error = static_cast<Wide<T>>(actual(i, j)) - exact(i, j);
      if (is_finite(actual(i, j)) && -bound(i, j) <= error && error <= bound(i, j)) continue;
      text << "entry (" << i << ", " << j << ") is " << actual(i, j) << ", not " << exact(i, j)
           << " within " << bound(i, j);
      return text.str();
    }
  return {};
}

/// Empty where both are of one shape and the same bits, else a text about the first difference.
template <class A, class B>
[[nodiscard]] std::string difference(const A& a, const B& b) {
  using T = typename A::Scalar;
  static_assert(std::same_as<T, typename B::Scalar>);
  std::ostringstream text;
  text.precision(17);
  if (a.rows() != b.rows() || a.cols() != b.cols()) {
    text << "the shapes are " << a.rows() << " x " << a.cols() << " and " << b.rows() << " x "
         << b.cols();
    return text.str();
  }
  for (Index j = 0; j < a.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) {
      const T left = a(i, j);
      const T right = b(i, j);
      if (std::memcmp(&left, &right, sizeof(T)) == 0) continue;
      text << "entry (" << i << ", " << j << ") is " << left << " and " << right;
      return text.str();
    }
  return {};
}

}  // namespace pleat::test
