// SPDX-License-Identifier: MIT
// What any second moment has, and what samples must be to have one.
#pragma once

#include "pleat/core/error.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Throws `std::invalid_argument` unless a square matrix is symmetric and free of entries that no
/// sum of x x^T can have.
inline void check_moment(const Matrix<double>& moment, const char* what) {
  const double largest = moment.diagonal().cwiseAbs().maxCoeff();
  constexpr double slack = 1e-5;  // moments are often stored in single precision
  for (Index j = 0; j < moment.cols(); ++j)
    for (Index i = 0; i <= j; ++i) {
      const double bound =
          std::sqrt((std::max)(moment(i, i), 0.0)) * std::sqrt((std::max)(moment(j, j), 0.0));
      require(std::abs(moment(i, j) - moment(j, i)) <= slack * largest &&
                  std::abs(moment(i, j)) <= bound + slack * largest &&
                  (i != j || moment(i, i) >= -slack * largest),
              [&] {
                return std::string(what) + " is not symmetric positive semidefinite: see row " +
                       std::to_string(i) + ", column " + std::to_string(j);
              });
    }
}

/// Throws `std::invalid_argument` unless X are samples of so many inputs, finite, and none beyond
/// 1e150, the sums of whose squares double could not hold.
template <Real T>
void check_samples(const ConstMatrixRef<T>& X, Index inputs) {
  require(inputs > 0 && X.rows() == inputs, [&] {
    return "Calibration: samples of " + std::to_string(inputs) + " inputs cannot be " +
           shape_text(X.rows(), X.cols());
  });
  require_finite(X, "calibration samples");
  if constexpr (sizeof(T) > sizeof(float))
    require(X.size() == 0 || X.cwiseAbs().maxCoeff() <= T(1e150),
            [] { return std::string("Calibration: an entry of the samples is beyond 1e150"); });
}

/// The square roots, so that they do not overflow, of the sums over samples and i != j of x_i^2
/// x_j^2, and over samples and i of x_i^4, as Gaussian inputs of this Gram matrix have them, for
/// which the mean of (x_i x_j)^2 is G_ii G_jj + 2 G_ij^2.
inline std::pair<double, double> gaussian_fourth_moments(const Matrix<double>& G, Index samples) {
  const double largest = G.diagonal().maxCoeff();
  if (!(largest > 0)) return {0, 0};
  const Vector<double> d = G.diagonal().cwiseMax(0) / largest;
  const double own = 3 * d.squaredNorm();
  const double all = d.sum() * d.sum() + 2 * (G / largest).squaredNorm();
  const auto count = static_cast<double>(samples);
  return {largest * std::sqrt((std::max)(0.0, all - own) / count),
          largest * std::sqrt(own / count)};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
