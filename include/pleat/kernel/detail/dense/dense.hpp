// SPDX-License-Identifier: MIT
// Dense times activations, from panels with rows in lanes; no horizontal sums and no transposes.
#pragma once

#include "pleat/kernel/detail/dense/dense_tile.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over dense panels. Breaking the chain of multiply-adds of an output into blocks of
/// columns stores and reloads the same number, so results do not depend on the batch, on the tile,
/// or on the split between threads.
template <class Arch, class T>
struct Dense : DenseTile<Arch, T> {
  using Tile = DenseTile<Arch, T>;
  using Tile::accumulators;
  using Tile::lanes;
  using Tile::near_bytes;
  using Tile::tall;
  using Tile::tile_panels;
  using Tile::tile_samples;
  using Tile::unit;
  using Tile::vectors;
  using typename Tile::Ahead;
  using typename Tile::Batch;
  using typename Tile::Inputs;
  using typename Tile::Scales;

  // Columns per block and samples per block of a large batch: the packed samples of a block (400 to
  // 800 KiB with AVX, 200 without) stay in the second-level cache. Deep blocks, because Y is read
  // and written once for each, and its columns often lie a power of two apart.
  static constexpr std::size_t block_cols = 4096 / sizeof(T);
  static constexpr std::size_t block_samples = 16 * tile_samples;

  /// As `tile`, for a panel of which only the first `rows` rows exist, and the first `samples`
  /// samples: through a full copy of its outputs, so that nothing is read or written past Y.
  template <std::size_t N, Inputs In>
  static void ragged_tile(const T* panel, std::size_t rows, std::size_t samples, std::size_t cols,
                          const T* x, std::size_t x_sample, T* y, std::size_t ldy, bool add,
                          const Ahead& ahead, const Scales& scales) {
    T copy[N * panel_rows] = {};
    if (add)
      for (std::size_t j = 0; j < N && j < samples; ++j)
        for (std::size_t i = 0; i < rows; ++i) copy[j * panel_rows + i] = y[j * ldy + i];
    T* target = copy;
    Tile::template tile<1, N, In>(&panel, cols, x, x_sample, &target, panel_rows, add, ahead,
                                  scales);
    for (std::size_t j = 0; j < N && j < samples; ++j)
      for (std::size_t i = 0; i < rows; ++i) y[j * ldy + i] = copy[j * panel_rows + i];
  }

  /// All rows by N samples, of which packed ones may be padding: then only `samples` exist. Reading
  /// four panels that lie a quarter of the matrix apart keeps four streams of memory busy; it pays
  /// while the tile has accumulators to spare.
  template <std::size_t N, Inputs In>
  static void all_rows(std::size_t samples, std::size_t rows, std::size_t cols, const T* panels,
                       std::size_t panel_stride, const T* x, std::size_t x_sample, T* y,
                       std::size_t ldy, bool add, const Ahead& ahead, const Scales& scales) {
    if constexpr (In == Inputs::in_place)
      if (rows * cols * sizeof(T) <= near_bytes)
        return Tile::template near_rows<N>(rows, cols, panels, x, y, add, x_sample, ldy);
    // A block of packed samples comes with `tile_panels` panels at a time.
    constexpr std::size_t most =
        In == Inputs::in_place ? accumulators / (vectors * N) : tile_panels;
    constexpr std::size_t streams = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const std::size_t full = samples == N ? rows / panel_rows : 0;
    const std::size_t part = full / streams;
    for (std::size_t i = 0; i < part; ++i) {
      const T* panel[streams];
      T* target[streams];
      for (std::size_t p = 0; p < streams; ++p) {
        panel[p] = panels + (p * part + i) * panel_stride;
        target[p] = y + (p * part + i) * panel_rows;
      }
      Tile::template tile<streams, N, In>(panel, cols, x, x_sample, target, ldy, add, ahead,
                                          scales.from(i));
    }
    for (std::size_t p = part * streams; p < full; ++p) {
      const T* panel = panels + p * panel_stride;
      T* target = y + p * panel_rows;
      Tile::template tile<1, N, In>(&panel, cols, x, x_sample, &target, ldy, add, ahead,
                                    scales.from(p));
    }
    for (std::size_t p = full; p * panel_rows < rows; ++p) {
      const std::size_t left = rows - p * panel_rows;
      ragged_tile<N, In>(panels + p * panel_stride, left < panel_rows ? left : panel_rows, samples,
                         cols, x, x_sample, y + p * panel_rows, ldy, add, ahead, scales.from(p));
    }
  }

  // Packed samples are padded to a multiple of this: fewer widths to compile a tile for.
  static constexpr std::size_t quantum = tile_samples % 6 == 0 ? tile_samples / 3 : 1;
  static constexpr std::size_t padded(std::size_t samples) {
    return (samples + quantum - 1) / quantum * quantum;
  }

  /// `all_rows` for a number of samples that only the run knows, at most `tile_samples`.
  template <Inputs In, std::size_t N = tile_samples>
  static void few_samples(std::size_t samples, std::size_t rows, std::size_t cols, const T* panels,
                          std::size_t panel_stride, const T* x, std::size_t x_sample, T* y,
                          std::size_t ldy, bool add, const Ahead& ahead = {},
                          const Scales& scales = {}) {
    constexpr std::size_t less = In == Inputs::in_place ? 1 : quantum;
    if constexpr (N > 0) {
      if (samples + less > N)
        all_rows<N, In>(samples, rows, cols, panels, panel_stride, x, x_sample, y, ldy, add, ahead,
                        scales);
      else
        few_samples<In, N - less>(samples, rows, cols, panels, panel_stride, x, x_sample, y, ldy,
                                  add, ahead, scales);
    }
  }

  /// Samples that are packed side by side: a tile, or less where that makes two tiles even.
  static constexpr std::size_t group_of(std::size_t batch) {
    if (batch > 2 * tile_samples || batch == 0) return tile_samples;
    return padded(batch <= tile_samples ? batch : (batch + 1) / 2);
  }

  /// One block of columns and samples, panel by panel, from packed samples.
  static void block(std::size_t rows, std::size_t cols, const T* panels, std::size_t panel_stride,
                    std::size_t samples, std::size_t group, const T* packed, T* y, std::size_t ldy,
                    bool add) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(panels);
    for (std::size_t r = 0; r < rows; r += tall) {
      const std::size_t height = rows - r < tall ? rows - r : tall;
      const std::size_t at = r / panel_rows * panel_stride;
      const Ahead next = ahead(bytes + at * sizeof(T), panel_stride * sizeof(T),
                               panel_rows * sizeof(T), rows - r - height);
      block_row(height, cols, panels + at, panel_stride, samples, group, packed, y + r, ldy, add,
                next);
    }
  }

  /// The rows that one tile spans, by the packed samples of a block. While the first of them are
  /// computed, the panels that come next are fetched.
  static void block_row(std::size_t rows, std::size_t cols, const T* panels,
                        std::size_t panel_stride, std::size_t samples, std::size_t group,
                        const T* packed, T* y, std::size_t ldy, bool add, const Ahead& next,
                        const Scales& scales = {}) {
    for (std::size_t j = 0; j < samples; j += group) {
      const std::size_t width = samples - j < group ? samples - j : group;
      const T* const x = packed + j * cols;
      T* const to = y + j * ldy;
      if (scales.values != nullptr) {
        const bool fetches = j == 0 && next.first != nullptr;
        const Ahead nothing{reinterpret_cast<const std::uint8_t*>(panels), 0, 0};
        few_samples<Inputs::packed_scaled>(width, rows, cols, panels, panel_stride, x, 0, to, ldy,
                                           add, fetches ? next : nothing, scales);
      } else if (j == 0 && next.first != nullptr)
        few_samples<Inputs::packed_ahead>(width, rows, cols, panels, panel_stride, x, 0, to, ldy,
                                          add, next);
      else few_samples<Inputs::packed>(width, rows, cols, panels, panel_stride, x, 0, to, ldy, add);
    }
  }

  /// The panels after those at `panels`, which are `stride` bytes long, if `rows` follow.
  static Ahead ahead(const std::uint8_t* panels, std::size_t stride, std::size_t column_bytes,
                     std::size_t rows) {
    if (rows == 0) return {};
    return {panels + tile_panels * stride, column_bytes, rows > panel_rows ? stride : 0};
  }

  static void apply(std::size_t rows, std::size_t cols, const T* panels, std::size_t batch,
                    const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
    if (batch == 1 && rows * cols * sizeof(T) <= near_bytes)  // the least time to be found in
      return Tile::template near_rows<1>(rows, cols, panels, x, y, add, ldx, ldy);
    any_batch(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
  }

  [[gnu::noinline]] static void any_batch(std::size_t rows, std::size_t cols, const T* panels,
                                          std::size_t batch, const T* x, std::size_t ldx, T* y,
                                          std::size_t ldy, bool add, T* scratch) {
    const std::size_t stride = cols * panel_rows;
    if (dense_regime(unit, sizeof(T), rows, cols, batch) == Regime::in_place) {
      if constexpr (vectors > 1)
        if (rows > 0 && rows <= panel_rows / 2)  // there may be no panels to point into
          return Tile::few_rows(rows, cols, panels, batch, x, ldx, y, ldy, add);
      const std::size_t parts = (batch + tile_samples - 1) / tile_samples;
      for (std::size_t part = 0, j = 0; part < parts; ++part) {
        const std::size_t width = (batch - j + parts - part - 1) / (parts - part);
        few_samples<Inputs::in_place>(width, rows, cols, panels, stride, x + j * ldx, ldx,
                                      y + j * ldy, ldy, add);
        j += width;
      }
      return;
    }
    const std::size_t group = group_of(batch);
    std::size_t k = 0;
    do {  // at least once: no columns still means that Y is overwritten
      const std::size_t depth = cols - k < block_cols ? cols - k : block_cols;
      for (std::size_t j = 0; j < batch; j += block_samples) {
        const std::size_t samples = batch - j < block_samples ? batch - j : block_samples;
        pack(samples, group, depth, x + j * ldx + k, ldx, scratch);
        block(rows, depth, panels + k * panel_rows, stride, samples, group, scratch, y + j * ldy,
              ldy, add || k > 0);
      }
      k += depth;
    } while (k < cols);
  }

  /// Groups of samples, the last one padded, interleaved: the broadcasts of a tile then walk one
  /// line.
  static void pack(std::size_t samples, std::size_t group, std::size_t cols, const T* x,
                   std::size_t ldx, T* packed) {
    for (std::size_t j = 0; j < samples; j += group) {
      const std::size_t width = samples - j < group ? samples - j : group;
      const std::size_t pitch = padded(width);
      for (std::size_t t = 0; t < pitch; ++t) {
        const T* from = x + (j + t) * ldx;
        T* to = packed + j * cols + t;
        for (std::size_t k = 0; k < cols; ++k) to[k * pitch] = t < width ? from[k] : T(0);
      }
    }
  }

  static std::size_t scratch(std::size_t rows, std::size_t cols, std::size_t batch) {
    if (dense_regime(unit, sizeof(T), rows, cols, batch) == Regime::in_place) return 0;
    return (cols < block_cols ? cols : block_cols) * packed_samples(batch);
  }

  /// Samples of the largest block, padding included.
  static constexpr std::size_t packed_samples(std::size_t batch) {
    if (batch >= block_samples) return block_samples;
    const std::size_t group = group_of(batch);
    return batch / group * group + padded(batch % group);
  }

  /// C columns of W by one sample: C dot products with all panels, each in `vectors` registers.
  template <std::size_t C>
  static void transpose_tile(std::size_t rows, const T* panels, std::size_t panel_stride,
                             const T* y, T* x) {
    Batch sum[C];
#pragma GCC unroll 16
    for (std::size_t c = 0; c < C; ++c) sum[c] = Batch(T(0));
    std::size_t r = 0;
    for (; r + panel_rows <= rows; r += panel_rows, panels += panel_stride)
#pragma GCC unroll 16
      for (std::size_t v = 0; v < vectors; ++v) {
        const Batch yv = Batch::load_unaligned(y + r + v * lanes);
#pragma GCC unroll 16
        for (std::size_t c = 0; c < C; ++c)
          sum[c] = MultiplyAdd<Arch, T>::of(
              Batch::load_aligned(panels + c * panel_rows + v * lanes), yv, sum[c]);
      }
    if (r < rows) {
      T copy[panel_rows] = {};
      for (std::size_t i = 0; r + i < rows; ++i) copy[i] = y[r + i];
#pragma GCC unroll 16
      for (std::size_t v = 0; v < vectors; ++v) {
        const Batch yv = Batch::load_unaligned(copy + v * lanes);
#pragma GCC unroll 16
        for (std::size_t c = 0; c < C; ++c)
          sum[c] = MultiplyAdd<Arch, T>::of(
              Batch::load_aligned(panels + c * panel_rows + v * lanes), yv, sum[c]);
      }
    }
#pragma GCC unroll 16
    for (std::size_t c = 0; c < C; ++c) {
      T lane[lanes];
      sum[c].store_unaligned(lane);
      T total = lane[0];
      for (std::size_t i = 1; i < lanes; ++i) total += lane[i];
      x[c] = total;
    }
  }

  static void apply_transpose(std::size_t rows, std::size_t cols, const T* panels,
                              std::size_t panel_stride, std::size_t batch, const T* y,
                              std::size_t ldy, T* x, std::size_t ldx) {
    if (rows == 0) {  // an empty sum; and there may be no panels to point into
      for (std::size_t j = 0; j < batch; ++j)
        for (std::size_t c = 0; c < cols; ++c) x[j * ldx + c] = T(0);
      return;
    }
    constexpr std::size_t width = 8;
    std::size_t k = 0;
    // These columns of all panels stay in cache for the whole batch.
    for (; k + width <= cols; k += width)
      for (std::size_t j = 0; j < batch; ++j)
        transpose_tile<width>(rows, panels + k * panel_rows, panel_stride, y + j * ldy,
                              x + j * ldx + k);
    for (; k < cols; ++k)
      for (std::size_t j = 0; j < batch; ++j)
        transpose_tile<1>(rows, panels + k * panel_rows, panel_stride, y + j * ldy,
                          x + j * ldx + k);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
