// SPDX-License-Identifier: MIT
// Which sparse matrices the one beside a low rank is chosen from, and the nearest of them.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/matrix/sparse_pattern.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// N:M matrices; or those with at most `count` entries, wherever they are; or those with at most
/// `count` columns that are not 0. Matrices are held transposed, n x m.
struct SparseRule {
  enum class Kind : std::uint8_t { pattern, entries, columns };
  Kind kind = Kind::pattern;
  SparsePattern pattern = {};
  Index count = 0;
};

/// The larger ones of all scores, `count` of them, as marks; of equal ones the first.
inline std::vector<bool> largest_of(const Vector<double>& scores, Index count) {
  const auto size = static_cast<std::size_t>(scores.size());
  std::vector<bool> marks(size, count >= scores.size());
  if (count <= 0 || count >= scores.size()) return marks;
  std::vector<double> sorted(scores.data(), scores.data() + scores.size());
  const auto last = sorted.begin() + (count - 1);
  std::nth_element(sorted.begin(), last, sorted.end(), std::greater<>());
  const double least = *last;
  Index taken = 0;
  for (std::size_t i = 0; i < size; ++i)
    if (scores(static_cast<Index>(i)) > least) {
      marks[i] = true;
      ++taken;
    }
  for (std::size_t i = 0; i < size && taken < count; ++i)
    if (scores(static_cast<Index>(i)) == least) {
      marks[i] = true;
      ++taken;
    }
  return marks;
}

/// D <- the nearest to V, entry by entry, that the rule allows.
template <class = void>
void project(const SparseRule& rule, const Matrix<double>& V, Matrix<double>& D) {
  const Index n = V.rows();
  const Index m = V.cols();
  if (rule.kind == SparseRule::Kind::columns) {
    const std::vector<bool> marks = largest_of(V.rowwise().squaredNorm(), rule.count);
    for (Index i = 0; i < n; ++i)
      if (marks[static_cast<std::size_t>(i)]) D.row(i) = V.row(i);
      else D.row(i).setZero();
    return;
  }
  if (rule.kind == SparseRule::Kind::entries) {
    const std::vector<bool> marks = largest_of(V.cwiseAbs().reshaped(), rule.count);
    for (Index i = 0; i < V.size(); ++i)
      D.data()[i] = marks[static_cast<std::size_t>(i)] ? V.data()[i] : 0;
    return;
  }
  parallel_ranges(m, [&](Index begin, Index end) {
    LargestOfGroups keep(rule.pattern, n);
    for (Index row = begin; row < end; ++row) keep(&V(0, row), &D(0, row));
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
