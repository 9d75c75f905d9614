// SPDX-License-Identifier: MIT
// Fails a run that was meant for one table of kernels and got another.
#include "pleat/kernel/active.hpp"
#include "support/catch.hpp"

#include <cstdlib>
#include <string>

namespace pleat::test {

TEST_CASE("the kernels that run are those that were asked for", "[dispatch]") {
  const char* const forced = std::getenv("PLEAT_FORCE_ARCH");
  REQUIRE(forced != nullptr);
  CHECK(std::string(kernel::active<float>().arch) == forced);
  CHECK(std::string(kernel::active<double>().arch) == forced);
}

}  // namespace pleat::test
