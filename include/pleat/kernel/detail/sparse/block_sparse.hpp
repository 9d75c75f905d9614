// SPDX-License-Identifier: MIT
// Kept blocks of a matrix times activations: dense tiles that skip the columns of the others.
#pragma once

#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/detail/sparse/block_sparse_wide.hpp"
#include "pleat/kernel/detail/sparse/block_strips.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over kept blocks (see `Table::block_sparse_apply`). In every one, an output is one chain
/// of multiply-adds over the kept columns of its row in ascending order, which starts from zero, or
/// from the output itself where it is added to. So results depend neither on the batch, nor on the
/// tile, nor on the split between threads.
template <class Arch, class T>
struct BlockSparse {
  using Batch = xsimd::batch<T, Arch>;
  using Wide = BlockSparseWide<Arch, T>;
  using Strips = BlockStrips<Arch, T>;
  using Strip = typename Strips::Strip;
  using Inputs = typename Strips::Inputs;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;  // registers for a column of a strip
  static constexpr VectorUnit unit = VectorUnit::of(sizeof(Batch));
  static constexpr std::size_t accumulators = unit.registers * 3 / 4;

  /// Samples of the widest tile. One strip high, because the next has other columns.
  static constexpr std::size_t tile_samples =
      accumulators / vectors < 16 ? accumulators / vectors : 16;
  // Packed samples are padded to a multiple of this: fewer widths to compile a tile for.
  static constexpr std::size_t quantum = tile_samples % 4 == 0 ? 4 : tile_samples % 2 == 0 ? 2 : 1;
  static constexpr std::size_t padded(std::size_t samples) {
    return samples <= 2 ? samples : (samples + quantum - 1) / quantum * quantum;
  }
  /// The next smaller width of a tile.
  static constexpr std::size_t narrower(std::size_t samples) {
    return samples >= quantum + 2 ? samples - quantum : samples > 2 ? 2 : 1;
  }

  // Columns and samples that are packed at once: they stay in the second-level cache.
  static constexpr std::size_t most_cols = 4096 / sizeof(T);
  static constexpr std::size_t block_samples = (tile_samples < 16 ? 16 : 12) * tile_samples;

  /// Whole blocks of columns.
  static constexpr std::size_t depth_of(std::size_t block_cols) {
    return block_cols < most_cols ? most_cols / block_cols * block_cols : block_cols;
  }

  /// Adds `count` columns of G strips, whose inputs lie at `x`, and advances their weights.
  template <std::size_t G, std::size_t N, std::size_t V>
  [[gnu::always_inline]] static void columns(const T* (&w)[G], const T* const (&x)[G],
                                             std::size_t count, std::size_t stride,
                                             Batch (&sum)[G][N][V]) {
    for (std::size_t k = 0; k < count; ++k)
#pragma GCC unroll 16
      for (std::size_t g = 0; g < G; ++g) {
        Batch weight[V];
#pragma GCC unroll 16
        for (std::size_t v = 0; v < V; ++v) weight[v] = Batch::load_unaligned(w[g] + v * lanes);
        w[g] += stride;
#pragma GCC unroll 16
        for (std::size_t j = 0; j < N; ++j) {
          const Batch xj(x[g][k * N + j]);
#pragma GCC unroll 16
          for (std::size_t v = 0; v < V; ++v)
            sum[g][j][v] = MultiplyAdd<Arch, T>::of(weight[v], xj, sum[g][j][v]);
        }
      }
  }

  /// The first `blocks` blocks of G strips by N packed samples. More than one strip are whole ones,
  /// and so are their blocks. The first V vectors hold a column, and Y has room for them.
  template <std::size_t G, std::size_t N, std::size_t V>
  [[gnu::noinline]] static void tile(const Strip* strips, std::size_t blocks, const Inputs& in,
                                     std::size_t ldy, bool add) {
    const std::size_t stride = G > 1 ? panel_rows : strips[0].pitch;
    const T* w[G];
    Batch sum[G][N][V];
#pragma GCC unroll 16
    for (std::size_t g = 0; g < G; ++g) {
      w[g] = strips[g].values;
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < V; ++v)
          sum[g][j][v] =
              add ? Batch::load_unaligned(strips[g].y + j * ldy + v * lanes) : Batch(T(0));
    }
    for (std::size_t i = 0; i < blocks; ++i) {
      const T* x[G];
      std::size_t count = in.width;
#pragma GCC unroll 16
      for (std::size_t g = 0; g < G; ++g) {
        const std::size_t at = (strips[g].column(i) - in.first) * in.width;
        if (G == 1 && in.cols - at < count) count = in.cols - at;
        x[g] = in.x + at * N;
      }
      columns(w, x, count, stride, sum);
    }
#pragma GCC unroll 16
    for (std::size_t g = 0; g < G; ++g)
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < V; ++v)
          sum[g][j][v].store_unaligned(strips[g].y + j * ldy + v * lanes);
  }

  /// As `tile`, for a strip of any height by the first `samples` of N samples: through a copy of
  /// its outputs where V vectors of N samples would be more than there are.
  template <std::size_t N, std::size_t V = vectors>
  static void one_strip(const Strip& strip, const Inputs& in, std::size_t samples, std::size_t ldy,
                        bool add) {
    if constexpr (V > 1)
      if (strip.height <= V / 2 * lanes) return one_strip<N, V / 2>(strip, in, samples, ldy, add);
    if (strip.blocks == 0 && add) return;
    if (strip.height == V * lanes && samples == N)
      return tile<1, N, V>(&strip, strip.blocks, in, ldy, add);
    constexpr std::size_t pitch = V * lanes;
    T copy[N * pitch] = {};
    if (add)
      for (std::size_t j = 0; j < samples; ++j)
        for (std::size_t i = 0; i < strip.height; ++i) copy[j * pitch + i] = strip.y[j * ldy + i];
    Strip copied = strip;
    copied.y = copy;
    tile<1, N, V>(&copied, strip.blocks, in, pitch, add);
    for (std::size_t j = 0; j < samples; ++j)
      for (std::size_t i = 0; i < strip.height; ++i) strip.y[j * ldy + i] = copy[j * pitch + i];
  }

  /// The same for a number of samples, padded, that only the run knows.
  template <std::size_t N = tile_samples>
  static void any_width(std::size_t width, const Strip& strip, const Inputs& in,
                        std::size_t samples, std::size_t ldy, bool add) {
    if constexpr (N > 1)
      if (width < N) return any_width<narrower(N)>(width, strip, in, samples, ldy, add);
    one_strip<N>(strip, in, samples, ldy, add);
  }

  /// All strips by no more samples than a tile takes: several at once, far apart, where there are
  /// accumulators to spare, as far as they have blocks alike.
  template <std::size_t N = tile_samples>
  static void few_samples(std::size_t width, const Strips& strips, const Inputs& in,
                          std::size_t samples, T* y, std::size_t ldy, bool add) {
    if constexpr (N > 1)
      if (width < N) return few_samples<narrower(N)>(width, strips, in, samples, y, ldy, add);
    constexpr std::size_t most = accumulators / (vectors * N);
    constexpr std::size_t together = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const std::size_t last = in.first + (in.cols + in.width - 1) / in.width;
    std::size_t done = 0;
    if constexpr (together > 1) {
      const std::size_t part = strips.count / together;
      for (std::size_t i = 0; i < part; ++i) {
        Strip set[together];
        std::size_t common = ~std::size_t{0};
        for (std::size_t g = 0; g < together; ++g) {
          set[g] = strips.at(g * part + i, in.first, last, y);
          std::size_t whole = set[g].height == panel_rows ? set[g].blocks : 0;
          if (whole > 0 && (set[g].column(whole - 1) - in.first + 1) * in.width > in.cols) --whole;
          common = whole < common ? whole : common;
        }
        if (samples < N) common = 0;
        if (common > 0) {
          tile<together, N, vectors>(set, common, in, ldy, add);
          for (std::size_t g = 0; g < together; ++g) {
            Strip& rest = set[g];
            rest.values += common * in.width * panel_rows;
            rest.leave(common);
          }
        }
        for (const Strip& rest : set) one_strip<N>(rest, in, samples, ldy, add || common > 0);
      }
      done = part * together;
    }
    for (; done < strips.count; ++done)
      one_strip<N>(strips.at(done, in.first, last, y), in, samples, ldy, add);
  }

  /// Samples that are packed side by side: as even as they get.
  static constexpr std::size_t group_of(std::size_t batch) {
    if (batch > block_samples || batch == 0) return tile_samples;
    const std::size_t parts = (batch + tile_samples - 1) / tile_samples;
    return padded((batch + parts - 1) / parts);
  }

  /// Groups of samples, the last one padded, interleaved.
  static void pack(std::size_t samples, std::size_t group, std::size_t cols, const T* x,
                   std::size_t ldx, T* packed) {
    for (std::size_t j = 0; j < samples; j += group) {
      const std::size_t width = samples - j < group ? samples - j : group;
      const std::size_t pitch = padded(width);
      for (std::size_t t = 0; t < pitch; ++t) {
        const T* from = x + (j + t) * ldx;
        T* to = packed + j * cols + t;
        if (t < width)
          for (std::size_t k = 0; k < cols; ++k) to[k * pitch] = from[k];
        else
          for (std::size_t k = 0; k < cols; ++k) to[k * pitch] = T(0);
      }
    }
  }

  static void apply(const BlockRows<T>& matrix, std::size_t rows, std::size_t cols,
                    std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                    T* scratch) {
    const Strips strips(matrix, rows);
    if (batch == 1)  // one sample is packed as it lies
      return few_samples<1>(1, strips, {matrix.block_cols, 0, cols, x}, 1, y, ldy, add);
    in_packs(matrix.block_cols, strips, cols, batch, x, ldx, y, ldy, add, scratch,
             [&](const Inputs& in, std::size_t samples, T* to, bool adds) {
               few_samples(padded(samples), strips, in, samples, to, ldy, adds);
             });
  }

  /// The same for two samples or more and strips as a `Source` of them has them: samples are
  /// packed, some columns at a time. What no more than one tile takes goes to `few(inputs, samples,
  /// y, add)`.
  template <class Source, class Few>
  static void in_packs(std::size_t block_cols, const Source& strips, std::size_t cols,
                       std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy,
                       bool add, T* scratch, const Few& few) {
    const bool wide = Wide::serves(batch);
    const std::size_t group = wide ? Wide::group_of(batch) : group_of(batch);
    const std::size_t most_samples = wide ? Wide::block_samples : block_samples;
    const std::size_t deepest = depth_of(block_cols);
    std::size_t k = 0;
    do {  // at least once: no columns still means that Y is overwritten
      const std::size_t depth = cols - k < deepest ? cols - k : deepest;
      const bool adds = add || k > 0;
      for (std::size_t j = 0; j < batch; j += most_samples) {
        const std::size_t samples = batch - j < most_samples ? batch - j : most_samples;
        const Inputs in{block_cols, k / block_cols, depth, scratch};
        T* const to = y + j * ldy;
        if constexpr (vectors == 1)
          if (wide) {
            Wide::pack(samples, group, depth, x + j * ldx + k, ldx, scratch);
            all_samples(samples, group, strips, in, to, ldy,
                        [&](std::size_t width, const Strip& strip, const Inputs& part) {
                          Wide::strip_by(width, strip, part, ldy, adds);
                        });
            continue;
          }
        pack(samples, group, depth, x + j * ldx + k, ldx, scratch);
        if (samples <= group) {
          few(in, samples, to, adds);
          continue;
        }
        all_samples(samples, group, strips, in, to, ldy,
                    [&](std::size_t width, const Strip& strip, const Inputs& part) {
                      any_width(padded(width), strip, part, width, ldy, adds);
                    });
      }
      k += depth;
    } while (k < cols);
  }

  /// Calls by(samples, strip, inputs) for every group of samples of every strip.
  template <class Source, class By>
  static void all_samples(std::size_t samples, std::size_t group, const Source& strips,
                          const Inputs& in, T* y, std::size_t ldy, const By& by) {
    const std::size_t last = in.first + (in.cols + in.width - 1) / in.width;
    for (std::size_t s = 0; s < strips.count; ++s) {
      Strip strip = strips.at(s, in.first, last, y);
      for (std::size_t j = 0; j < samples; j += group) {
        const std::size_t width = samples - j < group ? samples - j : group;
        by(width, strip, Inputs{in.width, in.first, in.cols, in.x + j * in.cols});
        strip.y += width * ldy;
      }
    }
  }

  static std::size_t scratch(std::size_t cols, std::size_t block_cols, std::size_t batch) {
    if (batch < 2) return 0;
    const std::size_t depth = depth_of(block_cols);
    const std::size_t group = group_of(batch);
    const std::size_t samples = Wide::serves(batch) ? Wide::packed_samples(batch)
                                : batch >= block_samples
                                    ? block_samples
                                    : batch / group * group + padded(batch % group);
    return (cols < depth ? cols : depth) * samples;
  }

  /// A column of a whole strip times the same rows of one sample.
  static T dot(const T* w, const Batch (&y)[vectors]) {
    Batch sum = Batch::load_unaligned(w) * y[0];
    for (std::size_t v = 1; v < vectors; ++v)
      sum = MultiplyAdd<Arch, T>::of(Batch::load_unaligned(w + v * lanes), y[v], sum);
    T lane[lanes];
    sum.store_unaligned(lane);
    for (std::size_t half = lanes / 2; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
    return lane[0];
  }

  /// Adds W^T Y of a strip to the columns of one sample.
  static void transposed_strip(const Strip& strip, const T* y, std::size_t width, std::size_t cols,
                               T* x) {
    bool any = false;  // most are zero, where errors are measured row by row
    for (std::size_t i = 0; i < strip.height; ++i) any = any || !(y[i] == T(0));
    if (!any) return;
    const bool whole = strip.height == panel_rows;
    Batch yv[vectors];
    if (whole)
#pragma GCC unroll 16
      for (std::size_t v = 0; v < vectors; ++v) yv[v] = Batch::load_unaligned(y + v * lanes);
    const T* w = strip.values;
    for (std::size_t b = 0; b < strip.blocks; ++b) {
      const std::size_t first = strip.column(b) * width;
      const std::size_t last = cols - first < width ? cols : first + width;
      for (std::size_t k = first; k < last; ++k, w += strip.pitch) {
        if (whole) {
          x[k] += dot(w, yv);
          continue;
        }
        T sum = T(0);
        for (std::size_t i = 0; i < strip.height; ++i) sum += w[i] * y[i];
        x[k] += sum;
      }
    }
  }

  /// X = W^T Y for the columns [first, last), whole blocks.
  static void apply_transpose(const BlockRows<T>& matrix, std::size_t rows, std::size_t cols,
                              std::size_t first, std::size_t last, std::size_t batch, const T* y,
                              std::size_t ldy, T* x, std::size_t ldx) {
    for (std::size_t j = 0; j < batch; ++j)
      for (std::size_t k = first; k < last; ++k) x[j * ldx + k] = T(0);
    const std::size_t width = matrix.block_cols;
    const Strips strips(matrix, rows);
    for (std::size_t s = 0; s < strips.count; ++s) {
      const Strip strip = strips.at(s, first / width, (last + width - 1) / width, nullptr);
      for (std::size_t j = 0; j < batch; ++j)
        transposed_strip(strip, y + j * ldy + strips.top(s), width, cols, x + j * ldx);
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
