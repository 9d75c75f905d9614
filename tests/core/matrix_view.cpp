// SPDX-License-Identifier: MIT
// What an operator makes of the memory it is given: overlap against a set of bytes, and views of
// everything that needs no copy.
#include "pleat/core/matrix_view.hpp"

#include "core/refusal.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <cstdint>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <vector>

namespace pleat::test {
namespace {

using detail::Extent;

/// Of all columns; whether two of them share one goes to `twice`.
std::set<std::intptr_t> bytes_of(const Extent& e, bool* twice = nullptr) {
  std::set<std::intptr_t> bytes;
  for (std::intptr_t j = 0; j < e.count; ++j)
    for (std::intptr_t i = 0; i < e.column; ++i)
      if (!bytes.insert(e.begin + j * e.stride + i).second && twice != nullptr) *twice = true;
  return bytes;
}

bool overlap_by_bytes(const Extent& a, const Extent& b) {
  const auto of_b = bytes_of(b);
  for (const std::intptr_t byte : bytes_of(a))
    if (of_b.contains(byte)) return true;
  return false;
}

template <class T>
using Strided = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

}  // namespace

TEST_CASE("overlap is exact for every stride, and inputs may overlap themselves", "[core]") {
  Random random(11);
  int overlapping = 0;
  int themselves = 0;
  constexpr int trials = 30000;
  for (int trial = 0; trial < trials; ++trial) {
    const auto extent = [&] {
      return Extent{1000 + random.integer(0, 40), random.integer(1, 6), random.integer(-15, 15),
                    random.integer(0, 6)};
    };
    const Extent read = extent();
    Extent written = extent();
    bool twice = false;
    (void)bytes_of(written, &twice);
    CAPTURE(written.begin, written.column, written.stride, written.count);
    if (written.overlaps_itself() != twice) FAIL_CHECK("overlaps itself: " << twice);
    themselves += twice;
    if (twice) continue;
    const bool expected = overlap_by_bytes(read, written);
    overlapping += expected;
    CAPTURE(read.begin, read.column, read.stride, read.count);
    if (detail::overlap(read, written) != expected) FAIL_CHECK("expected " << expected);
  }
  // The draw must exercise all answers.
  CHECK(overlapping > trials / 20);
  CHECK(overlapping < trials / 2);
  CHECK(themselves > trials / 10);
}

TEST_CASE("overlap of matrices, maps and blocks", "[core]") {
  Eigen::MatrixXf M(10, 4);
  const auto extent = [](const auto& m) { return detail::extent_of(m); };
  CHECK(detail::overlap(extent(M), extent(M)));
  CHECK(detail::overlap(extent(M.topRows(6)), extent(M.bottomRows(5))));
  CHECK(!detail::overlap(extent(M.topRows(5)), extent(M.bottomRows(5))));
  CHECK(!detail::overlap(extent(M.leftCols(2)), extent(M.rightCols(2))));
  CHECK(detail::overlap(extent(M.leftCols(3)), extent(M.rightCols(2))));
  CHECK(!detail::overlap(extent(M), extent(M.leftCols(0))));
  CHECK(!detail::overlap(extent(M), extent(M.topRows(0))));
  CHECK(detail::overlap(extent(M.col(1)), extent(M.block(9, 0, 1, 4))));
  CHECK(!detail::overlap(extent(M.col(1).head(9)), extent(M.block(9, 0, 1, 4))));
  const Eigen::MatrixXf other(10, 4);
  CHECK(!detail::overlap(extent(M), extent(other)));
  const Eigen::MatrixXf empty;
  CHECK(!detail::overlap(extent(M), extent(empty)));
}

TEMPLATE_TEST_CASE("inputs may be windows of a signal, and lie in memory in any order", "[core]",
                   float, double) {
  using T = TestType;
  Random random(12);
  for (const Index window : {16, 512})
    for (const Index hop : {1, 4, 128, 511, -3}) {
      constexpr Index rows = 5;
      constexpr Index batch = 8;
      const Matrix<T> W = random.matrix<T>(rows, window);
      const Dense<T> op(W);
      const Index signal = window + (batch - 1) * std::abs(hop);
      // The outputs lie right behind the signal, or right before it.
      for (const bool behind : {true, false}) {
        Vector<T> arena(signal + rows * batch);
        const Index begin = behind ? 0 : rows * batch;
        arena.segment(begin, signal) = random.matrix<T>(signal, 1);
        const T* const first = arena.data() + begin + (hop < 0 ? (batch - 1) * -hop : 0);
        const Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>> X(first, window, batch,
                                                                     Eigen::OuterStride<>(hop));
        const Matrix<T> copy = X;
        Matrix<T> expected(rows, batch);
        op.apply(copy, expected);
        Eigen::Map<Matrix<T>> Y(arena.data() + (behind ? signal : 0), rows, batch);
        CAPTURE(window, hop, behind);
        CHECK_NOTHROW(op.apply(X, Y));
        CHECK(Y == expected);
      }
      // One output in the last value of the signal.
      Vector<T> arena = Vector<T>::Ones(signal + rows * batch);
      const T* const first = arena.data() + (hop < 0 ? (batch - 1) * -hop : 0);
      const Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>> X(first, window, batch,
                                                                   Eigen::OuterStride<>(hop));
      Eigen::Map<Matrix<T>> Y(arena.data() + signal - 1, rows, batch);
      CHECK(refusal([&] { op.apply(X, Y); }).find("share memory") != std::string::npos);
      CHECK((arena.array() == T(1)).all());
    }
}

TEMPLATE_TEST_CASE("outputs whose columns overlap are refused, in whatever order they lie",
                   "[core]", float, double) {
  using T = TestType;
  Random random(13);
  const Dense<T> op(random.matrix<T>(16, 8));
  const Matrix<T> X = random.matrix<T>(8, 4);
  Matrix<T> expected(16, 4);
  op.apply(X, expected);
  for (const Index stride : {0, 4, 15, -4, -15}) {
    Vector<T> memory = Vector<T>::Constant(200, T(7));
    Strided<T> Y(memory.data() + 100, 16, 4, Eigen::OuterStride<>(stride));
    CAPTURE(stride);
    CHECK(refusal([&] { op.apply(X, Y); }).find("overlap") != std::string::npos);
    CHECK(refusal([&] { op.apply_add(X, Y); }).find("overlap") != std::string::npos);
    CHECK((memory.array() == T(7)).all());
    // One column overlaps nothing.
    CHECK_NOTHROW(op.apply(X.col(0), Y.col(0)));
  }
  for (const Index stride : {16, 17, -16, -20}) {
    Vector<T> memory = Vector<T>::Constant(200, T(7));
    Strided<T> Y(memory.data() + 100, 16, 4, Eigen::OuterStride<>(stride));
    CAPTURE(stride);
    CHECK_NOTHROW(op.apply(X, Y));
    CHECK(Y == expected);
    CHECK((memory.array() != T(7)).count() == 64);
  }
}

TEMPLATE_TEST_CASE("everything that needs no copy is taken", "[core]", float, double) {
  using T = TestType;
  Random random(14);
  const Matrix<T> W = random.matrix<T>(3, 5);
  const Dense<T> op(W);
  const Matrix<T> X = random.matrix<T>(5, 4);
  Matrix<T> expected(3, 4);
  op.apply(X, expected);
  Workspace workspace;
  Matrix<T> Y(3, 4);
  const auto is = [&](const auto& result, Index count = 4) {
    const bool same = result == expected.leftCols(count);
    Y.setZero();
    return same;
  };
  const Eigen::Matrix<T, 5, 4> fixed = X;
  Eigen::Matrix<T, 3, 4> fixed_out;
  op.apply(fixed, fixed_out);
  CHECK(is(fixed_out));
  const ConstMatrixRef<T> ref(X);
  MatrixRef<T> out(Y);
  op.apply(ref, out, workspace);
  CHECK(is(Y));
  op.apply(ConstMatrixView<T>(X.data(), 5, 4, Eigen::OuterStride<>(5)), MatrixRef<T>(Y));
  CHECK(is(Y));
  const Eigen::Map<const Matrix<T>, Eigen::Aligned16> aligned(nullptr, 5, 0);
  op.apply(aligned, Y.leftCols(0));
  const Eigen::Map<Matrix<T>> map(Y.data(), 3, 4);  // const, but what it points at is not
  op.apply(X, map);
  CHECK(is(Y));
  const Vector<T> x = X.col(0);
  Vector<T> y(3);
  op.apply(x, y);
  CHECK(is(y, 1));
  Matrix<T> large = Matrix<T>::Zero(9, 9);
  large.block(2, 1, 5, 4) = X;
  op.apply(large.block(2, 1, 5, 4), Y.middleCols(0, 4));
  CHECK(is(Y));
  // A row of samples, where there is one input or one output.
  const Dense<T> sum(W.row(0));
  Eigen::Matrix<T, 1, Eigen::Dynamic> row(4);
  sum.apply(X, row);
  CHECK(row == expected.row(0));
  const Dense<T> spread(W.col(0));
  Matrix<T> spread_out(3, 4);
  Matrix<T> spread_expected(3, 4);
  spread.apply(row, spread_out);
  spread.apply(Matrix<T>(row), spread_expected);
  CHECK(spread_out == spread_expected);
}

}  // namespace pleat::test
