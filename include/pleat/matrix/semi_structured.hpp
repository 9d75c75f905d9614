// SPDX-License-Identifier: MIT
// A 2:4 sparse matrix: at most two values in every four consecutive columns of a row.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow_panels.hpp"
#include "pleat/matrix/detail/power_of_two.hpp"
#include "pleat/matrix/detail/rounding.hpp"
#include "pleat/matrix/detail/split.hpp"
#include "pleat/matrix/sparse_pattern.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {

/// A 2:4 (semi-structured) m x n matrix: the two kept values of each group of four columns and, in
/// two bits each, where in the group they lie. Any m and n; a last group of fewer than four columns
/// may keep two as well.
///
/// Stored: 2 ceil(n / 4) values a row, as they are or narrower (see `Storage`; the groups that
/// share a scale are of stored values), and ceil(ceil(n / 4) / 2) bytes of codes: 8.5 bytes for
/// four floats. Cost of `apply`: 4 m ceil(n / 4) flops a sample, half of dense; `apply_transpose`
/// is not vectorised. In memory, matrices whose dense form takes up to 32 KiB are dense besides,
/// and without AVX2 or NEON up to 128 KiB: for so small ones that is faster.
template <Real T>
class SemiStructured : public OperatorBase<SemiStructured<T>, T> {
 public:
  static constexpr std::string_view name = "SemiStructured";

  /// How `compress<SemiStructured>` works.
  struct Options {
    PruneCriterion criterion = PruneCriterion::automatic;
    bool refit = true;  ///< with a calibration, least squares of the kept values
    Index sweeps = 2;   ///< of `search`, group by group, after the splitting
    Storage storage = native_storage<T>;
    /// Without effect: nothing is random here.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// The empty 0 x 0 matrix.
  SemiStructured() = default;

  /// Encodes a matrix that has the pattern already. Throws `std::invalid_argument` that names the
  /// first entry, row by row, that is one too many in its group.
  template <class Derived>
  explicit SemiStructured(const Eigen::MatrixBase<Derived>& matrix)
      : SemiStructured(matrix.rows(), matrix.cols()) {
    const Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> entries(
        matrix.derived());
    for (Index row = 0; row < rows_; ++row)
      for (Index group = 0; group < groups(); ++group) {
        const Index width = std::min<Index>(4, cols_ - 4 * group);
        T kept[2] = {};
        std::uint32_t code[2] = {};
        Index count = 0;
        for (Index k = 0; k < width; ++k) {
          const T value = entries.coeff(row, 4 * group + k);
          if (detail::is_zero(value)) continue;
          detail::require(count < 2, [&] {
            return "SemiStructured: the entry at row " + std::to_string(row) + ", column " +
                   std::to_string(4 * group + k) +
                   " is the third nonzero in its group of four columns";
          });
          kept[count] = value;
          code[count++] = static_cast<std::uint32_t>(k);
        }
        // Codes ascend, also where fewer than two entries are kept: one matrix has one encoding.
        if (count == 0) code[0] = 0;
        if (count < 2) {
          if (code[0] < 3) code[1] = code[0] + 1;
          else {
            code[1] = 3;
            kept[1] = kept[0];
            code[0] = 2;
            kept[0] = T(0);
          }
        }
        set(row, group, kept, code);
      }
    make_dense();
  }

  /// The same, each value rounded to the nearest that the storage has. Throws also what
  /// `Dense(matrix, storage)` throws.
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, Storage storage)
      : SemiStructured(SemiStructured(matrix).stored_as(storage)) {}

  /// This matrix in another storage, the same pattern. A value that becomes 0 keeps its place.
  [[nodiscard]] SemiStructured stored_as(Storage storage) const {
    SemiStructured result = *this;
    result.storage_ = detail::require_storage<T>(storage);
    result.narrow_ = {};
    if (is_narrow(storage)) {
      result.values_ = {};
      result.narrow_ =
          detail::NarrowPanels<T>(storage, rows_, 2 * groups(), stored_value(), column());
    } else if (is_narrow(storage_)) {
      result.values_ = detail::AlignedArray<T>(values_size());
      for (Index row = 0; row < rows_; ++row)
        for (Index group = 0; group < groups(); ++group)
          for (int kept = 0; kept < 2; ++kept)
            result.values_.data()[value_index(row, group) + kept * panel] = value(row, group, kept);
    }
    result.make_dense();
    return result;
  }

  /// The same in int8 or int4 with the scales given, one for each 64 or 32 stored values of a row,
  /// of which a group of four columns has two, times 2^exponent: a value that is an integer times
  /// its scale stays what it is. Throws also what `Dense(matrix, storage, scales, exponent)`
  /// throws.
  template <class Derived>
  SemiStructured(const Eigen::MatrixBase<Derived>& matrix, Storage storage,
                 const Matrix<float>& scales, int exponent = 0)
      : SemiStructured(matrix) {
    narrow_ = detail::NarrowPanels<T>(detail::require_storage<T>(storage), stored_values(), scales,
                                      exponent, column());
    storage_ = storage;
    values_ = {};
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  SemiStructured(const SemiStructured&) = default;
  SemiStructured& operator=(const SemiStructured&) = default;
  ~SemiStructured() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(rows_) *
           (row_bytes(storage_, static_cast<std::size_t>(2 * groups())) +
            static_cast<std::size_t>(code_bytes()));
  }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  /// All that is stored is multiplied by 2 to the power of this, as for `Dense`.
  [[nodiscard]] int exponent() const noexcept { return narrow_.exponent(); }
  [[nodiscard]] double flops() const noexcept {
    return 4 * static_cast<double>(rows_) * static_cast<double>(groups());
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return is_narrow(storage_) ? "2:4, stored as " + std::string(to_string(storage_)) : "2:4";
  }

  /// The matrix, bit for bit as it is stored.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows_, cols_);
    for (Index row = 0; row < rows_; ++row)
      for (Index group = 0; group < groups(); ++group)
        for (int kept = 0; kept < 2; ++kept) {
          const Index col = 4 * group + code(row, group, kept);
          if (col < cols_ && !detail::is_zero(value(row, group, kept)))
            dense(row, col) = value(row, group, kept);
        }
    return dense;
  }

  /// "values": m x 2 ceil(n / 4). "codes": m x ceil(ceil(n / 4) / 2) bytes, four bits a group,
  /// lower half first. Attribute "cols": n. In narrow storage also "values_scales", and the
  /// attributes "storage" and, if it is not 0, "exponent"; see `detail::NarrowPanels`.
  [[nodiscard]] Parts parts() const {
    Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic> codes(rows_, code_bytes());
    codes.setZero();
    for (Index row = 0; row < rows_; ++row)
      for (Index group = 0; group < groups(); ++group)
        for (int kept = 0; kept < 2; ++kept)
          codes(row, group / 2) = static_cast<std::uint8_t>(
              codes(row, group / 2) | code(row, group, kept) << (4 * (group % 2) + 2 * kept));
    Parts parts{structure(), {{"cols", std::to_string(cols_)}}, {{"codes", Tensor::of(codes)}}, {}};
    if (is_narrow(storage_)) {
      narrow_.add_to(parts, "values");
    } else {
      parts.tensors["values"] = Tensor::of(stored_values());
    }
    return parts;
  }

  /// Throws `std::invalid_argument` unless shapes agree, the two codes of every group ascend,
  /// nothing is kept past the last column, and unused bits are 0.
  [[nodiscard]] static SemiStructured from_parts(const Parts& parts) {
    const Tensor& stored = parts.tensor("codes");
    const std::vector<std::uint8_t> codes = stored.values<std::uint8_t>();
    const std::int64_t cols = parts.integer("cols");
    detail::require(cols >= 0 && cols <= (std::int64_t{1} << 48),
                    [&] { return "SemiStructured: " + std::to_string(cols) + " columns"; });
    const Index width = (cols + 3) / 4;
    detail::NarrowPanels<T> narrow;
    Matrix<T> values;
    if (parts.attributes.contains("storage")) {
      narrow = detail::NarrowPanels<T>::from(parts, "values", 2 * width);
      values = Matrix<T>::NullaryExpr(narrow.rows(), narrow.cols(), narrow);
    } else {
      values = parts.matrix<T>("values");
    }
    detail::require(values.cols() == 2 * width && stored.shape.size() == 2 &&
                        stored.shape[0] == values.rows() && stored.shape[1] == (width + 1) / 2 &&
                        codes.size() == static_cast<std::size_t>(values.rows() * stored.shape[1]),
                    [&] {
                      return "SemiStructured: " + std::to_string(cols) + " columns do not have " +
                             detail::shape_text(values.rows(), values.cols()) +
                             " values and codes of this shape";
                    });
    SemiStructured result(values.rows(), static_cast<Index>(cols));
    for (Index row = 0; row < result.rows_; ++row)
      for (Index group = 0; group < width + width % 2; ++group) {
        const auto bits = static_cast<std::uint32_t>(
            codes[static_cast<std::size_t>(row * ((width + 1) / 2) + group / 2)] >>
                (4 * (group % 2)) &
            15);
        if (group == width) {
          detail::require(bits == 0, [&] {
            return "SemiStructured: row " + std::to_string(row) + " has a code past its last group";
          });
          continue;
        }
        const std::uint32_t code[2] = {bits & 3U, bits >> 2U};
        const T kept[2] = {values(row, 2 * group), values(row, 2 * group + 1)};
        detail::require(code[0] < code[1], [&] {
          return "SemiStructured: the codes of row " + std::to_string(row) + ", group " +
                 std::to_string(group) + " do not ascend";
        });
        for (int k = 0; k < 2; ++k)
          detail::require(4 * group + Index{code[k]} < cols || detail::is_zero(kept[k]), [&] {
            return "SemiStructured: row " + std::to_string(row) + " keeps a value past column " +
                   std::to_string(cols - 1);
          });
        result.set(row, group, kept, code);
      }
    if (parts.attributes.contains("storage")) {
      result.storage_ = narrow.storage();
      result.narrow_ = narrow;
      result.values_ = {};
    }
    result.make_dense();
    return result;
  }

 private:
  friend OperatorBase<SemiStructured, T>;
  static constexpr Index panel = Index{kernel::panel_rows};
  static constexpr Index block = 8;  // groups that one code word serves

  SemiStructured(Index rows, Index cols)
      : rows_(rows),
        cols_(cols),
        values_(values_size()),
        codes_(static_cast<std::size_t>(panels() * panel) * static_cast<std::size_t>(blocks())) {}

  [[nodiscard]] std::size_t values_size() const noexcept {
    return static_cast<std::size_t>(panels() * 2 * panel) * static_cast<std::size_t>(groups());
  }
  [[nodiscard]] Index groups() const noexcept { return (cols_ + 3) / 4; }
  [[nodiscard]] Index blocks() const noexcept { return (groups() + block - 1) / block; }
  [[nodiscard]] Index panels() const noexcept { return (rows_ + panel - 1) / panel; }
  [[nodiscard]] Index code_bytes() const noexcept { return (groups() + 1) / 2; }

  [[nodiscard]] Index value_index(Index row, Index group) const noexcept {
    return (row / panel * groups() + group) * 2 * panel + row % panel;
  }
  [[nodiscard]] Index code_index(Index row, Index group) const noexcept {
    return (row / panel * blocks() + group / block) * panel + row % panel;
  }
  [[nodiscard]] T value(Index row, Index group, int kept) const {
    if (is_narrow(storage_)) return narrow_(row, 2 * group + kept);
    return values_.data()[value_index(row, group) + kept * panel];
  }
  [[nodiscard]] int code(Index row, Index group, int kept) const noexcept {
    return static_cast<int>(
        codes_.data()[code_index(row, group)] >> (4 * (group % block) + 2 * kept) & 3U);
  }
  /// Of the stored values, the columns of the matrix.
  [[nodiscard]] auto column() const noexcept {
    return [this](Index row, Index i) {
      return i / 2 * 4 + code(row, i / 2, static_cast<int>(i % 2));
    };
  }
  [[nodiscard]] auto stored_value() const noexcept {
    return [this](Index row, Index i) { return value(row, i / 2, static_cast<int>(i % 2)); };
  }
  [[nodiscard]] Matrix<T> stored_values() const {
    return Matrix<T>::NullaryExpr(rows_, 2 * groups(), stored_value());
  }
  void set(Index row, Index group, const T (&kept)[2], const std::uint32_t (&code)[2]) noexcept {
    values_.data()[value_index(row, group)] = kept[0];
    values_.data()[value_index(row, group) + panel] = kept[1];
    codes_.data()[code_index(row, group)] |= (code[0] | code[1] << 2U) << (4 * (group % block));
  }

  /// Small matrices are multiplied as dense ones where that is faster.
  void make_dense() {
    dense_ = {};
    if (!is_narrow(storage_) &&
        kernel::active<T>().semi_structured_as_dense(static_cast<std::size_t>(rows_),
                                                     static_cast<std::size_t>(cols_)))
      dense_ = Dense<T>(to_dense());
  }

  [[nodiscard]] detail::Split split_rows(Index batch, const Workspace& workspace) const {
    return {rows_, panel, flops() * static_cast<double>(batch), workspace};
  }
  [[nodiscard]] std::size_t scratch(Index batch) const {
    return kernel_scratch(static_cast<std::size_t>(batch)) +
           detail::PowerOfTwo<T>(narrow_.power()).scratch(static_cast<std::size_t>(rows_));
  }
  /// What the kernel needs; scratch for what is multiplied by a power of two follows.
  [[nodiscard]] std::size_t kernel_scratch(std::size_t samples) const {
    return static_cast<std::size_t>(detail::task_scratch(
        kernel::active<T>().semi_structured_scratch(static_cast<std::size_t>(cols_), samples)));
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    if (dense_.rows() > 0) dense_.reserve(workspace, batch);
    detail::reserve_most<T>(workspace, batch, [&](Index samples) {
      return split_rows(samples, workspace).tasks * detail::task_scratch(scratch(samples));
    });
  }

  [[gnu::always_inline]] void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                                       Workspace& workspace) const {
    if (dense_.rows() > 0) detail::Unchecked::apply(dense_, X, Y, update, workspace);
    else evaluate_in_tasks(X, Y, update, workspace);
  }
  [[gnu::noinline]] void evaluate_in_tasks(ConstMatrixView<T> X, MatrixView<T> Y, Update update,
                                           Workspace& workspace) const {
    detail::in_tasks<T>(
        split_rows(X.cols(), workspace), scratch(X.cols()), workspace,
        [&](Index begin, Index end, T* memory) { multiply(begin, end, X, Y, update, memory); });
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
    const std::uint32_t* const codes = codes_.data() + begin * blocks();
    T* const y = Y.data() + begin;
    const bool add = update == Update::add;
    if (is_narrow(storage_)) [[unlikely]]
      detail::PowerOfTwo<T>(narrow_.power())
          .apply(rows, batch, y, ldy, add, memory + kernel_scratch(batch),
                 [&, values = narrow_.data(begin)](std::size_t j, std::size_t samples, T* to,
                                                   std::size_t ld, bool adds) {
                   table.semi_structured_narrow_apply(narrow_.format(), rows, cols, values, codes,
                                                      samples, X.data() + j * ldx, ldx, to, ld,
                                                      adds, memory);
                 });
    else
      table.semi_structured_apply(rows, cols, values_.data() + begin * 2 * groups(), codes, batch,
                                  X.data(), ldx, y, ldy, add, memory);
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    const auto& table = kernel::active<T>();
    const auto size = [](Index value) { return static_cast<std::size_t>(value); };
    const detail::Split split(groups(), 1, flops() * static_cast<double>(Y.cols()), workspace);
    detail::in_tasks<T>(split, 0, workspace, [&](Index begin, Index end, T*) {
      if (is_narrow(storage_)) {
        table.semi_structured_narrow_apply_transpose(
            narrow_.format(), size(rows_), size(cols_), size(begin), size(end), narrow_.data(0),
            codes_.data(), size(Y.cols()), Y.data(), size(Y.outerStride()), X.data(),
            size(X.outerStride()));
        detail::PowerOfTwo<T>(narrow_.power()).multiply(X, 4 * begin, (std::min)(4 * end, cols_));
      } else {
        table.semi_structured_apply_transpose(
            size(rows_), size(cols_), size(begin), size(end), values_.data(), codes_.data(),
            size(Y.cols()), Y.data(), size(Y.outerStride()), X.data(), size(X.outerStride()));
      }
    });
  }

  Index rows_ = 0;
  Index cols_ = 0;
  Storage storage_ = native_storage<T>;
  detail::AlignedArray<T> values_ = {};  // in the native storage,
  detail::NarrowPanels<T> narrow_ = {};  // and in any other
  detail::AlignedArray<std::uint32_t> codes_ = {};
  Dense<T> dense_ = {};  // empty, unless it is faster
};

template <class Derived>
SemiStructured(const Eigen::MatrixBase<Derived>&) -> SemiStructured<typename Derived::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
