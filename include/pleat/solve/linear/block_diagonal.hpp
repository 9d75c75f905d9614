// SPDX-License-Identifier: MIT
// Block-diagonal matrices in double: products with them, and of their blocks.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"

#include <algorithm>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Square blocks along the diagonal, the last one smaller where the size is no multiple of theirs.
class BlockDiagonal {
 public:
  BlockDiagonal() = default;

  /// The identity.
  BlockDiagonal(Index size, Index block) : size_(size), block_(block) {
    for (Index i = 0; i < size; i += block)
      blocks_.push_back(
          Matrix<double>::Identity((std::min)(block, size - i), (std::min)(block, size - i)));
  }

  [[nodiscard]] Index size() const noexcept { return size_; }
  [[nodiscard]] Index block() const noexcept { return block_; }
  [[nodiscard]] Index count() const noexcept { return static_cast<Index>(blocks_.size()); }
  /// Row and column where a block begins, and how many it has.
  [[nodiscard]] Index first(Index i) const noexcept { return i * block_; }
  [[nodiscard]] Index width(Index i) const noexcept { return (std::min)(block_, size_ - first(i)); }
  [[nodiscard]] Matrix<double>& operator[](Index i) { return blocks_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const Matrix<double>& operator[](Index i) const {
    return blocks_[static_cast<std::size_t>(i)];
  }

  /// D X.
  template <class = void>
  [[nodiscard]] Matrix<double> times(const Matrix<double>& X) const {
    Matrix<double> result(X.rows(), X.cols());
    parallel_ranges(count(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        result.middleRows(first(i), width(i)).noalias() =
            (*this)[i] * X.middleRows(first(i), width(i));
    });
    return result;
  }
  /// D^T X.
  template <class = void>
  [[nodiscard]] Matrix<double> transpose_times(const Matrix<double>& X) const {
    Matrix<double> result(X.rows(), X.cols());
    parallel_ranges(count(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        result.middleRows(first(i), width(i)).noalias() =
            (*this)[i].transpose() * X.middleRows(first(i), width(i));
    });
    return result;
  }
  /// X D.
  template <class = void>
  [[nodiscard]] Matrix<double> after(const Matrix<double>& X) const {
    Matrix<double> result(X.rows(), X.cols());
    parallel_ranges(count(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        result.middleCols(first(i), width(i)).noalias() =
            X.middleCols(first(i), width(i)) * (*this)[i];
    });
    return result;
  }
  /// X D^T.
  template <class = void>
  [[nodiscard]] Matrix<double> transpose_after(const Matrix<double>& X) const {
    Matrix<double> result(X.rows(), X.cols());
    parallel_ranges(count(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        result.middleCols(first(i), width(i)).noalias() =
            X.middleCols(first(i), width(i)) * (*this)[i].transpose();
    });
    return result;
  }

 private:
  Index size_ = 0;
  Index block_ = 1;
  std::vector<Matrix<double>> blocks_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
