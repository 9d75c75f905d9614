// SPDX-License-Identifier: MIT
// How a loop over output rows is cut into tasks.
#pragma once

#include "pleat/core/workspace.hpp"

#include <algorithm>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Cuts `[0, size)` into ranges of whole `grain`s, as even as they get: as many as the workspace
/// takes, but none so small that starting it costs more than the work saved.
struct Split {
  Split(Index size_, Index grain_, double flops, const Workspace& workspace)
      : size(size_), grain(grain_), grains((size_ + grain_ - 1) / grain_) {
    constexpr double least = 1e5;  // flops that are worth a task: some microseconds
    const double worth = (std::min)(flops / least, static_cast<double>(grains));
    tasks = static_cast<int>(std::clamp(worth, 1.0, static_cast<double>(workspace.max_tasks())));
  }

  /// First and past-the-last index of a task's range.
  [[nodiscard]] std::pair<Index, Index> range(Index task) const noexcept {
    const auto bound = [&](Index t) { return (std::min)(size, grains * t / tasks * grain); };
    return {bound(task), bound(task + 1)};
  }

  Index size;
  Index grain;
  Index grains;
  int tasks = 1;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
