// SPDX-License-Identifier: MIT
// Coordinate descent on the numbers and scales of a rounded weight, in the metric of the inputs.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"
#include "pleat/solve/sparse/grid.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Improves a Q on a grid as a stand-in for W in the metric H. In each span of each row, the scale
/// moves to its least-squares optimum, and then each number to the best, given all others. Takes
/// no step that increases the loss tr((W - Q) H (W - Q)^T); stops where a sweep gains less than
/// `tolerance` of it. Only `places` that are not zero may change, all where it is null. Returns the
/// loss. Cost: m n^2 multiply-adds at first, and as many a sweep.
///
/// Source: K. Behdin et al., "QuantEase", 2023, for the steps on integers.
template <class = void>
double grid_descent(const Matrix<double>& H, const Matrix<double>& Wt, const Grid& grid, OnGrid& Q,
                    const Matrix<double>* places, Index sweeps, const Proceed& proceed = {},
                    double tolerance = 1e-3) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  Matrix<double> Z = multiply(H, Matrix<double>(Wt - Q.values));
  const auto current = [&] { return Z.cwiseProduct(Wt - Q.values).sum(); };
  double loss = current();
  const Index block = std::max<Index>(1, 128 / grid.span) * grid.span;
  Matrix<double> changes((std::min)(block, n), m);
  for (Index sweep = 0; sweep < sweeps; ++sweep) {
    for (Index first = 0; first < n; first += block) {
      const Index count = (std::min)(block, n - first);
      const Matrix<double> square = H.block(first, first, count, count);
      parallel_ranges(m, [&](Index begin, Index end) {
        std::vector<double> gradient(static_cast<std::size_t>(count));
        std::vector<double> product(static_cast<std::size_t>(count));
        for (Index row = begin; row < end; ++row) {
          double* const z = gradient.data();
          std::copy_n(&Z(first, row), count, z);
          double* const s = &Q.values(first, row);
          double* const change = &changes(0, row);
          std::copy_n(s, count, change);  // what was, at first
          const auto move = [&](Index column, double d) {
            const double* const h = &square(0, column);
            for (Index k = 0; k < count; ++k) z[k] -= d * h[k];
          };
          for (Index from = 0; from < count; from += grid.span) {
            const Index to = (std::min)(from + grid.span, count);
            double& scale = Q.scales((first + from) / grid.span, row);
            // The scale: s = scale c, and the loss is a parabola in it.
            double* const Hc = product.data();
            std::fill_n(Hc, count, 0.0);
            double slope = 0;
            double curvature = 0;
            for (Index i = from; i < to; ++i) {
              if (s[i] == 0) continue;
              const double c = grid.number(s[i], scale);
              slope += c * z[i];
              const double* const h = &square(0, i);
              for (Index k = 0; k < count; ++k) Hc[k] += c * h[k];
            }
            for (Index i = from; i < to; ++i)
              if (s[i] != 0) curvature += grid.number(s[i], scale) * Hc[i];
            if (curvature > 0) {
              const double rounded = grid.rounded_scale(scale + slope / curvature);
              const double d = rounded - scale;
              if (rounded != 0 && d * (2 * slope - d * curvature) > 0) {
                for (Index k = 0; k < count; ++k) z[k] -= d * Hc[k];
                for (Index i = from; i < to; ++i) s[i] = rounded * grid.number(s[i], scale);
                scale = rounded;
              }
            }
            for (Index i = from; i < to; ++i) {
              if (places != nullptr && (*places)(first + i, row) == 0) continue;
              const double h = square(i, i);
              if (!(h > 0)) continue;
              const double q = scale * grid.number(s[i] + z[i] / h, scale);
              const double d = q - s[i];
              if (!(d * (2 * z[i] - d * h) > 0)) continue;
              s[i] = q;
              move(i, d);
            }
          }
          for (Index i = 0; i < count; ++i) change[i] -= s[i];
        }
      });
      Dense<double>(H.middleCols(first, count)).apply_add(changes.topRows(count), Z);
      if (proceed &&
          !proceed(static_cast<double>(sweep * n + first + count) / static_cast<double>(sweeps * n),
                   loss))
        return current();
    }
    const double before = loss;
    loss = current();
    if (before - loss <= tolerance * before) break;
  }
  return loss;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
