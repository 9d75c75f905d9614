// SPDX-License-Identifier: MIT
// The low-rank structure: its factors, its rank and what it stores.
#include "pleat/factor/low_rank.hpp"

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <array>
#include <cstddef>
#include <string>

namespace pleat::test {

TEMPLATE_TEST_CASE("a low-rank weight is its factors", "[factor]", float, double) {
  using T = TestType;
  static_assert(LinearOperator<LowRank<T>>);
  Random random(81);
  for (const auto& [m, r, n] : {std::array<Index, 3>{1, 1, 1}, {9, 3, 7}, {3, 8, 5}, {40, 1, 33}}) {
    CAPTURE(m, r, n);
    const Matrix<T> U = random.matrix<T>(m, r);
    const Matrix<T> V = random.matrix<T>(r, n);
    const LowRank<T> op{Dense<T>(U), Dense<T>(V)};
    CHECK(op.rows() == m);
    CHECK(op.cols() == n);
    CHECK(op.rank() == r);
    CHECK(difference(op.U().to_dense(), U) == "");
    CHECK(difference(op.V().to_dense(), V) == "");
    CHECK(op.bytes() == static_cast<std::size_t>(r * (m + n)) * sizeof(T));
    CHECK(op.flops() == 2.0 * static_cast<double>(r * (m + n)));
    CHECK(op.structure() == "LowRank");
    CHECK(op.parameters() == "rank " + std::to_string(r));
    const Reference<T> exact(Oracle<T>(U) * Oracle<T>(V), Matrix<T>::Identity(n, n));
    CHECK(beyond(op.to_dense(), exact.exact, exact.bound) == "");
  }
}

TEST_CASE("describe tells the rank", "[factor]") {
  const LowRank<float> op(Dense<float>(Matrix<float>::Ones(10, 2)),
                          Dense<float>(Matrix<float>::Ones(2, 30)));
  CHECK(describe(op) == "LowRank 10 x 30, rank 2, f32, 320 bytes, 26.7 % of dense");
}

TEST_CASE("factors that do not meet throw with both shapes", "[factor]") {
  std::string message;
  try {
    const LowRank<float> op(Dense<float>(Matrix<float>::Ones(10, 2)),
                            Dense<float>(Matrix<float>::Ones(3, 30)));
  } catch (const std::invalid_argument& error) {
    message = error.what();
  }
  CHECK(message.find("10 x 2") != std::string::npos);
  CHECK(message.find("3 x 30") != std::string::npos);
}

TEST_CASE("rank 0 is the zero operator", "[factor]") {
  const LowRank<double> op(Dense<double>(Matrix<double>(4, 0)),
                           Dense<double>(Matrix<double>(0, 6)));
  CHECK(op.rank() == 0);
  CHECK(op.bytes() == 0);
  CHECK(op.to_dense() == Matrix<double>::Zero(4, 6));
}

TEST_CASE("the parts of a low-rank weight are U and V, which are checked", "[factor]") {
  Random random(82);
  const Matrix<float> U = random.matrix<float>(5, 2);
  const Matrix<float> V = random.matrix<float>(2, 7);
  const LowRank<float> op{Dense<float>(U), Dense<float>(V)};
  Parts parts = op.parts();
  CHECK(parts.structure == "LowRank");
  CHECK(parts.children.size() == 2);
  const LowRank<float> again = LowRank<float>::from_parts(parts);
  CHECK(difference(again.U().to_dense(), U) == "");
  CHECK(difference(again.V().to_dense(), V) == "");
  parts.children["V"] = parts.child("U");  // 5 x 2 after 5 x 2
  CHECK_THROWS_AS(LowRank<float>::from_parts(parts), std::invalid_argument);
  parts.children.erase("V");
  CHECK_THROWS_AS(LowRank<float>::from_parts(parts), std::invalid_argument);
}

}  // namespace pleat::test
