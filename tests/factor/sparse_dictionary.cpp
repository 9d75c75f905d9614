// SPDX-License-Identifier: MIT
// The sparse dictionary: codes, in groups or free, times a dictionary.
#include "pleat/factor/sparse_dictionary.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/rotated.hpp"

#include <stdexcept>
#include <string>

namespace pleat::test {

using Catch::Contains;

TEST_CASE("a sparse dictionary is its codes times its dictionary", "[factor]") {
  static_assert(LinearOperator<SparseDictionary<float>>);
  Random random(921);
  const Matrix<float> D = random.matrix<float>(11, 7);
  Matrix<float> C = Matrix<float>::Zero(5, 11);
  for (Index i = 0; i < 5; ++i) C(i, i) = C(i, 10 - i) = C(i, 9) = 1;
  const SparseDictionary<float> groups(SemiStructured<float>(C, {3, 8}), Dense<float>(D));
  CHECK(groups.rows() == 5);
  CHECK(groups.cols() == 7);
  CHECK(groups.atoms() == 11);
  CHECK(groups.nonzeros() == 3 + 3);
  CHECK(groups.to_dense().isApprox(C * D));
  CHECK(groups.bytes() == SemiStructured<float>(C, {3, 8}).bytes() + 4 * 11 * 7);
  CHECK(groups.flops() == 2 * (5 * 6 + 11 * 7));
  CHECK(groups.parameters() == "11 atoms, 3:8 a row");

  const SparseDictionary<float> free(RowSparse<float>(C, 3), Dense<float>(D));
  CHECK(free.nonzeros() == 3);
  CHECK(free.to_dense() == groups.to_dense());
  CHECK(free.bytes() == 5 * (3 * 4 + 2) + 4 * 11 * 7);
  CHECK(describe(free) ==
        "SparseDictionary 5 x 7, 11 atoms, 3 a row, f32, 378 bytes, 270.0 % of dense");

  const SparseDictionary<float> narrow(SemiStructured<float>(C, {3, 8}, Storage::int8),
                                       Dense<float>(D, Storage::int8));
  CHECK(narrow.parameters() == "11 atoms, 3:8 a row, stored as int8");
  check_rotated(narrow);
  CHECK_THROWS_WITH(groups.rotated(Hadamard<float>(7)),
                    Contains("Dense: a rotation is for narrow storage"));
}

TEST_CASE("a sparse dictionary refuses factors that do not fit, and parts of others", "[factor]") {
  Random random(922);
  const Dense<float> D(random.matrix<float>(6, 4));
  CHECK_THROWS_AS(SparseDictionary<float>(RowSparse<float>(Matrix<float>::Zero(3, 5), 2), D),
                  std::invalid_argument);
  const SparseDictionary<float> op(RowSparse<float>(Matrix<float>::Zero(3, 6), 2), D);
  Parts parts = op.parts();
  CHECK(parts.structure == "SparseDictionary");
  CHECK(SparseDictionary<float>::from_parts(parts).to_dense() == op.to_dense());
  parts.children["codes"] = D.parts();
  CHECK_THROWS_WITH(SparseDictionary<float>::from_parts(parts),
                    Contains("a part is a \"Dense\", not SemiStructured or RowSparse"));
}

}  // namespace pleat::test
