// SPDX-License-Identifier: MIT
// A sparse matrix in compressed rows: only what is not zero, and where it lies.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/kernel/table.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/column_indices.hpp"
#include "pleat/matrix/detail/sparse_apply.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// A sparse m x n matrix in compressed sparse rows (CSR): the nonzeros and their columns, row by
/// row with columns ascending, and where each row begins. Any m; n at most 2^32.
///
/// Stored, for k nonzeros: k values, k columns (2 bytes each up to n = 65536, else 4) and m + 1 row
/// pointers of 8 bytes. Cost of `apply`: 2 k flops a sample; `apply_transpose` is not vectorised.
/// Rows are cut evenly between threads, however their nonzeros are distributed.
///
/// Source: W. F. Tinney and J. W. Walker, "Direct solutions of sparse network equations by
/// optimally ordered triangular factorization", Proceedings of the IEEE 55(11), 1967.
template <Real T>
class Csr : public OperatorBase<Csr<T>, T> {
 public:
  static constexpr std::string_view name = "Csr";

  /// The empty 0 x 0 matrix.
  Csr() : Csr(0, 0, 0) {}

  /// The nonzeros of any dense Eigen matrix or expression; 0 and -0 are dropped. Cost: two passes.
  template <class Derived>
  explicit Csr(const Eigen::MatrixBase<Derived>& matrix) : Csr(View(matrix.derived()), Counted()) {}

  // Copies only, sharing the memory: what was moved from stays as it was.
  Csr(const Csr&) = default;
  Csr& operator=(const Csr&) = default;
  ~Csr() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  /// How many entries are stored; from a file, some of them may be zero.
  [[nodiscard]] Index nonzeros() const noexcept { return nonzeros_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(nonzeros_) *
               (sizeof(T) + detail::ColumnIndices::index_size(cols_)) +
           (static_cast<std::size_t>(rows_) + 1) * sizeof(std::uint64_t);
  }
  [[nodiscard]] double flops() const noexcept { return 2 * static_cast<double>(nonzeros_); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return std::to_string(nonzeros_) + (nonzeros_ == 1 ? " nonzero" : " nonzeros");
  }

  /// The matrix, bit for bit as it was given, but for the sign of zeros.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows_, cols_);
    for (Index row = 0; row < rows_; ++row)
      for (Index i = start(row); i < start(row + 1); ++i)
        dense(row, columns_[i]) = values_.data()[i];
    return dense;
  }

  /// "values": k. "columns": k, 16 bits wide up to n = 65536, else 32. "starts": m + 1 positions
  /// among them, 64 bits wide. Attribute "cols": n.
  [[nodiscard]] Parts parts() const {
    return {structure(),
            {{"cols", std::to_string(cols_)}},
            {{"columns", columns_.tensor({nonzeros_})},
             {"starts", detail::tensor_of(starts_.data(), {rows_ + 1})},
             {"values", detail::tensor_of(values_.data(), {nonzeros_})}},
            {}};
  }

  /// Throws `std::invalid_argument` unless there are as many values as columns, rows begin at 0,
  /// where the one before ends, and at last after the last value, and the columns of every row
  /// ascend and are less than n.
  [[nodiscard]] static Csr from_parts(const Parts& parts) {
    const Matrix<T> values = parts.matrix<T>("values");
    const std::vector<std::uint64_t> starts =
        parts.tensor("starts").template values<std::uint64_t>();
    const Index cols = detail::checked_cols(name, parts.integer("cols"));
    for (const char* tensor : {"values", "starts"})
      detail::require(parts.tensor(tensor).shape.size() == 1,
                      [&] { return "Csr: \"" + std::string(tensor) + "\" is no vector"; });
    detail::require(!starts.empty() && starts.front() == 0,
                    [] { return std::string("Csr: the first row does not begin at 0"); });
    for (std::size_t row = 1; row < starts.size(); ++row)
      detail::require(starts[row - 1] <= starts[row], [&] {
        return "Csr: row " + std::to_string(row - 1) + " ends before it begins";
      });
    detail::require(starts.back() == static_cast<std::uint64_t>(values.size()), [&] {
      return "Csr: " + std::to_string(values.size()) + " values, but the last row ends at " +
             std::to_string(starts.back());
    });
    Csr result(static_cast<Index>(starts.size()) - 1, cols, values.size());
    std::copy(starts.begin(), starts.end(), result.starts_.data());
    std::copy_n(values.data(), values.size(), result.values_.data());
    result.columns_.read(parts.tensor("columns"), {values.size()}, name);
    for (Index row = 0; row < result.rows_; ++row)
      result.columns_.require_ascending(result.start(row), result.start(row + 1), cols, name, row);
    return result;
  }

 private:
  friend OperatorBase<Csr, T>;
  using View = Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  struct Counted {};

  Csr(Index rows, Index cols, Index nonzeros)
      : rows_(rows),
        cols_(cols),
        nonzeros_(nonzeros),
        values_(static_cast<std::size_t>(nonzeros)),
        starts_(static_cast<std::size_t>(rows) + 1),
        columns_(nonzeros, cols) {}

  Csr(const View& entries, Counted)
      : Csr(entries.rows(), detail::checked_cols(name, entries.cols()),
            (entries.array() != T(0)).count()) {
    Index stored = 0;
    for (Index row = 0; row < rows_; ++row) {
      for (Index col = 0; col < cols_; ++col) {
        const T value = entries.coeff(row, col);
        if (value == T(0)) continue;
        values_.data()[stored] = value;
        columns_.set(stored++, col);
      }
      starts_.data()[row + 1] = static_cast<std::uint64_t>(stored);
    }
  }

  [[nodiscard]] Index start(Index row) const noexcept {
    return static_cast<Index>(starts_.data()[row]);
  }

  [[nodiscard]] kernel::SparseRows<T> sparse_rows() const noexcept {
    return {values_.data(),        starts_.data(),       0,
            columns_.short_data(), columns_.long_data(), nullptr};
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
  Index nonzeros_ = 0;
  detail::AlignedArray<T> values_ = {};
  detail::AlignedArray<std::uint64_t> starts_ = {};
  detail::ColumnIndices columns_ = {};
};

template <class Derived>
Csr(const Eigen::MatrixBase<Derived>&) -> Csr<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
