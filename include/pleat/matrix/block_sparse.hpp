// SPDX-License-Identifier: MIT
// A matrix of which whole blocks are kept, and where they lie.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/column_indices.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// An m x n matrix that is cut into blocks of r x c, some of which are kept and the others zero
/// (block sparse rows, BSR). Blocks at the lower and the right edge are as much smaller as the
/// matrix is. Any m up to 2^32, n below 2^32, r and c from 1 on.
///
///     stored          the values of the kept blocks, as they are; 2 bytes a block up to 65536
///                     blocks side by side, else 4, for where it lies; and 4 bytes a block row
///     flops of apply  2 for each value of a kept block
///
/// A block row is a dense product that skips columns: where r is a multiple of 16, kept blocks run
/// at 0.8 to 1 of the speed of `Dense` for up to some 16 samples, at 0.55 to 0.85 of it for more
/// (AVX-512). Smaller r are right, but slower, for a vector holds one column of a block. What is
/// not kept is not multiplied: a NaN of an input reaches the outputs of the blocks that see it, and
/// no other; only `apply_transpose` also skips 16 rows of zeros. Rows are cut evenly between
/// threads, in whole block rows, however their blocks are distributed. `apply_transpose` is
/// vectorised over r only.
///
/// Source: E.-J. Im, K. Yelick and R. Vuduc, "Sparsity: optimization framework for sparse matrix
/// kernels", IJHPCA 18(1), 2004, for the format.
template <Real T>
class BlockSparse : public OperatorBase<BlockSparse<T>, T> {
  using View = Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

 public:
  static constexpr std::string_view name = "BlockSparse";

  /// How `compress<BlockSparse>` works.
  struct Options {
    /// Rows of a block. Fewer than 16 lose speed.
    Index block_rows = 16;
    /// Columns of a block. Fewer keep more of a weight, at 2 or 4 bytes a block.
    Index block_cols = 16;
    /// How values are stored: only as they are, so far.
    Storage storage = native_storage<T>;
    /// Without effect: nothing is random here.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// The empty 0 x 0 matrix.
  BlockSparse() : BlockSparse(0, 0, 1, 1, 0) { lay_out(0); }

  /// The blocks of any dense Eigen matrix or expression that `kept` says, ceil(m / r) x ceil(n /
  /// c); the others count as zero, whatever they hold. Cost: one pass. Throws
  /// `std::invalid_argument` if r or c is less than 1, or `kept` has another shape.
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols,
              const Matrix<bool>& kept)
      : BlockSparse(matrix.rows(), matrix.cols(), block_rows, block_cols,
                    checked_count(matrix.rows(), matrix.cols(), block_rows, block_cols, kept)) {
    fill(View(matrix.derived()), kept);
  }

  /// The blocks that hold anything but 0 and -0. Throws as above.
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols)
      : BlockSparse(View(matrix.derived()), block_rows, block_cols,
                    occupied(View(matrix.derived()), block_rows, block_cols)) {}

  // Copies only, sharing the memory: what was moved from stays as it was.
  BlockSparse(const BlockSparse&) = default;
  BlockSparse& operator=(const BlockSparse&) = default;
  ~BlockSparse() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  /// r, the rows of a block.
  [[nodiscard]] Index block_rows() const noexcept { return block_rows_; }
  /// c, the columns of a block.
  [[nodiscard]] Index block_cols() const noexcept { return block_cols_; }
  /// How many blocks are kept.
  [[nodiscard]] Index blocks() const noexcept { return blocks_; }
  [[nodiscard]] Storage storage() const noexcept { return native_storage<T>; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(values()) * sizeof(T) +
           static_cast<std::size_t>(blocks_) * detail::ColumnIndices::index_size(grid_cols()) +
           static_cast<std::size_t>(grid_rows()) * sizeof(std::uint32_t);
  }
  [[nodiscard]] double flops() const noexcept { return 2 * static_cast<double>(values()); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return std::to_string(blocks_) + (blocks_ == 1 ? " block of " : " blocks of ") +
           detail::shape_text(block_rows_, block_cols_);
  }

  /// Which blocks are kept, ceil(m / r) x ceil(n / c).
  [[nodiscard]] Matrix<bool> kept() const {
    Matrix<bool> result = Matrix<bool>::Constant(grid_rows(), grid_cols(), false);
    for (Index row = 0; row < grid_rows(); ++row)
      for (Index i = start(row); i < start(row + 1); ++i) result(row, columns_[i]) = true;
    return result;
  }

  /// The matrix, bit for bit as it is stored.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows_, cols_);
    each(
        [&](Index row, Index col, Index place, Index) { dense(row, col) = values_.data()[place]; });
    return dense;
  }

  /// "values": those of each block row in turn, kept column by kept column. "columns": where each
  /// block lies, in blocks, 16 bits wide up to 65536 blocks side by side, else 32. "counts": how
  /// many blocks each block row has, 32 bits wide. Attributes "rows", "cols", "block_rows",
  /// "block_cols".
  [[nodiscard]] Parts parts() const {
    Vector<T> values(this->values());
    each([&](Index, Index, Index place, Index i) { values(i) = values_.data()[place]; });
    std::vector<std::uint32_t> counts(static_cast<std::size_t>(grid_rows()));
    for (Index row = 0; row < grid_rows(); ++row)
      counts[static_cast<std::size_t>(row)] =
          static_cast<std::uint32_t>(start(row + 1) - start(row));
    return {structure(),
            {{"rows", std::to_string(rows_)},
             {"cols", std::to_string(cols_)},
             {"block_rows", std::to_string(block_rows_)},
             {"block_cols", std::to_string(block_cols_)}},
            {{"columns", columns_.tensor({blocks_})},
             {"counts", detail::tensor_of(counts.data(), {grid_rows()})},
             {"values", detail::tensor_of(values.data(), {values.size()})}},
            {}};
  }

  /// Throws `std::invalid_argument` unless there is a count for each block row, as many columns as
  /// they add up to, ascending in every block row and less than there are side by side, and as many
  /// values as these blocks have.
  [[nodiscard]] static BlockSparse from_parts(const Parts& parts) {
    const Index rows = static_cast<Index>(parts.integer("rows"));
    const Index cols = static_cast<Index>(parts.integer("cols"));
    const Index r = static_cast<Index>(parts.integer("block_rows"));
    const Index c = static_cast<Index>(parts.integer("block_cols"));
    check(rows, cols, r, c);
    const std::vector<std::uint32_t> counts =
        parts.tensor("counts").template values<std::uint32_t>();
    for (const char* tensor : {"values", "columns", "counts"})
      detail::require(parts.tensor(tensor).shape.size() == 1,
                      [&] { return "BlockSparse: \"" + std::string(tensor) + "\" is no vector"; });
    const Index height = divided(rows, r);
    detail::require(static_cast<Index>(counts.size()) == height, [&] {
      return "BlockSparse: " + std::to_string(counts.size()) + " counts for " +
             std::to_string(height) + " block rows";
    });
    Index blocks = 0;
    for (const std::uint32_t count : counts) blocks += static_cast<Index>(count);
    detail::require(parts.tensor("columns").shape[0] == blocks, [&] {
      return "BlockSparse: the counts add up to " + std::to_string(blocks) + " blocks, but " +
             std::to_string(parts.tensor("columns").shape[0]) + " have a column";
    });
    const Matrix<T> values = parts.matrix<T>("values");
    // As many bytes as it claims, before anything is allocated for them.
    const std::size_t width = detail::ColumnIndices::index_size(divided(cols, c));
    detail::require(
        parts.tensor("columns").data.size() / width == static_cast<std::size_t>(blocks) &&
            values.size() >= blocks,
        [&] { return "BlockSparse: columns of another type, or fewer values than blocks"; });
    BlockSparse result(rows, cols, r, c, blocks);
    for (Index row = 0; row < height; ++row)
      result.starts_.data()[row + 1] =
          result.starts_.data()[row] + counts[static_cast<std::size_t>(row)];
    result.columns_.read(parts.tensor("columns"), {blocks}, name);
    for (Index row = 0; row < height; ++row)
      result.columns_.require_ascending(result.start(row), result.start(row + 1),
                                        result.grid_cols(), "BlockSparse, in blocks", row);
    result.lay_out(values.size());
    detail::require(result.values() == values.size(), [&] {
      return "BlockSparse: " + std::to_string(values.size()) + " values for blocks of " +
             std::to_string(result.values());
    });
    result.each([&](Index, Index, Index place, Index i) {
      result.values_.data()[place] = values.data()[i];
    });
    return result;
  }

 private:
  friend OperatorBase<BlockSparse, T>;
  static constexpr Index panel = Index{kernel::panel_rows};

  [[nodiscard]] static Index divided(Index size, Index by) noexcept {
    return size / by + (size % by != 0 ? 1 : 0);
  }

  static void check(Index rows, Index cols, Index r, Index c) {
    constexpr Index most = Index{1} << 32;  // so that 32 bits count blocks, and no sum overflows
    detail::require(rows >= 0 && rows <= most && cols >= 0 && cols < most, [&] {
      return "BlockSparse: a matrix of " + detail::shape_text(rows, cols) +
             " is none, or too large";
    });
    detail::require(r >= 1 && c >= 1, [&] {
      return "BlockSparse: blocks have at least 1 row and 1 column, not " +
             detail::shape_text(r, c);
    });
  }

  [[nodiscard]] static Index checked_count(Index rows, Index cols, Index r, Index c,
                                           const Matrix<bool>& kept) {
    check(rows, cols, r, c);
    detail::require(kept.rows() == divided(rows, r) && kept.cols() == divided(cols, c), [&] {
      return "BlockSparse: a " + detail::shape_text(rows, cols) + " matrix in blocks of " +
             detail::shape_text(r, c) + " has " +
             detail::shape_text(divided(rows, r), divided(cols, c)) + " of them, not " +
             detail::shape_text(kept.rows(), kept.cols());
    });
    return kept.count();
  }

  [[nodiscard]] static Matrix<bool> occupied(const View& entries, Index r, Index c) {
    check(entries.rows(), entries.cols(), r, c);
    Matrix<bool> kept =
        Matrix<bool>::Constant(divided(entries.rows(), r), divided(entries.cols(), c), false);
    for (Index col = 0; col < entries.cols(); ++col)
      for (Index row = 0; row < entries.rows(); ++row)
        if (!(entries.coeff(row, col) == T(0))) kept(row / r, col / c) = true;
    return kept;
  }

  /// With no block yet.
  BlockSparse(Index rows, Index cols, Index r, Index c, Index blocks)
      : rows_(rows),
        cols_(cols),
        block_rows_(r),
        block_cols_(c),
        blocks_(blocks),
        starts_(static_cast<std::size_t>(grid_rows()) + 1),
        offsets_(static_cast<std::size_t>(grid_rows()) + 1),
        columns_(blocks, grid_cols()) {}

  void fill(const View& entries, const Matrix<bool>& kept) {
    Index stored = 0;
    for (Index row = 0; row < kept.rows(); ++row) {
      for (Index col = 0; col < kept.cols(); ++col)
        if (kept(row, col)) columns_.set(stored++, col);
      starts_.data()[row + 1] = static_cast<std::uint64_t>(stored);
    }
    lay_out((std::numeric_limits<Index>::max)());
    each([&](Index row, Index col, Index place, Index) {
      values_.data()[place] = entries.coeff(row, col);
    });
  }

  /// Finds where the values of each block row begin, and takes memory for them, unless they are
  /// more than `most`.
  void lay_out(Index most) {
    Index stored = 0;
    for (Index row = 0; row < grid_rows(); ++row) {
      const Index wide = kept_cols(row);
      detail::require(wide == 0 || height(row) <= (most - stored) / wide, [&] {
        return "BlockSparse: " + std::to_string(most) + " values are fewer than the blocks have";
      });
      stored += height(row) * wide;
      offsets_.data()[row + 1] = static_cast<std::uint64_t>(stored);
    }
    // Kernels read whole vectors, also of the last column.
    values_ = detail::AlignedArray<T>(static_cast<std::size_t>(stored + panel));
  }

  [[nodiscard]] Index grid_rows() const noexcept { return divided(rows_, block_rows_); }
  [[nodiscard]] Index grid_cols() const noexcept { return divided(cols_, block_cols_); }
  [[nodiscard]] Index start(Index row) const noexcept {
    return static_cast<Index>(starts_.data()[row]);
  }
  [[nodiscard]] Index offset(Index row) const noexcept {
    return static_cast<Index>(offsets_.data()[row]);
  }
  [[nodiscard]] Index values() const noexcept { return offset(grid_rows()); }
  /// Rows of a block row.
  [[nodiscard]] Index height(Index row) const noexcept {
    return row + 1 < grid_rows() ? block_rows_ : rows_ - row * block_rows_;
  }
  [[nodiscard]] Index width(Index block) const noexcept {
    return block + 1 < grid_cols() ? block_cols_ : cols_ - block * block_cols_;
  }
  [[nodiscard]] Index kept_cols(Index row) const noexcept {
    const Index count = start(row + 1) - start(row);
    return count == 0 ? 0 : (count - 1) * block_cols_ + width(columns_[start(row + 1) - 1]);
  }

  /// Calls body(row, column, where in memory, which of the file) for every value.
  template <class Body>
  void each(Body body) const {
    Index i = 0;
    for (Index row = 0; row < grid_rows(); ++row) {
      const Index tall = height(row);
      const Index wide = kept_cols(row);
      Index k = 0;
      for (Index b = start(row); b < start(row + 1); ++b) {
        const Index first = columns_[b] * block_cols_;
        for (Index col = first; col < first + width(columns_[b]); ++col, ++k)
          for (Index above = 0; above < tall; above += panel) {
            const Index strip = (std::min)(panel, tall - above);
            const Index place = offset(row) + above * wide + k * strip;
            for (Index l = 0; l < strip; ++l)
              body(row * block_rows_ + above + l, col, place + l, i++);
          }
      }
    }
  }

  /// The block rows from `first` on. Blocks that are larger than the matrix are as large.
  [[nodiscard]] kernel::BlockRows<T> block_rows_from(Index first) const noexcept {
    return {values_.data(),
            offsets_.data() + first,
            starts_.data() + first,
            columns_.short_data(),
            columns_.long_data(),
            static_cast<std::size_t>(tall_blocks()),
            static_cast<std::size_t>(wide_blocks())};
  }
  [[nodiscard]] Index tall_blocks() const noexcept {
    return std::clamp<Index>(rows_, 1, block_rows_);
  }
  [[nodiscard]] Index wide_blocks() const noexcept {
    return std::clamp<Index>(cols_, 1, block_cols_);
  }

  [[nodiscard]] detail::Split split_rows(Index batch, const Workspace& workspace) const {
    return {rows_, tall_blocks(), flops() * static_cast<double>(batch), workspace};
  }
  [[nodiscard]] std::size_t scratch(Index batch) const {
    return kernel::active<T>().block_sparse_scratch(static_cast<std::size_t>(cols_),
                                                    static_cast<std::size_t>(wide_blocks()),
                                                    static_cast<std::size_t>(batch));
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    detail::in_tasks<T>(
        split_rows(X.cols(), workspace), scratch(X.cols()), workspace,
        [&](Index begin, Index end, T* memory) {
          kernel::active<T>().block_sparse_apply(
              block_rows_from(begin / tall_blocks()), static_cast<std::size_t>(end - begin),
              static_cast<std::size_t>(cols_), static_cast<std::size_t>(X.cols()), X.data(),
              static_cast<std::size_t>(X.outerStride()), Y.data() + begin,
              static_cast<std::size_t>(Y.outerStride()), update == Update::add, memory);
        });
  }
  /// Each task has columns, and so rows of X, of its own.
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    const detail::Split split(cols_, wide_blocks(), flops() * static_cast<double>(Y.cols()),
                              workspace);
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      kernel::active<T>().block_sparse_apply_transpose(
          block_rows_from(0), static_cast<std::size_t>(rows_), static_cast<std::size_t>(cols_),
          static_cast<std::size_t>(begin), static_cast<std::size_t>(end),
          static_cast<std::size_t>(Y.cols()), Y.data(), static_cast<std::size_t>(Y.outerStride()),
          X.data(), static_cast<std::size_t>(X.outerStride()));
    });
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    detail::reserve_most<T>(workspace, batch, [&](Index samples) {
      return split_rows(samples, workspace).tasks * detail::task_scratch(scratch(samples));
    });
  }

  Index rows_ = 0;
  Index cols_ = 0;
  Index block_rows_ = 1;
  Index block_cols_ = 1;
  Index blocks_ = 0;
  detail::AlignedArray<T> values_ = {};
  detail::AlignedArray<std::uint64_t> starts_ = {};   // of the blocks of each block row,
  detail::AlignedArray<std::uint64_t> offsets_ = {};  // and of its values
  detail::ColumnIndices columns_ = {};
};

}  // namespace PLEAT_ABI
}  // namespace pleat
