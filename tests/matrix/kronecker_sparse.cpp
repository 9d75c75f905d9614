// SPDX-License-Identifier: MIT
// The Kronecker-sparse brick: its patterns, its refusals, and its products against the definition.
#include "pleat/matrix/kronecker_sparse.hpp"

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"
#include "support/tolerance.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace pleat::test {
namespace {

#ifdef PLEAT_TEST_REDUCED
constexpr Storage storages_of_values[] = {Storage::bf16, Storage::f16, Storage::int8,
                                          Storage::int4_fitted};
#else
constexpr Storage storages_of_values[] = {Storage::bf16, Storage::f16,  Storage::int8,
                                          Storage::int4, Storage::int2, Storage::int4_fitted};
#endif

using Catch::Matchers::Contains;

/// A pattern, and how many of its last rows and columns are cut off.
struct Case {
  KroneckerPattern pattern;
  Index cut_rows = 0;
  Index cut_cols = 0;

  [[nodiscard]] Index rows() const { return pattern.a * pattern.b * pattern.d - cut_rows; }
  [[nodiscard]] Index cols() const { return pattern.a * pattern.c * pattern.d - cut_cols; }
};

const std::vector<Case> cases{
    {{1, 1, 1, 1}},
    {{1, 1, 1, 1}, 1, 0},
    {{1, 1, 1, 1}, 0, 1},
    {{1, 17, 33, 1}},          // dense
    {{1, 1, 1, 37}},           // diagonal
    {{37, 1, 1, 1}},           // diagonal
    {{3, 16, 8, 1}},           // block-diagonal
    {{3, 20, 7, 1}, 19, 0},    // cut within the last block
    {{3, 20, 7, 1}, 0, 6},     //
    {{3, 20, 7, 1}, 3, 2},     //
    {{5, 4, 3, 1}, 9, 1},      // blocks without rows
    {{5, 4, 3, 1}, 1, 11},     // blocks without columns
    {{2, 3, 5, 2}},            // matrices that are gathered
    {{3, 19, 5, 7}, 8, 3},     //
    {{1, 35, 40, 15}, 16, 7},  //
    {{2, 5, 6, 3}, 17, 1},     //
    {{2, 5, 6, 13}, 1, 90},    // no column of the second block
    {{1, 4, 4, 16}},           // lanes
    {{2, 8, 5, 16}},           //
    {{1, 7, 9, 17}},           // one past a vector
    {{3, 5, 6, 29}},           //
    {{3, 5, 6, 29}, 30, 40},   // cut within a lane, and within a row
    {{2, 6, 3, 64}, 1, 1},     //
    {{2, 3, 70, 20}, 5, 3},    //
    {{1, 9, 130, 16}, 3, 18},  // more columns than a block of them
    {{1, 130, 2, 16}, 18, 3},  //
    {{1, 3, 3, 50}, 110, 60},  // fewer rows than lanes of a row
    {{1, 3, 3, 50}, 60, 110},  //
    {{1, 1, 1, 50}, 49, 0},    //
    {{2, 2, 2, 2}},            // levels of a butterfly
    {{8, 2, 2, 1}},            //
    {{1, 2, 2, 32}},           //
    {{4, 2, 2, 16}, 3, 70},    //
    {{1000, 16, 16, 1000}, 15'999'971, 15'999'977},
    {{1, Index{1} << 30, 1, 1}, (Index{1} << 30) - 5, 0},
};

/// Whether the pattern has an entry there, by the definition.
bool inside(const KroneckerPattern& pattern, Index row, Index col) {
  const Index i = row / pattern.d / pattern.b;
  return i == col / pattern.d / pattern.c && row % pattern.d == col % pattern.d;
}

/// Whole numbers in the pattern, never zero, and how many they are.
template <Real T>
std::pair<Matrix<T>, std::size_t> matrix_of(const Case& test, Random& random) {
  Matrix<T> W = Matrix<T>::Zero(test.rows(), test.cols());
  std::size_t count = 0;
  for (Index row = 0; row < W.rows(); ++row)
    for (Index col = 0; col < W.cols(); ++col)
      if (inside(test.pattern, row, col)) {
        W(row, col) = static_cast<T>(random.integer(1, 4) * (random.integer(0, 1) == 0 ? -1 : 1));
        ++count;
      }
  return {W, count};
}

std::string text(const Case& test) {
  return detail::text_of(test.pattern) + ' ' + detail::shape_text(test.rows(), test.cols());
}

}  // namespace

TEMPLATE_TEST_CASE("Kronecker-sparse matrices come back as they were", "[matrix][kronecker_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(81);
  CHECK(KroneckerSparse<T>().rows() == 0);
  CHECK(KroneckerSparse<T>().bytes() == 0);
  for (const Case& test : cases) {
    CAPTURE(text(test));
    const auto [W, count] = matrix_of<T>(test, random);
    const KroneckerSparse<T> op(W, test.pattern);
    CHECK(op.rows() == test.rows());
    CHECK(op.cols() == test.cols());
    CHECK(op.pattern() == test.pattern);
    CHECK(op.to_dense() == W);
    CHECK(op.bytes() == count * sizeof(T));
    CHECK(op.flops() == 2.0 * double(count));
    CHECK(op.parameters() == "pattern " + detail::text_of(test.pattern));
    const KroneckerSparse<T> back = KroneckerSparse<T>::from_parts(op.parts());
    CHECK(back.to_dense() == W);
    CHECK(back.pattern() == test.pattern);
  }
}

TEMPLATE_TEST_CASE("values are given, and stored, in the order of i, k, p and q",
                   "[matrix][kronecker_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  for (const Case& test : cases) {
    const auto& [a, b, c, d] = test.pattern;
    if (a * b * c * d > 100'000) continue;
    CAPTURE(text(test));
    Vector<T> values(a * b * c * d);
    for (Index n = 0; n < values.size(); ++n) values(n) = static_cast<T>(n + 1);
    const KroneckerSparse<T> op(test.rows(), test.cols(), test.pattern, values);
    Matrix<T> W = Matrix<T>::Zero(a * b * d, a * c * d);
    Index n = 0;
    for (Index i = 0; i < a; ++i)
      for (Index k = 0; k < d; ++k)
        for (Index p = 0; p < b; ++p)
          for (Index q = 0; q < c; ++q) W((i * b + p) * d + k, (i * c + q) * d + k) = values(n++);
    CHECK(op.to_dense() == W.topLeftCorner(test.rows(), test.cols()));
    const std::vector<T> stored = op.parts().tensor("values").template values<T>();
    CHECK(stored.size() * sizeof(T) == op.bytes());
    bool ascend = true;
    for (std::size_t s = 1; s < stored.size(); ++s) ascend = ascend && stored[s - 1] < stored[s];
    CHECK(ascend);
  }
  CHECK_THROWS_AS(KroneckerSparse<T>(4, 4, KroneckerPattern{2, 2, 2, 1}, Vector<T>(7)),
                  std::invalid_argument);
}

TEST_CASE("a block-diagonal pattern has as many blocks as cover the matrix",
          "[matrix][kronecker_sparse]") {
  CHECK(KroneckerPattern::block_diagonal(64, 48, 16, 12) == KroneckerPattern{4, 16, 12, 1});
  CHECK(KroneckerPattern::block_diagonal(65, 48, 16, 12) == KroneckerPattern{5, 16, 12, 1});
  CHECK(KroneckerPattern::block_diagonal(64, 61, 16, 12) == KroneckerPattern{6, 16, 12, 1});
  CHECK(KroneckerPattern::block_diagonal(0, 0, 16, 12) == KroneckerPattern{1, 16, 12, 1});
  CHECK_THROWS_AS(KroneckerPattern::block_diagonal(4, 4, 0, 2), std::invalid_argument);
  Matrix<float> W = Matrix<float>::Zero(5, 7);
  W.block(0, 0, 2, 3).setOnes();
  W.block(4, 6, 1, 1).setOnes();
  CHECK(KroneckerSparse(W, KroneckerPattern::block_diagonal(5, 7, 2, 3)).bytes() == 13 * 4);
}

TEST_CASE("an entry outside the pattern is refused by name", "[matrix][kronecker_sparse]") {
  Matrix<float> W = Matrix<float>::Zero(6, 8);
  const KroneckerPattern pattern{1, 3, 4, 2};
  W(3, 5) = 1;
  W(2, 3) = -0.0F;  // a zero all the same
  CHECK_NOTHROW(KroneckerSparse<float>(W, pattern));
  W(4, 1) = W(3, 6) = W(3, 4) = 1;
  CHECK_THROWS_WITH(KroneckerSparse<float>(W, pattern), Contains("row 3, column 4"));
  W(0, 7) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(KroneckerSparse<float>(W, pattern), Contains("row 0, column 7"));
  W.setZero();
  W(2, 1) = 1;
  CHECK_THROWS_WITH(KroneckerSparse<float>(W, KroneckerPattern::block_diagonal(6, 8, 2, 3)),
                    Contains("row 2, column 1"));
}

TEST_CASE("patterns that are none, or too small, are refused", "[matrix][kronecker_sparse]") {
  const Matrix<float> W = Matrix<float>::Zero(6, 8);
  constexpr Index huge = Index{1} << 62;
  for (const KroneckerPattern& pattern : std::vector<KroneckerPattern>{
           {0, 6, 8, 1},
           {1, 0, 8, 6},
           {1, 6, 0, 8},
           {1, 6, 8, 0},
           {-1, -6, -8, 1},
           {1, -6, -8, -1},
           {1, 5, 8, 1},
           {1, 6, 7, 1},
           {2, 1, 2, 2},
           {huge, 6, 8, 1},
           {1, huge, 8, 1},
           {1, 6, huge, 1},
           {1, 6, 8, huge},
           {Index{1} << 16, Index{1} << 16, 1, 8},
           {Index{1} << 31, 1, 1, 2},
           {Index{1} << 32, Index{1} << 32, 8, 1},
       }) {
    CAPTURE(detail::text_of(pattern));
    CHECK_THROWS_AS(KroneckerSparse<float>(W, pattern), std::invalid_argument);
  }
  CHECK_THROWS_WITH(KroneckerSparse<float>(W, {1, 5, 8, 1}),
                    Contains("5 x 8") && Catch::Contains("6 x 8"));
  CHECK_THROWS_AS(KroneckerSparse<float>(-1, 0, {1, 1, 1, 1}, Vector<float>(1)),
                  std::invalid_argument);
}

TEST_CASE("parts that are no Kronecker-sparse matrix are refused", "[matrix][kronecker_sparse]") {
  const KroneckerSparse<float> op(Matrix<float>::Zero(11, 8), {2, 3, 2, 2});
  const Parts good = op.parts();
  const auto refused = [](const Parts& parts) {
    CHECK_THROWS_AS(KroneckerSparse<float>::from_parts(parts), std::invalid_argument);
  };
  CHECK_NOTHROW(KroneckerSparse<float>::from_parts(good));
  for (const char* name : {"a", "b", "c", "d", "rows", "cols"}) {
    for (const char* value :
         {"", "two", "-1", "-2", "0", "1", "4294967296", "2147483648", "4611686018427387904",
          "9223372036854775807", "99999999999999999999"}) {
      Parts parts = good;
      parts.attributes[name] = value;
      CAPTURE(name, value);
      refused(parts);
    }
    Parts parts = good;
    parts.attributes.erase(name);
    refused(parts);
  }
  const auto count = static_cast<std::int64_t>(op.bytes() / sizeof(float));
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, {count - 1}, {count + 1}, {-count}, {count, 1}, {1, count}}) {
    Parts parts = good;
    parts.tensors["values"].shape = shape;
    refused(parts);
  }
  Parts parts = good;
  parts.tensors["values"].type = DataType::i32;
  refused(parts);
  parts = good;
  parts.tensors["values"].data.pop_back();
  refused(parts);
  parts = good;
  parts.tensors.clear();
  refused(parts);
  // Sizes that no memory holds, of which the corner has little: no memory is asked for.
  parts = KroneckerSparse<float>(Matrix<float>::Zero(1, 1), {1, 1, 1, 1}).parts();
  for (const char* name : {"a", "b", "c", "d"}) {
    Parts large = parts;
    large.attributes[name] = "2147483648";
    CHECK(KroneckerSparse<float>::from_parts(large).bytes() == sizeof(float));
  }
  for (const char* name : {"rows", "cols"}) {
    Parts large = parts;
    large.attributes["d"] = large.attributes[name] = "16777216";
    CHECK(KroneckerSparse<float>::from_parts(large).bytes() == sizeof(float));
    large.attributes["d"] = large.attributes[name] = "16777217";
    refused(large);
  }
  parts.attributes["b"] = parts.attributes["c"] = "2147483648";
  parts.attributes["rows"] = parts.attributes["cols"] = "2147483648";
  refused(parts);
}

TEMPLATE_TEST_CASE("Kronecker-sparse products are exact on whole numbers",
                   "[matrix][kronecker_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(82);
  for (const Case& test : cases) {
    const Matrix<T> W = matrix_of<T>(test, random).first;
    const KroneckerSparse<T> op(W, test.pattern);
    const Index rows = test.rows();
    const Index cols = test.cols();
    for (const Index batch : {0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 25, 47, 48, 49, 64, 65, 101}) {
      if (reduced && batch > 25) continue;
      CAPTURE(text(test), batch);
      const Matrix<T> X = random.integers<T>(cols, batch, 4);
      const Matrix<T> before = random.integers<T>(rows, batch, 4);
      // Exact in whatever order.
      const Matrix<T> product = W * X;
      const Matrix<T> transposed = W.transpose() * (before + product);
      for (const int tasks : {1, 3}) {
        int seen = 1;
        Workspace workspace(Backwards{&seen}, tasks);
        Strided<T> x(X);
        Strided<T> y(rows, batch, std::numeric_limits<T>::quiet_NaN());
        op.apply(x.view(), y.view(), workspace);
        CHECK(y.view() == product);
        y.view() = before;
        op.apply_add(x.view(), y.view(), workspace);
        CHECK(y.view() == before + product);
        CHECK(y.gaps_untouched());
        Strided<T> back(cols, batch, std::numeric_limits<T>::quiet_NaN());
        op.apply_transpose(y.view(), back.view(), workspace);
        CHECK(back.view() == transposed);
        CHECK(back.gaps_untouched());
      }
    }
  }
}

TEMPLATE_TEST_CASE("narrow Kronecker-sparse matrices come back, and are applied",
                   "[matrix][kronecker_sparse][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(87);
  // Small blocks on a diagonal are held widened, but not where f16 and int4 need a power of two.
  std::vector<Case> some = cases;
  for (const Case& large : std::vector<Case>{{{2, 33, 65, 1}, 5, 9},
                                             {{3, 70, 40, 1}},
                                             {{1, 70, 40, 3}, 4, 1},
                                             {{2, 40, 30, 17}, 3, 2}})
    some.push_back(large);
  for (const Case& test : some) {
    const auto [pattern_of_one, count] = matrix_of<T>(test, random);
    const T scale = random.integer(0, 1) == 0 ? T(1) : std::ldexp(T(1), -40);
    const Matrix<T> W = scale * random.matrix<T>(test.rows(), test.cols())
                                    .cwiseProduct(pattern_of_one.cwiseAbs().cwiseMin(T(1)));
    const KroneckerSparse<T> exact(W, test.pattern);
    for (const Storage storage : storages_of_values) {
      CAPTURE(text(test), to_string(storage));
      const KroneckerSparse<T> op(W, test.pattern, storage);
      CHECK(op.storage() == storage);
      CHECK(op.pattern() == test.pattern);
      const Matrix<T> dense = op.to_dense();
      CHECK((W.array() == T(0) && dense.array() != T(0)).count() == 0);
      const int bits = detail::integer_bits(storage);
      CHECK((dense - W).norm() <= T(bits == 2 ? 0.6 : bits == 4 ? 0.15 : 0.01) * W.norm());
      // Each row of each of the matrices has scales of its own.
      std::size_t bytes = level_bytes(storage);
      const auto& [a, b, c, d] = test.pattern;
      for (Index row = 0; row < W.rows(); ++row) {
        Index entries = 0;
        const Index i = row / d / b;
        for (Index q = 0; q < c; ++q) entries += (i * c + q) * d + row % d < W.cols() ? 1 : 0;
        bytes += row_bytes(storage, static_cast<std::size_t>(entries));
      }
      CHECK(op.bytes() == bytes);
      const KroneckerSparse<T> back = KroneckerSparse<T>::from_parts(op.parts());
      CHECK(back.to_dense() == dense);
      CHECK(back.storage() == storage);
      CHECK(back.bytes() == op.bytes());
      CHECK(op.stored_as(native_storage<T>).to_dense() == dense);
      CHECK(op.stored_as(storage).to_dense() == dense);
      CHECK(exact.stored_as(storage).to_dense() == dense);

      int most = 0;
      Workspace several(Backwards{&most}, 5);
      for (const Index batch : {1, 3, 70}) {
        const Matrix<T> X = random.matrix<T>(W.cols(), batch);
        const Matrix<T> base = random.matrix<T>(W.rows(), batch);
        const T bound = T(8) * T(W.rows() + W.cols() + 8) * std::numeric_limits<T>::epsilon();
        Matrix<T> Y = Matrix<T>::Constant(W.rows(), batch, std::numeric_limits<T>::quiet_NaN());
        op.apply(X, Y);
        CHECK((Y - dense * X).norm() <= bound * (scale + Y.norm()));
        Matrix<T> split = base;
        op.apply_add(X, split, several);
        CHECK((split - base - Y).norm() <= bound * (scale + split.norm()));
        Matrix<T> transposed =
            Matrix<T>::Constant(W.cols(), batch, std::numeric_limits<T>::quiet_NaN());
        op.apply_transpose(base, transposed);
        CHECK((transposed - dense.transpose() * base).norm() <=
              bound * (scale + transposed.norm()));
      }
    }
  }
}

TEST_CASE("narrow Kronecker-sparse values that cannot be are refused by name and place",
          "[matrix][kronecker_sparse][storage]") {
  Matrix<float> W = Matrix<float>::Zero(12, 8);
  for (Index i = 0; i < 12; ++i) W(i, i / 6 * 4 + i % 2) = 1;
  const KroneckerPattern pattern{2, 3, 2, 2};
  W(9, 7) = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(KroneckerSparse<float>(W, pattern, Storage::int8), Contains("row 9, column 7"));
  W(9, 7) = 2;
  CHECK_THROWS_AS(KroneckerSparse<float>(W, pattern, Storage::f64), std::invalid_argument);
  // The last columns are cut: matrices of one column, stored in rows of two.
  const Matrix<float> cut = W.leftCols(6);
  for (const Storage storage :
       {Storage::bf16, Storage::f16, Storage::int8, Storage::int4, Storage::int3, Storage::int2}) {
    CAPTURE(to_string(storage));
    const Parts good = KroneckerSparse<float>(cut, pattern, storage).parts();
    CHECK(KroneckerSparse<float>::from_parts(good).to_dense().rows() == 12);
    const auto refused = [&](const auto& change) {
      Parts parts = good;
      change(parts);
      CHECK_THROWS_AS(KroneckerSparse<float>::from_parts(parts), std::invalid_argument);
    };
    refused([](Parts& parts) { parts.tensors.at("values").data.pop_back(); });
    refused([](Parts& parts) { parts.tensors.erase("values"); });
    refused([](Parts& parts) { parts.attributes["storage"] = "int5"; });
    refused([](Parts& parts) { parts.attributes["rows"] = "11"; });
    refused([](Parts& parts) { parts.attributes["c"] = "3"; });
    refused([](Parts& parts) { parts.attributes["a"] = "1"; });
    refused([](Parts& parts) { parts.attributes["cols"] = "1000000"; });
    refused([](Parts& parts) { parts.tensors.at("values").data.back() = std::byte{0x3c}; });
    if (detail::integer_bits(storage) > 0)
      refused([](Parts& parts) { parts.tensors.erase("values_scales"); });
  }
}

TEMPLATE_TEST_CASE("Kronecker-sparse kernels stay within X and Y", "[matrix][kronecker_sparse]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(83);
  for (const Case& test : cases) {
    const Matrix<T> W = matrix_of<T>(test, random).first;
    const KroneckerSparse<T> op(W, test.pattern);
    for (const Index batch : {1, 3, 8, reduced ? 13 : 25, reduced ? 25 : 64})
      for (const Guard guard : {Guard::before, Guard::after}) {
        CAPTURE(text(test), batch, guard == Guard::before);
        const Matrix<T> X = random.integers<T>(test.cols(), batch, 4);
        const Guarded<T> x(std::vector<T>(X.data(), X.data() + X.size()), guard);
        const Guarded<T> y(std::size_t(test.rows() * batch), guard);
        Eigen::Map<Matrix<T>> in(x.data(), test.cols(), batch);
        Eigen::Map<Matrix<T>> out(y.data(), test.rows(), batch);
        op.apply(in, out);
        CHECK(out == W * X);
        op.apply_add(in, out);
        const Matrix<T> sum = out;
        op.apply_transpose(sum, in);
        CHECK(in == W.transpose() * sum);
      }
  }
}

TEMPLATE_TEST_CASE("Kronecker-sparse products are one sum, whatever the batch and the tasks",
                   "[matrix][kronecker_sparse]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(84);
  for (const Case& test : std::vector<Case>{
           {{4, 75, 90, 1}, 3, 2}, {{2, 40, 30, 7}, 3, 2}, {{1, 30, 150, 37}, 3, 2}}) {
    CAPTURE(text(test));
    constexpr Index batch = 70;
    Matrix<T> W = random.matrix<T>(test.rows(), test.cols());
    for (Index row = 0; row < W.rows(); ++row)
      for (Index col = 0; col < W.cols(); ++col)
        if (!inside(test.pattern, row, col)) W(row, col) = 0;
    const KroneckerSparse<T> op(W, test.pattern);
    const Matrix<T> X = random.matrix<T>(test.cols(), batch);
    const Matrix<T> before = random.matrix<T>(test.rows(), batch);
    Workspace serial;
    Matrix<T> applied(test.rows(), batch);
    Matrix<T> added = before;
    Matrix<T> back(test.cols(), batch);
    for (Index j = 0; j < batch; ++j) {
      op.apply(X.col(j), applied.col(j), serial);
      op.apply_add(X.col(j), added.col(j), serial);
      op.apply_transpose(before.col(j), back.col(j), serial);
    }
    for (const int tasks : {1, 2, 3, 5, 8}) {
      CAPTURE(tasks);
      int seen = 1;
      Workspace workspace(Threads{&seen}, tasks);
      Matrix<T> Y(test.rows(), batch);
      op.apply(X, Y, workspace);
      CHECK(difference(Y, applied) == "");
      CHECK(seen == tasks);
      Y = before;
      op.apply_add(X, Y, workspace);
      CHECK(difference(Y, added) == "");
      Matrix<T> Z(test.cols(), batch);
      op.apply_transpose(before, Z, workspace);
      CHECK(difference(Z, back) == "");
    }
  }
}

}  // namespace pleat::test
