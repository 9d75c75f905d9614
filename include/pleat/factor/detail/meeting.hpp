// SPDX-License-Identifier: MIT
// The parts of a structure with their activations rounded, where these meet how a part is stored.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/scalar.hpp"

#include <string>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Whether a part can have its activations rounded so. One that knows nothing of it cannot.
template <class Op>
[[nodiscard]] bool meets(const Op& op, Activations activations) {
  if constexpr (requires { op.meets(activations); }) return op.meets(activations);
  else return activations == Activations::automatic || activations == Activations::native;
}

/// The part with its activations rounded so if it can, else as it is.
template <class Op>
[[nodiscard]] Op meeting(const Op& op, Activations activations) {
  if constexpr (requires { op.with_activations(activations); })
    if (op.meets(activations)) return op.with_activations(activations);
  return op;
}

/// Throws `std::invalid_argument` unless one of the parts of a structure can.
template <class... Ops>
void require_meets(const std::string& structure, Activations activations, const Ops&... parts) {
  require((meets(parts, activations) || ...), [&] {
    return structure + ": no part of it is stored so that it meets activations rounded to " +
           std::string(to_string(activations));
  });
}

/// ", stored as int8, activations as int8": how a part is stored, and what it rounds activations
/// to; nothing where it is stored as it is.
template <class Op>
[[nodiscard]] std::string stored_text(const Op& op) {
  if (!is_narrow(op.storage())) return "";
  if constexpr (requires { op.activations(); })
    return ", " + storage_text(op.storage(), op.activations());
  else return ", " + storage_text(op.storage(), Activations::native);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
