// SPDX-License-Identifier: MIT
// Random numbers that are the same for a seed on every standard library.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cmath>
#include <cstdint>
#include <numbers>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// SplitMix64 (Steele, Lea, Flood 2014): 64 good bits a step from a counter. The distributions of
/// the standard library are not the same everywhere; these are.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  [[nodiscard]] std::uint64_t bits() noexcept {
    std::uint64_t z = (state_ += 0x9e37'79b9'7f4a'7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58'476d'1ce4'e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d0'49bb'1331'11ebU;
    return z ^ (z >> 31U);
  }

  /// Uniform in (0, 1).
  [[nodiscard]] double uniform() noexcept {
    return (static_cast<double>(bits() >> 11U) + 0.5) * 0x1p-53;
  }

  /// Independent standard normal entries, by Box and Muller.
  [[nodiscard]] Matrix<double> normal(Index rows, Index cols) {
    Matrix<double> values(rows, cols);
    double* to = values.data();
    for (Index i = 0; i < values.size(); i += 2) {
      const double radius = std::sqrt(-2 * std::log(uniform()));
      const double angle = 2 * std::numbers::pi * uniform();
      to[i] = radius * std::cos(angle);
      if (i + 1 < values.size()) to[i + 1] = radius * std::sin(angle);
    }
    return values;
  }

 private:
  std::uint64_t state_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
