// SPDX-License-Identifier: MIT
// Loops of the factorizations over independent rows, on the threads of `set_num_threads`.
#pragma once

#include "pleat/core/workspace.hpp"

#include <algorithm>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Calls body(begin, end) for ranges that make up [0, count), one for each thread at most. A body
/// must not throw: an exception cannot leave a thread of OpenMP.
template <class Body>
void parallel_ranges(Index count, Body&& body) {
  Workspace& workspace = thread_workspace();
  const auto tasks = static_cast<int>(std::clamp<Index>(count, 1, Index{workspace.max_tasks()}));
  workspace.run(tasks, [&](Index task) {
    const Index begin = count * task / tasks;
    const Index end = count * (task + 1) / tasks;
    if (begin < end) body(begin, end);
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
