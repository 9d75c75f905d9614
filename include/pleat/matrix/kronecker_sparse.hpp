// SPDX-License-Identifier: MIT
// A Kronecker-sparse matrix: block-diagonal, and the levels of Monarch and butterfly matrices.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/kronecker_layout.hpp"
#include "pleat/matrix/detail/kronecker_values.hpp"
#include "pleat/matrix/detail/rotation.hpp"
#include "pleat/matrix/detail/split.hpp"
#include "pleat/matrix/hadamard.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// The top-left m x n corner of a matrix with the pattern (a, b, c, d), see `KroneckerPattern`:
/// y_{i,p,k} = sum_q w_{i,k,p,q} x_{i,q,k}, where (i,p,k) is row (i b + p) d + k and (i,q,k) column
/// (i c + q) d + k. The permutations of a Monarch matrix lie in these addresses, and cost nothing.
///
/// Stored: a b c d values, or as many of them as the corner has, as they are or narrower (see
/// `Storage`; a group is up to 64 (int4, int3, int2: 32) consecutive entries of one row of one of
/// the a d matrices). Cost of `apply`: twice as many flops a sample. Fast for d = 1 with b of 16 or
/// more, and for d of 16 or more; for d between, and for d > 1 in narrow storage, samples are
/// gathered and scattered. Memory holds more than is counted where sizes are no multiples of 16:
/// matrices of 16 rows for d < 16, and 16 of them side by side else; and with d = 1 narrow ones of
/// up to 1024 values whose activations are native as they are besides, which is faster.
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
      : KroneckerSparse(Layout(matrix.rows(), matrix.cols(), pattern), matrix.derived()) {}

  /// The same, each value rounded to the nearest that the storage has. Throws also what
  /// `Dense(matrix, storage)` throws.
  template <class Derived>
  KroneckerSparse(const Eigen::MatrixBase<Derived>& matrix, const KroneckerPattern& pattern,
                  Storage storage)
      : KroneckerSparse(KroneckerSparse(matrix, pattern).stored_as(storage)) {}

  /// Of given values: w_{i,k,p,q} is number ((i d + k) b + p) c + q of a b c d; those whose row or
  /// column lies outside the corner do not matter. Throws `std::invalid_argument` if the pattern
  /// does not cover the corner, or there are more or fewer values.
  KroneckerSparse(Index rows, Index cols, const KroneckerPattern& pattern,
                  const Eigen::Ref<const Vector<T>>& values) {
    const Layout layout(rows, cols, pattern);
    const Index size = pattern.a * pattern.d * pattern.b * pattern.c;
    detail::require(values.size() == size, [&] {
      return "KroneckerSparse: the pattern " + detail::text_of(pattern) + " has " +
             std::to_string(size) + " values, not " + std::to_string(values.size());
    });
    values_ = Values(layout, [&](const Place& place) {
      const Index of_matrix = place.i * pattern.d + place.k;
      return values((of_matrix * pattern.b + place.p) * pattern.c + place.q);
    });
    used_ = values_;
  }

  /// This matrix in another storage.
  [[nodiscard]] KroneckerSparse stored_as(Storage storage) const {
    KroneckerSparse result(values_.stored_as(storage));
    result.rotation_ = rotation_;
    return result;
  }

  /// This matrix times H; see `Dense::rotated`, also for what it throws, but in any storage: what
  /// is narrow may be another factor of a product, which sees the rotated inputs through this one.
  [[nodiscard]] KroneckerSparse rotated(const Hadamard<T>& H) const {
    KroneckerSparse result = *this;
    result.rotation_ = detail::Rotation<T>(*this, H);
    return result;
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  KroneckerSparse(const KroneckerSparse&) = default;
  KroneckerSparse& operator=(const KroneckerSparse&) = default;
  ~KroneckerSparse() = default;

  [[nodiscard]] Index rows() const noexcept { return layout().rows; }
  [[nodiscard]] Index cols() const noexcept { return layout().cols; }
  [[nodiscard]] const KroneckerPattern& pattern() const noexcept { return layout().pattern; }
  [[nodiscard]] Storage storage() const noexcept { return values_.storage(); }
  /// All that is stored is multiplied by 2 to the power of this, as for `Dense`.
  [[nodiscard]] int exponent() const noexcept { return values_.exponent(); }
  /// This matrix with activations rounded as they meet narrow values, and what they are rounded to:
  /// as for `Dense`, where the blocks are what is large enough or not.
  [[nodiscard]] KroneckerSparse with_activations(Activations activations) const {
    KroneckerSparse result(values_.with_activations(activations));
    result.rotation_ = rotation_;
    return result;
  }
  [[nodiscard]] Activations activations() const noexcept { return values_.activations(); }
  [[nodiscard]] bool meets(Activations activations) const noexcept {
    return detail::meets<T>(storage(), activations);
  }
  /// H, where this is the product of what is stored and a rotation.
  [[nodiscard]] std::optional<Hadamard<T>> rotation() const { return rotation_.matrix(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return values_.bytes() + rotation_.bytes(); }
  [[nodiscard]] double flops() const noexcept {
    return 2 * static_cast<double>(layout().count()) + rotation_.flops();
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return "pattern " + detail::text_of(pattern()) +
           (is_narrow(storage()) ? ", " + values_.description() : "") + rotation_.text();
  }

  /// The matrix, bit for bit as it is stored, or the product of that and the rotation.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows(), cols());
    values_.each([&](const Place& place) { dense(place.row, place.col) = values_(place); });
    return rotation_.after(std::move(dense));
  }

  /// The values in the corner, as they are stored, in the order of i, k, p and q.
  [[nodiscard]] Vector<T> values() const { return values_.in_order(); }

  /// "values": those in the corner, in the order of i, k, p and q. Attributes: "a", "b", "c", "d",
  /// "rows", "cols". In narrow storage values are a matrix with a row for each i, k and p, as wide
  /// as the widest of them and 0 past the last of a shorter one; and there are "values_scales", and
  /// the attributes "storage" and, if it is not 0, "exponent"; see `detail::NarrowPanels`. Child
  /// "rotation": a `Hadamard`, or none.
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(),
                {{"a", std::to_string(pattern().a)},
                 {"b", std::to_string(pattern().b)},
                 {"c", std::to_string(pattern().c)},
                 {"d", std::to_string(pattern().d)},
                 {"rows", std::to_string(rows())},
                 {"cols", std::to_string(cols())}},
                {},
                {}};
    values_.add_to(parts);
    rotation_.add_to(parts);
    return parts;
  }

  /// Throws `std::invalid_argument` unless the pattern covers the shape, and there are as many
  /// values as it has; and if more than 2^24 rows or columns are more than there are values.
  [[nodiscard]] static KroneckerSparse from_parts(const Parts& parts) {
    const KroneckerSparse core(Values::from(
        parts, parts.integer("rows"), parts.integer("cols"),
        {parts.integer("a"), parts.integer("b"), parts.integer("c"), parts.integer("d")}));
    return detail::Rotation<T>::read(core, parts);
  }

 private:
  friend OperatorBase<KroneckerSparse, T>;
  using Layout = detail::KroneckerLayout;
  using Values = detail::KroneckerValues<T>;
  using Place = typename Values::Place;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

  // Samples at once: so that a page of X and Y for each of them has a place in the TLB while they
  // are read a few cache lines at a time, and that little memory holds gathered ones.
  static constexpr Index most_samples = 512 / Index{sizeof(T)};

  explicit KroneckerSparse(Values values)
      : values_(std::move(values)), used_(values_.for_kernels()) {}

  KroneckerSparse(
      const Layout& layout,
      const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>& entries)
      : KroneckerSparse(Values(
            layout, [&](const Place& place) { return entries.coeff(place.row, place.col); })) {
    detail::require_pattern_of(layout, entries);
  }

  [[nodiscard]] const Layout& layout() const noexcept { return used_.layout(); }
  [[nodiscard]] bool is_native() const noexcept { return !is_narrow(used_.storage()); }

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

  /// The inputs and outputs of a matrix that is not in lanes are gathered where they are apart.
  [[nodiscard]] bool gathers() const noexcept { return layout().lanes == 1 && pattern().d > 1; }

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
    const Index samples = (std::min)(most_samples, batch);
    const Index gathered = gathers() ? samples : 0;
    return {static_cast<Index>(used_.scratch(unsign(samples))), layout().width * gathered,
            layout().height * gathered};
  }
  [[nodiscard]] Scratch transpose_scratch(Index batch) const {
    const Index samples = (std::min)(most_samples, batch);
    const Index gathered = gathers() ? samples : 0;
    return {static_cast<Index>(used_.transpose_scratch(unsign(samples))),
            layout().height * gathered, layout().width * gathered};
  }

  [[nodiscard]] Index row_pieces() const {
    return layout().row_blocks() * layout().row_units() * layout().strips();
  }
  [[nodiscard]] Index unit_col_pieces() const {
    return Layout::ceil(layout().width, used_.piece());
  }
  [[nodiscard]] Index col_pieces() const {
    return layout().col_blocks() * layout().col_units() * unit_col_pieces();
  }

  void reserve_scratch(Workspace& workspace, Index batch) const {
    const auto all = [&](Index pieces, Index samples, const Scratch& needed) {
      return split_pieces(pieces, samples, workspace).tasks *
             detail::task_scratch(unsign(needed.sum()));
    };
    rotation_.reserve(workspace, batch, [&](Index most) {
      detail::reserve_most<T>(workspace, most, [&](Index samples) {
        return (std::max)(all(row_pieces(), samples, scratch(samples)),
                          all(col_pieces(), samples, transpose_scratch(samples)));
      });
    });
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    // Blocks on a diagonal that are small need no more than a call of a kernel each.
    if (is_native() && pattern().d == 1 && rotation_.is_none() && workspace.max_tasks() == 1 &&
        X.cols() <= most_samples && (X.cols() == 1 || scratch(X.cols()).kernel == 0))
      multiply_blocks(X, Y, update == Update::add);
    else
      rotation_.apply(X, Y, workspace, [&](const auto& in, auto out) {
        evaluate_in_tasks(in, out, update == Update::add, workspace);
      });
  }

  void multiply_blocks(const ConstMatrixView<T>& X, MatrixView<T> Y, bool add) const {
    const auto& table = kernel::active<T>();
    const Index step = samples_at_once(layout().height * layout().width, X);
    const Index slot = layout().slot();
    const T* values = used_.data();
    Index col = 0;
    for (Index row = 0; row < layout().rows; row += pattern().b, values += slot) {
      const Index rows = (std::min)(pattern().b, layout().rows - row);
      const Index cols = (std::min)(pattern().c, layout().cols - col);
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
  [[nodiscard]] Index samples_at_once(Index size, const ConstMatrixView<T>& X) const noexcept {
    const bool collide = X.outerStride() * Index{sizeof(T)} % 4096 == 0;
    return is_native() && collide && size <= (Index{1} << 16) ? Index{8} : most_samples;
  }

  void evaluate_in_tasks(const ConstMatrixView<T>& X, MatrixView<T> Y, bool add,
                         Workspace& workspace) const {
    const Index d = pattern().d;
    const Scratch parts = scratch(X.cols());
    const auto compute = [&](const Call& call, T* memory) {
      const Layout::Unit unit = layout().unit(call.i, call.u);
      const Index p = call.first * layout().strip;
      const Index rows = (std::min)(call.last * layout().strip, unit.rows) - p;
      if (rows <= 0) return;
      T* const y = Y.data() + call.sample * Y.outerStride() + unit.first_row + p * d;
      // Where there are no columns, there is nothing to point at either.
      const T* x = X.data();
      if (unit.cols > 0) x += call.sample * X.outerStride() + unit.first_col;
      if (layout().lanes > 1) {
        kernel::active<T>().interleaved_apply(
            unsign((std::min)(unit.y_size - p * d, rows * d)), unsign(unit.x_size), unsign(d),
            unsign(unit.width), unit.cols > 0 ? used_.data(call.i, call.u, unit, p) : used_.data(),
            unsign(call.samples), x, unsign(X.outerStride()), y, unsign(Y.outerStride()), add,
            memory);
      } else if (!gathers()) {
        const Index few = samples_at_once(rows * unit.cols, X);
        for (Index j = 0; j < call.samples; j += few)
          used_.multiply(call.i, call.u, unit, p, rows, (std::min)(few, call.samples - j),
                         x + j * X.outerStride(), X.outerStride(), y + j * Y.outerStride(),
                         Y.outerStride(), add, memory);
      } else {
        Eigen::Map<Matrix<T>> in(memory + parts.kernel, unit.cols, call.samples);
        Eigen::Map<Matrix<T>> out(memory + parts.kernel + parts.inputs, rows, call.samples);
        Eigen::Map<Matrix<T>, 0, Strides> target(y, rows, call.samples, {Y.outerStride(), d});
        in = Eigen::Map<const Matrix<T>, 0, Strides>(x, unit.cols, call.samples,
                                                     {X.outerStride(), d});
        if (add) out = target;
        used_.multiply(call.i, call.u, unit, p, rows, call.samples, in.data(), unit.cols,
                       out.data(), rows, add, memory);
        target = out;
      }
    };
    in_tasks(layout().row_blocks(), layout().row_units(), layout().strips(), X.cols(), parts.sum(),
             workspace, compute);
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    rotation_.apply_transpose(
        Y, X, workspace, [&](const auto& in, auto out) { transpose_in_tasks(in, out, workspace); });
  }

  void transpose_in_tasks(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    const Index d = pattern().d;
    const Scratch parts = transpose_scratch(Y.cols());
    const auto compute = [&](const Call& call, T* memory) {
      const Layout::Unit unit = layout().unit(call.i, call.u);
      const Index q = call.first * used_.piece();
      const Index cols = (std::min)(call.last * used_.piece(), unit.cols) - q;
      if (cols <= 0) return;
      T* const x = X.data() + call.sample * X.outerStride() + unit.first_col;
      // Where there are no rows, there is nothing to point at either.
      const T* y = Y.data();
      if (unit.rows > 0) y += call.sample * Y.outerStride() + unit.first_row;
      if (layout().lanes > 1) {
        kernel::active<T>().interleaved_apply_transpose(
            unsign(unit.y_size), unsign(unit.x_size), unsign(d), unsign(unit.width), unsign(q),
            unsign(q + cols), unit.rows > 0 ? used_.data(call.i, call.u, unit, 0) : used_.data(),
            unsign(call.samples), y, unsign(Y.outerStride()), x, unsign(X.outerStride()), memory);
      } else if (!gathers()) {
        used_.multiply_transpose(call.i, call.u, unit, q, cols, call.samples, y, Y.outerStride(),
                                 x + q, X.outerStride(), memory);
      } else {
        Eigen::Map<Matrix<T>> in(memory + parts.kernel, unit.rows, call.samples);
        in = Eigen::Map<const Matrix<T>, 0, Strides>(y, unit.rows, call.samples,
                                                     {Y.outerStride(), d});
        T* const out = memory + parts.kernel + parts.inputs + q;
        used_.multiply_transpose(call.i, call.u, unit, q, cols, call.samples, in.data(), unit.rows,
                                 out, unit.cols, memory);
        Eigen::Map<Matrix<T>, 0, Strides>(x + q * d, cols, call.samples, {X.outerStride(), d}) =
            Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>(out, cols, call.samples,
                                                                 Eigen::OuterStride<>(unit.cols));
      }
    };
    in_tasks(layout().col_blocks(), layout().col_units(), unit_col_pieces(), Y.cols(), parts.sum(),
             workspace, compute);
  }

  Values values_ = {};
  Values used_ = {};  // the same, or wider: see `for_kernels`
  detail::Rotation<T> rotation_ = {};
};

template <class Derived>
KroneckerSparse(const Eigen::MatrixBase<Derived>&, const KroneckerPattern&)
    -> KroneckerSparse<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
