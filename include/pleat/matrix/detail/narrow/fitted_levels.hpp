// SPDX-License-Identifier: MIT
// Levels fitted to a matrix, each group of whose values has a scale of its own.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/kernel/table.hpp"
#include "pleat/matrix/detail/narrow/numbers.hpp"
#include "pleat/matrix/detail/narrow/rounding.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The fit of a table of levels to groups of values, weighted where there are weights: Lloyd's
/// algorithm, in which the scale of each group is searched anew for the levels, and each level but
/// 0 then moved to where the error of the values that are rounded to it is least. Never worse on
/// these groups than levels that lie as far apart as integers do. Cost: up to 12 times that of
/// rounding the groups.
///
/// Sources: S. Lloyd, "Least squares quantization in PCM", 1982; S. Kim et al., "SqueezeLLM", ICML
/// 2024, for weights, with a table for each row and no scales.
class LevelFit {
 public:
  explicit LevelFit(Storage storage) : storage_(storage) {}

  /// The values of a group, at most as many as share a scale, and their weights.
  void add(const double* values, const double* weights, Index count) {
    if (count <= 0) return;
    groups_.push_back({values_.size(), count});
    values_.insert(values_.end(), values, values + count);
    weights_.insert(weights_.end(), weights, weights + count);
  }

  [[nodiscard]] Numbers numbers() const {
    Numbers best(storage_);
    if (!best.are_fitted()) return best;
    double least = std::numeric_limits<double>::infinity();
    Numbers numbers = best;
    for (int round = 0; round < 12; ++round) {
      Sums sums;
      const double error = round_all(numbers, sums);
      if (!(error < least)) break;
      const bool is_done = error > least * (1 - 1e-3);
      least = error;
      best = numbers;
      if (is_done) break;
      numbers = moved(numbers, sums);
    }
    return best;
  }

 private:
  struct Group {
    std::size_t first;
    Index count;
  };
  /// Of the values that were rounded to each integer, -8 to 7: w s v and w s^2, s the scale.
  struct Sums {
    std::array<double, 16> along{};
    std::array<double, 16> square{};
  };

  double round_all(const Numbers& numbers, Sums& sums) const {
    double error = 0;
    for (const Group& group : groups_) {
      const double* const values = values_.data() + group.first;
      const double* const weights = weights_.data() + group.first;
      const double scale = ScaleSearch(numbers, values, weights, group.count).best();
      if (!is_finite(scale)) continue;
      for (Index i = 0; i < group.count; ++i) {
        const int q = numbers.nearest(values[i] / scale);
        const double d = values[i] - scale * numbers(q);
        error += weights[i] * d * d;
        sums.along[static_cast<std::size_t>(q + 8)] += weights[i] * scale * values[i];
        sums.square[static_cast<std::size_t>(q + 8)] += weights[i] * scale * scale;
      }
    }
    return error;
  }

  /// Each level where the sums have it, all of them scaled so that the largest is 127.
  [[nodiscard]] static Numbers moved(Numbers numbers, const Sums& sums) {
    const auto [least, most_integer] = numbers.integers();
    std::array<double, 16> at{};
    double largest = 0;
    for (int q = least; q <= most_integer; ++q) {
      const auto i = static_cast<std::size_t>(q + 8);
      if (q != 0) at[i] = sums.square[i] > 0 ? sums.along[i] / sums.square[i] : numbers(q);
      largest = (std::max)(largest, std::abs(at[i]));
    }
    if (!(largest > 0) || !is_finite(largest)) return numbers;
    for (int q = least; q <= most_integer; ++q)
      numbers.level(q) = static_cast<std::int8_t>(
          std::nearbyint(at[static_cast<std::size_t>(q + 8)] / largest * 127));
    return numbers;
  }

  Storage storage_;
  std::vector<Group> groups_ = {};
  std::vector<double> values_ = {};
  std::vector<double> weights_ = {};
};

/// Levels fitted to as many of `count` groups as are enough, spread over all. `gather(at, add)`
/// calls `add(value, weight)` for the values of one.
template <class Gather>
[[nodiscard]] Numbers fitted_numbers(Storage storage, Index count, Gather gather) {
  constexpr Index most = 1024;
  LevelFit fit(storage);
  std::vector<double> values;
  std::vector<double> weights;
  for (Index i = 0; i < (std::min)(count, most); ++i) {
    values.clear();
    weights.clear();
    // Of rows and columns alike, whatever divides their number.
    const auto at = static_cast<Index>(static_cast<std::uint64_t>(i) * 2654435761ULL %
                                       static_cast<std::uint64_t>(count));
    gather(count <= most ? i : at, [&](double value, double weight) {
      values.push_back(value);
      weights.push_back(weight);
    });
    fit.add(values.data(), weights.data(), static_cast<Index>(values.size()));
  }
  return fit.numbers();
}

/// The same of a matrix of `entry(row, col)`, doubles; those that are not finite are left out.
template <class Entry>
[[nodiscard]] Numbers fitted_numbers(Storage storage, Index rows, Index cols, Entry entry) {
  const auto group = static_cast<Index>(kernel::scale_group(kernel::Format::levels));
  const Index in_row = (cols + group - 1) / group;
  return fitted_numbers(storage, rows * in_row, [&](Index at, const auto& add) {
    const Index first = at % in_row * group;
    for (Index col = first; col < (std::min)(first + group, cols); ++col)
      if (const double value = entry(at / in_row, col); is_finite(value)) add(value, 1.0);
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
