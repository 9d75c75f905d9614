// SPDX-License-Identifier: MIT
// CUR: its factors, its indices, and what it refuses.
#include "pleat/factor/cur.hpp"

#include "support/catch.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

Cur<float> cur_of(std::vector<Index> columns, std::vector<Index> rows) {
  return {Dense<float>(Matrix<float>::Ones(5, 2)), Dense<float>(Matrix<float>::Ones(2, 3)),
          Dense<float>(Matrix<float>::Ones(3, 7)), std::move(columns), std::move(rows)};
}

}  // namespace

TEMPLATE_TEST_CASE("CUR is its factors, and knows which columns and rows they are", "[factor]",
                   float, double) {
  using T = TestType;
  static_assert(LinearOperator<Cur<T>>);
  Random random(95);
  const Matrix<T> C = random.matrix<T>(9, 3);
  const Matrix<T> U = random.matrix<T>(3, 2);
  const Matrix<T> R = random.matrix<T>(2, 7);
  const Cur<T> op(Dense<T>(C), Dense<T>(U), Dense<T>(R), {4, 0, 6}, {8, 1});
  CHECK(op.rows() == 9);
  CHECK(op.cols() == 7);
  CHECK(op.columns() == std::vector<Index>{4, 0, 6});
  CHECK(op.rows_of_weight() == std::vector<Index>{8, 1});
  CHECK(difference(op.C().to_dense(), C) == "");
  CHECK(difference(op.U().to_dense(), U) == "");
  CHECK(difference(op.R().to_dense(), R) == "");
  CHECK(op.bytes() == sizeof(T) * (27 + 6 + 14) + 2 * 5);
  CHECK(op.bytes() == Cur<T>::stored_bytes(9, 7, 3, 2));
  CHECK(op.flops() == 2.0 * (27 + 6 + 14));
  CHECK(op.structure() == "Cur");
  CHECK(op.parameters() == "3 columns, 2 rows");
  const Reference<T> exact(Oracle<T>(C) * (Oracle<T>(U) * Oracle<T>(R)), Matrix<T>::Identity(7, 7));
  CHECK(beyond(op.to_dense(), exact.exact, exact.bound) == "");
  // What was moved from stays as it was.
  Cur<T> from = op;
  const Cur<T> to = std::move(from);
  CHECK(from.columns() == to.columns());  // NOLINT
  CHECK(from.to_dense() == op.to_dense());
}

TEST_CASE("CUR in words, and its indices in bytes", "[factor]") {
  CHECK(describe(cur_of({1, 2}, {0, 3, 4})) ==
        "Cur 5 x 7, 2 columns, 3 rows, f32, 158 bytes, 112.9 % of dense");
  // Four bytes an index where two do not count the columns, or the rows.
  CHECK(Cur<float>::stored_bytes(10, 65536, 1, 1) == 4 * (10 + 1 + 65536) + 4);
  CHECK(Cur<float>::stored_bytes(10, 65537, 1, 1) == 4 * (10 + 1 + 65537) + 6);
  CHECK(Cur<float>::stored_bytes(65537, 65537, 1, 2) == 4 * (65537 + 2 + 2 * 65537) + 12);
  CHECK(Cur<float>::stored_bytes(10, 64, 2, 3, Storage::bf16) ==
        2 * 10 * 2 + 4 * 6 + 2 * 3 * 64 + 2 * 5);
  const Cur<float> wide(Dense<float>(Matrix<float>::Ones(2, 1)),
                        Dense<float>(Matrix<float>::Ones(1, 1)),
                        Dense<float>(Matrix<float>::Ones(1, 70000)), {69999}, {1});
  CHECK(wide.bytes() == 4 * (2 + 1 + 70000) + 6);
  CHECK(wide.parts().tensor("columns").type == DataType::u32);
  CHECK(wide.parts().tensor("rows").type == DataType::u16);
  CHECK(Cur<float>::from_parts(wide.parts()).columns() == std::vector<Index>{69999});
}

TEST_CASE("CUR refuses what is none", "[factor]") {
  CHECK_NOTHROW(cur_of({6, 0}, {4, 0, 1}));
  CHECK_THROWS_WITH(cur_of({6}, {4, 0, 1}), Contains("1 indices") && Contains("2 columns"));
  CHECK_THROWS_WITH(cur_of({6, 0}, {4, 0}), Contains("2 indices") && Contains("3 rows"));
  CHECK_THROWS_WITH(cur_of({7, 0}, {4, 0, 1}), Contains("no column 7 among 7"));
  CHECK_THROWS_WITH(cur_of({-1, 0}, {4, 0, 1}), Contains("no column -1"));
  CHECK_THROWS_WITH(cur_of({6, 0}, {4, 5, 1}), Contains("no row 5 among 5"));
  CHECK_THROWS_WITH(cur_of({6, 6}, {4, 0, 1}), Contains("column 6 is there twice"));
  CHECK_THROWS_WITH(cur_of({6, 0}, {1, 0, 1}), Contains("row 1 is there twice"));
  CHECK_THROWS_WITH(
      Cur<float>(Dense<float>(Matrix<float>::Ones(5, 2)), Dense<float>(Matrix<float>::Ones(3, 3)),
                 Dense<float>(Matrix<float>::Ones(3, 7)), {0, 1}, {0, 1, 2}),
      Contains("5 x 2") && Contains("3 x 3"));
}

TEST_CASE("the parts of CUR are checked", "[factor]") {
  const Cur<float> op = cur_of({6, 0}, {4, 0, 1});
  const Parts parts = op.parts();
  CHECK(parts.structure == "Cur");
  const Cur<float> again = Cur<float>::from_parts(parts);
  CHECK(again.to_dense() == op.to_dense());
  CHECK(again.columns() == op.columns());
  CHECK(again.rows_of_weight() == op.rows_of_weight());
  for (const char* name : {"columns", "rows"}) {
    Parts broken = parts;
    broken.tensors.erase(name);
    CHECK_THROWS_WITH(Cur<float>::from_parts(broken), Contains(name));
    broken = parts;
    broken.tensors[name].type = DataType::u32;
    CHECK_THROWS_AS(Cur<float>::from_parts(broken), std::invalid_argument);
    broken = parts;
    broken.tensors[name].shape = {1, broken.tensors[name].shape[0]};
    CHECK_THROWS_WITH(Cur<float>::from_parts(broken), Contains("2 dimensions"));
    broken = parts;
    broken.tensors[name].shape = {std::int64_t{1} << 40};
    CHECK_THROWS_AS(Cur<float>::from_parts(broken), std::invalid_argument);
    broken = parts;
    broken.tensors[name].data.assign(broken.tensors[name].data.size(), std::byte{0});
    CHECK_THROWS_WITH(Cur<float>::from_parts(broken), Contains("twice"));
    broken = parts;
    broken.tensors[name].data[1] = std::byte{1};
    CHECK_THROWS_WITH(Cur<float>::from_parts(broken), Contains("among"));
  }
  for (const char* name : {"C", "U", "R"}) {
    Parts broken = parts;
    broken.children.erase(name);
    CHECK_THROWS_WITH(Cur<float>::from_parts(broken), Contains(name));
  }
}

}  // namespace pleat::test
