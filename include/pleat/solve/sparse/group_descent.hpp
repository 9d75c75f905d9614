// SPDX-License-Identifier: MIT
// Coordinate descent on a 2:4 matrix, a group at a time: the best two places and values, given all
// other groups.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The pairs of places in a group of `width` columns, each with the inverse of its 2 x 2 block of
/// H; in a group of one column, that column with itself.
template <class = void>
class PairChoice {
 public:
  struct Pair {
    Index first, second;
    double a, b, c;  // of the inverse [a b; b c]
  };

  PairChoice(const Matrix<double>& H, Index column, Index width) : width_(width) {
    for (Index k = 0; k < 4; ++k)
      for (Index l = 0; l < 4; ++l)
        block_[k][l] = k < width && l < width ? H(column + k, column + l) : 0;
    if (width == 1) {
      pairs_[size_++] = {0, 0, block_[0][0] > 0 ? 1 / block_[0][0] : 0, 0, 0};
      return;
    }
    for (Index k = 0; k < width; ++k)
      for (Index l = k + 1; l < width; ++l) pairs_[size_++] = inverse(k, l);
  }

  /// For h = H_gg v with v the optimum of all four values, the change of `s` to the best two.
  void improve(const double* gradient, const double* s, double* change) const {
    double h[4] = {};
    for (Index k = 0; k < width_; ++k) {
      h[k] = gradient[k];
      for (Index l = 0; l < width_; ++l) h[k] += block_[k][l] * s[l];
    }
    Index best = 0;
    double gain = -1;
    for (Index p = 0; p < size_; ++p) {
      const Pair& pair = pairs_[p];
      const double x = h[pair.first];
      const double y = h[pair.second];
      const double candidate = pair.a * x * x + 2 * pair.b * x * y + pair.c * y * y;
      if (candidate > gain) {
        gain = candidate;
        best = p;
      }
    }
    const Pair& pair = pairs_[best];
    for (Index k = 0; k < width_; ++k) change[k] = -s[k];
    change[pair.first] += pair.a * h[pair.first] + pair.b * h[pair.second];
    if (width_ > 1) change[pair.second] += pair.b * h[pair.first] + pair.c * h[pair.second];
  }

 private:
  [[nodiscard]] Pair inverse(Index k, Index l) const {
    const double x = block_[k][k];
    const double y = block_[l][l];
    const double z = block_[k][l];
    const double determinant = x * y - z * z;
    if (determinant > 1e-14 * x * y)
      return {k, l, y / determinant, -z / determinant, x / determinant};
    // Parallel columns: the larger alone does what both could.
    return x >= y ? Pair{k, l, x > 0 ? 1 / x : 0, 0, 0} : Pair{k, l, 0, 0, 1 / y};
  }

  Index width_;
  Index size_ = 0;
  double block_[4][4] = {};
  Pair pairs_[6] = {};
};

/// Improves S, a 2:4 stand-in for W, in the metric H by sweeps over its groups: each in turn takes
/// the two places and values, of six pairs, that are the best given all others. Never increases
/// the loss tr((W - S) H (W - S)^T), and stops where a sweep gains less than `tolerance` of it.
/// Returns the loss. W^T and S^T are n x m. Cost: 2 m n^2 multiply-adds at first, m n^2 a sweep.
template <class = void>
double group_descent(const Matrix<double>& H, const Matrix<double>& Wt, Matrix<double>& St,
                     Index sweeps, const Proceed& proceed = {}, double tolerance = 1e-4) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  Matrix<double> Z = multiply(H, Matrix<double>(Wt - St));
  double loss = Z.cwiseProduct(Wt - St).sum();
  constexpr Index block = 128;
  Matrix<double> changes((std::min)(block, n), m);
  for (Index sweep = 0; sweep < sweeps; ++sweep) {
    for (Index first = 0; first < n; first += block) {
      const Index count = (std::min)(block, n - first);
      const Matrix<double> square = H.block(first, first, count, count);
      std::vector<PairChoice<>> groups;
      for (Index i = 0; i < count; i += 4)
        groups.emplace_back(square, i, std::min<Index>(4, count - i));
      parallel_ranges(m, [&](Index begin, Index end) {
        std::vector<double> local(static_cast<std::size_t>(count));
        for (Index row = begin; row < end; ++row) {
          double* const z = local.data();
          std::copy_n(&Z(first, row), count, z);
          double* const s = &St(first, row);
          double* const change = &changes(0, row);
          for (Index i = 0; i < count; i += 4) {
            const Index width = std::min<Index>(4, count - i);
            groups[static_cast<std::size_t>(i / 4)].improve(z + i, s + i, change + i);
            for (Index k = i; k < i + width; ++k) {
              s[k] += change[k];
              if (change[k] == 0) continue;
              const double d = change[k];
              const double* const column = &square(0, k);
              for (Index j = 0; j < count; ++j) z[j] -= d * column[j];
            }
          }
          for (Index i = 0; i < count; ++i) change[i] = -change[i];
        }
      });
      Dense<double>(H.middleCols(first, count)).apply_add(changes.topRows(count), Z);
      if (proceed && !proceed((static_cast<double>(sweep * n + first + count)) /
                                  static_cast<double>(sweeps * n),
                              loss))
        return Z.cwiseProduct(Wt - St).sum();
    }
    const double before = loss;
    loss = Z.cwiseProduct(Wt - St).sum();
    if (before - loss <= tolerance * before) break;
  }
  return loss;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
