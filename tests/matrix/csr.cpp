// SPDX-License-Identifier: MIT
// The brick of compressed rows: what it stores, what it refuses, and its products.
#include "pleat/matrix/csr.hpp"

#include "matrix/sparse.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/oracle.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace pleat::test {
namespace {

constexpr Index densities[] = {0, 1, 10, 50, 100};

/// A tensor of one dimension.
template <class V>
Tensor vector_of(const std::vector<V>& values) {
  Tensor tensor{data_type_of<V>, {static_cast<std::int64_t>(values.size())}, {}};
  tensor.data.resize(values.size() * sizeof(V));
  if (!values.empty()) std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
  return tensor;
}

Parts parts_of(const std::vector<float>& values, const std::vector<std::uint16_t>& columns,
               const std::vector<std::uint64_t>& starts, Index cols) {
  return {"Csr",
          {{"cols", std::to_string(cols)}},
          {{"values", vector_of(values)},
           {"columns", vector_of(columns)},
           {"starts", vector_of(starts)}},
          {}};
}

}  // namespace

TEMPLATE_TEST_CASE("compressed rows come back as they were", "[matrix][csr]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(71);
  for (const Index rows : {0, 1, 3, 16, 41})
    for (const Index cols : {0, 1, 5, 64, 131})
      for (const Index percent : densities) {
        CAPTURE(rows, cols, percent);
        const Matrix<T> W = sparse_integers<T>(random, rows, cols, percent);
        const auto nonzeros = static_cast<std::size_t>((W.array() != T(0)).count());
        const Csr<T> op(W);
        CHECK(op.rows() == rows);
        CHECK(op.cols() == cols);
        CHECK(op.nonzeros() == static_cast<Index>(nonzeros));
        CHECK(op.to_dense() == W);
        CHECK(op.bytes() == nonzeros * (sizeof(T) + 2) + 8 * (std::size_t(rows) + 1));
        CHECK(op.flops() == 2.0 * static_cast<double>(nonzeros));
        const Csr<T> back = Csr<T>::from_parts(op.parts());
        CHECK(back.to_dense() == W);
        CHECK(back.nonzeros() == op.nonzeros());
      }
  CHECK(Csr<T>().bytes() == 8);
  CHECK(Csr<T>::from_parts(Csr<T>().parts()).rows() == 0);
  CHECK(describe(Csr<float>(Matrix<float>::Identity(2, 4))) ==
        "Csr 2 x 4, 2 nonzeros, f32, 36 bytes, 112.5 % of dense");
  CHECK(Csr<T>(Matrix<T>::Constant(1, 1, -T(0))).nonzeros() == 0);
}

TEMPLATE_TEST_CASE("more columns than 16 bits can count", "[matrix][csr]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(72);
  for (const Index cols : {65535, 65536, 65537, 70000}) {
    Matrix<T> W = Matrix<T>::Zero(5, cols);
    for (const Index k : {Index{0}, Index{1}, Index{65534}, cols - 1}) W(0, k) = W(3, k) = T(k % 7);
    const Csr<T> op(W);
    CAPTURE(cols);
    CHECK(op.to_dense() == W);
    CHECK(op.bytes() ==
          std::size_t(op.nonzeros()) * (sizeof(T) + (cols > 65536 ? 4U : 2U)) + 8 * 6);
    CHECK(Csr<T>::from_parts(op.parts()).to_dense() == W);
    for (const Index batch : {1, 3, 70}) {
      const Matrix<T> X = random.integers<T>(cols, batch, 4);
      Matrix<T> Y(5, batch);
      op.apply(X, Y);
      CHECK(Y == multiply<Matrix<T>>(W, X));
    }
  }
}

TEMPLATE_TEST_CASE("products with compressed rows are exact on whole numbers", "[matrix][csr]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(73);
  for (const Index rows : {1, 3, 17, 70, 300})
    for (const Index cols : {1, 7, 48, 65, 391})
      for (const Index percent : densities) {
        const Matrix<T> W = sparse_integers<T>(random, rows, cols, percent);
        const Csr<T> op(W);
        for (const Index batch : {0, 1, 2, 3, 8, 16, 33, 64, 130}) {
          CAPTURE(rows, cols, percent, batch);
          const Matrix<T> X = random.integers<T>(cols, batch, 4);
          const Matrix<T> before = random.integers<T>(rows, batch, 4);
          const Matrix<T> product = multiply<Matrix<T>>(W, X);
          Strided<T> x(X);
          Strided<T> y(rows, batch, std::numeric_limits<T>::quiet_NaN());
          op.apply(x.view(), y.view());
          CHECK(y.view() == product);
          y.view() = before;
          op.apply_add(x.view(), y.view());
          CHECK(y.view() == before + product);
          CHECK(y.gaps_untouched());
          Strided<T> back(cols, batch, std::numeric_limits<T>::quiet_NaN());
          op.apply_transpose(y.view(), back.view());
          CHECK(back.view() == multiply<Matrix<T>>(W.transpose(), before + product));
          CHECK(back.gaps_untouched());
        }
      }
}

TEMPLATE_TEST_CASE("products with compressed rows depend on neither batch nor tasks",
                   "[matrix][csr]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(74);
  Matrix<T> W = random.matrix<T>(203, 517);
  for (Index k = 0; k < W.cols(); ++k)
    for (Index i = 0; i < W.rows(); ++i)
      if (random.integer(0, 9) > i % 11) W(i, k) = T(0);
  const Csr<T> op(W);
  const Matrix<T> X = random.matrix<T>(517, 200);
  const Matrix<T> Y = random.matrix<T>(203, 200);
  Matrix<T> whole = Y;
  op.apply_add(X, whole);
  Matrix<T> back(517, 200);
  op.apply_transpose(Y, back);
  for (const Index samples : {1, 2, 5, 16, 17, 40, 64, 100}) {
    CAPTURE(samples);
    Matrix<T> cut = Y;
    for (Index j = 0; j < 200; j += samples) {
      const Index count = std::min<Index>(samples, 200 - j);
      op.apply_add(X.middleCols(j, count), cut.middleCols(j, count));
    }
    CHECK(difference(cut, whole) == "");
  }
  int most = 0;
  for (const int tasks : {2, 3, 7}) {
    Workspace workspace(Backwards{&most}, tasks);
    Matrix<T> split = Y;
    op.apply_add(X, split, workspace);
    CHECK(difference(split, whole) == "");
    Matrix<T> split_back(517, 200);
    op.apply_transpose(Y, split_back, workspace);
    CHECK(difference(split_back, back) == "");
  }
  CHECK(most == 7);
}

TEMPLATE_TEST_CASE("products with compressed rows stay within X and Y", "[matrix][csr]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(75);
  for (const Index rows : {3, 16, 21})
    for (const Index cols : {1, 6, 32, 67})
      for (const Index percent : {10, 100}) {
        const Matrix<T> W = sparse_integers<T>(random, rows, cols, percent);
        const Csr<T> op(W);
        for (const Index batch : {1, 3, 16, 64, 130})
          for (const Guard guard : {Guard::before, Guard::after}) {
            CAPTURE(rows, cols, percent, batch, guard == Guard::before);
            const Matrix<T> X = random.integers<T>(cols, batch, 4);
            const Guarded<T> x(std::vector<T>(X.data(), X.data() + X.size()), guard);
            const Guarded<T> y(std::size_t(rows * batch), guard);
            Eigen::Map<Matrix<T>> in(x.data(), cols, batch);
            Eigen::Map<Matrix<T>> out(y.data(), rows, batch);
            op.apply(in, out);
            const Matrix<T> product = multiply<Matrix<T>>(W, X);
            CHECK(out == product);
            op.apply_transpose(out, in);
            CHECK(in == multiply<Matrix<T>>(W.transpose(), product));
          }
      }
}

TEST_CASE("a zero that is stored is a value like any other", "[matrix][csr]") {
  const auto op = Csr<float>::from_parts(parts_of({0, 2, -0.0F}, {1, 0, 2}, {0, 1, 1, 3}, 3));
  CHECK(op.nonzeros() == 3);
  CHECK(std::signbit(op.to_dense()(2, 2)));
  for (const Index batch : {1, 2, 64, 200}) {
    Matrix<float> X = Matrix<float>::Ones(3, batch);
    X(1, batch - 1) = std::numeric_limits<float>::infinity();
    Matrix<float> Y(3, batch);
    op.apply(X, Y);
    CHECK(std::isnan(Y(0, batch - 1)));  // 0 times infinity
    CHECK(Y(1, batch - 1) == 0);         // where nothing is stored, nothing is multiplied
    CHECK(Y(2, batch - 1) == 2);
    if (batch > 1) CHECK(Y(0, 0) == 0);
    op.apply_transpose(X, Y);
    CHECK(std::isnan(Y(1, 0)) == false);
    CHECK(Y(0, 0) == 2);
  }
}

TEST_CASE("parts that are no compressed rows are refused", "[matrix][csr]") {
  const auto refused = [](const Parts& parts, const std::string& text) {
    CHECK_THROWS_AS(Csr<float>::from_parts(parts), std::invalid_argument);
    CHECK_THROWS_WITH(Csr<float>::from_parts(parts), Catch::Contains(text));
  };
  const Parts good = parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 2, 3}, 5);
  CHECK_NOTHROW(Csr<float>::from_parts(good));
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {1, 2, 2, 3}, 5), "does not begin at 0");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {}, 5), "does not begin at 0");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 1, 3}, 5), "row 1 ends before it begins");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, ~std::uint64_t{0}, 3}, 5), "row 2 ends before");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 2, 2}, 5), "3 values");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 2, 4}, 5), "3 values");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 2, ~std::uint64_t{0}}, 5), "3 values");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0}, 5), "3 values");
  refused(parts_of({1, 2, 3}, {0, 5, 2}, {0, 2, 2, 3}, 5), "column 5 of 5");
  refused(parts_of({1, 2, 3}, {0, 65535, 2}, {0, 2, 2, 3}, 5), "column 65535 of 5");
  refused(parts_of({1, 2, 3}, {4, 0, 2}, {0, 2, 2, 3}, 5), "row 0 do not ascend");
  refused(parts_of({1, 2, 3}, {4, 4, 2}, {0, 2, 2, 3}, 5), "row 0 do not ascend");
  refused(parts_of({1, 2, 3}, {0, 4}, {0, 2, 2, 3}, 5), "shape of the values");
  refused(parts_of({1, 2, 3}, {0, 4, 2, 2}, {0, 2, 2, 3}, 5), "shape of the values");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 2, 3}, 0), "of 0");
  refused(parts_of({1, 2, 3}, {0, 4, 2}, {0, 2, 2, 3}, 65537), "another type");
  for (const char* cols : {"", "-1", "4294967297", "five"}) {
    Parts parts = good;
    parts.attributes["cols"] = cols;
    refused(parts, cols);
  }
  for (const char* tensor : {"values", "columns", "starts"}) {
    Parts parts = good;
    parts.tensors.erase(tensor);
    refused(parts, tensor);
    parts = good;
    parts.tensors[tensor].type = DataType::i16;
    refused(parts, "");
    parts = good;
    parts.tensors[tensor].data.pop_back();
    refused(parts, "");
  }
  Parts parts = good;
  parts.attributes.clear();
  refused(parts, "cols");
  parts = good;
  parts.tensors["values"].shape = {3, 1};
  refused(parts, "vector");
  parts = good;
  parts.tensors["starts"].shape = {2, 2};
  refused(parts, "vector");
}

}  // namespace pleat::test
