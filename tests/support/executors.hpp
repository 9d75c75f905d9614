// SPDX-License-Identifier: MIT
// Executors as a host would bring them, which also note how many tasks they were asked for.
#pragma once

#include "pleat/core/workspace.hpp"

#include <algorithm>
#include <thread>
#include <vector>

namespace pleat::test {

/// One thread a task.
struct Threads {
  int* most;  // the largest n_tasks so far

  template <class F>
  void operator()(int n_tasks, const F& f) const {
    *most = std::max(*most, n_tasks);
    std::vector<std::thread> threads;
    for (int i = 0; i < n_tasks; ++i) threads.emplace_back([&f, i] { f(Index{i}); });
    for (std::thread& thread : threads) thread.join();
  }
};

/// On the calling thread, the last task first.
struct Backwards {
  int* most;

  template <class F>
  void operator()(int n_tasks, const F& f) const {
    *most = std::max(*most, n_tasks);
    for (int i = n_tasks; i-- > 0;) f(Index{i});
  }
};

}  // namespace pleat::test
