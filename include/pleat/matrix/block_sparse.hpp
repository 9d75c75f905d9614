// SPDX-License-Identifier: MIT
// A matrix of which whole blocks are kept, and where they lie.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/matrix/detail/column_indices.hpp"
#include "pleat/matrix/detail/narrow/numbers.hpp"
#include "pleat/matrix/detail/sparse/block_layout.hpp"
#include "pleat/matrix/detail/sparse/block_values.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// An m x n matrix that is cut into blocks of r x c, some of which are kept and the others zero
/// (block sparse rows, BSR). Blocks at the lower and the right edge are as much smaller as the
/// matrix is. Any m up to 2^32, n below 2^32, r and c from 1 on.
///
///     stored          the values of the kept blocks, as they are or narrower (see `Storage`; a
///                     group is up to 64 (int4, int3, int2: 32) kept values of one row, one after
///                     another); 2 bytes a block up to 65536 blocks side by side, else 4, for where
///                     it lies; and 4 bytes a block row
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
/// Narrow values are widened as the call runs, 16 rows and some blocks at a time, and then
/// multiplied as they would be had they been stored so: products are bit for bit the same where
/// `exponent` is 0. It saves bytes, not time: for up to 16 samples they run at 0.6 to 0.9 of the
/// speed of values as they are (AVX-512; bf16 of 4096 x 4096 at 0.4 of it for one sample and 0.6
/// for four), for more at the same. Activations stay as they are. In memory, they lie in panels of
/// 16 rows, and of as many columns as a multiple of 64 (bf16 and f16: 8) has: many small block rows
/// take much more there than is counted.
///
/// Source: E.-J. Im, K. Yelick and R. Vuduc, "Sparsity: optimization framework for sparse matrix
/// kernels", IJHPCA 18(1), 2004, for the format.
template <Real T>
class BlockSparse : public OperatorBase<BlockSparse<T>, T> {
  using View = Eigen::Ref<const Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  using Layout = detail::BlockLayout;
  using Values = detail::BlockValues<T>;
  using Place = detail::BlockLayout::Place;

 public:
  static constexpr std::string_view name = "BlockSparse";

  /// How `compress<BlockSparse>` works.
  struct Options {
    /// Rows of a block. Fewer than 16 lose speed.
    Index block_rows = 16;
    /// Columns of a block. Fewer keep more of a weight, at 2 or 4 bytes a block.
    Index block_cols = 16;
    Storage storage = native_storage<T>;
    Levels levels = Levels::uniform;  ///< of int4, int3 and int2, as for `Dense`
    /// Without effect: nothing is random here.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// The empty 0 x 0 matrix.
  BlockSparse() : BlockSparse(Matrix<T>(0, 0), 1, 1, Matrix<bool>(0, 0)) {}

  /// The blocks of any dense Eigen matrix or expression that `kept` says, ceil(m / r) x ceil(n /
  /// c); the others count as zero, whatever they hold. Cost: one pass. Throws
  /// `std::invalid_argument` if r or c is less than 1, or `kept` has another shape.
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols,
              const Matrix<bool>& kept)
      : BlockSparse(values_of(View(matrix.derived()), block_rows, block_cols, kept)) {}

  /// The blocks that hold anything but 0 and -0. Throws as above.
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols)
      : BlockSparse(View(matrix.derived()), block_rows, block_cols,
                    occupied(View(matrix.derived()), block_rows, block_cols)) {}

  /// The same two, each value rounded to the nearest that the storage has. Throws also what
  /// `Dense(matrix, storage)` throws.
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols,
              const Matrix<bool>& kept, Storage storage)
      : BlockSparse(BlockSparse(matrix, block_rows, block_cols, kept).stored_as(storage)) {}
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols,
              Storage storage)
      : BlockSparse(BlockSparse(matrix, block_rows, block_cols).stored_as(storage)) {}

  /// The same in int8, or int4, int3 or int2, with the scales given, times 2^exponent, and levels
  /// where these are fitted: m x ceil(n / 64), or m x ceil(n / 32), of which those of a row are of
  /// its kept values, one for each group of them; scales past these do not matter. Throws what
  /// `Dense(matrix, storage, scales, exponent, levels)` throws.
  template <class Derived>
  BlockSparse(const Eigen::MatrixBase<Derived>& matrix, Index block_rows, Index block_cols,
              const Matrix<bool>& kept, Storage storage, const Matrix<float>& scales,
              int exponent = 0, const detail::Numbers::Levels& levels = {})
      : BlockSparse(values_of(View(matrix.derived()), block_rows, block_cols, kept)
                        .stored_as(storage, scales, exponent, levels)) {}

  /// This matrix in another storage, the same blocks, each value rounded to the nearest that it
  /// has. Throws what `Dense(matrix, storage)` throws.
  [[nodiscard]] BlockSparse stored_as(Storage storage) const {
    return BlockSparse(values_.stored_as(storage));
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  BlockSparse(const BlockSparse&) = default;
  BlockSparse& operator=(const BlockSparse&) = default;
  ~BlockSparse() = default;

  [[nodiscard]] Index rows() const noexcept { return layout().rows; }
  [[nodiscard]] Index cols() const noexcept { return layout().cols; }
  /// r, the rows of a block.
  [[nodiscard]] Index block_rows() const noexcept { return layout().block_rows; }
  /// c, the columns of a block.
  [[nodiscard]] Index block_cols() const noexcept { return layout().block_cols; }
  /// How many blocks are kept.
  [[nodiscard]] Index blocks() const noexcept { return layout().blocks; }
  [[nodiscard]] Storage storage() const noexcept { return values_.storage(); }
  /// All that is stored is multiplied by 2 to the power of this, as for `Dense`.
  [[nodiscard]] int exponent() const noexcept { return values_.exponent(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() +
           static_cast<std::size_t>(blocks()) *
               detail::ColumnIndices::index_size(layout().grid_cols()) +
           static_cast<std::size_t>(layout().grid_rows()) * sizeof(std::uint32_t);
  }
  [[nodiscard]] double flops() const noexcept { return 2 * static_cast<double>(layout().values()); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return std::to_string(blocks()) + (blocks() == 1 ? " block of " : " blocks of ") +
           detail::shape_text(block_rows(), block_cols()) +
           (is_narrow(storage()) ? ", " + values_.description() : "");
  }

  /// Which blocks are kept, ceil(m / r) x ceil(n / c).
  [[nodiscard]] Matrix<bool> kept() const { return layout().kept(); }

  /// The matrix, bit for bit as it is stored.
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> dense = Matrix<T>::Zero(rows(), cols());
    layout().each([&](const Place& place) { dense(place.row, place.col) = values_(place); });
    return dense;
  }

  /// "values": those of each block row in turn, kept column by kept column. "columns": where each
  /// block lies, in blocks, 16 bits wide up to 65536 blocks side by side, else 32. "counts": how
  /// many blocks each block row has, 32 bits wide. Attributes "rows", "cols", "block_rows",
  /// "block_cols". In narrow storage, "values" has those of each row in turn, as many as its block
  /// row keeps (int4, int3, int2: bytes, as `detail::NarrowPanels` has them, a row from a byte on),
  /// and "values_scales" their scales likewise; and there are "values_levels" and the attributes
  /// "storage" and, if it is not 0, "exponent".
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(), {}, {}, {}};
    values_.add_to(parts);
    return parts;
  }

  /// Throws `std::invalid_argument` unless there is a count for each block row, as many columns as
  /// they add up to, ascending in every block row and less than there are side by side, and as many
  /// values as these blocks have, in narrow storage with scales and levels that are such, and
  /// unused bits that are 0.
  [[nodiscard]] static BlockSparse from_parts(const Parts& parts) {
    return BlockSparse(Values::from(parts));
  }

 private:
  friend OperatorBase<BlockSparse, T>;

  explicit BlockSparse(Values values) : values_(std::move(values)) {}

  [[nodiscard]] const Layout& layout() const noexcept { return values_.layout(); }

  [[nodiscard]] static Values values_of(const View& entries, Index r, Index c,
                                        const Matrix<bool>& kept) {
    return {Layout(entries.rows(), entries.cols(), r, c, kept),
            [&](const Place& place) { return entries.coeff(place.row, place.col); }};
  }

  [[nodiscard]] static Matrix<bool> occupied(const View& entries, Index r, Index c) {
    Layout::check(entries.rows(), entries.cols(), r, c);
    Matrix<bool> kept = Matrix<bool>::Constant(Layout::divided(entries.rows(), r),
                                               Layout::divided(entries.cols(), c), false);
    for (Index col = 0; col < entries.cols(); ++col)
      for (Index row = 0; row < entries.rows(); ++row)
        if (!(entries.coeff(row, col) == T(0))) kept(row / r, col / c) = true;
    return kept;
  }

  [[nodiscard]] detail::Split split_rows(Index batch, const Workspace& workspace) const {
    return {rows(), layout().tall_blocks(), flops() * static_cast<double>(batch), workspace};
  }
  [[nodiscard]] detail::Split split_cols(Index batch, const Workspace& workspace) const {
    return {cols(), layout().wide_blocks(), flops() * static_cast<double>(batch), workspace};
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    detail::in_tasks<T>(split_rows(X.cols(), workspace), values_.scratch(X.cols()), workspace,
                        [&](Index begin, Index end, T* memory) {
                          values_.multiply(begin, end, X, Y, update == Update::add, memory);
                        });
  }
  /// Each task has columns, and so rows of X, of its own.
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    detail::in_tasks<T>(split_cols(Y.cols(), workspace), values_.transpose_scratch(), workspace,
                        [&](Index begin, Index end, T* memory) {
                          values_.multiply_transpose(begin, end, Y, X, memory);
                        });
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    detail::reserve_most<T>(workspace, batch, [&](Index samples) {
      return (std::max)(
          split_rows(samples, workspace).tasks * detail::task_scratch(values_.scratch(samples)),
          split_cols(samples, workspace).tasks * detail::task_scratch(values_.transpose_scratch()));
    });
  }

  Values values_;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
