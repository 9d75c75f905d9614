// SPDX-License-Identifier: MIT
// The contract of the kernels: per instruction set, a table of functions over raw memory.
//
// Functions here are inlined always: an object compiled for one instruction set must not define
// what the linker could choose for a program that runs on another.
#pragma once

#include "pleat/kernel/layout.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {

/// Rows of a sparse matrix: values and columns row by row, the columns of a row ascending. The
/// columns are one of three things; the pointers to the other two are null.
template <class T>
struct SparseRows {
  const T* values;
  const std::uint64_t* starts;   // where each row, and the row after the last, begins; or null:
  std::size_t row_entries;       // every row has so many entries
  const std::uint16_t* columns;  // a column for each value,
  const std::uint32_t* long_columns;  // or the same where 16 bits are too few,
  const std::uint32_t* masks;         // or ceil(cols / mask_cols) words a row, unused bits 0
};

/// Blocks of block_rows x block_cols that are kept of a matrix, block row by block row, those of
/// each ascending; blocks at the edges are as much smaller as the matrix is. A block row lies in
/// strips of `panel_rows` rows, of which the last may have fewer; a strip, kept column by kept
/// column, rows in lanes. The values are followed by `panel_rows` values more, which are read and
/// not used.
///
/// Narrow values lie in one narrow panel: each strip in as many of its columns as all strips of its
/// block row, a multiple of 8, and of 64 where there are scales, of which the first are its kept
/// ones. Then `offsets` are of the columns of the panel, and `values` null.
template <class T>
struct BlockRows {
  const T* values;
  const std::uint64_t* offsets;  // of the values of each block row, and the one after the last,
  const std::uint64_t* starts;   // and of its blocks
  const std::uint16_t* columns;  // where each block lies, in blocks,
  const std::uint32_t* long_columns;  // or the same where 16 bits are too few; the other is null
  std::size_t block_rows;
  std::size_t block_cols;
};

/// What a kernel may assume: pointers are valid for the sizes given, outputs overlap nothing,
/// weights are aligned to 64 bytes, activations to their element; leading dimensions count
/// elements, those of outputs at least the number of rows, those of inputs as they like: modulo
/// 2^64, where samples overlap or descend. What it must not do: allocate, throw, call anything,
/// read or write past a size, or read an output that it overwrites. Any size may be 0.
///
/// Every output is summed in one fixed order, whatever the batch and whatever part of the rows a
/// call covers, so cutting the rows between threads does not change a bit of the result.
template <class T>
struct Table {
  /// Name of the instruction set: "sse2", "fma3+avx2", "avx2+vnni", "avx512", "avx512+vnni",
  /// "avx512+vnni+bf16", "neon64", "neon64+dot+i8mm".
  const char* arch;

  /// Its dot products, and from how many bytes one instruction picks those that kept values of
  /// int8 meet (see `picked_window`).
  DotProducts dots;
  std::size_t picks;

  /// Y = W X (or Y += W X where `add`).
  ///   rows, cols        shape of W, or of the rows of it that this call covers
  ///   panels            ceil(rows / panel_rows) panels of cols * panel_rows values
  ///   x, ldx            cols x batch, column-major
  ///   y, ldy            rows x batch, column-major; written only, unless `add`
  ///   scratch           dense_scratch(rows, cols, batch) values, for this call alone; as many are
  ///                     enough for fewer rows, too
  void (*dense_apply)(std::size_t rows, std::size_t cols, const T* panels, std::size_t batch,
                      const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch);

  /// How many values of scratch one `dense_apply` needs; none for one sample.
  std::size_t (*dense_scratch)(std::size_t rows, std::size_t cols, std::size_t batch);

  /// X = W^T Y for a range of the columns of W.
  ///   rows, cols        rows of W; columns that this call covers
  ///   panels            the panels of W, advanced to the first of these columns
  ///   panel_stride      values from one panel of W to the next
  ///   y, ldy            rows x batch, column-major
  ///   x, ldx            cols x batch, column-major; written only
  void (*dense_apply_transpose)(std::size_t rows, std::size_t cols, const T* panels,
                                std::size_t panel_stride, std::size_t batch, const T* y,
                                std::size_t ldy, T* x, std::size_t ldx);

  /// dense_apply for narrow weights: ceil(rows / panel_rows) panels of narrow_panel_bytes. An
  /// output is the sum over groups, in order, of the group's scale times the sum of its products.
  ///   scratch           narrow_scratch(cols, batch) values, aligned to 64 bytes
  void (*narrow_apply)(Format format, std::size_t rows, std::size_t cols,
                       const std::uint8_t* panels, std::size_t batch, const T* x, std::size_t ldx,
                       T* y, std::size_t ldy, bool add, T* scratch);

  /// How many values of scratch one `narrow_apply` needs.
  std::size_t (*narrow_scratch)(std::size_t cols, std::size_t batch);

  /// X = W^T Y for the columns [first, last) of W, a shape of rows x cols; `first` is a multiple of
  /// 64, and x points at column 0.
  ///   scratch           narrow_transpose_scratch values, aligned to 64 bytes
  void (*narrow_apply_transpose)(Format format, std::size_t rows, std::size_t cols,
                                 std::size_t first, std::size_t last, const std::uint8_t* panels,
                                 std::size_t batch, const T* y, std::size_t ldy, T* x,
                                 std::size_t ldx, T* scratch);

  /// narrow_apply with the activations of each sample rounded: integers, or bf16. Sums of a group
  /// of integers are exact; a sample that is not finite has outputs that are NaN. There is a kernel
  /// for int8 weights with int8 and int16 activations, for int4 and levels with int8, and where
  /// `dots` has it, for bf16 with bf16. Null for double.
  ///   scratch           narrow_dot_scratch(...) values, aligned to 64 bytes
  void (*narrow_dot_apply)(Format format, Activations activations, std::size_t rows,
                           std::size_t cols, const std::uint8_t* panels, std::size_t batch,
                           const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                           T* scratch);

  /// How many values of scratch one `narrow_dot_apply` needs.
  std::size_t (*narrow_dot_scratch)(Format format, Activations activations, std::size_t cols,
                                    std::size_t batch);

  /// Y = W X (or Y += W X where `add`) for W with N of every M columns kept.
  ///   rows, cols        shape of W, or of the rows of it that this call covers
  ///   values            for each panel, kept value by kept value of all its groups in turn: that
  ///                     of every row; ceil(cols / group) * kept of them
  ///   codes             for each panel, `panel_words` words, word by word that of every row: codes
  ///                     of `code_bits` bits, the column of its group that a value lies in, at its
  ///                     `code_place`
  ///   scratch           semi_structured_scratch(cols, batch) values, aligned to 64 bytes
  /// The other parameters are those of dense_apply. A value past the last column is zero.
  void (*semi_structured_apply)(SemiStructuredPattern pattern, std::size_t rows, std::size_t cols,
                                const T* values, const std::uint32_t* codes, std::size_t batch,
                                const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                                T* scratch);

  /// How many values of scratch one `semi_structured_apply` needs.
  std::size_t (*semi_structured_scratch)(std::size_t cols, std::size_t batch);

  /// Whether a matrix of this shape is faster as a dense one, by `dense_apply`.
  bool (*semi_structured_as_dense)(SemiStructuredPattern pattern, std::size_t rows,
                                   std::size_t cols);

  /// X = W^T Y for the groups of columns [first, last) of W; x points at column 0.
  void (*semi_structured_apply_transpose)(SemiStructuredPattern pattern, std::size_t rows,
                                          std::size_t cols, std::size_t first, std::size_t last,
                                          const T* values, const std::uint32_t* codes,
                                          std::size_t batch, const T* y, std::size_t ldy, T* x,
                                          std::size_t ldx);

  /// The same two for narrow values: those of a panel are a narrow panel of as many columns as a
  /// row has kept values.
  void (*semi_structured_narrow_apply)(Format format, SemiStructuredPattern pattern,
                                       std::size_t rows, std::size_t cols,
                                       const std::uint8_t* values, const std::uint32_t* codes,
                                       std::size_t batch, const T* x, std::size_t ldx, T* y,
                                       std::size_t ldy, bool add, T* scratch);
  void (*semi_structured_narrow_apply_transpose)(
      Format format, SemiStructuredPattern pattern, std::size_t rows, std::size_t cols,
      std::size_t first, std::size_t last, const std::uint8_t* values, const std::uint32_t* codes,
      std::size_t batch, const T* y, std::size_t ldy, T* x, std::size_t ldx);

  /// semi_structured_narrow_apply with the activations of each sample rounded, as
  /// `narrow_dot_apply` does: for int8 values of any pattern with int8 activations, those that 64
  /// values of a row may meet with one scale; and where `dots` has it, for bf16 values of 2:4 with
  /// bf16. Null for double. Where there are no instructions for a pattern (see
  /// `has_semi_structured_dot`), in plain loops, which is slow; of 2:4 and 4:8 not at all.
  ///   controls          for each panel, `panel_controls` words
  ///   sums              of int8, for each panel, `panel_sums` numbers: -128 times the sum of the
  ///                     stored integers
  ///   scratch           semi_structured_dot_scratch(...) values, aligned to 64 bytes
  void (*semi_structured_dot_apply)(Format format, SemiStructuredPattern pattern, std::size_t rows,
                                    std::size_t cols, const std::uint8_t* values,
                                    const std::uint32_t* controls, const std::int32_t* sums,
                                    std::size_t batch, const T* x, std::size_t ldx, T* y,
                                    std::size_t ldy, bool add, T* scratch);

  /// How many values of scratch one `semi_structured_dot_apply` needs.
  std::size_t (*semi_structured_dot_scratch)(Format format, SemiStructuredPattern pattern,
                                             std::size_t cols, std::size_t batch);

  /// Y = W X (or Y += W X where `add`) for `width` <= panel_rows matrices at once, whose rows and
  /// columns are interleaved: y[p distance + k] = sum_q w[p][q][k] x[q distance + k], k < width.
  ///   y_size, x_size    values of a sample from the first on. There are ceil(y_size / distance)
  ///                     rows p and ceil(x_size / distance) columns q; the last of them may have
  ///                     fewer values than `width`
  ///   distance          from one row or column to the next, at least `width`
  ///   values            for each strip of strip_rows rows (the last may have fewer), each column
  ///                     and each row of the strip: panel_rows values w[p][q][k], zero for those k
  ///                     for which the row or the column does not exist
  ///   scratch           interleaved_scratch(columns, batch) values, aligned to 64 bytes
  /// The other parameters are those of dense_apply.
  void (*interleaved_apply)(std::size_t y_size, std::size_t x_size, std::size_t distance,
                            std::size_t width, const T* values, std::size_t batch, const T* x,
                            std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch);

  /// How many values of scratch one `interleaved_apply` needs with so many columns, and one
  /// `interleaved_apply_transpose` with so many rows: a multiple of panel_rows.
  std::size_t (*interleaved_scratch)(std::size_t depth, std::size_t batch);

  /// X = W^T Y for the columns [first, last) of W; x points at column 0, and is written only.
  void (*interleaved_apply_transpose)(std::size_t y_size, std::size_t x_size, std::size_t distance,
                                      std::size_t width, std::size_t first, std::size_t last,
                                      const T* values, std::size_t batch, const T* y,
                                      std::size_t ldy, T* x, std::size_t ldx, T* scratch);

  /// Y = W X (or Y += W X where `add`) for W with sparse rows.
  ///   rows, cols        shape of W, or of the rows of it that this call covers
  ///   scratch           sparse_scratch(cols, batch) values, aligned to 64 bytes
  /// The other parameters are those of dense_apply.
  void (*sparse_apply)(const SparseRows<T>& matrix, std::size_t rows, std::size_t cols,
                       std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy,
                       bool add, T* scratch);

  /// How many values of scratch one `sparse_apply` needs.
  std::size_t (*sparse_scratch)(std::size_t cols, std::size_t batch);

  /// X = W^T Y for the columns [first, last) of W; x points at column 0.
  void (*sparse_apply_transpose)(const SparseRows<T>& matrix, std::size_t rows, std::size_t cols,
                                 std::size_t first, std::size_t last, std::size_t batch, const T* y,
                                 std::size_t ldy, T* x, std::size_t ldx);

  /// Y = scale A H B X (or Y += where `add`) for H with Sylvester's Hadamard matrix, of `block`
  /// rows and columns and of entries 1 and -1, in all blocks along its diagonal: entry (i, j) of it
  /// is (-1)^(number of bits that i and j share).
  ///   block, size       a power of two; values of a sample, a multiple of it
  ///   before, after     `size` factors 1 and -1 each, the diagonals of B and A; null for the
  ///                     identity
  ///   scratch           where `add`, `block` values, for this call alone
  /// The other parameters are those of dense_apply.
  void (*hadamard_apply)(std::size_t block, std::size_t size, T scale, const T* before,
                         const T* after, std::size_t batch, const T* x, std::size_t ldx, T* y,
                         std::size_t ldy, bool add, T* scratch);

  /// Y = W X (or Y += W X where `add`) for W of kept blocks.
  ///   rows, cols        shape of W, or of whole block rows of it that this call covers, whose
  ///                     offsets and starts `matrix` begins with
  ///   scratch           block_sparse_scratch(cols, block_cols, batch) values, aligned to 64 bytes
  /// The other parameters are those of dense_apply.
  void (*block_sparse_apply)(const BlockRows<T>& matrix, std::size_t rows, std::size_t cols,
                             std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy,
                             bool add, T* scratch);

  /// How many values of scratch one `block_sparse_apply` needs; none for one sample.
  std::size_t (*block_sparse_scratch)(std::size_t cols, std::size_t block_cols, std::size_t batch);

  /// X = W^T Y for the columns [first, last) of W, whole blocks of them; x points at column 0.
  void (*block_sparse_apply_transpose)(const BlockRows<T>& matrix, std::size_t rows,
                                       std::size_t cols, std::size_t first, std::size_t last,
                                       std::size_t batch, const T* y, std::size_t ldy, T* x,
                                       std::size_t ldx);

  /// The same three for narrow values, in a panel; what they compute is what block_sparse_apply and
  /// block_sparse_apply_transpose would compute of the widened values.
  ///   scratch           block_sparse_narrow_scratch(cols, block_cols, batch) values, aligned to 64
  ///                     bytes; of the transpose, those of one sample
  void (*block_sparse_narrow_apply)(Format format, const BlockRows<T>& matrix,
                                    const std::uint8_t* panel, std::size_t rows, std::size_t cols,
                                    std::size_t batch, const T* x, std::size_t ldx, T* y,
                                    std::size_t ldy, bool add, T* scratch);
  std::size_t (*block_sparse_narrow_scratch)(std::size_t cols, std::size_t block_cols,
                                             std::size_t batch);
  void (*block_sparse_narrow_apply_transpose)(Format format, const BlockRows<T>& matrix,
                                              const std::uint8_t* panel, std::size_t rows,
                                              std::size_t cols, std::size_t first, std::size_t last,
                                              std::size_t batch, const T* y, std::size_t ldy, T* x,
                                              std::size_t ldx, T* scratch);
};

/// The part of a table of floats that differs between two instruction sets that differ in dot
/// products alone.
struct DotKernels {
  const char* arch;
  DotProducts dots;
  std::size_t picks;
  decltype(Table<float>::narrow_dot_apply) narrow_dot_apply;
  decltype(Table<float>::narrow_dot_scratch) narrow_dot_scratch;
  decltype(Table<float>::semi_structured_dot_apply) semi_structured_dot_apply;
  decltype(Table<float>::semi_structured_dot_scratch) semi_structured_dot_scratch;

  /// The table of the other one with these in their places.
  [[nodiscard]] constexpr Table<float> in(Table<float> table) const noexcept {
    table.arch = arch;
    table.dots = dots;
    table.picks = picks;
    table.narrow_dot_apply = narrow_dot_apply;
    table.narrow_dot_scratch = narrow_dot_scratch;
    table.semi_structured_dot_apply = semi_structured_dot_apply;
    table.semi_structured_dot_scratch = semi_structured_dot_scratch;
    return table;
  }
  /// Doubles have none.
  [[nodiscard]] constexpr Table<double> in(Table<double> table) const noexcept {
    table.arch = arch;
    table.dots = dots;
    table.picks = picks;
    return table;
  }
};

}  // namespace v0
}  // namespace pleat::kernel
