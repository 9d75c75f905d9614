// SPDX-License-Identifier: MIT
// The loops below are compiled for every width of vectors that the machine may have.
#include "limits.hpp"

#include "pleat/core/workspace.hpp"
#include "pleat/kernel/active.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <new>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pleat::bench {
namespace {

constexpr std::size_t largest = std::size_t{512} << 20;

/// So that the compiler knows no operand, and keeps every result.
volatile float unknown[2] = {0.999F, 0.001F};
volatile float sink;

// multiply_add: twelve independent chains of multiply-adds, which hide the latency of two units.
// read: the sum of four streams far apart, which a core reads faster than one.
#define BENCH_LOOPS(NAME, TARGET, BYTES)                                           \
  struct NAME {                                                                    \
    using Vector [[gnu::vector_size(BYTES)]] = float;                              \
    static constexpr std::size_t width = (BYTES) / sizeof(float);                  \
    TARGET static void multiply_add(std::size_t rounds) {                          \
      const Vector x = Vector{} + unknown[0], y = Vector{} + unknown[1];           \
      Vector a = y, b = y + a, c = y + b, d = y + c, e = y + d, f = y + e;         \
      Vector g = y + f, h = y + g, i = y + h, j = y + i, k = y + j, l = y + k;     \
      for (std::size_t round = 0; round < rounds; ++round) {                       \
        a = a * x + y, b = b * x + y, c = c * x + y, d = d * x + y, e = e * x + y; \
        f = f * x + y, g = g * x + y, h = h * x + y, i = i * x + y, j = j * x + y; \
        k = k * x + y, l = l * x + y;                                              \
      }                                                                            \
      a += b + c + d + e + f + g + h + i + j + k + l;                              \
      for (std::size_t lane = 0; lane < width; ++lane) sink = a[lane];             \
    }                                                                              \
    TARGET static void read(const float* from, std::size_t count) {                \
      const auto* p = reinterpret_cast<const Vector*>(from);                       \
      const std::size_t far = count / width / 4;                                   \
      const Vector *q = p + far, *r = q + far, *s = r + far;                       \
      Vector a = {}, b = {}, c = {}, d = {}, e = {}, f = {}, g = {}, h = {};       \
      for (std::size_t i = 0; i < far; i += 2) {                                   \
        a += p[i], b += q[i], c += r[i], d += s[i];                                \
        e += p[i + 1], f += q[i + 1], g += r[i + 1], h += s[i + 1];                \
      }                                                                            \
      a += b + c + d + e + f + g + h;                                              \
      for (std::size_t lane = 0; lane < width; ++lane) sink = a[lane];             \
    }                                                                              \
  };

BENCH_LOOPS(Baseline, , 16)
#ifdef __x86_64__
BENCH_LOOPS(Avx2, [[gnu::target("avx2,fma")]], 32)
BENCH_LOOPS(Avx512, [[gnu::target("avx512f")]], 64)
#endif

struct Loops {
  void (*multiply_add)(std::size_t rounds);
  void (*read)(const float* from, std::size_t count);
  std::size_t width;
};

template <class Width>
constexpr Loops loops_of{Width::multiply_add, Width::read, Width::width};

/// As wide as the kernels, which are the best of the machine unless something forces others.
Loops loops_of_kernels() {
#ifdef __x86_64__
  const std::string arch = kernel::active<float>().arch;
  if (arch.starts_with("avx512")) return loops_of<Avx512>;
  if (arch == "fma3+avx2" || arch == "avx2+vnni") return loops_of<Avx2>;
#endif
  return loops_of<Baseline>;
}

/// The least seconds of a few runs of `body(thread)` on all threads at once.
template <class Body>
double least_seconds(int threads, Body&& body) {
  Workspace workspace(OpenMP{threads});
  double least = INFINITY;
  for (int repetition = 0; repetition < 5; ++repetition) {
    const auto begin = std::chrono::steady_clock::now();
    workspace.run(threads, body);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    least = std::min(least, taken.count());
  }
  return least;
}

}  // namespace

void Limits::Free::operator()(void* memory) const { std::free(memory); }

Limits::Limits(int threads) : threads_(threads) {
  constexpr std::size_t huge_page = std::size_t{2} << 20;
  void* const memory = std::aligned_alloc(huge_page, largest);
  if (memory == nullptr) throw std::bad_alloc();
  memory_.reset(static_cast<float*>(memory));
#ifdef __linux__
  madvise(memory, largest, MADV_HUGEPAGE);  // the limit of the memory, not of the page tables
#endif
  std::fill_n(memory_.get(), largest / sizeof(float), 1.0F);
  measure();
}

void Limits::measure() {
  const Loops loops = loops_of_kernels();
  const auto threads = static_cast<std::size_t>(threads_);
  constexpr std::size_t rounds = 2'000'000;
  const double multiplied = least_seconds(threads_, [&](Index) { loops.multiply_add(rounds); });
  const double flops = 2.0 * 12 * double(loops.width) * double(rounds) * double(threads);
  flops_ = std::max(flops_, flops / multiplied);

  for (std::size_t bytes = std::size_t{16} << 10; bytes <= largest; bytes *= 2) {
    // Far beyond all caches, one size is enough.
    if (bytes > largest / 4 && bytes < largest) continue;
    const std::size_t count = bytes / sizeof(float) / threads;
    const std::size_t passes = std::max<std::size_t>(1, (std::size_t{64} << 20) / bytes);
    const double seconds = least_seconds(threads_, [&](Index thread) {
      const float* const from = memory_.get() + static_cast<std::size_t>(thread) * count;
      for (std::size_t pass = 0; pass < passes; ++pass) loops.read(from, count);
    });
    const double rate = double(bytes) * double(passes) / seconds;
    bandwidths_[bytes] = std::max(bandwidths_[bytes], rate);
  }
}

double Limits::bandwidth(double bytes) const {
  const auto above = bandwidths_.lower_bound(static_cast<std::size_t>(bytes));
  if (above == bandwidths_.begin()) return above->second;
  const auto below = std::prev(above);
  if (above == bandwidths_.end()) return below->second;
  const double share = std::log(bytes / double(below->first)) /
                       std::log(double(above->first) / double(below->first));
  return below->second + share * (above->second - below->second);
}

double Limits::seconds(double bytes, double flops) const {
  return std::max(bytes / bandwidth(bytes), flops / flops_);
}

}  // namespace pleat::bench
