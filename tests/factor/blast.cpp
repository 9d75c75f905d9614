// SPDX-License-Identifier: MIT
// The BLAST matrix: its factors, weights of other libraries, and what it refuses.
#include "pleat/factor/blast.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"

#include <stdexcept>
#include <string>

namespace pleat::test {
namespace {

using Catch::Contains;

Vector<double> blast_values(Random& random, Index count) { return random.matrix<double>(count, 1); }

/// As the layer of the BLAST repository does it: products of batches of matrices, between which
/// all products of vectors are formed and summed.
Matrix<double> by_blocks(const Vector<double>& B, const Vector<double>& C, const Vector<double>& D,
                         const BlastSizes& b) {
  Matrix<double> W(b.row_blocks * b.height, b.column_blocks * b.width);
  for (Index input = 0; input < W.cols(); ++input) {
    Vector<double> x = Vector<double>::Zero(W.cols());
    x(input) = 1;
    Vector<double> z = Vector<double>::Zero(b.column_blocks * b.rank);
    for (Index j = 0; j < b.column_blocks; ++j)
      for (Index e = 0; e < b.rank; ++e)
        for (Index k = 0; k < b.width; ++k)
          z(j * b.rank + e) += C((j * b.rank + e) * b.width + k) * x(j * b.width + k);
    for (Index i = 0; i < b.row_blocks; ++i) {
      Vector<double> g = Vector<double>::Zero(b.rank);
      for (Index j = 0; j < b.column_blocks; ++j)
        for (Index e = 0; e < b.rank; ++e)
          g(e) += D((i * b.column_blocks + j) * b.rank + e) * z(j * b.rank + e);
      for (Index l = 0; l < b.height; ++l) {
        double sum = 0;
        for (Index e = 0; e < b.rank; ++e) sum += B((i * b.height + l) * b.rank + e) * g(e);
        W(i * b.height + l, input) = sum;
      }
    }
  }
  return W;
}

}  // namespace

TEST_CASE("BLAST weights that were trained elsewhere", "[factor]") {
  static_assert(LinearOperator<Blast<float>>);
  Random random(61);
  for (const BlastSizes& b :
       {BlastSizes{2, 3, 4, 5, 6}, BlastSizes{1, 1, 5, 4, 3}, BlastSizes{4, 2, 3, 7, 17},
        BlastSizes{3, 5, 2, 2, 1}, BlastSizes{1, 4, 6, 3, 2}, BlastSizes{16, 1, 2, 9, 20}}) {
    INFO(b.row_blocks << " x " << b.column_blocks << " blocks of " << b.height << " x " << b.width
                      << ", rank " << b.rank);
    const Vector<double> B = blast_values(random, b.row_blocks * b.height * b.rank);
    const Vector<double> C = blast_values(random, b.column_blocks * b.rank * b.width);
    const Vector<double> D = blast_values(random, b.row_blocks * b.column_blocks * b.rank);
    const Matrix<double> whole = by_blocks(B, C, D, b);
    // Layers whose sizes were rounded up keep a corner.
    for (const Index less : {0, 1}) {
      BlastSizes corner = b;
      const Index m = whole.rows() - less;
      const Index n = whole.cols() - less;
      if (less > 0) {
        corner.rows = m;
        corner.cols = n;
      }
      const auto op = Blast<double>::from_factors(B, C, D, corner);
      CHECK(op.rows() == m);
      CHECK(op.cols() == n);
      CHECK(op.row_blocks() == b.row_blocks);
      CHECK(op.column_blocks() == b.column_blocks);
      CHECK(op.rank() == b.rank);
      const auto stored =
          static_cast<std::size_t>(b.rank * (m + n + b.row_blocks * b.column_blocks));
      CHECK(op.bytes() == 8 * stored);
      CHECK(op.flops() == 2 * static_cast<double>(stored));
      const Matrix<double> W = whole.topLeftCorner(m, n);
      CHECK((op.to_dense() - W).norm() <= 1e-14 * whole.norm());
      const Matrix<double> X = random.matrix<double>(n, 3);
      Matrix<double> Y(m, 3);
      op.apply(X, Y);
      CHECK((Y - W * X).norm() <= 1e-13 * whole.norm() * X.norm());
      Matrix<double> back(n, 3);
      op.apply_transpose(Y, back);
      CHECK((back - W.transpose() * Y).norm() <= 1e-13 * whole.norm() * Y.norm());
    }
  }
}

TEST_CASE("what a BLAST matrix can be", "[factor]") {
  Random random(62);
  // Low rank: all couplings are 1.
  const BlastSizes sizes{3, 4, 5, 6, 7};
  const Vector<double> B = blast_values(random, 15 * 7);
  const Vector<double> C = blast_values(random, 24 * 7);
  Matrix<double> V(7, 24);
  for (Index j = 0; j < 4; ++j)
    for (Index e = 0; e < 7; ++e)
      for (Index k = 0; k < 6; ++k) V(e, j * 6 + k) = C((j * 7 + e) * 6 + k);
  const Matrix<double> Ut = Eigen::Map<const Matrix<double>>(B.data(), 7, 15);
  const auto low = Blast<double>::from_factors(B, C, Vector<double>::Ones(12 * 7), sizes);
  CHECK((low.to_dense() - Ut.transpose() * V).norm() <= 1e-13 * V.norm());
  // A rank of 2 of its own in each of 3 x 3 blocks, by groups in a Latin square: rank 6.
  constexpr Index b = 3;
  constexpr Index t = 2;
  const BlastSizes square{b, b, 5, 4, b * t};
  const Vector<double> left = blast_values(random, b * 5 * b * t);
  const Vector<double> right = blast_values(random, b * b * t * 4);
  Vector<double> coupling = Vector<double>::Zero(b * b * b * t);
  Matrix<double> W(b * 5, b * 4);
  for (Index i = 0; i < b; ++i)
    for (Index j = 0; j < b; ++j) {
      const Index group = (i + j) % b;
      Matrix<double> block = Matrix<double>::Zero(5, 4);
      for (Index e = group * t; e < (group + 1) * t; ++e) {
        coupling((i * b + j) * b * t + e) = 1;
        for (Index l = 0; l < 5; ++l)
          for (Index k = 0; k < 4; ++k)
            block(l, k) += left((i * 5 + l) * b * t + e) * right((j * b * t + e) * 4 + k);
      }
      W.block(i * 5, j * 4, 5, 4) = block;
    }
  const auto latin = Blast<double>::from_factors(left, right, coupling, square);
  CHECK((latin.to_dense() - W).norm() <= 1e-13 * W.norm());
  // And blocks on the diagonal, each of which takes all of the rank.
  Vector<double> diagonal = Vector<double>::Zero(b * b * b * t);
  for (Index i = 0; i < b; ++i) diagonal.segment((i * b + i) * b * t, b * t).setOnes();
  const Matrix<double> D = Blast<double>::from_factors(left, right, diagonal, square).to_dense();
  for (Index i = 0; i < b; ++i)
    for (Index j = 0; j < b; ++j) CHECK(D.block(i * 5, j * 4, 5, 4).isZero(0) == (i != j));
}

TEST_CASE("a BLAST matrix in one line, and in narrow storage", "[factor]") {
  Random random(63);
  const BlastSizes sizes{2, 2, 4, 3, 5};
  const Vector<float> B = random.matrix<float>(40, 1);
  const Vector<float> C = random.matrix<float>(30, 1);
  const Vector<float> D = random.matrix<float>(20, 1);
  const auto op = Blast<float>::from_factors(B, C, D, sizes);
  CHECK(describe(op) == "Blast 8 x 6, 2 x 2 blocks, rank 5, f32, 360 bytes, 187.5 % of dense");
  const Matrix<float> W = op.to_dense();
  for (const Storage storage :
       {Storage::bf16, Storage::f16, Storage::int8, Storage::int4, Storage::int3, Storage::int2}) {
    const auto narrow = Blast<float>::from_factors(B, C, D, sizes, storage);
    const float most = storage == Storage::int2   ? 0.8F
                       : storage == Storage::int3 ? 0.5F
                       : storage == Storage::int4 ? 0.3F
                                                  : 0.03F;
    CHECK(narrow.left().storage() == storage);
    CHECK(narrow.right().storage() == storage);
    CHECK(narrow.coupling().storage() == (storage == Storage::f16 ? Storage::f16 : Storage::bf16));
    CHECK((narrow.to_dense() - W).norm() <= most * W.norm());
    CHECK(narrow.parameters() ==
          "2 x 2 blocks, rank 5, stored as " + std::string(to_string(storage)));
  }
}

TEST_CASE("weights of a BLAST layer that are none", "[factor]") {
  const auto refused = [](const BlastSizes& sizes, Index of_B, Index of_C, Index of_D) {
    return Blast<float>::from_factors(Vector<float>::Ones(of_B), Vector<float>::Ones(of_C),
                                      Vector<float>::Ones(of_D), sizes);
  };
  CHECK_NOTHROW(refused({2, 3, 4, 5, 6}, 48, 90, 36));
  CHECK_THROWS_WITH(refused({2, 3, 4, 5, 6}, 47, 90, 36),
                    Contains("2 x 4 x 6") && Contains("3 x 6 x 5") && Contains("2 x 3 x 6") &&
                        Contains("not of 47, 90 and 36 values"));
  CHECK_THROWS_WITH(refused({2, 3, 4, 5, 6}, 48, 91, 36), Contains("not of 48, 91 and 36"));
  CHECK_THROWS_WITH(refused({2, 3, 4, 5, 6}, 48, 90, 0), Contains("not of 48, 90 and 0"));
  CHECK_THROWS_WITH(refused({2, 3, 4, 5, 0}, 0, 0, 0), Contains("below 1"));
  CHECK_THROWS_WITH(refused({2, 3, 4, Index{1} << 40, 6}, 48, 90, 36), Contains("above 2^20"));
  CHECK_THROWS_WITH(refused({2, 3, 4, 5, 6, 9, 0}, 48, 90, 36),
                    Contains("8 x 15") && Contains("no 9 x 0 corner"));
  CHECK_THROWS_WITH(refused({2, 3, 4, 5, 6, 0, -1}, 48, 90, 36), Contains("no 0 x -1 corner"));
}

TEST_CASE("a BLAST matrix refuses what is none", "[factor]") {
  const auto brick = [](Index rows, Index cols, KroneckerPattern pattern) {
    return KroneckerSparse<float>(Matrix<float>::Zero(rows, cols), pattern);
  };
  const auto U = brick(8, 12, {2, 4, 6, 1});  // 2 x 3 blocks of rank 6
  const auto S = brick(12, 18, {1, 2, 3, 6});
  const auto V = brick(18, 15, {3, 6, 5, 1});
  CHECK_NOTHROW(Blast<float>(U, S, V));
  CHECK_THROWS_WITH(Blast<float>(U, brick(11, 18, {1, 2, 3, 6}), V),
                    Contains("8 x 12") && Contains("11 x 18"));
  CHECK_THROWS_WITH(Blast<float>(brick(8, 12, {2, 2, 3, 2}), S, V),
                    Contains("left") && Contains("(2, 2, 3, 2)") && Contains("not block-diagonal"));
  CHECK_THROWS_WITH(Blast<float>(U, S, brick(18, 15, {3, 3, 3, 2})),
                    Contains("right") && Contains("(3, 3, 3, 2)"));
  CHECK_THROWS_WITH(Blast<float>(U, brick(12, 18, {2, 1, 3, 6}), V),
                    Contains("(2, 1, 3, 6)") && Contains("2 blocks, not 1"));
  CHECK_THROWS_WITH(Blast<float>(brick(8, 12, {4, 2, 3, 1}), S, V),
                    Contains("3 by the left") && Contains("6 by the coupling"));
  CHECK_THROWS_WITH(Blast<float>(U, S, brick(18, 15, {2, 9, 8, 1})), Contains("9 by the right"));
  CHECK_THROWS_WITH(Blast<float>(brick(8, 12, {3, 4, 6, 1}), S, V),
                    Contains("2 x 3 blocks") && Contains("3 rows of them"));
  CHECK_THROWS_WITH(Blast<float>(U, S, brick(18, 15, {4, 6, 5, 1})), Contains("4 columns"));
  // Of 12 columns no more than 11, on both sides.
  CHECK_THROWS_WITH(Blast<float>(brick(8, 11, {2, 4, 6, 1}), brick(11, 18, {1, 2, 3, 6}), V),
                    Contains("11 columns of 12"));
}

TEST_CASE("the parts of a BLAST matrix are checked", "[factor]") {
  Random random(64);
  const Vector<float> B = random.matrix<float>(40, 1);
  const Vector<float> C = random.matrix<float>(30, 1);
  const Vector<float> D = random.matrix<float>(20, 1);
  const auto op = Blast<float>::from_factors(B, C, D, {2, 2, 4, 3, 5});
  Parts parts = op.parts();
  CHECK(parts.structure == "Blast");
  CHECK(Blast<float>::from_parts(parts).to_dense() == op.to_dense());
  parts.children["left"] = op.right().parts();
  CHECK_THROWS_AS(Blast<float>::from_parts(parts), std::invalid_argument);
  parts.children.erase("left");
  CHECK_THROWS_AS(Blast<float>::from_parts(parts), std::invalid_argument);
}

}  // namespace pleat::test
