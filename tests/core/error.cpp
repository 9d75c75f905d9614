// SPDX-License-Identifier: MIT
// The checks: finiteness by position, and what exceptions carry.
#include "pleat/core/error.hpp"

#include "core/refusal.hpp"
#include "support/catch.hpp"

#include <limits>
#include <string>

namespace pleat::test {
TEMPLATE_TEST_CASE("require_finite names the first offender", "[core]", float, double) {
  using T = TestType;
  for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                      -std::numeric_limits<T>::infinity()})
    for (Index row = 0; row < 3; ++row)
      for (Index col = 0; col < 5; ++col) {
        Matrix<T> W = Matrix<T>::Constant(3, 5, std::numeric_limits<T>::max());
        CHECK_NOTHROW(detail::require_finite(W, "W"));
        W(row, col) = bad;
        W(2, 4) = bad;  // a later one, which is not the one to name
        const std::string message = refusal([&] { detail::require_finite(W, "the weight"); });
        CHECK(message.find("the weight must be finite") != std::string::npos);
        CHECK(message.find("row " + std::to_string(row) + ", column " + std::to_string(col) +
                           " ") != std::string::npos);
        // Of an expression and of a row-major matrix too.
        CHECK(refusal([&] { detail::require_finite(W * T(1), "the weight"); }) == message);
        const Eigen::Matrix<T, -1, -1, Eigen::RowMajor> rows = W;
        CHECK(refusal([&] { detail::require_finite(rows, "the weight"); }) == message);
      }
  CHECK_NOTHROW(detail::require_finite(Matrix<T>(0, 3), "W"));
}

TEST_CASE("require makes its text only when it throws", "[core]") {
  int made = 0;
  const auto text = [&] {
    ++made;
    return "reason";
  };
  detail::require(true, text);
  CHECK(made == 0);
  CHECK(refusal([&] { detail::require(false, text); }) == "pleat: reason");
  CHECK(made == 1);
}

TEST_CASE("a FormatError carries the file, the problem and the offset", "[core]") {
  const FormatError plain("a.npy", "has no magic");
  CHECK(std::string(plain.what()) == "a.npy: has no magic");
  CHECK(plain.file() == "a.npy");
  CHECK(plain.problem() == "has no magic");
  CHECK(!plain.offset());
  const FormatError located("b.safetensors", "is cut short", 12345678901);
  CHECK(std::string(located.what()) == "b.safetensors: is cut short (at byte 12345678901)");
  CHECK(located.offset() == 12345678901U);
  CHECK(dynamic_cast<const std::runtime_error*>(&located) != nullptr);
}

}  // namespace pleat::test
