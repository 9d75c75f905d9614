// SPDX-License-Identifier: MIT
// What a CPU can run, and which of the kernel tables suits it: a pure function, testable on any
// host.
#pragma once

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {

/// The instruction sets with kernels of their own, from the baseline of the platform up.
enum class Level { baseline, fma3_avx2, avx512 };

/// The features of a CPU, and of the operating system below it, that the kernels can use.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512cd = false;
  bool avx512dq = false;
  bool avx512bw = false;
};

/// Whether a CPU with these features runs the kernels of a level.
[[nodiscard]] constexpr bool can_run(Level level, const CpuFeatures& cpu) noexcept {
  const bool avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
  switch (level) {
    case Level::baseline: return true;
    case Level::fma3_avx2: return avx2;
    case Level::avx512: return avx2 && cpu.avx512f && cpu.avx512cd && cpu.avx512dq && cpu.avx512bw;
  }
  return false;
}

/// The best level that a CPU with these features runs.
[[nodiscard]] constexpr Level best_level(const CpuFeatures& cpu) noexcept {
  if (can_run(Level::avx512, cpu)) return Level::avx512;
  return can_run(Level::fma3_avx2, cpu) ? Level::fma3_avx2 : Level::baseline;
}

}  // namespace v0
}  // namespace pleat::kernel
