// SPDX-License-Identifier: MIT
// Interleaved small matrices times activations: a matrix to a lane, so that nothing is permuted.
#pragma once

#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over up to `panel_rows` matrices whose rows and columns are interleaved (see
/// `Table::interleaved_apply`). As with dense panels, an output is one chain of multiply-adds over
/// the columns in ascending order that starts from zero, or from the output itself where it is
/// added to, so results depend neither on the batch, nor on the tile, nor on the split between
/// threads.
template <class Arch, class T>
struct Interleaved {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static_assert(panel_rows % lanes == 0);

  // Accumulators that fit the register file beside the inputs of a column and one weight.
  static constexpr std::size_t registers = sizeof(Batch) == 64 ? 32 : 16;
  static constexpr std::size_t tile_samples = registers * 3 / 4 / strip_rows;

  // Columns per block and samples per block: the weights of a strip stay in the first-level cache
  // while the packed samples, 200 to 400 KiB at most, stream past it from the second.
  static constexpr std::size_t block_depth = sizeof(T) == 4 ? 128 : 64;
  static constexpr std::size_t block_samples = 8 * tile_samples;
  static_assert(block_depth % strip_rows == 0);

  static constexpr std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }

  /// A strip of P rows by N packed samples; `y_row` is the distance between two rows.
  template <std::size_t P, std::size_t N>
  static void tile(std::size_t depth, const T* values, const T* x, T* y, std::size_t y_row,
                   std::size_t ldy, bool add) {
    for (std::size_t v = 0; v < vectors; ++v) {
      T* const out = y + v * lanes;
      Batch sum[N][P];
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p)
          sum[j][p] = add ? Batch::load_unaligned(out + j * ldy + p * y_row) : Batch(T(0));
      const T* w = values + v * lanes;
      const T* in = x + v * lanes;
      for (std::size_t q = 0; q < depth; ++q, w += P * panel_rows, in += N * panel_rows) {
        Batch xq[N];
#pragma GCC unroll 16
        for (std::size_t j = 0; j < N; ++j) xq[j] = Batch::load_aligned(in + j * panel_rows);
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p) {
          const Batch wp = Batch::load_aligned(w + p * panel_rows);
#pragma GCC unroll 16
          for (std::size_t j = 0; j < N; ++j)
            sum[j][p] = MultiplyAdd<Arch, T>::of(wp, xq[j], sum[j][p]);
        }
      }
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p) sum[j][p].store_unaligned(out + j * ldy + p * y_row);
    }
  }

  /// As `tile`; `size` values of a sample of Y exist from its first on. Where a row is short,
  /// through a copy, so that nothing is read or written past Y, or between two of its rows.
  template <std::size_t P, std::size_t N>
  static void strip(std::size_t depth, std::size_t size, std::size_t distance, std::size_t width,
                    const T* values, const T* x, T* y, std::size_t ldy, bool add) {
    if (width == panel_rows && size >= (P - 1) * distance + panel_rows) {
      tile<P, N>(depth, values, x, y, distance, ldy, add);
      return;
    }
    T copy[N * P * panel_rows] = {};
    const auto each = [&](auto body) {
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p)
          for (std::size_t k = 0; k < least(width, size - p * distance); ++k)
            body(copy[(j * P + p) * panel_rows + k], y[j * ldy + p * distance + k]);
    };
    if (add) each([](T& inside, const T& outside) { inside = outside; });
    tile<P, N>(depth, values, x, copy, panel_rows, P * panel_rows, add);
    each([](const T& inside, T& outside) { outside = inside; });
  }

  /// `strip` for numbers of rows and samples that only the run knows.
  template <std::size_t P = strip_rows, std::size_t N = tile_samples>
  static void any_strip(std::size_t rows, std::size_t samples, std::size_t depth, std::size_t size,
                        std::size_t distance, std::size_t width, const T* values, const T* x, T* y,
                        std::size_t ldy, bool add) {
    if constexpr (P > 1)
      if (rows < P)
        return any_strip<P - 1, N>(rows, samples, depth, size, distance, width, values, x, y, ldy,
                                   add);
    if constexpr (N > 1)
      if (samples < N)
        return any_strip<P, N - 1>(rows, samples, depth, size, distance, width, values, x, y, ldy,
                                   add);
    strip<P, N>(depth, size, distance, width, values, x, y, ldy, add);
  }

  /// `depth` rows of `samples` interleaved samples, `panel_rows` values each, with zeros where a
  /// row is short. `size` values of a sample exist from its first on.
  static void pack(std::size_t depth, std::size_t samples, std::size_t size, std::size_t distance,
                   std::size_t width, const T* x, std::size_t ldx, T* packed) {
    for (std::size_t j = 0; j < samples; ++j)
      for (std::size_t q = 0; q < depth; ++q) {
        const T* from = x + j * ldx + q * distance;
        T* to = packed + (q * samples + j) * panel_rows;
        const std::size_t count = least(width, size - q * distance);
        if (count == panel_rows) {
#pragma GCC unroll 16
          for (std::size_t v = 0; v < vectors; ++v)
            Batch::load_unaligned(from + v * lanes).store_aligned(to + v * lanes);
          continue;
        }
        for (std::size_t k = 0; k < panel_rows; ++k) to[k] = k < count ? from[k] : T(0);
      }
  }

  static void apply(std::size_t y_size, std::size_t x_size, std::size_t distance, std::size_t width,
                    const T* values, std::size_t batch, const T* x, std::size_t ldx, T* y,
                    std::size_t ldy, bool add, T* scratch) {
    const std::size_t rows = (y_size + distance - 1) / distance;
    const std::size_t cols = (x_size + distance - 1) / distance;
    std::size_t q = 0;
    do {  // at least once: no columns still means that Y is overwritten
      const std::size_t depth = least(cols - q, block_depth);
      for (std::size_t begin = 0; begin < batch; begin += block_samples) {
        const std::size_t end = least(batch, begin + block_samples);
        for (std::size_t j = begin; j < end; j += tile_samples)
          pack(depth, least(end - j, tile_samples), x_size - q * distance, distance, width,
               x + j * ldx + q * distance, ldx, scratch + (j - begin) * depth * panel_rows);
        for (std::size_t p = 0; p < rows; p += strip_rows) {
          const std::size_t height = least(rows - p, strip_rows);
          for (std::size_t j = begin; j < end; j += tile_samples)
            any_strip(height, least(end - j, tile_samples), depth, y_size - p * distance, distance,
                      width, values + (p * cols + q * height) * panel_rows,
                      scratch + (j - begin) * depth * panel_rows, y + j * ldy + p * distance, ldy,
                      add || q > 0);
        }
      }
      q += depth;
    } while (q < cols);
  }

  static std::size_t scratch(std::size_t depth, std::size_t batch) {
    return least(depth, block_depth) * least(batch, block_samples) * panel_rows;
  }

  /// Column q of W, as a row of W^T, by N packed samples of Y.
  template <std::size_t N>
  static void transpose_tile(std::size_t depth, const T* values, std::size_t q, std::size_t cols,
                             const T* y, std::size_t count, T* x, std::size_t ldx, bool add) {
    T copy[N * panel_rows] = {};
    if (add)
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
        for (std::size_t k = 0; k < count; ++k) copy[j * panel_rows + k] = x[j * ldx + k];
    for (std::size_t v = 0; v < vectors; ++v) {
      Batch sum[N];
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
        sum[j] = Batch::load_unaligned(copy + j * panel_rows + v * lanes);
      for (std::size_t p = 0; p < depth; p += strip_rows) {
        const std::size_t height = least(depth - p, strip_rows);
        const T* w = values + (p * cols + q * height) * panel_rows + v * lanes;
        const T* in = y + p * N * panel_rows + v * lanes;
        for (std::size_t i = 0; i < height; ++i) {
          const Batch wp = Batch::load_aligned(w + i * panel_rows);
#pragma GCC unroll 16
          for (std::size_t j = 0; j < N; ++j)
            sum[j] = MultiplyAdd<Arch, T>::of(
                wp, Batch::load_aligned(in + (i * N + j) * panel_rows), sum[j]);
        }
      }
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j) sum[j].store_unaligned(copy + j * panel_rows + v * lanes);
    }
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t k = 0; k < count; ++k) x[j * ldx + k] = copy[j * panel_rows + k];
  }

  template <std::size_t N = tile_samples>
  static void any_transpose_tile(std::size_t samples, std::size_t depth, const T* values,
                                 std::size_t q, std::size_t cols, const T* y, std::size_t count,
                                 T* x, std::size_t ldx, bool add) {
    if constexpr (N > 1)
      if (samples < N)
        return any_transpose_tile<N - 1>(samples, depth, values, q, cols, y, count, x, ldx, add);
    transpose_tile<N>(depth, values, q, cols, y, count, x, ldx, add);
  }

  /// X = W^T Y for the columns [first, last) of W; x points at column 0.
  static void apply_transpose(std::size_t y_size, std::size_t x_size, std::size_t distance,
                              std::size_t width, std::size_t first, std::size_t last,
                              const T* values, std::size_t batch, const T* y, std::size_t ldy, T* x,
                              std::size_t ldx, T* scratch) {
    const std::size_t rows = (y_size + distance - 1) / distance;
    const std::size_t cols = (x_size + distance - 1) / distance;
    std::size_t p = 0;
    do {  // at least once: no rows still means that X is overwritten
      const std::size_t depth = least(rows - p, block_depth);
      for (std::size_t j = 0; j < batch; j += tile_samples) {
        const std::size_t samples = least(batch - j, tile_samples);
        pack(depth, samples, y_size - p * distance, distance, width, y + j * ldy + p * distance,
             ldy, scratch);
        for (std::size_t q = first; q < last; ++q)
          any_transpose_tile(samples, depth, values + p * cols * panel_rows, q, cols, scratch,
                             least(width, x_size - q * distance), x + j * ldx + q * distance, ldx,
                             p > 0);
      }
      p += depth;
    } while (p < rows);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
