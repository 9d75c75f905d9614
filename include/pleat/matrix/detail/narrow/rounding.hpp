// SPDX-License-Identifier: MIT
// How values are scaled, and a group of them rounded to small integers and one scale.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/matrix/detail/narrow/numbers.hpp"

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

/// The power of two that takes numbers of at most `largest` > 0 to a storage of T, or 0 where they
/// are at home there as they are. Otherwise the largest number becomes one of 2^14 to 2^15, so that
/// in f16, and among scales in f16, as many smaller ones as can be are normal numbers.
template <Real T>
[[nodiscard]] int storage_exponent(Storage storage, double largest) {
  const bool is_short = storage == Storage::f16 || has_few_bits(storage);
  const double least = is_short ? 0x1p-8 : 0x1p-100;
  const double most = storage == Storage::f16      ? 65504
                      : has_fitted_levels(storage) ? 32768
                      : has_few_bits(storage)      ? integers_of(storage).most * 65504.0
                      : storage == Storage::bf16   ? 0x1.fep127
                                                   : double((std::numeric_limits<float>::max)());
  if (largest >= least && largest <= most) return 0;
  // Its power of two must be a normal number of T.
  return (std::max)(std::ilogb(largest) - 14, std::numeric_limits<T>::min_exponent - 1);
}

/// A scale and what it makes of a group of values: the numbers of integers times the scale.
struct GroupScale {
  double scale;
  Numbers numbers;

  /// The integer for a value.
  [[nodiscard]] int round(double value) const { return numbers.nearest(value / scale); }
};

/// int8: the largest magnitude becomes 127.
[[nodiscard]] inline GroupScale int8_scale(const double* values, Index count) {
  double largest = 0;
  for (Index i = 0; i < count; ++i) largest = (std::max)(largest, std::abs(values[i]));
  if (largest == 0) return {1, Numbers(Storage::int8)};
  float scale = to_single(largest / 127);
  if (!is_finite(127 * scale)) scale = std::nextafter(scale, 0.0F);  // it was rounded up
  return {(std::max)(to_double(scale), 0x1p-149), Numbers(Storage::int8)};
}

/// The search for the scale of a group of values in int4, int3 or int2: that of the least squared
/// error, weighted where there are weights. Scales are tried that take the largest value to either
/// end of the range or around it; they may be negative, because the range has one step more below
/// zero, and may clip the largest values. Each is judged by what is left once it is replaced by the
/// best for the numbers q that it makes, sum w q v / sum w q^2. The error is on average within a
/// percent of the least that any scale leaves (with weights, a few). Of more than
/// 32 values, the first ones decide what is tried, and all of them what is taken. Cost: 30
/// roundings of the group in floats, and some in doubles.
class ScaleSearch {
 public:
  ScaleSearch(const Numbers& numbers, const double* values, const double* weights, Index count)
      : numbers_(numbers),
        integers_(numbers.integers()),
        values_(values),
        weights_(weights),
        count_(count) {}

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
    const double reach = numbers_.reach();
    std::array<Candidate, 30> candidates{};
    float most = 0;
    int part = 8;  // sixteenths of the range's half: the upper half of it, and beyond
    for (std::size_t i = 0; i < candidates.size(); i += 2, part += part < 12 ? 2 : 1)
      for (const std::size_t k : {i, i + 1}) {
        const double end = (k == i ? -1.0 : 1.0) * part / 16 * reach;
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
        if (numbers_(end) != 0) descend(extreme / numbers_(end));
    return best_;
  }

 private:
  static constexpr int looked_at = 32;
  using Floats = Eigen::Array<float, looked_at, 1>;

  [[nodiscard]] double weight(Index i) const {
    return weights_ == nullptr ? 1.0 : unit_ * weights_[i];
  }

  /// What the largest value is taken to; the sum of w q^2 of the numbers, and by how much these
  /// and their best scale lower the sum of squares: (sum w q v)^2 / sum w q^2.
  struct Candidate {
    double end;
    float square;
    float gain;
  };
  [[nodiscard]] Candidate candidate(double end, const Floats& values, const Floats& weighted,
                                    const Floats& weights) const {
    using Lanes = Eigen::Array<float, 8, 1>;
    if (numbers_.are_fitted()) return fitted_candidate(end, values, weighted, weights);
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

  /// The same for levels: one step up for each middle between two of them that a value is above.
  [[nodiscard]] Candidate fitted_candidate(double end, const Floats& values, const Floats& weighted,
                                           const Floats& weights) const {
    Floats q = Floats::Constant(static_cast<float>(numbers_(integers_.least)));
    for (int next = integers_.least + 1; next <= integers_.most; ++next) {
      const double middle = (numbers_(next - 1) + numbers_(next)) / 2;
      const auto step = static_cast<float>(numbers_(next) - numbers_(next - 1));
      q += (values * static_cast<float>(end) > static_cast<float>(middle)).cast<float>() * step;
    }
    const float length = (q * q * weights).sum();
    const float product = (q * weighted).sum();
    return {end, length, length > 0 ? product * product / length : 0.0F};
  }

  /// Takes a scale, rounded to f16, if it is better; then the best for the numbers that it makes.
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

  /// What the numbers that a scale makes leave of the values, and the scale that is best for them.
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
      const double q = number(values_[i] * inverse);
      const double e = values_[i] - scale * q;
      error += weight(i) * e * e;
      along += weight(i) * q * values_[i];
      square += weight(i) * q * q;
    }
    return {error, square > 0 ? along / square : scale};
  }
  /// The nearest number.
  [[nodiscard]] double number(double value) const {
    if (numbers_.are_fitted()) return numbers_.rounded(value);
    const double at = value - integers_.least + 0.5;
    const double most = integers_.most - integers_.least;
    return integers_.least + static_cast<int>((std::min)((std::max)(0.0, at), most));
  }

  const Numbers& numbers_;
  IntegerRange integers_;
  const double* values_;
  const double* weights_;
  Index count_;
  double unit_ = 1;  // the heaviest weight times this is 1
  double best_ = std::numeric_limits<double>::infinity();
  double error_ = (std::numeric_limits<double>::max)();
};

/// The scale for a group of values in a storage that has one, with these numbers; in int8, weights
/// change nothing.
[[nodiscard]] inline GroupScale group_scale(Storage storage, const Numbers& numbers,
                                            const double* values, Index count,
                                            const double* weights = nullptr) {
  if (storage == Storage::int8) return int8_scale(values, count);
  return {ScaleSearch(numbers, values, weights, count).best(), numbers};
}
[[nodiscard]] inline GroupScale group_scale(Storage storage, const double* values, Index count,
                                            const double* weights = nullptr) {
  return group_scale(storage, Numbers(storage), values, count, weights);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
