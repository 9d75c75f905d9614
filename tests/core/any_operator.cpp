// SPDX-License-Identifier: MIT
// An operator with its type forgotten: what it still knows, and what it is when it holds nothing.
#include "pleat/core/any_operator.hpp"

#include "pleat/core/compose.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/catch.hpp"
#include "support/operators.hpp"
#include "support/random.hpp"

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace pleat::test {

static_assert(LinearOperator<AnyOperator<float>>);
static_assert(LinearOperator<AnyOperator<double>>);
static_assert(std::is_convertible_v<Dense<float>, AnyOperator<float>>);
static_assert(!std::is_constructible_v<AnyOperator<float>, Dense<double>>);
static_assert(!std::is_constructible_v<AnyOperator<float>, Matrix<float>>);

TEST_CASE("get_if gives what is held, and nothing else", "[core]") {
  Random random(51);
  const Matrix<float> W = random.matrix<float>(5, 7);
  const AnyOperator<float> any = Dense<float>(W);
  REQUIRE(any.get_if<Dense<float>>() != nullptr);
  CHECK(difference(any.get_if<Dense<float>>()->to_dense(), W) == "");
  CHECK(any.get_if<LowRank<float>>() == nullptr);
  CHECK(any.get_if<AnyOperator<float>>() == nullptr);
  CHECK(any.get_if<Dense<double>>() == nullptr);
  CHECK(any.structure() == "Dense");
}

TEST_CASE("an AnyOperator is never wrapped in another", "[core]") {
  Random random(52);
  const AnyOperator<float> once = Dense<float>(random.matrix<float>(5, 7));
  const AnyOperator<float> twice(once);
  CHECK(twice.get_if<Dense<float>>() == once.get_if<Dense<float>>());
  const AnyOperator deduced = LowRank<double>(Dense<double>(random.matrix<double>(3, 1)),
                                              Dense<double>(random.matrix<double>(1, 4)));
  static_assert(std::same_as<decltype(deduced), const AnyOperator<double>>);
  CHECK(deduced.structure() == "LowRank");
  CHECK(deduced.parameters() == "rank 1");
}

TEST_CASE("a default-constructed AnyOperator is the empty 0 x 0 operator", "[core]") {
  const AnyOperator<float> empty;
  CHECK(empty.rows() == 0);
  CHECK(empty.cols() == 0);
  CHECK(empty.bytes() == 0);
  CHECK(empty.flops() == 0);
  CHECK(empty.to_dense().size() == 0);
  CHECK(empty.structure() == "empty");
  CHECK(empty.parameters().empty());
  CHECK(describe(empty) == "empty 0 x 0, f32, 0 bytes");
  CHECK(empty.get_if<Dense<float>>() == nullptr);
  CHECK_THROWS_AS(empty.parts(), std::invalid_argument);
  Matrix<float> nothing(0, 3);
  CHECK_NOTHROW(empty.apply(Matrix<float>(0, 3), nothing));
  CHECK_NOTHROW(empty.apply_transpose(Matrix<float>(0, 3), nothing));
  Matrix<float> something = Matrix<float>::Ones(2, 3);
  CHECK_THROWS_AS(empty.apply(something, nothing), std::invalid_argument);
}

TEST_CASE("copies share, assignment replaces, and what was moved from stays", "[core]") {
  Random random(53);
  AnyOperator<float> a = Dense<float>(random.matrix<float>(5, 7));
  AnyOperator<float> b = a;
  CHECK(a.get_if<Dense<float>>() == b.get_if<Dense<float>>());
  const AnyOperator<float> c = std::move(a);
  CHECK(a.get_if<Dense<float>>() == c.get_if<Dense<float>>());  // NOLINT(bugprone-use-after-move)
  b = Dense<float>(random.matrix<float>(2, 3));
  CHECK(b.rows() == 2);
  CHECK(a.rows() == 5);
  b = std::move(a);
  CHECK(b.rows() == 5);
  CHECK(a.rows() == 5);  // NOLINT(bugprone-use-after-move)
  AnyOperator<float>& alias = b;
  b = alias;
  CHECK(b.cols() == 7);
}

TEST_CASE("a type of the user's own is custom, and has no parts", "[core]") {
  const AnyOperator<double> any = ScaledCopies<double>(Vector<double>::Ones(6), 4);
  CHECK(any.structure() == "custom");
  CHECK(any.get_if<ScaledCopies<double>>() != nullptr);
  CHECK(describe(any) == "custom 6 x 4, f64, 48 bytes, 25.0 % of dense");
  std::string message;
  try {
    (void)any.parts();
  } catch (const std::invalid_argument& error) {
    message = error.what();
  }
  CHECK(message.find("custom") != std::string::npos);
}

namespace {

/// Members that are named as the optional ones are, one of them of a type that is no text.
struct Named : ScaledCopies<double> {
  using ScaledCopies<double>::ScaledCopies;
  [[nodiscard]] std::string_view structure() const { return "mine"; }
  [[nodiscard]] std::vector<double> parameters() const { return {1, 2}; }
};

}  // namespace

TEST_CASE("a name may be any text, and what is no text is no parameters", "[core]") {
  const Named op(Vector<double>::Ones(6), 4);
  CHECK(describe(op) == "mine 6 x 4, f64, 48 bytes, 25.0 % of dense");
  const AnyOperator<double> any = op;
  CHECK(any.structure() == "mine");
  CHECK(any.parameters().empty());
}

TEST_CASE("a model's layers fit a vector", "[core]") {
  Random random(54);
  const Matrix<float> W = random.integers<float>(6, 4, 3);
  const Matrix<float> U = random.integers<float>(3, 2, 3);
  const Matrix<float> V = random.integers<float>(2, 6, 3);
  const std::vector<AnyOperator<float>> layers{Dense<float>(W),
                                               LowRank<float>(Dense<float>(U), Dense<float>(V))};
  Matrix<float> x = random.integers<float>(4, 9, 3);
  const Matrix<float> expected = U * (V * (W * x));
  for (const AnyOperator<float>& layer : layers) {
    Matrix<float> y(layer.rows(), x.cols());
    layer.apply(x, y);
    x = y;
  }
  CHECK(x == expected);
}

}  // namespace pleat::test
