// SPDX-License-Identifier: MIT
// How values are scaled, and a group of them rounded to small integers and one scale.
#pragma once

#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

// Audio hosts, and whatever is linked with -ffast-math, have the processor take subnormal floats
// for 0, and make 0 of what would become one. What is stored must not depend on that.

/// The same number as a double, also where it is a subnormal float.
[[nodiscard]] inline double to_double(double value) noexcept { return value; }
[[nodiscard]] inline double to_double(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7f80'0000U) != 0) return double(value);
  const double magnitude = double(bits & 0x007f'ffffU) * 0x1p-149;
  return bits >> 31U == 0 ? magnitude : -magnitude;
}

/// The nearest float, also where that is subnormal.
[[nodiscard]] inline float to_single(double value) noexcept {
  const double magnitude = std::abs(value);
  if (!(magnitude < 0x1p-126)) return static_cast<float>(value);
  const auto bits = static_cast<std::uint32_t>(std::nearbyint(magnitude * 0x1p149));
  return std::bit_cast<float>(bits | (std::signbit(value) ? 0x8000'0000U : 0U));
}

/// Whether all bits but the sign are 0: a subnormal number may be equal to 0, and is not 0.
[[nodiscard]] inline bool is_zero(float value) noexcept {
  return std::bit_cast<std::uint32_t>(value) << 1U == 0;
}
[[nodiscard]] inline bool is_zero(double value) noexcept {
  return std::bit_cast<std::uint64_t>(value) << 1U == 0;
}

/// The integers of a storage that has any; one more of them is negative, but in int8.
struct IntegerRange {
  int least;
  int most;
};
[[nodiscard]] constexpr IntegerRange integers_of(Storage storage) noexcept {
  const int half = 1 << (integer_bits(storage) - 1);
  return {storage == Storage::int8 ? 1 - half : -half, half - 1};
}

/// The power of two that takes numbers of at most `largest` > 0 to a storage of T, or 0 where they
/// are at home there as they are. Otherwise the largest number becomes one of 2^14 to 2^15, so that
/// in f16, and among scales in f16, as many smaller ones as can be are normal numbers.
template <Real T>
[[nodiscard]] int storage_exponent(Storage storage, double largest) {
  const bool is_short = storage == Storage::f16 || has_few_bits(storage);
  const double least = is_short ? 0x1p-8 : 0x1p-100;
  const double most = storage == Storage::f16    ? 65504
                      : has_few_bits(storage)    ? integers_of(storage).most * 65504.0
                      : storage == Storage::bf16 ? 0x1.fep127
                                                 : double((std::numeric_limits<float>::max)());
  if (largest >= least && largest <= most) return 0;
  // Its power of two must be a normal number of T.
  return (std::max)(std::ilogb(largest) - 14, std::numeric_limits<T>::min_exponent - 1);
}

/// A scale and what it makes of a group of values: q times the scale, q rounded to the integers.
struct GroupScale {
  double scale;
  IntegerRange integers;

  [[nodiscard]] int round(double value) const {
    const double q = std::nearbyint(value / scale);
    return static_cast<int>(std::clamp(q, double(integers.least), double(integers.most)));
  }
  [[nodiscard]] double squared_error(const double* values, Index count) const {
    double sum = 0;
    for (Index i = 0; i < count; ++i) {
      const double e = values[i] - scale * round(values[i]);
      sum += e * e;
    }
    return sum;
  }
};

/// int8: the largest magnitude becomes 127.
[[nodiscard]] inline GroupScale int8_scale(const double* values, Index count) {
  double largest = 0;
  for (Index i = 0; i < count; ++i) largest = (std::max)(largest, std::abs(values[i]));
  if (largest == 0) return {1, integers_of(Storage::int8)};
  float scale = to_single(largest / 127);
  if (!is_finite(127 * scale)) scale = std::nextafter(scale, 0.0F);  // it was rounded up
  return {(std::max)(to_double(scale), 0x1p-149), integers_of(Storage::int8)};
}

/// int4, int3, int2: of some f16 scales around the one that takes the largest value to the end of
/// the range, the one with the least squared error. Such a search gains what most of the rounding
/// error of so few steps leaves to gain; a scale may be negative, because the range has one step
/// more below zero. An infinite scale where a value is beyond the largest.
[[nodiscard]] inline GroupScale searched_scale(IntegerRange integers, const double* values,
                                               Index count) {
  double extreme = 0;
  for (Index i = 0; i < count; ++i)
    if (std::abs(values[i]) > std::abs(extreme)) extreme = values[i];
  if (extreme == 0) return {1, integers};
  GroupScale best{std::numeric_limits<double>::infinity(), integers};
  double least = (std::numeric_limits<double>::max)();
  const double ends[] = {double(integers.least), double(integers.most)};
  for (const double factor : {1.0, -1.0, 0.9375, -0.9375, 1.0625, 1.125, -1.125, 1.1875})
    for (const double end : ends) {
      double scale = double(static_cast<float>(nearest<Eigen::half>(extreme / (factor * end))));
      if (!is_finite(scale)) continue;
      if (scale == 0) scale = std::copysign(0x1p-24, extreme / (factor * end));
      const GroupScale candidate{scale, integers};
      const double error = candidate.squared_error(values, count);
      if (error < least) {
        least = error;
        best = candidate;
      }
    }
  return best;
}

/// The scale for a group of values in a storage that has one.
[[nodiscard]] inline GroupScale group_scale(Storage storage, const double* values, Index count) {
  return storage == Storage::int8 ? int8_scale(values, count)
                                  : searched_scale(integers_of(storage), values, count);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
