// SPDX-License-Identifier: MIT
// The permutation brick: its encoding, its refusals, and where it puts the entries.
#include "pleat/matrix/permutation.hpp"

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

std::vector<Index> shuffled(Random& random, Index size) {
  std::vector<Index> indices(static_cast<std::size_t>(size));
  std::iota(indices.begin(), indices.end(), Index{0});
  for (Index i = size - 1; i > 0; --i)
    std::swap(indices[static_cast<std::size_t>(i)],
              indices[static_cast<std::size_t>(random.integer(0, i))]);
  return indices;
}

template <Real T>
Matrix<T> matrix_of(const std::vector<Index>& indices) {
  const auto size = static_cast<Index>(indices.size());
  Matrix<T> W = Matrix<T>::Zero(size, size);
  for (Index i = 0; i < size; ++i) W(i, indices[static_cast<std::size_t>(i)]) = 1;
  return W;
}

}  // namespace

TEMPLATE_TEST_CASE("permutations come back as they were", "[matrix][permutation]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(74);
  CHECK(Permutation<T>().rows() == 0);
  for (const Index size : {0, 1, 2, 15, 16, 17, 31, 100}) {
    CAPTURE(size);
    const std::vector<Index> indices = shuffled(random, size);
    const Permutation<T> op(indices);
    const Matrix<T> W = matrix_of<T>(indices);
    CHECK(op.rows() == size);
    CHECK(op.cols() == size);
    CHECK(op.bytes() == std::size_t(size) * 2);
    CHECK(op.flops() == 0);
    CHECK(op.to_dense() == W);
    CHECK(Permutation<T>(W).to_dense() == W);
    CHECK(Permutation<T>::from_parts(op.parts()).to_dense() == W);
    for (Index i = 0; i < size; ++i) CHECK(op[i] == indices[static_cast<std::size_t>(i)]);
  }
}

TEST_CASE("more than 65536 entries have indices of four bytes", "[matrix][permutation]") {
  Random random(75);
  for (const Index size : {65536, 65537}) {
    const std::vector<Index> indices = shuffled(random, size);
    const Permutation<float> op(indices);
    CHECK(op.bytes() == std::size_t(size) * (size == 65536 ? 2U : 4U));
    const Parts parts = op.parts();
    CHECK(parts.tensor("indices").type == (size == 65536 ? DataType::u16 : DataType::u32));
    const Permutation<float> back = Permutation<float>::from_parts(parts);
    const Vector<float> x = random.matrix<float>(size, 1);
    Vector<float> y(size);
    back.apply(x, y);
    bool right = true;
    for (Index i = 0; i < size; ++i) right = right && y(i) == x(indices[std::size_t(i)]);
    CHECK(right);
    Vector<float> again(size);
    back.apply_transpose(y, again);
    CHECK(again == x);
  }
}

TEST_CASE("what is no permutation is refused by name", "[matrix][permutation]") {
  using Indices = std::vector<Index>;
  CHECK_NOTHROW(Permutation<float>(Indices{2, 0, 1}));
  CHECK_THROWS_WITH(Permutation<float>(Indices{2, 3, -1}), Catch::Contains("index 1 is 3"));
  CHECK_THROWS_WITH(Permutation<float>(Indices{2, -1, 3}), Catch::Contains("index 1 is -1"));
  CHECK_THROWS_WITH(Permutation<float>(Indices{2, 0, 2, 0}), Catch::Contains("index 2 is 2"));
  CHECK_THROWS_AS(Permutation<float>(Indices{1}), std::invalid_argument);

  const Matrix<float> good = matrix_of<float>({2, 0, 3, 1});
  const auto with = [&](Index row, Index col, float value) {
    Matrix<float> W = good;
    W(row, col) = value;
    return W;
  };
  CHECK_NOTHROW(Permutation<float>(with(0, 1, -0.0F)));
  CHECK_THROWS_WITH(Permutation<float>(with(2, 0, 0.5F)), Catch::Contains("row 2, column 0"));
  CHECK_THROWS_WITH(Permutation<float>(with(2, 3, -1)), Catch::Contains("row 2, column 3"));
  CHECK_THROWS_WITH(Permutation<float>(with(1, 3, 1)), Catch::Contains("row 1, column 3"));
  CHECK_THROWS_WITH(Permutation<float>(with(1, 2, 1)), Catch::Contains("row 1, column 2"));
  CHECK_THROWS_WITH(Permutation<float>(with(1, 1, std::numeric_limits<float>::quiet_NaN())),
                    Catch::Contains("row 1, column 1"));
  CHECK_THROWS_WITH(Permutation<float>(with(2, 3, 0)), Catch::Contains("row 2 has no"));
  CHECK_THROWS_WITH(Permutation<float>(Matrix<float>(4, 5)), Catch::Contains("4 x 5"));
}

TEST_CASE("parts that are no permutation are refused", "[matrix][permutation]") {
  const Parts good = Permutation<float>(std::vector<Index>{2, 0, 1}).parts();
  const auto refused = [](const Parts& parts) {
    CHECK_THROWS_AS(Permutation<float>::from_parts(parts), std::invalid_argument);
  };
  CHECK_NOTHROW(Permutation<float>::from_parts(good));
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, {2}, {4}, {-3}, {70000}, {3, 1}, {1, 3}}) {
    Parts parts = good;
    parts.tensors["indices"].shape = shape;
    refused(parts);
  }
  for (const DataType type : {DataType::i16, DataType::u32, DataType::u8, DataType::f16}) {
    Parts parts = good;
    parts.tensors["indices"].type = type;
    refused(parts);
  }
  Parts parts = good;
  parts.tensors["indices"].data[0] = std::byte{0};  // 0, 0, 1
  refused(parts);
  parts.tensors["indices"].data[0] = std::byte{3};
  refused(parts);
  parts = good;
  parts.tensors["indices"].data.pop_back();
  refused(parts);
  parts = good;
  parts.tensors.clear();
  refused(parts);
}

TEMPLATE_TEST_CASE("permuted samples are exact, within X and Y, for any number of tasks",
                   "[matrix][permutation]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(76);
  for (const Index size : {1, 7, 16, 17, 33, 101, 5003})
    for (const Index batch : {0, 1, 3, 64}) {
      CAPTURE(size, batch);
      const std::vector<Index> indices = shuffled(random, size);
      const Permutation<T> op(indices);
      const Matrix<T> X = random.integers<T>(size, batch, 100);
      const Matrix<T> before = random.integers<T>(size, batch, 100);
      Matrix<T> permuted(size, batch);
      Matrix<T> back(size, batch);
      for (Index i = 0; i < size; ++i) {
        permuted.row(i) = X.row(indices[std::size_t(i)]);
        back.row(indices[std::size_t(i)]) = X.row(i);
      }
      for (const int tasks : {1, 3}) {
        int seen = 1;
        Workspace workspace(Backwards{&seen}, tasks);
        Strided<T> x(X);
        Strided<T> y(size, batch, std::numeric_limits<T>::quiet_NaN());
        op.apply(x.view(), y.view(), workspace);
        CHECK(y.view() == permuted);
        y.view() = before;
        op.apply_add(x.view(), y.view(), workspace);
        CHECK(y.view() == before + permuted);
        y.view().setConstant(std::numeric_limits<T>::quiet_NaN());
        op.apply_transpose(x.view(), y.view(), workspace);
        CHECK(y.view() == back);
        CHECK(y.gaps_untouched());
      }
      for (const Guard guard : {Guard::before, Guard::after}) {
        const Guarded<T> in(std::vector<T>(X.data(), X.data() + X.size()), guard);
        const Guarded<T> out(std::size_t(size * batch), guard);
        Eigen::Map<Matrix<T>> Y(out.data(), size, batch);
        op.apply(Eigen::Map<const Matrix<T>>(in.data(), size, batch), Y);
        CHECK(Y == permuted);
      }
    }
}

}  // namespace pleat::test
