// SPDX-License-Identifier: MIT
// The grids of narrow storage, as the factorizations round to them.
#pragma once

#include "pleat/kernel/table.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/sparse_pattern.hpp"

#include <algorithm>
#include <cmath>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Values that are numbers of a storage times a scale, one for each `span` columns of a row. A span
/// of 0 stands for no grid.
struct Grid {
  Storage storage = Storage::f32;
  Index span = 0;
  Numbers numbers = {};

  /// The grid of a storage for a matrix that stores one in `sparsity` of its columns; none for
  /// floats.
  [[nodiscard]] static Grid of(Storage storage, Index sparsity = 1) {
    if (integer_bits(storage) == 0) return {};
    return {storage, sparsity * static_cast<Index>(kernel::scale_group(format_of(storage))),
            Numbers(storage)};
  }
  /// The same for N:M; none where values that share a scale are not those of whole groups of
  /// columns.
  [[nodiscard]] static Grid of(Storage storage, SparsePattern pattern) {
    if (pattern.group % pattern.kept != 0) return {};
    return of(storage, pattern.group / pattern.kept);
  }

  [[nodiscard]] Index spans(Index cols) const {
    return span > 0 ? (cols + span - 1) / span : Index{0};
  }

  /// The scale for so many values, each within what a scale reaches, for the least squared error
  /// with these weights. May clamp the values.
  [[nodiscard]] double scale_for(double* values, const double* weights, Index count) const {
    if (has_few_bits(storage)) {
      // A sweep may carry a weight beyond what the largest scale reaches.
      const double reach = 65504.0 * numbers(numbers.integers().most);
      for (Index i = 0; i < count; ++i) values[i] = std::clamp(values[i], -reach, reach);
    }
    return group_scale(storage, numbers, values, count, weights).scale;
  }

  /// The scale that storage has nearest; 0 where there is none.
  [[nodiscard]] double rounded_scale(double scale) const {
    const float single = to_single(scale);
    const double rounded = storage == Storage::int8
                               ? to_double(single)
                               : double(static_cast<float>(static_cast<Eigen::half>(single)));
    return is_finite(rounded) && is_finite(127 * static_cast<float>(rounded)) ? rounded : 0;
  }

  /// The number that times the scale is nearest.
  [[nodiscard]] double number(double value, double scale) const {
    return numbers.rounded(value / scale);
  }

  /// The same grid with levels, if these are fitted, closest to a weight, transposed, in a metric
  /// that is diagonal; only to what is not zero of it if it is `sparse`.
  [[nodiscard]] Grid fitted_to(const Matrix<double>& Wt, bool sparse,
                               const Vector<double>& metric) const {
    if (!numbers.are_fitted()) return *this;
    const Index n = Wt.rows();
    Grid result = *this;
    result.numbers = fitted_numbers(storage, Wt.cols() * spans(n), [&](Index at, const auto& add) {
      const Index first = at % spans(n) * span;
      for (Index k = first; k < (std::min)(first + span, n); ++k)
        if (const double value = Wt(k, at / spans(n)); !sparse || value != 0) add(value, metric(k));
    });
    return result;
  }
};

/// A matrix on a grid, transposed: `values` is n x m, `scales` spans x m.
struct OnGrid {
  Matrix<double> values;
  Matrix<double> scales;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
