// SPDX-License-Identifier: MIT
// Kept blocks times many samples, samples in lanes: where a vector holds a whole column of a strip.
#pragma once

#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/transpose.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// With rows in lanes, and one vector of them, every multiply-add reads an input of its own. With
/// samples in lanes a tile of 8 rows by 3 vectors reads 11 times for 24 of them. Outputs are the
/// same chains of multiply-adds; they are transposed on their way.
template <class Arch, class T>
struct BlockSparseWide {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t most_vectors = 3;
  static constexpr std::size_t tile_rows = 8;
  static constexpr std::size_t tile_samples = most_vectors * lanes;
  static constexpr std::size_t block_samples = 4 * tile_samples;  // packed at once

  /// Whether so many samples are worth it: those of the last vector that do not exist are computed.
  static constexpr bool serves(std::size_t batch) {
    return panel_rows == lanes && batch > lanes + lanes / 2;
  }

  static constexpr std::size_t padded(std::size_t samples) {
    return (samples + lanes - 1) / lanes * lanes;
  }
  /// Samples that are packed side by side, as even as they get.
  static constexpr std::size_t group_of(std::size_t batch) {
    if (batch > block_samples) return tile_samples;
    const std::size_t parts = (batch + tile_samples - 1) / tile_samples;
    return padded((batch + parts - 1) / parts);
  }
  static constexpr std::size_t packed_samples(std::size_t batch) {
    if (batch >= block_samples) return block_samples;
    const std::size_t group = group_of(batch);
    return batch / group * group + padded(batch % group);
  }

  static void pack(std::size_t samples, std::size_t group, std::size_t cols, const T* x,
                   std::size_t ldx, T* packed) {
    for (std::size_t j = 0; j < samples; j += group) {
      const std::size_t width = samples - j < group ? samples - j : group;
      const std::size_t pitch = padded(width);
      T* const to = packed + j * cols;
      Transpose<Arch, T>::apply(cols, width, x + j * ldx, ldx, to, pitch);
      for (std::size_t k = 0; k < cols && width < pitch; ++k)
        for (std::size_t t = width; t < pitch; ++t) to[k * pitch + t] = T(0);
    }
  }

  /// Adds the products of `tile_rows` rows of a strip, from `above` on, to `out`, row by row.
  template <std::size_t S, class Strip, class Inputs>
  [[gnu::noinline]] static void tile(const Strip& strip, std::size_t above, const Inputs& in,
                                     T* out) {
    Batch sum[tile_rows][S];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < tile_rows; ++r)
#pragma GCC unroll 16
      for (std::size_t s = 0; s < S; ++s)
        sum[r][s] = Batch::load_aligned(out + (r * S + s) * lanes);
    const T* w = strip.values + above;
    const std::size_t stride = strip.pitch;
    for (std::size_t i = 0; i < strip.blocks; ++i) {
      const std::size_t at = (strip.column(i) - in.first) * in.width;
      const std::size_t count = in.cols - at < in.width ? in.cols - at : in.width;
      const T* x = in.x + at * (S * lanes);
      for (std::size_t k = 0; k < count; ++k, w += stride, x += S * lanes) {
        Batch input[S];
#pragma GCC unroll 16
        for (std::size_t s = 0; s < S; ++s) input[s] = Batch::load_aligned(x + s * lanes);
#pragma GCC unroll 16
        for (std::size_t r = 0; r < tile_rows; ++r) {
          const Batch weight(w[r]);
#pragma GCC unroll 16
          for (std::size_t s = 0; s < S; ++s)
            sum[r][s] = MultiplyAdd<Arch, T>::of(weight, input[s], sum[r][s]);
        }
      }
    }
#pragma GCC unroll 16
    for (std::size_t r = 0; r < tile_rows; ++r)
#pragma GCC unroll 16
      for (std::size_t s = 0; s < S; ++s) sum[r][s].store_aligned(out + (r * S + s) * lanes);
  }

  /// One strip by `samples` samples, packed in S vectors or fewer. Rows that do not exist are
  /// computed from what follows, and not stored.
  template <class Strip, class Inputs, std::size_t S = most_vectors>
  static void strip_by(std::size_t samples, const Strip& strip, const Inputs& in, std::size_t ldy,
                       bool add) {
    if constexpr (S > 1)
      if (samples <= (S - 1) * lanes)
        return strip_by<Strip, Inputs, S - 1>(samples, strip, in, ldy, add);
    if (strip.blocks == 0 && add) return;
    constexpr std::size_t pitch = S * lanes;
    alignas(64) T out[panel_rows * pitch];
    for (std::size_t i = 0; i < panel_rows * pitch; i += lanes) Batch(T(0)).store_aligned(out + i);
    if (add) Transpose<Arch, T>::apply(strip.height, samples, strip.y, ldy, out, pitch);
    for (std::size_t r = 0; r < strip.height; r += tile_rows)
      tile<S>(strip, r, in, out + r * pitch);
    Transpose<Arch, T>::apply(samples, strip.height, out, pitch, strip.y, ldy);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
