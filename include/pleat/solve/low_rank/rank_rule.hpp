// SPDX-License-Identifier: MIT
// Ranks from a spectrum, by energy, by error, by the elbow; and from a number of bytes.
#pragma once

#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

// Every spectrum here holds squared singular values, descending, none negative.

/// The smallest rank r >= 1 whose tail, sum over i > r, is at most `tail`. Sums from the small end,
/// so that small tails are not lost in the rounding of large ones.
[[nodiscard]] inline Index tail_rank(const Vector<double>& spectrum, double tail) {
  double sum = 0;
  Index rank = spectrum.size();
  while (rank > 1 && sum + spectrum(rank - 1) <= tail) sum += spectrum(--rank);
  return rank;
}

/// The smallest rank that keeps the share `energy` of the sum.
[[nodiscard]] inline Index energy_rank(const Vector<double>& spectrum, double energy) {
  return tail_rank(spectrum, (1 - energy) * spectrum.sum());
}

/// The smallest rank with relative error at most `error`.
[[nodiscard]] inline Index error_rank(const Vector<double>& spectrum, double error) {
  return tail_rank(spectrum, error * error * spectrum.sum());
}

/// The elbow: the singular value farthest below the chord from the first to the last one, both axes
/// scaled to [0, 1], singular values on a logarithmic scale. Values at rounding level are left out.
[[nodiscard]] inline Index elbow_rank(const Vector<double>& spectrum) {
  const double least = spectrum.size() > 0 ? spectrum(0) * 1e-24 : 0;
  Index count = 0;
  while (count < spectrum.size() && spectrum(count) > least) ++count;
  if (count < 3) return std::max<Index>(count, 1);
  const double top = std::log(spectrum(0));
  const double range = top - std::log(spectrum(count - 1));
  if (!(range > 0)) return count;
  Index elbow = 0;
  double farthest = 0;
  for (Index i = 0; i < count; ++i) {
    const double x = static_cast<double>(i) / static_cast<double>(count - 1);
    const double below = 1 - x - (1 - (top - std::log(spectrum(i))) / range);
    if (below > farthest) {
      farthest = below;
      elbow = i;
    }
  }
  // The elbow is the first value of the flat part: the ranks before it are worth keeping.
  return std::max<Index>(elbow, 1);
}

/// Bytes of two factors, m x rank and rank x n.
[[nodiscard]] inline std::size_t low_rank_bytes(Index m, Index n, Index rank, Storage storage) {
  const auto r = static_cast<std::size_t>(rank);
  return matrix_bytes(storage, static_cast<std::size_t>(m), r) +
         matrix_bytes(storage, r, static_cast<std::size_t>(n));
}

/// The largest rank of an m x n matrix whose factors take at most `limit` bytes; 0 if not even
/// rank 1 does.
[[nodiscard]] inline Index largest_rank(Index m, Index n, std::size_t limit, Storage storage) {
  Index fits = 0;
  for (Index above = (std::min)(m, n) + 1; fits + 1 < above;) {
    const Index middle = fits + (above - fits) / 2;
    (low_rank_bytes(m, n, middle, storage) <= limit ? fits : above) = middle;
  }
  return fits;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
