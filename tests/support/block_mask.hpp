// SPDX-License-Identifier: MIT
// Which blocks of a block-sparse matrix a test keeps.
#pragma once

#include "support/random.hpp"

#include <utility>

namespace pleat::test {

/// Blocks kept in about `percent` of a hundred places, and none in every fourth block row.
inline Matrix<bool> block_mask(Random& random, Index rows, Index cols, std::pair<Index, Index> size,
                               Index percent) {
  Matrix<bool> kept((rows + size.first - 1) / size.first, (cols + size.second - 1) / size.second);
  for (Index i = 0; i < kept.rows(); ++i)
    for (Index k = 0; k < kept.cols(); ++k)
      kept(i, k) = random.integer(0, 99) < percent && (percent == 100 || i % 4 != 2);
  return kept;
}

}  // namespace pleat::test
