// SPDX-License-Identifier: MIT
// The contract of the kernels: per instruction set, a table of functions over raw memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {

/// Rows of a dense panel. Dense weights lie in panels of so many rows, rows in lanes: for each
/// column in turn, the values of `panel_rows` consecutive rows. The last panel is filled up with
/// zeros. One layout serves every instruction set (two AVX vectors of floats, one of AVX-512, four
/// of SSE or NEON).
inline constexpr std::size_t panel_rows = 16;

/// What a kernel may assume: pointers are valid for the sizes given, outputs overlap nothing,
/// weights are aligned to 64 bytes, activations to their element; leading dimensions count elements
/// and are at least the number of rows. What it must not do: allocate, throw, call anything, read
/// or write past a size, or read an output that it overwrites. Any size may be 0.
///
/// Every output is summed in one fixed order, whatever the batch and whatever part of the rows a
/// call covers, so cutting the rows between threads does not change a bit of the result.
template <class T>
struct Table {
  /// Name of the instruction set: "sse2", "fma3+avx2", "avx512", "neon64".
  const char* arch;

  /// Y = W X (or Y += W X where `add`).
  ///   rows, cols        shape of W, or of the rows of it that this call covers
  ///   panels            ceil(rows / panel_rows) panels of cols * panel_rows values
  ///   x, ldx            cols x batch, column-major
  ///   y, ldy            rows x batch, column-major; written only, unless `add`
  ///   scratch           dense_scratch(cols, batch) values, for this call alone
  void (*dense_apply)(std::size_t rows, std::size_t cols, const T* panels, std::size_t batch,
                      const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch);

  /// How many values of scratch one `dense_apply` needs.
  std::size_t (*dense_scratch)(std::size_t cols, std::size_t batch);

  /// X = W^T Y for a range of the columns of W.
  ///   rows, cols        rows of W; columns that this call covers
  ///   panels            the panels of W, advanced to the first of these columns
  ///   panel_stride      values from one panel of W to the next
  ///   y, ldy            rows x batch, column-major
  ///   x, ldx            cols x batch, column-major; written only
  void (*dense_apply_transpose)(std::size_t rows, std::size_t cols, const T* panels,
                                std::size_t panel_stride, std::size_t batch, const T* y,
                                std::size_t ldy, T* x, std::size_t ldx);

  /// Y = W X (or Y += W X where `add`) for W with at most two kept values in every four columns.
  ///   rows, cols        shape of W, or of the rows of it that this call covers
  ///   values            for each panel of panel_rows rows and each group of four columns, the
  ///   first
  ///                     kept value of every row, then the second; ceil(cols / 4) groups
  ///   codes             for each panel and each block of eight groups, a word for every row: two
  ///   bits
  ///                     a value, lowest first, say which column of its group it lies in
  ///   scratch           semi_structured_scratch(cols, batch) values, aligned to 64 bytes
  /// The other parameters are those of dense_apply. A value past the last column is zero.
  void (*semi_structured_apply)(std::size_t rows, std::size_t cols, const T* values,
                                const std::uint32_t* codes, std::size_t batch, const T* x,
                                std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch);

  /// How many values of scratch one `semi_structured_apply` needs.
  std::size_t (*semi_structured_scratch)(std::size_t cols, std::size_t batch);

  /// X = W^T Y for the groups of four columns [first, last) of W; x points at column 0.
  void (*semi_structured_apply_transpose)(std::size_t rows, std::size_t cols, std::size_t first,
                                          std::size_t last, const T* values,
                                          const std::uint32_t* codes, std::size_t batch, const T* y,
                                          std::size_t ldy, T* x, std::size_t ldx);
};

}  // namespace v0
}  // namespace pleat::kernel
