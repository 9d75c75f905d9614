// SPDX-License-Identifier: MIT
// The checks: overlap against a set of bytes, finiteness by position, and what exceptions carry.
#include "pleat/core/error.hpp"

#include "core/refusal.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <string>

namespace pleat::test {
namespace {

using detail::Extent;

std::set<std::uintptr_t> bytes_of(const Extent& e) {
  std::set<std::uintptr_t> bytes;
  for (std::uintptr_t j = 0; j < e.count; ++j)
    for (std::uintptr_t i = 0; i < e.column; ++i) bytes.insert(e.begin + j * e.stride + i);
  return bytes;
}

bool overlap_by_bytes(const Extent& a, const Extent& b) {
  const auto of_b = bytes_of(b);
  for (const std::uintptr_t byte : bytes_of(a))
    if (of_b.contains(byte)) return true;
  return false;
}

}  // namespace

TEST_CASE("overlap is exact for random blocks", "[core]") {
  Random random(11);
  const auto natural = [&](Index low, Index high) {
    return static_cast<std::uintptr_t>(random.integer(low, high));
  };
  int overlapping = 0;
  constexpr int trials = 20000;
  for (int trial = 0; trial < trials; ++trial) {
    const auto extent = [&] {
      const std::uintptr_t column = natural(1, 6);
      return Extent{1000 + natural(0, 40), column, column + natural(0, 9), natural(0, 6)};
    };
    const Extent a = extent();
    Extent b = extent();
    if (random.integer(0, 2) == 0) b.stride = std::max(a.stride, b.column);  // blocks of one matrix
    const bool expected = overlap_by_bytes(a, b);
    overlapping += expected;
    CAPTURE(a.begin, a.column, a.stride, a.count, b.begin, b.column, b.stride, b.count);
    if (detail::overlap(a, b) != expected || detail::overlap(b, a) != expected)
      FAIL_CHECK("expected " << expected);
  }
  // The draw must exercise both answers.
  CHECK(overlapping > trials / 10);
  CHECK(overlapping < trials * 9 / 10);
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

TEMPLATE_TEST_CASE("require_finite names the first offender", "[core]", float, double) {
  using T = TestType;
  for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                      -std::numeric_limits<T>::infinity()})
    for (Index row = 0; row < 3; ++row)
      for (Index col = 0; col < 5; ++col) {
        Matrix<T> W = Matrix<T>::Constant(3, 5, std::numeric_limits<T>::max());
        CHECK_NOTHROW(detail::require_finite(W, "W"));
        W(row, col) = bad;
        W(2, 4) = bad;  // a later one, which is not the one to name
        const std::string message = refusal([&] { detail::require_finite(W, "the weight"); });
        CHECK(message.find("the weight must be finite") != std::string::npos);
        CHECK(message.find("row " + std::to_string(row) + ", column " + std::to_string(col) +
                           " ") != std::string::npos);
        // Of an expression and of a row-major matrix too.
        CHECK(refusal([&] { detail::require_finite(W * T(1), "the weight"); }) == message);
        const Eigen::Matrix<T, -1, -1, Eigen::RowMajor> rows = W;
        CHECK(refusal([&] { detail::require_finite(rows, "the weight"); }) == message);
      }
  CHECK_NOTHROW(detail::require_finite(Matrix<T>(0, 3), "W"));
}

TEST_CASE("require makes its text only when it throws", "[core]") {
  int made = 0;
  const auto text = [&] {
    ++made;
    return "reason";
  };
  detail::require(true, text);
  CHECK(made == 0);
  CHECK(refusal([&] { detail::require(false, text); }) == "pleat: reason");
  CHECK(made == 1);
}

TEST_CASE("a FormatError carries the file, the problem and the offset", "[core]") {
  const FormatError plain("a.npy", "has no magic");
  CHECK(std::string(plain.what()) == "a.npy: has no magic");
  CHECK(plain.file() == "a.npy");
  CHECK(plain.problem() == "has no magic");
  CHECK(!plain.offset());
  const FormatError located("b.safetensors", "is cut short", 12345678901);
  CHECK(std::string(located.what()) == "b.safetensors: is cut short (at byte 12345678901)");
  CHECK(located.offset() == 12345678901U);
  CHECK(dynamic_cast<const std::runtime_error*>(&located) != nullptr);
}

}  // namespace pleat::test
