// SPDX-License-Identifier: MIT
// The patterns that weights are pruned to, and the scores by which they are.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cstdint>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {

/// N:M sparsity: at most `kept` nonzeros in every `group` consecutive columns of a row. A last
/// group of fewer columns keeps as many where it has them. Groups of 4, 8, 16 and 32 columns have a
/// brick of their own, `SemiStructured`.
struct SparsePattern {
  Index kept = 2;
  Index group = 4;

  [[nodiscard]] friend constexpr bool operator==(const SparsePattern&,
                                                 const SparsePattern&) = default;
};

/// "2:4".
[[nodiscard]] inline std::string to_string(SparsePattern pattern) {
  return std::to_string(pattern.kept) + ':' + std::to_string(pattern.group);
}

/// How it is stored where in its group each kept value lies.
enum class Places : std::uint8_t {
  automatic,  ///< `codes`, or `masks` where the budget has no room for these
  codes,      ///< 2, 3, 4 or 5 bits a kept value, for groups of 4, 8, 16 or 32 columns
  masks,      ///< a bit a column
};

/// How `compress<SemiStructured>` chooses which weights to keep. With a calibration of inputs x and
/// d_j the sum of x_j^2, each row keeps in each group the largest
///
///     magnitude  |w_ij|
///     wanda      |w_ij| sqrt(d_j)                    (Sun et al., ICLR 2024)
///     nowag      |w_ij| sqrt(d_j) / ||W_:j||         (Liu et al., 2025)
///     sparsegpt  w_ij^2 / [H^-1]_jj of the weights as they are after all columns to the left were
///                pruned and made up for              (Frantar and Alistarh, ICML 2023)
///
/// and `search` begins with the last and moves all masks at once by operator splitting (ALPS, Meng
/// et al., NeurIPS 2024), then group by group.
enum class PruneCriterion : std::uint8_t {
  automatic,  ///< `search` with a calibration, `magnitude` without
  magnitude,
  wanda,
  nowag,
  sparsegpt,
  search
};

}  // namespace PLEAT_ABI
}  // namespace pleat
