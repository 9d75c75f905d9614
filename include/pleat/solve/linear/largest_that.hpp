// SPDX-License-Identifier: MIT
// The largest of some sizes that fits.
#pragma once

#include "pleat/core/scalar.hpp"

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The largest value in [least, most] that `fits`, which holds up to some value; least - 1 if none.
template <class Fits>
[[nodiscard]] Index largest_that(Index least, Index most, Fits fits) {
  Index below = least - 1;
  for (Index above = most + 1; below + 1 < above;) {
    const Index middle = below + (above - below) / 2;
    (fits(middle) ? below : above) = middle;
  }
  return below;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
