// SPDX-License-Identifier: MIT
// The patterns that weights are pruned to.
#pragma once

#include "pleat/core/scalar.hpp"

namespace pleat {
inline namespace PLEAT_ABI {

/// N:M sparsity: at most `kept` nonzeros in every `group` consecutive columns of a row. A last
/// group of fewer columns keeps as many where it has them. 2:4 has a brick of its own,
/// `SemiStructured`.
struct SparsePattern {
  Index kept = 2;
  Index group = 4;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
