// SPDX-License-Identifier: MIT
// The number of threads of calls without a workspace.
#include "pleat/core/threads.hpp"

#include "pleat/core/workspace.hpp"
#include "support/catch.hpp"

#include <limits>
#include <string>
#include <thread>

namespace pleat::test {

TEST_CASE("one thread is the default", "[core]") {
  CHECK(num_threads() == 1);
  CHECK(thread_workspace().max_tasks() == 1);
}

TEST_CASE("set_num_threads is seen by the workspaces of all threads", "[core]") {
  set_num_threads(3);
  CHECK(num_threads() == 3);
  CHECK(thread_workspace().max_tasks() == 3);
  int elsewhere = 0;
  std::thread([&] { elsewhere = thread_workspace().max_tasks(); }).join();
  CHECK(elsewhere == 3);
  CHECK(Workspace().max_tasks() == 1);
  set_num_threads(1);
}

TEST_CASE("set_num_threads refuses fewer than one thread, and changes nothing", "[core]") {
  set_num_threads(2);
  for (const int threads : {0, -1, std::numeric_limits<int>::min()}) {
    CAPTURE(threads);
    std::string message;
    try {
      set_num_threads(threads);
    } catch (const std::invalid_argument& error) {
      message = error.what();
    }
    CHECK(message.find(std::to_string(threads)) != std::string::npos);
    CHECK(num_threads() == 2);
  }
  set_num_threads(1);
}

}  // namespace pleat::test
