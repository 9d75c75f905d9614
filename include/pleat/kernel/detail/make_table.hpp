// SPDX-License-Identifier: MIT
// The table of one instruction set.
#pragma once

#include "pleat/kernel/detail/dense.hpp"
#include "pleat/kernel/table.hpp"

namespace pleat {
inline namespace PLEAT_ABI {
namespace kernel::detail {

template <class Arch, class T>
[[nodiscard]] constexpr Table<T> make_table(const char* arch) noexcept {
  return {arch, &Dense<Arch, T>::apply, &Dense<Arch, T>::scratch, &Dense<Arch, T>::apply_transpose};
}

}  // namespace kernel::detail
}  // namespace PLEAT_ABI
}  // namespace pleat
