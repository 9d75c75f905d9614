// SPDX-License-Identifier: MIT
// What the machine can do at best, measured: arithmetic, and reading from caches and memory.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

namespace pleat::bench {

/// The physical limits of so many threads together. No program can reach them when the machine is
/// busy with others, so they are measured more than once, and the best counts.
class Limits {
 public:
  explicit Limits(int threads);

  /// Measures again, in about a second.
  void measure();

  /// Fused multiply-adds in float, two flops each, a second.
  [[nodiscard]] double flops() const { return flops_; }
  /// Bytes a second, for reading so many again and again; between two measured sizes, between
  /// their rates.
  [[nodiscard]] double bandwidth(double bytes) const;
  /// The least seconds that so much work takes, whichever limit it meets.
  [[nodiscard]] double seconds(double bytes, double flops) const;

 private:
  struct Free {
    void operator()(void* memory) const;
  };

  int threads_;
  double flops_ = 0;
  std::map<std::size_t, double> bandwidths_;  // by bytes
  std::unique_ptr<float, Free> memory_;
};

}  // namespace pleat::bench
