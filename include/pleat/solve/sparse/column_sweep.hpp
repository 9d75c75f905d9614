// SPDX-License-Identifier: MIT
// The sweep of optimal brain surgery over the columns of a weight: prunes, rounds, or both, and
// lets the columns to come make up for what was lost.
#pragma once

#include "pleat/matrix/sparse_pattern.hpp"
#include "pleat/solve/linear/inverse_factor.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/sparse/grid.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

// In this header and its neighbours a weight W, m x n, is held as W^T, n x m: its rows are
// contiguous, and products with a Gram matrix are H W^T.

/// Marks the `kept` largest of `count` scores; of equal ones the first.
inline void mark_largest(const double* scores, Index count, Index kept, bool* mark) {
  if (count <= 32) {  // without branches, which nothing predicts: by how many are larger
    Index marked = 0;
    for (Index i = 0; i < count; ++i) {
      Index larger = 0;
      for (Index j = 0; j < i; ++j) larger += scores[j] >= scores[i] ? 1 : 0;
      for (Index j = i + 1; j < count; ++j) larger += scores[j] > scores[i] ? 1 : 0;
      mark[i] = larger < kept;
      marked += mark[i] ? 1 : 0;
    }
    if (marked == (std::min)(kept, count)) return;  // no NaN
  }
  for (Index i = 0; i < count; ++i) mark[i] = false;
  for (Index k = 0; k < (std::min)(kept, count); ++k) {
    Index best = -1;
    for (Index i = 0; i < count; ++i)
      if (!mark[i] && (best < 0 || scores[i] > scores[best])) best = i;
    mark[best] = true;
  }
}

/// Of each group of a row the largest numbers as they are, the others 0: the closest of a pattern.
class LargestOfGroups {
 public:
  LargestOfGroups(SparsePattern pattern, Index length)
      : pattern_(pattern),
        length_(length),
        scores_(static_cast<std::size_t>((std::min)(length, pattern.group))),
        marks_(std::make_unique<bool[]>(scores_.size())) {}

  /// d <- what is kept of v.
  void operator()(const double* v, double* d) {
    for (Index first = 0; first < length_; first += pattern_.group) {
      const Index width = (std::min)(pattern_.group, length_ - first);
      for (Index k = 0; k < width; ++k)
        scores_[static_cast<std::size_t>(k)] = std::abs(v[first + k]);
      mark_largest(scores_.data(), width, pattern_.kept, marks_.get());
      for (Index k = 0; k < width; ++k)
        d[first + k] = marks_[static_cast<std::size_t>(k)] ? v[first + k] : 0;
    }
  }

 private:
  SparsePattern pattern_;
  Index length_;
  std::vector<double> scores_;
  std::unique_ptr<bool[]> marks_;
};

/// What a sweep does to a weight: prune it to a pattern, or to the places where another matrix is
/// not zero; and round it to a grid.
struct SweepRule {
  SparsePattern pattern = {1, 1};
  const Matrix<double>* places = nullptr;  // transposed; instead of a pattern
  Grid grid = {};
};

/// The result of a sweep, transposed, and the sum of e^2 below.
struct Swept {
  Matrix<double> values;
  Matrix<double> scales;  // of the grid: spans x m
  double loss = 0;
};

/// From left to right, each column is pruned or rounded, and the columns after it are updated such
/// that the loss in the damped metric H_d = (U^T U)^-1 is least:
///
///     e = (w_i - q_i) / U_ii,   w_j -= e U_ij for j > i,
///
/// for every row by itself. Where a group begins, each row keeps the largest w_k^2 / U_kk^2 of its
/// current weights; where a span of the grid begins, its scale is that of the current weights that
/// are kept, or would be, of the least sum of e^2 as far as they do not change. The loss tr((W - Q)
/// H_d (W - Q)^T) is the sum of all e^2, exactly. Updates beyond a batch of about 128 columns are
/// collected into one product. Cost: m n^2 / 2 multiply-adds. Nothing where `proceed` stopped it.
///
/// Sources: E. Frantar and D. Alistarh, "SparseGPT", ICML 2023, algorithm 1; E. Frantar et al.,
/// "GPTQ", ICLR 2023, which is the sweep that only rounds.
template <class = void>
[[nodiscard]] std::optional<Swept> column_sweep(Matrix<double> Wt, const InverseFactor& factor,
                                                const SweepRule& rule,
                                                const Proceed& proceed = {}) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  const Matrix<double>& U = factor.U;
  const Index kept = rule.pattern.kept;
  const Index group = rule.pattern.group;
  const Grid& grid = rule.grid;
  const Index unit = std::lcm(group, std::max<Index>(1, grid.span));
  const Index block = std::max<Index>(1, 128 / unit) * unit;
  Swept result{{}, Matrix<double>(grid.spans(n), m), 0};
  Matrix<double> errors((std::min)(block, n), m);
  Vector<double> losses = Vector<double>::Zero(m);
  for (Index first = 0; first < n; first += block) {
    const Index count = (std::min)(block, n - first);
    const Matrix<double> rows = U.block(first, first, count, count).transpose();
    parallel_ranges(m, [&](Index begin, Index end) {
      std::vector<double> scratch(static_cast<std::size_t>((std::max)(group, grid.span)));
      std::vector<double> weights(scratch.size());  // of errors in the loss
      // Marks what is kept of the columns [i, i + count) of the block.
      const auto mark = [&](const double* w, Index row, Index i, bool* marks) {
        const Index width = (std::min)(group, count - i);
        if (rule.places != nullptr) {
          for (Index k = 0; k < width; ++k) marks[k] = (*rule.places)(first + i + k, row) != 0;
          return;
        }
        for (Index k = 0; k < width; ++k) {
          const double score = w[i + k] / rows(i + k, i + k);
          scratch[static_cast<std::size_t>(k)] = score * score;
        }
        mark_largest(scratch.data(), width, kept, marks);
      };
      const auto marks = std::make_unique<bool[]>(static_cast<std::size_t>(unit));
      for (Index row = begin; row < end; ++row) {
        double* const w = &Wt(first, row);
        double* const e = &errors(0, row);
        double loss = 0;
        double scale = 1;
        for (Index i = 0; i < count; ++i) {
          if (grid.span > 0 && i % grid.span == 0) {
            const Index width = (std::min)(grid.span, count - i);
            for (Index k = 0; k < width; k += group) mark(w, row, i + k, marks.get() + k);
            std::size_t taken = 0;
            for (Index k = 0; k < width; ++k)
              if (marks[static_cast<std::size_t>(k)]) {
                const double u = rows(i + k, i + k);
                scratch[taken] = w[i + k];
                weights[taken++] = 1 / (u * u);
              }
            scale = grid.scale_for(scratch.data(), weights.data(), static_cast<Index>(taken));
            result.scales((first + i) / grid.span, row) = scale;
          }
          if (i % group == 0) mark(w, row, i, marks.get());
          const bool keeps = marks[static_cast<std::size_t>(i % group)];
          double q = keeps ? w[i] : 0;
          if (keeps && grid.span > 0) q = scale * grid.number(q, scale);
          const double* const u = &rows(0, i);
          const double error = (w[i] - q) / u[i];
          w[i] = q;
          e[i] = -error;
          if (error == 0) continue;
          for (Index j = i + 1; j < count; ++j) w[j] -= error * u[j];
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
  result.values = std::move(Wt);
  result.loss = losses.sum();
  return result;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
