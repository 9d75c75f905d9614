// SPDX-License-Identifier: MIT
// Compiled with -ffast-math: NaN and infinity are found although the compiler assumes there are
// none.
#include "pleat/core/error.hpp"
#include "support/catch.hpp"
#include "support/finiteness.hpp"

#include <string>

#ifndef __FAST_MATH__
#error "this test proves nothing unless it is compiled with -ffast-math"
#endif

namespace pleat::test {

TEMPLATE_TEST_CASE("is_finite holds under -ffast-math", "[core]", float, double) {
  int wrong = 0;
  for (const auto& [value, finite] : all_exponents<TestType>()) wrong += is_finite(value) != finite;
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("require_finite finds the offender under -ffast-math", "[core]", float, double) {
  for (const auto& [value, finite] : all_exponents<TestType>()) {
    Matrix<TestType> W = Matrix<TestType>::Constant(5, 7, TestType(1));
    W(3, 4) = value;
    std::string message;
    try {
      detail::require_finite(W, "the weight");
    } catch (const std::invalid_argument& error) {
      message = error.what();
    }
    if (finite) {
      CHECK(message == "");
    } else {
      CHECK(message.find("the weight") != std::string::npos);
      CHECK(message.find("row 3, column 4") != std::string::npos);
    }
  }
}

}  // namespace pleat::test
