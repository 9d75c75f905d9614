// SPDX-License-Identifier: MIT
// Sparse matrices for the tests of the sparse bricks.
#pragma once

#include "support/random.hpp"

namespace pleat::test {

/// Whole numbers other than zero in about `percent` of a hundred entries, zeros elsewhere.
template <Real T>
Matrix<T> sparse_integers(Random& random, Index rows, Index cols, Index percent) {
  Matrix<T> W = Matrix<T>::Zero(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < cols; ++k)
      if (random.integer(0, 99) < percent)
        W(i, k) = static_cast<T>(random.integer(1, 4) * (2 * random.integer(0, 1) - 1));
  return W;
}

/// The same with `entries` entries in every row, but for every seventh, which has half as many.
template <Real T>
Matrix<T> row_sparse_integers(Random& random, Index rows, Index cols, Index entries) {
  Matrix<T> W = Matrix<T>::Zero(rows, cols);
  for (Index i = 0; i < rows; ++i) {
    Index wanted = i % 7 == 3 ? entries / 2 : entries;
    for (Index k = 0; k < cols; ++k)
      if (random.integer(1, cols - k) <= wanted) {
        --wanted;
        W(i, k) = static_cast<T>(random.integer(1, 4));
      }
  }
  return W;
}

}  // namespace pleat::test
