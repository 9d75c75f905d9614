// SPDX-License-Identifier: MIT
// Finiteness, judged by bits.
#include "pleat/core/scalar.hpp"

#include "support/catch.hpp"
#include "support/finiteness.hpp"

#include <cmath>
#include <limits>

namespace pleat::test {

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

}  // namespace pleat::test
