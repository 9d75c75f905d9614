// SPDX-License-Identifier: MIT
// The inner loops of the dense kernels: a few panels by a few samples.
#pragma once

#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/partial.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Some panels by some samples, which the registers hold the sums of. In every tile, an output is
/// one chain of multiply-adds over the columns in ascending order that starts from zero, or from
/// the output itself where it is added to.
template <class Arch, class T>
struct DenseTile {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;  // registers for a column of a panel
  static_assert(panel_rows % lanes == 0);

  // Accumulators that fit the register file, leaving room for one column of panel and a broadcast.
  static constexpr VectorUnit unit = VectorUnit::of(sizeof(Batch));
  static constexpr std::size_t accumulators = unit.registers * 3 / 4;

  /// Panels that a tile spans, and samples that it takes: `panels * vectors * samples`
  /// accumulators.
  static constexpr std::size_t tile_panels = vectors == 1 ? 2 : 1;
  static constexpr std::size_t tall = tile_panels * panel_rows;  // rows of a tile
  static constexpr std::size_t tile_samples = dense_tile_samples(unit, sizeof(T));
  static_assert(tile_samples >= 1 && tile_samples == accumulators / (tile_panels * vectors));

  /// How a tile reads X: in place, with `x_sample` values from one sample to the next; from packed
  /// samples; from these while it fetches what comes next; or while it also multiplies the sum of
  /// each group of columns by a scale of its row.
  enum class Inputs { in_place, packed, packed_ahead, packed_scaled };

  /// What a tile asks the second-level cache for while it computes: so many bytes for each of its
  /// columns, in as many streams as it has panels. Panels that are still in memory then arrive in
  /// the time that the arithmetic takes.
  struct Ahead {
    const std::uint8_t* first = nullptr;
    std::size_t column_bytes = 0;
    std::size_t panel_bytes = 0;  // from one stream to the next
  };

  /// The scales of a tile, if it has any: for each group of so many columns those of `tile_panels`
  /// panels, one after the other.
  struct Scales {
    const T* values = nullptr;
    std::size_t group = 0;

    [[nodiscard]] Scales from(std::size_t panel) const {
      return values == nullptr ? Scales() : Scales{values + panel * panel_rows, group};
    }
  };

  // Columns ahead of the current one that a tile of four streams fetches, if it has the samples to
  // fill the time. It also keeps g++ from reading the panels again for each sample.
  static constexpr std::size_t fetch_distance = 64;

  /// One tile: P panels by N samples. A function of its own, whose registers nobody else competes
  /// for.
  template <std::size_t P, std::size_t N, Inputs In>
  [[gnu::noinline]] static void tile(const T* const* panels, std::size_t cols, const T* x,
                                     std::size_t x_sample, T* const* y, std::size_t ldy, bool add,
                                     const Ahead& ahead, const Scales& scales) {
    if constexpr (In == Inputs::packed_scaled)
      return scaled_tile<P, N>(panels, cols, x, y, ldy, add, ahead, scales);
    Batch sum[N][P][vectors];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v] = add ? Batch::load_unaligned(y[p] + j * ldy + v * lanes) : Batch(T(0));
    multiply<P, N, In>(panels, 0, cols, x, x_sample, ahead, sum);
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v].store_unaligned(y[p] + j * ldy + v * lanes);
  }

  /// The same, group by group: the registers hold the sums of one group, the stack their totals.
  template <std::size_t P, std::size_t N>
  [[gnu::always_inline]] static void scaled_tile(const T* const* panels, std::size_t cols,
                                                 const T* x, T* const* y, std::size_t ldy, bool add,
                                                 const Ahead& ahead, const Scales& scales) {
    alignas(64) T total[N][P][panel_rows];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          (add ? Batch::load_unaligned(y[p] + j * ldy + v * lanes) : Batch(T(0)))
              .store_aligned(total[j][p] + v * lanes);
    const T* scale = scales.values;
    for (std::size_t begin = 0; begin < cols; begin += scales.group) {
      const std::size_t end = cols - begin < scales.group ? cols : begin + scales.group;
      Batch sum[N][P][vectors];
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
          for (std::size_t v = 0; v < vectors; ++v) sum[j][p][v] = Batch(T(0));
      multiply<P, N, Inputs::packed_scaled>(panels, begin, end, x, 0, ahead, sum);
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
          for (std::size_t v = 0; v < vectors; ++v) {
            T* const to = total[j][p] + v * lanes;
            MultiplyAdd<Arch, T>::of(sum[j][p][v],
                                     Batch::load_unaligned(scale + p * panel_rows + v * lanes),
                                     Batch::load_aligned(to))
                .store_aligned(to);
          }
      scale += tall;
    }
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          Batch::load_aligned(total[j][p] + v * lanes).store_unaligned(y[p] + j * ldy + v * lanes);
  }

  /// Adds columns [first, last) of P panels times N samples. Inlined at once, or the compiler keeps
  /// the sums in memory.
  template <std::size_t P, std::size_t N, Inputs In, std::size_t V>
  [[gnu::always_inline]] static void multiply(const T* const* panels, std::size_t first,
                                              std::size_t last, const T* x, std::size_t x_sample,
                                              const Ahead& ahead, Batch (&sum)[N][P][V]) {
    constexpr bool packed = In != Inputs::in_place;
    constexpr bool fetches = In == Inputs::packed_ahead || In == Inputs::packed_scaled;
    for (std::size_t k = first; k < last; ++k) {
      if constexpr (fetches)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p)
          __builtin_prefetch(ahead.first + p * ahead.panel_bytes + k * ahead.column_bytes, 0, 2);
      if constexpr (In == Inputs::in_place && P == 4 && N >= 3)
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p) {  // of this panel, or what follows it, if it exists
          const auto address = reinterpret_cast<std::uintptr_t>(panels[p]) +
                               (k + fetch_distance) * panel_rows * sizeof(T);
          __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
        }
      if constexpr (packed) column(panels, k, x + k * N, 1, sum);
      else column(panels, k, x + k, x_sample, sum);
    }
  }

  /// Adds one column of P panels times N samples, whose values lie `x_sample` apart.
  template <std::size_t P, std::size_t N, std::size_t V>
  [[gnu::always_inline]] static void column(const T* const* panels, std::size_t k, const T* x,
                                            std::size_t x_sample, Batch (&sum)[N][P][V]) {
    Batch w[P][V];
#pragma GCC unroll 16
    for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (std::size_t v = 0; v < V; ++v)
        w[p][v] = Batch::load_aligned(panels[p] + k * panel_rows + v * lanes);
    const T* four = x;
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j) {
      // A pointer for each sample would be more of them than there are registers.
      if constexpr (N > 8)
        if (j % 4 == 0) {
          if (j > 0) four += 4 * x_sample;
          __asm__("" : "+r"(four));
        }
      const Batch xj(N > 8 ? four[j % 4 * x_sample] : x[j * x_sample]);
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < V; ++v)
          sum[j][p][v] = MultiplyAdd<Arch, T>::of(w[p][v], xj, sum[j][p][v]);
    }
  }

  /// P panels that follow each other, by N samples in place. The last panel has `height` rows,
  /// which its first V vectors hold.
  template <std::size_t P, std::size_t N, std::size_t V = vectors>
  [[gnu::always_inline]] static void near_tile(const T* panels, std::size_t panel_stride,
                                               std::size_t height, std::size_t cols, const T* x,
                                               std::size_t x_sample, T* y, std::size_t ldy,
                                               bool add) {
    static_assert(V == vectors || P == 1);
    const auto rows_of = [=](std::size_t p) { return p + 1 < P ? panel_rows : height; };
    const T* panel[P];
#pragma GCC unroll 16
    for (std::size_t p = 0; p < P; ++p) panel[p] = panels + p * panel_stride;
    Batch sum[N][P][V];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < V; ++v)
          sum[j][p][v] = add ? PanelRows<Arch, T>::load(y + j * ldy + p * panel_rows, v, rows_of(p))
                             : Batch(T(0));
    std::size_t k = 0;
    if constexpr (N * P * V <= 4)  // so little work that counting columns would be as much
      for (; k + 4 <= cols; k += 4) {
        column(panel, k, x + k, x_sample, sum);
        column(panel, k + 1, x + k + 1, x_sample, sum);
        column(panel, k + 2, x + k + 2, x_sample, sum);
        column(panel, k + 3, x + k + 3, x_sample, sum);
      }
    else if constexpr (N * P * V <= 8)
      for (; k + 2 <= cols; k += 2) {
        column(panel, k, x + k, x_sample, sum);
        column(panel, k + 1, x + k + 1, x_sample, sum);
      }
    for (; k < cols; ++k) column(panel, k, x + k, x_sample, sum);
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < V; ++v)
          PanelRows<Arch, T>::store(sum[j][p][v], y + j * ldy + p * panel_rows, v, rows_of(p));
  }

  // Panels at once where they lie in cache: as many chains of multiply-adds as it takes to hide
  // their latency. Weights of up to so many bytes do.
  static constexpr std::size_t near_panels(std::size_t samples) {
    const std::size_t most = accumulators / (vectors * samples);
    return most >= 8 && vectors == 1 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
  }
  static constexpr std::size_t near_bytes = 256 * 1024;

  /// One panel of so few rows, in no more vectors than these fill (to a power of two).
  template <std::size_t N, std::size_t V = vectors>
  [[gnu::always_inline]] static void last_rows(const T* panel, std::size_t stride,
                                               std::size_t height, std::size_t cols, const T* x,
                                               std::size_t x_sample, T* y, std::size_t ldy,
                                               bool add) {
    if constexpr (V > 1)
      if (height <= V / 2 * lanes)
        return last_rows<N, V / 2>(panel, stride, height, cols, x, x_sample, y, ldy, add);
    near_tile<1, N, V>(panel, stride, height, cols, x, x_sample, y, ldy, add);
  }

  /// Half a panel of rows or less by any batch, in place: as many samples at once as there are
  /// registers left, up to six.
  template <std::size_t V = vectors / 2>
  [[gnu::noinline]] static void few_rows(std::size_t height, std::size_t cols, const T* panel,
                                         std::size_t batch, const T* x, std::size_t ldx, T* y,
                                         std::size_t ldy, bool add) {
    static_assert(V < vectors);
    if constexpr (V > 1)
      if (height <= V / 2 * lanes)
        return few_rows<V / 2>(height, cols, panel, batch, x, ldx, y, ldy, add);
    constexpr std::size_t together = accumulators / V < 6 ? accumulators / V : 6;
    std::size_t j = 0;
    for (; j + together <= batch; j += together)
      near_tile<1, together, V>(panel, 0, height, cols, x + j * ldx, ldx, y + j * ldy, ldy, add);
    for (; j + 2 <= batch; j += 2)
      near_tile<1, 2, V>(panel, 0, height, cols, x + j * ldx, ldx, y + j * ldy, ldy, add);
    if (j < batch)
      near_tile<1, 1, V>(panel, 0, height, cols, x + j * ldx, ldx, y + j * ldy, ldy, add);
  }

  /// All rows of a small matrix by N samples in place: P panels at once, and less for the rest.
  template <std::size_t N, std::size_t P = near_panels(N)>
  [[gnu::noinline]] static void near_rows(std::size_t rows, std::size_t cols, const T* panels,
                                          const T* x, T* y, bool add, std::size_t x_sample,
                                          std::size_t ldy) {
    const std::size_t stride = cols * panel_rows;
    for (; rows > (P - 1) * panel_rows; rows -= P * panel_rows) {
      const std::size_t left = rows - (P - 1) * panel_rows;
      if constexpr (P == 1)
        if (left <= panel_rows)
          return last_rows<N>(panels, stride, left, cols, x, x_sample, y, ldy, add);
      near_tile<P, N>(panels, stride, left < panel_rows ? left : panel_rows, cols, x, x_sample, y,
                      ldy, add);
      if (left <= panel_rows) return;
      panels += P * stride;
      y += P * panel_rows;
    }
    if constexpr (P > 1) near_rows<N, P / 2>(rows, cols, panels, x, y, add, x_sample, ldy);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
