// SPDX-License-Identifier: MIT
// Compiled with -ffast-math: NaN and infinity are found although the compiler assumes there are
// none.
#include "pleat/core/error.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/catch.hpp"
#include "support/finiteness.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
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

TEMPLATE_TEST_CASE("values out of range of a storage are found under -ffast-math", "[core]", float,
                   double) {
  for (const Storage storage :
       {Storage::bf16, Storage::f16, Storage::int8, Storage::int4, Storage::int3, Storage::int2})
    for (const auto& [value, finite] : all_exponents<TestType>()) {
      Matrix<TestType> W = Matrix<TestType>::Constant(2, 70, TestType(1));
      W(1, 67) = value;
      const double largest = double(std::numeric_limits<TestType>::max());
      bool refused = !finite && detail::integer_bits(storage) > 0;
      std::string message;
      try {
        const TestType stored = Dense<TestType>(W, storage).to_dense()(1, 67);
        CHECK(is_finite(stored) == finite);
      } catch (const std::invalid_argument& error) {
        message = error.what();
        // All are scaled as far as needed, but the last may be rounded to what is no number.
        if (finite && std::abs(double(value)) > 0.999 * largest) refused = true;
      }
      CAPTURE(to_string(storage), value);
      CHECK((message.find("row 1, column 67") != std::string::npos) == refused);
      CHECK(message.empty() == !refused);
    }
}

}  // namespace pleat::test
