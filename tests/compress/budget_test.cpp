// SPDX-License-Identifier: MIT
// Budgets: what they allow, and what they refuse.
#include "pleat/compress/budget.hpp"

#include "support/catch.hpp"

#include <limits>

namespace pleat::test {

TEST_CASE("keep allows exactly its share of dense", "[budget]") {
  CHECK(keep(0.5).max_bytes(6, 7, 4) == 84);
  CHECK(keep(1).max_bytes(6, 7, 8) == 336);
  CHECK(keep(0.1).max_bytes(10, 1, 4) == 4);  // 0.1 is no binary fraction
  CHECK(keep(0.3).max_bytes(10, 10, 4) == 120);
  CHECK(keep(1e-9).max_bytes(10, 10, 4) == 0);
  CHECK(keep(2.5).max_bytes(2, 2, 4) == 40);
  CHECK_FALSE(keep(0.5).bounds_error());
}

TEST_CASE("bytes and error", "[budget]") {
  CHECK(bytes(100).max_bytes(6, 7, 4) == 100);
  CHECK(error(0.1).max_bytes(6, 7, 4) == (std::numeric_limits<std::size_t>::max)());
  CHECK(error(0.1).max_error() == 0.1);
  CHECK(error(0).max_error() == 0);
  CHECK(keep(0.5).max_error() == std::numeric_limits<double>::infinity());
  CHECK(error(0.1).bounds_error());
}

TEST_CASE("budgets name themselves in messages", "[budget]") {
  CHECK(keep(0.5).text() == "keep(0.5)");
  CHECK(bytes(100).text() == "bytes(100)");
  CHECK(error(1e-9).text() == "error(1e-09)");
}

TEST_CASE("impossible budgets throw", "[budget]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(keep(0), std::invalid_argument);
  CHECK_THROWS_AS(keep(-1), std::invalid_argument);
  CHECK_THROWS_AS(keep(nan), std::invalid_argument);
  CHECK_THROWS_AS(keep(infinity), std::invalid_argument);
  CHECK_THROWS_AS(bytes(0), std::invalid_argument);
  CHECK_THROWS_AS(bytes(-5), std::invalid_argument);
  CHECK_THROWS_AS(error(-0.1), std::invalid_argument);
  CHECK_THROWS_AS(error(nan), std::invalid_argument);
}

}  // namespace pleat::test
