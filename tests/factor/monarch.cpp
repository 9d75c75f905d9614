// SPDX-License-Identifier: MIT
// The Monarch matrix: its factors, weights of other libraries, and what it refuses.
#include "pleat/factor/monarch.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"

#include <string>

namespace pleat::test {
namespace {

using Catch::Contains;

/// By the definition, from L[j][l, k t + r] and R[k][r J + j, i] as they lie in the values.
Matrix<double> by_definition(const Vector<double>& L, const Vector<double>& R, Index K, Index J,
                             Index t, Index q, Index p) {
  Matrix<double> W = Matrix<double>::Zero(q * J, K * p);
  for (Index j = 0; j < J; ++j)
    for (Index l = 0; l < q; ++l)
      for (Index k = 0; k < K; ++k)
        for (Index i = 0; i < p; ++i)
          for (Index r = 0; r < t; ++r)
            W(l * J + j, k * p + i) +=
                L((j * q + l) * K * t + k * t + r) * R(((k * t + r) * J + j) * p + i);
  return W;
}

/// As the fly repository does it: two products of batches of matrices, with permutations.
Matrix<double> by_two_products(const Vector<double>& w1, const Vector<double>& w2,
                               const BlkdiagSizes& b) {
  Matrix<double> W(b.s * b.l, b.k * b.p);
  for (Index input = 0; input < W.cols(); ++input) {
    Vector<double> x = Vector<double>::Zero(W.cols());
    x(input) = 1;
    Vector<double> z = Vector<double>::Zero(b.k * b.q);
    for (Index k = 0; k < b.k; ++k)
      for (Index q = 0; q < b.q; ++q)
        for (Index i = 0; i < b.p; ++i)
          z(k * b.q + q) += w1((k * b.q + q) * b.p + i) * x(k * b.p + i);
    for (Index l = 0; l < b.l; ++l)
      for (Index s = 0; s < b.s; ++s) {
        double sum = 0;
        for (Index r = 0; r < b.r; ++r) sum += w2((l * b.s + s) * b.r + r) * z(r * b.l + l);
        W(s * b.l + l, input) = sum;
      }
  }
  return W;
}

Vector<double> values(Random& random, Index count) { return random.matrix<double>(count, 1); }

}  // namespace

TEST_CASE("a Monarch matrix is what its definition says", "[factor]") {
  static_assert(LinearOperator<Monarch<float>>);
  Random random(51);
  for (const auto& [K, J, t, q, p] :
       {std::tuple{3, 4, 2, 5, 6}, {1, 1, 3, 7, 8}, {5, 17, 1, 2, 3}}) {
    INFO(K << " blocks, " << J << " classes, rank " << t);
    const Vector<double> L = values(random, Index{J} * q * K * t);
    const Vector<double> R = values(random, Index{K} * t * J * p);
    const Index middle = Index{K} * t * J;
    // And a corner of it.
    for (const Index less : {0, 1}) {
      const Index m = Index{q} * J - less;
      const Index n = Index{K} * p - less;
      const Monarch<double> op(KroneckerSparse<double>(m, middle, {1, q, K * t, J}, L),
                               KroneckerSparse<double>(middle, n, {K, t * J, p, 1}, R));
      CHECK(op.rows() == m);
      CHECK(op.cols() == n);
      CHECK(op.input_blocks() == K);
      CHECK(op.output_classes() == J);
      CHECK(op.block_rank() == t);
      const auto stored = static_cast<std::size_t>(t * (J * n + K * m));
      CHECK(op.bytes() == 8 * stored);
      CHECK(op.flops() == 2 * static_cast<double>(stored));
      const Matrix<double> W = by_definition(L, R, K, J, t, q, p).topLeftCorner(m, n);
      CHECK((op.to_dense() - W).norm() <= 1e-13 * W.norm());
      const Matrix<double> X = random.matrix<double>(n, 3);
      Matrix<double> Y(m, 3);
      op.apply(X, Y);
      CHECK((Y - W * X).norm() <= 1e-13 * W.norm() * X.norm());
      Matrix<double> back(n, 3);
      op.apply_transpose(Y, back);
      CHECK((back - W.transpose() * Y).norm() <= 1e-13 * W.norm() * Y.norm());
    }
  }
}

TEST_CASE("a Monarch matrix in one line", "[factor]") {
  Random random(52);
  const Matrix<float> L = random.matrix<float>(8, 4);  // J = 1, so dense
  const Matrix<float> R = random.matrix<float>(4, 5);
  const Monarch<float> op(KroneckerSparse<float>(L, {1, 8, 4, 1}),
                          KroneckerSparse<float>(R, {1, 4, 5, 1}));
  CHECK(describe(op) ==
        "Monarch 8 x 5, 1 input blocks, 1 output classes, block rank 4, f32, 208 bytes, 130.0 % "
        "of dense");
  CHECK((op.to_dense() - L * R).norm() <= 1e-6F);
  const Monarch<float> narrow(op.left().stored_as(Storage::int8),
                              op.right().stored_as(Storage::int8));
  CHECK(narrow.parameters() == "1 input blocks, 1 output classes, block rank 4, stored as int8");
}

TEST_CASE("Monarch weights that were trained elsewhere", "[factor]") {
  Random random(53);
  for (const BlkdiagSizes& b : {BlkdiagSizes{2, 4, 4, 2, 4, 4}, BlkdiagSizes{8, 24, 12, 6, 4, 32},
                                BlkdiagSizes{4, 4, 3, 4, 5, 4}, BlkdiagSizes{1, 3, 2, 1, 4, 3},
                                BlkdiagSizes{3, 5, 4, 5, 2, 3},  // l divides q no longer
                                BlkdiagSizes{4, 6, 5, 8, 7, 3}, BlkdiagSizes{4, 7, 7, 14, 9, 2},
                                BlkdiagSizes{3, 5, 2, 15, 2, 1}}) {
    INFO(b.k << " x " << b.q << " x " << b.p << ", " << b.l << " x " << b.s << " x " << b.r);
    const Vector<double> w1 = values(random, b.k * b.q * b.p);
    const Vector<double> w2 = values(random, b.l * b.s * b.r);
    const Matrix<double> W = by_two_products(w1, w2, b);
    const auto op = Monarch<double>::from_blkdiag(w1, w2, b);
    CHECK(op.input_blocks() == b.k);
    CHECK(op.output_classes() == b.l);
    CHECK(op.block_rank() == (b.q + b.l - 1) / b.l);
    CHECK((op.to_dense() - W).norm() <= 1e-14 * W.norm());
    // Layers whose sizes were rounded up keep a corner.
    BlkdiagSizes corner = b;
    corner.rows = b.s * b.l - 1;
    corner.cols = b.k * b.p - 1;
    CHECK((Monarch<double>::from_blkdiag(w1, w2, corner).to_dense() -
           W.topLeftCorner(corner.rows, corner.cols))
              .norm() <= 1e-14 * W.norm());
  }
  const BlkdiagSizes sizes{2, 4, 4, 2, 4, 4};
  const Vector<double> w1 = values(random, 32);
  const Vector<double> w2 = values(random, 32);
  const auto rounded = Monarch<double>::from_blkdiag(w1, w2, sizes, Storage::bf16);
  CHECK(rounded.left().storage() == Storage::bf16);
  CHECK(rounded.right().storage() == Storage::bf16);
  const Matrix<double> W = by_two_products(w1, w2, sizes);
  CHECK((rounded.to_dense() - W).norm() <= 0.01 * W.norm());
}

TEST_CASE("weights of a Monarch layer that are none", "[factor]") {
  const auto refused = [](const BlkdiagSizes& sizes, Index count1, Index count2) {
    return Monarch<float>::from_blkdiag(Vector<float>::Ones(count1), Vector<float>::Ones(count2),
                                        sizes);
  };
  CHECK_NOTHROW(refused({2, 4, 3, 2, 5, 4}, 24, 40));
  CHECK_THROWS_WITH(refused({2, 4, 3, 2, 5, 3}, 24, 30),
                    Contains("2 x 4 x 3") && Contains("2 x 5 x 3") && Contains("8 values, and 6"));
  CHECK_THROWS_WITH(refused({2, 4, 3, 2, 5, 4}, 23, 40), Contains("not of 23 and 40 values"));
  CHECK_THROWS_WITH(refused({2, 4, 3, 2, 5, 4}, 24, 41), Contains("not of 24 and 41 values"));
  CHECK_THROWS_WITH(refused({0, 4, 3, 2, 5, 0}, 0, 0), Contains("below 1"));
  CHECK_THROWS_WITH(refused({2, 4, Index{1} << 40, 2, 5, 4}, 24, 40), Contains("above 2^20"));
  CHECK_THROWS_WITH(refused({2, 4, 3, 2, 5, 4, 11, 0}, 24, 40),
                    Contains("10 x 6") && Contains("no 11 x 0 corner"));
  CHECK_THROWS_WITH(refused({2, 4, 3, 2, 5, 4, 0, -1}, 24, 40), Contains("no 0 x -1 corner"));
}

TEST_CASE("a Monarch matrix refuses what is none", "[factor]") {
  const auto brick = [](Index rows, Index cols, KroneckerPattern pattern) {
    return KroneckerSparse<float>(Matrix<float>::Zero(rows, cols), pattern);
  };
  const auto L = brick(6, 12, {1, 2, 4, 3});  // 3 classes, 2 blocks of rank 2
  const auto R = brick(12, 8, {2, 6, 4, 1});
  CHECK_NOTHROW(Monarch<float>(L, R));
  CHECK_THROWS_WITH(Monarch<float>(L, brick(11, 8, {2, 6, 4, 1})),
                    Contains("6 x 12") && Contains("11 x 8"));
  CHECK_THROWS_WITH(Monarch<float>(L, brick(12, 8, {2, 3, 2, 2})),
                    Contains("(2, 3, 2, 2)") && Contains("not block-diagonal"));
  CHECK_THROWS_WITH(Monarch<float>(brick(6, 12, {2, 1, 2, 3}), R),
                    Contains("(2, 1, 2, 3)") && Contains("2 blocks, not 1"));
  CHECK_THROWS_WITH(Monarch<float>(brick(6, 12, {1, 2, 3, 4}), R),
                    Contains("6 rows") && Contains("4 output classes"));
  CHECK_THROWS_WITH(Monarch<float>(brick(6, 12, {1, 2, 5, 3}), R),
                    Contains("(1, 2, 5, 3)") && Contains("4 columns") && Contains("2 blocks"));
  // Of 12 rows no more than 11, on both sides.
  CHECK_THROWS_WITH(Monarch<float>(brick(6, 11, {1, 2, 4, 3}), brick(11, 8, {2, 6, 4, 1})),
                    Contains("11 rows, not all 12"));
}

TEST_CASE("the parts of a Monarch matrix are checked", "[factor]") {
  Random random(54);
  const Vector<float> w1 = random.matrix<float>(24, 1);
  const Vector<float> w2 = random.matrix<float>(40, 1);
  const auto op = Monarch<float>::from_blkdiag(w1, w2, {2, 4, 3, 2, 5, 4});
  Parts parts = op.parts();
  CHECK(parts.structure == "Monarch");
  CHECK(Monarch<float>::from_parts(parts).to_dense() == op.to_dense());
  parts.children["left"] = op.right().parts();
  CHECK_THROWS_AS(Monarch<float>::from_parts(parts), std::invalid_argument);
  parts.children.erase("left");
  CHECK_THROWS_AS(Monarch<float>::from_parts(parts), std::invalid_argument);
}

}  // namespace pleat::test
