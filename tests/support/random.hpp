// SPDX-License-Identifier: MIT
// Seeded random numbers: the same on every machine, and the seed is part of every failure message.
#pragma once

#include "pleat/core/scalar.hpp"
#include "support/catch.hpp"

#include <cstdint>
#include <string>

namespace pleat::test {

/// SplitMix64 (Steele, Lea, Flood 2014). The standard library's generators are portable too, but
/// its distributions are not. To be constructed on the thread that runs the test, while it runs.
class Random {
 public:
  explicit Random(std::uint64_t seed)
      : state_(seed),
        message_(Catch::MessageBuilder("Random", Catch::SourceLineInfo(__FILE__, __LINE__),
                                       Catch::ResultWas::Info)
                 << "random numbers of seed " << std::to_string(seed)) {}

  [[nodiscard]] std::uint64_t next() noexcept {
    state_ += 0x9e37'79b9'7f4a'7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9U;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11ebU;
    return z ^ (z >> 31);
  }

  /// Uniform in [low, high).
  [[nodiscard]] double uniform(double low, double high) noexcept {
    return low + (high - low) * static_cast<double>(next() >> 11) * 0x1p-53;
  }

  /// Uniform among low, ..., high.
  [[nodiscard]] Index integer(Index low, Index high) noexcept {
    return low + static_cast<Index>(next() % static_cast<std::uint64_t>(high - low + 1));
  }

  /// Entries uniform in [-1, 1).
  template <Real T>
  [[nodiscard]] Matrix<T> matrix(Index rows, Index cols) {
    Matrix<T> result(rows, cols);
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; ++i) result(i, j) = static_cast<T>(uniform(-1, 1));
    return result;
  }

  /// Entries uniform among -limit, ..., limit: their sums of products are exact while they are
  /// small.
  template <Real T>
  [[nodiscard]] Matrix<T> integers(Index rows, Index cols, Index limit) {
    Matrix<T> result(rows, cols);
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; ++i) result(i, j) = static_cast<T>(integer(-limit, limit));
    return result;
  }

 private:
  std::uint64_t state_;
  Catch::ScopedMessage message_;
};

}  // namespace pleat::test
