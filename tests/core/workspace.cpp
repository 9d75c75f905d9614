// SPDX-License-Identifier: MIT
// Scratch memory that nests and is reused, and executors that are called as promised.
#include "pleat/core/workspace.hpp"

#include "core/refusal.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace pleat::test {
namespace {

/// A random tree of nested frames, in which every allocation is filled with a number of its own,
/// and still holds it when its frame ends.
class Tree {
 public:
  Tree(Workspace& workspace, std::uint64_t seed) : workspace_(workspace), random_(seed) {}

  void grow(int depth) {
    Workspace::Frame frame(workspace_);
    std::vector<Chunk> mine;
    const Index steps = random_.integer(1, 5);
    for (Index step = 0; step < steps; ++step) {
      if (depth > 0 && random_.integer(0, 1) == 0) {
        grow(depth - 1);
        continue;
      }
      const Index size =
          random_.integer(0, 3) == 0 ? random_.integer(0, 9000) : random_.integer(0, 90);
      auto* const values = frame.allocate<std::uint32_t>(size);
      aligned = aligned && reinterpret_cast<std::uintptr_t>(values) % 64 == 0;
      std::fill_n(values, size, ++chunks);
      mine.push_back({values, size, chunks});
    }
    for (const Chunk& chunk : mine)
      for (Index i = 0; i < chunk.size; ++i) intact = intact && chunk.values[i] == chunk.mark;
  }

  bool aligned = true;
  bool intact = true;
  std::uint32_t chunks = 0;

 private:
  struct Chunk {
    const std::uint32_t* values;
    Index size;
    std::uint32_t mark;
  };
  Workspace& workspace_;
  Random random_;
};

}  // namespace

TEST_CASE("frames nest, are aligned, and take no more memory the second time", "[core]") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Workspace workspace;
    CHECK(workspace.bytes() == 0);
    Tree first(workspace, seed);
    first.grow(4);
    CHECK(first.intact);
    CHECK(first.aligned);
    const std::size_t held = workspace.bytes();
    const std::byte* block = nullptr;
    {
      Workspace::Frame frame(workspace);
      block = frame.allocate<std::byte>(1);
    }
    for (int repeat = 0; repeat < 2; ++repeat) {
      Tree again(workspace, seed);
      again.grow(4);
      CHECK(again.intact);
      CHECK(again.aligned);
      CHECK(again.chunks == first.chunks);
    }
    if (first.chunks > 0) CHECK(workspace.bytes() == held);
    Workspace::Frame frame(workspace);
    CHECK(frame.allocate<std::byte>(1) == block);  // nothing leaks: it begins where it began
  }
}

TEST_CASE("a frame's memory is its own until the outermost frame ends", "[core]") {
  Workspace workspace;
  Workspace::Frame outer(workspace);
  auto* const kept = outer.allocate<double>(10);
  std::fill_n(kept, 10, 1.5);
  for (int repeat = 0; repeat < 3; ++repeat) {
    Workspace::Frame inner(workspace);
    auto* const large = inner.allocate<double>(100000 << repeat);
    std::fill_n(large, 100000 << repeat, 2.5);
  }
  auto* const late = outer.allocate<double>(2000);
  std::fill_n(late, 2000, 3.5);
  CHECK(std::count(kept, kept + 10, 1.5) == 10);
}

TEST_CASE("a frame is given back when an exception passes", "[core]") {
  Workspace workspace;
  const auto use = [&](bool fail) {
    Workspace::Frame frame(workspace);
    auto* const values = frame.allocate<float>(5000);
    Workspace::Frame inner(workspace);
    (void)inner.allocate<float>(9000);
    if (fail) throw std::runtime_error("on purpose");
    return values;
  };
  (void)use(false);
  const float* const before = use(false);
  const std::size_t held = workspace.bytes();
  CHECK_THROWS_AS(use(true), std::runtime_error);
  CHECK(use(false) == before);
  CHECK(workspace.bytes() == held);
}

TEST_CASE("a workspace is serial unless told otherwise", "[core]") {
  Workspace workspace;
  CHECK(workspace.max_tasks() == 1);
  std::vector<Index> order;
  workspace.run(1, [&](Index i) { order.push_back(i); });
  CHECK(order == std::vector<Index>{0});
  workspace.run(3, [&](Index i) { order.push_back(i); });
  CHECK(order == std::vector<Index>{0, 0, 1, 2});
}

TEST_CASE("an executor is called with the number of tasks, and runs each once", "[core]") {
  std::vector<int> asked;
  Workspace workspace(
      [&asked](int n_tasks, const auto& f) {
        asked.push_back(n_tasks);
        for (int i = n_tasks; i-- > 0;) f(i);
      },
      5);
  CHECK(workspace.max_tasks() == 5);
  std::vector<int> runs(5, 0);
  workspace.run(5, [&](Index i) { ++runs[static_cast<std::size_t>(i)]; });
  CHECK(runs == std::vector<int>(5, 1));
  workspace.run(2, [&](Index i) { ++runs[static_cast<std::size_t>(i)]; });
  CHECK(runs == std::vector<int>{2, 2, 1, 1, 1});
  CHECK(asked == std::vector<int>{5, 2});
  workspace.run(1, [&](Index) {});
  CHECK(asked == std::vector<int>{5, 2});  // one task needs no executor

  Workspace moved(std::move(workspace));
  moved.run(3, [](Index) {});
  CHECK(asked == std::vector<int>{5, 2, 3});
  CHECK(moved.max_tasks() == 5);
}

TEST_CASE("a plain function is an executor", "[core]") {
  void (*const serial)(int, Task) = [](int n_tasks, Task task) {
    for (int i = 0; i < n_tasks; ++i) task(i);
  };
  Workspace workspace(serial);
  CHECK(workspace.max_tasks() == 8);
  Index sum = 0;
  workspace.run(4, [&](Index i) { sum += i; });
  CHECK(sum == 6);
}

TEST_CASE("a workspace refuses what cannot work", "[core]") {
  int seen = 0;
  for (const int count : {0, -1, std::numeric_limits<int>::min()}) {
    CAPTURE(count);
    CHECK(refusal([&] { Workspace w(OpenMP{count}); }).find(std::to_string(count)) !=
          std::string::npos);
    CHECK(refusal([&] { Workspace w(Backwards{&seen}, count); }).find(std::to_string(count)) !=
          std::string::npos);
  }
  CHECK(refusal([] { Workspace w(std::function<void(int, Task)>{}); }).find("empty") !=
        std::string::npos);
  const auto once = [unique = std::unique_ptr<int>()](int, Task) { (void)unique; };
  static_assert(!std::is_constructible_v<Workspace, decltype(once)>);
  CHECK(Workspace(OpenMP{}).max_tasks() == 1);
  CHECK(Workspace(OpenMP{4}).max_tasks() == 4);
}

TEST_CASE("OpenMP runs each task once", "[core][openmp]") {
  Workspace workspace(OpenMP{3});
  std::vector<int> runs(3, 0);
  workspace.run(3, [&](Index i) { ++runs[static_cast<std::size_t>(i)]; });
  CHECK(runs == std::vector<int>(3, 1));
}

TEST_CASE("what an executor throws passes through apply, and the workspace goes on", "[core]") {
  Random random(21);
  const Dense<float> op(random.matrix<float>(160, 200));
  const Matrix<float> X = random.matrix<float>(200, 64);
  Matrix<float> expected(160, 64);
  Matrix<float> Y(160, 64);
  op.apply(X, expected);
  bool fail = false;
  Workspace workspace(
      [&fail](int n_tasks, const auto& f) {
        if (fail) throw std::runtime_error("no threads left");
        for (int i = 0; i < n_tasks; ++i) f(i);
      },
      4);
  op.apply(X, Y, workspace);
  const std::size_t held = workspace.bytes();
  fail = true;
  CHECK_THROWS_AS(op.apply(X, Y, workspace), std::runtime_error);
  fail = false;
  Y.setZero();
  op.apply(X, Y, workspace);
  CHECK(difference(Y, expected) == "");
  CHECK(workspace.bytes() == held);
}

TEST_CASE("memory is reused by a smaller batch, and by the next operator", "[core]") {
  Random random(22);
  const Dense<double> large(random.matrix<double>(90, 300));
  const Dense<double> small(random.matrix<double>(40, 50));
  Workspace workspace;
  Matrix<double> Y(90, 200);
  large.apply(random.matrix<double>(300, 200), Y, workspace);
  const std::size_t held = workspace.bytes();
  CHECK(held > 0);
  Matrix<double> Z(90, 100);
  large.apply(random.matrix<double>(300, 100), Z, workspace);
  Matrix<double> S(40, 80);
  small.apply(random.matrix<double>(50, 80), S, workspace);
  CHECK(workspace.bytes() == held);
}

TEST_CASE("every thread has a workspace of its own", "[core]") {
  const Workspace* const mine = &thread_workspace();
  CHECK(mine == &thread_workspace());
  const Workspace* other = nullptr;
  std::thread([&] { other = &thread_workspace(); }).join();
  CHECK(other != mine);
}

TEST_CASE("a workspace that was moved from is serial and works", "[workspace]") {
  int calls = 0;
  Workspace first([&](int tasks, auto&& body) {
    ++calls;
    for (int i = 0; i < tasks; ++i) body(i);
  });
  Workspace second(std::move(first));
  int sum = 0;
  second.run(3, [&](Index i) { sum += static_cast<int>(i); });
  CHECK(calls == 1);
  CHECK(sum == 3);
  first.run(3, [&](Index i) { sum += static_cast<int>(i); });  // NOLINT(bugprone-use-after-move)
  CHECK(calls == 1);
  CHECK(sum == 6);
  CHECK(first.max_tasks() == 1);
  first = std::move(second);
  first.run(3, [&](Index) {});
  CHECK(calls == 2);
}

}  // namespace pleat::test
