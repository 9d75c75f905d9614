// SPDX-License-Identifier: MIT
// A dense matrix, packed once for the kernels: the uncompressed weight, and the factor of most
// others.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// A dense m x n matrix in panels of 16 rows, rows in lanes, which no call of `apply` packs again.
///
/// Stored: m n values (memory holds m rounded up to a multiple of 16; files and `bytes()` do not).
/// Cost of `apply`: 2 m n flops a sample. Throws what `std::bad_alloc` says, nothing else.
template <Real T>
class Dense : public OperatorBase<Dense<T>, T> {
 public:
  static constexpr std::string_view name = "Dense";

  /// How `compress<Dense>` works; there is nothing to choose.
  struct Options {
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// The empty 0 x 0 matrix.
  Dense() = default;

  /// Packs any dense Eigen matrix or expression. Cost: one pass.
  template <class Derived>
  explicit Dense(const Eigen::MatrixBase<Derived>& matrix)
      : rows_(matrix.rows()), cols_(matrix.cols()), panels_(packed_size(rows_, cols_)) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> values(
        matrix.derived());
    if (cols_ == 0) return;
    T* to = panels_.data();
    for (Index first = 0; first < rows_; first += panel) {
      const Index height = std::min(panel, rows_ - first);
      for (Index k = 0; k < cols_; ++k, to += panel)
        for (Index i = 0; i < height; ++i) to[i] = values.coeff(first + i, k);
    }
  }

  // Copies only, sharing the panels: what was moved from stays as it was.
  Dense(const Dense&) = default;
  Dense& operator=(const Dense&) = default;
  ~Dense() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_) * sizeof(T);
  }
  [[nodiscard]] double flops() const noexcept {
    return 2 * static_cast<double>(rows_) * static_cast<double>(cols_);
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }

  /// The matrix, bit for bit as it was given.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense(rows_, cols_);
    if (cols_ == 0) return dense;
    const T* from = panels_.data();
    for (Index first = 0; first < rows_; first += panel) {
      const Index height = std::min(panel, rows_ - first);
      for (Index k = 0; k < cols_; ++k, from += panel)
        for (Index i = 0; i < height; ++i) dense(first + i, k) = from[i];
    }
    return dense;
  }

  [[nodiscard]] Parts parts() const {
    return {structure(), {}, {{"weight", Tensor::of(to_dense())}}, {}};
  }
  [[nodiscard]] static Dense from_parts(const Parts& parts) {
    return Dense(parts.tensor("weight").template matrix<T>());
  }

 private:
  friend OperatorBase<Dense, T>;
  static constexpr Index panel = Index{kernel::panel_rows};

  static std::size_t packed_size(Index rows, Index cols) {
    return static_cast<std::size_t>((rows + panel - 1) / panel * panel) *
           static_cast<std::size_t>(cols);
  }

  void evaluate(const ConstMatrixRef<T>& X, MatrixRef<T>& Y, Update update,
                Workspace& workspace) const {
    const kernel::Table<T>& table = kernel::active<T>();
    const auto cols = static_cast<std::size_t>(cols_);
    const auto batch = static_cast<std::size_t>(X.cols());
    const detail::Split split(rows_, panel, flops() * static_cast<double>(X.cols()), workspace);
    const std::size_t scratch = table.dense_scratch(cols, batch);
    Workspace::Frame frame(workspace);
    T* memory = frame.allocate<T>(static_cast<Index>(scratch) * split.tasks);
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      table.dense_apply(static_cast<std::size_t>(end - begin), cols, panels_.data() + begin * cols_,
                        batch, X.data(), static_cast<std::size_t>(X.outerStride()),
                        Y.data() + begin, static_cast<std::size_t>(Y.outerStride()),
                        update == Update::add, memory + task * static_cast<Index>(scratch));
    });
  }

  void evaluate_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T>& X, Workspace& workspace) const {
    if (rows_ == 0) {
      X.setZero();
      return;
    }
    const kernel::Table<T>& table = kernel::active<T>();
    const detail::Split split(cols_, 8, flops() * static_cast<double>(Y.cols()), workspace);
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      table.dense_apply_transpose(
          static_cast<std::size_t>(rows_), static_cast<std::size_t>(end - begin),
          panels_.data() + begin * panel, static_cast<std::size_t>(cols_ * panel),
          static_cast<std::size_t>(Y.cols()), Y.data(), static_cast<std::size_t>(Y.outerStride()),
          X.data() + begin, static_cast<std::size_t>(X.outerStride()));
    });
  }

  Index rows_ = 0;
  Index cols_ = 0;
  detail::AlignedArray<T> panels_;
};

template <class Derived>
Dense(const Eigen::MatrixBase<Derived>&) -> Dense<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
