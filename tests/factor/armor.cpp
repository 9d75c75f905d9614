// SPDX-License-Identifier: MIT
// ARMOR's structure: its three factors, what they store, and which of them fit together.
#include "pleat/factor/armor.hpp"

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/rotated.hpp"

#include <array>
#include <cstddef>
#include <string>

namespace pleat::test {
namespace {

/// Square, with blocks of `size` on its diagonal.
template <Real T>
KroneckerSparse<T> wrapper(Random& random, Index rows, Index size) {
  Matrix<T> W = random.matrix<T>(rows, rows);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < rows; ++j)
      if (i / size != j / size) W(i, j) = 0;
  return KroneckerSparse<T>(W, KroneckerPattern::block_diagonal(rows, rows, size, size));
}

template <Real T>
Matrix<T> pruned(Random& random, Index rows, Index cols) {
  Matrix<T> W = random.matrix<T>(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      if ((i + j) % 4 >= 2) W(i, j) = 0;
  return W;
}

std::string message_of(const KroneckerSparse<float>& A, const SemiStructured<float>& S,
                       const KroneckerSparse<float>& B) {
  try {
    const Armor<float> op(A, S, B);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEMPLATE_TEST_CASE("ARMOR is its factors", "[factor]", float, double) {
  using T = TestType;
  static_assert(LinearOperator<Armor<T>>);
  Random random(86);
  // The last block is whole, or smaller, or the only one.
  for (const auto& [m, n, b, c] :
       {std::array<Index, 4>{1, 1, 1, 1}, {12, 20, 4, 5}, {13, 23, 4, 16}, {3, 40, 3, 7}}) {
    CAPTURE(m, n, b, c);
    const auto A = wrapper<T>(random, m, b);
    const auto S = pruned<T>(random, m, n);
    const auto B = wrapper<T>(random, n, c);
    const Armor<T> op(A, SemiStructured<T>(S), B);
    CHECK(op.rows() == m);
    CHECK(op.cols() == n);
    CHECK(op.block_rows() == b);
    CHECK(op.block_cols() == c);
    CHECK(difference(op.A().to_dense(), A.to_dense()) == "");
    CHECK(difference(op.S().to_dense(), S) == "");
    CHECK(difference(op.B().to_dense(), B.to_dense()) == "");
    const auto stored = [](Index size, Index block) {  // values on a diagonal of blocks
      return size / block * block * block + (size % block) * (size % block);
    };
    const Index groups = (n + 3) / 4;
    CHECK(op.bytes() ==
          static_cast<std::size_t>(stored(m, b) + stored(n, c) + 2 * m * groups) * sizeof(T) +
              static_cast<std::size_t>(m * ((groups + 1) / 2)));
    CHECK(op.flops() == static_cast<double>(2 * (stored(m, b) + stored(n, c)) + 4 * m * groups));
    CHECK(op.structure() == "Armor");
    CHECK(op.parameters() ==
          "blocks of " + std::to_string(b) + " and " + std::to_string(c) + ", 2:4");
    const Reference<T> exact(Oracle<T>(A.to_dense()) * (Oracle<T>(S) * Oracle<T>(B.to_dense())),
                             Matrix<T>::Identity(n, n));
    CHECK(beyond(op.to_dense(), exact.exact, exact.bound) == "");
  }
}

TEST_CASE("describe tells the blocks and the storage of ARMOR", "[factor]") {
  Random random(87);
  const Armor<float> op(wrapper<float>(random, 16, 8),
                        SemiStructured<float>(pruned<float>(random, 16, 64), Storage::int8),
                        wrapper<float>(random, 64, 4));
  CHECK(describe(op) ==
        "Armor 16 x 64, blocks of 8 and 4, 2:4, stored as int8, f32, 2240 bytes, 54.7 % of dense");
}

TEST_CASE("wrappers that are none, or do not meet S, throw", "[factor]") {
  using Catch::Contains;
  Random random(88);
  const auto A = wrapper<float>(random, 6, 2);
  const SemiStructured<float> S(pruned<float>(random, 6, 8));
  const auto B = wrapper<float>(random, 8, 4);
  CHECK(message_of(A, S, B) == "");
  CHECK_THAT(message_of(B, S, B), Contains("8 x 8") && Contains("6 x 8"));
  CHECK_THAT(message_of(A, S, A), Contains("6 x 8") && Contains("6 x 6"));
  const Matrix<float> zero = Matrix<float>::Zero(8, 8);
  CHECK_THAT(message_of(A, S, KroneckerSparse<float>(zero, {1, 4, 4, 2})),
             Contains("B, a 8 x 8 matrix of the pattern (1, 4, 4, 2)"));
  CHECK_THAT(message_of(A, S, KroneckerSparse<float>(zero, {4, 2, 4, 1})),
             Contains("(4, 2, 4, 1)"));
  CHECK_THAT(message_of(KroneckerSparse<float>(zero.topRows(6), {2, 4, 4, 1}), S, B),
             Contains("A, a 6 x 8"));
}

TEST_CASE("the parts of ARMOR are A, S and B, which are checked", "[factor]") {
  Random random(89);
  for (const Storage storage : {Storage::f32, Storage::int8}) {
    const Armor<float> op(wrapper<float>(random, 5, 2),
                          SemiStructured<float>(pruned<float>(random, 5, 8), storage),
                          wrapper<float>(random, 8, 3));
    Parts parts = op.parts();
    CHECK(parts.structure == "Armor");
    CHECK(parts.children.size() == 3);
    const auto again = Armor<float>::from_parts(parts);
    CHECK(difference(again.to_dense(), op.to_dense()) == "");
    CHECK(describe(again) == describe(op));
    check_rotated(op);
    parts.children["A"] = parts.child("B");  // 8 x 8 before 5 x 8
    CHECK_THROWS_AS(Armor<float>::from_parts(parts), std::invalid_argument);
    parts = op.parts();
    parts.children["A"].attributes["d"] = "2";
    CHECK_THROWS_AS(Armor<float>::from_parts(parts), std::invalid_argument);
    parts = op.parts();
    parts.children.erase("S");
    CHECK_THROWS_AS(Armor<float>::from_parts(parts), std::invalid_argument);
  }
}

}  // namespace pleat::test
