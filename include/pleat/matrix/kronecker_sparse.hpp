// SPDX-License-Identifier: MIT
// A Kronecker-sparse matrix: block-diagonal, and the levels of Monarch and butterfly matrices.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/kronecker_layout.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// The top-left m x n corner of a matrix with the pattern (a, b, c, d), see `KroneckerPattern`:
/// y_{i,p,k} = sum_q w_{i,k,p,q} x_{i,q,k}, where (i,p,k) is row (i b + p) d + k and (i,q,k) column
/// (i c + q) d + k. The permutations of a Monarch matrix lie in these addresses, and cost nothing.
///
/// Stored: a b c d values, or as many of them as the corner has. Cost of `apply`: twice as many
/// flops a sample. Fast for d = 1 with b of 16 or more, and for d of 16 or more; for d between,
/// samples are gathered and scattered. Memory holds more than is counted where sizes are no
/// multiples of 16: matrices of 16 rows for d < 16, and 16 of them side by side else.
///
/// Source: Monarch (Dao et al., 2022); Kronecker-sparse factors (Gonon et al., 2024).
template <Real T>
class KroneckerSparse : public OperatorBase<KroneckerSparse<T>, T> {
 public:
  static constexpr std::string_view name = "KroneckerSparse";

  /// The empty 0 x 0 matrix.
  KroneckerSparse() = default;

  /// Encodes a matrix that has the pattern already. Throws `std::invalid_argument` if the pattern
  /// does not cover it, or names the first entry outside the pattern, row by row, that is not zero.
  template <class Derived>
  KroneckerSparse(const Eigen::MatrixBase<Derived>& matrix, const KroneckerPattern& pattern)
      : layout_(matrix.rows(), matrix.cols(), pattern), values_(memory_size(layout_)) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> entries(
        matrix.derived());
    const Index tall = pattern.b * pattern.d;
    const Index wide = pattern.c * pattern.d;
    for (Index row = 0; row < rows(); ++row)
      for (Index col = 0; col < cols(); ++col)
        detail::require((row / tall == col / wide && row % pattern.d == col % pattern.d) ||
                            entries.coeff(row, col) == T(0),
                        [&] {
                          return "KroneckerSparse: the entry at row " + std::to_string(row) +
                                 ", column " + std::to_string(col) +
                                 " is not zero, but lies outside the pattern " +
                                 detail::text_of(pattern);
                        });
    each([&](const Place& place) { values_.data()[place.at] = entries(place.row, place.col); });
  }

  /// Of given values: w_{i,k,p,q} is number ((i d + k) b + p) c + q of a b c d; those whose row or
  /// column lies outside the corner do not matter. Throws `std::invalid_argument` if the pattern
  /// does not cover the corner, or there are more or fewer values.
  KroneckerSparse(Index rows, Index cols, const KroneckerPattern& pattern,
                  const Eigen::Ref<const Vector<T>>& values)
      : layout_(rows, cols, pattern), values_(memory_size(layout_)) {
    const Index size = pattern.a * pattern.d * pattern.b * pattern.c;
    detail::require(values.size() == size, [&] {
      return "KroneckerSparse: the pattern " + detail::text_of(pattern) + " has " +
             std::to_string(size) + " values, not " + std::to_string(values.size());
    });
    each([&](const Place& place) {
      const Index of_matrix = place.i * pattern.d + place.k;
      values_.data()[place.at] = values((of_matrix * pattern.b + place.p) * pattern.c + place.q);
    });
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  KroneckerSparse(const KroneckerSparse&) = default;
  KroneckerSparse& operator=(const KroneckerSparse&) = default;
  ~KroneckerSparse() = default;

  [[nodiscard]] Index rows() const noexcept { return layout_.rows; }
  [[nodiscard]] Index cols() const noexcept { return layout_.cols; }
  [[nodiscard]] const KroneckerPattern& pattern() const noexcept { return layout_.pattern; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(layout_.count()) * sizeof(T);
  }
  [[nodiscard]] double flops() const noexcept { return 2 * static_cast<double>(layout_.count()); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const { return "pattern " + detail::text_of(pattern()); }

  /// The matrix, bit for bit as it was given.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows(), cols());
    each([&](const Place& place) { dense(place.row, place.col) = values_.data()[place.at]; });
    return dense;
  }

  /// "values": those in the corner, in the order of i, k, p and q. Attributes: "a", "b", "c", "d",
  /// "rows", "cols".
  [[nodiscard]] Parts parts() const {
    Vector<T> values(layout_.count());
    Index next = 0;
    each([&](const Place& place) { values(next++) = values_.data()[place.at]; });
    Tensor tensor = Tensor::of(values);
    tensor.shape = {values.size()};
    return {structure(),
            {{"a", std::to_string(pattern().a)},
             {"b", std::to_string(pattern().b)},
             {"c", std::to_string(pattern().c)},
             {"d", std::to_string(pattern().d)},
             {"rows", std::to_string(rows())},
             {"cols", std::to_string(cols())}},
            {{"values", std::move(tensor)}},
            {}};
  }

  /// Throws `std::invalid_argument` unless the pattern covers the shape, and there are as many
  /// values as it has; and if more than 2^24 rows or columns are more than there are values.
  [[nodiscard]] static KroneckerSparse from_parts(const Parts& parts) {
    const detail::KroneckerLayout layout(
        parts.integer("rows"), parts.integer("cols"),
        {parts.integer("a"), parts.integer("b"), parts.integer("c"), parts.integer("d")});
    const Tensor& stored = parts.tensor("values");
    // Before any memory is asked for: sizes may claim what no memory holds.
    detail::require(stored.shape.size() == 1 && stored.shape[0] == layout.count(), [&] {
      return "KroneckerSparse: a " + detail::shape_text(layout.rows, layout.cols) +
             " corner of the pattern " + detail::text_of(layout.pattern) + " has a vector of " +
             std::to_string(layout.count()) + " values, not a tensor of this shape";
    });
    // Nor for the samples of an operator that is next to nothing but empty rows or columns.
    constexpr Index most = Index{1} << 24;
    const Index longest = (std::max)(layout.rows, layout.cols);
    detail::require(longest <= (std::max)(most, layout.count()), [&] {
      return "KroneckerSparse: " + std::to_string(layout.count()) + " values in a " +
             detail::shape_text(layout.rows, layout.cols) + " matrix";
    });
    const Matrix<T> values = parts.matrix<T>("values");
    KroneckerSparse result(layout);
    Index next = 0;
    result.each([&](const Place& place) { result.values_.data()[place.at] = values(next++, 0); });
    return result;
  }

 private:
  friend OperatorBase<KroneckerSparse, T>;
  using Layout = detail::KroneckerLayout;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

  /// One value: which it is, where it lies in the matrix, and where in memory.
  struct Place {
    Index i, k, p, q;
    Index row, col;
    Index at;
  };

  // Samples at once: so that a page of X and Y for each of them has a place in the TLB while they
  // are read a few cache lines at a time, and that little memory holds gathered ones.
  static constexpr Index most_samples = 512 / Index{sizeof(T)};

  explicit KroneckerSparse(const Layout& layout) : layout_(layout), values_(memory_size(layout)) {}

  static std::size_t memory_size(const Layout& layout) {
    return static_cast<std::size_t>(layout.blocks() * layout.units() * layout.slot());
  }

  /// Calls `body(place)` for every value in the order of i, k, p and q.
  template <class Body>
  void each(Body body) const {
    const Index d = pattern().d;
    for (Index i = 0; i < layout_.blocks(); ++i)
      for (Index u = 0; u < layout_.units(); ++u) {
        const Layout::Unit unit = layout_.unit(i, u);
        for (Index lane = 0; lane < (std::min)({unit.width, unit.y_size, unit.x_size}); ++lane)
          for (Index p = 0; p * d + lane < unit.y_size; ++p)
            for (Index q = 0; q * d + lane < unit.x_size; ++q)
              body(Place{i, u * layout_.lanes + lane, p, q, unit.first_row + p * d + lane,
                         unit.first_col + q * d + lane,
                         layout_.slot_of(i, u) + layout_.offset(unit, p, q, lane)});
      }
  }

  /// A range of pieces of one unit, by some samples: what one call of a kernel computes.
  struct Call {
    Index i, u;
    Index first, last;
    Index sample, samples;
  };

  [[nodiscard]] detail::Split split_pieces(Index count, Index batch,
                                           const Workspace& workspace) const {
    return {count, 1, flops() * static_cast<double>(batch), workspace};
  }

  /// Cuts what there is to compute, `pieces` pieces of each of the units of each i, into tasks:
  /// `body(call, memory)`, where the memory holds `scratch` values.
  template <class Body>
  void in_tasks(Index blocks, Index units, Index pieces, Index batch, Index scratch,
                Workspace& workspace, Body body) const {
    detail::in_tasks<T>(split_pieces(blocks * units * pieces, batch, workspace), unsign(scratch),
                        workspace, [&](Index begin, Index end, T* memory) {
                          for (Index j = 0; j < batch; j += most_samples)
                            for (Index at = begin; at < end;) {
                              const Index first = at % pieces;
                              const Index last = (std::min)(pieces, first + (end - at));
                              body(Call{at / pieces / units, at / pieces % units, first, last, j,
                                        (std::min)(most_samples, batch - j)},
                                   memory);
                              at += last - first;
                            }
                        });
  }

  /// For 1 < d < 16, the inputs and outputs of a matrix are gathered for the dense kernels.
  [[nodiscard]] bool gathers() const noexcept { return layout_.lanes == 1 && pattern().d > 1; }

  static std::size_t unsign(Index value) noexcept { return static_cast<std::size_t>(value); }
  /// Scratch of one task, in values: what the kernels need for so many samples, then gathered
  /// inputs and outputs.
  struct Scratch {
    Index kernel;
    Index inputs;
    Index outputs;
    [[nodiscard]] Index sum() const noexcept { return kernel + inputs + outputs; }
  };
  [[nodiscard]] Scratch scratch(Index batch) const {
    const auto& table = kernel::active<T>();
    const std::size_t samples = unsign((std::min)(most_samples, batch));
    const std::size_t width = unsign(layout_.width);
    const std::size_t needed = layout_.lanes == 1
                                   ? table.dense_scratch(unsign(layout_.height), width, samples)
                                   : table.interleaved_scratch(width, samples);
    const Index gathered = gathers() ? static_cast<Index>(samples) : 0;
    return {static_cast<Index>(needed), layout_.width * gathered, layout_.height * gathered};
  }
  [[nodiscard]] Scratch transpose_scratch(Index batch) const {
    const std::size_t samples = unsign((std::min)(most_samples, batch));
    const std::size_t needed = layout_.lanes == 1 ? 0
                                                  : kernel::active<T>().interleaved_scratch(
                                                        unsign(layout_.height), samples);
    const Index gathered = gathers() ? static_cast<Index>(samples) : 0;
    return {static_cast<Index>(needed), layout_.height * gathered, layout_.width * gathered};
  }

  [[nodiscard]] Index row_pieces() const {
    return layout_.row_blocks() * layout_.row_units() * layout_.strips();
  }
  static constexpr Index piece = 8;  // columns
  [[nodiscard]] Index col_pieces() const {
    return layout_.col_blocks() * layout_.col_units() * Layout::ceil(layout_.width, piece);
  }

  void reserve_scratch(Workspace& workspace, Index batch) const {
    const auto all = [&](Index pieces, Index samples, const Scratch& needed) {
      return split_pieces(pieces, samples, workspace).tasks *
             detail::task_scratch(unsign(needed.sum()));
    };
    detail::reserve_most<T>(workspace, batch, [&](Index samples) {
      return (std::max)(all(row_pieces(), samples, scratch(samples)),
                        all(col_pieces(), samples, transpose_scratch(samples)));
    });
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    // Blocks on a diagonal that are small need no more than a call of a kernel each.
    if (layout_.pattern.d == 1 && workspace.max_tasks() == 1 && X.cols() <= most_samples &&
        (X.cols() == 1 || scratch(X.cols()).kernel == 0))
      multiply_blocks(X, Y, update == Update::add);
    else evaluate_in_tasks(X, Y, update == Update::add, workspace);
  }

  void multiply_blocks(const ConstMatrixView<T>& X, MatrixView<T> Y, bool add) const {
    const auto& table = kernel::active<T>();
    const Index step = samples_at_once(layout_.height * layout_.width, X);
    const Index slot = layout_.slot();
    const T* values = values_.data();
    Index col = 0;
    for (Index row = 0; row < layout_.rows; row += layout_.pattern.b, values += slot) {
      const Index rows = (std::min)(layout_.pattern.b, layout_.rows - row);
      const Index cols = (std::min)(layout_.pattern.c, layout_.cols - col);
      for (Index j = 0; j < X.cols(); j += step)
        table.dense_apply(
            unsign(rows), unsign(cols), values, unsign((std::min)(step, X.cols() - j)),
            X.data() + j * X.outerStride() + col, unsign(X.outerStride()),
            Y.data() + j * Y.outerStride() + row, unsign(Y.outerStride()), add, nullptr);
      col += cols;
    }
  }

  /// A small matrix stays in cache for the next samples. For so few, the dense kernels read them
  /// where they lie, and lines of 8 that are a power of two apart fit one cache set.
  static Index samples_at_once(Index size, const ConstMatrixView<T>& X) noexcept {
    const bool collide = X.outerStride() * Index{sizeof(T)} % 4096 == 0;
    return collide && size <= (Index{1} << 16) ? Index{8} : most_samples;
  }

  void evaluate_in_tasks(const ConstMatrixView<T>& X, MatrixView<T> Y, bool add,
                         Workspace& workspace) const {
    const auto& table = kernel::active<T>();
    const Index d = pattern().d;
    const Scratch parts = scratch(X.cols());
    const auto compute = [&](const Call& call, T* scratch) {
      const Layout::Unit unit = layout_.unit(call.i, call.u);
      const Index p = call.first * layout_.strip;
      const Index rows = (std::min)(call.last * layout_.strip, unit.rows) - p;
      if (rows <= 0) return;
      T* const y = Y.data() + call.sample * Y.outerStride() + unit.first_row + p * d;
      // Where there are no columns, there is nothing to point at either.
      const T* x = X.data();
      const T* values = values_.data();
      if (unit.cols > 0) {
        x += call.sample * X.outerStride() + unit.first_col;
        values += layout_.slot_of(call.i, call.u) + layout_.offset(unit, p, 0, 0);
      }
      if (layout_.lanes > 1) {
        table.interleaved_apply(unsign((std::min)(unit.y_size - p * d, rows * d)),
                                unsign(unit.x_size), unsign(d), unsign(unit.width), values,
                                unsign(call.samples), x, unsign(X.outerStride()), y,
                                unsign(Y.outerStride()), add, scratch);
      } else if (!gathers()) {
        const Index few = samples_at_once(rows * unit.cols, X);
        for (Index j = 0; j < call.samples; j += few)
          table.dense_apply(unsign(rows), unsign(unit.cols), values,
                            unsign((std::min)(few, call.samples - j)), x + j * X.outerStride(),
                            unsign(X.outerStride()), y + j * Y.outerStride(),
                            unsign(Y.outerStride()), add, scratch);
      } else {
        Eigen::Map<Matrix<T>> in(scratch + parts.kernel, unit.cols, call.samples);
        Eigen::Map<Matrix<T>> out(scratch + parts.kernel + parts.inputs, rows, call.samples);
        Eigen::Map<Matrix<T>, 0, Strides> target(y, rows, call.samples, {Y.outerStride(), d});
        in = Eigen::Map<const Matrix<T>, 0, Strides>(x, unit.cols, call.samples,
                                                     {X.outerStride(), d});
        if (add) out = target;
        table.dense_apply(unsign(rows), unsign(unit.cols), values, unsign(call.samples), in.data(),
                          unsign(unit.cols), out.data(), unsign(rows), add, scratch);
        target = out;
      }
    };
    in_tasks(layout_.row_blocks(), layout_.row_units(), layout_.strips(), X.cols(), parts.sum(),
             workspace, compute);
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    const auto& table = kernel::active<T>();
    const Index d = pattern().d;
    const Scratch parts = transpose_scratch(Y.cols());
    const auto compute = [&](const Call& call, T* scratch) {
      const Layout::Unit unit = layout_.unit(call.i, call.u);
      const Index q = call.first * piece;
      const Index cols = (std::min)(call.last * piece, unit.cols) - q;
      if (cols <= 0) return;
      T* const x = X.data() + call.sample * X.outerStride() + unit.first_col;
      // Where there are no rows, there is nothing to point at either.
      const T* y = Y.data();
      const T* values = values_.data();
      if (unit.rows > 0) {
        y += call.sample * Y.outerStride() + unit.first_row;
        values += layout_.slot_of(call.i, call.u);
        if (layout_.lanes == 1) values += layout_.offset(unit, 0, q, 0);
      }
      const auto panel_stride = unsign(unit.cols * Layout::panel);
      if (layout_.lanes > 1) {
        table.interleaved_apply_transpose(unsign(unit.y_size), unsign(unit.x_size), unsign(d),
                                          unsign(unit.width), unsign(q), unsign(q + cols), values,
                                          unsign(call.samples), y, unsign(Y.outerStride()), x,
                                          unsign(X.outerStride()), scratch);
      } else if (!gathers()) {
        table.dense_apply_transpose(unsign(unit.rows), unsign(cols), values, panel_stride,
                                    unsign(call.samples), y, unsign(Y.outerStride()), x + q,
                                    unsign(X.outerStride()));
      } else {
        Eigen::Map<Matrix<T>> in(scratch, unit.rows, call.samples);
        Eigen::Map<Matrix<T>> out(scratch + parts.inputs, cols, call.samples);
        in = Eigen::Map<const Matrix<T>, 0, Strides>(y, unit.rows, call.samples,
                                                     {Y.outerStride(), d});
        table.dense_apply_transpose(unsign(unit.rows), unsign(cols), values, panel_stride,
                                    unsign(call.samples), in.data(), unsign(unit.rows), out.data(),
                                    unsign(cols));
        Eigen::Map<Matrix<T>, 0, Strides>(x + q * d, cols, call.samples, {X.outerStride(), d}) =
            out;
      }
    };
    in_tasks(layout_.col_blocks(), layout_.col_units(), Layout::ceil(layout_.width, piece),
             Y.cols(), parts.sum(), workspace, compute);
  }

  Layout layout_;
  detail::AlignedArray<T> values_ = {};
};

template <class Derived>
KroneckerSparse(const Eigen::MatrixBase<Derived>&, const KroneckerPattern&)
    -> KroneckerSparse<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
