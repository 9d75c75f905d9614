// SPDX-License-Identifier: MIT
// The library's version, read from here by C++ and by CMake alike.
#pragma once

#include "pleat/core/abi.hpp"

#define PLEAT_VERSION_MAJOR 0
#define PLEAT_VERSION_MINOR 1
#define PLEAT_VERSION_PATCH 0

namespace pleat {
inline namespace PLEAT_ABI {

/// Major, minor and patch number of the headers that were compiled.
struct Version {
  int major_number;
  int minor_number;
  int patch_number;
};

/// The version of the headers that were compiled; the macros say the same to the preprocessor.
[[nodiscard]] constexpr Version version() noexcept {
  return {PLEAT_VERSION_MAJOR, PLEAT_VERSION_MINOR, PLEAT_VERSION_PATCH};
}

}  // namespace PLEAT_ABI
}  // namespace pleat
