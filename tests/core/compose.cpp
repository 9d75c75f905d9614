// SPDX-License-Identifier: MIT
// Sums and products: what they refuse, what they hold, and that tiles over the batch do not show.
#include "pleat/core/compose.hpp"

#include "core/refusal.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <limits>
#include <string>
#include <utility>

namespace pleat::test {
namespace {

Dense<float> zeros(Index rows, Index cols) { return Dense<float>(Matrix<float>::Zero(rows, cols)); }

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a sum of different shapes throws with both", "[core]") {
  for (const auto& [rows, cols] : {std::pair{3, 6}, {4, 5}, {5, 3}}) {
    const std::string message =
        refusal([&, r = rows, c = cols] { return Sum(zeros(3, 5), zeros(r, c)); });
    CHECK(holds(message, "3 x 5"));
    CHECK(holds(message, std::to_string(rows) + " x " + std::to_string(cols)));
  }
  const std::string third = refusal([] { return Sum(zeros(3, 5), zeros(3, 5), zeros(7, 5)); });
  CHECK(holds(third, "3 x 5"));
  CHECK(holds(third, "7 x 5"));
  CHECK(refusal([] { return Sum(zeros(3, 5), zeros(3, 5), zeros(3, 5)); }) == "");
}

TEST_CASE("a product whose inner sizes differ throws with both shapes", "[core]") {
  const std::string first = refusal([] { return Product(zeros(3, 5), zeros(4, 6)); });
  CHECK(holds(first, "3 x 5"));
  CHECK(holds(first, "4 x 6"));
  const std::string second = refusal([] { return Product(zeros(3, 5), zeros(5, 6), zeros(5, 2)); });
  CHECK(holds(second, "5 x 6"));
  CHECK(holds(second, "5 x 2"));
  CHECK(!holds(second, "3 x 5"));
  CHECK(refusal([] { return Product(zeros(3, 5), zeros(5, 6), zeros(6, 2)); }) == "");
}

TEST_CASE("operands keep their place", "[core]") {
  Random random(41);
  const Matrix<float> A = random.matrix<float>(4, 6);
  const Matrix<float> B = random.matrix<float>(6, 3);
  const Product product{Dense<float>(A), Dense<float>(B)};
  static_assert(decltype(product)::size == 2);
  CHECK(difference(product.operand<0>().to_dense(), A) == "");
  CHECK(difference(product.operand<1>().to_dense(), B) == "");
  CHECK(product.rows() == 4);
  CHECK(product.cols() == 3);
  CHECK(product.bytes() == (24 + 18) * 4);
  CHECK(product.flops() == 2 * (24 + 18));
  CHECK(describe(product) ==
        "Product 4 x 3, [Dense 4 x 6, f32, 96 bytes, 100.0 % of dense; Dense 6 x 3, f32, 72 bytes, "
        "100.0 % of dense], f32, 168 bytes, 350.0 % of dense");
}

TEST_CASE("the parts of a sum are its operands in order", "[core]") {
  Random random(42);
  const Matrix<float> A = random.matrix<float>(4, 6);
  const Sum sum{Dense<float>(A), LowRank<float>(zeros(4, 2), zeros(2, 6))};
  const Parts parts = sum.parts();
  CHECK(parts.structure == "Sum");
  REQUIRE(parts.children.size() == 2);
  CHECK(parts.child("0").structure == "Dense");
  CHECK(parts.child("1").structure == "LowRank");
  CHECK(difference(Dense<float>::from_parts(parts.child("0")).to_dense(), A) == "");
}

TEMPLATE_TEST_CASE("tiles over the batch do not show", "[core]", float, double) {
  using T = TestType;
  Random random(43);
  // The intermediate of 3000 outputs is beyond the tile's memory, and the batch beyond one tile.
  const Matrix<T> A = random.integers<T>(5, 3000, 1);
  const Matrix<T> B = random.integers<T>(3000, 4, 1);
  const Matrix<T> X = random.integers<T>(4, 331, 2);
  const Product product{Dense<T>(A), Dense<T>(B)};
  const Oracle<T> oracle = Oracle<T>(A) * Oracle<T>(B);
  const WideMatrix<T> exact = multiply<WideMatrix<T>>(oracle.exact, X.template cast<Wide<T>>());
  const WideMatrix<T> nothing = WideMatrix<T>::Zero(5, 331);
  Matrix<T> Y = Matrix<T>::Constant(5, 331, std::numeric_limits<T>::quiet_NaN());
  product.apply(X, Y);
  CHECK(beyond(Y, exact, nothing) == "");
  product.apply_add(X, Y);
  CHECK(beyond(Y, WideMatrix<T>(2 * exact), nothing) == "");

  const Matrix<T> G = random.integers<T>(5, 331, 2);
  Matrix<T> back = Matrix<T>::Constant(4, 331, std::numeric_limits<T>::quiet_NaN());
  product.apply_transpose(G, back);
  const WideMatrix<T> exact_back =
      multiply<WideMatrix<T>>(oracle.exact.transpose(), G.template cast<Wide<T>>());
  CHECK(beyond(back, exact_back, WideMatrix<T>(WideMatrix<T>::Zero(4, 331))) == "");
}

TEST_CASE("a product through nothing is zero", "[core]") {
  const Product product{zeros(5, 0), zeros(0, 4)};
  Matrix<float> Y = Matrix<float>::Constant(5, 70, std::numeric_limits<float>::quiet_NaN());
  product.apply(Matrix<float>(Matrix<float>::Constant(4, 70, 2)), Y);
  CHECK((Y.array() == 0).all());
  CHECK(product.bytes() == 0);
}

}  // namespace pleat::test
