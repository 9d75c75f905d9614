// SPDX-License-Identifier: MIT
// Coordinate descent on an N:M matrix, a group at a time: better places and the best values, given
// all other groups.
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

/// The places of a group of `width` columns, N of which are kept, as one row after another has
/// them: swaps of a kept place for another, the best first, until none gains. The values are the
/// optimum on their places. For N = 2 of 4 a swap reaches all pairs but one, and `PairChoice` looks
/// at all.
///
/// With K what is kept, P = (H_KK)^-1, v = P h_K and C = H_JK P for the others J, dropping i loses
/// v_i^2 / P_ii, and taking j instead gains r^2 / d with r = h_j - H_jK v + C_ji v_i / P_ii and
/// d = H_jj - C_j H_Kj + C_ji^2 / P_ii. Cost: some N^2 M multiply-adds a swap.
template <class = void>
class SwapChoice {
 public:
  SwapChoice(const Matrix<double>& H, Index column, Index width, Index kept)
      : width_(width),
        kept_((std::min)(kept, width)),
        block_(H.block(column, column, width, width)) {}

  /// For h = H_gg v with v the optimum of all values, the change of `s` to better ones.
  void improve(const double* gradient, const double* s, double* change) const {
    Room room;
    for (Index k = 0; k < width_; ++k) {
      room.h[k] = gradient[k];
      for (Index l = 0; l < width_; ++l) room.h[k] += block_(k, l) * s[l];
      change[k] = 0;
    }
    Index count = 0;
    for (Index k = 0; k < width_ && count < kept_; ++k)
      if (s[k] != 0) room.place[count++] = k;
    for (Index k = 0; k < width_ && count < kept_; ++k)
      if (s[k] == 0) room.place[count++] = k;
    std::fill_n(room.is_kept, width_, false);
    for (Index i = 0; i < kept_; ++i) room.is_kept[room.place[i]] = true;
    if (!solve(room)) return;
    // Each swap gains; so many that it ends soon, whatever rounding does.
    for (Index swap = 0; swap < 2 * kept_ && kept_ < width_; ++swap) {
      const Room before = room;
      if (!take_best_swap(room)) break;
      if (!solve(room)) {
        room = before;
        break;
      }
    }
    for (Index k = 0; k < width_; ++k) change[k] = -s[k];
    for (Index i = 0; i < kept_; ++i) change[room.place[i]] += room.v[i];
  }

 private:
  static constexpr Index most = 32;
  struct Room {
    double h[most];
    Index place[most];
    bool is_kept[most];
    double v[most];
    double P[most][most];
  };

  /// P and v for what is kept; false where it depends on itself.
  [[nodiscard]] bool solve(Room& room) const {
    const Index N = kept_;
    auto& P = room.P;
    for (Index i = 0; i < N; ++i)
      for (Index j = 0; j < N; ++j) P[i][j] = block_(room.place[j], room.place[i]);
    // Gauss and Jordan in place; the pivots of a positive definite matrix are on its diagonal.
    for (Index k = 0; k < N; ++k) {
      const double pivot = P[k][k];
      if (!(pivot > 1e-12 * block_(room.place[k], room.place[k]))) return false;
      const double inverse = 1 / pivot;
      for (Index j = 0; j < N; ++j) P[k][j] *= inverse;
      P[k][k] = inverse;
      for (Index i = 0; i < N; ++i) {
        if (i == k) continue;
        const double factor = P[i][k];
        if (factor == 0) continue;
        for (Index j = 0; j < N; ++j) P[i][j] -= factor * P[k][j];
        P[i][k] = -factor * inverse;
      }
    }
    for (Index i = 0; i < N; ++i) {
      room.v[i] = 0;
      for (Index j = 0; j < N; ++j) room.v[i] += P[i][j] * room.h[room.place[j]];
    }
    return true;
  }

  /// False where no swap gains.
  [[nodiscard]] bool take_best_swap(Room& room) const {
    double best = 0;
    Index drop = -1;
    Index take = -1;
    double of_drop[most];
    double total = 0;  // what is kept explains
    for (Index i = 0; i < kept_; ++i) {
      of_drop[i] = room.v[i] / room.P[i][i];
      total += room.v[i] * room.h[room.place[i]];
    }
    for (Index j = 0; j < width_; ++j) {
      if (room.is_kept[j]) continue;
      double r = room.h[j];
      double d = block_(j, j);
      const double whole = d;
      double c[most];
      for (Index i = 0; i < kept_; ++i) {
        c[i] = 0;
        for (Index k = 0; k < kept_; ++k) c[i] += room.P[k][i] * block_(room.place[k], j);
        r -= block_(room.place[i], j) * room.v[i];
        d -= c[i] * block_(room.place[i], j);
      }
      for (Index i = 0; i < kept_; ++i) {
        const double left = d + c[i] * c[i] / room.P[i][i];
        if (!(left > 1e-10 * whole)) continue;
        const double reach = r + c[i] * of_drop[i];
        const double gain = reach * reach / left - of_drop[i] * room.v[i];
        if (gain > best) {
          best = gain;
          drop = i;
          take = j;
        }
      }
    }
    if (drop < 0 || !(best > 1e-12 * total)) return false;
    room.is_kept[room.place[drop]] = false;
    room.is_kept[take] = true;
    room.place[drop] = take;
    return true;
  }

  Index width_;
  Index kept_;
  Matrix<double> block_;
};

/// The choices of the groups of some columns.
template <class = void>
class GroupChoices {
 public:
  GroupChoices(const Matrix<double>& H, SparsePattern pattern) : group_(pattern.group) {
    for (Index first = 0; first < H.rows(); first += group_) {
      const Index width = (std::min)(group_, H.rows() - first);
      if (pattern == SparsePattern{2, 4}) pairs_.emplace_back(H, first, width);
      else swaps_.emplace_back(H, first, width, pattern.kept);
    }
  }
  void improve(Index first, const double* gradient, const double* s, double* change) const {
    const auto group = static_cast<std::size_t>(first / group_);
    if (pairs_.empty()) swaps_[group].improve(gradient, s, change);
    else pairs_[group].improve(gradient, s, change);
  }

 private:
  Index group_;
  std::vector<PairChoice<>> pairs_{};
  std::vector<SwapChoice<>> swaps_{};
};

/// Improves S, an N:M stand-in for W with M a divisor of 128, in the metric H by sweeps over its
/// groups: each in turn takes better places, for 2:4 the best of all, and the best values on them,
/// given all others. Never increases the loss tr((W - S) H (W - S)^T), and stops where a sweep
/// gains less than `tolerance` of it. Returns the loss. W^T and S^T are n x m. Cost: 2 m n^2
/// multiply-adds at first, m n^2 a sweep.
template <class = void>
double group_descent(const Matrix<double>& H, const Matrix<double>& Wt, Matrix<double>& St,
                     SparsePattern pattern, Index sweeps, const Proceed& proceed = {},
                     double tolerance = 1e-4) {
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
      const GroupChoices<> groups(square, pattern);
      parallel_ranges(m, [&](Index begin, Index end) {
        std::vector<double> local(static_cast<std::size_t>(count));
        for (Index row = begin; row < end; ++row) {
          double* const z = local.data();
          std::copy_n(&Z(first, row), count, z);
          double* const s = &St(first, row);
          double* const change = &changes(0, row);
          for (Index i = 0; i < count; i += pattern.group) {
            const Index width = (std::min)(pattern.group, count - i);
            groups.improve(i, z + i, s + i, change + i);
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
