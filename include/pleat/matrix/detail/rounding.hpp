// SPDX-License-Identifier: MIT
// How a group of values is rounded to small integers and one scale.
#pragma once

#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A scale and what it makes of a group of values: q times the scale, q rounded to [least, most].
template <Real T>
struct GroupScale {
  double scale;
  int least;
  int most;

  [[nodiscard]] int round(T value) const {
    const double q = std::nearbyint(double(value) / scale);
    return static_cast<int>(std::clamp(q, double(least), double(most)));
  }
  [[nodiscard]] double squared_error(const T* values, Index count) const {
    double sum = 0;
    for (Index i = 0; i < count; ++i) {
      const double e = double(values[i]) - scale * round(values[i]);
      sum += e * e;
    }
    return sum;
  }
};

/// int8: the largest magnitude becomes 127.
template <Real T>
[[nodiscard]] GroupScale<T> int8_scale(const T* values, Index count) {
  double largest = 0;
  for (Index i = 0; i < count; ++i) largest = (std::max)(largest, std::abs(double(values[i])));
  if (largest == 0) return {1, -127, 127};
  auto scale = static_cast<float>(largest / 127);
  if (!is_finite(127 * scale)) scale = std::nextafter(scale, 0.0F);  // it was rounded up
  return {(std::max)(double(scale), double(std::numeric_limits<float>::denorm_min())), -127, 127};
}

/// int4: of some f16 scales around the one that takes the largest value to the end of the range,
/// the one with the least squared error. Such a search gains what most of the rounding error of so
/// few steps leaves to gain; a scale may be negative, because the range has one step more below
/// zero. An infinite scale where a value is beyond the largest.
template <Real T>
[[nodiscard]] GroupScale<T> int4_scale(const T* values, Index count) {
  double extreme = 0;
  for (Index i = 0; i < count; ++i)
    if (std::abs(double(values[i])) > std::abs(extreme)) extreme = double(values[i]);
  if (extreme == 0) return {1, -8, 7};
  GroupScale<T> best{0, -8, 7};
  double least = (std::numeric_limits<double>::max)();
  for (const double end : {-8.0, 7.0, -7.0, -7.5, 7.5, -8.5, 8.0, -9.0, 8.5, -9.5, 9.0}) {
    double scale = double(static_cast<float>(nearest<Eigen::half>(extreme / end)));
    if (!is_finite(scale)) return {scale, -8, 7};
    if (scale == 0) scale = std::copysign(0x1p-24, extreme / end);
    const GroupScale<T> candidate{scale, -8, 7};
    const double error = candidate.squared_error(values, count);
    if (error < least) {
      least = error;
      best = candidate;
    }
  }
  return best;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
