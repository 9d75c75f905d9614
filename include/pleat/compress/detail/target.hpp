// SPDX-License-Identifier: MIT
// What the kernels of an instruction set are fast with, as far as shapes are chosen by it.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/kernel/cpu.hpp"

#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// The instruction set that `Options::target` names, that in force if it is empty, without the dot
/// products that it may have besides, which change no shape. Throws `std::invalid_argument` for a
/// name that is none.
template <Real T>
[[nodiscard]] std::string resolved_target(const std::string& target) {
  const std::string name = target.empty() ? std::string(kernel::active<T>().arch) : target;
  if (name == "avx2+vnni") return "fma3+avx2";
  const std::string base = name.substr(0, name.find('+'));
  for (const std::string_view known :
       {"avx512", "avx512+vnni", "avx512+vnni+bf16", "neon64", "neon64+dot+i8mm"})
    if (name == known) return base;
  require(name == "fma3+avx2" || name == "sse2", [&] {
    return "target is \"" + name +
           "\", not sse2, fma3+avx2, avx2+vnni, avx512, avx512+vnni, avx512+vnni+bf16, neon64 or "
           "neon64+dot+i8mm";
  });
  return name;
}

/// The dot products of the instruction set that `Options::target` names; if it is empty, those of
/// the one in force that this machine is fast with.
template <Real T>
[[nodiscard]] kernel::DotProducts target_dots(const std::string& target) {
  if (target.empty()) return kernel::worthwhile(kernel::active<T>().dots, kernel::is_intel());
  if (target == "avx512+vnni+bf16") return kernel::DotProducts::int8_bf16;
  if (target == "sse2") return kernel::DotProducts::none;
  return target == "avx512+vnni" || target == "avx2+vnni" || target == "neon64+dot+i8mm"
             ? kernel::DotProducts::int8
             : kernel::DotProducts::int16;
}

/// The largest group, of which half is kept, that an instruction set runs at full speed.
[[nodiscard]] inline Index full_speed_group(const std::string& target, std::size_t scalar_size) {
  const bool single = scalar_size == sizeof(float);
  if (target == "avx512") return single ? 16 : 8;
  if (target == "fma3+avx2" || target == "neon64") return single ? 8 : 4;
  return 4;
}

/// The same for values in some storage: those of int8 and bf16 run at full speed where they meet
/// rounded activations, if they may, for which there are kernels of 4:8, and of 2:4.
template <Real T>
[[nodiscard]] Index full_speed_group_of(const std::string& target, Storage storage,
                                        Activations activations) {
  const std::string resolved = resolved_target<T>(target);
  if (std::same_as<T, float> && activations != Activations::native) {
    const kernel::DotProducts dots = target_dots<T>(target);
    if (storage == Storage::int8 &&
        (dots == kernel::DotProducts::int8 || dots == kernel::DotProducts::int8_bf16))
      return 8;
    if (storage == Storage::bf16 && dots == kernel::DotProducts::int8_bf16) return 4;
  }
  return full_speed_group(resolved, sizeof(T));
}

/// The most inputs of which it picks one for every lane in one or two instructions.
[[nodiscard]] inline Index most_inputs_picked(const std::string& target, std::size_t scalar_size) {
  const bool single = scalar_size == sizeof(float);
  if (target == "avx512") return single ? 32 : 16;
  if (target == "fma3+avx2") return single ? 8 : 4;
  if (target == "neon64") return single ? 16 : 4;
  return 4;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
