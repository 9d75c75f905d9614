// SPDX-License-Identifier: MIT
// How loops are cut: every index in one task, in whole grains, and no task that is not worth it.
#include "pleat/matrix/detail/split.hpp"

#include "support/catch.hpp"
#include "support/executors.hpp"

namespace pleat::test {

TEST_CASE("a split covers every index once, in whole grains", "[matrix]") {
  int seen = 0;
  for (const Index size : {0, 1, 7, 8, 9, 15, 16, 17, 100, 160, 161, 1000})
    for (const Index grain : {1, 8, 16})
      for (const int most : {1, 2, 3, 7, 64})
        for (const double flops : {0.0, 1e4, 3.5e5, 1e12}) {
          const Workspace workspace(Backwards{&seen}, most);
          const detail::Split split(size, grain, flops, workspace);
          CAPTURE(size, grain, most, flops, split.tasks);
          CHECK(split.tasks >= 1);
          CHECK(split.tasks <= most);
          CHECK(split.tasks <= std::max(1.0, flops / 1e5));
          Index next = 0;
          for (Index task = 0; task < split.tasks; ++task) {
            const auto [begin, end] = split.range(task);
            CHECK(begin == next);
            CHECK(begin % grain == 0);
            CHECK((end > begin || size == 0));
            next = end;
          }
          CHECK(next == size);
        }
}

TEST_CASE("enough work is cut into as many tasks as the workspace takes", "[matrix]") {
  int seen = 0;
  for (const int most : {1, 2, 3, 7})
    CHECK(detail::Split(112, 16, 1e9, Workspace(Backwards{&seen}, most)).tasks == most);
  CHECK(detail::Split(32, 16, 1e9, Workspace(Backwards{&seen}, 7)).tasks == 2);
  CHECK(detail::Split(112, 16, 3.9e5, Workspace(Backwards{&seen}, 7)).tasks == 3);
  CHECK(detail::Split(112, 16, 1e9, Workspace()).tasks == 1);
}

}  // namespace pleat::test
