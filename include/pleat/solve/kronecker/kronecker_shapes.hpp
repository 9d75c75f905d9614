// SPDX-License-Identifier: MIT
// Which shapes a sum of Kronecker products may have, and how much of a weight each of them leaves.
#pragma once

#include "pleat/factor/kronecker.hpp"
#include "pleat/solve/linear/largest_that.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/random.hpp"
#include "pleat/solve/linear/square_root.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// n / by, rounded up.
[[nodiscard]] constexpr Index divided_up(Index n, Index by) noexcept { return (n + by - 1) / by; }

/// Into how many parts of one size n things may be cut, at most 12 numbers from 1 to n: the
/// divisors of n; where none of them is near its root, those of the next multiples of 8 and of 16,
/// too, of which the last part then has less.
template <class = void>
[[nodiscard]] std::vector<Index> part_counts(Index n) {
  std::vector<Index> counts;
  const auto add_divisors = [&](Index whole) {
    for (Index d = 1; d * d <= whole; ++d)
      if (whole % d == 0)
        for (const Index count : {d, whole / d})
          if (count <= n && divided_up(n, divided_up(n, count)) == count) counts.push_back(count);
  };
  add_divisors(n);
  const double root = std::sqrt(static_cast<double>(n));
  if (n > 4 && std::none_of(counts.begin(), counts.end(), [&](Index count) {
        return static_cast<double>(count) >= root / 4 && static_cast<double>(count) <= 4 * root &&
               count > 1 && count < n;
      }))
    for (const Index multiple : {8, 16}) add_divisors(divided_up(n, multiple) * multiple);
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  constexpr std::size_t most = 12;
  if (counts.size() <= most) return counts;
  std::vector<Index> spread;  // evenly on a logarithmic scale
  for (std::size_t k = 0; k < most; ++k) {
    const double wanted = std::log(static_cast<double>(n)) * double(k) / double(most - 1);
    const auto distance = [&](Index count) {
      return std::abs(std::log(static_cast<double>(count)) - wanted);
    };
    const Index nearest = *std::min_element(
        counts.begin(), counts.end(), [&](Index x, Index y) { return distance(x) < distance(y); });
    if (spread.empty() || spread.back() < nearest) spread.push_back(nearest);
  }
  return spread;
}

/// The shape of one term of an m x n matrix, A_1 of m1 x n1.
[[nodiscard]] constexpr KroneckerShape shape_of_term(Index m, Index n, Index m1,
                                                     Index n1) noexcept {
  return {m, n, m1, n1, divided_up(m, m1), divided_up(n, n1), 1};
}
/// The same shape with so many terms.
[[nodiscard]] constexpr KroneckerShape with_terms(KroneckerShape shape, Index terms) noexcept {
  shape.terms = terms;
  return shape;
}
/// As many terms of a shape are exact.
[[nodiscard]] constexpr Index most_terms(const KroneckerShape& shape) noexcept {
  return (std::min)(shape.left_rows * shape.left_cols, shape.right_rows * shape.right_cols);
}

/// The most terms of a shape that take at most `limit` bytes, 0 if not even one does.
template <Real T>
[[nodiscard]] Index terms_within(const KroneckerShape& shape, std::size_t limit, Storage storage) {
  return largest_that(1, most_terms(shape), [&](Index terms) {
    return Kronecker<T>::stored_bytes(with_terms(shape, terms), storage) <= limit;
  });
}

/// A shape, and the squared singular values of W rearranged for it, descending, of all of it or of
/// a sample of its rows and columns.
struct KroneckerCandidate {
  KroneckerShape shape;
  Vector<double> spectrum;

  /// The share of W that so many terms leave; of a sample, as large a share of the terms.
  [[nodiscard]] double left_by(Index terms) const {
    const double total = spectrum.sum();
    if (!(total > 0)) return 0;
    const double share = static_cast<double>(spectrum.size()) / double(most_terms(shape));
    const Index kept = std::clamp<Index>(std::lround(share * double(terms)), 1, spectrum.size());
    return spectrum.tail(spectrum.size() - kept).sum() / total;
  }
};

/// A candidate for a shape: at most 160 of the fewer rows or columns of the rearranged W, and 640
/// of the others, one from each of as many even ranges. Cost: some 2e7 multiply-adds, whatever the
/// size of W.
template <class = void>
[[nodiscard]] KroneckerCandidate kronecker_candidate(const Matrix<double>& W,
                                                     const KroneckerShape& shape,
                                                     std::uint64_t seed) {
  const Index rows = shape.left_rows * shape.left_cols;
  const Index cols = shape.right_rows * shape.right_cols;
  Random random(seed);
  const auto sampled = [&](Index size, bool fewer) {
    const Index count = std::min<Index>(size, fewer ? 160 : 640);
    std::vector<Index> chosen;
    for (Index k = 0; k < count; ++k) {
      const Index begin = k * size / count;
      const Index end = (k + 1) * size / count;
      const double at = random.uniform();
      chosen.push_back((std::min)(end - 1, begin + static_cast<Index>(at * double(end - begin))));
    }
    return chosen;
  };
  const std::vector<Index> of_left = sampled(rows, rows <= cols);
  const std::vector<Index> of_right = sampled(cols, rows > cols);
  Matrix<double> R(static_cast<Index>(of_left.size()), static_cast<Index>(of_right.size()));
  for (Index j = 0; j < R.cols(); ++j)
    for (Index i = 0; i < R.rows(); ++i) {
      const Index left = of_left[static_cast<std::size_t>(i)];
      const Index right = of_right[static_cast<std::size_t>(j)];
      const Index row = left % shape.left_rows * shape.right_rows + right % shape.right_rows;
      const Index col = left / shape.left_rows * shape.right_cols + right / shape.right_rows;
      R(i, j) = row < W.rows() && col < W.cols() ? W(row, col) : 0;
    }
  const Matrix<double> K = R.rows() <= R.cols() ? outer_gram(R) : outer_gram(R.transpose());
  return {shape, eigenpairs(K, Eigen::EigenvaluesOnly).eigenvalues().reverse().cwiseMax(0)};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
