// SPDX-License-Identifier: MIT
// The diagonal brick: its encoding, its refusals, and its products.
#include "pleat/matrix/diagonal.hpp"

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace pleat::test {

TEMPLATE_TEST_CASE("diagonal matrices come back as they were", "[matrix][diagonal]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(71);
  CHECK(Diagonal<T>().rows() == 0);
  for (const Index size : {0, 1, 2, 15, 16, 17, 31, 100}) {
    CAPTURE(size);
    const Vector<T> d = random.matrix<T>(size, 1);
    const Diagonal<T> op(d);
    const Matrix<T> W = d.asDiagonal();
    CHECK(op.rows() == size);
    CHECK(op.cols() == size);
    CHECK(op.bytes() == std::size_t(size) * sizeof(T));
    CHECK(op.flops() == 2.0 * double(size));
    CHECK(op.diagonal() == d);
    CHECK(op.to_dense() == W);
    CHECK(Diagonal<T>(W).to_dense() == W);
    CHECK(Diagonal<T>::from_parts(op.parts()).to_dense() == W);
  }
  const Matrix<T> W = random.matrix<T>(5, 5);
  CHECK(Diagonal<T>(W.col(2)).diagonal() == W.col(2));
  static_assert(std::is_same_v<decltype(Diagonal(Vector<T>())), Diagonal<T>>);
}

TEST_CASE("a matrix that is not diagonal is refused by name", "[matrix][diagonal]") {
  Matrix<float> W = Matrix<float>::Identity(6, 6);
  W(2, 5) = -0.0F;  // a zero all the same
  CHECK_NOTHROW(Diagonal<float>(W));
  W(4, 0) = W(3, 1) = W(3, 4) = 2;
  CHECK_THROWS_WITH(Diagonal<float>(W), Catch::Contains("row 3, column 1"));
  W(3, 0) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(Diagonal<float>(W), Catch::Contains("row 3, column 0"));
  CHECK_THROWS_WITH(Diagonal<float>(Matrix<float>(4, 5)), Catch::Contains("4 x 5"));
  CHECK_THROWS_AS(Diagonal<float>(Matrix<float>(4, 5)), std::invalid_argument);
}

TEST_CASE("parts that are no diagonal are refused", "[matrix][diagonal]") {
  const Parts good = Diagonal<float>(Vector<float>::Ones(6)).parts();
  const auto refused = [](const Parts& parts) {
    CHECK_THROWS_AS(Diagonal<float>::from_parts(parts), std::invalid_argument);
  };
  CHECK_NOTHROW(Diagonal<float>::from_parts(good));
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, {5}, {7}, {-6}, {6, 1}, {2, 3}, {1, 6}}) {
    Parts parts = good;
    parts.tensors["diagonal"].shape = shape;
    refused(parts);
  }
  Parts parts = good;
  parts.tensors["diagonal"].type = DataType::i32;
  refused(parts);
  parts = good;
  parts.tensors.clear();
  refused(parts);
}

TEMPLATE_TEST_CASE("diagonal products are exact on whole numbers, within X and Y",
                   "[matrix][diagonal]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(72);
  for (const Index size : {1, 7, 16, 17, 33, 101})
    for (const Index batch : {0, 1, 3, 64}) {
      CAPTURE(size, batch);
      const Vector<T> d = random.integers<T>(size, 1, 4);
      const Diagonal<T> op(d);
      const Matrix<T> X = random.integers<T>(size, batch, 4);
      const Matrix<T> before = random.integers<T>(size, batch, 4);
      Matrix<T> product = X;
      for (Index i = 0; i < size; ++i) product.row(i) *= d(i);
      Strided<T> x(X);
      Strided<T> y(size, batch, std::numeric_limits<T>::quiet_NaN());
      op.apply(x.view(), y.view());
      CHECK(y.view() == product);
      y.view() = before;
      op.apply_add(x.view(), y.view());
      CHECK(y.view() == before + product);
      CHECK(y.gaps_untouched());
      y.view().setConstant(std::numeric_limits<T>::quiet_NaN());
      op.apply_transpose(x.view(), y.view());
      CHECK(y.view() == product);
      CHECK(y.gaps_untouched());
      for (const Guard guard : {Guard::before, Guard::after}) {
        const Guarded<T> in(std::vector<T>(X.data(), X.data() + X.size()), guard);
        const Guarded<T> out(std::size_t(size * batch), guard);
        Eigen::Map<Matrix<T>> Y(out.data(), size, batch);
        op.apply(Eigen::Map<const Matrix<T>>(in.data(), size, batch), Y);
        CHECK(Y == product);
      }
    }
}

TEMPLATE_TEST_CASE("diagonal products do not depend on the number of tasks, nor on neighbours",
                   "[matrix][diagonal]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(73);
  const Diagonal<T> op(Vector<T>(random.matrix<T>(5003, 1)));
  const Matrix<T> X = random.matrix<T>(5003, 80);
  const Matrix<T> before = random.matrix<T>(5003, 80);
  Matrix<T> expected = before;
  for (Index j = 0; j < 80; ++j) op.apply_add(X.col(j), expected.col(j));
  for (const int tasks : {1, 2, 3, 7}) {
    CAPTURE(tasks);
    int seen = 1;
    Workspace workspace(Backwards{&seen}, tasks);
    Matrix<T> Y = before;
    op.apply_add(X, Y, workspace);
    CHECK(difference(Y, expected) == "");
    CHECK(seen == tasks);
  }
}

}  // namespace pleat::test
