// SPDX-License-Identifier: MIT
// The Hadamard brick: its definition for every size, its signs, its refusals, and its products.
#include "pleat/matrix/hadamard.hpp"

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/guarded.hpp"
#include "support/layout.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

/// First value and size of the block that a value lies in.
std::pair<Index, Index> hadamard_block(Index n, Index block, Index i) {
  if (i < n / block * block) return {i / block * block, block};
  Index first = n / block * block;
  for (Index size = block / 2;; size /= 2) {
    if (size > n - first) continue;
    if (i < first + size) return {first, size};
    first += size;
  }
}

/// Entry (i, j) of H, times the root of the size of its block.
int hadamard_sign(Index n, Index block, Index i, Index j) {
  const auto [first, size] = hadamard_block(n, block, i);
  if (j < first || j >= first + size) return 0;
  const auto shared = static_cast<std::uint64_t>((i - first) & (j - first));
  return std::popcount(shared) % 2 == 0 ? 1 : -1;
}

template <Real T>
Matrix<T> hadamard_matrix(Index n, Index block, const Vector<T>& signs) {
  return Matrix<T>::NullaryExpr(n, n, [&](Index i, Index j) {
    const auto size = static_cast<double>(hadamard_block(n, block, i).second);
    return static_cast<T>(hadamard_sign(n, block, i, j)) * static_cast<T>(1 / std::sqrt(size)) *
           signs(j);
  });
}

template <Real T>
Vector<T> random_signs(Random& random, Index n) {
  Vector<T> signs(n);
  for (Index i = 0; i < n; ++i) signs(i) = random.integer(0, 1) == 0 ? T(1) : T(-1);
  return signs;
}

constexpr Index hadamard_sizes[] = {0, 1, 2, 3, 7, 8, 31, 32, 64, 96, 100, 128, 200, 256};
constexpr Index hadamard_blocks[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 4096};

}  // namespace

TEMPLATE_TEST_CASE("Hadamard matrices are what their definition says", "[matrix][hadamard]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(131);
  CHECK(Hadamard<T>().rows() == 0);
  CHECK(Hadamard<T>(200).block() == 128);
  for (const Index n : hadamard_sizes)
    for (const Index block : hadamard_blocks) {
      CAPTURE(n, block);
      const Vector<T> signs = random_signs<T>(random, n);
      const Hadamard<T> plain(n, block);
      const Hadamard<T> op(n, block, signs);
      const Matrix<T> W = hadamard_matrix<T>(n, block, signs);
      double additions = 0;
      for (Index i = 0; i < n; ++i)
        additions += std::log2(static_cast<double>(hadamard_block(n, block, i).second));
      CHECK(op.rows() == n);
      CHECK(op.cols() == n);
      CHECK(op.block() == block);
      CHECK(op.has_signs());
      CHECK(op.signs() == signs);
      CHECK(op.bytes() == static_cast<std::size_t>((n + 7) / 8));
      CHECK(op.flops() == additions);
      CHECK(op.to_dense() == W);
      CHECK(op.parameters() == "blocks of " + std::to_string(block) + ", signs");
      CHECK(!plain.has_signs());
      CHECK(plain.signs() == Vector<T>::Ones(n));
      CHECK(plain.bytes() == 0);
      CHECK(plain.flops() == additions);
      CHECK(plain.to_dense() == hadamard_matrix<T>(n, block, Vector<T>::Ones(n)));
      CHECK(plain.parameters() == "blocks of " + std::to_string(block));
      CHECK((W * W.transpose()).isApprox(Matrix<T>::Identity(n, n)));
      const auto back = Hadamard<T>::from_parts(op.parts());
      CHECK(back.to_dense() == W);
      CHECK(back.block() == block);
      CHECK(back.has_signs());
      CHECK(!Hadamard<T>::from_parts(plain.parts()).has_signs());
    }
}

TEMPLATE_TEST_CASE("Hadamard products are exact on whole numbers, within X and Y",
                   "[matrix][hadamard]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(132);
  // The root of a power of four is a power of two.
  for (const auto& [n, block] : {std::pair<Index, Index>{1, 1},
                                 {5, 1},
                                 {8, 4},
                                 {48, 16},
                                 {64, 64},
                                 {80, 64},
                                 {336, 64},
                                 {341, 256},
                                 {1024, 1024},
                                 {4096, 4096}})
    for (const Index batch : {0, 1, 3, 64}) {
      if (n > 1000 && batch > 3) continue;
      CAPTURE(n, block, batch);
      const Vector<T> signs = random_signs<T>(random, n);
      const Hadamard<T> op(n, block, signs);
      const Matrix<T> X = random.integers<T>(n, batch, 4);
      const Matrix<T> before = random.integers<T>(n, batch, 4);
      Matrix<T> product = Matrix<T>::Zero(n, batch);
      Matrix<T> transposed = Matrix<T>::Zero(n, batch);
      for (Index i = 0; i < n; ++i) {
        const auto [first, size] = hadamard_block(n, block, i);
        const T scale = T(1) / static_cast<T>(std::sqrt(static_cast<double>(size)));
        for (Index j = first; j < first + size; ++j) {
          const T entry = scale * static_cast<T>(hadamard_sign(n, block, i, j));
          product.row(i) += entry * signs(j) * X.row(j);
          transposed.row(i) += entry * signs(i) * X.row(j);
        }
      }
      Strided<T> x(X);
      Strided<T> y(n, batch, std::numeric_limits<T>::quiet_NaN());
      op.apply(x.view(), y.view());
      CHECK(y.view() == product);
      y.view() = before;
      op.apply_add(x.view(), y.view());
      CHECK(y.view() == before + product);
      CHECK(y.gaps_untouched());
      y.view().setConstant(std::numeric_limits<T>::quiet_NaN());
      op.apply_transpose(x.view(), y.view());
      CHECK(y.view() == transposed);
      CHECK(y.gaps_untouched());
      for (const Guard guard : {Guard::before, Guard::after}) {
        const Guarded<T> in(std::vector<T>(X.data(), X.data() + X.size()), guard);
        const Guarded<T> out(std::size_t(n * batch), guard);
        Eigen::Map<Matrix<T>> Y(out.data(), n, batch);
        op.apply(Eigen::Map<const Matrix<T>>(in.data(), n, batch), Y);
        CHECK(Y == product);
      }
    }
}

TEMPLATE_TEST_CASE("Hadamard products round as often as they add", "[matrix][hadamard]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(133);
  for (const auto& [n, block] :
       {std::pair<Index, Index>{2, 2}, {32, 32}, {100, 32}, {96, 128}, {512, 512}}) {
    CAPTURE(n, block);
    const auto op = Hadamard<T>::with_random_signs(n, block, 7);
    const Matrix<T> X = random.matrix<T>(n, 5);
    Matrix<T> Y(n, 5);
    op.apply(X, Y);
    const Oracle<T> oracle(hadamard_matrix<T>(n, block, op.signs()));
    const Reference<T> reference(oracle, X);
    // One rounding for each addition in a row, and one each for the scale and the product with it.
    const double roundings = std::log2(static_cast<double>(block)) + 2;
    const WideMatrix<T> bound =
        multiply(oracle.magnitude, WideMatrix<T>(X.template cast<Wide<T>>().cwiseAbs())) *
        gamma<T>(roundings);
    CHECK(beyond(Y, reference.exact, bound) == "");
    Matrix<T> back(n, 5);
    op.apply_transpose(Y, back);
    CHECK(back.isApprox(X));
  }
}

TEMPLATE_TEST_CASE("Hadamard products do not depend on the number of tasks, nor on neighbours",
                   "[matrix][hadamard]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(134);
  // Many samples are shared out; of few, the blocks are.
  for (const auto& [n, block, batch] : {std::tuple<Index, Index, Index>{5003, 64, 80},
                                        {4096, 4096, 40},
                                        {100003, 64, 2},
                                        {100003, 4, 2}}) {
    CAPTURE(n, block, batch);
    const auto op = Hadamard<T>::with_random_signs(n, block, 9);
    const Matrix<T> X = random.matrix<T>(n, batch);
    const Matrix<T> before = random.matrix<T>(n, batch);
    Matrix<T> expected = before;
    Matrix<T> transposed(n, batch);
    for (Index j = 0; j < batch; ++j) {
      op.apply_add(X.col(j), expected.col(j));
      op.apply_transpose(X.col(j), transposed.col(j));
    }
    for (const int tasks : {1, 2, 3, 5}) {
      CAPTURE(tasks);
      int seen = 1;
      Workspace workspace(Backwards{&seen}, tasks);
      Matrix<T> Y = before;
      op.apply_add(X, Y, workspace);
      CHECK(difference(Y, expected) == "");
      CHECK(seen == tasks);
      op.apply_transpose(X, Y, workspace);
      CHECK(difference(Y, transposed) == "");
    }
  }
}

TEMPLATE_TEST_CASE("what is not finite reaches its block and no other", "[matrix][hadamard]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  for (const Index block : {1, 2, 8, 32, 256}) {
    CAPTURE(block);
    const Hadamard<T> op(300, block);
    const auto [first, size] = hadamard_block(300, block, 260);
    Matrix<T> X = Matrix<T>::Ones(300, 3);
    X(260, 1) = std::numeric_limits<T>::quiet_NaN();
    Matrix<T> Y(300, 3);
    op.apply(X, Y);
    for (Index j = 0; j < 3; ++j)
      for (Index i = 0; i < 300; ++i)
        CHECK(std::isnan(Y(i, j)) == (j == 1 && i >= first && i < first + size));
  }
}

TEST_CASE("signs from a seed are the same everywhere", "[matrix][hadamard]") {
  Random random(5);
  const std::uint64_t words[] = {random.next(), random.next()};
  const auto op = Hadamard<float>::with_random_signs(100, 32, 5);
  const Vector<float> signs = op.signs();
  for (Index i = 0; i < 100; ++i)
    CHECK(signs(i) == ((words[i / 64] >> (i % 64) & 1U) != 0 ? -1.0F : 1.0F));
  CHECK(Hadamard<double>::with_random_signs(100, 64, 5).signs() == signs.cast<double>());
  CHECK(Hadamard<float>::with_random_signs(100, 32, 6).signs() != signs);
}

TEST_CASE("Hadamard matrices that there are not are refused", "[matrix][hadamard]") {
  using Catch::Contains;
  CHECK_THROWS_WITH(Hadamard<float>(-1), Contains("size is -1"));
  CHECK_THROWS_WITH(Hadamard<float>((Index{1} << 24) + 1), Contains("size is 16777217"));
  for (const Index block : {Index{0}, Index{-4}, Index{12}, Index{1} << 25}) {
    CHECK_THROWS_WITH(Hadamard<float>(16, block), Contains("block is " + std::to_string(block)));
    CHECK_THROWS_AS(Hadamard<float>(16, block), std::invalid_argument);
  }
  Vector<float> signs = Vector<float>::Ones(9);
  CHECK_THROWS_WITH(Hadamard<float>(8, 4, signs), Contains("9 signs for a size of 8"));
  signs(5) = 0.5F;
  CHECK_THROWS_WITH(Hadamard<float>(9, 4, signs), Contains("sign 5 is 0.5"));
  signs(3) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(Hadamard<float>(9, 4, signs), Contains("sign 3 is nan"));
}

TEST_CASE("parts that are no Hadamard matrix are refused", "[matrix][hadamard]") {
  const Parts good = Hadamard<float>::with_random_signs(13, 8, 1).parts();
  CHECK_NOTHROW(Hadamard<float>::from_parts(good));
  const auto refused = [&](auto change) {
    Parts parts = good;
    change(parts);
    CHECK_THROWS_AS(Hadamard<float>::from_parts(parts), std::invalid_argument);
  };
  refused([](Parts& p) { p.attributes.erase("size"); });
  refused([](Parts& p) { p.attributes.erase("block"); });
  refused([](Parts& p) { p.attributes["block"] = "7"; });
  refused([](Parts& p) { p.attributes["size"] = "17"; });
  refused([](Parts& p) { p.attributes["size"] = "8"; });
  refused([](Parts& p) { p.attributes["size"] = "10"; });  // a bit of more
  refused([](Parts& p) { p.attributes["size"] = "9999999999"; });
  refused([](Parts& p) { p.tensors["signs"].shape = {1, 2}; });
  refused([](Parts& p) { p.tensors["signs"].type = DataType::i8; });
  refused([](Parts& p) { p.tensors["signs"].data.push_back({}); });
  refused([](Parts& p) { p.tensors["signs"].data[1] |= std::byte{0x20}; });
}

}  // namespace pleat::test
