// SPDX-License-Identifier: MIT
// Which kernel table is in force: the one of the instruction set that the user compiles for.
#pragma once

#include "pleat/kernel/detail/arch.hpp"
#include "pleat/kernel/detail/make_table.hpp"
#include "pleat/kernel/table.hpp"

namespace pleat {
inline namespace PLEAT_ABI {
namespace kernel {

namespace detail {
template <class T>
inline constexpr Table<T> static_table = make_table<StaticArch, T>(static_arch_name);
}  // namespace detail

/// The kernels that every operator of scalar T runs on.
template <class T>
[[nodiscard]] constexpr const Table<T>& active() noexcept {
  return detail::static_table<T>;
}

}  // namespace kernel
}  // namespace PLEAT_ABI
}  // namespace pleat
