// SPDX-License-Identifier: MIT
// NVIDIA's 2:4 form: its codes, both orders of its metadata, and the way there and back.
#include "pleat/matrix/nvidia_semi_structured.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"

#include <cstdint>
#include <set>
#include <stdexcept>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

template <class V>
using RowMajor = Eigen::Matrix<V, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Whole numbers, none, one or two of them in every four of a row.
Matrix<float> two_of_four(Random& random, Index rows, Index cols) {
  Matrix<float> W = Matrix<float>::Zero(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index group = 0; group < cols; group += 4)
      for (int kept = 0; kept < 2; ++kept)
        W(i, group + random.integer(0, 3)) = static_cast<float>(random.integer(-4, 4));
  return W;
}

/// Where PyTorch's conversion to dense looks for the word of a row and column: offsets that were
/// observed, not derived, and so are written quite otherwise.
Index pytorch_offset(std::size_t bytes, Index row, Index col, Index rows) {
  constexpr Index of_16[] = {0, 1, 4, 5};
  constexpr Index of_32[] = {0, 1, 32, 33};
  const Index eighth = row % 32 / 8;
  return col % 2 * 2 + col / 2 * 2 * rows + row % 8 * (bytes == 2 ? 8 : 4) +
         (bytes == 2 ? of_16[eighth] : of_32[eighth]) + row / 32 * 64;
}

}  // namespace

TEST_CASE("NVIDIA 2:4: the codes of all patterns", "[matrix][nvidia]") {
  // One row: each pattern in a group of four columns, as PyTorch encodes it.
  Matrix<float> W = Matrix<float>::Zero(1, 64);
  const auto group = [&](Index at, std::initializer_list<Index> columns) {
    for (const Index k : columns) W(0, 4 * at + k) = static_cast<float>(4 * at + k + 1);
  };
  group(0, {0, 1});
  group(1, {0, 2});
  group(2, {0, 3});
  group(3, {1, 2});
  group(4, {1, 3});
  group(5, {2, 3});
  // group 6 stays empty
  group(7, {0});
  group(8, {1});
  group(9, {2});
  group(10, {3});
  const SemiStructured<float> op(W);

  const auto half = to_nvidia<std::uint16_t>(op);
  CHECK(half.metadata ==
        (RowMajor<std::uint16_t>(1, 4) << 0x9c84, 0xceed, 0xeeed, 0xeeee).finished());
  const auto byte = to_nvidia<std::uint32_t>(op);
  CHECK(byte.metadata == (RowMajor<std::uint32_t>(1, 2) << 0xceed9c84, 0xeeeeeeed).finished());
  RowMajor<float> values = RowMajor<float>::Zero(1, 32);
  values.leftCols(22) << 1, 2, 5, 7, 9, 12, 14, 15, 18, 20, 23, 24, 0, 0, 29, 0, 34, 0, 39, 0, 0,
      44;
  CHECK(half.values == values);
  CHECK(byte.values == values);
  // The signed words of PyTorch have the same bits.
  CHECK(to_nvidia<std::int16_t>(op).metadata == half.metadata.cast<std::int16_t>());
  CHECK(from_nvidia<float>(to_nvidia<std::int16_t>(op)).to_dense() == W);
  CHECK(from_nvidia<float>(to_nvidia<std::int32_t>(op)).to_dense() == W);
}

TEMPLATE_TEST_CASE("NVIDIA 2:4: there and back", "[matrix][nvidia]", std::uint16_t, std::uint32_t) {
  Random random(71);
  for (const Index rows : {32, 64, 96})
    for (const Index cols : {64, 128, 320}) {
      INFO(rows << " x " << cols);
      const Matrix<float> W = two_of_four(random, rows, cols);
      const SemiStructured<float> op(W);
      for (const NvidiaLayout layout : {NvidiaLayout::rows, NvidiaLayout::cutlass}) {
        const auto matrix = to_nvidia<TestType>(op, layout);
        CHECK(matrix.values.rows() == rows);
        CHECK(matrix.values.cols() == cols / 2);
        CHECK(matrix.metadata.cols() == cols / (8 * Index{sizeof(TestType)}));
        const SemiStructured<float> back = from_nvidia<float>(matrix, layout);
        CHECK(back.to_dense() == W);
        const Matrix<float> X = random.matrix<float>(cols, 3);
        Matrix<float> Y(rows, 3);
        back.apply(X, Y);
        CHECK((Y - W * X).norm() <= 1e-5F * (W * X).norm());
      }
      // The order of CUTLASS: every word has one place, the one where PyTorch looks for it.
      const auto plain = to_nvidia<TestType>(op);
      const auto ordered = to_nvidia<TestType>(op, NvidiaLayout::cutlass);
      std::set<Index> places;
      bool same = true;
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < plain.metadata.cols(); ++j) {
          const Index at = pytorch_offset(sizeof(TestType), i, j, rows);
          places.insert(at);
          same = same && ordered.metadata.data()[at] == plain.metadata(i, j);
        }
      CHECK(same);
      CHECK(Index(places.size()) == plain.metadata.size());
    }
}

TEST_CASE("NVIDIA 2:4: values of other types, any order, any scalar", "[matrix][nvidia]") {
  Random random(72);
  const Matrix<float> W = two_of_four(random, 5, 32);  // whole numbers: exact in all types
  const auto matrix = to_nvidia<std::uint16_t>(SemiStructured<float>(W));
  const auto meta = matrix.metadata;
  CHECK(from_nvidia<float>(matrix.values.cast<Eigen::half>(), meta).to_dense() == W);
  CHECK(from_nvidia<float>(matrix.values.cast<Eigen::bfloat16>(), meta).to_dense() == W);
  CHECK(from_nvidia<double>(matrix.values.cast<std::int8_t>(), meta).to_dense() ==
        W.cast<double>());
  const Matrix<float> by_columns = matrix.values;
  const Matrix<std::uint16_t> words = meta;
  CHECK(from_nvidia<float>(by_columns, words).to_dense() == W);
  // Straight from memory, and narrow again without loss.
  const Eigen::Map<const RowMajor<float>> values(matrix.values.data(), 5, 16);
  const Eigen::Map<const RowMajor<std::uint16_t>> bits(meta.data(), 5, 2);
  CHECK(from_nvidia<float>(values, bits).stored_as(Storage::bf16).to_dense() == W);
  // Narrow storage is exported with the values that it has.
  const SemiStructured<float> narrow(
      random.matrix<float>(5, 16).leftCols(2) * Matrix<float>::Identity(2, 16), Storage::int8);
  CHECK(from_nvidia<float>(to_nvidia<std::uint16_t>(narrow)).to_dense() == narrow.to_dense());
  CHECK(from_nvidia<float>(RowMajor<float>(0, 8), RowMajor<std::uint16_t>(0, 1)).rows() == 0);
}

TEST_CASE("NVIDIA 2:4: what is not 2:4 is refused by row and group", "[matrix][nvidia]") {
  const RowMajor<float> values = RowMajor<float>::Ones(3, 16);
  RowMajor<std::uint16_t> metadata = RowMajor<std::uint16_t>::Constant(3, 2, 0x4444);
  CHECK_NOTHROW(from_nvidia<float>(values, metadata));
  for (const unsigned code : {0x0U, 0x5U, 0xaU, 0xfU, 0x1U, 0x2U, 0x3U, 0x6U, 0x7U, 0xbU}) {
    INFO("code " << code);  // the same position twice, or a descending pair
    metadata(2, 1) = static_cast<std::uint16_t>(0x4044 | code << 8);
    CHECK_THROWS_WITH(from_nvidia<float>(values, metadata), Contains("row 2, group 6"));
  }
  RowMajor<std::uint16_t> reordered = RowMajor<std::uint16_t>::Constant(32, 2, 0x4444);
  reordered.data()[detail::cutlass_offset<std::uint16_t>(19, 1, 32)] = 0x4044;
  CHECK_THROWS_WITH(
      from_nvidia<float>(RowMajor<float>::Ones(32, 16), reordered, NvidiaLayout::cutlass),
      Contains("row 19, group 6"));
}

TEST_CASE("NVIDIA 2:4: shapes that have no such form are refused", "[matrix][nvidia]") {
  const auto word16 = [](Index rows, Index cols) -> RowMajor<std::uint16_t> {
    return RowMajor<std::uint16_t>::Constant(rows, cols, 0x4444);
  };
  CHECK_THROWS_WITH(from_nvidia<float>(RowMajor<float>::Ones(3, 12), word16(3, 1)),
                    Contains("multiples of 16") && Contains("3 x 24"));
  CHECK_THROWS_WITH(from_nvidia<float>(RowMajor<float>::Ones(3, 8), word16(2, 1)),
                    Contains("3 x 1, not 2 x 1"));
  CHECK_THROWS_WITH(from_nvidia<float>(RowMajor<float>::Ones(3, 8), word16(3, 2)),
                    Contains("3 x 1, not 3 x 2"));
  CHECK_THROWS_WITH(
      from_nvidia<float>(RowMajor<float>::Ones(16, 16), word16(16, 2), NvidiaLayout::cutlass),
      Contains("multiples of 32"));
  CHECK_THROWS_WITH(
      from_nvidia<float>(RowMajor<float>::Ones(32, 8), word16(32, 1), NvidiaLayout::cutlass),
      Contains("columns in multiples of 32"));
  const SemiStructured<float> odd(Matrix<float>::Zero(4, 18));
  CHECK_THROWS_AS(to_nvidia<std::uint16_t>(odd), std::invalid_argument);
  CHECK_THROWS_AS(to_nvidia<std::uint32_t>(SemiStructured<float>(Matrix<float>::Zero(4, 16))),
                  std::invalid_argument);
  const SemiStructured<float> narrow(Matrix<float>::Zero(4, 16), Storage::int8);
  CHECK_THROWS_WITH(to_nvidia<std::uint16_t>(narrow.rotated(Hadamard<float>(16))),
                    Contains("rotated"));
  CHECK_THROWS_AS(from_nvidia<float>(RowMajor<float>::Ones(3, 8), word16(3, 1), NvidiaLayout(7)),
                  std::invalid_argument);
}

}  // namespace pleat::test
