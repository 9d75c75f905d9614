// SPDX-License-Identifier: MIT
// Which kernel table is in force: of the instruction set compiled for, or, with pleat::dispatch,
// the CPU's best.
#pragma once

#include "pleat/kernel/abi.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>

#ifndef PLEAT_DISPATCH
#include "pleat/kernel/detail/make_table.hpp"
#include "pleat/kernel/detail/simd/arch.hpp"
#endif

namespace pleat::kernel {
inline namespace v0 {

/// Kernel tables, best first; the last is the baseline of the platform and always runs.
template <class T>
struct Tables {
  const Table<T>* const* first;
  std::size_t count;

  [[nodiscard]] const Table<T>* const* begin() const noexcept { return first; }
  [[nodiscard]] const Table<T>* const* end() const noexcept { return first + count; }
};

#ifdef PLEAT_DISPATCH
/// Defined in the library pleat::dispatch, for float and double.
template <class T>
struct Dispatch {
  static const Table<T>& active();
  static Tables<T> available();
};
extern template struct Dispatch<float>;
extern template struct Dispatch<double>;
#endif

}  // namespace v0

inline namespace PLEAT_KERNEL_ABI {

#ifdef PLEAT_DISPATCH

/// The kernels that every operator of scalar T runs on: the best that the CPU has, or those that
/// the environment variable PLEAT_FORCE_ARCH names. Throws `std::invalid_argument` if it names none
/// that this CPU can run; the message lists what it can.
template <class T>
[[nodiscard]] const Table<T>& active() {
  return Dispatch<T>::active();
}

/// All tables that this CPU can run.
template <class T>
[[nodiscard]] Tables<T> available() {
  return Dispatch<T>::available();
}

#else

namespace detail {
template <class T>
inline constexpr Table<T> static_table =
    v0::detail::make_table<v0::detail::StaticArch, v0::detail::StaticDots, T>();
template <class T>
inline constexpr const Table<T>* static_tables[] = {&static_table<T>};
}  // namespace detail

/// The kernels that every operator of scalar T runs on: those of the instruction set compiled for,
/// under the names of `Table`.
template <class T>
[[nodiscard]] constexpr auto active() noexcept {
  return v0::detail::Kernels<v0::detail::StaticArch, v0::detail::StaticDots, T>();
}

/// All tables there are: that one.
template <class T>
[[nodiscard]] constexpr Tables<T> available() noexcept {
  return {detail::static_tables<T>, 1};
}

#endif

}  // namespace PLEAT_KERNEL_ABI
}  // namespace pleat::kernel
