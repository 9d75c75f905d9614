// SPDX-License-Identifier: MIT
// A sum of Kronecker products of dense matrices: two dense matrices, and a transpose between them.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/detail/folded_vector.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// The sizes of a sum of `terms` Kronecker products A_r (x) B_r, of which the top left `rows` x
/// `cols` corner is meant.
struct KroneckerShape {
  Index rows = 1;
  Index cols = 1;
  Index left_rows = 1;   ///< of A_r
  Index left_cols = 1;   ///< of A_r
  Index right_rows = 1;  ///< of B_r
  Index right_cols = 1;  ///< of B_r
  Index terms = 1;

  friend bool operator==(const KroneckerShape&, const KroneckerShape&) = default;

  /// Whether all B_r are applied before the A_r: where that takes no more multiply-adds.
  [[nodiscard]] constexpr bool right_first() const noexcept {
    const auto size = [](Index n) { return static_cast<double>(n); };
    return size(left_cols) * size(right_rows) * (size(right_cols) + size(left_rows)) <=
           size(left_rows) * size(right_cols) * (size(left_cols) + size(right_rows));
  }

  /// The shape of the matrix of all A_r: below each other if they are applied first, else side by
  /// side.
  [[nodiscard]] constexpr std::pair<Index, Index> left() const noexcept {
    return right_first() ? std::pair(left_rows, terms * left_cols)
                         : std::pair(terms * left_rows, left_cols);
  }
  /// The same of all B_r.
  [[nodiscard]] constexpr std::pair<Index, Index> right() const noexcept {
    return right_first() ? std::pair(terms * right_rows, right_cols)
                         : std::pair(right_rows, terms * right_cols);
  }
};

namespace detail {

/// What = sum_r A_r (x) B_r. A sample x is the n2 x n1 matrix X column by column, and y the m2 x m1
/// matrix Y = sum_r B_r X A_r^T.
///
/// With B first, Z = [B_1; B_2; ...] X, and Y^T = [A_1, A_2, ...] Z' with Z', R n1 x m2, made of
/// the transposes of the R parts of Z below each other; with A first the same for X^T and Y. So
/// each matrix meets all samples, and all columns of each, in one product of the dense kernels;
/// between the two, and on the side that they leave transposed, values move in scratch memory.
template <Real T>
class KroneckerSum : public OperatorBase<KroneckerSum<T>, T> {
 public:
  /// Throws `std::invalid_argument` if the matrices of all A_r and of all B_r do not have the
  /// shapes that `shape` says, or are rotated, or their product does not cover its rows and
  /// columns.
  KroneckerSum(const KroneckerShape& shape, Dense<T> left, Dense<T> right)
      : shape_(checked(shape)),
        right_first_(shape.right_first()),
        left_(std::move(left)),
        right_(std::move(right)) {
    check_brick("left", left_, shape_.left());
    check_brick("right", right_, shape_.right());
    require(static_cast<double>(first().rows()) * static_cast<double>(first_columns()) <= 0x1p40,
            [&] {
              return "Kronecker: " + std::to_string(first().rows()) + " rows of " +
                     std::to_string(first_columns()) + " columns are too many between two products";
            });
    const Index values =
        (std::max)({grid_in().rows * grid_in().cols, grid_out().rows * grid_out().cols, middle()});
    widest_ = task_scratch(static_cast<std::size_t>(values));
    // Some 256 KiB of scratch, but columns enough that it pays to read the weights for them.
    const Index fitting = Index{128 * 1024} / Index{sizeof(T)} / widest_;
    const Index least = std::max<Index>(1, 64 / (std::min)(first_columns(), second_columns()));
    chunk_ = std::min<Index>(128, (std::max)(fitting, least));
  }

  [[nodiscard]] Index rows() const noexcept { return shape_.rows; }
  [[nodiscard]] Index cols() const noexcept { return shape_.cols; }
  [[nodiscard]] const KroneckerShape& shape() const noexcept { return shape_; }
  [[nodiscard]] const Dense<T>& left() const noexcept { return left_; }
  [[nodiscard]] const Dense<T>& right() const noexcept { return right_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return left_.bytes() + right_.bytes(); }
  [[nodiscard]] double flops() const noexcept {
    return first().flops() * static_cast<double>(first_columns()) +
           second().flops() * static_cast<double>(second_columns());
  }

 private:
  friend OperatorBase<KroneckerSum, T>;

  static const KroneckerShape& checked(const KroneckerShape& shape) {
    const auto text = [&] {
      return std::to_string(shape.terms) + " Kronecker products of " +
             shape_text(shape.left_rows, shape.left_cols) + " and " +
             shape_text(shape.right_rows, shape.right_cols) + " matrices";
    };
    constexpr Index most = Index{1} << 31;  // so that no product of two overflows
    for (const Index size :
         {shape.left_rows, shape.left_cols, shape.right_rows, shape.right_cols, shape.terms})
      require(size >= 1 && size <= most, [&] {
        return "Kronecker: there are no " + text() + ": sizes lie between 1 and 2^31";
      });
    // Scratch memory is as large as these.
    constexpr Index most_values = Index{1} << 40;
    require(shape.left_rows * shape.right_rows <= most_values &&
                shape.left_cols * shape.right_cols <= most_values,
            [&] { return "Kronecker: " + text() + " have more than 2^40 rows or columns"; });
    require(shape.rows >= 0 && shape.rows <= shape.left_rows * shape.right_rows &&
                shape.cols >= 0 && shape.cols <= shape.left_cols * shape.right_cols,
            [&] {
              return "Kronecker: " + text() + " do not cover a " +
                     shape_text(shape.rows, shape.cols) + " matrix";
            });
    return shape;
  }

  void check_brick(const char* name, const Dense<T>& brick, std::pair<Index, Index> size) const {
    require(!brick.rotation().has_value(), [&] {
      return std::string("Kronecker: the ") + name + " matrices are rotated, which none can be";
    });
    require(brick.rows() == size.first && brick.cols() == size.second, [&] {
      return std::string("Kronecker: the ") + name + " matrices of " +
             std::to_string(shape_.terms) + " terms are a " + shape_text(size.first, size.second) +
             " matrix together, not " + shape_text(brick.rows(), brick.cols());
    });
  }

  [[nodiscard]] const Dense<T>& first() const noexcept { return right_first_ ? right_ : left_; }
  [[nodiscard]] const Dense<T>& second() const noexcept { return right_first_ ? left_ : right_; }
  /// Columns of a sample that each of them takes.
  [[nodiscard]] Index first_columns() const noexcept {
    return right_first_ ? shape_.left_cols : shape_.right_cols;
  }
  [[nodiscard]] Index second_columns() const noexcept {
    return right_first_ ? shape_.right_rows : shape_.left_rows;
  }
  /// Values of a sample between them.
  [[nodiscard]] Index middle() const noexcept { return first().rows() * first_columns(); }

  [[nodiscard]] FoldedVector grid_in() const noexcept {
    return {shape_.right_cols, shape_.left_cols, shape_.cols};
  }
  [[nodiscard]] FoldedVector grid_out() const noexcept {
    return {shape_.right_rows, shape_.left_rows, shape_.rows};
  }

  [[nodiscard]] Split split(Index batch, const Workspace& workspace) const {
    return {batch, 1, flops() * static_cast<double>(batch), workspace};
  }
  /// Values of memory for up to so many samples: two buffers, and what the kernels need. How much
  /// that is need not grow with the number of columns.
  [[nodiscard]] std::size_t scratch(Index batch) const {
    const Index most = (std::min)(batch, chunk_);
    std::size_t kernel = 0;
    for (Index count = 1; count <= most; ++count)
      kernel = (std::max)({kernel, DenseTask::scratch(first(), count * first_columns()),
                           DenseTask::scratch(second(), count * second_columns())});
    return static_cast<std::size_t>(2 * widest_ * most) + kernel;
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    if (batch == 0) return;
    Workspace::Frame frame(workspace);
    (void)frame.template allocate<T>(task_scratch(scratch(batch)) * split(batch, workspace).tasks);
  }

  /// body(samples of `in`, samples of `out`, buffer, another, memory of kernels)
  template <class Body>
  void in_chunks(const ConstMatrixView<T>& in, MatrixView<T> out, Workspace& workspace,
                 Body body) const {
    const Index most = (std::min)(in.cols(), chunk_);
    in_tasks<T>(split(in.cols(), workspace), scratch(in.cols()), workspace,
                [&](Index begin, Index end, T* memory) {
                  for (Index j = begin; j < end; j += chunk_) {
                    const Index count = (std::min)(chunk_, end - j);
                    body(columns(in, j, count), columns(out, j, count), memory,
                         memory + widest_ * most, memory + 2 * widest_ * most);
                  }
                });
  }

  /// Whether vectors in memory are the columns of one matrix as they are. A grid of one row or one
  /// column is its transpose, too.
  template <class View>
  [[nodiscard]] static bool in_place(const FoldedVector& grid, bool transposed,
                                     const View& vectors) {
    return (!transposed || (std::min)(grid.rows, grid.cols) == 1) &&
           grid.size == grid.rows * grid.cols &&
           (vectors.cols() == 1 || vectors.outerStride() == grid.size);
  }

  /// All samples as a matrix with columns of `height` values, where they are or in the buffer.
  [[nodiscard]] static ConstMatrixView<T> loaded(const FoldedVector& grid, bool transposed,
                                                 const ConstMatrixView<T>& vectors, T* buffer) {
    const Index height = transposed ? grid.cols : grid.rows;
    const Index size = grid.rows * grid.cols;
    const T* data = vectors.data();
    if (!in_place(grid, transposed, vectors)) {
      for (Index j = 0; j < vectors.cols(); ++j)
        grid.load(vectors.data() + j * vectors.outerStride(), transposed, buffer + j * size);
      data = buffer;
    }
    return {data, height, size / height * vectors.cols(), Eigen::OuterStride<>(height)};
  }

  /// Where `multiply(view)` is to write such a matrix, which then becomes the samples.
  template <class Multiply>
  static void stored(const FoldedVector& grid, bool transposed, Update update,
                     MatrixView<T> vectors, T* buffer, Multiply multiply) {
    const Index height = transposed ? grid.cols : grid.rows;
    const Index size = grid.rows * grid.cols;
    const bool directly = update == Update::overwrite && in_place(grid, transposed, vectors);
    T* const data = directly ? vectors.data() : buffer;
    multiply(
        MatrixView<T>(data, height, size / height * vectors.cols(), Eigen::OuterStride<>(height)));
    if (directly) return;
    for (Index j = 0; j < vectors.cols(); ++j)
      grid.store(buffer + j * size, transposed, update, vectors.data() + j * vectors.outerStride());
  }

  /// Each term of each sample: `rows` x `cols` of `from`, to its transpose of `to`. Terms of one
  /// row or one column make up one matrix.
  void turn(Index samples, Index rows, Index cols, const T* from, T* to) const {
    const Index terms = shape_.terms;
    const Index size = terms * rows * cols;
    for (Index j = 0; j < samples; ++j, from += size, to += size) {
      if (rows == 1) transpose(terms, cols, from, terms, to, cols);
      else if (cols == 1) transpose(rows, terms, from, rows, to, terms);
      else
        for (Index r = 0; r < terms; ++r)
          transpose(rows, cols, from + r * rows, terms * rows, to + r * cols, terms * cols);
    }
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    in_chunks(X, Y, workspace,
              [&](const ConstMatrixView<T>& in, MatrixView<T> out, T* one, T* other, T* memory) {
                const Index samples = in.cols();
                const MatrixView<T> Z(other, first().rows(), samples * first_columns(),
                                      Eigen::OuterStride<>(first().rows()));
                DenseTask::apply(first(), loaded(grid_in(), !right_first_, in, one), Z, memory);
                turn(samples, second_columns(), first_columns(), other, one);
                const ConstMatrixView<T> turned(one, second().cols(), samples * second_columns(),
                                                Eigen::OuterStride<>(second().cols()));
                stored(grid_out(), right_first_, update, out, other,
                       [&](MatrixView<T> to) { DenseTask::apply(second(), turned, to, memory); });
              });
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    in_chunks(Y, X, workspace,
              [&](const ConstMatrixView<T>& in, MatrixView<T> out, T* one, T* other, T* memory) {
                const Index samples = in.cols();
                const MatrixView<T> turned(other, second().cols(), samples * second_columns(),
                                           Eigen::OuterStride<>(second().cols()));
                DenseTask::apply_transpose(second(), loaded(grid_out(), right_first_, in, one),
                                           turned, memory);
                turn(samples, first_columns(), second_columns(), other, one);
                const ConstMatrixView<T> Z(one, first().rows(), samples * first_columns(),
                                           Eigen::OuterStride<>(first().rows()));
                stored(
                    grid_in(), !right_first_, Update::overwrite, out, other,
                    [&](MatrixView<T> to) { DenseTask::apply_transpose(first(), Z, to, memory); });
              });
  }

  KroneckerShape shape_;
  bool right_first_;
  Dense<T> left_;
  Dense<T> right_;
  Index widest_ = 0;  // values of a buffer for a sample
  Index chunk_ = 1;   // samples at once
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
