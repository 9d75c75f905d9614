// SPDX-License-Identifier: MIT
// Named shapes and contents of matrices: the ones that tests of matrices fail on.
#pragma once

#include "support/random.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

namespace pleat::test {

/// Whether sizes are cut to what is bearable in an emulator, most of all where the oracle computes
/// in a type that the CPU does not have: `long double` is software on 64-bit ARM.
#ifdef PLEAT_TEST_REDUCED
inline constexpr bool reduced = true;
#else
inline constexpr bool reduced = false;
#endif

enum class Pattern : std::uint8_t {
  uniform,       // in [-1, 1)
  integers,      // -2 ... 2: every sum of the suite is exact, and so compared without tolerance
  zeros,         // nothing but 0
  identity,      // ones on the diagonal of whatever shape
  stored_zeros,  // one value in two is 0 or -0, and a row and a column are empty
  rank_one,      // an outer product
  huge,          // about 1e30
  tiny,          // about 1e-30
  denormal,      // below the smallest normal number
  magnitudes,    // from 2^-20 to 2^20
};

struct Scenario {
  const char* name;
  Index rows;
  Index cols;
  Pattern pattern;
  bool resembles_others = false;  // and is left out where sizes are cut, too
};

inline constexpr std::array scenarios{
    Scenario{"1 x 1", 1, 1, Pattern::uniform},
    Scenario{"one row", 1, 37, Pattern::uniform},
    Scenario{"one column", 37, 1, Pattern::uniform},
    Scenario{"2 x 3", 2, 3, Pattern::uniform, true},
    Scenario{"whole panels", 48, 32, Pattern::uniform, true},
    Scenario{"one past a panel", 17, 33, Pattern::uniform},
    Scenario{"primes", 31, 29, Pattern::uniform},
    Scenario{"tall", 131, 5, Pattern::uniform},
    Scenario{"wide", 5, 131, Pattern::uniform},
    Scenario{"long sums", 19, reduced ? 197 : 401, Pattern::uniform},
    Scenario{"integers", 33, 40, Pattern::integers},
    Scenario{"wide integers", 7, 50, Pattern::integers, true},
    Scenario{"zero matrix", 20, 24, Pattern::zeros},
    Scenario{"identity", 24, 24, Pattern::identity, true},
    Scenario{"rectangular identity", 20, 31, Pattern::identity, true},
    Scenario{"stored zeros", 21, 34, Pattern::stored_zeros},
    Scenario{"rank one", 23, 19, Pattern::rank_one, true},
    Scenario{"huge values", 19, 22, Pattern::huge, true},
    Scenario{"tiny values", 19, 22, Pattern::tiny},
    Scenario{"denormals", 18, 21, Pattern::denormal},
    Scenario{"magnitudes far apart", 22, 27, Pattern::magnitudes},
};

inline constexpr std::array empty_scenarios{
    Scenario{"0 x 0", 0, 0, Pattern::uniform},
    Scenario{"no rows", 0, 5, Pattern::uniform},
    Scenario{"no columns", 5, 0, Pattern::uniform},
};

/// Makes the matrices of one operator. Patterns of scale go into the first only: two factors of
/// 1e30 would overflow.
template <Real T>
class Source {
 public:
  Source(Pattern pattern, std::uint64_t seed) : pattern_(pattern), random_(seed) {}

  [[nodiscard]] Matrix<T> matrix(Index rows, Index cols) {
    const Pattern pattern = pattern_;
    if (pattern == Pattern::huge || pattern == Pattern::tiny || pattern == Pattern::denormal)
      pattern_ = Pattern::uniform;
    switch (pattern) {
      case Pattern::uniform: break;
      case Pattern::integers: return random_.template integers<T>(rows, cols, 2);
      case Pattern::zeros: return Matrix<T>::Zero(rows, cols);
      case Pattern::identity: return Matrix<T>::Identity(rows, cols);
      case Pattern::stored_zeros: return with_zeros(rows, cols);
      case Pattern::rank_one:
        return random_.template matrix<T>(rows, 1) * random_.template matrix<T>(1, cols);
      case Pattern::huge: return random_.template matrix<T>(rows, cols) * static_cast<T>(1e30);
      case Pattern::tiny: return random_.template matrix<T>(rows, cols) * static_cast<T>(1e-30);
      case Pattern::denormal:
        return random_.template matrix<T>(rows, cols) * std::numeric_limits<T>::min();
      case Pattern::magnitudes: return powers(rows, cols);
    }
    return random_.template matrix<T>(rows, cols);
  }

 private:
  Matrix<T> with_zeros(Index rows, Index cols) {
    Matrix<T> result = random_.template matrix<T>(rows, cols);
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; ++i) {
        const Index kind = random_.integer(0, 3);
        if (kind == 0) result(i, j) = T(0);
        if (kind == 1) result(i, j) = -T(0);
      }
    if (rows > 0) result.row(rows / 2).setZero();
    if (cols > 0) result.col(cols / 2).setZero();
    return result;
  }

  Matrix<T> powers(Index rows, Index cols) {
    Matrix<T> result = random_.template matrix<T>(rows, cols);
    for (Index j = 0; j < cols; ++j)
      for (Index i = 0; i < rows; ++i)
        result(i, j) = std::ldexp(result(i, j), static_cast<int>(random_.integer(-20, 20)));
    return result;
  }

  Pattern pattern_;
  Random random_;
};

}  // namespace pleat::test
