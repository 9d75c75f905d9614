// SPDX-License-Identifier: MIT
// How values are scaled, and a group of them rounded to small integers and one scale.
#pragma once

#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
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

/// The search for the scale of a group of values in int4, int3 or int2: that of the least squared
/// error, weighted where there are weights. Scales are tried that take the largest value to either
/// end of the range or around it; they may be negative, because the range has one step more below
/// zero, and may clip the largest values. Each is judged by what is left once it is replaced by the
/// best for the integers q that it makes, sum w q v / sum w q^2. The error is on average within a
/// percent of the least that any scale leaves (with weights, a few). Of more than
/// 32 values, the first ones decide what is tried, and all of them what is taken. Cost: 30
/// roundings of the group in floats, and some in doubles.
class ScaleSearch {
 public:
  ScaleSearch(IntegerRange integers, const double* values, const double* weights, Index count)
      : integers_(integers), values_(values), weights_(weights), count_(count) {}

  /// An f16 number, not 0; infinite where a value is beyond what f16 reaches.
  [[nodiscard]] double best() {
    double extreme = 0;
    double heaviest = 0;
    for (Index i = 0; i < count_; ++i) {
      if (std::abs(values_[i]) > std::abs(extreme)) extreme = values_[i];
      if (weights_ != nullptr) heaviest = (std::max)(heaviest, weights_[i]);
    }
    if (!(std::abs(extreme) > 0x1p-25)) return 1;  // all become 0
    unit_ = 1 / heaviest;
    if (!(heaviest > 0) || !is_finite(heaviest) || !is_finite(unit_)) weights_ = nullptr;
    // In floats, of which a processor does several at a time; values and weights are at most 1.
    Floats values = Floats::Zero();
    Floats weighted = Floats::Zero();
    Floats weights = Floats::Zero();
    for (Index i = 0; i < (std::min)(count_, Index{looked_at}); ++i) {
      values(i) = static_cast<float>(values_[i] / extreme);
      weights(i) = static_cast<float>(weight(i));
      weighted(i) = values(i) * weights(i);
    }
    std::array<Candidate, 30> candidates{};
    float most = 0;
    int part = 8;  // sixteenths of the range's half: the upper half of it, and beyond
    for (std::size_t i = 0; i < candidates.size(); i += 2, part += part < 12 ? 2 : 1)
      for (const std::size_t k : {i, i + 1}) {
        const double end = (k == i ? 1.0 : -1.0) * part / 16 * integers_.least;
        candidates[k] = candidate(end, values, weighted, weights);
        most = (std::max)(most, candidates[k].gain);
      }
    // Those that may be best in doubles; of one sign after another, as far as integers differ.
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& of = candidates[i];
      const bool is_new =
          i < 2 || of.gain != candidates[i - 2].gain || of.square != candidates[i - 2].square;
      if (is_new && of.gain >= most * (1 - 0x1p-16F)) descend(fit(extreme / of.end).scale);
    }
    // Where f16 has few numbers, or no greater ones, these may be closer, or all that there is.
    if (std::abs(extreme) < 0x1p-9 || std::abs(extreme) > 0x1p13)
      for (int end = integers_.least; end <= integers_.most; ++end)
        if (end != 0) descend(extreme / end);
    return best_;
  }

 private:
  static constexpr int looked_at = 32;
  using Floats = Eigen::Array<float, looked_at, 1>;

  [[nodiscard]] double weight(Index i) const {
    return weights_ == nullptr ? 1.0 : unit_ * weights_[i];
  }

  /// What the largest value is taken to; the sum of w q^2 of the integers, and by how much these
  /// and their best scale lower the sum of squares: (sum w q v)^2 / sum w q^2.
  struct Candidate {
    double end;
    float square;
    float gain;
  };
  [[nodiscard]] Candidate candidate(double end, const Floats& values, const Floats& weighted,
                                    const Floats& weights) const {
    using Lanes = Eigen::Array<float, 8, 1>;
    const auto least = static_cast<float>(integers_.least);
    const auto range = static_cast<float>(integers_.most) - least;
    Lanes along = Lanes::Zero();
    Lanes square = Lanes::Zero();
    for (Index i = 0; i < looked_at; i += 8) {
      // What is cut off after the comma is that of no negative number.
      const Lanes at = values.segment<8>(i) * static_cast<float>(end) + (0.5F - least);
      const Lanes q = ((at.max)(0.0F).min)(range).cast<int>().cast<float>() + least;
      along += q * weighted.segment<8>(i);
      square += q * q * weights.segment<8>(i);
    }
    const float length = square.sum();
    const float product = along.sum();
    return {end, length, length > 0 ? product * product / length : 0.0F};
  }

  /// Takes a scale, rounded to f16, if it is better; then the best for the integers that it makes.
  void descend(double scale) {
    for (;;) {
      double rounded = double(static_cast<float>(nearest<Eigen::half>(scale)));
      if (rounded == 0) rounded = std::copysign(0x1p-24, scale);
      if (!is_finite(rounded) || rounded == best_) return;
      const Fit of = fit(rounded);
      if (!(of.error < error_)) return;
      error_ = of.error;
      best_ = rounded;
      scale = of.scale;
    }
  }

  /// What the integers that a scale makes leave of the values, and the scale that is best for them.
  struct Fit {
    double error;
    double scale;
  };
  [[nodiscard]] Fit fit(double scale) const {
    const double inverse = 1 / scale;
    double error = 0;
    double along = 0;
    double square = 0;
    for (Index i = 0; i < count_; ++i) {
      const double q = integer(values_[i] * inverse);
      const double e = values_[i] - scale * q;
      error += weight(i) * e * e;
      along += weight(i) * q * values_[i];
      square += weight(i) * q * q;
    }
    return {error, square > 0 ? along / square : scale};
  }
  /// The nearest integer of the range.
  [[nodiscard]] double integer(double value) const {
    const double at = value - integers_.least + 0.5;
    const double most = integers_.most - integers_.least;
    return integers_.least + static_cast<int>((std::min)((std::max)(0.0, at), most));
  }

  IntegerRange integers_;
  const double* values_;
  const double* weights_;
  Index count_;
  double unit_ = 1;  // the heaviest weight times this is 1
  double best_ = std::numeric_limits<double>::infinity();
  double error_ = (std::numeric_limits<double>::max)();
};

/// The scale for a group of values in a storage that has one; in int8, weights change nothing.
[[nodiscard]] inline GroupScale group_scale(Storage storage, const double* values, Index count,
                                            const double* weights = nullptr) {
  if (storage == Storage::int8) return int8_scale(values, count);
  const IntegerRange integers = integers_of(storage);
  return {ScaleSearch(integers, values, weights, count).best(), integers};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
