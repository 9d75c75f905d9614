// SPDX-License-Identifier: MIT
// Matrix products of the factorizations, in double, on the library's own kernels and threads.
#pragma once

#include "pleat/matrix/dense.hpp"

#include <algorithm>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

// Eigen's own product would start threads that nobody asked for where the user compiles with
// OpenMP, and round differently for each number of them.

/// A B.
template <class = void>
[[nodiscard]] Matrix<double> multiply(const Dense<double>& A, const Matrix<double>& B) {
  Matrix<double> C(A.rows(), B.cols());
  A.apply(B, C);
  return C;
}

template <class Left>
[[nodiscard]] Matrix<double> multiply(const Eigen::MatrixBase<Left>& A, const Matrix<double>& B) {
  return multiply(Dense<double>(A), B);
}

/// (C + C^T) / 2, for what is symmetric but for rounding. In place: these are the largest matrices
/// here.
template <class = void>
[[nodiscard]] Matrix<double> symmetric_part(Matrix<double> C) {
  for (Index j = 0; j < C.cols(); ++j)
    for (Index i = 0; i < j; ++i) C(i, j) = C(j, i) = 0.5 * (C(i, j) + C(j, i));
  return C;
}

/// A A^T, of which a stripe of rows at a time is computed, and only up to the diagonal.
template <class Derived>
[[nodiscard]] Matrix<double> outer_gram(const Eigen::MatrixBase<Derived>& A) {
  constexpr Index stripe = 256;  // of much larger ones more beyond the diagonal is computed
  const Index m = A.rows();
  const Matrix<double> At = A.transpose();
  if (m <= stripe) return symmetric_part(multiply(A, At));
  Matrix<double> C(m, m);
  for (Index first = 0; first < m; first += stripe) {
    const Index count = (std::min)(stripe, m - first);
    const Index known = first + count;
    Dense<double>(A.middleRows(first, count))
        .apply(At.leftCols(known), C.middleRows(first, count).leftCols(known));
    C.block(first, first, count, count) =
        symmetric_part(Matrix<double>(C.block(first, first, count, count)));
    C.block(0, first, first, count) = C.block(first, 0, count, first).transpose();
  }
  return C;
}

/// Keeps Eigen's decompositions on the calling thread for the life of the object. The setting is
/// OpenMP's own of this thread: nothing that another thread sees.
class SerialEigen {
 public:
#ifdef _OPENMP
  SerialEigen() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SerialEigen() { omp_set_num_threads(threads_); }
#else
  SerialEigen() = default;
  ~SerialEigen() = default;
#endif
  SerialEigen(const SerialEigen&) = delete;
  SerialEigen& operator=(const SerialEigen&) = delete;

 private:
#ifdef _OPENMP
  int threads_;
#endif
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
