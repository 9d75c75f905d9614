// SPDX-License-Identifier: MIT
// The table of one instruction set.
#pragma once

#include "pleat/kernel/detail/arch.hpp"
#include "pleat/kernel/detail/dense.hpp"
#include "pleat/kernel/detail/semi_structured.hpp"
#include "pleat/kernel/table.hpp"

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

template <class Arch, class T>
[[nodiscard]] constexpr Table<T> make_table() noexcept {
  using TwoOfFour = SemiStructured<Arch, T>;
  return {arch_name<Arch>,
          &Dense<Arch, T>::apply,
          &Dense<Arch, T>::scratch,
          &Dense<Arch, T>::apply_transpose,
          &TwoOfFour::apply,
          &TwoOfFour::scratch,
          &TwoOfFour::apply_transpose};
}

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
