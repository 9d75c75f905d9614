// SPDX-License-Identifier: MIT
// A diagonal matrix: one scale for every entry of a vector.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// The n x n matrix diag(d): y_i = d_i x_i.
///
/// Stored: n values. Cost of `apply` and `apply_transpose`: 2 n flops a sample; what takes time is
/// to read x and write y.
template <Real T>
class Diagonal : public OperatorBase<Diagonal<T>, T> {
 public:
  static constexpr std::string_view name = "Diagonal";

  /// The empty 0 x 0 matrix.
  Diagonal() = default;

  /// The matrix with these values on its diagonal.
  explicit Diagonal(const Eigen::Ref<const Vector<T>>& diagonal)
      : size_(diagonal.size()), diagonal_(static_cast<std::size_t>(size_)) {
    if (size_ > 0) std::copy_n(diagonal.data(), size_, diagonal_.data());
  }

  /// Encodes a matrix that is diagonal already. Throws `std::invalid_argument` if it is not square,
  /// or names the first entry off the diagonal, row by row, that is not zero.
  template <class Derived>
  requires(!Derived::IsVectorAtCompileTime) explicit Diagonal(
      const Eigen::MatrixBase<Derived>& matrix)
      : size_(matrix.rows()), diagonal_(static_cast<std::size_t>(size_)) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> entries(
        matrix.derived());
    detail::require(entries.cols() == size_, [&] {
      return "Diagonal: a " + detail::shape_text(size_, entries.cols()) + " matrix is not square";
    });
    for (Index row = 0; row < size_; ++row)
      for (Index col = 0; col < size_; ++col) {
        const T value = entries.coeff(row, col);
        if (row == col) diagonal_.data()[row] = value;
        else
          detail::require(value == T(0), [&] {
            return "Diagonal: the entry at row " + std::to_string(row) + ", column " +
                   std::to_string(col) + " is not zero";
          });
      }
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  Diagonal(const Diagonal&) = default;
  Diagonal& operator=(const Diagonal&) = default;
  ~Diagonal() = default;

  [[nodiscard]] Index rows() const noexcept { return size_; }
  [[nodiscard]] Index cols() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(size_) * sizeof(T);
  }
  [[nodiscard]] double flops() const noexcept { return 2 * static_cast<double>(size_); }
  [[nodiscard]] std::string structure() const { return std::string(name); }

  /// The values on the diagonal.
  [[nodiscard]] Eigen::Map<const Vector<T>> diagonal() const noexcept {
    return {diagonal_.data(), size_};
  }

  /// The matrix, bit for bit as it was given.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(size_, size_);
    dense.diagonal() = diagonal();
    return dense;
  }

  /// "diagonal": n values.
  [[nodiscard]] Parts parts() const {
    Tensor tensor = Tensor::of(diagonal());
    tensor.shape = {size_};
    return {structure(), {}, {{"diagonal", std::move(tensor)}}, {}};
  }

  /// Throws `std::invalid_argument` unless the tensor is a vector.
  [[nodiscard]] static Diagonal from_parts(const Parts& parts) {
    const Tensor& stored = parts.tensor("diagonal");
    detail::require(stored.shape.size() == 1, [&] {
      return "Diagonal: a tensor of " + std::to_string(stored.shape.size()) +
             " dimensions is not a vector";
    });
    return Diagonal(parts.matrix<T>("diagonal").col(0));
  }

 private:
  friend OperatorBase<Diagonal, T>;

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    const detail::Split split(size_, Index{16}, flops() * static_cast<double>(X.cols()), workspace);
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      const auto scaled =
          diagonal().segment(begin, end - begin).asDiagonal() * X.middleRows(begin, end - begin);
      if (update == Update::add) Y.middleRows(begin, end - begin) += scaled;
      else Y.middleRows(begin, end - begin) = scaled;
    });
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    evaluate(Y, X, Update::overwrite, workspace);
  }

  Index size_ = 0;
  detail::AlignedArray<T> diagonal_ = {};
};

template <class Derived>
Diagonal(const Eigen::MatrixBase<Derived>&) -> Diagonal<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
