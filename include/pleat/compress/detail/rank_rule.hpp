// SPDX-License-Identifier: MIT
// Ranks from a spectrum: by energy, by error, by the elbow.
#pragma once

#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <cmath>

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

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
