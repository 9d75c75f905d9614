// SPDX-License-Identifier: MIT
// How matrices come in and go out: as views of column-major memory, made without a copy, and the
// checks that an operator makes of them.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/scalar.hpp"

#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

namespace pleat {
inline namespace PLEAT_ABI {

/// A column-major matrix to read, as operators see it: a pointer, two sizes, and the distance from
/// one column to the next. Unlike a `ConstMatrixRef` it never holds a copy, and costs nothing to
/// make. Converts to one without a copy.
template <class T>
using ConstMatrixView = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;

/// The same to write.
template <class T>
using MatrixView = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

namespace detail {

/// Whether a type of matrix or vector lies in memory column by column, so that a view of it needs
/// no copy. A vector may be a row: its entries are then one sample each.
template <class Derived>
concept ColumnMajor = (int{Derived::Flags} & int{Eigen::DirectAccessBit}) != 0 &&
                      int{Derived::InnerStrideAtCompileTime} == 1 &&
                      (!bool{Derived::IsRowMajor} || bool{Derived::IsVectorAtCompileTime});

/// From one column to the next.
template <class Derived>
[[nodiscard]] Index column_stride(const Derived& matrix) noexcept {
  if constexpr (Derived::IsRowMajor) return 1;  // a row, whose entries are the columns
  else return matrix.outerStride();
}

/// A view of what an operator reads. What would have to be copied does not compile.
template <class T, class Derived>
[[nodiscard]] ConstMatrixView<T> view_input(const Eigen::MatrixBase<Derived>& matrix) {
  static_assert(std::same_as<typename Derived::Scalar, T>,
                "pleat: the input is not of the operator's scalar. Convert it once, outside the "
                "loop: Eigen::MatrixXf X = D.cast<float>()");
  static_assert(!std::same_as<typename Derived::Scalar, T> || ColumnMajor<Derived>,
                "pleat: the input would be copied in every call. An expression: evaluate it into a "
                "matrix first, Eigen::MatrixXf X = ... A row-major batch x features buffer: "
                "Eigen::Map<const Eigen::MatrixXf>(data, features, batch)");
  if constexpr (std::same_as<typename Derived::Scalar, T> && ColumnMajor<Derived>) {
    const Derived& m = matrix.derived();
    return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(column_stride(m))};
  } else {
    return {nullptr, 0, 0, Eigen::OuterStride<>(0)};
  }
}

/// A view of what an operator writes. `Output` is what the caller's expression is: a matrix that
/// may be written, or a temporary `Map` or block of one.
template <class T, class Output>
[[nodiscard]] MatrixView<T> view_output(Output&& matrix) {
  using Derived = std::remove_cvref_t<Output>;
  constexpr bool same = std::same_as<typename Derived::Scalar, T>;
  constexpr bool column_major = ColumnMajor<Derived>;
  // A matrix that owns its memory is const where it is declared so, or gone where it is a
  // temporary; a Map or a block is as good as what it points at.
  constexpr bool owns = std::derived_from<Derived, Eigen::PlainObjectBase<Derived>>;
  constexpr bool writable = (int{Derived::Flags} & int{Eigen::LvalueBit}) != 0 &&
                            !(owns && (std::is_const_v<std::remove_reference_t<Output>> ||
                                       std::is_rvalue_reference_v<Output&&>));
  static_assert(same, "pleat: the output is not of the operator's scalar");
  static_assert(column_major,
                "pleat: the output is written in place, so it is column-major and no expression. "
                "A row-major batch x features buffer: Eigen::Map<Eigen::MatrixXf>(data, features, "
                "batch)");
  static_assert(writable, "pleat: the output is written, so it is neither const nor a temporary");
  if constexpr (same && column_major && writable) {
    using Scalar = typename Derived::Scalar;
    auto* const data = const_cast<Scalar*>(matrix.data());
    return {data, matrix.rows(), matrix.cols(), Eigen::OuterStride<>(column_stride(matrix))};
  } else {
    return {nullptr, 0, 0, Eigen::OuterStride<>(0)};
  }
}

/// Some of the columns of a view.
template <class View>
[[nodiscard]] View columns(const View& matrix, Index first, Index count) noexcept {
  return {const_cast<typename View::PointerType>(matrix.data()) + first * matrix.outerStride(),
          matrix.rows(), count, Eigen::OuterStride<>(matrix.outerStride())};
}

/// Columns in memory, in bytes: where the first begins, how long each is, how far the next one lies
/// (before it, where that is negative), how many there are.
struct Extent {
  std::intptr_t begin;
  std::intptr_t column;
  std::intptr_t stride;
  std::intptr_t count;

  /// Whether two of the columns share a byte.
  [[nodiscard]] bool overlaps_itself() const noexcept {
    return count > 1 && column > 0 && stride < column && -stride < column;
  }
  /// The same bytes, from the lowest column up.
  [[nodiscard]] Extent ascending() const noexcept {
    if (count <= 1) return {begin, column, column, count};
    return stride >= 0 ? *this : Extent{begin + (count - 1) * stride, column, -stride, count};
  }
  [[nodiscard]] std::intptr_t end() const noexcept { return begin + (count - 1) * stride + column; }
};

template <class View>
[[nodiscard]] Extent extent_of(const View& matrix) noexcept {
  constexpr std::intptr_t size = sizeof(typename View::Scalar);
  const std::intptr_t rows = matrix.rows() * size;
  return {reinterpret_cast<std::intptr_t>(matrix.data()), rows, matrix.outerStride() * size,
          rows == 0 ? 0 : matrix.cols()};
}

/// Whether columns that are read share a byte with columns that are written; the latter do not
/// overlap each other, the former may, as the windows of a signal do. Exact: two blocks of rows of
/// one matrix interleave in memory and yet do not overlap. O(1) where the address ranges are
/// disjoint, else O(columns read).
[[nodiscard]] inline bool overlap(const Extent& read, const Extent& written) noexcept {
  if (read.count == 0 || written.count == 0) return false;
  const Extent a = read.ascending();
  const Extent b = written.ascending();
  if (a.end() <= b.begin || b.end() <= a.begin) return false;
  for (std::intptr_t j = 0; j < a.count; ++j) {
    const std::intptr_t begin = a.begin + j * a.stride;
    const std::intptr_t end = begin + a.column;
    if (end <= b.begin || begin >= b.end()) continue;
    // The last column of b that begins before `end` is the only one that can reach into [begin,
    // end) from the left; all later ones begin at or after `end`.
    const std::intptr_t last = (end - 1 - b.begin) / b.stride;
    const std::intptr_t column = last < b.count - 1 ? last : b.count - 1;
    if (b.begin + column * b.stride + b.column > begin) return true;
  }
  return false;
}

/// Says what is wrong with the arguments of an operator, if something is. By value, as what the
/// fast path hands on: it then keeps them in registers.
template <class T>
[[gnu::cold, gnu::noinline]] void require_fit_exactly(const char* call, Index rows, Index cols,
                                                      ConstMatrixView<T> in, Index in_rows,
                                                      MatrixView<T> out, Index out_rows) {
  const auto text = [](const auto& matrix) { return shape_text(matrix.rows(), matrix.cols()); };
  require(in.rows() == in_rows && out.rows() == out_rows && in.cols() == out.cols(), [&] {
    return std::string(call) + ": a " + shape_text(rows, cols) + " operator takes " +
           std::to_string(in_rows) + " x batch to " + std::to_string(out_rows) +
           " x batch, but the input is " + text(in) + " and the output " + text(out);
  });
  require(!extent_of(out).overlaps_itself(), [&] {
    return std::string(call) + ": the columns of the output (" + text(out) +
           ") overlap: they are " + std::to_string(out.outerStride()) + " apart";
  });
  require(!overlap(extent_of(in), extent_of(out)), [&] {
    return std::string(call) + ": the input (" + text(in) + ") and the output (" + text(out) +
           ") share memory";
  });
}

/// Throws `std::invalid_argument` unless shapes agree, and the output overlaps neither the input
/// nor itself. The common case, two ranges of memory that are apart, is seen in a few instructions.
template <class T>
[[gnu::always_inline]] inline void require_fit(const char* call, Index rows, Index cols,
                                               const ConstMatrixView<T>& in, Index in_rows,
                                               const MatrixView<T>& out, Index out_rows) {
  const Index batch = in.cols();
  const Index in_stride = in.outerStride();
  const Index out_stride = out.outerStride();
  const auto begin = [](const T* p) { return reinterpret_cast<std::intptr_t>(p); };
  constexpr std::intptr_t size = sizeof(T);
  const std::intptr_t in_end = begin(in.data()) + ((batch - 1) * in_stride + in_rows) * size;
  const std::intptr_t out_end = begin(out.data()) + ((batch - 1) * out_stride + out_rows) * size;
  const bool apart = in_end <= begin(out.data()) || out_end <= begin(in.data());
  const bool plain = (in_stride >= 0 && out_stride >= out_rows) || batch == 1;
  if (in.rows() == in_rows && out.rows() == out_rows && batch == out.cols() && apart && plain)
      [[likely]]
    return;
  require_fit_exactly<T>(call, rows, cols, in, in_rows, out, out_rows);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
