// SPDX-License-Identifier: MIT
// The brick of equally many entries a row: its two encodings, its refusals, and its products.
#include "pleat/matrix/row_sparse.hpp"

#include "matrix/sparse.hpp"
#include "pleat/matrix/csr.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/oracle.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace pleat::test {
namespace {

/// Numbers of entries for rows of so many columns: densities 0, 1 %, 10 %, 50 % and 100 %.
std::vector<Index> entries_for(Index cols) {
  return {0, std::min<Index>(cols, 1), (cols + 9) / 10, (cols + 1) / 2, cols};
}

}  // namespace

TEMPLATE_TEST_CASE("rows of equally many entries come back as they were", "[matrix][row_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(81);
  for (const Index rows : {0, 1, 3, 16, 41})
    for (const Index cols : {0, 1, 5, 16, 31, 32, 33, 64, 131})
      for (const Index entries : entries_for(cols)) {
        CAPTURE(rows, cols, entries);
        const Matrix<T> W = row_sparse_integers<T>(random, rows, cols, entries);
        const RowSparse<T> op(W, entries);
        CHECK(op.rows() == rows);
        CHECK(op.cols() == cols);
        CHECK(op.row_entries() == entries);
        CHECK(op.to_dense() == W);
        CHECK(op.has_mask() == ((cols + 7) / 8 < 2 * entries));
        CHECK(op.bytes() == std::size_t(rows * (entries * Index(sizeof(T)) +
                                                std::min(2 * entries, (cols + 7) / 8))));
        CHECK(op.flops() == 2.0 * static_cast<double>(rows * entries));
        const auto back = RowSparse<T>::from_parts(op.parts());
        CHECK(back.to_dense() == W);
        CHECK(describe(back) == describe(op));
      }
  CHECK(RowSparse<T>::from_parts(RowSparse<T>().parts()).rows() == 0);
}

TEST_CASE("the cheaper encoding is chosen, and said", "[matrix][row_sparse]") {
  const Matrix<float> W = Matrix<float>::Identity(512, 512);
  CHECK(RowSparse<float>(W, 1).parameters() == "1 of 512 a row, indices");
  CHECK(RowSparse<float>(W, 32).parameters() == "32 of 512 a row, indices");
  CHECK(RowSparse<float>(W, 33).parameters() == "33 of 512 a row, mask");
  CHECK(RowSparse<float>(W, 32).bytes() == 512 * (32 * 4 + 64));
  CHECK(RowSparse<float>(W, 33).bytes() == 512 * (33 * 4 + 64));
  const Matrix<float> wide = Matrix<float>::Identity(2, 65537);  // indices of 4 bytes
  CHECK(RowSparse<float>(wide, 1).bytes() == 2 * 8);
  CHECK(RowSparse<float>(wide, 2048).parameters() == "2048 of 65537 a row, indices");
  CHECK(RowSparse<float>(wide, 2049).parameters() == "2049 of 65537 a row, mask");
  for (const Index entries : {1, 2048, 2049}) {
    const RowSparse<float> op(wide, entries);
    CHECK(op.to_dense() == wide);
    CHECK(RowSparse<float>::from_parts(op.parts()).to_dense() == wide);
    Matrix<float> X = Matrix<float>::Zero(65537, 2);
    X(1, 1) = 3;
    Matrix<float> Y(2, 2);
    op.apply(X, Y);
    CHECK(Y == wide * X);
  }
}

TEST_CASE("one nonzero too many is refused by name", "[matrix][row_sparse]") {
  Matrix<float> W = Matrix<float>::Zero(5, 40);
  W(3, 4) = W(3, 6) = 1;
  CHECK_NOTHROW(RowSparse<float>(W, 2));
  CHECK_THROWS_AS(RowSparse<float>(W, 1), std::invalid_argument);
  CHECK_THROWS_WITH(RowSparse<float>(W, 1), Catch::Contains("row 3, column 6"));
  W(4, 0) = W(4, 1) = W(4, 2) = 1;
  W(3, 39) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(RowSparse<float>(W, 2), Catch::Contains("row 3, column 39"));
  W(3, 39) = -0.0F;  // a zero all the same
  CHECK_THROWS_WITH(RowSparse<float>(W, 2), Catch::Contains("row 4, column 2"));
  CHECK_THROWS_WITH(RowSparse<float>(W, -1), Catch::Contains("-1 entries"));
  CHECK_THROWS_WITH(RowSparse<float>(W, 41), Catch::Contains("41 entries in rows of 40"));
}

TEST_CASE("entries are taken as they are given, zeros among them", "[matrix][row_sparse]") {
  using Columns = Eigen::Matrix<int, Eigen::Dynamic, Eigen::Dynamic>;
  const Matrix<double> values = (Matrix<double>(2, 3) << 1, 0, 3, 0, 5, 0).finished();
  Columns columns = (Columns(2, 3) << 0, 4, 7, 1, 2, 3).finished();
  Matrix<float> W = Matrix<float>::Zero(2, 8);
  W(0, 0) = 1;
  W(0, 7) = 3;
  W(1, 2) = 5;
  for (const Index cols : {Index{8}, Index{800}}) {  // a mask, and indices
    const RowSparse<float> op(cols, values, columns);
    CHECK(op.row_entries() == 3);
    CHECK(op.to_dense().leftCols(8) == W);
    CHECK(op.bytes() == RowSparse<float>::stored_bytes(2, cols, 3));
    // The places of the zeros are kept: the same columns come back.
    const RowSparse<float> same(op.to_dense(), 3);
    CHECK(op.parts().tensors.begin()->second.data != same.parts().tensors.begin()->second.data);
  }
  CHECK_THROWS_WITH(RowSparse<float>(7, values, columns), Catch::Contains("column 7 of 7"));
  columns(1, 2) = 2;
  CHECK_THROWS_WITH(RowSparse<float>(8, values, columns),
                    Catch::Contains("entry 2 of row 1 is in column 2"));
  CHECK_THROWS_AS(RowSparse<float>(8, values, Columns(2, 2)), std::invalid_argument);
  columns(1, 0) = -1;
  CHECK_THROWS_AS(RowSparse<float>(8, values, columns), std::invalid_argument);
}

TEMPLATE_TEST_CASE("products with rows of equally many entries are exact on whole numbers",
                   "[matrix][row_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(82);
  for (const Index rows : {1, 3, 17, 70, 300})
    for (const Index cols : {1, 7, 48, 65, 391})
      for (const Index entries : entries_for(cols)) {
        const Matrix<T> W = row_sparse_integers<T>(random, rows, cols, entries);
        const RowSparse<T> op(W, entries);
        for (const Index batch : {0, 1, 2, 3, 8, 16, 33, 64, 130}) {
          CAPTURE(rows, cols, entries, batch);
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

TEMPLATE_TEST_CASE("masks and indices give the bits that compressed rows give",
                   "[matrix][row_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(83);
  constexpr Index rows = 75;
  constexpr Index cols = 300;
  const Matrix<T> X = random.matrix<T>(cols, 150);
  for (const Index entries : {5, 18, 19, 150}) {
    Matrix<T> W = random.matrix<T>(rows, cols);
    const Matrix<T> pattern = row_sparse_integers<T>(random, rows, cols, entries);
    for (Index k = 0; k < cols; ++k)
      for (Index i = 0; i < rows; ++i)
        if (pattern(i, k) == 0) W(i, k) = 0;
    const RowSparse<T> op(W, entries);
    const Csr<T> csr(W);
    for (const Index batch : {1, 2, 16, 40, 64, 150}) {
      CAPTURE(entries, batch);
      Matrix<T> Y(rows, batch);
      Matrix<T> Z(rows, batch);
      op.apply(X.leftCols(batch), Y);
      csr.apply(X.leftCols(batch), Z);
      CHECK(difference(Y, Z) == "");
    }
  }
}

TEMPLATE_TEST_CASE("products with rows of equally many entries stay within X and Y",
                   "[matrix][row_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(84);
  for (const Index rows : {3, 16, 21})
    for (const Index cols : {1, 6, 32, 67})
      for (const Index entries : {Index{1}, (cols + 1) / 2, cols}) {
        const Matrix<T> W = row_sparse_integers<T>(random, rows, cols, entries);
        const RowSparse<T> op(W, entries);
        for (const Index batch : {1, 3, 16, 64, 130})
          for (const Guard guard : {Guard::before, Guard::after}) {
            CAPTURE(rows, cols, entries, batch, guard == Guard::before);
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

TEST_CASE("parts that are no rows of equally many entries are refused", "[matrix][row_sparse]") {
  const auto refused = [](const Parts& parts, const std::string& text) {
    CHECK_THROWS_AS(RowSparse<float>::from_parts(parts), std::invalid_argument);
    CHECK_THROWS_WITH(RowSparse<float>::from_parts(parts), Catch::Contains(text));
  };
  Matrix<float> W = Matrix<float>::Zero(2, 37);
  W(0, 5) = W(0, 36) = W(1, 0) = W(1, 20) = 1;
  const Parts indices = RowSparse<float>(W, 2).parts();  // 2 x 2 columns of 16 bits
  const Parts mask = RowSparse<float>(W, 3).parts();     // 2 x 5 bytes
  CHECK_NOTHROW(RowSparse<float>::from_parts(indices));
  CHECK_NOTHROW(RowSparse<float>::from_parts(mask));
  const auto changed = [](Parts parts, const char* tensor, std::size_t byte, int value) {
    parts.tensors[tensor].data[byte] = std::byte(value);
    return parts;
  };
  refused(changed(indices, "columns", 2, 37), "column 37 of 37");
  refused(changed(indices, "columns", 3, 255), "of 37");
  refused(changed(indices, "columns", 0, 36), "row 0 do not ascend");
  refused(changed(indices, "columns", 4, 21), "row 1 do not ascend");
  CHECK(mask.tensors.at("mask").data[0] == std::byte(0x21));  // columns 0 (a zero) and 5
  refused(changed(mask, "mask", 0, 0x20), "row 0 has 2 bits for 3 values");
  refused(changed(mask, "mask", 6, 0xff), "row 1 has 11 bits for 3 values");
  refused(changed(mask, "mask", 4, 0x20), "row 0 has a bit past the last column");
  refused(changed(mask, "mask", 9, 0x80), "row 1 has a bit past the last column");
  for (const Parts& good : {indices, mask}) {
    for (const char* cols : {"", "-1", "1", "4294967297", "five"}) {
      Parts parts = good;
      parts.attributes["cols"] = cols;
      CAPTURE(cols);
      refused(parts, "");
    }
    Parts parts = good;
    parts.attributes.clear();
    refused(parts, "cols");
    for (const auto& [name, tensor] : good.tensors) {
      CAPTURE(name);
      parts = good;
      parts.tensors.erase(name);
      refused(parts, name);
      parts = good;
      parts.tensors[name].type = DataType::i8;
      refused(parts, "");
      parts = good;
      parts.tensors[name].data.pop_back();
      refused(parts, "");
      parts = good;
      parts.tensors[name].shape.push_back(1);
      refused(parts, "");
      parts = good;
      parts.tensors[name].shape[0] = 3;
      refused(parts, "");
      parts = good;
      parts.tensors[name].shape = {static_cast<std::int64_t>(tensor.data.size())};
      refused(parts, "");
    }
  }
  Parts parts = indices;  // the other encoding than theirs
  parts.tensors["mask"] = parts.tensors["columns"];
  parts.tensors.erase("columns");
  refused(parts, "columns");
  parts = mask;
  parts.tensors["columns"] = parts.tensors["mask"];
  parts.tensors.erase("mask");
  refused(parts, "mask");
}

}  // namespace pleat::test
