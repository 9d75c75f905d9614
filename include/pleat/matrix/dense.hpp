// SPDX-License-Identifier: MIT
// A dense matrix, packed once for the kernels: the uncompressed weight, and the factor of most
// others.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow_panels.hpp"
#include "pleat/matrix/detail/power_of_two.hpp"
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
/// Stored: m n values, as they are or narrower (see `Storage`); memory holds m rounded up to a
/// multiple of 16, files and `bytes()` do not. Cost of `apply`: 2 m n flops a sample.
template <Real T>
class Dense : public OperatorBase<Dense<T>, T> {
 public:
  static constexpr std::string_view name = "Dense";

  /// How `compress<Dense>` works.
  struct Options {
    Storage storage = native_storage<T>;
    /// Without effect: nothing is random here.
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
  /// naming row and column, for a value that is NaN or infinite in int8 and int4, or one of the
  /// very largest of T if that would be rounded to an infinity.
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

  /// The same in int8 or int4 with the scales given, m x ceil(n / 64) or m x ceil(n / 32), as
  /// calibrated rounding has them, times 2^exponent: a value that is an integer times its scale
  /// stays what it is. Throws also if the scales have another shape, or one is not finite or 0, or
  /// if 2^exponent is no normal number of T.
  template <class Derived>
  Dense(const Eigen::MatrixBase<Derived>& matrix, Storage storage, const Matrix<float>& scales,
        int exponent = 0)
      : Dense(matrix.rows(), matrix.cols(),
              detail::NarrowPanels<T>(detail::require_storage<T>(storage), matrix, scales,
                                      exponent)) {}

  // Copies only, sharing the panels: what was moved from stays as it was.
  Dense(const Dense&) = default;
  Dense& operator=(const Dense&) = default;
  ~Dense() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  /// All that is stored is multiplied by 2 to the power of this; 0 but in narrow storage, where the
  /// largest value is below 2^-8 or above 65504 (f16), 7 * 65504 (int4), or far beyond both.
  [[nodiscard]] int exponent() const noexcept { return narrow_.exponent(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(rows_) * row_bytes(storage_, static_cast<std::size_t>(cols_));
  }
  [[nodiscard]] double flops() const noexcept {
    return 2 * static_cast<double>(rows_) * static_cast<double>(cols_);
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }

  [[nodiscard]] std::string parameters() const {
    return is_narrow(storage_) ? "stored as " + std::string(to_string(storage_)) : std::string();
  }

  /// The matrix, bit for bit as it is stored.
  [[nodiscard]] Matrix<T> to_dense() const {
    if (is_narrow(storage_)) return Matrix<T>::NullaryExpr(rows_, cols_, narrow_);
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

  /// "weight": m x n. In narrow storage also "weight_scales", and the attributes "storage" and, if
  /// it is not 0, "exponent"; see `detail::NarrowPanels`.
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(), {}, {}, {}};
    if (is_narrow(storage_)) narrow_.add_to(parts, "weight");
    else parts.tensors["weight"] = Tensor::of(to_dense());
    return parts;
  }
  /// Throws `std::invalid_argument` unless there is a weight of a known storage that is as large as
  /// its shape says, and, in narrow storage, has scales that fit it.
  [[nodiscard]] static Dense from_parts(const Parts& parts) {
    if (!parts.attributes.contains("storage")) return Dense(parts.matrix<T>("weight"));
    const auto panels = detail::NarrowPanels<T>::from(parts, "weight", {});
    return Dense(panels.rows(), panels.cols(), panels);
  }

 private:
  friend OperatorBase<Dense, T>;
  static constexpr Index panel = Index{kernel::panel_rows};

  Dense(Index rows, Index cols, detail::NarrowPanels<T> panels)
      : rows_(rows), cols_(cols), storage_(panels.storage()), narrow_(std::move(panels)) {}

  static std::size_t packed_size(Index rows, Index cols) {
    return static_cast<std::size_t>((rows + panel - 1) / panel * panel) *
           static_cast<std::size_t>(cols);
  }

  void evaluate(const ConstMatrixRef<T>& X, MatrixRef<T>& Y, Update update,
                Workspace& workspace) const {
    const auto& table = kernel::active<T>();
    const auto cols = static_cast<std::size_t>(cols_);
    const auto batch = static_cast<std::size_t>(X.cols());
    const detail::Split split(rows_, panel, flops() * static_cast<double>(X.cols()), workspace);
    const auto needed = static_cast<Index>(is_narrow(storage_) ? table.narrow_scratch(cols, batch)
                                                               : table.dense_scratch(cols, batch));
    // A multiple of 16 values keeps every task's scratch aligned.
    const Index scratch = (needed + 15) / 16 * 16;
    const detail::PowerOfTwo<T> power(narrow_.power());
    Workspace::Frame frame(workspace);
    T* memory = frame.allocate<T>(scratch * split.tasks);
    T* const sums = frame.allocate<T>(power.scratch(rows_, X.cols()));
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      const auto rows = static_cast<std::size_t>(end - begin);
      T* const own = memory + task * scratch;
      const auto ldx = static_cast<std::size_t>(X.outerStride());
      const auto ldy = static_cast<std::size_t>(Y.outerStride());
      const bool add = update == Update::add;
      if (is_narrow(storage_))
        power.apply(rows, batch, Y.data() + begin, ldy, add, sums + begin * power.samples,
                    [&, own_panels = narrow_.data(begin)](std::size_t j, std::size_t samples, T* y,
                                                          std::size_t ld, bool adds) {
                      table.narrow_apply(narrow_.format(), rows, cols, own_panels, samples,
                                         X.data() + j * ldx, ldx, y, ld, adds, own);
                    });
      else
        table.dense_apply(rows, cols, panels_.data() + begin * cols_, batch, X.data(), ldx,
                          Y.data() + begin, ldy, add, own);
    });
  }

  void evaluate_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T>& X, Workspace& workspace) const {
    if (rows_ == 0) {
      X.setZero();
      return;
    }
    const auto& table = kernel::active<T>();
    const detail::Split split(cols_, is_narrow(storage_) ? 64 : 8,
                              flops() * static_cast<double>(Y.cols()), workspace);
    const Index scratch = is_narrow(storage_) ? Index{kernel::narrow_transpose_scratch} : 0;
    Workspace::Frame frame(workspace);
    T* memory = frame.allocate<T>(scratch * split.tasks);
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      if (is_narrow(storage_)) {
        table.narrow_apply_transpose(
            narrow_.format(), static_cast<std::size_t>(rows_), static_cast<std::size_t>(cols_),
            static_cast<std::size_t>(begin), static_cast<std::size_t>(end), narrow_.data(0),
            static_cast<std::size_t>(Y.cols()), Y.data(), static_cast<std::size_t>(Y.outerStride()),
            X.data(), static_cast<std::size_t>(X.outerStride()), memory + task * scratch);
        detail::PowerOfTwo<T>(narrow_.power()).multiply(X, begin, end);
        return;
      }
      table.dense_apply_transpose(
          static_cast<std::size_t>(rows_), static_cast<std::size_t>(end - begin),
          panels_.data() + begin * panel, static_cast<std::size_t>(cols_ * panel),
          static_cast<std::size_t>(Y.cols()), Y.data(), static_cast<std::size_t>(Y.outerStride()),
          X.data() + begin, static_cast<std::size_t>(X.outerStride()));
    });
  }

  Index rows_ = 0;
  Index cols_ = 0;
  Storage storage_ = native_storage<T>;
  detail::AlignedArray<T> panels_ = {};  // in the native storage,
  detail::NarrowPanels<T> narrow_ = {};  // and in any other
};

template <class Derived>
Dense(const Eigen::MatrixBase<Derived>&) -> Dense<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
