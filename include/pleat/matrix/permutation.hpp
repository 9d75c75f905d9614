// SPDX-License-Identifier: MIT
// A permutation matrix: the entries of a vector in another order.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// The n x n matrix with a one in row i and column p(i): y_i = x_p(i), and x_p(i) = y_i transposed.
///
/// Stored: n indices of two bytes, or of four where n > 65536. No flops: what takes time is to read
/// x, in no order that the hardware foresees, and to write y.
template <Real T>
class Permutation : public OperatorBase<Permutation<T>, T> {
 public:
  static constexpr std::string_view name = "Permutation";

  /// The empty 0 x 0 matrix.
  Permutation() = default;

  /// From p(0), ..., p(n - 1). Throws `std::invalid_argument` that names the first of them that is
  /// no index, or one that was there before.
  explicit Permutation(std::span<const Index> indices) : Permutation(size_of_span(indices)) {
    std::vector<bool> seen(indices.size());
    for (Index row = 0; row < size_; ++row) {
      const Index index = indices[static_cast<std::size_t>(row)];
      detail::require(index >= 0 && index < size_, [&] {
        return "Permutation: index " + std::to_string(row) + " is " + std::to_string(index) +
               ", not one of 0, ..., " + std::to_string(size_ - 1);
      });
      detail::require(!seen[static_cast<std::size_t>(index)], [&] {
        return "Permutation: index " + std::to_string(row) + " is " + std::to_string(index) +
               ", as is one before it";
      });
      seen[static_cast<std::size_t>(index)] = true;
      set(row, index);
    }
  }

  /// Encodes a permutation matrix. Throws `std::invalid_argument` if it is not square, or names the
  /// first entry, row by row, that is neither zero nor the only one in its row and column, or the
  /// first row without a one.
  template <class Derived>
  explicit Permutation(const Eigen::MatrixBase<Derived>& matrix) : Permutation(matrix.rows()) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> entries(
        matrix.derived());
    detail::require(entries.cols() == size_, [&] {
      return "Permutation: a " + detail::shape_text(size_, entries.cols()) +
             " matrix is not square";
    });
    std::vector<bool> seen(static_cast<std::size_t>(size_));
    for (Index row = 0; row < size_; ++row) {
      Index found = -1;
      for (Index col = 0; col < size_; ++col) {
        const T value = entries.coeff(row, col);
        if (value == T(0)) continue;
        detail::require(value == T(1) && found < 0 && !seen[static_cast<std::size_t>(col)], [&] {
          return "Permutation: the entry at row " + std::to_string(row) + ", column " +
                 std::to_string(col) +
                 (value == T(1) ? " is a second one in its row or column"
                                : " is neither zero nor one");
        });
        found = col;
      }
      detail::require(found >= 0, [&] {
        return "Permutation: row " + std::to_string(row) + " has no entry that is one";
      });
      seen[static_cast<std::size_t>(found)] = true;
      set(row, found);
    }
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  Permutation(const Permutation&) = default;
  Permutation& operator=(const Permutation&) = default;
  ~Permutation() = default;

  [[nodiscard]] Index rows() const noexcept { return size_; }
  [[nodiscard]] Index cols() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(size_) * (is_narrow() ? 2U : 4U);
  }
  [[nodiscard]] double flops() const noexcept { return 0; }
  [[nodiscard]] std::string structure() const { return std::string(name); }

  /// p(row): the column of the one in a row.
  [[nodiscard]] Index operator[](Index row) const noexcept {
    return is_narrow() ? Index{narrow_.data()[row]} : Index{wide_.data()[row]};
  }

  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(size_, size_);
    for (Index row = 0; row < size_; ++row) dense(row, (*this)[row]) = T(1);
    return dense;
  }

  /// "indices": p(0), ..., p(n - 1), of 16 bits, or of 32 where n > 65536.
  [[nodiscard]] Parts parts() const {
    Tensor tensor{is_narrow() ? DataType::u16 : DataType::u32, {size_}, {}};
    tensor.data.resize(bytes());
    if (size_ > 0) {
      if (is_narrow()) std::memcpy(tensor.data.data(), narrow_.data(), bytes());
      else std::memcpy(tensor.data.data(), wide_.data(), bytes());
    }
    return {structure(), {}, {{"indices", std::move(tensor)}}, {}};
  }

  /// Throws `std::invalid_argument` unless the indices are a vector of the right type and a
  /// permutation.
  [[nodiscard]] static Permutation from_parts(const Parts& parts) {
    const Tensor& stored = parts.tensor("indices");
    detail::require(stored.shape.size() == 1, [&] {
      return "Permutation: a tensor of " + std::to_string(stored.shape.size()) +
             " dimensions is not a vector";
    });
    std::vector<Index> indices;
    const auto read = [&](const auto& values) { indices.assign(values.begin(), values.end()); };
    if (stored.shape[0] <= narrow_limit) read(stored.values<std::uint16_t>());
    else read(stored.values<std::uint32_t>());
    detail::require(static_cast<std::int64_t>(indices.size()) == stored.shape[0], [&] {
      return "Permutation: a vector of " + std::to_string(stored.shape[0]) + " holds " +
             std::to_string(indices.size()) + " indices";
    });
    return Permutation(indices);
  }

 private:
  friend OperatorBase<Permutation, T>;
  static constexpr Index narrow_limit = Index{1} << 16;
  static constexpr Index limit = Index{1} << 32;

  static Index size_of_span(std::span<const Index> indices) {
    return static_cast<Index>(indices.size());
  }

  template <std::same_as<Index> Size>
  explicit Permutation(Size size) : size_(size) {
    detail::require(size <= limit, [&] {
      return "Permutation: " + std::to_string(size) + " entries are more than 2^32";
    });
    if (is_narrow()) narrow_ = detail::AlignedArray<std::uint16_t>(static_cast<std::size_t>(size));
    else wide_ = detail::AlignedArray<std::uint32_t>(static_cast<std::size_t>(size));
  }

  [[nodiscard]] bool is_narrow() const noexcept { return size_ <= narrow_limit; }
  void set(Index row, Index index) noexcept {
    if (is_narrow()) narrow_.data()[row] = static_cast<std::uint16_t>(index);
    else wide_.data()[row] = static_cast<std::uint32_t>(index);
  }

  /// Calls `body(indices, begin, end)` for ranges of rows, in tasks.
  template <class Body>
  void in_tasks(Index batch, Workspace& workspace, Body body) const {
    // A value moved costs at least as much as a flop.
    const double work = static_cast<double>(size_) * static_cast<double>(batch);
    const detail::Split split(size_, Index{16}, work, workspace);
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      if (is_narrow()) body(narrow_.data(), begin, end);
      else body(wide_.data(), begin, end);
    });
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    in_tasks(X.cols(), workspace, [&](const auto* indices, Index begin, Index end) {
      for (Index j = 0; j < X.cols(); ++j) {
        const T* const x = X.data() + j * X.outerStride();
        T* const y = Y.data() + j * Y.outerStride();
        if (update == Update::add)
          for (Index i = begin; i < end; ++i) y[i] += x[indices[i]];
        else
          for (Index i = begin; i < end; ++i) y[i] = x[indices[i]];
      }
    });
  }

  // Each task writes entries of its own, because no index appears twice.
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    in_tasks(Y.cols(), workspace, [&](const auto* indices, Index begin, Index end) {
      for (Index j = 0; j < Y.cols(); ++j) {
        const T* const y = Y.data() + j * Y.outerStride();
        T* const x = X.data() + j * X.outerStride();
        for (Index i = begin; i < end; ++i) x[indices[i]] = y[i];
      }
    });
  }

  Index size_ = 0;
  detail::AlignedArray<std::uint16_t> narrow_ = {};
  detail::AlignedArray<std::uint32_t> wide_ = {};
};

template <class Derived>
Permutation(const Eigen::MatrixBase<Derived>&) -> Permutation<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
