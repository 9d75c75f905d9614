// SPDX-License-Identifier: MIT
// Matrices in awkward places: not aligned, with gaps between columns that nobody may touch.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cstring>
#include <vector>

namespace pleat::test {

/// A matrix whose memory begins one element off, and whose columns lie further apart than they are
/// long.
template <Real T>
class Strided {
 public:
  using View = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

  Strided(Index rows, Index cols, T fill)
      : rows_(rows),
        cols_(cols),
        memory_(static_cast<std::size_t>(1 + stride() * cols + gap), canary) {
    view().setConstant(fill);
  }
  explicit Strided(const Matrix<T>& values) : Strided(values.rows(), values.cols(), T(0)) {
    view() = values;
  }

  [[nodiscard]] View view() {
    return View(memory_.data() + 1, rows_, cols_, Eigen::OuterStride<>(stride()));
  }

  /// Whether all that is not the matrix is as it was.
  [[nodiscard]] bool gaps_untouched() const {
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      const Index at = static_cast<Index>(i) - 1;
      const bool inside = at >= 0 && at / stride() < cols_ && at % stride() < rows_;
      if (!inside && std::memcmp(&memory_[i], &canary, sizeof(T)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr Index gap = 3;
  static constexpr T canary = T(-4321.5);

  [[nodiscard]] Index stride() const { return rows_ + gap; }

  Index rows_;
  Index cols_;
  std::vector<T> memory_;
};

}  // namespace pleat::test
