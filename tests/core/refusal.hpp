// SPDX-License-Identifier: MIT
// What calls say that are refused.
#pragma once

#include <stdexcept>
#include <string>

namespace pleat::test {

/// What a call throws as std::invalid_argument, or nothing.
template <class Call>
[[nodiscard]] std::string refusal(Call&& call) {
  try {
    (void)call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace pleat::test
