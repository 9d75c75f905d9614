// SPDX-License-Identifier: MIT
// The values of kept blocks rounded to a grid, in the metric of the inputs that they see.
#pragma once

#include "pleat/matrix/block_sparse.hpp"
#include "pleat/solve/linear/inverse_factor.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/sparse/block_refit.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"
#include "pleat/solve/sparse/grid_descent.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Rows that keep the same columns.
struct AlikeRows {
  std::vector<Index> columns;
  std::vector<Index> rows;
};

/// The rows of blocks that are kept, those together that keep the same columns.
template <class = void>
[[nodiscard]] std::vector<AlikeRows> alike_rows(const Matrix<bool>& kept, const BlockGrid& grid) {
  std::map<std::vector<Index>, std::vector<Index>> found;
  for (Index i = 0; i < grid.tall(); ++i) {
    std::vector<Index> columns = kept_columns(kept, grid, i);
    if (columns.empty()) continue;
    std::vector<Index>& rows = found[std::move(columns)];
    for (Index row = 0; row < grid.height(i); ++row) rows.push_back(grid.top(i) + row);
  }
  std::vector<AlikeRows> result;
  result.reserve(found.size());
  for (auto& [columns, rows] : found) result.push_back({columns, std::move(rows)});
  return result;
}

/// The grid with levels, if these are fitted, closest to the kept values of S, each weighted by the
/// diagonal of H.
template <class = void>
[[nodiscard]] Grid fitted_to_blocks(const Grid& grid, const Matrix<double>& S,
                                    const Matrix<double>& H, const std::vector<AlikeRows>& all) {
  if (!grid.numbers.are_fitted()) return grid;
  std::vector<Index> firsts{0};  // of the groups of values of each of `all`
  for (const AlikeRows& alike : all)
    firsts.push_back(firsts.back() + static_cast<Index>(alike.rows.size()) *
                                         grid.spans(static_cast<Index>(alike.columns.size())));
  Grid result = grid;
  result.numbers = fitted_numbers(grid.storage, firsts.back(), [&](Index at, const auto& add) {
    const auto next = std::upper_bound(firsts.begin(), firsts.end(), at);
    const AlikeRows& alike = all[static_cast<std::size_t>(next - firsts.begin() - 1)];
    const auto size = static_cast<Index>(alike.columns.size());
    const Index group = at - *(next - 1);
    const Index row = alike.rows[static_cast<std::size_t>(group / grid.spans(size))];
    const Index first = group % grid.spans(size) * grid.span;
    for (Index k = first; k < (std::min)(first + grid.span, size); ++k) {
      const Index col = alike.columns[static_cast<std::size_t>(k)];
      add(S(row, col), H(col, col));
    }
  });
  return result;
}

/// S, zero where no block is kept, with its kept values rounded to a grid such that each row stays
/// close to S in the metric H_KK of the columns K that it keeps: the column sweep, which lets later
/// columns make up for the rounding of earlier ones, then descent on numbers and scales. Where S is
/// the optimum on these places, what that adds to the loss in H is exactly this. Of the result,
/// `values` are m x n, and `scales` m x spans(n), of which a row uses as many as its kept columns
/// have. Cost: for each set of columns that a block row keeps, k^3 multiply-adds, and some 10 k^2
/// for each row; where all of these k^3 are too many, the sweep is without compensation. Nothing
/// where `proceed` stopped it.
template <class = void>
[[nodiscard]] std::optional<OnGrid> round_blocks(const Matrix<double>& S, const Matrix<double>& H,
                                                 const std::vector<AlikeRows>& all,
                                                 const Grid& grid, const Proceed& proceed = {}) {
  OnGrid result{Matrix<double>::Zero(S.rows(), S.cols()),
                Matrix<double>::Ones(S.rows(), grid.spans(S.cols()))};
  double factors = 0;
  double work = 0;
  for (const AlikeRows& alike : all) {
    const auto size = static_cast<double>(alike.columns.size());
    factors += size * size * size;
    work += size * size * static_cast<double>(alike.rows.size());
  }
  const auto sweeps = static_cast<Index>(std::clamp(3e11 / work, 3.0, 12.0));
  double done = 0;
  for (const AlikeRows& alike : all) {
    const auto size = static_cast<Index>(alike.columns.size());
    const Matrix<double> own = H(alike.columns, alike.columns);
    const Matrix<double> start = S(alike.rows, alike.columns).transpose();
    InverseFactor factor;
    if (factors <= 1e12) {
      factor = inverse_factor(own);
    } else {
      factor.diagonal = true;
      factor.U = Matrix<double>::Zero(size, size);
      factor.U.diagonal() = own.diagonal().cwiseSqrt().cwiseInverse();
    }
    auto swept = column_sweep(start, factor, SweepRule{{1, 1}, nullptr, grid});
    OnGrid found{std::move(swept->values), std::move(swept->scales)};
    (void)grid_descent(own, start, grid, found, nullptr, sweeps);
    result.values(alike.rows, alike.columns) = found.values.transpose();
    result.scales(alike.rows, Eigen::seqN(0, found.scales.rows())) = found.scales.transpose();
    done += double(size) * double(size) * (double(size) + double(alike.rows.size()));
    if (proceed && !proceed(done / (factors + work), 1)) return std::nullopt;
  }
  return result;
}

/// `nearest` with its values as above where `native` has the blocks as they are, in a storage with
/// a grid; nothing where it was stopped.
template <Real T>
[[nodiscard]] std::optional<BlockSparse<T>> rounded_blocks(const BlockSparse<T>& native,
                                                           const BlockSparse<T>& nearest,
                                                           const Matrix<double>& H,
                                                           const Grid& grid,
                                                           const Proceed& proceed = {}) {
  const Matrix<bool> kept = native.kept();
  const BlockGrid blocks{native.rows(), native.cols(), native.block_rows(), native.block_cols()};
  const std::vector<AlikeRows> all = alike_rows(kept, blocks);
  // In numbers as the storage has them.
  const int exponent = nearest.exponent();
  const Matrix<double> S = native.to_dense().template cast<double>() * std::ldexp(1.0, -exponent);
  const Grid own = fitted_to_blocks(grid, S, H, all);
  const std::optional<OnGrid> found = round_blocks(S, H, all, own, proceed);
  if (!found) return std::nullopt;
  const Matrix<T> values = (found->values * std::ldexp(1.0, exponent)).template cast<T>();
  const Matrix<float> scales =
      found->scales.unaryExpr([](double scale) { return to_single(scale); });
  return BlockSparse<T>(values, blocks.block_rows, blocks.block_cols, kept, nearest.storage(),
                        scales, exponent, own.numbers.levels());
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
