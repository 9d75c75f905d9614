// SPDX-License-Identifier: MIT
// The numbers that stored integers stand for: themselves, or those of a table.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The integers of a storage that has any; one more of them is negative, but in int8.
struct IntegerRange {
  int least;
  int most;
};
[[nodiscard]] constexpr IntegerRange integers_of(Storage storage) noexcept {
  const int half = 1 << (integer_bits(storage) - 1);
  return {storage == Storage::int8 ? 1 - half : -half, half - 1};
}

/// What the integers of a storage stand for, which a scale multiplies: themselves, or levels of a
/// table, in 128ths, that ascend. 0 is 0 in any.
class Numbers {
 public:
  /// Levels of integers -8 to 7, of which a storage may use fewer.
  using Levels = std::array<std::int8_t, 16>;

  /// None, which is no storage.
  Numbers() = default;
  /// The integers; or, where levels are fitted, levels that lie as far apart.
  explicit Numbers(Storage storage)
      : integers_(integers_of(storage)), fitted_(has_fitted_levels(storage)) {
    if (!fitted_) return;
    for (int q = integers_.least; q <= integers_.most; ++q)
      level(q) = static_cast<std::int8_t>(127 * q / -integers_.least);
  }
  /// The levels, where such are fitted. Throws `std::invalid_argument` unless they ascend from -127
  /// on, are 0 where the integer is, and not all 0.
  Numbers(Storage storage, const Levels& levels) : Numbers(storage) {
    if (!fitted_) return;
    levels_ = levels;
    for (int q = integers_.least; q <= integers_.most; ++q)
      require(level(q) >= -127 && (q == integers_.least || level(q - 1) <= level(q)),
              [] { return std::string("levels do not ascend from -127 on"); });
    require(level(0) == 0, [] { return std::string("the level of 0 is not 0"); });
    require(reach() > 0, [] { return std::string("all levels are 0"); });
  }

  [[nodiscard]] IntegerRange integers() const noexcept { return integers_; }
  [[nodiscard]] bool are_fitted() const noexcept { return fitted_; }
  [[nodiscard]] const Levels& levels() const noexcept { return levels_; }
  [[nodiscard]] std::int8_t& level(int q) noexcept {
    return levels_[static_cast<std::size_t>(q + 8)];
  }
  [[nodiscard]] int level(int q) const noexcept { return levels_[static_cast<std::size_t>(q + 8)]; }

  [[nodiscard]] double operator()(int q) const noexcept { return fitted_ ? level(q) / 128.0 : q; }

  /// The largest magnitude.
  [[nodiscard]] double reach() const noexcept {
    return (std::max)(-(*this)(integers_.least), (*this)(integers_.most));
  }
  /// The integer whose number is nearest.
  [[nodiscard]] int nearest(double value) const {
    if (!fitted_)
      return static_cast<int>(
          std::clamp(std::nearbyint(value), double(integers_.least), double(integers_.most)));
    int q = integers_.least;
    for (int next = q + 1; next <= integers_.most; ++next)
      if (2 * 128 * value > level(q) + level(next)) q = next;
      else break;
    return q;
  }
  [[nodiscard]] double rounded(double value) const { return (*this)(nearest(value)); }

  /// The levels of the integers in turn, for a file.
  [[nodiscard]] Tensor tensor() const {
    Tensor result{DataType::i8, {integers_.most - integers_.least + 1}, {}};
    for (int q = integers_.least; q <= integers_.most; ++q)
      result.data.push_back(static_cast<std::byte>(level(q) & 255));
    return result;
  }
  /// From there. Throws `std::invalid_argument` unless there are as many as the storage has, and
  /// such as above.
  [[nodiscard]] static Numbers from(Storage storage, const Tensor& stored) {
    Numbers result(storage);
    const auto [least, most] = result.integers_;
    const std::int64_t count = most - least + 1;
    require(stored.type == DataType::i8 && stored.shape == std::vector<std::int64_t>{count} &&
                stored.data.size() == static_cast<std::size_t>(count),
            [&] {
              return std::string(to_string(storage)) + " has " + std::to_string(count) +
                     " levels of 8 bits";
            });
    for (int q = least; q <= most; ++q) {
      const int byte = std::to_integer<int>(stored.data[static_cast<std::size_t>(q - least)]);
      result.level(q) = static_cast<std::int8_t>(byte < 128 ? byte : byte - 256);
    }
    return Numbers(storage, result.levels_);
  }

 private:
  IntegerRange integers_ = {0, 0};
  bool fitted_ = false;
  Levels levels_ = {};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
