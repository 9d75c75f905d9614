// SPDX-License-Identifier: MIT
// Products with sparse rows, cut into tasks: what the sparse bricks share.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Words of bit mask that a row of so many columns takes.
[[nodiscard]] inline Index mask_words(Index cols) noexcept {
  constexpr Index width{kernel::mask_cols};
  return (cols + width - 1) / width;
}

/// The rows from `first` on.
template <Real T>
[[nodiscard]] kernel::SparseRows<T> rows_from(kernel::SparseRows<T> matrix, Index first,
                                              Index cols) noexcept {
  if (matrix.starts != nullptr) {  // which count from the first value of all
    matrix.starts += first;
    return matrix;
  }
  const Index entries = first * static_cast<Index>(matrix.row_entries);
  const auto advance = [](auto& pointer, Index by) {
    if (pointer != nullptr) pointer += by;
  };
  advance(matrix.values, entries);
  advance(matrix.columns, entries);
  advance(matrix.long_columns, entries);
  advance(matrix.masks, first * mask_words(cols));
  return matrix;
}

/// Y = W X or Y += W X for the W with these rows.
template <Real T>
void sparse_apply(const kernel::SparseRows<T>& matrix, double flops, const ConstMatrixView<T>& X,
                  MatrixView<T> Y, Update update, Workspace& workspace) {
  const auto& table = kernel::active<T>();
  const auto cols = static_cast<std::size_t>(X.rows());
  const auto batch = static_cast<std::size_t>(X.cols());
  const Split split(Y.rows(), Index{kernel::panel_rows}, flops * static_cast<double>(X.cols()),
                    workspace);
  in_tasks<T>(split, table.sparse_scratch(cols, batch), workspace,
              [&](Index begin, Index end, T* scratch) {
                table.sparse_apply(
                    rows_from(matrix, begin, X.rows()), static_cast<std::size_t>(end - begin), cols,
                    batch, X.data(), static_cast<std::size_t>(X.outerStride()), Y.data() + begin,
                    static_cast<std::size_t>(Y.outerStride()), update == Update::add, scratch);
              });
}

/// Takes the scratch memory of `sparse_apply`.
template <Real T>
void sparse_reserve(Index rows, Index cols, double flops, Workspace& workspace, Index batch) {
  reserve_most<T>(workspace, batch, [&](Index samples) {
    const Split split(rows, Index{kernel::panel_rows}, flops * static_cast<double>(samples),
                      workspace);
    return split.tasks * task_scratch(kernel::active<T>().sparse_scratch(
                             static_cast<std::size_t>(cols), static_cast<std::size_t>(samples)));
  });
}

/// X = W^T Y; each task has columns of W, and so rows of X, of its own.
template <Real T>
void sparse_apply_transpose(const kernel::SparseRows<T>& matrix, double flops,
                            const ConstMatrixView<T>& Y, MatrixView<T> X, Workspace& workspace) {
  const auto& table = kernel::active<T>();
  const Split split(X.rows(), Index{kernel::mask_cols}, flops * static_cast<double>(Y.cols()),
                    workspace);
  workspace.run(split.tasks, [&](Index task) {
    const auto [begin, end] = split.range(task);
    table.sparse_apply_transpose(
        matrix, static_cast<std::size_t>(Y.rows()), static_cast<std::size_t>(X.rows()),
        static_cast<std::size_t>(begin), static_cast<std::size_t>(end),
        static_cast<std::size_t>(Y.cols()), Y.data(), static_cast<std::size_t>(Y.outerStride()),
        X.data(), static_cast<std::size_t>(X.outerStride()));
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
