// SPDX-License-Identifier: MIT
// The sweep of optimal brain surgery over the columns of a weight: prunes, and lets the columns to
// come make up for what was lost.
#pragma once

#include "pleat/compress/detail/inverse_factor.hpp"
#include "pleat/compress/detail/multiply.hpp"
#include "pleat/compress/detail/parallel.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

// In this header and its neighbours a weight W, m x n, is held as W^T, n x m: its rows are
// contiguous, and products with a Gram matrix are H W^T.

/// At most `kept` nonzeros in every `group` consecutive columns of a row; a last group of fewer
/// columns keeps as many where it has them.
struct Pattern {
  Index kept = 2;
  Index group = 4;
};

/// Told between steps what share of them is done, and the loss so far; returns false to stop.
using Proceed = std::function<bool(double done, double loss)>;

/// Marks the `kept` largest of `count` scores; of equal ones the first.
inline void mark_largest(const double* scores, Index count, Index kept, bool* mark) {
  std::fill(mark, mark + count, false);
  for (Index k = 0; k < std::min(kept, count); ++k) {
    Index best = -1;
    for (Index i = 0; i < count; ++i)
      if (!mark[i] && (best < 0 || scores[i] > scores[best])) best = i;
    mark[best] = true;
  }
}

/// The result of a sweep: Q^T, and the sum of e^2 below.
struct Swept {
  Matrix<double> values;
  double loss = 0;
};

/// From left to right, each column is pruned and the columns after it are updated such that the
/// loss in the damped metric H_d = (U^T U)^-1 is least:
///
///     e = (w_i - q_i) / U_ii,   w_j -= e U_ij for j > i,
///
/// for every row by itself. Where a group begins, each row keeps the largest w_k^2 / U_kk^2 of its
/// current weights. The loss tr((W - Q) H_d (W - Q)^T) is the sum of all e^2, exactly. Updates
/// beyond 128 columns are collected into one product. Cost: m n^2 multiply-adds / 2. Nothing where
/// `proceed` stopped it.
///
/// Source: E. Frantar and D. Alistarh, "SparseGPT", ICML 2023, algorithm 1.
[[nodiscard]] inline std::optional<Swept> column_sweep(Matrix<double> Wt,
                                                       const InverseFactor& factor, Pattern pattern,
                                                       const Proceed& proceed = {}) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  const Matrix<double>& U = factor.U;
  const Index block = std::max<Index>(1, 128 / pattern.group) * pattern.group;
  Matrix<double> errors(std::min(block, n), m);
  Vector<double> losses = Vector<double>::Zero(m);
  for (Index first = 0; first < n; first += block) {
    const Index count = std::min(block, n - first);
    const Matrix<double> rows = U.block(first, first, count, count).transpose();
    parallel_ranges(m, [&](Index begin, Index end) {
      std::vector<double> scores(static_cast<std::size_t>(pattern.group));
      const auto mark = std::make_unique<bool[]>(static_cast<std::size_t>(pattern.group));
      for (Index row = begin; row < end; ++row) {
        double* const w = &Wt(first, row);
        double* const e = &errors(0, row);
        double loss = 0;
        for (Index i = 0; i < count; ++i) {
          const Index within = i % pattern.group;
          if (within == 0) {
            const Index width = std::min(pattern.group, count - i);
            for (Index k = 0; k < width; ++k) {
              const double score = w[i + k] / rows(i + k, i + k);
              scores[static_cast<std::size_t>(k)] = score * score;
            }
            mark_largest(scores.data(), width, pattern.kept, mark.get());
          }
          if (mark[static_cast<std::size_t>(within)]) {
            e[i] = 0;
            continue;
          }
          const double* const u = &rows(0, i);
          const double error = w[i] / u[i];
          w[i] = 0;
          for (Index j = i + 1; j < count; ++j) w[j] -= error * u[j];
          e[i] = -error;
          loss += error * error;
        }
        losses(row) += loss;
      }
    });
    const Index next = first + count;
    if (next < n && !factor.diagonal)
      Dense<double>(U.block(first, next, count, n - next).transpose())
          .apply_add(errors.topRows(count), Wt.bottomRows(n - next));
    if (proceed && !proceed(static_cast<double>(next) / static_cast<double>(n), losses.sum()))
      return std::nullopt;
  }
  return Swept{std::move(Wt), losses.sum()};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
