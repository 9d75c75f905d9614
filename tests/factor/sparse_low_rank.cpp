// SPDX-License-Identifier: MIT
// Sparse plus low rank as a structure: its three kinds, what they store, and what does not fit.
#include "pleat/factor/sparse_low_rank.hpp"

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/rotated.hpp"

#include <cstddef>
#include <string>
#include <utility>

namespace pleat::test {
namespace {

template <Real T>
LowRank<T> some_factors(Random& random, Index rows, Index rank, Index cols) {
  const Matrix<T> U = random.matrix<T>(rows, rank);
  const Matrix<T> V = random.matrix<T>(rank, cols);
  return {Dense<T>(U), Dense<T>(V)};
}

template <Real T>
Matrix<T> three_of_eight(Random& random, Index rows, Index cols) {
  Matrix<T> W = random.matrix<T>(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      if ((i + j) % 8 >= 3) W(i, j) = 0;
  return W;
}

/// Columns 1 and 4 of six.
template <Real T>
Matrix<T> selection_of_two() {
  Matrix<T> P = Matrix<T>::Zero(2, 6);
  P(0, 1) = P(1, 4) = 1;
  return P;
}

template <class S>
std::string refusal_of(const S& sparse, const LowRank<float>& factors) {
  try {
    const SparseLowRank<float> op(sparse, factors);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEMPLATE_TEST_CASE("SparseLowRank is the sum of its parts", "[factor]", float, double) {
  using T = TestType;
  static_assert(LinearOperator<SparseLowRank<T>>);
  Random random(411);
  const Matrix<T> pruned = three_of_eight<T>(random, 7, 6);
  const Matrix<T> dense = random.matrix<T>(7, 2);
  const Matrix<T> P = selection_of_two<T>();
  Matrix<T> columns = Matrix<T>::Zero(7, 6);
  columns.col(1) = dense.col(0);
  columns.col(4) = dense.col(1);
  for (const Index rank : {0, 1, 3}) {
    CAPTURE(rank);
    const LowRank<T> factors = some_factors<T>(random, 7, rank, 6);
    const std::size_t low = sizeof(T) * 13 * static_cast<std::size_t>(rank);
    const auto check = [&](const SparseLowRank<T>& op, SparseKind kind, const Matrix<T>& S,
                           std::size_t bytes, double flops) {
      CHECK(op.kind() == kind);
      CHECK(op.rows() == 7);
      CHECK(op.cols() == 6);
      CHECK(op.rank() == rank);
      CHECK(op.bytes() == bytes + low);
      CHECK(op.flops() == flops + 26.0 * static_cast<double>(rank));
      CHECK(difference(op.sparse_part(), S) == "");
      const Matrix<T> sum = S + factors.to_dense();
      CHECK((op.to_dense() - sum).cwiseAbs().maxCoeff() <= 8 * Eigen::NumTraits<T>::epsilon());
      const auto again = SparseLowRank<T>::from_parts(op.parts());
      CHECK(difference(again.to_dense(), op.to_dense()) == "");
      CHECK(describe(again) == describe(op));
      CHECK(again.kind() == kind);
      CHECK(!op.rotation().has_value());
      check_rotated(op);
    };
    const SemiStructured<T> semi(pruned, SparsePattern{3, 8}, Places::masks);
    check({semi, factors}, SparseKind::semi_structured, pruned, semi.bytes(), semi.flops());
    const Csr<T> csr(pruned);
    check({csr, factors}, SparseKind::csr, pruned, csr.bytes(), csr.flops());
    check({Product<Dense<T>, Csr<T>>(Dense<T>(dense), Csr<T>(P)), factors}, SparseKind::columns,
          columns, sizeof(T) * 14 + 2 * (sizeof(T) + 2) + 24, 28 + 4);
  }
}

TEST_CASE("describe tells the sparse part and the rank", "[factor]") {
  Random random(412);
  const Matrix<float> W = three_of_eight<float>(random, 16, 64);
  const auto factors = some_factors<float>(random, 16, 2, 64);
  CHECK(describe(SparseLowRank<float>(SemiStructured<float>(W, {3, 8}), factors)) ==
        "SparseLowRank 16 x 64, 3:8 + rank 2, f32, 2320 bytes, 56.6 % of dense");
  const SemiStructured<float> masks(W, SparsePattern{3, 8}, Places::masks);
  CHECK(SparseLowRank<float>(masks, factors).parameters() == "3:8 by masks + rank 2");
  CHECK(SparseLowRank<float>(Csr<float>(W), factors).parameters() == "384 nonzeros + rank 2");
  const Matrix<float> one = random.matrix<float>(16, 1);
  Matrix<float> P = Matrix<float>::Zero(1, 64);
  P(0, 63) = 1;
  CHECK(SparseLowRank<float>(Product<Dense<float>, Csr<float>>(Dense<float>(one), Csr<float>(P)),
                             factors)
            .parameters() == "1 column + rank 2");
}

TEST_CASE("both parts of a SparseLowRank in narrow storage see inputs that are rotated once",
          "[factor]") {
  Random random(414);
  const Dense<float> U(random.matrix<float>(40, 33), Storage::int8);
  const Dense<float> V(random.matrix<float>(33, 128), Storage::int8);
  const SparseLowRank<float> op(
      SemiStructured<float>(three_of_eight<float>(random, 40, 128), {3, 8}, Storage::int8),
      LowRank<float>(U, V));
  check_rotated(op);
  const auto H = Hadamard<float>::with_random_signs(128, 64, 1);
  CHECK(op.rotated(H).factors().to_dense() == op.factors().to_dense());
  CHECK(op.rotated(H).sparse_part() == op.sparse_part());
  CHECK(op.rotated(H).rotation()->to_dense() == H.to_dense());
  // As it is rounded, so it stays rotated.
  const Matrix<float> X = random.matrix<float>(128, 3);
  Matrix<float> turned(128, 3);
  H.apply(X, turned);
  Matrix<float> expected(40, 3);
  op.with_activations(Activations::int8).apply(turned, expected);
  Matrix<float> Y(40, 3);
  op.rotated(H).with_activations(Activations::int8).apply(X, Y);
  CHECK(Y == expected);
}

TEST_CASE("sparse parts that do not fit, and selections that are none, throw", "[factor]") {
  using Catch::Contains;
  using Columns = SparseLowRank<float>::Columns;
  Random random(413);
  const auto factors = some_factors<float>(random, 7, 2, 6);
  const Csr<float> wide(three_of_eight<float>(random, 7, 8));
  CHECK_THAT(refusal_of(wide, factors), Contains("7 x 8") && Contains("7 x 6"));
  const Dense<float> kept(random.matrix<float>(7, 2));
  Matrix<float> P = selection_of_two<float>();
  CHECK(refusal_of(Columns(kept, Csr<float>(P)), factors) == "");
  P(1, 4) = 2;
  CHECK_THAT(refusal_of(Columns(kept, Csr<float>(P)), factors), Contains("row 1"));
  P(1, 4) = 0;
  CHECK_THAT(refusal_of(Columns(kept, Csr<float>(P)), factors), Contains("row 1"));
  P(1, 0) = 1;  // before that of row 0
  CHECK_THAT(refusal_of(Columns(kept, Csr<float>(P)), factors),
             Contains("row 1") && Contains("column 0, after column 1"));
  P(0, 5) = 1;
  CHECK_THAT(refusal_of(Columns(kept, Csr<float>(P)), factors), Contains("row 0"));

  Parts parts = SparseLowRank<float>(wide, some_factors<float>(random, 7, 2, 8)).parts();
  CHECK(parts.structure == "SparseLowRank");
  CHECK(parts.children.size() == 3);
  parts.children.erase("S");
  CHECK_THROWS_AS(SparseLowRank<float>::from_parts(parts), std::invalid_argument);
}

}  // namespace pleat::test
