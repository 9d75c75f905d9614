// SPDX-License-Identifier: MIT
// Which blocks of a block-sparse matrix are kept, and where in memory their values lie.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/kernel/table.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/column_indices.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// An m x n matrix cut into blocks of r x c, and those of each block row that are kept, as
/// `kernel::BlockRows` has them. Copies share the memory.
class BlockLayout {
 public:
  static constexpr Index panel = Index{kernel::panel_rows};

  /// With the blocks that `kept` says, and values as they are. Throws `std::invalid_argument` if r
  /// or c is less than 1, or `kept` has another shape than ceil(m / r) x ceil(n / c).
  BlockLayout(Index m, Index n, Index r, Index c, const Matrix<bool>& kept)
      : BlockLayout(m, n, r, c, checked_count(m, n, r, c, kept)) {
    Index stored = 0;
    for (Index row = 0; row < kept.rows(); ++row) {
      for (Index col = 0; col < kept.cols(); ++col)
        if (kept(row, col)) columns_.set(stored++, col);
      starts_.data()[row + 1] = static_cast<std::uint64_t>(stored);
    }
    lay_out((std::numeric_limits<Index>::max)());
  }

  /// From what `add_to` added. Throws `std::invalid_argument` unless there is a count for each
  /// block row, as many columns as they add up to, ascending in every block row and less than there
  /// are side by side; and if the blocks have more than `most` values.
  [[nodiscard]] static BlockLayout from(const Parts& parts, Index most) {
    const Index m = static_cast<Index>(parts.integer("rows"));
    const Index n = static_cast<Index>(parts.integer("cols"));
    const Index r = static_cast<Index>(parts.integer("block_rows"));
    const Index c = static_cast<Index>(parts.integer("block_cols"));
    check(m, n, r, c);
    const std::vector<std::uint32_t> counts =
        parts.tensor("counts").template values<std::uint32_t>();
    for (const char* tensor : {"values", "columns", "counts"})
      require(parts.tensor(tensor).shape.size() == 1,
              [&] { return "BlockSparse: \"" + std::string(tensor) + "\" is no vector"; });
    const Index height = divided(m, r);
    require(
        static_cast<Index>(counts.size()) == height && parts.tensor("counts").shape[0] == height,
        [&] {
          return "BlockSparse: " + std::to_string(counts.size()) + " counts for " +
                 std::to_string(height) + " block rows";
        });
    Index blocks = 0;
    for (const std::uint32_t count : counts) blocks += static_cast<Index>(count);
    require(parts.tensor("columns").shape[0] == blocks, [&] {
      return "BlockSparse: the counts add up to " + std::to_string(blocks) + " blocks, but " +
             std::to_string(parts.tensor("columns").shape[0]) + " have a column";
    });
    // As many bytes as it claims, before anything is allocated for them.
    const std::size_t width = ColumnIndices::index_size(divided(n, c));
    require(parts.tensor("columns").data.size() / width == static_cast<std::size_t>(blocks) &&
                most >= blocks,
            [&] { return "BlockSparse: columns of another type, or fewer values than blocks"; });
    BlockLayout result(m, n, r, c, blocks);
    for (Index row = 0; row < height; ++row)
      result.starts_.data()[row + 1] =
          result.starts_.data()[row] + counts[static_cast<std::size_t>(row)];
    result.columns_.read(parts.tensor("columns"), {blocks}, "BlockSparse");
    for (Index row = 0; row < height; ++row)
      result.columns_.require_ascending(result.start(row), result.start(row + 1),
                                        result.grid_cols(), "BlockSparse, in blocks", row);
    result.lay_out(most);
    return result;
  }

  /// Tensors "columns" and "counts", and the sizes as attributes.
  void add_to(Parts& parts) const {
    std::vector<std::uint32_t> counts(static_cast<std::size_t>(grid_rows()));
    for (Index row = 0; row < grid_rows(); ++row)
      counts[static_cast<std::size_t>(row)] =
          static_cast<std::uint32_t>(start(row + 1) - start(row));
    parts.attributes["rows"] = std::to_string(rows);
    parts.attributes["cols"] = std::to_string(cols);
    parts.attributes["block_rows"] = std::to_string(block_rows);
    parts.attributes["block_cols"] = std::to_string(block_cols);
    parts.tensors["columns"] = columns_.tensor({blocks});
    parts.tensors["counts"] = tensor_of(counts.data(), {grid_rows()});
  }

  /// The same blocks of values in a narrow panel, whose columns a strip has `align` at a time; 0
  /// for values as they are.
  [[nodiscard]] BlockLayout aligned(Index align) const {
    BlockLayout result = *this;
    result.offsets_ = AlignedArray<std::uint64_t>(static_cast<std::size_t>(grid_rows()) + 1);
    result.align_ = align;
    result.lay_out((std::numeric_limits<Index>::max)());
    return result;
  }

  [[nodiscard]] static Index divided(Index size, Index by) noexcept {
    return size / by + (size % by != 0 ? 1 : 0);
  }
  static void check(Index m, Index n, Index r, Index c) {
    constexpr Index most = Index{1} << 32;  // so that 32 bits count blocks, and no sum overflows
    require(m >= 0 && m <= most && n >= 0 && n < most, [&] {
      return "BlockSparse: a matrix of " + shape_text(m, n) + " is none, or too large";
    });
    require(r >= 1 && c >= 1, [&] {
      return "BlockSparse: blocks have at least 1 row and 1 column, not " + shape_text(r, c);
    });
  }

  [[nodiscard]] Index grid_rows() const noexcept { return divided(rows, block_rows); }
  [[nodiscard]] Index grid_cols() const noexcept { return divided(cols, block_cols); }
  /// Values of all blocks.
  [[nodiscard]] Index values() const noexcept { return values_; }
  /// Where in memory values end: as many as there are, or columns of the panel.
  [[nodiscard]] Index end() const noexcept { return offset(grid_rows()); }
  /// Rows of a block row.
  [[nodiscard]] Index height(Index row) const noexcept {
    return row + 1 < grid_rows() ? block_rows : rows - row * block_rows;
  }
  [[nodiscard]] Index kept_cols(Index row) const noexcept {
    const Index count = start(row + 1) - start(row);
    return count == 0 ? 0 : (count - 1) * block_cols + width(columns_[start(row + 1) - 1]);
  }
  [[nodiscard]] Matrix<bool> kept() const {
    Matrix<bool> result = Matrix<bool>::Constant(grid_rows(), grid_cols(), false);
    for (Index row = 0; row < grid_rows(); ++row)
      for (Index i = start(row); i < start(row + 1); ++i) result(row, columns_[i]) = true;
    return result;
  }

  /// One value: its row and column, which of the kept columns of the row that is, and where in
  /// memory it lies, as it is, or in which row and column of the panel.
  struct Place {
    Index row;
    Index col;
    Index kept;
    Index at;
    Index lane;
    Index panel_col;
  };

  /// Calls body(place) for every value: block row by block row, kept column by kept column.
  template <class Body>
  void each(Body body) const {
    for (Index row = 0; row < grid_rows(); ++row) {
      const Index tall = height(row);
      const Index wide = kept_cols(row);
      Index k = 0;
      for (Index b = start(row); b < start(row + 1); ++b) {
        const Index first = columns_[b] * block_cols;
        for (Index col = first; col < first + width(columns_[b]); ++col, ++k)
          for (Index above = 0; above < tall; above += panel) {
            const Index strip = (std::min)(panel, tall - above);
            const Index at = offset(row) + above * wide + k * strip;
            const Index panel_col = first_of_panel(row, above) + k;
            for (Index l = 0; l < strip; ++l)
              body(Place{row * block_rows + above + l, col, k, at + l, l, panel_col});
          }
      }
    }
  }

  /// A row of kept values in a panel: where in it, and how many.
  struct Row {
    Index lane;
    Index panel_col;
    Index count;
  };
  /// Calls body(row) for the rows of the matrix in turn.
  template <class Body>
  void each_row(Body body) const {
    for (Index row = 0; row < grid_rows(); ++row)
      for (Index i = 0; i < height(row); ++i)
        body(Row{i % panel, first_of_panel(row, i), kept_cols(row)});
  }

  /// For the kernels, from a block row on. Blocks that are larger than the matrix are as large.
  template <Real T>
  [[nodiscard]] kernel::BlockRows<T> kernel_rows(Index row, const T* values) const noexcept {
    return {values,
            offsets_.data() + row,
            starts_.data() + row,
            columns_.short_data(),
            columns_.long_data(),
            static_cast<std::size_t>(tall_blocks()),
            static_cast<std::size_t>(wide_blocks())};
  }
  [[nodiscard]] Index tall_blocks() const noexcept {
    return std::clamp<Index>(rows, 1, block_rows);
  }
  [[nodiscard]] Index wide_blocks() const noexcept {
    return std::clamp<Index>(cols, 1, block_cols);
  }

  Index rows;
  Index cols;
  Index block_rows;
  Index block_cols;
  Index blocks;

 private:
  /// With no block yet.
  BlockLayout(Index rows_, Index cols_, Index r, Index c, Index blocks_)
      : rows(rows_),
        cols(cols_),
        block_rows(r),
        block_cols(c),
        blocks(blocks_),
        starts_(static_cast<std::size_t>(grid_rows()) + 1),
        offsets_(static_cast<std::size_t>(grid_rows()) + 1),
        columns_(blocks_, grid_cols()) {}

  [[nodiscard]] static Index checked_count(Index m, Index n, Index r, Index c,
                                           const Matrix<bool>& kept) {
    check(m, n, r, c);
    require(kept.rows() == divided(m, r) && kept.cols() == divided(n, c), [&] {
      return "BlockSparse: a " + shape_text(m, n) + " matrix in blocks of " + shape_text(r, c) +
             " has " + shape_text(divided(m, r), divided(n, c)) + " of them, not " +
             shape_text(kept.rows(), kept.cols());
    });
    return kept.count();
  }

  /// Finds where the values of each block row begin, unless they are more than `most`.
  void lay_out(Index most) {
    values_ = 0;
    Index end = 0;
    for (Index row = 0; row < grid_rows(); ++row) {
      const Index wide = kept_cols(row);
      require(wide == 0 || height(row) <= (most - values_) / wide, [&] {
        return "BlockSparse: " + std::to_string(most) + " values are fewer than the blocks have";
      });
      values_ += height(row) * wide;
      end += align_ == 0 ? height(row) * wide
                         : divided(height(row), panel) * (divided(wide, align_) * align_);
      offsets_.data()[row + 1] = static_cast<std::uint64_t>(end);
    }
  }

  [[nodiscard]] Index start(Index row) const noexcept {
    return static_cast<Index>(starts_.data()[row]);
  }
  [[nodiscard]] Index offset(Index row) const noexcept {
    return static_cast<Index>(offsets_.data()[row]);
  }
  /// The first column of a panel that a strip has, where there is one.
  [[nodiscard]] Index first_of_panel(Index row, Index above) const noexcept {
    return offset(row) +
           above / panel * ((offset(row + 1) - offset(row)) / divided(height(row), panel));
  }
  [[nodiscard]] Index width(Index block) const noexcept {
    return block + 1 < grid_cols() ? block_cols : cols - block * block_cols;
  }

  AlignedArray<std::uint64_t> starts_;   // of the blocks of each block row,
  AlignedArray<std::uint64_t> offsets_;  // and of its values
  ColumnIndices columns_;
  Index values_ = 0;
  Index align_ = 0;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
