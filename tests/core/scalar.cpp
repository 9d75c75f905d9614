// SPDX-License-Identifier: MIT
// Finiteness, judged by bits.
#include "pleat/core/scalar.hpp"

#include "support/catch.hpp"
#include "support/finiteness.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace pleat::test {
namespace {

template <class Narrow>
std::uint16_t bits_of(Narrow value) {
  return Eigen::numext::bit_cast<std::uint16_t>(value);
}

/// The positive finite numbers of 16 bits, from 0 on, and what would follow the largest.
template <class Narrow>
std::vector<double> all_positive() {
  std::vector<double> values;
  for (std::uint16_t bits = 0;; ++bits) {
    const auto value = static_cast<float>(Eigen::numext::bit_cast<Narrow>(bits));
    if (!is_finite(value)) break;
    values.push_back(double{value});
  }
  values.push_back(2 * values.back() - values[values.size() - 2]);
  return values;
}

/// Bits of the nearest, by search.
std::uint16_t searched(const std::vector<double>& values, double magnitude) {
  const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
  if (above == values.end()) return static_cast<std::uint16_t>(values.size() - 1);
  const auto i = static_cast<std::size_t>(above - values.begin());
  if (i == 0 || magnitude == *above) return static_cast<std::uint16_t>(i);
  // Exact: the middle of two neighbours has one bit more than they have.
  const double middle = values[i - 1] + (values[i] - values[i - 1]) / 2;
  const bool up = magnitude == middle ? i % 2 == 0 : magnitude > middle;
  return static_cast<std::uint16_t>(up ? i : i - 1);
}

}  // namespace

TEMPLATE_TEST_CASE("is_finite agrees with the exponent and with the standard library", "[core]",
                   float, double) {
  for (const auto& [value, finite] : all_exponents<TestType>()) {
    CAPTURE(value);
    CHECK(is_finite(value) == finite);
    CHECK(is_finite(value) == std::isfinite(value));
  }
  static_assert(is_finite(std::numeric_limits<TestType>::max()));
  static_assert(!is_finite(std::numeric_limits<TestType>::infinity()));
  static_assert(!is_finite(std::numeric_limits<TestType>::quiet_NaN()));
}

TEMPLATE_TEST_CASE("a number goes to the nearest of 16 bits, rounded once", "[core]", Eigen::half,
                   Eigen::bfloat16) {
  using Narrow = TestType;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> values = all_positive<Narrow>();
  int wrong = 0;
  const auto check = [&](double value) {
    const std::uint16_t expected = searched(values, value);
    wrong += bits_of(detail::nearest<Narrow>(value)) != expected;
    wrong += bits_of(detail::nearest<Narrow>(-value)) != (expected | 0x8000);
    const auto single = static_cast<float>(value);
    const std::uint16_t of_single = searched(values, double{single});
    wrong += bits_of(detail::nearest<Narrow>(single)) != of_single;
    wrong += bits_of(static_cast<Narrow>(single)) != of_single;  // as Eigen rounds a float
  };
  for (std::size_t i = 0; i + 1 < values.size(); ++i) {
    const double middle = values[i] + (values[i + 1] - values[i]) / 2;
    const double near = 0x1p-40 * (values[i + 1] - values[i]);
    for (const double value : {values[i], values[i] + near, middle - near, middle, middle + near})
      check(value);
    check(std::nextafter(middle, 0.0));
    check(std::nextafter(middle, infinity));
  }
  Random random(15);
  for (int i = 0; i < 10'000; ++i)
    check(std::ldexp(random.uniform(1, 2), static_cast<int>(random.integer(-140, 127))));
  CHECK(wrong == 0);
  for (const double tiny : {0.0, std::numeric_limits<double>::denorm_min(), 0x1p-1000, 0x1p-200}) {
    CHECK(bits_of(detail::nearest<Narrow>(tiny)) == 0);
    CHECK(bits_of(detail::nearest<Narrow>(-tiny)) == 0x8000);
  }
  for (const double large : {infinity, std::numeric_limits<double>::max(), 0x1p128}) {
    CHECK(bits_of(detail::nearest<Narrow>(large)) == values.size() - 1);
    CHECK(bits_of(detail::nearest<Narrow>(-large)) == (0x8000 | (values.size() - 1)));
  }
  CHECK(!is_finite(static_cast<float>(detail::nearest<Narrow>(std::nan("")))));
  CHECK(std::isnan(static_cast<float>(detail::nearest<Narrow>(std::nanf("")))));
  CHECK(std::isnan(static_cast<float>(detail::nearest<Narrow>(-std::nan("1")))));
}

}  // namespace pleat::test
