// SPDX-License-Identifier: MIT
// Transposing activations, so that samples lie side by side, and back.
#pragma once

#include "pleat/kernel/detail/simd/lanes.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// to[i * ld_to + j] = from[j * ld_from + i], by square blocks in registers.
template <class Arch, class T>
struct Transpose {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;

  /// One block. Interleaving the first half of the vectors with the second is a rotation of the
  /// bits of (vector, lane) by one; as many rotations as a lane has bits swap the two.
  static void block(const T* from, std::size_t ld_from, T* to, std::size_t ld_to) {
    Batch row[lanes];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < lanes; ++j) row[j] = Batch::load_unaligned(from + j * ld_from);
#pragma GCC unroll 16
    for (std::size_t bit = 1; bit < lanes; bit *= 2) {
      Batch next[lanes];
#pragma GCC unroll 16
      for (std::size_t j = 0; j < lanes / 2; ++j) {
        next[2 * j] = Interleave<Arch, T>::low(row[j], row[j + lanes / 2]);
        next[2 * j + 1] = Interleave<Arch, T>::high(row[j], row[j + lanes / 2]);
      }
#pragma GCC unroll 16
      for (std::size_t j = 0; j < lanes; ++j) row[j] = next[j];
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < lanes; ++i) row[i].store_unaligned(to + i * ld_to);
  }

  /// `count` columns of `height` values each. Strip by strip, as high as a block, so that a
  /// power-of-two distance of the columns does no harm.
  static void apply(std::size_t height, std::size_t count, const T* from, std::size_t ld_from,
                    T* to, std::size_t ld_to) {
    for (std::size_t i = 0; i < height; i += lanes) {
      std::size_t j = 0;
      if (height - i >= lanes)
        for (; j + lanes <= count; j += lanes)
          block(from + j * ld_from + i, ld_from, to + i * ld_to + j, ld_to);
      const std::size_t end = height - i < lanes ? height : i + lanes;
      for (; j < count; ++j)
        for (std::size_t t = i; t < end; ++t) to[t * ld_to + j] = from[j * ld_from + t];
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
