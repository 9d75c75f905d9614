// SPDX-License-Identifier: MIT
// Weights and inputs for the tests of the makers.
#pragma once

#include "pleat/core/scalar.hpp"
#include "support/random.hpp"

#include <cmath>

namespace pleat::test {

/// Inputs as layers see them: correlated, with a power-law spectrum, a few outlier channels, and
/// one input that is always zero.
template <Real T>
[[nodiscard]] Matrix<T> correlated_inputs(Random& random, Index inputs, Index samples) {
  Matrix<T> mixing = random.matrix<T>(inputs, inputs);
  for (Index j = 0; j < inputs; ++j)
    mixing.col(j) *= static_cast<T>(std::pow(1.0 + double(j), -0.8));
  Matrix<T> X = mixing * random.matrix<T>(inputs, samples);
  if (inputs > 8) {
    X.row(5) *= T(10);
    X.row(inputs / 2).setZero();
  }
  return X;
}

}  // namespace pleat::test
