// SPDX-License-Identifier: MIT
// Bit patterns of every class of floating-point number, and whether each is finite.
#pragma once

#include "pleat/core/scalar.hpp"

#include <bit>
#include <cstdint>
#include <vector>

namespace pleat::test {

template <class T>
struct BitPattern {
  T value;
  bool finite;
};

/// All exponents, with fractions at both ends and between, of both signs. The values are made from
/// bits: under `-ffast-math` no arithmetic can be trusted to make a NaN.
template <Real T>
std::vector<BitPattern<T>> all_exponents() {
  using Bits = std::conditional_t<std::same_as<T, float>, std::uint32_t, std::uint64_t>;
  constexpr int fraction = std::same_as<T, float> ? 23 : 52;
  constexpr Bits exponents = std::same_as<T, float> ? 256 : 2048;
  constexpr Bits one = 1;
  constexpr Bits sign = one << (8 * sizeof(T) - 1);
  std::vector<BitPattern<T>> result;
  for (Bits exponent = 0; exponent < exponents; ++exponent)
    for (const Bits rest : {Bits{0}, one, one << (fraction / 2), one << (fraction - 1),
                            (one << (fraction - 1)) + 1, (one << fraction) - 1}) {
      const Bits bits = (exponent << fraction) | rest;
      for (const Bits signed_bits : {bits, bits | sign})
        result.push_back({std::bit_cast<T>(signed_bits), exponent != exponents - 1});
    }
  return result;
}

}  // namespace pleat::test
