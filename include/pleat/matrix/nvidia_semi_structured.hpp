// SPDX-License-Identifier: MIT
// 2:4 matrices from and to the form in which NVIDIA's sparse tensor cores, and PyTorch, keep them.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

namespace pleat {
inline namespace PLEAT_ABI {

/// A word of metadata: 16 bits beside values of 16 bits, 32 bits beside values of 8. PyTorch has
/// the signed types, for want of others.
template <class W>
concept NvidiaWord = std::integral<W> &&(sizeof(W) == 2 || sizeof(W) == 4);

/// The order of the words of metadata.
enum class NvidiaLayout : std::uint8_t {
  rows,     ///< as the groups lie in the matrix, row by row
  cutlass,  ///< as CUTLASS's kernels load them, and PyTorch's `SparseSemiStructuredTensorCUTLASS`
};

/// An m x n matrix with the pattern 2:4: the two kept values of every four columns, and where among
/// the four they lie. Both parts are row-major, so `data()` is what those libraries take.
///
/// Positions take two bits each, ascending, that of the first value lowest: 4 bits a group, the
/// first group of a word in its lowest bits. The code, in hex, for each set of kept columns:
///
///     columns  {0,1}  {0,2}  {0,3}  {1,2}  {1,3}  {2,3}
///     code       4      8      c      9      d      e
///
/// A group with one value, in column 0, 1 or 2, keeps column 3 as well; one with its value in
/// column 3, or with none, keeps {2,3}. So `to_nvidia` has it, because PyTorch has.
template <class Value, NvidiaWord Word>
struct NvidiaSemiStructured {
  template <class V>
  using RowMajor = Eigen::Matrix<V, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  RowMajor<Value> values;   // m x n / 2
  RowMajor<Word> metadata;  // m x n / 16 in words of 16 bits, m x n / 32 in words of 32
};

namespace detail {

/// Groups of four columns that a word describes.
template <NvidiaWord Word>
inline constexpr Index nvidia_groups{2 * sizeof(Word)};

/// Where the word of a row and column lies in CUTLASS's order, counted in words.
///
/// Of 32 rows (16 in words of 32 bits), those that are 8 apart come together; then each 2 x 2 block
/// swaps the two words off its diagonal; then pairs of columns follow each other, each by rows.
template <NvidiaWord Word>
[[nodiscard]] constexpr Index cutlass_offset(Index row, Index col, Index rows) noexcept {
  constexpr Index together = sizeof(Word) == 2 ? 4 : 2;
  constexpr Index tile = 8 * together;
  Index to_row = row / tile * tile + row % 8 * together + row % tile / 8;
  if ((to_row + col) % 2 != 0) {
    to_row ^= 1;
    col ^= 1;
  }
  return col / 2 * 2 * rows + to_row * 2 + col % 2;
}

/// Throws unless an m x n matrix has words of this kind in this order.
template <NvidiaWord Word>
void require_nvidia_shape(const char* call, Index rows, Index cols, NvidiaLayout layout) {
  require(layout <= NvidiaLayout::cutlass,
          [&] { return std::string(call) + ": unknown layout of the metadata"; });
  constexpr Index width = 4 * nvidia_groups<Word>;
  const Index multiple = layout == NvidiaLayout::cutlass ? 2 * width : width;
  const Index tile = layout == NvidiaLayout::rows ? 1 : (sizeof(Word) == 2 ? 32 : 16);
  require(cols % multiple == 0 && rows % tile == 0, [&] {
    return std::string(call) + ": metadata in words of " + std::to_string(8 * sizeof(Word)) +
           " bits, in this layout, needs rows in multiples of " + std::to_string(tile) +
           " and columns in multiples of " + std::to_string(multiple) + ", not a " +
           shape_text(rows, cols) + " matrix; pad it with zeros";
  });
}

}  // namespace detail

/// The 2:4 operator for values (m x n / 2) and metadata (m x n / 16, or n / 32 in words of 32
/// bits), both of them Eigen matrices of any storage order, such as a `Map` of row-major memory;
/// for `NvidiaLayout::cutlass` the metadata matrix is what its memory says, read by rows. The
/// values may be of any type that converts to T: `Eigen::half`, `Eigen::bfloat16`, integers. The
/// operator holds them as they are; `stored_as` narrows it, without loss where they were narrow.
///
/// Throws `std::invalid_argument` if shapes do not fit each other or the layout, or, naming row and
/// group, where two positions do not ascend, so that the code is none of 2:4.
///
/// Source: NVIDIA PTX ISA, "mma.sp"; CUTLASS, `reorder_meta`; PyTorch,
/// `torch/sparse/_semi_structured_conversions.py`.
template <Real T, class Values, class Words>
requires NvidiaWord<typename Words::Scalar>
[[nodiscard]] SemiStructured<T> from_nvidia(const Eigen::MatrixBase<Values>& values,
                                            const Eigen::MatrixBase<Words>& metadata,
                                            NvidiaLayout layout = NvidiaLayout::rows) {
  using Word = typename Words::Scalar;
  using Bits = std::make_unsigned_t<Word>;
  constexpr Index groups = detail::nvidia_groups<Word>;
  const Index rows = values.rows();
  const Index cols = 2 * values.cols();
  detail::require_nvidia_shape<Word>("from_nvidia", rows, cols, layout);
  const Index width = cols / (4 * groups);
  detail::require(metadata.rows() == rows && metadata.cols() == width, [&] {
    return "from_nvidia: the metadata for " + detail::shape_text(rows, values.cols()) +
           " values is " + detail::shape_text(rows, width) + ", not " +
           detail::shape_text(metadata.rows(), metadata.cols());
  });
  Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic> codes(rows, cols / 8);
  for (Index row = 0; row < rows; ++row)
    for (Index col = 0; col < width; ++col) {
      Index from_row = row;
      Index from_col = col;
      if (layout == NvidiaLayout::cutlass) {
        const Index offset = detail::cutlass_offset<Word>(row, col, rows);
        from_row = offset / width;
        from_col = offset % width;
      }
      const auto word = static_cast<Bits>(metadata.derived().coeff(from_row, from_col));
      for (Index byte = 0; byte < groups / 2; ++byte)
        codes(row, col * (groups / 2) + byte) = static_cast<std::uint8_t>(word >> (8 * byte) & 255);
    }
  Parts parts{"SemiStructured", {{"cols", std::to_string(cols)}}, {}, {}};
  parts.tensors["codes"] = Tensor::of(codes);
  parts.tensors["values"] = Tensor::of(values.template cast<T>());
  return SemiStructured<T>::from_parts(parts);
}

/// The same from both parts at once.
template <Real T, class Value, NvidiaWord Word>
[[nodiscard]] SemiStructured<T> from_nvidia(const NvidiaSemiStructured<Value, Word>& matrix,
                                            NvidiaLayout layout = NvidiaLayout::rows) {
  return from_nvidia<T>(matrix.values, matrix.metadata, layout);
}

/// A 2:4 operator in NVIDIA's form, with metadata in words of type Word. Its values stay of type T:
/// `values.cast<Eigen::half>()` and the like make them what a kernel takes. Throws
/// `std::invalid_argument` for other patterns, for one that is rotated, unless n is a multiple of
/// the columns that a word describes, 16 or 32, and in CUTLASS's order of two words, and m of 32
/// (16 in words of 32 bits).
template <NvidiaWord Word, Real T>
[[nodiscard]] NvidiaSemiStructured<T, Word> to_nvidia(const SemiStructured<T>& op,
                                                      NvidiaLayout layout = NvidiaLayout::rows) {
  using Bits = std::make_unsigned_t<Word>;
  constexpr Index groups = detail::nvidia_groups<Word>;
  const Index rows = op.rows();
  const Index cols = op.cols();
  detail::require(op.pattern().group == 4 && op.pattern().kept <= 2, [&] {
    return "to_nvidia: the pattern is " + to_string(op.pattern()) + ", not 2:4";
  });
  detail::require(!op.rotation().has_value(), [] {
    return std::string("to_nvidia: a rotated matrix is not 2:4; rotate the inputs of what is");
  });
  detail::require_nvidia_shape<Word>("to_nvidia", rows, cols, layout);
  const Index width = cols / (4 * groups);
  NvidiaSemiStructured<T, Word> result;
  result.values.resize(rows, cols / 2);
  result.metadata.resize(rows, width);
  const Matrix<T> dense = op.to_dense();
  for (Index row = 0; row < rows; ++row)
    for (Index col = 0; col < width; ++col) {
      std::uint32_t word = 0;
      for (Index i = 0; i < groups; ++i) {
        const Index group = col * groups + i;
        Index kept[2] = {2, 3};
        int count = 0;
        for (Index k = 0; k < 4; ++k)
          if (dense(row, 4 * group + k) != T(0)) kept[count++] = k;
        // One value alone goes with the last column; in the last two, both of them are kept.
        if (count == 1) kept[1] = 3;
        if (count == 1 && kept[0] == 3) kept[0] = 2;
        for (int k = 0; k < 2; ++k)
          result.values(row, 2 * group + k) = dense(row, 4 * group + kept[k]);
        word |= static_cast<std::uint32_t>(kept[0] | kept[1] << 2) << (4 * i);
      }
      const Index offset = layout == NvidiaLayout::cutlass
                               ? detail::cutlass_offset<Word>(row, col, rows)
                               : row * width + col;
      result.metadata.data()[offset] = static_cast<Word>(static_cast<Bits>(word));
    }
  return result;
}

}  // namespace PLEAT_ABI
}  // namespace pleat
