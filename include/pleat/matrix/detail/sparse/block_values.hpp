// SPDX-License-Identifier: MIT
// The values of kept blocks: as they are or narrow, multiplied by the kernels, and in files.
#pragma once

#include "pleat/core/matrix_view.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/narrow/power_of_two.hpp"
#include "pleat/matrix/detail/sparse/block_layout.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// As they are, strip by strip; or narrow, the strips one after another in one panel of 16 rows,
/// where a group of values that share a scale is of one row of one strip. Copies share the memory.
template <Real T>
class BlockValues {
 public:
  using Place = BlockLayout::Place;

  /// Of `value(place)` of each place.
  template <class Value>
  BlockValues(BlockLayout layout, Value value)
      // Kernels read whole vectors, also of the last column.
      : layout_(std::move(layout)),
        values_(static_cast<std::size_t>(layout_.values() + BlockLayout::panel)) {
    layout_.each([&](const Place& place) { values_.data()[place.at] = value(place); });
  }

  /// The same in another storage, each value rounded to the nearest that it has. Throws
  /// `std::invalid_argument`, naming row and column, where there is none near.
  [[nodiscard]] BlockValues stored_as(Storage storage) const {
    require_storage<T>(storage);
    if (storage == storage_) return *this;
    if (!is_narrow(storage)) {
      const Vector<T> ordered = in_order();
      Index next = 0;
      return BlockValues(layout_.aligned(0), [&](const Place&) { return ordered(next++); });
    }
    return narrowed(storage, [&](const Matrix<T>& values, const auto& place) {
      return NarrowPanels<T>(
          storage, values.rows(), values.cols(),
          [&](Index lane, Index col) { return values(lane, col); }, place);
    });
  }

  /// The same in integers with the scales given: for each row of the matrix, one for each 64 (int8)
  /// or 32 of its kept values, m x ceil(n / 64), of which those past the last kept one do not
  /// matter; times 2^exponent, and with levels where these are fitted. Throws what
  /// `Dense(matrix, storage, scales, exponent, levels)` throws.
  [[nodiscard]] BlockValues stored_as(Storage storage, const Matrix<float>& scales, int exponent,
                                      const Numbers::Levels& levels) const {
    require_storage<T>(storage);
    const auto group = static_cast<Index>(kernel::scale_group(format_of(storage)));
    require(is_narrow(storage) && group > 0, [&] {
      return "values stored as " + std::string(to_string(storage)) + " have no scales";
    });
    const Index wide = BlockLayout::divided(layout_.cols, group);
    require(scales.rows() == layout_.rows && scales.cols() == wide, [&] {
      return std::string(to_string(storage)) + ": the scales of kept blocks of a " +
             shape_text(layout_.rows, layout_.cols) + " matrix are " +
             shape_text(layout_.rows, wide) + ", not " + shape_text(scales.rows(), scales.cols());
    });
    return narrowed(storage, [&](const Matrix<T>& values, const auto& place) {
      Matrix<float> all = Matrix<float>::Ones(values.rows(), values.cols() / group);
      // The panel's own groups: those of a strip begin with one.
      layout_.aligned(align_of(storage)).each([&](const Place& at) {
        if (at.kept % group == 0)
          all(at.lane, at.panel_col / group) = scales(at.row, at.kept / group);
      });
      return NarrowPanels<T>(storage, values, all, exponent, levels, place);
    });
  }

  [[nodiscard]] const BlockLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] Storage storage() const noexcept { return storage_; }
  [[nodiscard]] int exponent() const noexcept { return narrow_.exponent(); }
  [[nodiscard]] std::string description() const { return narrow_.description(); }
  [[nodiscard]] T operator()(const Place& place) const {
    return is_narrow(storage_) ? narrow_(place.lane, place.panel_col) : values_.data()[place.at];
  }
  /// Of values, scales and levels in a file.
  [[nodiscard]] std::size_t bytes() const noexcept {
    if (!is_narrow(storage_)) return static_cast<std::size_t>(layout_.values()) * sizeof(T);
    std::size_t sum = level_bytes(storage_);
    for (Index row = 0; row < layout_.grid_rows(); ++row)
      sum += static_cast<std::size_t>(layout_.height(row)) *
             row_bytes(storage_, static_cast<std::size_t>(layout_.kept_cols(row)));
    return sum;
  }

  /// "values": as they are, block row by block row, kept column by kept column. Narrow ones, row by
  /// row, those of a few bits from a byte on; and in turn "values_scales", and "values_levels" and
  /// attributes as `NarrowPanels` has them.
  void add_to(Parts& parts) const {
    layout_.add_to(parts);
    if (!is_narrow(storage_)) {
      Vector<T> values(layout_.values());
      Index next = 0;
      layout_.each([&](const Place& place) { values(next++) = values_.data()[place.at]; });
      parts.tensors["values"] = tensor_of(values.data(), {values.size()});
      return;
    }
    Parts panel{parts.structure, {}, {}, {}};
    narrow_.add_to(panel, "values");
    panel.attributes.erase("cols");
    parts.attributes.merge(panel.attributes);
    for (auto& [name, tensor] : panel.tensors)
      parts.tensors[name] = name == "values_levels" ? tensor : gathered(tensor, name != "values");
  }

  /// From there. Throws `std::invalid_argument` for what `BlockLayout::from` and
  /// `NarrowPanels::from` refuse, and unless there are as many values and scales as the blocks
  /// have, and unused bits are 0.
  [[nodiscard]] static BlockValues from(const Parts& parts) {
    if (!parts.attributes.contains("storage")) {
      const Matrix<T> values = parts.matrix<T>("values");
      const BlockLayout layout = BlockLayout::from(parts, values.size());
      require(layout.values() == values.size(), [&] {
        return "BlockSparse: " + std::to_string(values.size()) + " values for blocks of " +
               std::to_string(layout.values());
      });
      Index next = 0;
      return BlockValues(layout, [&](const Place&) { return values.data()[next++]; });
    }
    const Storage storage = NarrowPanels<T>::storage_named(parts.attributes.at("storage"));
    const Index bits = integer_bits(storage) == 0 ? 16 : integer_bits(storage);
    const auto stored = static_cast<Index>(parts.tensor("values").data.size());
    BlockValues result(BlockLayout::from(parts, stored * 8 / bits).aligned(align_of(storage)),
                       storage);
    Parts panel{parts.structure, {{"storage", parts.attributes.at("storage")}}, {}, {}};
    if (parts.attributes.contains("exponent"))
      panel.attributes["exponent"] = parts.attributes.at("exponent");
    panel.tensors["values"] = result.spread(parts, "values");
    if (integer_bits(storage) > 0)
      panel.tensors["values_scales"] = result.spread(parts, "values_scales");
    if (has_fitted_levels(storage)) panel.tensors["values_levels"] = parts.tensor("values_levels");
    result.narrow_ = NarrowPanels<T>::from(panel, "values", result.layout_.end());
    return result;
  }

  /// Memory that one product with so many samples needs, and one with the transpose, in values.
  [[nodiscard]] std::size_t scratch(Index batch) const {
    const auto& table = kernel::active<T>();
    const auto samples = static_cast<std::size_t>(batch);
    if (!is_narrow(storage_)) return table.block_sparse_scratch(cols(), wide_blocks(), samples);
    return kernel_scratch(samples) +
           PowerOfTwo<T>(narrow_.power()).scratch(static_cast<std::size_t>(layout_.rows));
  }
  [[nodiscard]] std::size_t transpose_scratch() const {
    return is_narrow(storage_) ? kernel_scratch(1) : 0;
  }

  /// Y = W X or Y += W X for rows [begin, end), whole block rows.
  void multiply(Index begin, Index end, const ConstMatrixView<T>& X, MatrixView<T> Y, bool add,
                T* memory) const {
    const auto& table = kernel::active<T>();
    const auto rows = static_cast<std::size_t>(end - begin);
    const auto batch = static_cast<std::size_t>(X.cols());
    const auto ldx = static_cast<std::size_t>(X.outerStride());
    const auto ldy = static_cast<std::size_t>(Y.outerStride());
    T* const y = Y.data() + begin;
    const Index first = begin / layout_.tall_blocks();
    if (!is_narrow(storage_)) {
      table.block_sparse_apply(layout_.kernel_rows(first, values_.data()), rows, cols(), batch,
                               X.data(), ldx, y, ldy, add, memory);
      return;
    }
    const auto matrix = layout_.kernel_rows<T>(first, nullptr);
    PowerOfTwo<T>(narrow_.power())
        .apply(rows, batch, y, ldy, add, memory + kernel_scratch(batch),
               [&](std::size_t j, std::size_t samples, T* to, std::size_t ld, bool adds) {
                 table.block_sparse_narrow_apply(narrow_.format(), matrix, narrow_.data(0), rows,
                                                 cols(), samples, X.data() + j * ldx, ldx, to, ld,
                                                 adds, memory);
               });
  }
  /// X = W^T Y for columns [begin, end), whole blocks.
  void multiply_transpose(Index begin, Index end, const ConstMatrixView<T>& Y, MatrixView<T> X,
                          T* memory) const {
    const auto& table = kernel::active<T>();
    const auto rows = static_cast<std::size_t>(layout_.rows);
    const auto first = static_cast<std::size_t>(begin);
    const auto last = static_cast<std::size_t>(end);
    const auto batch = static_cast<std::size_t>(Y.cols());
    const auto ldy = static_cast<std::size_t>(Y.outerStride());
    const auto ldx = static_cast<std::size_t>(X.outerStride());
    if (!is_narrow(storage_)) {
      table.block_sparse_apply_transpose(layout_.kernel_rows(0, values_.data()), rows, cols(),
                                         first, last, batch, Y.data(), ldy, X.data(), ldx);
      return;
    }
    table.block_sparse_narrow_apply_transpose(narrow_.format(), layout_.kernel_rows<T>(0, nullptr),
                                              narrow_.data(0), rows, cols(), first, last, batch,
                                              Y.data(), ldy, X.data(), ldx, memory);
    PowerOfTwo<T>(narrow_.power()).multiply(X, begin, end);
  }

 private:
  BlockValues(BlockLayout layout, Storage storage)
      : layout_(std::move(layout)), storage_(storage) {}

  /// Columns of the panel that a strip has at a time: whole groups, and whole words.
  [[nodiscard]] static Index align_of(Storage storage) {
    return kernel::scale_group(format_of(storage)) > 0 ? Index{kernel::scale_line_cols} : Index{8};
  }

  [[nodiscard]] std::size_t cols() const { return static_cast<std::size_t>(layout_.cols); }
  [[nodiscard]] std::size_t wide_blocks() const {
    return static_cast<std::size_t>(layout_.wide_blocks());
  }
  [[nodiscard]] std::size_t kernel_scratch(std::size_t batch) const {
    return static_cast<std::size_t>(task_scratch(
        kernel::active<T>().block_sparse_narrow_scratch(cols(), wide_blocks(), batch)));
  }

  /// Narrow values that `make(panel of values, place)` makes.
  template <class Make>
  [[nodiscard]] BlockValues narrowed(Storage storage, Make make) const {
    BlockValues result(layout_.aligned(align_of(storage)), storage);
    const Vector<T> ordered = in_order();
    Matrix<T> values = Matrix<T>::Zero(BlockLayout::panel, result.layout_.end());
    Index next = 0;
    result.layout_.each(
        [&](const Place& place) { values(place.lane, place.panel_col) = ordered(next++); });
    result.narrow_ = make(values, [&](Index lane, Index col) {
      std::pair<Index, Index> found;  // only where there is something to complain of
      result.layout_.each([&](const Place& place) {
        if (place.lane == lane && place.panel_col == col) found = {place.row, place.col};
      });
      return found;
    });
    return result;
  }
  [[nodiscard]] Vector<T> in_order() const {
    Vector<T> values(layout_.values());
    Index next = 0;
    layout_.each([&](const Place& place) { values(next++) = (*this)(place); });
    return values;
  }

  /// The bytes of a row's values or scales in a row of a tensor of the panel, and what of the last
  /// of them is used.
  struct Stretch {
    std::size_t first;
    std::size_t size;
    std::byte used;
  };
  struct Stretches {
    Index bits;
    Index group;  // entries that share the bits
    [[nodiscard]] Stretch operator()(const BlockLayout::Row& row) const {
      const Index length = bits * BlockLayout::divided(row.count, group);
      return {static_cast<std::size_t>(bits * (row.panel_col / group) / 8),
              static_cast<std::size_t>(BlockLayout::divided(length, 8)),
              length % 8 == 0 ? std::byte{255} : static_cast<std::byte>((1 << length % 8) - 1)};
    }
  };
  [[nodiscard]] static Stretches stretches_of(Storage storage, bool of_scales) {
    const auto group = static_cast<Index>(kernel::scale_group(format_of(storage)));
    if (of_scales) return {storage == Storage::int8 ? 32 : 16, group};
    return {group > 0 ? integer_bits(storage) : 16, 1};
  }

  /// A tensor of the panel as a file has it.
  [[nodiscard]] Tensor gathered(const Tensor& tensor, bool of_scales) const {
    const Stretches stretches = stretches_of(storage_, of_scales);
    const std::size_t width = tensor.data.size() / std::size_t{kernel::panel_rows};
    Tensor result{tensor.type, {}, {}};
    layout_.each_row([&](const BlockLayout::Row& row) {
      const Stretch stretch = stretches(row);
      if (stretch.size == 0) return;
      const auto first =
          tensor.data.begin() +
          static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row.lane) * width + stretch.first);
      result.data.insert(result.data.end(), first,
                         first + static_cast<std::ptrdiff_t>(stretch.size));
      result.data.back() &= stretch.used;
    });
    result.shape = {static_cast<std::int64_t>(result.data.size() / size_of(tensor.type))};
    return result;
  }

  /// A tensor of a file as the panel would have it: scales that no row has are 1.
  [[nodiscard]] Tensor spread(const Parts& parts, const std::string& name) const {
    const Tensor& stored = parts.tensor(name);
    const bool of_scales = name != "values";
    const Stretches stretches = stretches_of(storage_, of_scales);
    std::size_t size = 0;
    layout_.each_row([&](const BlockLayout::Row& row) { size += stretches(row).size; });
    require(stored.shape.size() == 1 && stored.data.size() == size &&
                stored.shape[0] == static_cast<std::int64_t>(size / size_of(stored.type)),
            [&] {
              return "BlockSparse: \"" + name + "\" has " + std::to_string(stored.data.size()) +
                     " bytes, and the blocks " + std::to_string(size);
            });
    const BlockLayout::Row all{0, 0, layout_.end()};
    const std::size_t width = stretches(all).size;
    const Index elements = static_cast<Index>(width / size_of(stored.type));
    Tensor result{stored.type, {BlockLayout::panel, elements}, {}};
    result.data.resize(std::size_t{kernel::panel_rows} * width);
    const auto fill = [&](auto one) {
      for (std::size_t at = 0; at < result.data.size(); at += sizeof one)
        std::memcpy(result.data.data() + at, static_cast<const void*>(&one), sizeof one);
    };
    if (of_scales && storage_ == Storage::int8) fill(1.0F);
    else if (of_scales) fill(Eigen::half(1.0F));
    const std::byte* next = stored.data.data();
    layout_.each_row([&](const BlockLayout::Row& row) {
      const Stretch stretch = stretches(row);
      if (stretch.size == 0) return;
      std::memcpy(result.data.data() + static_cast<std::size_t>(row.lane) * width + stretch.first,
                  next, stretch.size);
      next += stretch.size;
      require((next[-1] & ~stretch.used) == std::byte{0},
              [] { return std::string("BlockSparse: a row has a value past its last column"); });
    });
    return result;
  }

  BlockLayout layout_;
  Storage storage_ = native_storage<T>;
  AlignedArray<T> values_ = {};  // in the native storage,
  NarrowPanels<T> narrow_ = {};  // and in any other
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
