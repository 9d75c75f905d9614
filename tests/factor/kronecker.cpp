// SPDX-License-Identifier: MIT
// Sums of Kronecker products: what they are by the definition, and what they refuse.
#include "pleat/factor/kronecker.hpp"

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

/// Its top left corner, by the definition.
template <Real T>
Matrix<double> kronecker_by_definition(Index rows, Index cols, const std::vector<Matrix<T>>& A,
                                       const std::vector<Matrix<T>>& B) {
  Matrix<double> W = Matrix<double>::Zero(rows, cols);
  for (std::size_t r = 0; r < A.size(); ++r)
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j)
        W(i, j) += double(A[r](i / B[r].rows(), j / B[r].cols())) *
                   double(B[r](i % B[r].rows(), j % B[r].cols()));
  return W;
}

template <Real T>
std::vector<Matrix<T>> matrices(Random& random, Index count, Index rows, Index cols) {
  std::vector<Matrix<T>> list;
  for (Index r = 0; r < count; ++r) list.push_back(random.matrix<T>(rows, cols));
  return list;
}

/// 4 x 6, of two terms of 2 x 3 and 2 x 2: 20 multiply-adds a term with left first, else 24.
KroneckerShape shape_of_two() { return {4, 6, 2, 3, 2, 2, 2}; }
Kronecker<float> kronecker_of(const KroneckerShape& shape, Index left_rows, Index left_cols,
                              Index right_rows, Index right_cols) {
  return {shape, Dense<float>(Matrix<float>::Ones(left_rows, left_cols)),
          Dense<float>(Matrix<float>::Ones(right_rows, right_cols))};
}

}  // namespace

TEMPLATE_TEST_CASE("Kronecker products of pairs are those of the definition", "[factor]", float,
                   double) {
  using T = TestType;
  static_assert(LinearOperator<Kronecker<T>>);
  Random random(541);
  int right_first = 0;
  int left_first = 0;
  // m1, n1, m2, n2, terms, rows and columns that are cropped
  for (const auto& [m1, n1, m2, n2, terms, less, fewer] :
       std::vector<std::array<Index, 7>>{{1, 1, 1, 1, 1, 0, 0},
                                         {2, 3, 5, 4, 1, 0, 0},
                                         {7, 2, 3, 9, 3, 2, 5},
                                         {2, 7, 9, 3, 3, 5, 2},
                                         {13, 1, 1, 11, 4, 0, 0},
                                         {1, 11, 13, 1, 4, 3, 1},
                                         {1, 1, 6, 7, 2, 0, 0},
                                         {6, 7, 1, 1, 2, 0, 0},
                                         {16, 17, 9, 8, 2, 7, 7},
                                         {9, 8, 17, 16, 5, 16, 15},
                                         {33, 3, 2, 20, 2, 1, 1}}) {
    CAPTURE(m1, n1, m2, n2, terms, less, fewer);
    const auto A = matrices<T>(random, terms, m1, n1);
    const auto B = matrices<T>(random, terms, m2, n2);
    const Index m = m1 * m2 - less;
    const Index n = n1 * n2 - fewer;
    const Kronecker<T> op(m, n, A, B);
    (op.shape().right_first() ? right_first : left_first) += 1;
    CHECK(op.rows() == m);
    CHECK(op.cols() == n);
    CHECK(op.left_rows() == m1);
    CHECK(op.left_cols() == n1);
    CHECK(op.right_rows() == m2);
    CHECK(op.right_cols() == n2);
    CHECK(op.terms() == terms);
    CHECK(op.left_terms() == A);
    CHECK(op.right_terms() == B);
    const auto values = static_cast<std::size_t>(terms * (m1 * n1 + m2 * n2));
    CHECK(op.bytes() == values * sizeof(T));
    CHECK(op.bytes() == Kronecker<T>::stored_bytes(op.shape()));
    CHECK(op.flops() ==
          2.0 * double(terms) * std::min(double(n1 * m2 * (n2 + m1)), double(m1 * n2 * (n1 + m2))));
    const Matrix<double> W = kronecker_by_definition(m, n, A, B);
    const double bound =
        8 * double(std::numeric_limits<T>::epsilon()) * double(terms * (n1 + n2 + m1 + m2));
    CHECK((op.to_dense().template cast<double>() - W).cwiseAbs().maxCoeff() <= bound);
    // Any number of samples, and the transpose.
    for (const Index batch : {1, 9, 130}) {
      const Matrix<T> X = random.matrix<T>(n, batch);
      Matrix<T> Y(m, batch);
      op.apply(X, Y);
      const Matrix<double> exact = W * X.template cast<double>();
      CHECK((Y.template cast<double>() - exact).cwiseAbs().maxCoeff() <= bound * double(n));
      const Matrix<T> G = random.matrix<T>(m, batch);
      Matrix<T> back(n, batch);
      op.apply_transpose(G, back);
      const Matrix<double> exact_back = W.transpose() * G.template cast<double>();
      CHECK((back.template cast<double>() - exact_back).cwiseAbs().maxCoeff() <= bound * double(m));
    }
    // As large as the products are.
    const Kronecker<T> whole(A, B);
    CHECK(whole.rows() == m1 * m2);
    CHECK(whole.cols() == n1 * n2);
    CHECK(whole.to_dense().topLeftCorner(m, n) == op.to_dense());
    const Kronecker<T> again = Kronecker<T>::from_parts(op.parts());
    CHECK(again.shape() == op.shape());
    CHECK(again.to_dense() == op.to_dense());
    // What was moved from stays as it was.
    Kronecker<T> from = op;
    const Kronecker<T> to = std::move(from);
    CHECK(from.to_dense() == to.to_dense());  // NOLINT
  }
  CHECK(right_first >= 3);
  CHECK(left_first >= 3);
}

TEST_CASE("the transpose of Kronecker products is that of transposes", "[factor]") {
  Random random(542);
  const auto A = matrices<double>(random, 3, 5, 8);
  const auto B = matrices<double>(random, 3, 9, 4);
  std::vector<Matrix<double>> At;
  std::vector<Matrix<double>> Bt;
  for (const auto& term : A) At.push_back(term.transpose());
  for (const auto& term : B) Bt.push_back(term.transpose());
  const Matrix<double> W = Kronecker<double>(A, B).to_dense();
  const Matrix<double> Wt = Kronecker<double>(At, Bt).to_dense();
  CHECK((Wt - W.transpose()).cwiseAbs().maxCoeff() <= 1e-14);
}

TEST_CASE("the Hadamard matrix is a Kronecker product for any split", "[factor]") {
  const auto hadamard = [](Index n) {
    Matrix<float> H = Matrix<float>::Ones(1, 1);
    while (H.rows() < n) {
      Matrix<float> next(2 * H.rows(), 2 * H.rows());
      next << H, H, H, -H;
      H = next;
    }
    return H;
  };
  const Matrix<float> H = hadamard(32);
  for (const Index split : {1, 2, 4, 8, 16, 32})
    CHECK(Kronecker<float>({hadamard(split)}, {hadamard(32 / split)}).to_dense() == H);
}

TEST_CASE("Kronecker products in narrow storage", "[factor]") {
  Random random(543);
  for (const bool wide : {false, true}) {
    const auto A = matrices<float>(random, 2, wide ? 3 : 12, wide ? 17 : 5);
    const auto B = matrices<float>(random, 2, wide ? 20 : 7, wide ? 6 : 25);
    const Index m = A[0].rows() * B[0].rows() - 3;
    const Index n = A[0].cols() * B[0].cols() - 2;
    for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4,
                                  Storage::int3, Storage::int2}) {
      INFO(to_string(storage));
      const Kronecker<float> op(m, n, A, B, storage);
      CHECK(op.left().storage() == storage);
      CHECK(op.right().storage() == storage);
      CHECK(op.bytes() == Kronecker<float>::stored_bytes(op.shape(), storage));
      const Matrix<double> W = kronecker_by_definition(m, n, op.left_terms(), op.right_terms());
      CHECK((op.to_dense().cast<double>() - W).cwiseAbs().maxCoeff() <= 1e-5);
      const Matrix<float> X = random.matrix<float>(n, 21);
      Matrix<float> Y(m, 21);
      op.apply(X, Y);
      CHECK((Y.cast<double>() - W * X.cast<double>()).cwiseAbs().maxCoeff() <= 1e-3);
      const Kronecker<float> again = Kronecker<float>::from_parts(op.parts());
      CHECK(again.to_dense() == op.to_dense());
      CHECK(describe(again) == describe(op));
      CHECK_THAT(op.parameters(), Contains("stored as " + std::string(to_string(storage))));
    }
  }
}

TEST_CASE("Kronecker products in words", "[factor]") {
  const Kronecker<float> op = kronecker_of(shape_of_two(), 4, 3, 2, 4);
  CHECK(describe(op) ==
        "Kronecker 4 x 6, 2 terms of 2 x 3 and 2 x 2, f32, 80 bytes, 83.3 % of dense");
  CHECK(Kronecker<float>({Matrix<float>::Ones(2, 2)}, {Matrix<float>::Ones(3, 1)}).parameters() ==
        "1 term of 2 x 2 and 3 x 1");
}

TEST_CASE("Kronecker refuses what is none", "[factor]") {
  CHECK_THROWS_WITH(kronecker_of(shape_of_two(), 2, 6, 2, 4),
                    Contains("4 x 3") && Contains("2 x 6") && Contains("left"));
  CHECK_THROWS_WITH(kronecker_of(shape_of_two(), 4, 3, 4, 2),
                    Contains("2 x 4") && Contains("4 x 2") && Contains("right"));
  const auto refused = [](auto change, const char* message) {
    KroneckerShape shape = shape_of_two();
    change(shape);
    CHECK_THROWS_WITH(kronecker_of(shape, 4, 3, 2, 4), Contains(message));
  };
  refused([](auto& s) { s.rows = 5; }, "do not cover a 5 x 6 matrix");
  refused([](auto& s) { s.cols = 7; }, "do not cover a 4 x 7 matrix");
  refused([](auto& s) { s.rows = -1; }, "do not cover a -1 x 6 matrix");
  refused([](auto& s) { s.left_rows = 0; }, "sizes lie between 1 and 2^31");
  refused([](auto& s) { s.left_cols = -3; }, "2 x -3");
  refused([](auto& s) { s.right_cols = Index{1} << 32; }, "2 x 4294967296");
  refused([](auto& s) { s.right_rows = Index{1} << 62; }, "sizes lie between");
  refused([](auto& s) { s.terms = 0; }, "0 Kronecker products");
  refused([](auto& s) { s.terms = Index{1} << 62; }, "sizes lie between");
  refused([](auto& s) { s.left_rows = s.right_rows = Index{1} << 30; }, "more than 2^40 rows");
  const Matrix<float> A = Matrix<float>::Ones(2, 3);
  const Matrix<float> B = Matrix<float>::Ones(4, 2);
  CHECK_THROWS_WITH(Kronecker<float>({A, A}, {B}), Contains("2 left and 1 right"));
  CHECK_THROWS_WITH(Kronecker<float>({}, {}), Contains("0 left and 0 right"));
  CHECK_THROWS_WITH(Kronecker<float>({A, B}, {B, B}), Contains("2 x 3") && Contains("4 x 2"));
  CHECK_THROWS_WITH(Kronecker<float>({A, A}, {B, A}), Contains("4 x 2") && Contains("2 x 3"));
  CHECK_THROWS_WITH(Kronecker<float>(9, 6, {A}, {B}), Contains("9 x 6"));
  CHECK_THROWS_WITH(Kronecker<float>({Matrix<float>(0, 3)}, {B}), Contains("0 x 3"));
  CHECK_THROWS_AS(Kronecker<float>({A}, {B}, Storage::f64), std::invalid_argument);
  const Dense<float> narrow(Matrix<float>::Ones(2, 4), Storage::int8);
  CHECK_THROWS_WITH(Kronecker<float>(shape_of_two(), Dense<float>(Matrix<float>::Ones(4, 3)),
                                     narrow.rotated(Hadamard<float>(4))),
                    Contains("right matrices are rotated"));
}

TEST_CASE("the parts of Kronecker are checked", "[factor]") {
  const Parts parts = kronecker_of(shape_of_two(), 4, 3, 2, 4).parts();
  CHECK(parts.structure == "Kronecker");
  for (const auto& [name, value] : parts.attributes) {
    CAPTURE(name);
    Parts broken = parts;
    broken.attributes.erase(name);
    CHECK_THROWS_WITH(Kronecker<float>::from_parts(broken), Contains(name));
    for (const char* other : {"-1", "9223372036854775807", "4611686018427387904", "x", ""}) {
      broken.attributes[name] = other;
      CHECK_THROWS_AS(Kronecker<float>::from_parts(broken), std::invalid_argument);
    }
  }
  for (const char* name : {"left", "right"}) {
    Parts broken = parts;
    broken.children.erase(name);
    CHECK_THROWS_WITH(Kronecker<float>::from_parts(broken), Contains(name));
    broken = parts;
    broken.children[name].tensors["weight"].shape = {1, 1};
    CHECK_THROWS_AS(Kronecker<float>::from_parts(broken), std::invalid_argument);
  }
}

}  // namespace pleat::test
