// SPDX-License-Identifier: MIT
// The N:M brick: its encoding, its refusals, and its kernels against plain products.
#include "pleat/matrix/semi_structured.hpp"

#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

/// Whole numbers, zero to N of them in every M of a row; some of the kept are zero.
template <Real T>
Matrix<T> with_pattern(Random& random, SparsePattern pattern, Index rows, Index cols) {
  Matrix<T> W = Matrix<T>::Zero(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index group = 0; group < cols; group += pattern.group)
      for (Index kept = 0; kept < pattern.kept; ++kept) {
        const Index k = group + random.integer(0, pattern.group - 1);
        if (k < cols) W(i, k) = static_cast<T>(random.integer(-4, 4));
      }
  return W;
}

#ifdef PLEAT_TEST_REDUCED
constexpr SparsePattern patterns[] = {{2, 4}, {4, 8}, {8, 16}, {3, 16}, {16, 32}, {31, 32}};
#else
constexpr SparsePattern patterns[] = {{2, 4},   {1, 4},  {3, 4},  {4, 8},  {1, 8},
                                      {7, 8},   {8, 16}, {3, 16}, {4, 16}, {15, 16},
                                      {16, 32}, {1, 32}, {6, 32}, {31, 32}};
#endif

constexpr Index widths[] = {0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 66, 67, 100, 129};

}  // namespace

TEMPLATE_TEST_CASE("N:M matrices come back as they were", "[matrix][semi_structured]",
                   PLEAT_TEST_SCALARS) {
  Random random(61);
  for (const SparsePattern pattern : patterns)
    for (const Index rows : {0, 1, 15, 17, 40})
      for (const Index cols : widths) {
        CAPTURE(to_string(pattern), rows, cols);
        const auto W = with_pattern<TestType>(random, pattern, rows, cols);
        const Index groups = (cols + pattern.group - 1) / pattern.group;
        const Index bits = pattern.group == 4    ? 2
                           : pattern.group == 8  ? 3
                           : pattern.group == 16 ? 4
                                                 : 5;
        for (const Places places : {Places::codes, Places::masks}) {
          const SemiStructured<TestType> op(W, pattern, places);
          CHECK(op.rows() == rows);
          CHECK(op.cols() == cols);
          CHECK(op.pattern() == pattern);
          CHECK(op.places() == places);
          CHECK(op.to_dense() == W);
          const auto again = SemiStructured<TestType>::from_parts(op.parts());
          CHECK(again.to_dense() == W);
          CHECK(again.pattern() == pattern);
          CHECK(again.places() == places);
          const Index place_bits = places == Places::masks ? cols : pattern.kept * groups * bits;
          CHECK(op.bytes() == std::size_t(rows * (pattern.kept * groups * Index(sizeof(TestType)) +
                                                  (place_bits + 7) / 8)));
          CHECK(op.flops() == 2.0 * double(pattern.kept * rows * groups));
        }
      }
}

TEST_CASE("of dense floats, half of the columns take what the header promises",
          "[matrix][semi_structured]") {
  const Matrix<float> zero = Matrix<float>::Zero(64, 64);
  const auto share = [&](SparsePattern pattern, Places places) {
    return double(SemiStructured<float>(zero, pattern, places).bytes()) / (64 * 64 * 4);
  };
  CHECK(share({2, 4}, Places::codes) == 0.53125);
  CHECK(share({4, 8}, Places::codes) == 0.546875);
  CHECK(share({8, 16}, Places::codes) == 0.5625);
  CHECK(share({16, 32}, Places::codes) == 0.578125);
  for (const Index group : {4, 8, 16, 32})
    CHECK(share({group / 2, group}, Places::masks) == 0.53125);
}

TEST_CASE("patterns that no kernel has are refused", "[matrix][semi_structured]") {
  const Matrix<float> W = Matrix<float>::Zero(3, 32);
  for (const SparsePattern pattern :
       {SparsePattern{0, 0}, {0, 4}, {4, 4}, {5, 4}, {-1, 8}, {1, 2}, {2, 5}, {6, 12}, {32, 64}}) {
    CAPTURE(pattern.kept, pattern.group);
    CHECK_THROWS_AS(SemiStructured<float>(W, pattern), std::invalid_argument);
  }
  CHECK_THROWS_WITH(SemiStructured<float>(W, {4, 6}), Catch::Contains("4, 8, 16 or 32"));
  CHECK_THROWS_WITH(SemiStructured<float>(W, {8, 8}), Catch::Contains("1 to 7"));
}

TEST_CASE("a third nonzero in a group is refused by name", "[matrix][semi_structured]") {
  Matrix<float> W = Matrix<float>::Zero(5, 11);
  W(3, 4) = W(3, 6) = 1;
  CHECK_NOTHROW(SemiStructured<float>(W));
  W(3, 7) = 1;
  W(4, 1) = W(4, 2) = W(4, 3) = 1;
  CHECK_THROWS_WITH(SemiStructured<float>(W), Catch::Contains("row 3, column 7"));
  W(3, 7) = -0.0F;  // a zero all the same
  W(4, 1) = 0;
  CHECK_NOTHROW(SemiStructured<float>(W));
  W(0, 8) = W(0, 9) = W(0, 10) = 1;  // the last group has three columns
  CHECK_THROWS_WITH(SemiStructured<float>(W), Catch::Contains("row 0, column 10"));
}

TEST_CASE("one nonzero too many in a group of any size is refused", "[matrix][semi_structured]") {
  for (const SparsePattern pattern : patterns) {
    Matrix<double> W = Matrix<double>::Zero(2, 70);
    const Index first = pattern.group;
    for (Index k = 0; k <= pattern.kept; ++k) W(1, first + k) = 1;
    CHECK_THROWS_WITH(SemiStructured<double>(W, pattern),
                      Catch::Contains("row 1, column " + std::to_string(first + pattern.kept)));
    W(1, first) = 0;
    CHECK_NOTHROW(SemiStructured<double>(W, pattern));
  }
}

TEST_CASE("parts that are no N:M matrix are refused", "[matrix][semi_structured]") {
  Random random(66);
  const auto refused = [](const Parts& parts) {
    CHECK_THROWS_AS(SemiStructured<float>::from_parts(parts), std::invalid_argument);
  };
  for (const SparsePattern pattern : patterns)
    for (const Places places : {Places::codes, Places::masks}) {
      const char* const name = places == Places::masks ? "masks" : "codes";
      CAPTURE(to_string(pattern), name);
      const Index cols = 2 * pattern.group + 3;
      const auto W = with_pattern<float>(random, pattern, 2, cols);
      const Parts good = SemiStructured<float>(W, pattern, places).parts();
      CHECK(SemiStructured<float>::from_parts(good).to_dense() == W);
      Parts parts = good;
      parts.attributes["pattern"] = "5:9";
      refused(parts);
      parts.attributes["pattern"] = pattern.group == 4 ? "4:8" : "2:4";
      refused(parts);
      parts = good;
      parts.tensors.erase(name);
      refused(parts);
      parts = good;
      parts.tensors[name].shape[1] += 1;
      refused(parts);
      // Any single bit of the places of the first group: fewer or more columns, or no ascent, or
      // another matrix, which is as good as the first. Never what is not what it says.
      for (int bit = 0; bit < 8; ++bit) {
        parts = good;
        parts.tensors[name].data[0] ^= std::byte(1 << bit);
        try {
          const auto other = SemiStructured<float>::from_parts(parts);
          CHECK(places == Places::codes);
          CHECK(SemiStructured<float>(other.to_dense(), pattern).to_dense() == other.to_dense());
        } catch (const std::invalid_argument&) {
        }
      }
      // A bit past the last column.
      const std::size_t row_bytes = parts.tensors[name].data.size() / 2;
      const Index used = places == Places::masks ? cols
                                                 : 3 * pattern.kept *
                                                       (pattern.group == 4    ? 2
                                                        : pattern.group == 8  ? 3
                                                        : pattern.group == 16 ? 4
                                                                              : 5);
      if (used % 8 != 0) {
        parts = good;
        parts.tensors[name].data[row_bytes - 1] |= std::byte(0x80);
        refused(parts);
      }
    }
}

TEST_CASE("parts that are no 2:4 matrix are refused", "[matrix][semi_structured]") {
  Matrix<float> W = Matrix<float>::Zero(2, 9);
  W(1, 2) = 5;
  const Parts good = SemiStructured<float>(W).parts();
  const auto refused = [](Parts parts) {
    CHECK_THROWS_AS(SemiStructured<float>::from_parts(parts), std::invalid_argument);
  };
  CHECK_NOTHROW(SemiStructured<float>::from_parts(good));
  for (const char* cols : {"", "-1", "8", "13", "nine", "281474976710657"}) {
    Parts parts = good;
    parts.attributes["cols"] = cols;
    CAPTURE(cols);
    refused(parts);
  }
  Parts parts = good;
  parts.attributes.clear();
  refused(parts);
  for (const char* tensor : {"codes", "values"}) {
    parts = good;
    parts.tensors.erase(tensor);
    refused(parts);
    parts = good;
    parts.tensors[tensor].shape[0] = 3;
    refused(parts);
  }
  parts = good;
  parts.tensors["codes"].type = DataType::i8;
  refused(parts);
  parts = good;  // codes 1, 1 instead of 0, 1
  parts.tensors["codes"].data[0] = std::byte(0x45);
  refused(parts);
  parts = good;  // codes 1, 0
  parts.tensors["codes"].data[0] = std::byte(0x41);
  refused(parts);
  parts = good;  // bits of a fourth group
  parts.tensors["codes"].data[1] |= std::byte(0x10);
  refused(parts);
  Matrix<float> values = parts.tensors["values"].matrix<float>();
  values(0, 5) = 1;  // the second value of the last group, whose code says column 9
  parts = good;
  parts.tensors["values"] = Tensor::of(values);
  refused(parts);
}

TEMPLATE_TEST_CASE("N:M products are exact on whole numbers", "[matrix][semi_structured]",
                   PLEAT_TEST_SCALARS) {
  Random random(62);
  for (const SparsePattern pattern : patterns) {
    const bool all = pattern == SparsePattern{2, 4};
    for (const Index rows : {1, 16, 17, 47, 70})
      for (const Index cols : widths) {
        // The last are as dense for some of the kernels; taller ones are not.
        const Index height = cols >= 100 ? rows + 160 : rows;
        if (!all && rows != 17 && (cols < 100 || rows != 47)) continue;
        const auto W = with_pattern<TestType>(random, pattern, height, cols);
        const SemiStructured<TestType> op(W, pattern);
        for (const Index batch :
             {1, 2, 3, 4, 5, 7, 8, 16, 23, 24, 31, 32, 33, 47, 48, 63, 64, 65, 128, 150}) {
          if (reduced && batch > 33) continue;
          CAPTURE(to_string(pattern), height, cols, batch);
          const Matrix<TestType> X = random.integers<TestType>(cols, batch, 4);
          const Matrix<TestType> before = random.integers<TestType>(height, batch, 4);
          const Matrix<TestType> product = W * X;
          Strided<TestType> x(X);
          Strided<TestType> y(height, batch, std::numeric_limits<TestType>::quiet_NaN());
          op.apply(x.view(), y.view());
          CHECK(y.view() == product);
          y.view() = before;
          op.apply_add(x.view(), y.view());
          CHECK(y.view() == before + product);
          CHECK(y.gaps_untouched());
          if (batch < 9) {
            Strided<TestType> back(cols, batch, std::numeric_limits<TestType>::quiet_NaN());
            op.apply_transpose(y.view(), back.view());
            CHECK(back.view() == W.transpose() * (before + product));
            CHECK(back.gaps_untouched());
          }
        }
      }
  }
}

TEMPLATE_TEST_CASE("what N:M makes of a sample is the same to the bit in any batch",
                   "[matrix][semi_structured]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(65);
  // Words of codes of several groups and of a part of one; of 1:32, tiles that begin within one.
  for (const SparsePattern pattern : std::vector<SparsePattern>{
           {2, 4}, {1, 4}, {3, 8}, {3, 16}, {11, 16}, {1, 32}, {2, 32}, {6, 32}, {7, 32}, {31, 32}})
    for (const auto& [rows, cols] : {std::pair<Index, Index>{530, 300}, {50, 1100}}) {
      if (reduced && rows > 500 && pattern.group < 32) continue;
      const auto W = with_pattern<T>(random, pattern, rows, cols);
      const Matrix<T> X = random.matrix<T>(cols, 70);
      for (const Storage storage : {native_storage<T>, Storage::int8}) {
        const auto op =
            SemiStructured<T>(W, pattern, storage).with_activations(Activations::native);
        Matrix<T> alone(rows, X.cols());
        for (Index j = 0; j < X.cols(); ++j) op.apply(X.col(j), alone.col(j));
        for (const Index batch : {24, 32, 49, 70}) {
          CAPTURE(to_string(pattern), rows, to_string(storage), batch);
          Matrix<T> Y(rows, batch);
          op.apply(X.leftCols(batch), Y);
          CHECK(Y == alone.leftCols(batch));
        }
      }
    }
}

TEMPLATE_TEST_CASE("N:M kernels stay within X and Y", "[matrix][semi_structured]",
                   PLEAT_TEST_SCALARS) {
  Random random(63);
  for (const SparsePattern pattern : patterns)
    for (const Index rows : {3, 21, 150})
      for (const Index cols : {1, 35, 67, 230}) {
        const auto W = with_pattern<TestType>(random, pattern, rows, cols);
        const SemiStructured<TestType> op(W, pattern);
        for (const Index batch : {1, 3, 70})
          for (const Guard guard : {Guard::before, Guard::after}) {
            CAPTURE(to_string(pattern), rows, cols, batch, guard == Guard::before);
            const Matrix<TestType> X = random.integers<TestType>(cols, batch, 4);
            const std::vector<TestType> values(X.data(), X.data() + X.size());
            const Guarded<TestType> x(values, guard);
            const Guarded<TestType> y(std::size_t(rows * batch), guard);
            const Eigen::Map<const Matrix<TestType>> in(x.data(), cols, batch);
            Eigen::Map<Matrix<TestType>> out(y.data(), rows, batch);
            op.apply(in, out);
            CHECK(out == W * X);
          }
      }
}

TEMPLATE_TEST_CASE("narrow N:M products are those of what is stored", "[matrix][semi_structured]",
                   PLEAT_TEST_SCALARS) {
  Random random(64);
  for (const SparsePattern pattern : patterns)
    for (const Storage storage :
         {Storage::bf16, Storage::f16, Storage::int8, Storage::int4, Storage::int3})
      for (const Index cols : {37, 300}) {
        Matrix<TestType> W = with_pattern<TestType>(random, pattern, 90, cols);
        const SemiStructured<TestType> op(W, pattern, storage);
        CHECK(op.pattern() == pattern);
        CHECK(SemiStructured<TestType>::from_parts(op.parts()).to_dense() == op.to_dense());
        const Matrix<double> stored = op.to_dense().template cast<double>();
        for (const Index batch : {1, 5, 40, 70}) {
          CAPTURE(to_string(pattern), to_string(storage), cols, batch);
          const Matrix<TestType> X = random.integers<TestType>(cols, batch, 4);
          Matrix<TestType> Y(90, batch);
          op.apply(X, Y);
          const Matrix<double> product = stored * X.template cast<double>();
          const Matrix<double> bound = stored.cwiseAbs() * X.template cast<double>().cwiseAbs();
          const double eps = double(std::numeric_limits<TestType>::epsilon());
          CHECK(((Y.template cast<double>() - product).array().abs() <=
                 double(cols) * eps * bound.array())
                    .all());
          if (batch < 9) {
            Matrix<TestType> back(cols, batch);
            op.apply_transpose(Y, back);
            const Matrix<double> exact = stored.transpose() * Y.template cast<double>();
            CHECK(
                ((back.template cast<double>() - exact).array().abs() <=
                 200 * eps *
                     (stored.cwiseAbs().transpose() * Y.template cast<double>().cwiseAbs()).array())
                    .all());
          }
        }
      }
}

}  // namespace pleat::test
