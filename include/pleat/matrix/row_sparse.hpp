// SPDX-License-Identifier: MIT
// A sparse matrix with the same number of entries in every row.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/kernel/table.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/column_indices.hpp"
#include "pleat/matrix/detail/sparse_apply.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// An m x n matrix with exactly s entries in every row: their values and columns, row by row with
/// columns ascending (the format ELLPACK). Any m; n at most 2^32; s at most n.
///
/// Stored: s values a row, and their columns as what takes fewer bytes: s indices (2 bytes each up
/// to n = 65536, else 4) or a mask of n bits, rounded up to whole bytes. With 16-bit indices that
/// is a mask from one entry in 16 on. Cost of `apply`: 2 m s flops a sample; `apply_transpose` is
/// not vectorised.
///
/// A row of fewer than s nonzeros stores zeros as well. They multiply their inputs as any other
/// value does: an infinity or NaN there makes the output NaN.
///
/// Source: D. R. Kincaid, T. C. Oppe and D. M. Young, "ITPACKV 2D User's Guide", CNA-232,
/// University of Texas at Austin, 1989.
template <Real T>
class RowSparse : public OperatorBase<RowSparse<T>, T> {
 public:
  static constexpr std::string_view name = "RowSparse";

  /// The empty 0 x 0 matrix.
  RowSparse() = default;

  /// The nonzeros of any dense Eigen matrix or expression, at most `row_entries` in each row; rows
  /// that have fewer are filled up with zeros at their first columns without one. Throws
  /// `std::invalid_argument` if there are not as many columns, or naming the first entry, row by
  /// row, that is one too many.
  template <class Derived>
  RowSparse(const Eigen::MatrixBase<Derived>& matrix, Index row_entries)
      : RowSparse(matrix.rows(), matrix.cols(), row_entries) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> entries(
        matrix.derived());
    for (Index row = 0; row < rows_; ++row) {
      Index nonzeros = 0;
      for (Index col = 0; col < cols_; ++col)
        if (entries.coeff(row, col) != T(0))
          detail::require(++nonzeros <= row_entries_, [&] {
            return "RowSparse: the nonzero at row " + std::to_string(row) + ", column " +
                   std::to_string(col) + " is one more than " + std::to_string(row_entries_);
          });
      Index spare = row_entries_ - nonzeros;
      Index stored = 0;
      for (Index col = 0; col < cols_; ++col) {
        const T value = entries.coeff(row, col);
        if (value == T(0) && spare-- <= 0) continue;
        set(row, stored++, col, value == T(0) ? T(0) : value);
      }
    }
  }

  /// Of given entries, zeros among them: entry e of row i is values(i, e), in column columns(i, e)
  /// of `cols`. Throws `std::invalid_argument` unless the two have one shape and, naming the row,
  /// the columns of every row ascend and are less than `cols`.
  template <class Values, class Columns>
  RowSparse(Index cols, const Eigen::MatrixBase<Values>& values,
            const Eigen::MatrixBase<Columns>& columns)
      : RowSparse(values.rows(), cols, values.cols()) {
    detail::require(columns.rows() == values.rows() && columns.cols() == values.cols(), [&] {
      return "RowSparse: " + detail::shape_text(values.rows(), values.cols()) +
             " values do not have " + detail::shape_text(columns.rows(), columns.cols()) +
             " columns";
    });
    for (Index row = 0; row < rows_; ++row) {
      Index before = -1;
      for (Index i = 0; i < row_entries_; ++i) {
        const auto col = static_cast<Index>(columns.derived().coeff(row, i));
        detail::require(col > before && col < cols, [&] {
          return "RowSparse: entry " + std::to_string(i) + " of row " + std::to_string(row) +
                 " is in column " + std::to_string(col) + " of " + std::to_string(cols) +
                 ", after column " + std::to_string(before);
        });
        set(row, i, col, static_cast<T>(values.derived().coeff(row, i)));
        before = col;
      }
    }
  }

  /// Bytes of an m x n matrix of s entries a row.
  [[nodiscard]] static std::size_t stored_bytes(Index rows, Index cols,
                                                Index row_entries) noexcept {
    const auto entries = static_cast<std::size_t>(row_entries);
    const std::size_t columns = has_mask(cols, row_entries)
                                    ? static_cast<std::size_t>(mask_bytes(cols))
                                    : entries * detail::ColumnIndices::index_size(cols);
    return static_cast<std::size_t>(rows) * (entries * sizeof(T) + columns);
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  RowSparse(const RowSparse&) = default;
  RowSparse& operator=(const RowSparse&) = default;
  ~RowSparse() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  /// s: how many entries every row stores.
  [[nodiscard]] Index row_entries() const noexcept { return row_entries_; }
  /// Whether the columns are stored as a mask, and not as indices.
  [[nodiscard]] bool has_mask() const noexcept { return has_mask(cols_, row_entries_); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return stored_bytes(rows_, cols_, row_entries_);
  }
  [[nodiscard]] double flops() const noexcept {
    return 2 * static_cast<double>(rows_) * static_cast<double>(row_entries_);
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return std::to_string(row_entries_) + " of " + std::to_string(cols_) + " a row, " +
           (has_mask() ? "mask" : "indices");
  }

  /// The matrix, bit for bit as it was given, but for the sign of zeros.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows_, cols_);
    each([&](Index row, Index col, T value) { dense(row, col) = value; });
    return dense;
  }

  /// Calls `body(row, col, value)` for every stored entry, zeros among them, row by row with
  /// columns ascending.
  template <class Body>
  void each(Body body) const {
    if (row_entries_ == 0) return;
    const T* value = values_.data();
    for (Index row = 0; row < rows_; ++row) {
      if (!has_mask()) {
        for (Index i = 0; i < row_entries_; ++i)
          body(row, columns_[row * row_entries_ + i], *value++);
        continue;
      }
      for (Index col = 0; col < cols_; ++col)
        if ((masks_.data()[mask_word(row, col)] >> (col % mask_width) & 1U) != 0)
          body(row, col, *value++);
    }
  }

  /// "values": m x s. "columns": m x s, 16 bits wide up to n = 65536, else 32; or, where that takes
  /// fewer bytes, "mask": m x ceil(n / 8) bytes, the first column in the lowest bit. Attribute
  /// "cols": n.
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(), {{"cols", std::to_string(cols_)}}, {}, {}};
    parts.tensors["values"] = detail::tensor_of(values_.data(), {rows_, row_entries_});
    if (!has_mask()) {
      parts.tensors["columns"] = columns_.tensor({rows_, row_entries_});
      return parts;
    }
    const Index width = mask_bytes(cols_);
    std::vector<std::uint8_t> mask;
    mask.reserve(static_cast<std::size_t>(rows_ * width));
    for (Index row = 0; row < rows_; ++row)
      for (Index byte = 0; byte < width; ++byte)
        mask.push_back(static_cast<std::uint8_t>(
            masks_.data()[mask_word(row, 8 * byte)] >> (8 * byte % mask_width) & 255U));
    parts.tensors["mask"] = detail::tensor_of(mask.data(), {rows_, width});
    return parts;
  }

  /// Throws `std::invalid_argument` unless shapes agree, s is at most n, and the columns of every
  /// row ascend and are less than n; or its mask has exactly s bits set, none past the last column.
  [[nodiscard]] static RowSparse from_parts(const Parts& parts) {
    const Tensor& stored = parts.tensor("values");
    const Matrix<T> values = parts.matrix<T>("values");
    detail::require(stored.shape.size() == 2,
                    [] { return std::string("RowSparse: the values are no matrix"); });
    RowSparse result(values.rows(), detail::checked_cols(name, parts.integer("cols")),
                     values.cols());
    if (result.has_mask()) result.read_mask(parts.tensor("mask"));
    else result.columns_.read(parts.tensor("columns"), stored.shape, name);
    if (result.row_entries_ == 0) return result;
    for (Index row = 0; row < result.rows_; ++row) {
      const Index begin = row * result.row_entries_;
      for (Index i = 0; i < result.row_entries_; ++i)
        result.values_.data()[begin + i] = values(row, i);
      if (!result.has_mask())
        result.columns_.require_ascending(begin, begin + result.row_entries_, result.cols_, name,
                                          row);
    }
    return result;
  }

 private:
  friend OperatorBase<RowSparse, T>;
  static constexpr Index mask_width{kernel::mask_cols};

  [[nodiscard]] static Index mask_bytes(Index cols) noexcept { return (cols + 7) / 8; }
  [[nodiscard]] static bool has_mask(Index cols, Index row_entries) noexcept {
    return mask_bytes(cols) <
           row_entries * static_cast<Index>(detail::ColumnIndices::index_size(cols));
  }

  RowSparse(Index rows, Index cols, Index row_entries)
      : rows_(rows), cols_(detail::checked_cols(name, cols)), row_entries_(row_entries) {
    detail::require(row_entries >= 0 && row_entries <= cols, [&] {
      return "RowSparse: " + std::to_string(row_entries) + " entries in rows of " +
             std::to_string(cols) + " columns";
    });
    values_ = detail::AlignedArray<T>(static_cast<std::size_t>(rows * row_entries));
    if (has_mask())
      masks_ = detail::AlignedArray<std::uint32_t>(
          static_cast<std::size_t>(rows * detail::mask_words(cols)));
    else columns_ = detail::ColumnIndices(rows * row_entries, cols);
  }

  [[nodiscard]] Index mask_word(Index row, Index col) const noexcept {
    return row * detail::mask_words(cols_) + col / mask_width;
  }

  void set(Index row, Index i, Index col, T value) noexcept {
    values_.data()[row * row_entries_ + i] = value;
    if (has_mask()) masks_.data()[mask_word(row, col)] |= std::uint32_t{1} << (col % mask_width);
    else columns_.set(row * row_entries_ + i, col);
  }

  void read_mask(const Tensor& tensor) {
    const Index width = mask_bytes(cols_);
    const std::vector<std::uint8_t> mask = tensor.values<std::uint8_t>();
    detail::require(
        tensor.shape == std::vector<std::int64_t>{rows_, width} &&
            mask.size() == static_cast<std::size_t>(rows_ * width),
        [&] { return "RowSparse: the mask is not " + detail::shape_text(rows_, width); });
    for (Index row = 0; row < rows_; ++row) {
      Index bits = 0;
      for (Index byte = 0; byte < width; ++byte) {
        const std::uint8_t value = mask[static_cast<std::size_t>(row * width + byte)];
        bits += std::popcount(value);
        masks_.data()[mask_word(row, 8 * byte)] |= std::uint32_t{value} << (8 * byte % mask_width);
        detail::require(byte + 1 < width || value >> (cols_ - 8 * byte) == 0, [&] {
          return "RowSparse: the mask of row " + std::to_string(row) +
                 " has a bit past the last column";
        });
      }
      detail::require(bits == row_entries_, [&] {
        return "RowSparse: the mask of row " + std::to_string(row) + " has " +
               std::to_string(bits) + " bits for " + std::to_string(row_entries_) + " values";
      });
    }
  }

  [[nodiscard]] kernel::SparseRows<T> sparse_rows() const noexcept {
    return {values_.data(),
            nullptr,
            static_cast<std::size_t>(row_entries_),
            columns_.short_data(),
            columns_.long_data(),
            masks_.data()};
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    detail::sparse_apply(sparse_rows(), flops(), X, Y, update, workspace);
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    detail::sparse_apply_transpose(sparse_rows(), flops(), Y, X, workspace);
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    detail::sparse_reserve<T>(rows_, cols_, flops(), workspace, batch);
  }

  Index rows_ = 0;
  Index cols_ = 0;
  Index row_entries_ = 0;
  detail::AlignedArray<T> values_ = {};
  detail::ColumnIndices columns_ = {};
  detail::AlignedArray<std::uint32_t> masks_ = {};
};

template <class Derived>
RowSparse(const Eigen::MatrixBase<Derived>&, Index) -> RowSparse<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
