// SPDX-License-Identifier: MIT
// What a CPU can run, and which of the kernel tables suits it: a pure function, testable on any
// host; and what of that is worth it on this one.
#pragma once

#include "pleat/kernel/layout.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {

/// The instruction sets with kernels of their own, from the baseline of the platform up. Those of
/// AVX2 with dot products come in two encodings: `avx2_vnni` in that of AVX, and `avx2_vnni_vl` in
/// that of AVX-512. CPUs with bf16 have permutes of bytes (VBMI) as well, all but one generation of
/// servers, which takes `avx512_vnni`.
enum class Level {
  baseline,
  neon64_dot_i8mm,
  fma3_avx2,
  avx2_vnni,
  avx2_vnni_vl,
  avx512,
  avx512_vnni,
  avx512_vnni_bf16
};

/// All of them, the best first.
inline constexpr Level all_levels[] = {
    Level::avx512_vnni_bf16, Level::avx512_vnni, Level::avx512,          Level::avx2_vnni_vl,
    Level::avx2_vnni,        Level::fma3_avx2,   Level::neon64_dot_i8mm, Level::baseline};

/// The level whose kernels one shares that has dot products besides; itself for others.
[[nodiscard]] constexpr Level below(Level level) noexcept {
  switch (level) {
    case Level::neon64_dot_i8mm: return Level::baseline;
    case Level::avx2_vnni:
    case Level::avx2_vnni_vl: return Level::fma3_avx2;
    case Level::avx512_vnni:
    case Level::avx512_vnni_bf16: return Level::avx512;
    default: return level;
  }
}

/// The features of a CPU, and of the operating system below it, that the kernels can use.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512cd = false;
  bool avx512dq = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512vnni = false;
  bool avx512bf16 = false;
  bool avx512vbmi = false;
  bool avxvnni = false;
  bool asimd_dot = false;
  bool asimd_i8mm = false;
};

/// Whether a CPU with these features runs the kernels of a level.
[[nodiscard]] constexpr bool can_run(Level level, const CpuFeatures& cpu) noexcept {
  const bool avx2 = cpu.avx2 && cpu.fma && cpu.f16c;
  const bool avx512 = avx2 && cpu.avx512f && cpu.avx512cd && cpu.avx512dq && cpu.avx512bw;
  const bool vnni = avx512 && cpu.avx512vl && cpu.avx512vnni;
  switch (level) {
    case Level::baseline: return true;
    case Level::neon64_dot_i8mm: return cpu.asimd_dot && cpu.asimd_i8mm;
    case Level::fma3_avx2: return avx2;
    case Level::avx2_vnni: return avx2 && cpu.avxvnni;
    case Level::avx2_vnni_vl: return vnni;
    case Level::avx512: return avx512;
    case Level::avx512_vnni: return vnni;
    case Level::avx512_vnni_bf16: return vnni && cpu.avx512bf16 && cpu.avx512vbmi;
  }
  return false;
}

/// The best level that a CPU with these features runs.
[[nodiscard]] constexpr Level best_level(const CpuFeatures& cpu) noexcept {
  for (const Level level : all_levels)
    if (can_run(level, cpu)) return level;
  return Level::baseline;
}

/// Whether this machine's CPU is one of Intel's.
[[nodiscard]] inline bool is_intel() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();  // whoever asks may be older than the runtime's own call
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

/// Those of the dot products of an instruction set that are worth it. Products of bf16 are twice as
/// fast as those of the floats that weights are widened to on an EPYC of AMD, and slower on a Xeon
/// of Intel: 1.3 to 1.8 times the time of a dense layer from four samples on. One CPU of each was
/// measured, and is taken for all of its maker.
[[nodiscard]] constexpr DotProducts worthwhile(DotProducts dots, bool intel) noexcept {
  return intel && dots == DotProducts::int8_bf16 ? DotProducts::int8 : dots;
}

}  // namespace v0
}  // namespace pleat::kernel
