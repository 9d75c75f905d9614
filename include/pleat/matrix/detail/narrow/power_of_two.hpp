// SPDX-License-Identifier: MIT
// A power of two by which the results of a kernel are multiplied, beside or into what is there.
#pragma once

#include "pleat/core/matrix_view.hpp"

#include <algorithm>
#include <cstddef>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Most are 1, and cost nothing. Otherwise a kernel never sees it, and its outputs are multiplied
/// while they are in cache, which rounds nothing; where they are to be added to others, they go to
/// scratch first. No sample's result depends on how many there are.
template <Real T>
struct PowerOfTwo {
  explicit PowerOfTwo(T power) : value(power), is_one(power == T(1)), samples(is_one ? 0 : 64) {}

  /// Values of scratch that so many outputs need.
  [[nodiscard]] std::size_t scratch(std::size_t rows) const { return rows * samples; }

  /// Y = kernel, or Y += kernel, where `kernel(first, count, y, ldy, add)` does so for some
  /// samples.
  template <class Kernel>
  void apply(std::size_t rows, std::size_t batch, T* y, std::size_t ldy, bool add, T* own,
             Kernel kernel) const {
    if (is_one) return kernel(std::size_t{0}, batch, y, ldy, add);
    for (std::size_t first = 0; first < batch; first += samples) {
      const std::size_t count = (std::min)(samples, batch - first);
      T* const to = y + first * ldy;
      if (!add) kernel(first, count, to, ldy, false);
      else kernel(first, count, own, rows, false);
      for (std::size_t j = 0; j < count; ++j)
        for (std::size_t i = 0; i < rows; ++i)
          to[j * ldy + i] =
              add ? to[j * ldy + i] + value * own[j * rows + i] : value * to[j * ldy + i];
    }
  }

  /// Multiplies the rows [first, last) of X.
  void multiply(MatrixView<T> X, Index first, Index last) const {
    if (!is_one) X.middleRows(first, last - first) *= value;
  }

  T value;
  bool is_one;
  std::size_t samples;  // at once
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
