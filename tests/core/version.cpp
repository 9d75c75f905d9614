// SPDX-License-Identifier: MIT
// The version, as the preprocessor and as C++ see it.
#include "pleat/core/version.hpp"

#include "support/catch.hpp"

TEST_CASE("the version is that of the macros", "[core]") {
  constexpr pleat::Version version = pleat::version();
  static_assert(version.major_number == PLEAT_VERSION_MAJOR);
  static_assert(version.minor_number == PLEAT_VERSION_MINOR);
  static_assert(version.patch_number == PLEAT_VERSION_PATCH);
  CHECK(version.major_number + version.minor_number + version.patch_number > 0);
}
