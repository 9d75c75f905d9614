// SPDX-License-Identifier: MIT
// How far sparse plus low rank shrinks a Gram matrix: by a short joint search on some of the rows.
#pragma once

#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"
#include "pleat/solve/sparse_low_rank/joint_search.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The shrinkage for a sparse matrix of a rule and a low rank of W, by the loss that a short search
/// in one fold has in the other, for at most 96 rows and as large a share of rank and entries.
template <Real T>
[[nodiscard]] double sparse_low_rank_shrinkage(const ConstMatrixRef<T>& W,
                                               const Calibration<T>& calibration, SparseRule rule,
                                               Index rank, std::uint64_t seed,
                                               const Monitor& monitor) {
  const double ratio = double(calibration.samples()) / double(W.cols());
  const double decay = std::clamp(2 + std::log2((std::max)(ratio, 1e-3)), 1.0, 2.0);
  return chosen_shrinkage(calibration, decay, monitor, [&](const auto& folds) {
    Matrix<double> rows = some_rows<T>(W, 96);
    const double largest = rows.cwiseAbs().maxCoeff();
    rows /= power_of_two_below(largest);
    const double share = double(rows.cols()) / double(W.rows());
    SparseRule smaller = rule;
    if (rule.kind == SparseRule::Kind::entries)
      smaller.count = static_cast<Index>(share * double(rule.count));
    const auto part = static_cast<Index>(std::lround(share * double(rank)));
    const Index kept = rank > 0 ? std::clamp<Index>(part, 1, rows.cols()) : 0;
    const JointPlan plan{W.cols() < many_inputs ? 4 : 3, 3};
    return unseen_loss(
        folds, std::move(rows), [=](const Matrix<double>& H, const Matrix<double>& Wt) {
          std::vector<JointState> states{{smaller, LeadingSubspace<>(Wt.cols(), kept, seed)}};
          joint_search(H, Wt, states, plan);
          JointState& found = states.front();
          (void)settle(H, Wt, found, 1);
          return Matrix<double>(found.St + found.low.projected(Wt - found.St));
        });
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
