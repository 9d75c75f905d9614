// SPDX-License-Identifier: MIT
// How a loop over output rows is cut into tasks, and gets scratch memory for each.
#pragma once

#include "pleat/core/linear_operator.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Cuts `[0, size)` into ranges of whole `grain`s, as even as they get: as many as the workspace
/// takes, but none so small that starting it costs more than the work saved.
struct Split {
  Split(Index size_, Index grain_, double flops, const Workspace& workspace)
      : size(size_), grain(grain_) {
    const int most = workspace.max_tasks();
    if (most == 1) return;  // without a division
    grains = (size_ + grain_ - 1) / grain_;
    constexpr double least = 1e5;  // flops that are worth a task: some microseconds
    const double worth = (std::min)(flops / least, static_cast<double>(grains));
    tasks = static_cast<int>(std::clamp(worth, 1.0, static_cast<double>(most)));
  }

  /// First and past-the-last index of a task's range.
  [[nodiscard]] std::pair<Index, Index> range(Index task) const noexcept {
    if (tasks == 1) return {0, size};
    const auto bound = [&](Index t) { return (std::min)(size, grains * t / tasks * grain); };
    return {bound(task), bound(task + 1)};
  }

  Index size;
  Index grain;
  Index grains = 0;
  int tasks = 1;
};

/// Values of scratch that every task of a split has, if it needs so many: a multiple of 16, which
/// keeps the memory of all tasks aligned.
[[nodiscard]] constexpr Index task_scratch(std::size_t needed) noexcept {
  return static_cast<Index>((needed + 15) / 16 * 16);
}

/// Runs `body(begin, end, memory)` for the range of each task, with memory for `needed` values of
/// T.
template <class T, class Body>
void in_tasks(const Split& split, std::size_t needed, Workspace& workspace, Body body) {
  const auto run = [&](T* memory, Index scratch) {
    workspace.run(split.tasks, [&](Index task) {
      const auto [begin, end] = split.range(task);
      body(begin, end, memory + task * scratch);
    });
  };
  if (needed == 0) {
    run(nullptr, 0);
    return;
  }
  const Index scratch = task_scratch(needed);
  Workspace::Frame frame(workspace);
  run(frame.allocate<T>(scratch * split.tasks), scratch);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
