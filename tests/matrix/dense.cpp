// SPDX-License-Identifier: MIT
// The dense brick: from whatever Eigen offers, and back bit for bit.
#include "pleat/matrix/dense.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"
#include "support/tolerance.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace pleat::test {

TEMPLATE_TEST_CASE("to_dense is bit for bit what was given", "[matrix]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  for (const auto& list : {std::vector<Scenario>(scenarios.begin(), scenarios.end()),
                           std::vector<Scenario>(empty_scenarios.begin(), empty_scenarios.end())})
    for (const Scenario& scenario : list) {
      INFO(scenario.name);
      const Matrix<T> W = Source<T>(scenario.pattern, 71).matrix(scenario.rows, scenario.cols);
      const Dense<T> op(W);
      CHECK(difference(op.to_dense(), W) == "");
      CHECK(op.rows() == W.rows());
      CHECK(op.cols() == W.cols());
      CHECK(op.bytes() == static_cast<std::size_t>(W.size()) * sizeof(T));
      CHECK(op.flops() == 2.0 * static_cast<double>(W.size()));
      CHECK(difference(Dense<T>::from_parts(op.parts()).to_dense(), W) == "");
    }
}

TEMPLATE_TEST_CASE("every bit of a value is kept", "[matrix]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  using limits = std::numeric_limits<T>;
  Matrix<T> W(3, 3);
  W << T(0), -T(0), limits::denorm_min(), limits::max(), limits::lowest(), limits::min(),
      limits::infinity(), -limits::infinity(), limits::quiet_NaN();
  CHECK(difference(Dense<T>(W).to_dense(), W) == "");
  CHECK(difference(Dense<T>::from_parts(Dense<T>(W).parts()).to_dense(), W) == "");
}

TEMPLATE_TEST_CASE("a dense brick is made of any Eigen expression", "[matrix]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(72);
  const Matrix<T> W = random.matrix<T>(21, 18);
  const auto same = [](const Dense<T>& op, const Matrix<T>& expected) {
    CHECK(difference(op.to_dense(), expected) == "");
  };
  same(Dense<T>(W.transpose()), W.transpose());
  same(Dense<T>(W.block(3, 2, 17, 11)), W.block(3, 2, 17, 11));
  same(Dense<T>(W.row(4)), W.row(4));
  same(Dense<T>(W.col(4)), W.col(4));
  same(Dense<T>(W.reverse()), W.reverse());
  same(Dense<T>(W + W), Matrix<T>(W + W));
  same(Dense<T>(T(2) * W), Matrix<T>(T(2) * W));
  same(Dense<T>(Matrix<T>::Identity(5, 7)), Matrix<T>::Identity(5, 7));
  const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = W;
  same(Dense<T>(rows), W);
  same(Dense<T>(rows.block(1, 1, 18, 9)), W.block(1, 1, 18, 9));
  const Eigen::Map<const Matrix<T>> map(W.data(), 18, 21);
  same(Dense<T>(map), Matrix<T>(map));
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const Eigen::Map<const Matrix<T>, 0, Strides> strided(W.data(), 5, 6, Strides(42, 2));
  same(Dense<T>(strided), Matrix<T>(strided));
  const Eigen::Matrix<T, 4, 3> fixed = W.template topLeftCorner<4, 3>();
  same(Dense<T>(fixed), fixed);
  const Dense deduced(W);
  static_assert(std::same_as<decltype(deduced), const Dense<T>>);
  // The weight may change or go afterwards: the brick has its own.
  Matrix<T> changing = W;
  const Dense<T> kept(changing);
  changing.setZero();
  same(kept, W);
}

TEST_CASE("a dense brick is empty by default, and never made by accident", "[matrix]") {
  static_assert(LinearOperator<Dense<float>>);
  static_assert(LinearOperator<Dense<double>>);
  static_assert(!std::is_convertible_v<Matrix<float>, Dense<float>>, "the constructor is explicit");
  const Dense<float> empty;
  CHECK(empty.rows() == 0);
  CHECK(empty.cols() == 0);
  CHECK(empty.to_dense().size() == 0);
}

TEST_CASE("the parts of a dense brick are one tensor, which is checked", "[matrix]") {
  const Dense<float> op(Matrix<float>::Constant(3, 2, 1.5F));
  Parts parts = op.parts();
  CHECK(parts.structure == "Dense");
  CHECK(parts.children.empty());
  REQUIRE(parts.tensors.size() == 1);
  CHECK(parts.tensor("weight").shape == std::vector<std::int64_t>{3, 2});
  CHECK(Dense<double>::from_parts(parts).to_dense() == Matrix<double>::Constant(3, 2, 1.5));
  parts.tensors.at("weight").shape = {3, 3};
  CHECK_THROWS_AS(Dense<float>::from_parts(parts), std::invalid_argument);
  parts.tensors.clear();
  CHECK_THROWS_AS(Dense<float>::from_parts(parts), std::invalid_argument);
}

TEMPLATE_TEST_CASE("infinity times a weight is infinity of its sign, and NaN times 0", "[matrix]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(73);
  Matrix<T> W = random.matrix<T>(37, 11);
  W.col(6).head(20).setZero();
  for (const T infinity :
       {std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity()}) {
    Matrix<T> X = random.matrix<T>(11, 16);
    X(6, 9) = infinity;
    Matrix<T> Y(37, 16);
    Dense<T>(W).apply(X, Y);
    for (Index j = 0; j < 16; ++j)
      for (Index i = 0; i < 37; ++i) {
        CAPTURE(i, j, Y(i, j));
        if (j != 9) CHECK(std::isfinite(Y(i, j)));
        else if (W(i, 6) == 0) CHECK(std::isnan(Y(i, j)));
        else CHECK(Y(i, j) == W(i, 6) * infinity);
      }
  }
}

}  // namespace pleat::test
