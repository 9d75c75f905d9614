// SPDX-License-Identifier: MIT
// The block dictionary: its codes, its dictionaries, and what it refuses.
#include "pleat/factor/block_dictionary.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/rotated.hpp"

#include <string>

namespace pleat::test {
namespace {

using Catch::Contains;

/// Codes of ones, the first of three atoms in each of two blocks.
RowSparse<float> ones(Index rows) {
  Matrix<float> C = Matrix<float>::Zero(rows, 6);
  C.col(0).setOnes();
  C.col(3).setOnes();
  return {C, 2};
}

/// Blocks of 4 columns and 3.
KroneckerSparse<float> dictionaries(Random& random) {
  Matrix<float> D = random.matrix<float>(6, 7);
  D.topRightCorner(3, 3).setZero();
  D.bottomLeftCorner(3, 4).setZero();
  return {D, {2, 3, 4, 1}};
}

}  // namespace

TEST_CASE("a block dictionary is its codes times its dictionaries", "[factor]") {
  static_assert(LinearOperator<BlockDictionary<float>>);
  Random random(91);
  const auto D = dictionaries(random);
  const BlockDictionary<float> op(ones(5), D);
  CHECK(op.rows() == 5);
  CHECK(op.cols() == 7);
  CHECK(op.block() == 4);
  CHECK(op.blocks() == 2);
  CHECK(op.atoms() == 3);
  CHECK(op.nonzeros() == 1);
  CHECK(op.bytes() == 5 * (2 * 4 + 1) + 4 * 3 * 7);
  CHECK(op.flops() == 2 * (5 * 2 + 3 * 7));
  CHECK(describe(op) ==
        "BlockDictionary 5 x 7, blocks of 4, 1 of 3 atoms a row, f32, 129 bytes, 92.1 % of dense");
  const Matrix<float> dense = D.to_dense();
  for (Index i = 0; i < 5; ++i) CHECK(op.to_dense().row(i) == dense.row(0) + dense.row(3));
}

TEST_CASE("a block dictionary of N:M codes", "[factor]") {
  Random random(94);
  Matrix<float> C = Matrix<float>::Zero(5, 16);
  for (Index i = 0; i < 5; ++i) C(i, i) = C(i, 7 - i) = C(i, 8 + i) = 1;
  Matrix<float> D = random.matrix<float>(16, 7);
  D.topRightCorner(8, 3).setZero();
  D.bottomLeftCorner(8, 4).setZero();
  const KroneckerSparse<float> dictionaries(D, {2, 8, 4, 1});
  const BlockDictionary<float> op(SemiStructured<float>(C, {3, 8}), dictionaries);
  CHECK(op.atoms() == 8);
  CHECK(op.nonzeros() == 3);
  CHECK(op.blocks() == 2);
  CHECK((op.to_dense() - C * D).norm() <= 1e-6F);
  CHECK(op.bytes() == 5 * (6 * 4 + 3) + 4 * 8 * 7);
  CHECK(op.codes().get_if<RowSparse<float>>() == nullptr);
  Parts parts = op.parts();
  CHECK(parts.child("codes").structure == "SemiStructured");
  CHECK(BlockDictionary<float>::from_parts(parts).to_dense() == op.to_dense());
  parts.children["codes"].structure = "Csr";
  CHECK_THROWS_WITH(BlockDictionary<float>::from_parts(parts),
                    Contains("Csr") && Contains("SemiStructured or RowSparse"));
  // Groups of 4 over dictionaries of 8 atoms.
  CHECK_THROWS_WITH(BlockDictionary<float>(
                        SemiStructured<float>(Matrix<float>::Zero(5, 16), {2, 4}), dictionaries),
                    Contains("2:4") && Contains("8 atoms"));
  const auto narrow =
      BlockDictionary<float>(SemiStructured<float>(C, {3, 8}, Storage::int8), dictionaries);
  CHECK_THAT(describe(narrow), Contains("stored as int8"));
  check_rotated(narrow);
}

TEST_CASE("a block dictionary refuses what is none", "[factor]") {
  Random random(92);
  CHECK_THROWS_WITH(
      BlockDictionary<float>(RowSparse<float>(Matrix<float>::Zero(5, 8), 2), dictionaries(random)),
      Contains("5 x 8") && Contains("6 x 7"));
  CHECK_THROWS_WITH(
      BlockDictionary<float>(RowSparse<float>(Matrix<float>::Zero(5, 6), 3), dictionaries(random)),
      Contains("3 entries") && Contains("2 blocks"));
  Matrix<float> C = ones(5).to_dense();
  C(3, 1) = C(3, 0);  // the first block of row 3 has both entries
  C(3, 3) = 0;
  CHECK_THROWS_WITH(BlockDictionary<float>(RowSparse<float>(C, 2), dictionaries(random)),
                    Contains("row 3") && Contains("1 entries"));
  C = ones(5).to_dense();
  C(4, 5) = C(4, 3);
  C(4, 0) = C(4, 3) = 0;  // RowSparse stores a zero in column 0, where a block lacks an entry
  CHECK_NOTHROW(BlockDictionary<float>(RowSparse<float>(C, 2), dictionaries(random)));
  const KroneckerSparse<float> lacking(Matrix<float>::Zero(5, 7), {2, 3, 4, 1});
  CHECK_THROWS_WITH(BlockDictionary<float>(RowSparse<float>(Matrix<float>::Zero(5, 5), 2), lacking),
                    Contains("5 columns") && Contains("2 blocks with 3 atoms"));
  CHECK_NOTHROW(
      BlockDictionary<float>(RowSparse<float>(Matrix<float>::Zero(5, 6), 0), dictionaries(random)));
  const KroneckerSparse<float> level(Matrix<float>::Zero(6, 7), {1, 3, 4, 2});
  CHECK_THROWS_WITH(BlockDictionary<float>(ones(5), level),
                    Contains("(1, 3, 4, 2)") && Contains("block-diagonal"));
}

TEST_CASE("the parts of a block dictionary are checked", "[factor]") {
  Random random(93);
  const BlockDictionary<float> op(ones(5), dictionaries(random));
  Parts parts = op.parts();
  CHECK(parts.structure == "BlockDictionary");
  CHECK(BlockDictionary<float>::from_parts(parts).to_dense() == op.to_dense());
  parts.children["codes"] = RowSparse<float>(Matrix<float>::Zero(5, 6), 1).parts();
  CHECK_THROWS_AS(BlockDictionary<float>::from_parts(parts), std::invalid_argument);
  parts.children["codes"] = RowSparse<float>(Matrix<float>::Zero(5, 6), 2).parts();
  CHECK_THROWS_WITH(BlockDictionary<float>::from_parts(parts), Contains("row 0"));
  parts.children.erase("codes");
  CHECK_THROWS_AS(BlockDictionary<float>::from_parts(parts), std::invalid_argument);
}

}  // namespace pleat::test
