// SPDX-License-Identifier: MIT
// The processor as audio hosts set it, and as -ffast-math does: no subnormal floats.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace pleat::test {

/// While it lives, this thread's subnormal floats are taken for 0, and none is made.
class FlushToZero {
 public:
  FlushToZero() : before_(mode()) { set_mode(before_ | flags); }
  FlushToZero(const FlushToZero&) = delete;
  FlushToZero& operator=(const FlushToZero&) = delete;
  ~FlushToZero() { set_mode(before_); }

  /// Whether it does so.
  [[nodiscard]] static bool works() {
    volatile float smallest = 0x1p-126F;
    smallest = smallest * 0.5F;
    return smallest == 0;
  }

 private:
#if defined(__SSE2__)
  static constexpr std::uint64_t flags = 0x8040;
  static std::uint64_t mode() { return _mm_getcsr(); }
  static void set_mode(std::uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
  static constexpr std::uint64_t flags = std::uint64_t{1} << 24U;
  static std::uint64_t mode() {
    std::uint64_t mode = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set_mode(std::uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
  static constexpr std::uint64_t flags = 0;
  static std::uint64_t mode() { return 0; }
  static void set_mode(std::uint64_t) {}
#endif

  std::uint64_t before_;
};

}  // namespace pleat::test
