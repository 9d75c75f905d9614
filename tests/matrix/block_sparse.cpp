// SPDX-License-Identifier: MIT
// The brick of kept blocks: what it stores, what it refuses, and its products.
#include "pleat/matrix/block_sparse.hpp"

#include "pleat/matrix/dense.hpp"
#include "support/block_mask.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

constexpr std::pair<Index, Index> block_sizes[] = {{1, 1},   {16, 1},  {8, 8},   {16, 16},
                                                   {32, 32}, {5, 3},   {24, 7},  {40, 1},
                                                   {1, 19},  {100, 3}, {3, 1500}};

/// W where blocks are kept, and zeros.
template <Real T>
Matrix<T> block_masked(Matrix<T> W, const Matrix<bool>& kept, std::pair<Index, Index> size) {
  for (Index i = 0; i < W.rows(); ++i)
    for (Index k = 0; k < W.cols(); ++k)
      if (!kept(i / size.first, k / size.second)) W(i, k) = T(0);
  return W;
}

template <class V>
Tensor block_tensor(const std::vector<V>& values) {
  Tensor tensor{data_type_of<V>, {static_cast<std::int64_t>(values.size())}, {}};
  tensor.data.resize(values.size() * sizeof(V));
  if (!values.empty()) std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
  return tensor;
}

Parts block_parts(const std::vector<float>& values, const std::vector<std::uint16_t>& columns,
                  const std::vector<std::uint32_t>& counts, std::pair<Index, Index> shape,
                  std::pair<Index, Index> block) {
  return {"BlockSparse",
          {{"rows", std::to_string(shape.first)},
           {"cols", std::to_string(shape.second)},
           {"block_rows", std::to_string(block.first)},
           {"block_cols", std::to_string(block.second)}},
          {{"values", block_tensor(values)},
           {"columns", block_tensor(columns)},
           {"counts", block_tensor(counts)}},
          {}};
}

}  // namespace

TEMPLATE_TEST_CASE("kept blocks come back as they were", "[matrix][block_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(601);
  for (const Index rows : {0, 1, 5, 16, 47})
    for (const Index cols : {0, 1, 7, 64, 131})
      for (const auto& size : block_sizes)
        for (const Index percent : {0, 40, 100}) {
          CAPTURE(rows, cols, size.first, size.second, percent);
          const Matrix<T> W = random.integers<T>(rows, cols, 9);
          const Matrix<bool> kept = block_mask(random, rows, cols, size, percent);
          const BlockSparse<T> op(W, size.first, size.second, kept);
          std::size_t values = 0;
          for (Index i = 0; i < rows; ++i)
            for (Index k = 0; k < cols; ++k) values += kept(i / size.first, k / size.second);
          CHECK(op.rows() == rows);
          CHECK(op.cols() == cols);
          CHECK(op.block_rows() == size.first);
          CHECK(op.block_cols() == size.second);
          CHECK(op.blocks() == kept.count());
          CHECK(op.kept() == kept);
          CHECK(op.to_dense() == block_masked(W, kept, size));
          CHECK(op.bytes() ==
                values * sizeof(T) + 2 * std::size_t(kept.count()) + 4 * std::size_t(kept.rows()));
          CHECK(op.flops() == 2.0 * double(values));
          const auto back = BlockSparse<T>::from_parts(op.parts());
          CHECK(back.to_dense() == op.to_dense());
          CHECK(back.kept() == kept);
          const BlockSparse<T> found(op.to_dense(), size.first, size.second);
          CHECK(found.to_dense() == op.to_dense());
          CHECK(found.blocks() <= op.blocks());
        }
  CHECK(BlockSparse<T>().bytes() == 0);
  CHECK(BlockSparse<T>::from_parts(BlockSparse<T>().parts()).rows() == 0);
  CHECK(describe(BlockSparse<float>(Matrix<float>::Identity(4, 4), 2, 2)) ==
        "BlockSparse 4 x 4, 2 blocks of 2 x 2, f32, 44 bytes, 68.8 % of dense");
  CHECK(describe(BlockSparse<float>(Matrix<float>::Ones(1, 3), 16, 16)) ==
        "BlockSparse 1 x 3, 1 block of 16 x 16, f32, 18 bytes, 150.0 % of dense");
}

TEMPLATE_TEST_CASE("more blocks side by side than 16 bits can count", "[matrix][block_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(602);
  for (const Index cols : {65536, 65537, 70000}) {
    CAPTURE(cols);
    Matrix<T> W = Matrix<T>::Zero(20, cols);
    for (const Index k : {Index{0}, Index{1}, Index{65535}, cols - 1})
      W(3, k) = W(17, k) = T(k % 7 + 1);
    const BlockSparse<T> op(W, 16, 1);
    CHECK(op.to_dense() == W);
    CHECK(op.bytes() == std::size_t(op.blocks()) * (10 * sizeof(T) + (cols > 65536 ? 4U : 2U)) + 8);
    CHECK(BlockSparse<T>::from_parts(op.parts()).to_dense() == W);
    for (const Index batch : {1, 3, 70}) {
      const Matrix<T> X = random.integers<T>(cols, batch, 4);
      Matrix<T> Y(20, batch);
      op.apply(X, Y);
      CHECK(Y == multiply<Matrix<T>>(W, X));
      Matrix<T> Z(cols, batch);
      op.apply_transpose(Y, Z);
      CHECK(Z == multiply<Matrix<T>>(W.transpose(), Y));
    }
  }
}

TEMPLATE_TEST_CASE("products with kept blocks are exact on whole numbers", "[matrix][block_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(603);
  for (const Index rows : {1, 17, 64, 150})
    for (const Index cols : {1, 33, 96, 391})
      for (const auto& size : block_sizes)
        for (const Index percent : {0, 10, 50, 100}) {
          const Matrix<T> W = random.integers<T>(rows, cols, 4);
          const Matrix<bool> kept = block_mask(random, rows, cols, size, percent);
          const BlockSparse<T> op(W, size.first, size.second, kept);
          const Matrix<T> masked = block_masked(W, kept, size);
          for (const Index batch : {0, 1, 2, 3, 4, 5, 7, 12, 16, 17, 31, 64, 65}) {
            if (reduced && batch > 17) continue;
            CAPTURE(rows, cols, size.first, size.second, percent, batch);
            const Matrix<T> X = random.integers<T>(cols, batch, 4);
            const Matrix<T> before = random.integers<T>(rows, batch, 4);
            const Matrix<T> product = masked * X;
            Strided<T> x(X);
            Strided<T> y(rows, batch, std::numeric_limits<T>::quiet_NaN());
            op.apply(x.view(), y.view());
            CHECK(y.view() == product);
            y.view() = before;
            op.apply_add(x.view(), y.view());
            CHECK(y.view() == before + product);
            CHECK(y.gaps_untouched());
            if (batch > 5 && batch != 16) continue;
            Strided<T> back(cols, batch, std::numeric_limits<T>::quiet_NaN());
            op.apply_transpose(y.view(), back.view());
            CHECK(back.view() == masked.transpose() * (before + product));
            CHECK(back.gaps_untouched());
          }
        }
}

TEMPLATE_TEST_CASE("products with kept blocks past the packed columns and samples",
                   "[matrix][block_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(604);
  for (const auto& size : {std::pair<Index, Index>{16, 16}, {16, 1}, {32, 7}, {9, 1100}})
    for (const Index batch : {1, 6, 16, 97, 193, 500}) {
      CAPTURE(size.first, size.second, batch);
      const Matrix<T> W = random.integers<T>(70, 2211, 3);
      const Matrix<bool> kept = block_mask(random, 70, 2211, size, 50);
      const BlockSparse<T> op(W, size.first, size.second, kept);
      const Matrix<T> X = random.integers<T>(2211, batch, 3);
      Matrix<T> Y = random.integers<T>(70, batch, 3);
      const Matrix<T> expected = Y + block_masked(W, kept, size) * X;
      op.apply_add(X, Y);
      CHECK(Y == expected);
    }
}

TEMPLATE_TEST_CASE("all blocks are what Dense is", "[matrix][block_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(605);
  for (const auto& size : {std::pair<Index, Index>{16, 16}, {16, 1}, {32, 32}, {8, 8}, {5, 3}}) {
    const Matrix<T> W = random.matrix<T>(83, 1300);
    const BlockSparse<T> op(W, size.first, size.second);
    CHECK(op.to_dense() == W);
    for (const Index batch : {1, 2, 5, 16, 64}) {
      CAPTURE(size.first, size.second, batch);
      const Matrix<T> X = random.matrix<T>(1300, batch);
      Matrix<T> Y(83, batch);
      Matrix<T> Z(83, batch);
      op.apply(X, Y);
      Dense<T>(W).apply(X, Z);
      CHECK(difference(Y, Z) == "");  // the same sums in the same order
    }
  }
}

TEMPLATE_TEST_CASE("products with kept blocks depend on neither batch nor tasks",
                   "[matrix][block_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(606);
  for (const auto& size : {std::pair<Index, Index>{16, 16}, {16, 1}, {48, 5}, {7, 3}}) {
    const Matrix<T> W = random.matrix<T>(203, 1117);
    const BlockSparse<T> op(W, size.first, size.second, block_mask(random, 203, 1117, size, 60));
    const Matrix<T> X = random.matrix<T>(1117, 200);
    const Matrix<T> Y = random.matrix<T>(203, 200);
    Matrix<T> whole = Y;
    op.apply_add(X, whole);
    Matrix<T> back(1117, 200);
    op.apply_transpose(Y, back);
    for (const Index samples : {1, 2, 5, 16, 17, 40, 64, 100}) {
      CAPTURE(samples, size.first, size.second);
      Matrix<T> cut = Y;
      Matrix<T> cut_back(1117, 200);
      for (Index j = 0; j < 200; j += samples) {
        const Index count = std::min<Index>(samples, 200 - j);
        op.apply_add(X.middleCols(j, count), cut.middleCols(j, count));
        op.apply_transpose(Y.middleCols(j, count), cut_back.middleCols(j, count));
      }
      CHECK(difference(cut, whole) == "");
      CHECK(difference(cut_back, back) == "");
    }
    int most = 0;
    for (const int tasks : {2, 3, 7}) {
      Workspace workspace(Backwards{&most}, tasks);
      Matrix<T> split = Y;
      op.apply_add(X, split, workspace);
      CHECK(difference(split, whole) == "");
      Matrix<T> split_back(1117, 200);
      op.apply_transpose(Y, split_back, workspace);
      CHECK(difference(split_back, back) == "");
    }
    CHECK(most >= 5);
  }
}

TEMPLATE_TEST_CASE("products with kept blocks stay within X and Y", "[matrix][block_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(607);
  for (const Index rows : {3, 16, 21, 70})
    for (const Index cols : {1, 6, 32, 67})
      for (const auto& size : block_sizes) {
        const Matrix<T> W = random.integers<T>(rows, cols, 4);
        const Matrix<bool> kept = block_mask(random, rows, cols, size, 70);
        const BlockSparse<T> op(W, size.first, size.second, kept);
        const Matrix<T> masked = block_masked(W, kept, size);
        for (const Index batch : {1, 3, 16, 64, 130})
          for (const Guard guard : {Guard::before, Guard::after}) {
            CAPTURE(rows, cols, size.first, size.second, batch, guard == Guard::before);
            const Matrix<T> X = random.integers<T>(cols, batch, 4);
            const Guarded<T> x(std::vector<T>(X.data(), X.data() + X.size()), guard);
            const Guarded<T> y(std::size_t(rows * batch), guard);
            Eigen::Map<Matrix<T>> in(x.data(), cols, batch);
            Eigen::Map<Matrix<T>> out(y.data(), rows, batch);
            op.apply(in, out);
            const Matrix<T> product = masked * X;
            CHECK(out == product);
            op.apply_transpose(out, in);
            CHECK(in == masked.transpose() * product);
          }
      }
}

TEST_CASE("what a block does not hold is not multiplied", "[matrix][block_sparse]") {
  // Values that are no numbers, beside others in every lane; and inputs that are none.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const auto& size : {std::pair<Index, Index>{16, 16}, {16, 1}, {8, 8}, {1, 1}, {5, 3}}) {
    Matrix<bool> kept = Matrix<bool>::Constant((37 + size.first - 1) / size.first,
                                               (41 + size.second - 1) / size.second, false);
    for (Index i = 0; i < kept.rows(); ++i) kept(i, i % kept.cols()) = true;
    Matrix<float> W = Matrix<float>::Ones(37, 41);
    W.bottomRows(1).setConstant(nan);
    W.topRows(1).setConstant(infinity);
    const BlockSparse<float> op(W, size.first, size.second, kept);
    for (const Index batch : {1, 2, 5, 16, 64}) {
      CAPTURE(size.first, size.second, batch);
      Matrix<float> X = Matrix<float>::Ones(41, batch);
      X(0, batch - 1) = nan;  // seen by the first block row, and by those that wrap around
      Matrix<float> Y(37, batch);
      op.apply(X, Y);
      Matrix<float> Z(41, batch);
      op.apply_transpose(Matrix<float>(Matrix<float>::Ones(37, batch)), Z);
      for (Index i = 0; i < 37; ++i) {
        const Index block = i / size.first % kept.cols();
        const Index first = block * size.second;
        const Index width = std::min<Index>(size.second, 41 - first);
        const bool hit = first == 0;
        CHECK(std::isnan(Y(i, batch - 1)) == (hit || i == 36));
        if (batch > 1 && i > 0 && i < 36) CHECK(Y(i, 0) == float(width));
        if (batch > 1 && i == 0) CHECK(Y(i, 0) == infinity);
      }
      for (Index k = 0; k < 41; ++k) {
        float sum = 0;
        for (Index i = 0; i < 37; ++i)
          if (kept(i / size.first, k / size.second)) sum += W(i, k);
        if (std::isnan(sum)) CHECK(std::isnan(Z(k, 0)));
        else CHECK(Z(k, 0) == sum);
      }
    }
  }
}

TEST_CASE("parts that are no kept blocks are refused", "[matrix][block_sparse]") {
  const auto refused = [](const Parts& parts, const std::string& text) {
    CHECK_THROWS_AS(BlockSparse<float>::from_parts(parts), std::invalid_argument);
    CHECK_THROWS_WITH(BlockSparse<float>::from_parts(parts), Catch::Contains(text));
  };
  const std::pair<Index, Index> shape{3, 5};  // of 2 x 3 blocks in two block rows
  const std::pair<Index, Index> block{2, 2};
  const std::vector<float> seven(7);
  const Parts good = block_parts(seven, {1, 2, 0}, {2, 1}, {3, 5}, {2, 2});
  REQUIRE_NOTHROW(block_parts(std::vector<float>(8), {1, 2, 0}, {2, 1}, shape, block));
  CHECK_NOTHROW(BlockSparse<float>::from_parts(
      block_parts(std::vector<float>(8), {1, 2, 0}, {2, 1}, shape, block)));
  const std::vector<float> eight(8);
  refused(good, "7 values");
  refused(block_parts(std::vector<float>(9), {1, 2, 0}, {2, 1}, shape, block), "9 values");
  refused(block_parts(std::vector<float>(2), {1, 2, 0}, {2, 1}, shape, block), "fewer values");
  refused(block_parts(eight, {1, 2, 0}, {2}, shape, block), "1 counts for 2 block rows");
  refused(block_parts(eight, {1, 2, 0}, {2, 1, 0}, shape, block), "3 counts for 2 block rows");
  refused(block_parts(eight, {1, 2, 0}, {2, 2}, shape, block), "add up to 4 blocks, but 3");
  refused(block_parts(eight, {1, 2, 0}, {4294967295U, 4294967295U}, shape, block), "add up to");
  refused(block_parts(eight, {1, 3, 0}, {2, 1}, shape, block), "column 3 of 3");
  refused(block_parts(eight, {2, 1, 0}, {2, 1}, shape, block), "row 0 do not ascend");
  refused(block_parts(eight, {2, 2, 0}, {2, 1}, shape, block), "row 0 do not ascend");
  refused(block_parts(eight, {1, 2, 0}, {2, 1}, {-1, 5}, block), "-1 x 5");
  refused(block_parts(eight, {1, 2, 0}, {2, 1}, {3, Index{1} << 32}, block), "too large");
  refused(block_parts(eight, {1, 2, 0}, {2, 1}, {(Index{1} << 32) + 1, 5}, block), "too large");
  refused(block_parts(eight, {1, 2, 0}, {2, 1}, shape, {0, 2}), "at least 1 row");
  refused(block_parts(eight, {1, 2, 0}, {2, 1}, shape, {2, -3}), "at least 1 row");
  // Sizes whose products would overflow.
  refused(block_parts(eight, {0}, {1}, {Index{1} << 32, (Index{1} << 32) - 1},
                      {Index{1} << 62, Index{1} << 62}),
          "values");
  for (const char* attribute : {"rows", "cols", "block_rows", "block_cols"}) {
    Parts parts = block_parts(eight, {1, 2, 0}, {2, 1}, shape, block);
    parts.attributes[attribute] = "two";
    refused(parts, "two");
    parts.attributes.erase(attribute);
    refused(parts, attribute);
  }
  for (const char* tensor : {"values", "columns", "counts"}) {
    Parts parts = block_parts(eight, {1, 2, 0}, {2, 1}, shape, block);
    parts.tensors.erase(tensor);
    refused(parts, tensor);
    parts = block_parts(eight, {1, 2, 0}, {2, 1}, shape, block);
    parts.tensors[tensor].type = DataType::i16;
    refused(parts, "");
    parts = block_parts(eight, {1, 2, 0}, {2, 1}, shape, block);
    parts.tensors[tensor].data.pop_back();
    refused(parts, "");
    parts = block_parts(eight, {1, 2, 0}, {2, 1}, shape, block);
    parts.tensors[tensor].shape.push_back(1);
    refused(parts, "");
  }
}

TEST_CASE("masks that do not fit a matrix are refused", "[matrix][block_sparse]") {
  const Matrix<float> W = Matrix<float>::Ones(20, 30);
  CHECK_THROWS_WITH(BlockSparse<float>(W, 16, 16, Matrix<bool>::Constant(2, 3, true)),
                    Catch::Contains("a 20 x 30 matrix in blocks of 16 x 16 has 2 x 2 of them, not "
                                    "2 x 3"));
  CHECK_THROWS_WITH(BlockSparse<float>(W, 0, 16), Catch::Contains("not 0 x 16"));
  CHECK_THROWS_WITH(BlockSparse<float>(W, 16, -1), Catch::Contains("not 16 x -1"));
}

}  // namespace pleat::test
