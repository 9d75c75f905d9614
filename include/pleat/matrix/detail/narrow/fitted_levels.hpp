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
/// these groups than levels that lie as far apart as integers do. Of some groups of a large matrix,
/// chosen by `sample`. Cost: up to 12 times that of rounding the groups.
///
/// Source: S. Lloyd, "Least squares quantization in PCM", 1982; with a scale for each group as in
/// S. Kim et al., "SqueezeLLM", ICML 2024, whose tables are of rows.
class LevelFit {
 public:
  /// Groups that are enough.
  static constexpr Index most = 1024;

  explicit LevelFit(Storage storage) : storage_(storage) {}

  /// Which of `groups` groups, of those as many as `sampled`, number i is.
  [[nodiscard]] static Index sampled(Index groups) { return (std::min)(groups, most); }
  [[nodiscard]] static Index sample(Index i, Index groups) {
    if (groups <= most) return i;
    // Spread over rows and columns alike, whatever divides their number.
    return static_cast<Index>(static_cast<std::uint64_t>(i) * 2654435761ULL %
                              static_cast<std::uint64_t>(groups));
  }

  /// The values of a group, at most as many as share a scale; all weights are 1 where null.
  void add(const double* values, const double* weights, Index count) {
    if (count <= 0) return;
    Group group{values_.size(), count};
    values_.insert(values_.end(), values, values + count);
    if (weights == nullptr) weights_.insert(weights_.end(), static_cast<std::size_t>(count), 1.0);
    else weights_.insert(weights_.end(), weights, weights + count);
    groups_.push_back(group);
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

/// Those of a storage, fitted to a matrix if it has such, to as many of its groups as are enough,
/// and to what is finite of `entry(row, col)`, doubles.
template <class Entry>
[[nodiscard]] Numbers fitted_numbers(Storage storage, Index rows, Index cols, Entry entry) {
  LevelFit fit(storage);
  const auto group = static_cast<Index>(kernel::scale_group(kernel::Format::levels));
  const Index in_row = (cols + group - 1) / group;
  const Index count = rows * in_row;
  std::vector<double> values(static_cast<std::size_t>(group));
  for (Index i = 0; i < LevelFit::sampled(count); ++i) {
    const Index at = LevelFit::sample(i, count);
    const Index first = at % in_row * group;
    Index taken = 0;
    for (Index col = first; col < (std::min)(first + group, cols); ++col)
      if (const double value = entry(at / in_row, col); is_finite(value))
        values[static_cast<std::size_t>(taken++)] = value;
    fit.add(values.data(), nullptr, taken);
  }
  return fit.numbers();
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
