// SPDX-License-Identifier: MIT
// The 2:4 brick: its encoding, its refusals, and its kernels against plain products.
#include "pleat/matrix/semi_structured.hpp"

#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace pleat::test {
namespace {

/// Whole numbers with zero, one or two of them in every four of a row; some of the kept are zero.
template <Real T>
Matrix<T> two_of_four(Random& random, Index rows, Index cols) {
  Matrix<T> W = Matrix<T>::Zero(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index group = 0; group < cols; group += 4)
      for (int kept = 0; kept < 2; ++kept) {
        const Index k = group + random.integer(0, 3);
        if (k < cols) W(i, k) = static_cast<T>(random.integer(-4, 4));
      }
  return W;
}

constexpr Index widths[] = {0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 66, 67, 100, 129};

}  // namespace

TEMPLATE_TEST_CASE("2:4 matrices come back as they were", "[matrix][semi_structured]", float,
                   double) {
  Random random(61);
  for (const Index rows : {0, 1, 15, 16, 17, 40})
    for (const Index cols : widths) {
      CAPTURE(rows, cols);
      const Matrix<TestType> W = two_of_four<TestType>(random, rows, cols);
      const SemiStructured<TestType> op(W);
      CHECK(op.rows() == rows);
      CHECK(op.cols() == cols);
      CHECK(op.to_dense() == W);
      CHECK(SemiStructured<TestType>::from_parts(op.parts()).to_dense() == W);
      const Index groups = (cols + 3) / 4;
      CHECK(op.bytes() ==
            std::size_t(rows * (2 * groups * Index(sizeof(TestType)) + (groups + 1) / 2)));
      CHECK(op.flops() == 4.0 * double(rows * groups));
    }
  // 8.5 bytes for four floats, as promised.
  CHECK(SemiStructured<float>(Matrix<float>::Zero(64, 64)).bytes() == 64 * 64 / 4 * 17 / 2);
}

TEST_CASE("a third nonzero in a group is refused by name", "[matrix][semi_structured]") {
  Matrix<float> W = Matrix<float>::Zero(5, 11);
  W(3, 4) = W(3, 6) = 1;
  CHECK_NOTHROW(SemiStructured<float>(W));
  W(3, 7) = 1;
  W(4, 1) = W(4, 2) = W(4, 3) = 1;
  CHECK_THROWS_WITH(SemiStructured<float>(W), Catch::Contains("row 3, column 7"));
  W(3, 7) = -0.0F;  // a zero all the same
  W(4, 1) = 0;
  CHECK_NOTHROW(SemiStructured<float>(W));
  W(0, 8) = W(0, 9) = W(0, 10) = 1;  // the last group has three columns
  CHECK_THROWS_WITH(SemiStructured<float>(W), Catch::Contains("row 0, column 10"));
}

TEST_CASE("parts that are no 2:4 matrix are refused", "[matrix][semi_structured]") {
  Matrix<float> W = Matrix<float>::Zero(2, 9);
  W(1, 2) = 5;
  const Parts good = SemiStructured<float>(W).parts();
  const auto refused = [](Parts parts) {
    CHECK_THROWS_AS(SemiStructured<float>::from_parts(parts), std::invalid_argument);
  };
  CHECK_NOTHROW(SemiStructured<float>::from_parts(good));
  for (const char* cols : {"", "-1", "8", "13", "nine", "281474976710657"}) {
    Parts parts = good;
    parts.attributes["cols"] = cols;
    CAPTURE(cols);
    refused(parts);
  }
  Parts parts = good;
  parts.attributes.clear();
  refused(parts);
  for (const char* tensor : {"codes", "values"}) {
    parts = good;
    parts.tensors.erase(tensor);
    refused(parts);
    parts = good;
    parts.tensors[tensor].shape[0] = 3;
    refused(parts);
  }
  parts = good;
  parts.tensors["codes"].type = DataType::i8;
  refused(parts);
  parts = good;  // codes 1, 1 instead of 0, 1
  parts.tensors["codes"].data[0] = std::byte(0x45);
  refused(parts);
  parts = good;  // codes 1, 0
  parts.tensors["codes"].data[0] = std::byte(0x41);
  refused(parts);
  parts = good;  // bits of a fourth group
  parts.tensors["codes"].data[1] |= std::byte(0x10);
  refused(parts);
  Matrix<float> values = parts.tensors["values"].matrix<float>();
  values(0, 5) = 1;  // the second value of the last group, whose code says column 9
  parts = good;
  parts.tensors["values"] = Tensor::of(values);
  refused(parts);
}

TEMPLATE_TEST_CASE("2:4 products are exact on whole numbers", "[matrix][semi_structured]", float,
                   double) {
  Random random(62);
  for (const Index rows : {1, 16, 17, 47, 70})
    for (const Index cols : widths) {
      const Matrix<TestType> W = two_of_four<TestType>(random, rows, cols);
      const SemiStructured<TestType> op(W);
      for (const Index batch :
           {1, 2, 3, 4, 5, 7, 8, 16, 23, 24, 31, 32, 33, 47, 48, 63, 64, 65, 128, 150}) {
        CAPTURE(rows, cols, batch);
        const Matrix<TestType> X = random.integers<TestType>(cols, batch, 4);
        const Matrix<TestType> before = random.integers<TestType>(rows, batch, 4);
        const Matrix<TestType> product = W * X;
        Strided<TestType> x(X);
        Strided<TestType> y(rows, batch, std::numeric_limits<TestType>::quiet_NaN());
        op.apply(x.view(), y.view());
        CHECK(y.view() == product);
        y.view() = before;
        op.apply_add(x.view(), y.view());
        CHECK(y.view() == before + product);
        CHECK(y.gaps_untouched());
        if (batch < 9) {
          Strided<TestType> back(cols, batch, std::numeric_limits<TestType>::quiet_NaN());
          op.apply_transpose(y.view(), back.view());
          CHECK(back.view() == W.transpose() * (before + product));
          CHECK(back.gaps_untouched());
        }
      }
    }
}

TEMPLATE_TEST_CASE("2:4 kernels stay within X and Y", "[matrix][semi_structured]", float, double) {
  Random random(63);
  for (const Index rows : {3, 16, 21})
    for (const Index cols : {1, 6, 32, 35, 67}) {
      const Matrix<TestType> W = two_of_four<TestType>(random, rows, cols);
      const SemiStructured<TestType> op(W);
      for (const Index batch : {1, 3, 8, 40, 70})
        for (const Guard guard : {Guard::before, Guard::after}) {
          CAPTURE(rows, cols, batch, guard == Guard::before);
          const Matrix<TestType> X = random.integers<TestType>(cols, batch, 4);
          const std::vector<TestType> values(X.data(), X.data() + X.size());
          const Guarded<TestType> x(values, guard);
          const Guarded<TestType> y(std::size_t(rows * batch), guard);
          const Eigen::Map<const Matrix<TestType>> in(x.data(), cols, batch);
          Eigen::Map<Matrix<TestType>> out(y.data(), rows, batch);
          op.apply(in, out);
          CHECK(out == W * X);
        }
    }
}

}  // namespace pleat::test
