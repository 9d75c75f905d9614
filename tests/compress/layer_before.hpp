// SPDX-License-Identifier: MIT
// Pairs of inputs: those of a layer, and what a compressed layer before it makes of them.
#pragma once

#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace pleat::test {

/// The calibration that saw pairs once.
template <Real T>
[[nodiscard]] Calibration<T> calibration_of_pairs(const Matrix<T>& X, const Matrix<T>& compressed) {
  Calibration<T> calibration(X.rows());
  calibration.add(X, compressed);
  return calibration;
}

/// Inputs that a layer makes of correlated ones, and what it makes of them at a third of its rank.
template <Real T>
struct LayerBefore {
  LayerBefore(Random& random, Index inputs)
      : W(random.matrix<T>(inputs, inputs)),
        smaller(compress<LowRank>(W, bytes(std::int64_t{1} << 40),
                                  {.rank = std::max<Index>(1, inputs / 3)})
                    .to_dense()) {
    mixing = random.matrix<T>(inputs, inputs);
    for (Index j = 0; j < inputs; ++j)
      mixing.col(j) *= static_cast<T>(std::pow(1.0 + double(j), -0.7));
  }
  /// Original and compressed inputs of the next layer, through a nonlinearity.
  [[nodiscard]] std::pair<Matrix<T>, Matrix<T>> inputs(Random& random, Index samples) const {
    const Matrix<T> Z = mixing * random.matrix<T>(W.cols(), samples);
    const Matrix<T> X = (W * Z).cwiseMax(T(0));
    const Matrix<T> compressed = (smaller * Z).cwiseMax(T(0));
    return {X, compressed};
  }

  Matrix<T> W;
  Matrix<T> smaller;
  Matrix<T> mixing;
};

}  // namespace pleat::test
