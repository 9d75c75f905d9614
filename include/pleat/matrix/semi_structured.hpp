// SPDX-License-Identifier: MIT
// An N:M sparse matrix: at most N values in every M consecutive columns of a row.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/rotation.hpp"
#include "pleat/matrix/detail/semi_structured_places.hpp"
#include "pleat/matrix/detail/sparse/semi_structured_dense.hpp"
#include "pleat/matrix/detail/sparse/semi_structured_product.hpp"
#include "pleat/matrix/detail/split.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/sparse_pattern.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// An N:M (semi-structured) m x n matrix: the N kept values of each group of M columns, and where
/// in the group they lie. M is 4, 8, 16 or 32, and N any less. Any m and n; a last group of fewer
/// than M columns may keep N as well.
///
/// Stored: N ceil(n / M) values a row, as they are or narrower (see `Storage`; the groups that
/// share a scale are of stored values), and their places as codes or as masks (see `Places`). Of
/// dense floats these are 53.1 % for 2:4, 54.7 for 4:8, 56.3 for 8:16 and 57.8 for 16:32, by masks
/// 53.1 for all of them. In memory, places are codes for the kernels, of 2, 4, 4 and 5.3 bits where
/// half are kept, else words of 32 bits for whole groups; and matrices whose dense form takes up to
/// 32 KiB (where no instruction picks one of M inputs, 128) are dense besides, which is faster.
///
/// Cost of `apply`: 2 m N ceil(n / M) flops a sample. One instruction picks one of M inputs for
/// each lane with AVX-512 for floats up to M = 32 and doubles up to 16, with AVX2 for floats up
/// to 8, with NEON for floats up to 16; else it takes several, and with SSE2 beyond 4 a load for
/// every value, while samples are few. Where they are many, M does not matter. `apply_transpose` is
/// not vectorised.
template <Real T>
class SemiStructured : public OperatorBase<SemiStructured<T>, T> {
 public:
  static constexpr std::string_view name = "SemiStructured";

  /// How `compress<SemiStructured>` works.
  struct Options {
    PruneCriterion criterion = PruneCriterion::automatic;
    bool refit = true;  ///< with a calibration, least squares of the kept values
    Index sweeps = 2;   ///< of `search`, group by group, after the splitting
    /// {0, 0} stands for half of every M columns, with the largest M that the kernels of `target`
    /// run at full speed, if the budget has room for it, else 2:4.
    SparsePattern pattern = {0, 0};
    Places places = Places::automatic;
    /// The instruction set of the pattern, as `Table::arch`; that in force if empty.
    std::string target = {};
    Storage storage = native_storage<T>;
    Levels levels = Levels::uniform;  ///< of int4, int3 and int2, as for `Dense`
    bool rotate = false;              ///< whether inputs are rotated, as for `Dense`
    Activations activations = Activations::automatic;  ///< see `with_activations`
    std::uint64_t seed = 0;                            ///< of the signs of the rotation
    Monitor monitor = {};
  };

  /// The empty 0 x 0 matrix.
  SemiStructured() = default;

  /// Encodes a matrix that has the pattern 2:4 already. Throws `std::invalid_argument` that names
  /// the first entry, row by row, that is one too many in its group.
  template <class Derived>
  explicit SemiStructured(const Eigen::MatrixBase<Derived>& matrix)
      : SemiStructured(matrix, SparsePattern{2, 4}) {}

  /// The same for any pattern. Throws `std::invalid_argument` also for one that there is none of.
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, SparsePattern pattern,
                 Places places = Places::codes)
      : SemiStructured(matrix.rows(), matrix.cols(), pattern, places) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> entries(
        matrix.derived());
    for (Index row = 0; row < rows(); ++row)
      for (Index group = 0; group < places_.groups(); ++group) {
        const Index first = pattern.group * group;
        const Index width = (std::min)(pattern.group, cols() - first);
        Index codes[32];
        Index count = 0;
        for (Index k = 0; k < width; ++k) {
          if (detail::is_zero(entries.coeff(row, first + k))) continue;
          detail::require(count < pattern.kept,
                          [&] { return detail::one_too_many(pattern, row, first + k); });
          codes[count++] = k;
        }
        places_.keep(row, group, codes, count, [&](Index value, Index code) {
          set(row, value, code < width ? entries.coeff(row, first + code) : T(0));
        });
      }
    make_dense();
  }

  /// The same, each value rounded to the nearest that the storage has. Throws also what
  /// `Dense(matrix, storage)` throws.
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, Storage storage)
      : SemiStructured(matrix, SparsePattern{2, 4}, storage) {}
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, SparsePattern pattern, Storage storage,
                 Places places = Places::codes)
      : SemiStructured(SemiStructured(matrix, pattern, places).stored_as(storage)) {}

  /// This matrix in another storage, the same pattern; values that become 0 keep their places.
  /// Throws `std::invalid_argument` if it is rotated, and the storage the native one.
  [[nodiscard]] SemiStructured stored_as(Storage storage) const {
    if (storage == storage_) return with_activations(Activations::native);
    SemiStructured result = *this;
    result.storage_ = detail::require_storage<T>(storage);
    rotation_.require_storage("SemiStructured", storage);
    result.narrow_ = {};
    result.controls_ = {};
    if (is_narrow(storage)) {
      result.values_ = {};
      result.narrow_ = detail::NarrowPanels<T>(storage, rows(), places_.values(), stored_value(),
                                               stored_place());
    } else if (is_narrow(storage_)) {
      result.values_ = detail::AlignedArray<T>(places_.values_size());
      for (Index row = 0; row < rows(); ++row)
        for (Index i = 0; i < places_.values(); ++i) result.set(row, i, value(row, i));
    }
    result.make_dense();
    return result;
  }

  /// The same in int8 to int2 with the scales given, one for each 64 (int8) or 32 stored values of
  /// a row, times 2^exponent, and levels: see `Dense(matrix, storage, scales, exponent, levels)`.
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, SparsePattern pattern, Storage storage,
                 const Matrix<float>& scales, int exponent = 0, Places places = Places::codes,
                 const detail::Numbers::Levels& levels = {})
      : SemiStructured(matrix, pattern, places) {
    narrow_ = detail::NarrowPanels<T>(detail::require_storage<T>(storage), stored_values(), scales,
                                      exponent, levels, stored_place());
    storage_ = storage;
    values_ = {};
    make_dense();
  }
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, Storage storage,
                 const Matrix<float>& scales, int exponent = 0)
      : SemiStructured(matrix, SparsePattern{2, 4}, storage, scales, exponent) {}

  /// This matrix times H; see `Dense::rotated`, also for what it throws.
  [[nodiscard]] SemiStructured rotated(const Hadamard<T>& H) const {
    SemiStructured result = *this;
    result.rotation_ = detail::Rotation<T>::of_narrow(*this, H);
    result.make_dense();
    return result;
  }

  /// This matrix, whose `apply` rounds activations as it runs, as `Dense::with_activations` does:
  /// int8 values meet int8, with a scale for the columns that 64 values of a row may lie in (128
  /// where half are kept); others meet integers only where N is a power of two. Which kernels serve
  /// says `kernel::has_semi_structured_dot`; they take a byte of memory more for each value (2:4
  /// and 4:8 half of one). Without one it is a dense matrix in the same storage, held besides, or
  /// where N is no power of two, plain loops. Automatically activations are rounded where that is
  /// faster: see `kernel::automatic_sparse_activations`. What was `stored_as` is native.
  [[nodiscard]] SemiStructured with_activations(Activations activations) const {
    auto result = *this;
    result.controls_ = detail::meet(activations, places_, storage_, result.narrow_);
    if (is_narrow(storage_)) result.make_dense();
    return result;
  }
  [[nodiscard]] bool meets(Activations activations) const noexcept {
    return detail::sparse_meets<T>(storage_, pattern(), activations);
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  SemiStructured(const SemiStructured&) = default;
  SemiStructured& operator=(const SemiStructured&) = default;
  ~SemiStructured() = default;

  [[nodiscard]] Index rows() const noexcept { return places_.rows(); }
  [[nodiscard]] Index cols() const noexcept { return places_.cols(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return detail::semi_structured_bytes(rows(), cols(), pattern(), storage_, stored_places_) +
           rotation_.bytes();
  }
  [[nodiscard]] SparsePattern pattern() const noexcept { return places_.pattern(); }
  /// `codes` or `masks`.
  [[nodiscard]] Places places() const noexcept { return stored_places_; }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  /// All that is stored is multiplied by 2 to the power of this, as for `Dense`.
  [[nodiscard]] int exponent() const noexcept { return narrow_.exponent(); }
  /// What activations are rounded to; never `automatic`.
  [[nodiscard]] Activations activations() const noexcept { return narrow_.activations(); }
  /// H, where this is the product of what is stored and a rotation.
  [[nodiscard]] std::optional<Hadamard<T>> rotation() const { return rotation_.matrix(); }
  [[nodiscard]] double flops() const noexcept {
    return 2 * static_cast<double>(rows()) * static_cast<double>(places_.values()) +
           rotation_.flops();
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return to_string(pattern()) + (stored_places_ == Places::masks ? " by masks" : "") +
           (is_narrow(storage_) ? ", " + narrow_.description() : "") + rotation_.text();
  }

  /// Bit for bit as it is stored, or the product of that and the rotation.
  [[nodiscard]] Matrix<T> to_dense() const { return rotation_.after(kept()); }

  /// "values": m x N ceil(n / M), narrow ones as `detail::NarrowPanels::add_to` has them. "codes":
  /// bytes, the codes of a row one after another, of 2, 3, 4 or 5 bits for M = 4, 8, 16 or 32,
  /// lowest bits first; or "masks": bytes, a bit for each column of a row, lowest first. Attributes
  /// "cols": n, and "pattern": "N:M" unless it is 2:4. Child "rotation": a `Hadamard`, or none.
  [[nodiscard]] Parts parts() const {
    Parts parts{
        structure(),
        {{"cols", std::to_string(cols())}},
        {{stored_places_ == Places::masks ? "masks" : "codes", places_.tensor(stored_places_)}},
        {}};
    rotation_.add_to(parts);
    if (pattern() != SparsePattern{2, 4}) parts.attributes["pattern"] = to_string(pattern());
    if (is_narrow(storage_)) narrow_.add_to(parts, "values");
    else parts.tensors["values"] = Tensor::of(stored_values());
    return parts;
  }

  /// Throws `std::invalid_argument` unless shapes agree, the pattern is one that there is, places
  /// are such, nothing is kept past the last column, unused bits are 0, and activations meet.
  [[nodiscard]] static SemiStructured from_parts(const Parts& parts) {
    const Index cols = detail::columns_of(parts);
    const SparsePattern pattern = detail::pattern_of(parts);
    const Index width = detail::row_values(pattern, cols);
    const bool is_stored_narrow = parts.attributes.contains("storage");
    detail::require_sparse_activations(parts, pattern);
    const auto narrow = is_stored_narrow ? detail::NarrowPanels<T>::from(parts, "values", width)
                                         : detail::NarrowPanels<T>();
    const Matrix<T> values =
        is_stored_narrow ? Matrix<T>(Matrix<T>::NullaryExpr(narrow.rows(), narrow.cols(), narrow))
                         : parts.matrix<T>("values");
    detail::require(values.cols() == width, [&] {
      return "SemiStructured: " + std::to_string(cols) + " columns of " + to_string(pattern) +
             " do not have " + detail::shape_text(values.rows(), values.cols()) + " values";
    });
    const Places places = parts.tensors.contains("masks") ? Places::masks : Places::codes;
    const Tensor& stored = parts.tensor(places == Places::masks ? "masks" : "codes");
    SemiStructured result;
    result.places_ =
        detail::SemiStructuredPlaces::from(stored, places, values.rows(), cols, pattern);
    result.stored_places_ = places;
    result.values_ = detail::AlignedArray<T>(result.places_.values_size());
    for (Index row = 0; row < values.rows() && width > 0; ++row)
      for (Index i = 0; i < width; ++i) {
        if (!detail::is_zero(values(row, i))) result.places_.require_column(row, i);
        result.set(row, i, values(row, i));
      }
    if (is_stored_narrow) {
      result.storage_ = narrow.storage();
      result.narrow_ = narrow;
      result.values_ = {};
      result.controls_ = detail::SemiStructuredControls(result.places_, narrow);
    }
    result.make_dense();
    return detail::Rotation<T>::read(result, parts);
  }

 private:
  friend OperatorBase<SemiStructured, T>;

  SemiStructured(Index rows, Index cols, SparsePattern pattern, Places places) {
    detail::require_pattern(pattern);
    places_ = detail::SemiStructuredPlaces(rows, cols, pattern);
    stored_places_ = detail::stored_form(places);
    values_ = detail::AlignedArray<T>(places_.values_size());
  }

  [[nodiscard]] Matrix<T> kept() const {
    Matrix<T> dense = Matrix<T>::Zero(rows(), cols());
    for (Index row = 0; row < rows(); ++row)
      for (Index i = 0; i < places_.values(); ++i) {
        const Index col = places_.column(row, i);
        if (col < cols() && !detail::is_zero(value(row, i))) dense(row, col) = value(row, i);
      }
    return dense;
  }
  [[nodiscard]] T value(Index row, Index i) const {
    return is_narrow(storage_) ? narrow_(row, i) : values_.data()[places_.value_at(row, i)];
  }
  void set(Index row, Index i, T value) noexcept {
    values_.data()[places_.value_at(row, i)] = value;
  }
  [[nodiscard]] auto stored_place() const noexcept {
    return [this](Index row, Index i) { return std::pair{row, places_.column(row, i)}; };
  }
  [[nodiscard]] auto stored_value() const noexcept {
    return [this](Index row, Index i) { return value(row, i); };
  }
  [[nodiscard]] Matrix<T> stored_values() const {
    return Matrix<T>::NullaryExpr(rows(), places_.values(), stored_value());
  }
  [[nodiscard]] kernel::SemiStructuredPattern kernel_pattern() const noexcept {
    return detail::kernel_pattern(pattern());
  }

  void make_dense() {
    dense_ = detail::faster_dense_form<T>(places_, storage_, narrow_, [&] { return kept(); });
    if (dense_.rows() > 0 && rotation()) dense_ = dense_.rotated(*rotation());
  }

  [[nodiscard]] detail::Split split_rows(Index batch, const Workspace& workspace) const {
    return {rows(), Index{kernel::panel_rows}, flops() * static_cast<double>(batch), workspace};
  }
  [[nodiscard]] detail::SemiStructuredProduct<T> narrow_product() const {
    return {places_, narrow_, controls_};
  }
  [[nodiscard]] std::size_t scratch(Index batch) const {
    const auto samples = static_cast<std::size_t>(batch);
    if (is_narrow(storage_))
      return narrow_product().scratch(static_cast<std::size_t>(rows()), samples);
    return kernel::active<T>().semi_structured_scratch(static_cast<std::size_t>(cols()), samples);
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    if (dense_.rows() > 0) dense_.reserve(workspace, batch);
    rotation_.reserve(workspace, batch, [&](Index most) {
      detail::reserve_most<T>(workspace, most, [&](Index samples) {
        return split_rows(samples, workspace).tasks * detail::task_scratch(scratch(samples));
      });
    });
  }

  [[gnu::always_inline]] void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                                       Workspace& workspace) const {
    if (dense_.rows() > 0) detail::Unchecked::apply(dense_, X, Y, update, workspace);
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
    const auto rows = static_cast<std::size_t>(end - begin);
    const auto batch = static_cast<std::size_t>(X.cols());
    const auto ldx = static_cast<std::size_t>(X.outerStride());
    const auto ldy = static_cast<std::size_t>(Y.outerStride());
    T* const y = Y.data() + begin;
    const bool add = update == Update::add;
    if (is_narrow(storage_)) [[unlikely]]
      narrow_product().apply(begin, rows, batch, X.data(), ldx, y, ldy, add, memory);
    else
      kernel::active<T>().semi_structured_apply(
          kernel_pattern(), rows, static_cast<std::size_t>(cols()),
          values_.data() + begin * places_.values(), places_.data(begin), batch, X.data(), ldx, y,
          ldy, add, memory);
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    const auto size = [](Index value) { return static_cast<std::size_t>(value); };
    const auto core = [&](const auto& in, auto out) {
      const double work = flops() * static_cast<double>(in.cols());
      const detail::Split split(places_.groups(), 1, work, workspace);
      detail::in_tasks<T>(split, 0, workspace, [&](Index begin, Index end, T*) {
        if (is_narrow(storage_)) narrow_product().apply_transpose(begin, end, in, out);
        else
          kernel::active<T>().semi_structured_apply_transpose(
              kernel_pattern(), size(rows()), size(cols()), size(begin), size(end), values_.data(),
              places_.data(0), size(in.cols()), in.data(), size(in.outerStride()), out.data(),
              size(out.outerStride()));
      });
    };
    rotation_.apply_transpose(Y, X, workspace, core);
  }

  Storage storage_ = native_storage<T>;
  Places stored_places_ = Places::codes;
  detail::SemiStructuredPlaces places_ = {};
  detail::AlignedArray<T> values_ = {};           // in the native storage,
  detail::NarrowPanels<T> narrow_ = {};           // and in any other,
  detail::SemiStructuredControls controls_ = {};  // where activations are rounded,
  detail::Rotation<T> rotation_ = {};             // where there may be one
  Dense<T> dense_ = {};                           // empty, unless it is faster
};

template <class M>
SemiStructured(const Eigen::MatrixBase<M>&) -> SemiStructured<typename M::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
