// SPDX-License-Identifier: MIT
// What any second moment has.
#pragma once

#include "pleat/core/error.hpp"

#include <algorithm>
#include <cmath>
#include <string>

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

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
