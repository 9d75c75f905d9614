// SPDX-License-Identifier: MIT
// What a long compression tells its caller, and how the caller stops it.
#pragma once

#include "pleat/core/scalar.hpp"

#include <functional>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {

/// Where a compression stands. `phase` is a short name in plain English, `iteration` counts from 1
/// to `iterations`, `loss` is the relative error of the best result so far (1 where none exists
/// yet; of a low rank that is iterated for, that of its subspace, which is some dimensions larger).
struct Progress {
  std::string_view phase{};
  Index iteration = 0;
  Index iterations = 0;
  double loss = 1;
};

/// Called between the steps of a compression, on the calling thread; returns false to stop. A
/// stopped compression returns the best operator found so far. What it throws passes through to the
/// caller.
using Monitor = std::function<bool(const Progress&)>;

}  // namespace PLEAT_ABI
}  // namespace pleat
