// SPDX-License-Identifier: MIT
// Where a table comes from.
#pragma once

#include <string>

namespace pleat::bench {

/// The machine, the compiler, and today.
[[nodiscard]] std::string describe_machine();

}  // namespace pleat::bench
