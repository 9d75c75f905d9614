// SPDX-License-Identifier: MIT
// How many threads the calls without a workspace may use.
#pragma once

#include "pleat/core/error.hpp"

#include <atomic>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {
inline std::atomic<int>& num_threads_setting() noexcept {
  static std::atomic<int> threads{1};
  return threads;
}
}  // namespace detail

/// Sets how many threads `compress`, `relative_error` and the two-argument `apply` use: OpenMP
/// where the code is compiled with it, else always the calling thread alone. The default is 1:
/// pleat starts no thread that was not asked for. Results are bit-identical for any number. Throws
/// `std::invalid_argument` if `threads < 1`.
inline void set_num_threads(int threads) {
  detail::require(threads >= 1, [&] {
    return "set_num_threads: needs at least 1 thread, not " + std::to_string(threads);
  });
  detail::num_threads_setting().store(threads, std::memory_order_relaxed);
}

/// The number set by `set_num_threads`.
[[nodiscard]] inline int num_threads() noexcept {
  return detail::num_threads_setting().load(std::memory_order_relaxed);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
