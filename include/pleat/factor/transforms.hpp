// SPDX-License-Identifier: MIT
// Exact transforms as operators: cosine, Fourier, Haar, and circulant matrices.
#pragma once

#include "pleat/core/any_operator.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/factor/detail/trigonometric.hpp"
#include "pleat/factor/monarch.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/permutation.hpp"
#include "pleat/matrix/row_sparse.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// A sparse matrix of n columns from its rows, each with its columns ascending.
template <Real T>
[[nodiscard]] Csr<T> csr_of(const std::vector<std::uint64_t>& starts,
                            const std::vector<std::uint32_t>& columns, const std::vector<T>& values,
                            Index n) {
  // As `Csr` stores them.
  const std::vector<std::uint16_t> narrow(columns.begin(), columns.end());
  const auto count = static_cast<Index>(values.size());
  return Csr<T>::from_parts(
      {std::string(Csr<T>::name),
       {{"cols", std::to_string(n)}},
       {{"columns", n <= Index{1} << 16 ? tensor_of(narrow.data(), {count})
                                        : tensor_of(columns.data(), {count})},
        {"starts", tensor_of(starts.data(), {static_cast<Index>(starts.size())})},
        {"values", tensor_of(values.data(), {count})}},
       {}});
}

/// Up to four levels of the Haar transform of the first `size` of n values; the others stay.
template <Real T>
[[nodiscard]] Csr<T> haar_levels(Index n, Index size) {
  // So many of the values that come out are means, of so many that come in.
  const Index length_of_means = (std::min)(size, Index{16});
  const Index means = size == 0 ? 0 : size / length_of_means;
  std::vector<std::uint64_t> starts{0};
  std::vector<std::uint32_t> columns;
  std::vector<T> values;
  for (Index row = 0; row < n; ++row) {
    const auto parts =
        row < means ? means : static_cast<Index>(std::bit_floor(static_cast<std::size_t>(row)));
    const Index length = row < size ? size / parts : 1;
    const Index first = row < means ? row * length : row < size ? (row - parts) * length : row;
    const T value = static_cast<T>(1 / std::sqrt(static_cast<double>(length)));
    for (Index i = 0; i < length; ++i) {
      columns.push_back(static_cast<std::uint32_t>(first + i));
      values.push_back(row < means || row >= size || 2 * i < length ? value : -value);
    }
    starts.push_back(values.size());
  }
  return csr_of(starts, columns, values, n);
}

/// The first n rows and columns of the circulant matrix with the first column c.
template <Real T>
[[nodiscard]] AnyOperator<T> circulant_product(const Vector<T>& c, Index n) {
  const Index size = c.size();
  const Trigonometric trigonometric("circulant", size);
  const auto coefficients = trigonometric.fourier_coefficients();
  // C_f = sum of c_i exp(-2 pi i f / size), its real part at f, its imaginary part at size - f.
  Vector<double> spectrum(size);
  Product(trigonometric.forward<double>(coefficients), trigonometric.input_order<double>())
      .apply(Vector<double>(c.template cast<double>()), spectrum);
  for (Index r = 0; r < size; ++r)
    spectrum(r) /= static_cast<double>(trigonometric.scale(r == 0 || 2 * r == size));
  // Real parts of outputs at f, imaginary ones at size - f, as the inputs are; rows in the order
  // that `backward` takes its inputs in.
  Matrix<T> values(size, 2);
  Matrix<Index> columns(size, 2);
  trigonometric.each_class([&](Index row, Index r) {
    const bool is_real = r == 0 || 2 * r == size;
    const Index other = is_real ? (r + 1) % size : size - r;
    const double beside = is_real ? 0 : 2 * r < size ? -spectrum(other) : spectrum(r);
    const double own = is_real || 2 * r < size ? spectrum(r) : spectrum(other);
    const bool first = r < other;
    columns(row, first ? 0 : 1) = r;
    columns(row, first ? 1 : 0) = other;
    values(row, first ? 0 : 1) = static_cast<T>(own);
    values(row, first ? 1 : 0) = static_cast<T>(beside);
  });
  const RowSparse<T> products(size, values, columns);
  const Monarch<T> back = trigonometric.backward<T>(coefficients, n);
  const Monarch<T> there = trigonometric.forward<T>(coefficients);
  if (n == size) return Product(back, products, there, trigonometric.input_order<T>());
  // One value of the input in each row, or none, which is a zero beside the first.
  Matrix<T> kept = Matrix<T>::Zero(size, 1);
  Matrix<Index> inputs = Matrix<Index>::Zero(size, 1);
  trigonometric.each_digits([&](Index place, Index i) {
    if (i >= n) return;
    kept(place, 0) = T(1);
    inputs(place, 0) = i;
  });
  return Product(back, products, there, RowSparse<T>(n, kept, inputs));
}

}  // namespace detail

// All but `circulant` are orthonormal n x n matrices: the inverse is the transpose, which every
// operator has as `apply_transpose`, and which some have a function for, for where an inverse is to
// be composed. n is 0 to 2^24; another throws `std::invalid_argument`.
//
// Cosines and sines are of angles that are reduced exactly, computed in `long double`, and rounded
// to the scalar once.
//
// The trigonometric ones are Monarch matrices of block rank 2, their columns in the order that a
// fast transform begins with. With n = K J, K the largest divisor up to sqrt(n), they store
// 2 n (K + J) values and take 2 n (K + J) multiply-adds a sample: 4 n sqrt(n) for a square, n^2 + n
// for a prime, which has no fast form here: choose sizes with a divisor close to the square root.
//
// Source: T. Dao et al., "Monarch", ICML 2022; the column orders are those of the first step of the
// fast transforms of Cooley and Tukey, 1965, and of J. Makhoul, "A fast cosine transform in one and
// two dimensions", IEEE Transactions ASSP 28(1), 1980.

/// The discrete cosine transform, type II:
///
///     y_r = c_r sum over i of cos(pi (2 i + 1) r / (2 n)) x_i,
///
/// c_0 = sqrt(1 / n), the other c_r = sqrt(2 / n): scipy.fft.dct(x, norm="ortho").
template <Real T>
[[nodiscard]] Product<Monarch<T>, Permutation<T>> dct(Index n) {
  const detail::Trigonometric trigonometric("dct", n);
  std::vector<Index> order(static_cast<std::size_t>(n));
  trigonometric.each_digits([&](Index digits, Index i) {
    order[static_cast<std::size_t>(digits)] = 2 * i < n ? 2 * i : 2 * (n - 1 - i) + 1;
  });
  return Product(trigonometric.forward<T>(trigonometric.cosine_coefficients()),
                 Permutation<T>(order));
}

/// Its inverse, which is the cosine transform of type III: scipy.fft.idct(y, norm="ortho").
template <Real T>
[[nodiscard]] Product<Permutation<T>, Monarch<T>, Permutation<T>> inverse_dct(Index n) {
  const detail::Trigonometric trigonometric("inverse_dct", n);
  std::vector<Index> outputs(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i)
    outputs[static_cast<std::size_t>(i)] = i % 2 == 0 ? i / 2 : n - 1 - i / 2;
  std::vector<Index> inputs(static_cast<std::size_t>(n));
  trigonometric.each_class(
      [&](Index column, Index r) { inputs[static_cast<std::size_t>(column)] = r; });
  return Product(Permutation<T>(outputs),
                 trigonometric.backward<T>(trigonometric.cosine_coefficients()),
                 Permutation<T>(inputs));
}

/// The discrete Fourier transform of real inputs, X_f = sum over i of exp(-2 pi i f / n) x_i, as
/// real numbers, in the order of frequencies:
///
///     y = (Re X_0, s Re X_1, s Im X_1, s Re X_2, s Im X_2, ...) / sqrt(n),  s = sqrt(2),
///
/// for even n with Re X_(n/2) / sqrt(n) at the end: scipy.fftpack.rfft(x), scaled.
template <Real T>
[[nodiscard]] Product<Permutation<T>, Monarch<T>, Permutation<T>> real_dft(Index n) {
  const detail::Trigonometric trigonometric("real_dft", n);
  std::vector<Index> outputs(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i)
    outputs[static_cast<std::size_t>(detail::frequency_place(i, n))] = i;
  return Product(Permutation<T>(outputs),
                 trigonometric.forward<T>(trigonometric.fourier_coefficients()),
                 trigonometric.input_order<T>());
}

/// Its inverse.
template <Real T>
[[nodiscard]] Product<Monarch<T>, Permutation<T>> inverse_real_dft(Index n) {
  const detail::Trigonometric trigonometric("inverse_real_dft", n);
  std::vector<Index> inputs(static_cast<std::size_t>(n));
  trigonometric.each_class([&](Index column, Index r) {
    inputs[static_cast<std::size_t>(column)] = detail::frequency_place(r, n);
  });
  return Product(trigonometric.backward<T>(trigonometric.fourier_coefficients()),
                 Permutation<T>(inputs));
}

/// The Haar wavelet transform, n = 2^s: y_0 = sum of x / sqrt(n), and y_(2^l + k), k < 2^l, the sum
/// over the first half of the k-th of 2^l parts of x less that over its second half, divided by the
/// square root of the length of the part. Throws `std::invalid_argument` also for another n than 0
/// and the powers of two.
///
/// A product of ceil(s / 4) sparse matrices, of four levels each: between a chain of s levels, of
/// which every one would have to copy what it leaves alone, and one matrix, whose first rows would
/// be long sums. They have less than n (s / 4 + 5.1) nonzeros, which are as many multiply-adds a
/// sample.
///
/// Source: A. Haar, "Zur Theorie der orthogonalen Funktionensysteme", Mathematische Annalen 69,
/// 1910.
template <Real T>
[[nodiscard]] AnyOperator<T> haar(Index n) {
  detail::require_transform_size("haar", n);
  detail::require(n == 0 || std::has_single_bit(static_cast<std::size_t>(n)), [&] {
    return "haar: the size is " + std::to_string(n) + ", not a power of two";
  });
  AnyOperator<T> result = detail::haar_levels<T>(n, n);
  for (Index first = n / 16; first > 1; first /= 16)
    result = Product<Csr<T>, AnyOperator<T>>(detail::haar_levels<T>(n, first), result);
  return result;
}

/// The circulant matrix with this first column: entry (i, j) is c_((i - j) mod n), y the cyclic
/// convolution of c and x. The transposed is that of (c_0, c_(n-1), ..., c_1). Throws
/// `std::invalid_argument` for an entry that is not finite.
///
/// Of three forms the one with the fewest multiply-adds:
///   - dense, below about n = 80;
///   - F^T B F, F the real Fourier transform in the order that saves permutations, B with two
///     nonzeros in each row, those of a complex product: 4 n (K + J) + 2 n;
///   - the corner of such a matrix of 2 n - 1 or more rows, where n has no divisors that are as
///     good, such as a prime.
template <class Derived>
requires(Derived::ColsAtCompileTime == 1)
    [[nodiscard]] AnyOperator<typename Derived::Scalar> circulant(
        const Eigen::MatrixBase<Derived>& first_column) {
  using T = typename Derived::Scalar;
  const Vector<T> c = first_column;
  const Index n = c.size();
  detail::require_transform_size("circulant", n);
  detail::require_finite(c, "circulant: the first column");
  const auto cost = [](Index size) {
    const Index K = detail::fourier_blocks(size);
    const Index J = size / K;
    return 4.0 * static_cast<double>(size) * static_cast<double>(K + J) +
           2.0 * static_cast<double>(size);
  };
  const double dense = static_cast<double>(n) * static_cast<double>(n);
  const Index wide = detail::circulant_size(2 * n - 1);
  if (dense <= (std::min)(cost(n), cost(wide)))
    return Dense<T>(
        Matrix<T>::NullaryExpr(n, n, [&](Index i, Index j) { return c((i - j + n) % n); }));
  if (cost(n) <= cost(wide)) return detail::circulant_product<T>(c, n);
  Vector<T> longer = Vector<T>::Zero(wide);
  longer.head(n) = c;
  longer.tail(n - 1) = c.tail(n - 1);
  return detail::circulant_product<T>(longer, n);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
