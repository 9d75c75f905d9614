// SPDX-License-Identifier: MIT
// A dense matrix, packed once for the kernels: the uncompressed weight, and the factor of most
// others.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/narrow/narrow_product.hpp"
#include "pleat/matrix/detail/narrow/power_of_two.hpp"
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

namespace detail {
struct DenseTask;
}

/// A dense m x n matrix in panels of 16 rows, rows in lanes, which no call of `apply` packs again.
///
/// Stored: m n values, as they are or narrower (see `Storage`); memory holds m rounded up to a
/// multiple of 16, files and `bytes()` do not. Cost of `apply`: 2 m n flops a sample, and those of
/// a rotation.
template <Real T>
class Dense : public OperatorBase<Dense<T>, T> {
 public:
  static constexpr std::string_view name = "Dense";

  /// How `compress<Dense>` works.
  struct Options {
    Storage storage = native_storage<T>;
    /// Whether int4, int3 or int2 stand for numbers fitted to the weight, `Storage::int4_fitted`
    /// and so on, and not for themselves: of normally distributed weights they lose 8, 6 and 3 %
    /// less so, and more where tails are heavy.
    Levels levels = Levels::uniform;
    /// Whether narrow storage is of rotated inputs, see `rotated`: it spreads outliers, and pays
    /// where some weights of a row are far larger than the others.
    bool rotate = false;
    /// How activations meet narrow weights; see `with_activations`.
    Activations activations = Activations::automatic;
    /// Of the signs of the rotation.
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
      const Index height = (std::min)(panel, rows_ - first);
      for (Index k = 0; k < cols_; ++k, to += panel)
        for (Index i = 0; i < height; ++i) to[i] = values.coeff(first + i, k);
    }
  }

  /// The same, each value rounded to the nearest that the storage has; where the largest lies far
  /// from the numbers of the storage, such as 1e-8 or 1e8 in f16, of its numbers times a power of
  /// two (see `exponent`). Throws `std::invalid_argument` for a storage that T does not have, and,
  /// naming row and column, for a value that is NaN or infinite in a storage of integers, or one of
  /// the very largest of T if that would be rounded to an infinity.
  template <class Derived>
  Dense(const Eigen::MatrixBase<Derived>& matrix, Storage storage) {
    if (!is_narrow(detail::require_storage<T>(storage))) {
      *this = Dense(matrix);
      return;
    }
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> values(
        matrix.derived());
    *this = Dense(
        values.rows(), values.cols(),
        detail::NarrowPanels<T>(storage, values.rows(), values.cols(),
                                [&](Index row, Index col) { return values.coeff(row, col); }));
  }

  /// The same in int8, or int4, int3 or int2, with the scales given, m x ceil(n / 64), or
  /// m x ceil(n / 32), and where they are fitted the levels, as calibrated rounding has them, times
  /// 2^exponent: a value that is an integer or a level times its scale stays what it is. Throws
  /// also if the scales have another shape, or one is not finite or 0, if 2^exponent is no normal
  /// number of T, and for levels that do not ascend, or are not 0 where the integer is.
  template <class Derived>
  Dense(const Eigen::MatrixBase<Derived>& matrix, Storage storage, const Matrix<float>& scales,
        int exponent = 0, const detail::Numbers::Levels& levels = {})
      : Dense(matrix.rows(), matrix.cols(),
              detail::NarrowPanels<T>(detail::require_storage<T>(storage), matrix, scales, exponent,
                                      levels)) {}

  /// This matrix, whose `apply` rounds activations as it runs so that narrow weights meet them as
  /// they are stored, in the arithmetic of narrow numbers: int8 weights int8 or int16, those of
  /// fewer bits int8, bf16 weights bf16. `automatic` takes what is fastest on the active
  /// instruction set, and `native`, which every matrix is made with, where that is not faster: for
  /// fewer than 32 rows, or 4096 entries. A property of the matrix, kept in files; `to_dense` and
  /// `apply_transpose` know nothing of it.
  ///
  /// Integers have a scale for each 64 columns of a sample, the largest magnitude over 127 (int16:
  /// 32767); with e of 1 / 254, or 1 / 65534, an output is off by at most the sum over groups of
  /// e max |x_group| ||w_group||_1, and bf16 by 2^-8 sum |w x|, beside what sums of floats lose.
  /// Groups whose largest magnitude is below 1e-33 are taken for 0, and a value that is not finite
  /// makes all outputs of its sample NaN (bf16: as IEEE arithmetic says). Throws
  /// `std::invalid_argument` for activations that the storage does not meet, and, unless they are
  /// `automatic` or `native`, for double.
  [[nodiscard]] Dense with_activations(Activations activations) const {
    Dense result = *this;
    detail::require_activations<T>(storage_, activations);
    if (is_narrow(storage_))
      result.narrow_.set_activations(activations,
                                     detail::automatic_activations<T>(storage_, rows_, cols_));
    return result;
  }

  /// Whether it can have such activations.
  [[nodiscard]] bool meets(Activations activations) const noexcept {
    return detail::meets<T>(storage_, activations);
  }

  /// This matrix times H, which inputs are multiplied by as they come: of W H^T in narrow storage,
  /// it is near W. Throws `std::invalid_argument` if H has not as many rows as this has columns,
  /// for the native storage, and where there is a rotation already.
  [[nodiscard]] Dense rotated(const Hadamard<T>& H) const {
    Dense result = *this;
    result.rotation_ = detail::Rotation<T>::of_narrow(*this, H);
    return result;
  }

  // Copies only, sharing the panels: what was moved from stays as it was.
  Dense(const Dense&) = default;
  Dense& operator=(const Dense&) = default;
  ~Dense() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  /// What activations are rounded to; never `automatic`.
  [[nodiscard]] Activations activations() const noexcept { return narrow_.activations(); }
  /// All that is stored is multiplied by 2 to the power of this; 0 but in narrow storage, where the
  /// largest value is below 2^-8 or above 65504 (f16; 7, 3 and 1 times that: int4,
  /// int3 and int2), or far beyond both.
  [[nodiscard]] int exponent() const noexcept { return narrow_.exponent(); }
  /// H, where this is the product of what is stored and a rotation.
  [[nodiscard]] std::optional<Hadamard<T>> rotation() const { return rotation_.matrix(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return matrix_bytes(storage_, static_cast<std::size_t>(rows_),
                        static_cast<std::size_t>(cols_)) +
           rotation_.bytes();
  }
  [[nodiscard]] double flops() const noexcept {
    return 2 * static_cast<double>(rows_) * static_cast<double>(cols_) + rotation_.flops();
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }

  [[nodiscard]] std::string parameters() const {
    if (!is_narrow(storage_)) return {};
    return narrow_.description() + rotation_.text();
  }

  /// The matrix, bit for bit as it is stored, or the product of that and the rotation.
  [[nodiscard]] Matrix<T> to_dense() const {
    if (is_narrow(storage_)) return rotation_.after(Matrix<T>::NullaryExpr(rows_, cols_, narrow_));
    Matrix<T> dense(rows_, cols_);
    if (cols_ == 0) return dense;
    const T* from = panels_.data();
    for (Index first = 0; first < rows_; first += panel) {
      const Index height = (std::min)(panel, rows_ - first);
      for (Index k = 0; k < cols_; ++k, from += panel)
        for (Index i = 0; i < height; ++i) dense(first + i, k) = from[i];
    }
    return dense;
  }

  /// "weight": m x n. In narrow storage also "weight_scales" and "weight_levels", and the
  /// attributes "storage" and, if they are not 0 and native, "exponent" and "activations"; see
  /// `detail::NarrowPanels`. Child "rotation": a `Hadamard`, or none.
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(), {}, {}, {}};
    rotation_.add_to(parts);
    if (is_narrow(storage_)) narrow_.add_to(parts, "weight");
    else parts.tensors["weight"] = Tensor::of(to_dense());
    return parts;
  }
  /// Throws `std::invalid_argument` unless there is a weight of a known storage that is as large as
  /// its shape says, and, in narrow storage, has scales that fit it, and so does a rotation.
  [[nodiscard]] static Dense from_parts(const Parts& parts) {
    if (!parts.attributes.contains("storage")) return Dense(parts.matrix<T>("weight"));
    const auto panels = detail::NarrowPanels<T>::from(parts, "weight", {});
    return detail::Rotation<T>::read(Dense(panels.rows(), panels.cols(), panels), parts);
  }

 private:
  friend OperatorBase<Dense, T>;
  friend detail::DenseTask;
  static constexpr Index panel = Index{kernel::panel_rows};

  Dense(Index rows, Index cols, detail::NarrowPanels<T> panels)
      : rows_(rows), cols_(cols), storage_(panels.storage()), narrow_(std::move(panels)) {}

  static std::size_t packed_size(Index rows, Index cols) {
    return static_cast<std::size_t>((rows + panel - 1) / panel * panel) *
           static_cast<std::size_t>(cols);
  }

  [[nodiscard]] detail::Split split_rows(Index batch, const Workspace& workspace) const {
    return {rows_, panel, flops() * static_cast<double>(batch), workspace};
  }
  [[nodiscard]] detail::Split split_cols(Index batch, const Workspace& workspace) const {
    return {cols_, is_narrow(storage_) ? 64 : 8, flops() * static_cast<double>(batch), workspace};
  }
  [[nodiscard]] std::size_t scratch(Index batch) const {
    const auto& table = kernel::active<T>();
    const auto rows = static_cast<std::size_t>(rows_);
    const auto cols = static_cast<std::size_t>(cols_);
    const auto samples = static_cast<std::size_t>(batch);
    if (!is_narrow(storage_)) [[likely]]
      return table.dense_scratch(rows, cols, samples);
    return detail::NarrowProduct<T>(narrow_).scratch(rows, cols, samples);
  }
  [[nodiscard]] std::size_t transpose_scratch() const {
    return is_narrow(storage_) ? kernel::narrow_transpose_scratch : 0;
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    rotation_.reserve(workspace, batch, [&](Index most) {
      detail::reserve_most<T>(workspace, most, [&](Index samples) {
        return (std::max)(
            split_rows(samples, workspace).tasks * detail::task_scratch(scratch(samples)),
            split_cols(samples, workspace).tasks * detail::task_scratch(transpose_scratch()));
      });
    });
  }

  [[gnu::always_inline]] void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                                       Workspace& workspace) const {
    // One sample needs no scratch. Nothing else is inlined here, for it would cost registers.
    if (!is_narrow(storage_) && workspace.max_tasks() == 1 &&
        (X.cols() == 1 || scratch(X.cols()) == 0)) [[likely]]
      kernel::active<T>().dense_apply(
          static_cast<std::size_t>(rows_), static_cast<std::size_t>(cols_), panels_.data(),
          static_cast<std::size_t>(X.cols()), X.data(), static_cast<std::size_t>(X.outerStride()),
          Y.data(), static_cast<std::size_t>(Y.outerStride()), update == Update::add, nullptr);
    else evaluate_in_tasks(X, Y, update, workspace);
  }
  [[gnu::noinline]] void evaluate_in_tasks(ConstMatrixView<T> X, MatrixView<T> Y, Update update,
                                           Workspace& workspace) const {
    rotation_.apply(X, Y, workspace, [&](const auto& in, auto out) {
      detail::in_tasks<T>(split_rows(in.cols(), workspace), scratch(in.cols()), workspace,
                          [&](Index begin, Index end, T* memory) {
                            multiply(begin, end, in, out, update, memory);
                          });
    });
  }

  /// Some of the rows.
  void multiply(Index begin, Index end, const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                T* memory) const {
    const auto& table = kernel::active<T>();
    const auto rows = static_cast<std::size_t>(end - begin);
    const auto cols = static_cast<std::size_t>(cols_);
    const auto batch = static_cast<std::size_t>(X.cols());
    const auto ldx = static_cast<std::size_t>(X.outerStride());
    const auto ldy = static_cast<std::size_t>(Y.outerStride());
    T* const y = Y.data() + begin;
    const bool add = update == Update::add;
    if (is_narrow(storage_)) [[unlikely]]
      detail::NarrowProduct<T>(narrow_).apply(begin, rows, cols, batch, X.data(), ldx, y, ldy, add,
                                              memory);
    else
      table.dense_apply(rows, cols, panels_.data() + begin * cols_, batch, X.data(), ldx, y, ldy,
                        add, memory);
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    if (rows_ == 0) {
      X.setZero();
      return;
    }
    rotation_.apply_transpose(Y, X, workspace, [&](const auto& in, auto out) {
      detail::in_tasks<T>(split_cols(in.cols(), workspace), transpose_scratch(), workspace,
                          [&](Index begin, Index end, T* memory) {
                            multiply_transpose(begin, end, in, out, memory);
                          });
    });
  }

  /// Some of the columns.
  void multiply_transpose(Index begin, Index end, const ConstMatrixView<T>& Y, MatrixView<T> X,
                          T* memory) const {
    const auto& table = kernel::active<T>();
    const auto rows = static_cast<std::size_t>(rows_);
    const auto batch = static_cast<std::size_t>(Y.cols());
    const auto ldy = static_cast<std::size_t>(Y.outerStride());
    const auto ldx = static_cast<std::size_t>(X.outerStride());
    const auto first = static_cast<std::size_t>(begin);
    const auto last = static_cast<std::size_t>(end);
    if (is_narrow(storage_)) {
      table.narrow_apply_transpose(narrow_.format(), rows, static_cast<std::size_t>(cols_), first,
                                   last, narrow_.data(0), batch, Y.data(), ldy, X.data(), ldx,
                                   memory);
      detail::PowerOfTwo<T>(narrow_.power()).multiply(X, begin, end);
    } else {
      table.dense_apply_transpose(rows, last - first, panels_.data() + begin * panel,
                                  static_cast<std::size_t>(cols_ * panel), batch, Y.data(), ldy,
                                  X.data() + begin, ldx);
    }
  }

  Index rows_ = 0;
  Index cols_ = 0;
  Storage storage_ = native_storage<T>;
  detail::AlignedArray<T> panels_ = {};  // in the native storage,
  detail::NarrowPanels<T> narrow_ = {};  // and in any other,
  detail::Rotation<T> rotation_ = {};    // where there may be one
};

template <class Derived>
Dense(const Eigen::MatrixBase<Derived>&) -> Dense<typename Derived::Scalar>;

namespace detail {

/// Products with a dense matrix of at least one row, not rotated, inside one task of another
/// operator, which has memory for them.
struct DenseTask {
  /// Values of memory, aligned to 64 bytes, that one product with so many samples needs.
  template <Real T>
  [[nodiscard]] static std::size_t scratch(const Dense<T>& op, Index batch) {
    return (std::max)(op.scratch(batch), op.transpose_scratch());
  }
  template <Real T>
  static void apply(const Dense<T>& op, const ConstMatrixView<T>& X, MatrixView<T> Y, T* memory) {
    op.multiply(0, op.rows_, X, Y, Update::overwrite, memory);
  }
  template <Real T>
  static void apply_transpose(const Dense<T>& op, const ConstMatrixView<T>& Y, MatrixView<T> X,
                              T* memory) {
    op.multiply_transpose(0, op.cols_, Y, X, memory);
  }
};

}  // namespace detail

}  // namespace PLEAT_ABI
}  // namespace pleat
