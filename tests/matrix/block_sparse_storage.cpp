// SPDX-License-Identifier: MIT
// Kept blocks in narrow storage: what it rounds to, what files hold, and its products.
#include "pleat/matrix/block_sparse.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/block_mask.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"
#include "support/tolerance.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

#ifdef PLEAT_TEST_REDUCED
constexpr Storage storages_of_blocks[] = {Storage::bf16, Storage::int8, Storage::int3_fitted};
constexpr std::pair<Index, Index> narrow_blocks[] = {{1, 19}, {16, 16}, {5, 3}, {100, 300}};
#else
constexpr Storage storages_of_blocks[] = {
    Storage::bf16, Storage::f16,         Storage::int8,        Storage::int4,       Storage::int3,
    Storage::int2, Storage::int4_fitted, Storage::int3_fitted, Storage::int2_fitted};
constexpr std::pair<Index, Index> narrow_blocks[] = {
    {1, 1}, {16, 1}, {8, 8}, {16, 16}, {32, 32}, {5, 3}, {24, 7}, {40, 65}, {1, 19}, {100, 300}};
#endif

/// The columns of W that a row keeps.
std::vector<Index> columns_of_row(const Matrix<bool>& kept, Index row, Index cols,
                                  std::pair<Index, Index> size) {
  std::vector<Index> columns;
  for (Index k = 0; k < cols; ++k)
    if (kept(row / size.first, k / size.second)) columns.push_back(k);
  return columns;
}

Index group_of(Storage storage) { return storage == Storage::int8 ? 64 : 32; }
bool has_scales(Storage storage) { return storage != Storage::bf16 && storage != Storage::f16; }
bool has_levels(Storage storage) { return level_bytes(storage) > 0; }

std::size_t bytes_of(const Parts& parts) {
  std::size_t sum = 0;
  for (const auto& [name, tensor] : parts.tensors) sum += tensor.data.size();
  return sum;
}

bool same_tensors(const Parts& a, const Parts& b) {
  if (a.attributes != b.attributes || a.tensors.size() != b.tensors.size()) return false;
  for (const auto& [name, tensor] : a.tensors) {
    const Tensor& other = b.tensor(name);
    if (tensor.type != other.type || tensor.shape != other.shape || tensor.data != other.data)
      return false;
  }
  return true;
}

}  // namespace

TEMPLATE_TEST_CASE("narrow kept blocks are those of dense rows", "[matrix][block_sparse][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(641);
  for (const Storage storage : storages_of_blocks)
    for (const auto& [rows, cols] :
         {std::pair<Index, Index>{0, 5}, {5, 0}, {1, 1}, {37, 41}, {16, 64}, {47, 131}, {64, 200}})
      for (const auto& size : narrow_blocks)
        for (const Index percent : {0, 50, 100}) {
          CAPTURE(to_string(storage), rows, cols, size.first, size.second, percent);
          const Matrix<T> W = random.matrix<T>(rows, cols);
          const Matrix<bool> kept = block_mask(random, rows, cols, size, percent);
          const BlockSparse<T> native(W, size.first, size.second, kept);
          const BlockSparse<T> op(W, size.first, size.second, kept, storage);
          CHECK(op.storage() == storage);
          CHECK(op.exponent() == 0);
          CHECK(op.rows() == rows);
          CHECK(op.cols() == cols);
          CHECK(op.blocks() == kept.count());
          CHECK(op.kept() == kept);
          CHECK(op.flops() == native.flops());
          const Matrix<T> dense = op.to_dense();
          std::size_t bytes =
              level_bytes(storage) + 2 * std::size_t(kept.count()) + 4 * std::size_t(kept.rows());
          Index wrong = 0;
          for (Index i = 0; i < rows; ++i) {
            const std::vector<Index> columns = columns_of_row(kept, i, cols, size);
            bytes += row_bytes(storage, columns.size());
            Matrix<T> expected = Matrix<T>::Zero(1, cols);
            if (has_levels(storage)) {  // are those of the whole matrix
              for (const Index k : columns) expected(0, k) = dense(i, k);
            } else {
              const Matrix<T> values = W(std::vector<Index>{i}, columns);
              const Matrix<T> rounded = Dense<T>(values, storage).to_dense();
              for (std::size_t k = 0; k < columns.size(); ++k)
                expected(0, columns[k]) = rounded(0, Index(k));
            }
            if (dense.row(i) != expected) ++wrong;
          }
          CHECK(wrong == 0);
          CHECK(op.bytes() == bytes);
          const Parts parts = op.parts();
          CHECK(bytes_of(parts) == bytes);
          const auto back = BlockSparse<T>::from_parts(parts);
          CHECK(back.storage() == storage);
          CHECK(back.kept() == kept);
          CHECK(back.to_dense() == dense);
          CHECK(same_tensors(back.parts(), parts));
          const BlockSparse<T> widened = op.stored_as(native_storage<T>);
          CHECK(widened.storage() == native_storage<T>);
          CHECK(widened.to_dense() == dense);
          CHECK(widened.kept() == kept);
          if (storage == Storage::bf16) CHECK(widened.stored_as(storage).to_dense() == dense);
          const auto error = (dense - native.to_dense()).norm();
          if (has_levels(storage) && W.size() > 1000) {
            const Storage plain = storage == Storage::int4_fitted   ? Storage::int4
                                  : storage == Storage::int3_fitted ? Storage::int3
                                                                    : Storage::int2;
            const auto uniform = (native.stored_as(plain).to_dense() - native.to_dense()).norm();
            CHECK(error <= 1.02 * uniform);
          }
        }
  CHECK(describe(BlockSparse<float>(Matrix<float>::Identity(4, 4), 2, 2, Storage::int8)) ==
        "BlockSparse 4 x 4, 2 blocks of 2 x 2, stored as int8, f32, 36 bytes, 56.3 % of dense");
  CHECK(BlockSparse<T>().stored_as(Storage::int4).bytes() == 0);
}

TEMPLATE_TEST_CASE("products of narrow kept blocks are those of the widened ones",
                   "[matrix][block_sparse][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(642);
  for (const Storage storage : storages_of_blocks)
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {17, 33}, {64, 96}, {150, 391}})
      for (const auto& size : narrow_blocks)
        for (const Index percent : {10, 60, 100}) {
          if (reduced && percent == 10) continue;
          const Matrix<T> W = random.matrix<T>(rows, cols);
          const Matrix<bool> kept = block_mask(random, rows, cols, size, percent);
          const BlockSparse<T> op(W, size.first, size.second, kept, storage);
          const BlockSparse<T> wide = op.stored_as(native_storage<T>);
          for (const Index batch : {0, 1, 2, 3, 5, 17, 26, 64}) {
            CAPTURE(to_string(storage), rows, cols, size.first, size.second, percent, batch);
            const Matrix<T> X = random.matrix<T>(cols, batch);
            const Matrix<T> before = random.matrix<T>(rows, batch);
            Strided<T> x(X);
            Strided<T> y(rows, batch, std::numeric_limits<T>::quiet_NaN());
            Matrix<T> Y(rows, batch);
            op.apply(x.view(), y.view());
            wide.apply(X, Y);
            CHECK(difference(Matrix<T>(y.view()), Y) == "");
            y.view() = before;
            Y = before;
            op.apply_add(x.view(), y.view());
            wide.apply_add(X, Y);
            CHECK(difference(Matrix<T>(y.view()), Y) == "");
            CHECK(y.gaps_untouched());
            if (batch > 5 && batch != 17) continue;
            Strided<T> back(cols, batch, std::numeric_limits<T>::quiet_NaN());
            Matrix<T> Z(cols, batch);
            op.apply_transpose(y.view(), back.view());
            wide.apply_transpose(Y, Z);
            CHECK(difference(Matrix<T>(back.view()), Z) == "");
            CHECK(back.gaps_untouched());
          }
        }
}

TEMPLATE_TEST_CASE("products of narrow kept blocks past the packed columns and samples",
                   "[matrix][block_sparse][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(643);
  for (const Storage storage : {Storage::f16, Storage::int8, Storage::int3_fitted})
    for (const auto& size : {std::pair<Index, Index>{16, 1}, {32, 7}, {9, 300}, {9, 1100}})
      for (const Index batch : {1, 6, 17, 200}) {
        CAPTURE(to_string(storage), size.first, size.second, batch);
        const Matrix<T> W = random.matrix<T>(70, 2211);
        const Matrix<bool> kept = block_mask(random, 70, 2211, size, 50);
        const BlockSparse<T> op(W, size.first, size.second, kept, storage);
        const Matrix<T> X = random.matrix<T>(2211, batch);
        Matrix<T> Y = random.matrix<T>(70, batch);
        Matrix<T> Z = Y;
        op.apply_add(X, Y);
        op.stored_as(native_storage<T>).apply_add(X, Z);
        CHECK(difference(Y, Z) == "");
        int most = 0;
        Workspace workspace(Backwards{&most}, 3);
        op.apply(X, Y);
        op.apply(X, Z, workspace);
        CHECK(difference(Y, Z) == "");
        Matrix<T> back(2211, batch);
        Matrix<T> split(2211, batch);
        op.apply_transpose(Y, back);
        op.apply_transpose(Y, split, workspace);
        CHECK(difference(back, split) == "");
      }
}

TEMPLATE_TEST_CASE("products of narrow kept blocks stay within X and Y",
                   "[matrix][block_sparse][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(644);
  for (const Storage storage : {Storage::bf16, Storage::int8, Storage::int4})
    for (const Index rows : {3, 16, 70})
      for (const Index cols : {1, 6, 67})
        for (const auto& size : narrow_blocks) {
          const Matrix<T> W = random.matrix<T>(rows, cols);
          const Matrix<bool> kept = block_mask(random, rows, cols, size, 70);
          const BlockSparse<T> op(W, size.first, size.second, kept, storage);
          for (const Index batch : {1, 3, 16, 64})
            for (const Guard guard : {Guard::before, Guard::after}) {
              const Matrix<T> X = random.matrix<T>(cols, batch);
              const Guarded<T> x(std::vector<T>(X.data(), X.data() + X.size()), guard);
              const Guarded<T> y(std::size_t(rows * batch), guard);
              Eigen::Map<Matrix<T>> in(x.data(), cols, batch);
              Eigen::Map<Matrix<T>> out(y.data(), rows, batch);
              op.apply(in, out);
              op.apply_transpose(out, in);
            }
        }
  SUCCEED("none has crashed");
}

TEMPLATE_TEST_CASE("narrow kept blocks of any size are near a power of two",
                   "[matrix][block_sparse][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(645);
  const Matrix<T> W = random.matrix<T>(40, 70);
  const Matrix<bool> kept = block_mask(random, 40, 70, {16, 5}, 60);
  const Matrix<T> masked = BlockSparse<T>(W, 16, 5, kept).to_dense();
  for (const Storage storage : {Storage::f16, Storage::int8, Storage::int4})
    for (const T factor : {T(1e-9), T(1e9), T(1e-30), T(1e30)}) {
      const BlockSparse<T> op(Matrix<T>(W * factor), 16, 5, kept, storage);
      const double error = double((op.to_dense() / factor - masked).norm() / masked.norm());
      CAPTURE(to_string(storage), factor, op.exponent());
      CHECK((op.exponent() == 0) == (storage == Storage::int8));
      CHECK(error <= (storage == Storage::int4 ? 0.1 : storage == Storage::int8 ? 6e-3 : 4e-4));
      const auto back = BlockSparse<T>::from_parts(op.parts());
      CHECK(back.exponent() == op.exponent());
      CHECK(back.to_dense() == op.to_dense());
      for (const Index batch : {1, 3, 16, 130}) {
        const Matrix<T> X = random.matrix<T>(70, batch);
        const Matrix<T> before = random.matrix<T>(40, batch) * factor;
        Matrix<T> Y = before;
        op.apply_add(X, Y);
        const Matrix<T> expected = before + op.to_dense() * X;
        CHECK((Y - expected).norm() <= 1e-5 * expected.norm());
        Matrix<T> Z(70, batch);
        op.apply_transpose(Y, Z);
        const Matrix<T> back_expected = op.to_dense().transpose() * Y;
        const T unit = factor * factor;
        if (unit > 0 && is_finite(unit))
          CHECK((Z / factor - back_expected / factor).norm() <=
                1e-5 * (back_expected / factor).norm());
      }
    }
}

TEST_CASE("narrow kept blocks with scales given", "[matrix][block_sparse][storage]") {
  Random random(646);
  const std::pair<Index, Index> size{8, 5};
  const Matrix<bool> kept = block_mask(random, 40, 300, size, 60);
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int2}) {
    CAPTURE(to_string(storage));
    const Index group = group_of(storage);
    const int reach = storage == Storage::int8 ? 127 : storage == Storage::int4 ? 7 : 1;
    const Index groups = (300 + group - 1) / group;
    Matrix<float> scales(40, groups);
    for (Index i = 0; i < 40; ++i)
      for (Index g = 0; g < groups; ++g) scales(i, g) = float(1 + (i + g) % 4) / 8;
    Matrix<float> W = Matrix<float>::Zero(40, 300);
    for (Index i = 0; i < 40; ++i) {
      Index k = 0;
      for (const Index col : columns_of_row(kept, i, 300, size))
        W(i, col) = float(random.integer(-reach, reach)) * scales(i, k++ / group);
      for (Index g = (k + group - 1) / group; g < groups; ++g) scales(i, g) = 0;  // do not matter
    }
    const BlockSparse<float> op(W, 8, 5, kept, storage, scales);
    CHECK(op.to_dense() == W);
    CHECK(BlockSparse<float>::from_parts(op.parts()).to_dense() == W);
    CHECK(BlockSparse<float>(W, 8, 5, kept, storage, scales, 3).exponent() == 3);
    CHECK_THROWS_WITH((BlockSparse<float>(W, 8, 5, kept, storage, Matrix<float>::Ones(40, 3))),
                      Catch::Contains("the scales of kept blocks of a 40 x 300 matrix are"));
    scales(0, 0) = 0;
    CHECK_THROWS_WITH((BlockSparse<float>(W, 8, 5, kept, storage, scales)),
                      Catch::Contains("is not finite, or 0"));
  }
  CHECK_THROWS_WITH(
      (BlockSparse<float>(Matrix<float>::Ones(4, 4), 2, 2, Matrix<bool>::Constant(2, 2, true),
                          Storage::f16, Matrix<float>::Ones(4, 1))),
      Catch::Contains("have no scales"));
}

TEST_CASE("numbers that narrow kept blocks do not have", "[matrix][block_sparse][storage]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Matrix<bool> kept = Matrix<bool>::Constant(2, 3, true);
  kept(1, 1) = false;
  for (const float bad : {nan, std::numeric_limits<float>::infinity()}) {
    Matrix<float> W = Matrix<float>::Ones(20, 30);
    W(17, 25) = bad;
    for (const Storage storage : storages_of_blocks) {
      CAPTURE(to_string(storage), bad);
      if (has_scales(storage)) {
        CHECK_THROWS_WITH((BlockSparse<float>(W, 16, 10, kept, storage)),
                          Catch::Contains("row 17, column 25"));
        continue;
      }
      const BlockSparse<float> op(W, 16, 10, kept, storage);
      CHECK(is_finite(op.to_dense()(17, 25)) == false);
      Matrix<float> Y(20, 1);
      op.apply(Matrix<float>(Matrix<float>::Ones(30, 1)), Y);
      for (Index i = 0; i < 20; ++i) CHECK(is_finite(Y(i, 0)) == (i != 17));
    }
    // Where no block is kept, nothing matters.
    W(17, 25) = 1;
    W(18, 12) = bad;
    for (const Storage storage : storages_of_blocks)
      CHECK(BlockSparse<float>(W, 16, 10, kept, storage).to_dense().allFinite());
  }
  CHECK_THROWS_WITH((BlockSparse<float>(Matrix<float>::Ones(4, 4), 2, 2, Storage::f64)),
                    Catch::Contains("cannot store f64"));
  CHECK_THROWS_WITH((BlockSparse<double>(Matrix<double>::Ones(4, 4), 2, 2, Storage::f32)),
                    Catch::Contains("cannot store f32"));
}

TEST_CASE("parts that are no narrow kept blocks are refused", "[matrix][block_sparse][storage]") {
  Random random(647);
  Matrix<bool> kept = block_mask(random, 21, 47, {8, 5}, 60);
  kept(2, 4) = true;
  const auto refused = [](const Parts& parts, const std::string& text) {
    CHECK_THROWS_AS(BlockSparse<float>::from_parts(parts), std::invalid_argument);
    CHECK_THROWS_WITH(BlockSparse<float>::from_parts(parts), Catch::Contains(text));
  };
  for (const Storage storage : storages_of_blocks) {
    CAPTURE(to_string(storage));
    const Parts good =
        BlockSparse<float>(random.matrix<float>(21, 47), 8, 5, kept, storage).parts();
    REQUIRE_NOTHROW(BlockSparse<float>::from_parts(good));
    for (const auto& [name, tensor] : good.tensors) {
      CAPTURE(name);
      Parts parts = good;
      parts.tensors.erase(name);
      refused(parts, name);
      parts = good;
      parts.tensors[name].type = DataType::i64;
      refused(parts, "");
      parts = good;
      parts.tensors[name].data.pop_back();
      refused(parts, "");
      parts = good;
      parts.tensors[name].data.push_back(std::byte{0});
      refused(parts, "");
      parts = good;
      parts.tensors[name].shape.push_back(1);
      refused(parts, "");
      parts = good;
      ++parts.tensors[name].shape[0];
      refused(parts, "");
    }
    Parts parts = good;
    parts.attributes["storage"] = "int5";
    refused(parts, "unknown storage");
    parts = good;
    parts.attributes["exponent"] = "5000";
    refused(parts, "2^5000");
    parts = good;
    parts.attributes["rows"] = "22";
    refused(parts, "");
    // Sizes whose products would overflow.
    parts = good;
    parts.attributes["rows"] = parts.attributes["block_rows"] = std::to_string(Index{1} << 32);
    parts.attributes["cols"] = std::to_string((Index{1} << 32) - 1);
    parts.attributes["block_cols"] = std::to_string(Index{1} << 40);
    parts.tensors["counts"] = {DataType::u32, {1}, std::vector<std::byte>(4)};
    parts.tensors["counts"].data[0] = std::byte{1};
    parts.tensors["columns"] = {DataType::u16, {1}, std::vector<std::byte>(2)};
    refused(parts, "values are fewer than the blocks have");
    if (!has_scales(storage)) continue;
    parts = good;
    for (std::byte& byte : parts.tensors["values_scales"].data) byte = std::byte{0};
    refused(parts, "is not finite, or 0");
    const Index columns = Index(columns_of_row(kept, 0, 47, {8, 5}).size());
    const Index bits = Index(row_bytes(storage, 8)) - (storage == Storage::int8 ? 4 : 2);
    REQUIRE(columns > 0);
    if (bits * columns % 8 == 0) continue;
    parts = good;
    parts.tensors["values"].data[std::size_t(bits * columns / 8)] |= std::byte{128};
    refused(parts, "past its last column");
  }
}

}  // namespace pleat::test
