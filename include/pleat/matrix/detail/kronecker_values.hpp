// SPDX-License-Identifier: MIT
// The values of a Kronecker-sparse matrix: packed for the kernels, and taken to and from files.
#pragma once

#include "pleat/core/parts.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/kronecker_layout.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/narrow/narrow_product.hpp"
#include "pleat/matrix/detail/narrow/power_of_two.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// As they are, in the slots of the layout; or narrow, each unit in panels of its own, all of them
/// as wide as the widest. Copies share the memory.
template <Real T>
class KroneckerValues {
 public:
  using Layout = KroneckerLayout;

  /// Of the empty matrix.
  KroneckerValues() = default;

  /// From `value(place)` of each place.
  template <class Value>
  KroneckerValues(const Layout& layout, Value value) : layout_(layout), values_(memory(layout)) {
    each([&](const Place& place) { values_.data()[place.at] = value(place); });
  }

  /// The same in another storage, each value rounded to the nearest that it has. Throws
  /// `std::invalid_argument`, naming row and column, where there is none near.
  [[nodiscard]] KroneckerValues stored_as(Storage storage) const {
    require_storage<T>(storage);
    if (storage == storage_) return *this;
    const Vector<T> ordered = in_order();
    Index next = 0;
    if (!is_narrow(storage))
      return KroneckerValues(Layout(layout_.rows, layout_.cols, layout_.pattern),
                             [&](const Place&) { return ordered(next++); });
    KroneckerValues result;
    result.storage_ = storage;
    result.layout_ = Layout(layout_.rows, layout_.cols, layout_.pattern, true);
    const std::vector<Row> rows = result.rows_of_units();
    Matrix<T> values = Matrix<T>::Zero(static_cast<Index>(rows.size()), result.layout_.width);
    Index row = -1;
    result.each([&](const Place& place) {
      if (place.q == 0) ++row;
      values(row, place.q) = ordered(next++);
    });
    result.take(rows, NarrowPanels<T>(
                          storage, values.rows(), values.cols(),
                          [&](Index r, Index q) { return values(r, q); },
                          [&](Index r, Index q) {
                            const Row& at = rows[static_cast<std::size_t>(r)];
                            return std::pair{at.row, at.first_col + q * layout_.pattern.d};
                          }));
    return result;
  }

  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  [[nodiscard]] int exponent() const noexcept { return narrow_.exponent(); }
  /// The same with activations of narrow values rounded; see `Dense::with_activations`. What is
  /// automatic is so for the shape of a unit.
  [[nodiscard]] KroneckerValues with_activations(Activations activations) const {
    KroneckerValues result = *this;
    require_activations<T>(storage_, activations);
    if (is_narrow(storage_))
      result.narrow_.set_activations(
          activations, automatic_activations<T>(storage_, layout_.height, layout_.width));
    return result;
  }
  [[nodiscard]] Activations activations() const noexcept { return narrow_.activations(); }
  /// As kernels multiply them fastest: those of small blocks on a diagonal widened (see
  /// `kernel::holds_widened`). With an exponent they may not fit the scalar.
  [[nodiscard]] KroneckerValues for_kernels() const {
    const bool is_small =
        layout_.pattern.d == 1 && kernel::holds_widened(static_cast<std::size_t>(layout_.height),
                                                        static_cast<std::size_t>(layout_.width));
    if (!is_narrow(storage_) || activations() != Activations::native || exponent() != 0 ||
        !is_small)
      return *this;
    return stored_as(native_storage<T>);
  }
  [[nodiscard]] std::string description() const { return narrow_.description(); }
  /// Of a file: what is counted, not what memory is padded with.
  [[nodiscard]] std::size_t bytes() const {
    if (!is_narrow(storage_)) return static_cast<std::size_t>(layout_.count()) * sizeof(T);
    std::size_t sum = level_bytes(storage_);
    each_unit([&](const Layout::Unit& unit, Index) {
      sum += static_cast<std::size_t>(unit.rows) *
             row_bytes(storage_, static_cast<std::size_t>(unit.cols));
    });
    return sum;
  }

  /// One value: which it is, where it lies in the matrix, and where in memory.
  struct Place {
    Index i, k, p, q;
    Index row, col;
    Index at;          // of values as they are
    Index narrow_row;  // of the panels of narrow ones
  };

  /// Calls `body(place)` for every value in the order of i, k, p and q.
  template <class Body>
  void each(Body body) const {
    const Index d = layout_.pattern.d;
    for (Index i = 0; i < layout_.blocks(); ++i)
      for (Index u = 0; u < layout_.units(); ++u) {
        const Layout::Unit unit = layout_.unit(i, u);
        for (Index lane = 0; lane < (std::min)({unit.width, unit.y_size, unit.x_size}); ++lane)
          for (Index p = 0; p * d + lane < unit.y_size; ++p)
            for (Index q = 0; q * d + lane < unit.x_size; ++q)
              body(Place{i, u * layout_.lanes + lane, p, q, unit.first_row + p * d + lane,
                         unit.first_col + q * d + lane,
                         layout_.slot_of(i, u) + layout_.offset(unit, p, q, lane),
                         layout_.panel_row(i, u) + p});
      }
  }

  [[nodiscard]] T operator()(const Place& place) const {
    return is_narrow(storage_) ? narrow_(place.narrow_row, place.q) : values_.data()[place.at];
  }
  /// In the order of i, k, p and q.
  [[nodiscard]] Vector<T> in_order() const {
    Vector<T> values(layout_.count());
    Index next = 0;
    each([&](const Place& place) { values(next++) = (*this)(place); });
    return values;
  }

  /// "values": those in the corner, in order; in narrow storage a row for each row of a unit, as
  /// wide as the widest, with scales and attributes as `NarrowPanels` has them.
  void add_to(Parts& parts) const {
    if (is_narrow(storage_)) {
      const std::vector<Row> rows = rows_of_units();
      narrow_
          .with_rows(static_cast<Index>(rows.size()),
                     [&](Index r) { return rows[static_cast<std::size_t>(r)].of_panels; })
          .add_to(parts, "values");
      return;
    }
    Tensor tensor = Tensor::of(in_order());
    tensor.shape = {layout_.count()};
    parts.tensors["values"] = std::move(tensor);
  }

  /// From what `add_to` added. Throws `std::invalid_argument` unless there are as many values as
  /// the pattern has, and none beyond; if more than 2^24 rows or columns are more than there are
  /// values.
  [[nodiscard]] static KroneckerValues from(const Parts& parts, Index rows, Index cols,
                                            const KroneckerPattern& pattern) {
    const bool stored_narrow = parts.attributes.contains("storage");
    KroneckerValues result;
    result.layout_ = Layout(rows, cols, pattern, stored_narrow);
    const Layout& layout = result.layout_;
    const auto require_values = [&](bool fits, auto values) {
      require(fits, [&] {
        return "KroneckerSparse: a " + shape_text(rows, cols) + " corner of the pattern " +
               text_of(pattern) + " has " + values() + " values, not a tensor of this shape";
      });
    };
    const Tensor& stored = parts.tensor("values");
    // Before any memory is asked for: sizes may claim what no memory holds.
    if (!stored_narrow)
      require_values(stored.shape.size() == 1 && stored.shape[0] == layout.count(),
                     [&] { return "a vector of " + std::to_string(layout.count()); });
    // Nor for the samples of an operator that is next to nothing but empty rows or columns.
    constexpr Index most = Index{1} << 24;
    const Index longest = (std::max)(layout.rows, layout.cols);
    require(longest <= (std::max)(most, layout.count()), [&] {
      return "KroneckerSparse: " + std::to_string(layout.count()) + " values in a " +
             shape_text(layout.rows, layout.cols) + " matrix";
    });
    if (!stored_narrow) {
      const Matrix<T> values = parts.matrix<T>("values");
      Index next = 0;
      return KroneckerValues(layout, [&](const Place&) { return values(next++, 0); });
    }
    // A unit has a value or more, each of which takes a quarter of a byte or more.
    require_values(layout.count() / 4 <= static_cast<Index>(stored.data.size()),
                   [&] { return std::to_string(layout.count()); });
    const std::vector<Row> unit_rows = result.rows_of_units();
    const auto narrow = NarrowPanels<T>::from(parts, "values", layout.width);
    require_values(narrow.rows() == static_cast<Index>(unit_rows.size()) &&
                       (narrow.rows() == 0 || narrow.cols() == layout.width),
                   [&] {
                     return std::to_string(unit_rows.size()) + " rows of at most " +
                            std::to_string(layout.width);
                   });
    for (Index r = 0; r < narrow.rows(); ++r)
      for (Index q = unit_rows[static_cast<std::size_t>(r)].cols; q < narrow.cols(); ++q)
        require(is_zero(narrow(r, q)), [&] {
          return "KroneckerSparse: row " + std::to_string(r) + " has a value past its last";
        });
    result.storage_ = narrow.storage();
    result.take(unit_rows, narrow);
    return result;
  }

  /// What the kernels need for so many samples of one unit, and of its transpose, in values.
  [[nodiscard]] std::size_t scratch(std::size_t samples) const {
    const auto& table = kernel::active<T>();
    const auto width = static_cast<std::size_t>(layout_.width);
    const auto height = static_cast<std::size_t>(layout_.height);
    if (is_narrow(storage_)) return NarrowProduct<T>(narrow_).scratch(height, width, samples);
    return layout_.lanes == 1 ? table.dense_scratch(height, width, samples)
                              : table.interleaved_scratch(width, samples);
  }
  [[nodiscard]] std::size_t transpose_scratch(std::size_t samples) const {
    if (is_narrow(storage_)) return kernel::narrow_transpose_scratch;
    return layout_.lanes == 1 ? 0
                              : kernel::active<T>().interleaved_scratch(
                                    static_cast<std::size_t>(layout_.height), samples);
  }
  /// Columns that a call of the transpose begins at a multiple of.
  [[nodiscard]] Index piece() const noexcept { return is_narrow(storage_) ? 64 : 8; }

  /// Where the values of a unit, from row p on, lie as they are; those of the first unit without
  /// any.
  [[nodiscard]] const T* data() const noexcept { return values_.data(); }
  [[nodiscard]] const T* data(Index i, Index u, const Layout::Unit& unit, Index p) const {
    return values_.data() + layout_.slot_of(i, u) + layout_.offset(unit, p, 0, 0);
  }

  /// Y = W X or Y += W X for rows [p, p + rows) of the matrix that is a unit, as `dense_apply` has
  /// it.
  void multiply(Index i, Index u, const Layout::Unit& unit, Index p, Index rows, Index samples,
                const T* x, Index ldx, T* y, Index ldy, bool add, T* memory) const {
    const auto& table = kernel::active<T>();
    const auto cols = static_cast<std::size_t>(unit.cols);
    const auto batch = static_cast<std::size_t>(samples);
    if (!is_narrow(storage_)) {
      table.dense_apply(
          static_cast<std::size_t>(rows), cols, cols == 0 ? values_.data() : data(i, u, unit, p),
          batch, x, static_cast<std::size_t>(ldx), y, static_cast<std::size_t>(ldy), add, memory);
      return;
    }
    // Where the unit is narrower than its panels, these lie further apart than a call expects.
    const Index step = unit.cols == layout_.width ? rows : Layout::panel;
    for (Index first = 0; first < rows; first += step) {
      const auto some = static_cast<std::size_t>((std::min)(step, rows - first));
      NarrowProduct<T>(narrow_).apply(layout_.panel_row(i, u) + p + first, some, cols, batch, x,
                                      static_cast<std::size_t>(ldx), y + first,
                                      static_cast<std::size_t>(ldy), add, memory);
    }
  }

  /// X = W^T Y for columns [q, q + cols) of the matrix that is a unit; x points at column q.
  void multiply_transpose(Index i, Index u, const Layout::Unit& unit, Index q, Index cols,
                          Index samples, const T* y, Index ldy, T* x, Index ldx, T* memory) const {
    const auto& table = kernel::active<T>();
    const auto batch = static_cast<std::size_t>(samples);
    const auto rows = static_cast<std::size_t>(unit.rows);
    if (!is_narrow(storage_)) {
      const T* values = values_.data();
      if (rows > 0) values += layout_.slot_of(i, u) + layout_.offset(unit, 0, q, 0);
      table.dense_apply_transpose(rows, static_cast<std::size_t>(cols), values,
                                  static_cast<std::size_t>(unit.cols * Layout::panel), batch, y,
                                  static_cast<std::size_t>(ldy), x, static_cast<std::size_t>(ldx));
      return;
    }
    MatrixView<T> out(x, cols, samples, Eigen::OuterStride<>(ldx));
    if (rows == 0) {
      out.setZero();
      return;
    }
    table.narrow_apply_transpose(narrow_.format(), rows, static_cast<std::size_t>(layout_.width),
                                 static_cast<std::size_t>(q), static_cast<std::size_t>(q + cols),
                                 narrow_.data(layout_.panel_row(i, u)), batch, y,
                                 static_cast<std::size_t>(ldy), x - q,
                                 static_cast<std::size_t>(ldx), memory);
    PowerOfTwo<T>(narrow_.power()).multiply(out, 0, cols);
  }

 private:
  /// A row of a unit that has values: which row of the matrix, which column of that its first value
  /// is in, how many values, and which row of the panels.
  struct Row {
    Index row;
    Index first_col;
    Index cols;
    Index of_panels;
  };

  static std::size_t memory(const Layout& layout) {
    return static_cast<std::size_t>(layout.blocks() * layout.units() * layout.slot());
  }
  /// Calls `body(unit, first row of its panels)` for the units of narrow values that have any.
  template <class Body>
  void each_unit(Body body) const {
    for (Index i = 0; i < layout_.blocks(); ++i)
      for (Index u = 0; u < layout_.units(); ++u)
        if (const Layout::Unit unit = layout_.unit(i, u); unit.rows > 0 && unit.cols > 0)
          body(unit, layout_.panel_row(i, u));
  }
  [[nodiscard]] std::vector<Row> rows_of_units() const {
    std::vector<Row> rows;
    each_unit([&](const Layout::Unit& unit, Index first) {
      for (Index p = 0; p < unit.rows; ++p)
        rows.push_back(
            {unit.first_row + p * layout_.pattern.d, unit.first_col, unit.cols, first + p});
    });
    return rows;
  }
  /// Takes the rows of panels, one for each of `rows`, to where the kernels want them.
  void take(const std::vector<Row>& rows, const NarrowPanels<T>& packed) {
    const Index count = layout_.panel_row(layout_.blocks(), 0);
    std::vector<Index> from(static_cast<std::size_t>(count), -1);
    for (std::size_t r = 0; r < rows.size(); ++r)
      from[static_cast<std::size_t>(rows[r].of_panels)] = static_cast<Index>(r);
    narrow_ = packed.with_rows(count, [&](Index r) { return from[static_cast<std::size_t>(r)]; });
  }

  Layout layout_ = {};
  Storage storage_ = native_storage<T>;
  AlignedArray<T> values_ = {};
  NarrowPanels<T> narrow_ = {};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
