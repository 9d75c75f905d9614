// SPDX-License-Identifier: MIT
// Transposes of small matrices in scratch memory, and vectors that are such matrices.
#pragma once

#include "pleat/core/linear_operator.hpp"

#include <algorithm>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// to[i * ld_to + j] = from[j * ld_from + i], or += where `Add`, for i < rows and j < cols. In
/// tiles of 8 x 8, of constant size, which a compiler keeps in registers; a cache line is then
/// read, and written, as a whole.
template <bool Add = false, class T>
void transpose(Index rows, Index cols, const T* from, Index ld_from, T* to, Index ld_to) {
  constexpr Index tile = 8;
  const auto one = [](T value, T& target) {
    if constexpr (Add) target += value;
    else target = value;
  };
  const Index whole_rows = rows / tile * tile;
  const Index whole_cols = cols / tile * tile;
  for (Index j = 0; j < whole_cols; j += tile) {
    for (Index i = 0; i < whole_rows; i += tile) {
      const T* const source = from + j * ld_from + i;
      T* const target = to + i * ld_to + j;
      for (Index s = 0; s < tile; ++s)
        for (Index t = 0; t < tile; ++t) one(source[t * ld_from + s], target[s * ld_to + t]);
    }
    for (Index i = whole_rows; i < rows; ++i)
      for (Index t = j; t < j + tile; ++t) one(from[t * ld_from + i], to[i * ld_to + t]);
  }
  for (Index j = whole_cols; j < cols; ++j)
    for (Index i = 0; i < rows; ++i) one(from[j * ld_from + i], to[i * ld_to + j]);
}

/// A matrix that a vector of `size` values is, column by column; the last of its entries may be
/// none of the vector's.
struct FoldedVector {
  Index rows;
  Index cols;
  Index size;

  /// The matrix, zeros where the vector ends, or its transpose.
  template <class T>
  void load(const T* vector, bool transposed, T* matrix) const {
    if (!transposed) {
      std::copy_n(vector, size, matrix);
      std::fill(matrix + size, matrix + rows * cols, T(0));
      return;
    }
    if (size < rows * cols) std::fill_n(matrix, rows * cols, T(0));
    const Index whole = size / rows;
    transpose(rows, whole, vector, rows, matrix, cols);
    transpose(size % rows, 1, vector + whole * rows, rows, matrix + whole, cols);
  }

  /// The vector, from the matrix or its transpose; what it does not have of it is left out.
  template <class T>
  void store(const T* matrix, bool transposed, Update update, T* vector) const {
    if (update == Update::add) store_as<true>(matrix, transposed, vector);
    else store_as<false>(matrix, transposed, vector);
  }

 private:
  template <bool Add, class T>
  void store_as(const T* matrix, bool transposed, T* vector) const {
    if (transposed) {
      const Index whole = size / rows;
      transpose<Add>(whole, rows, matrix, cols, vector, rows);
      transpose<Add>(1, size % rows, matrix + whole, cols, vector + whole * rows, rows);
    } else if constexpr (Add) {
      for (Index i = 0; i < size; ++i) vector[i] += matrix[i];
    } else {
      std::copy_n(matrix, size, vector);
    }
  }
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
