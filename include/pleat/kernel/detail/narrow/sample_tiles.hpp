// SPDX-License-Identifier: MIT
// Products with samples that are rounded first: block by block of samples, tile by tile.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// How tiles fit the registers of an instruction set.
template <class Dots>
struct TileShape {
  static constexpr std::size_t lanes = Dots::lanes;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr bool is_wide = lanes == 16 && Dots::kind != DotProducts::none;

  // Samples of the largest tile: sums of 16 vectors of 512 bits, or of 12 of 256.
  static constexpr std::size_t widest = is_wide ? 8 : vectors == 2 ? 6 : 4;
  // Sums of a tile in registers, where samples are fewer: of several panels at once.
  static constexpr std::size_t most = is_wide ? 16 : vectors == 2 ? 6 : 4;
  // Sums in registers besides those of a group.
  static constexpr std::size_t held = is_wide ? 12 : 4;
};

/// The rounded samples of a tile of N. A line are the activations that share a scale, or, of bf16,
/// as many as are rounded at once.
struct RoundedTile {
  std::uint8_t* values;   // [line][sample][bytes of a line]
  float* scales;          // [line][sample]
  std::int32_t* offsets;  // [line][group][sample]
};

/// Where the totals of a tile are kept: in registers where there are few.
template <class Dots, bool Held, std::size_t N, std::size_t R>
struct TileMemory {
  static constexpr std::size_t vectors = panel_rows / Dots::lanes;
  typename Dots::Floats total[N][R][vectors];
  typename Dots::Floats get(std::size_t j, std::size_t r, std::size_t v) { return total[j][r][v]; }
  void set(std::size_t j, std::size_t r, std::size_t v, typename Dots::Floats value) {
    total[j][r][v] = value;
  }
};
template <class Dots, std::size_t N, std::size_t R>
struct TileMemory<Dots, false, N, R> {
  static constexpr std::size_t vectors = panel_rows / Dots::lanes;
  alignas(64) float total[N][R][vectors][Dots::lanes];
  typename Dots::Floats get(std::size_t j, std::size_t r, std::size_t v) {
    return Dots::load(total[j][r][v]);
  }
  void set(std::size_t j, std::size_t r, std::size_t v, typename Dots::Floats value) {
    Dots::store(total[j][r][v], value);
  }
};

/// The totals of a tile of R panels and N samples: from what Y holds, or 0, to Y.
template <class Dots, std::size_t N, std::size_t R>
struct TileTotals {
  static constexpr std::size_t lanes = Dots::lanes;
  static constexpr std::size_t vectors = panel_rows / lanes;
  using Floats = typename Dots::Floats;
  TileMemory<Dots, (N * R * vectors <= TileShape<Dots>::held), N, R> at;

  [[gnu::always_inline]] void begin(float* const* y, std::size_t ldy, bool add) {
    alignas(64) static constexpr float none[lanes] = {};
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t r = 0; r < R; ++r)
        for (std::size_t v = 0; v < vectors; ++v)
          at.set(j, r, v, Dots::load(add ? y[r] + j * ldy + v * lanes : none));
  }
  /// The sums of a group, `sum(j, r, v)`, times the scales of the weights and of each sample.
  template <class Sum>
  [[gnu::always_inline]] void add(const Floats (&weight)[R][vectors], const float* scales,
                                  const Sum& sum) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v)
          at.set(j, r, v,
                 Dots::multiply_add(sum(j, r, v), weight[r][v], scales[j], at.get(j, r, v)));
  }
  [[gnu::always_inline]] void store(float* const* y, std::size_t ldy) {
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t r = 0; r < R; ++r)
        for (std::size_t v = 0; v < vectors; ++v)
          Dots::store(y[r] + j * ldy + v * lanes, at.get(j, r, v));
  }
};

/// The sums of a tile whose dot products are floats, which have no groups, and one vector a panel.
template <class Dots, std::size_t N, std::size_t R>
struct HalfSums {
  typename Dots::template Sums<Pair::bf16_bf16> sum[N][R][1];

  [[gnu::always_inline]] void begin(float* const* y, std::size_t ldy, bool add) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
        sum[j][r][0] = add ? Dots::load(y[r] + j * ldy) : Dots::template begin<Pair::bf16_bf16>(0);
  }
  [[gnu::always_inline]] void store(float* const* y, std::size_t ldy) const {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) Dots::store(y[r] + j * ldy, sum[j][r][0]);
  }
};

/// The columns of a line.
struct LineCols {
  std::size_t first;
  std::size_t count;
};
/// Lines of so many columns each, one after the other; the last may have fewer.
template <std::size_t LineSize>
struct EvenLines {
  std::size_t cols;

  [[nodiscard, gnu::always_inline]] std::size_t lines() const {
    return (cols + LineSize - 1) / LineSize;
  }
  [[nodiscard, gnu::always_inline]] LineCols line(std::size_t number) const {
    const std::size_t first = number * LineSize;
    return {first, cols - first < LineSize ? cols - first : LineSize};
  }
};

/// Weights times samples that are rounded first. What `Weights` has:
///
///     lines(), line(number)   how many lines, and their columns
///     line_bytes              what the activations of a line take
///     groups                  offsets of a line and sample, at most 2
///     widest                  samples of the largest tile, at least 4
///     round(x, count, to, scale, offsets)
///                             the activations of a line of one sample; all of `line_bytes` are
///                             written
///     tile<R, N>(panel, x, y, ldy, add)
///                             the panels with R numbers times the N samples of a tile; y[r] points
///                             at the first row of a panel
template <class Dots, class Weights>
struct SampleTiles {
  using Shape = TileShape<Dots>;

  // Bytes of a block of rounded samples, and the most samples of one: the second-level cache.
  static constexpr std::size_t block_bytes = (Shape::is_wide ? 512 : 256) * std::size_t{1024};
  static constexpr std::size_t block_most = 96;
  static constexpr std::size_t widest = Weights::widest;

  /// `count` panels from `first` on times a tile, several at once: neighbours, or where `apart`,
  /// some that do not lie together, which keeps several streams of memory busy.
  template <std::size_t N>
  static void rows_by_tile(const Weights& weights, std::size_t rows, std::size_t first,
                           std::size_t count, bool apart, const RoundedTile& x, float* y,
                           std::size_t ldy, bool add) {
    constexpr std::size_t fitting = Shape::most / (N * Shape::vectors);
    constexpr std::size_t R = fitting > 4 ? 4 : fitting < 1 ? 1 : fitting;
    const std::size_t full = rows / panel_rows;
    const std::size_t last = first + count < full ? first + count : full;
    const std::size_t part = (last - first) / R;
    for (std::size_t i = 0; i < part; ++i) {
      std::size_t panel[R];
      float* target[R];
      for (std::size_t r = 0; r < R; ++r) {
        panel[r] = first + (apart ? r * part + i : i * R + r);
        target[r] = y + panel[r] * panel_rows;
      }
      weights.template tile<R, N>(panel, x, target, ldy, add);
    }
    for (std::size_t p = first + part * R; p < first + count; ++p) {
      const std::size_t panel[] = {p};
      float* target[] = {y + p * panel_rows};
      if (p < full) {
        weights.template tile<1, N>(panel, x, target, ldy, add);
        continue;
      }
      // The last panel is short of rows: through a copy, so that nothing past Y is touched.
      const std::size_t height = rows - full * panel_rows;
      float copy[N * panel_rows] = {};
      float* whole[] = {copy};
      if (add)
        for (std::size_t j = 0; j < N; ++j)
          for (std::size_t i = 0; i < height; ++i)
            copy[j * panel_rows + i] = target[0][j * ldy + i];
      weights.template tile<1, N>(panel, x, whole, panel_rows, add);
      for (std::size_t j = 0; j < N; ++j)
        for (std::size_t i = 0; i < height; ++i) target[0][j * ldy + i] = copy[j * panel_rows + i];
    }
  }

  /// Samples of the next tile of so many that are left.
  static constexpr std::size_t tile_of(std::size_t left) {
    return left >= widest ? widest : left >= 4 ? 4 : left >= 2 ? 2 : 1;
  }

  static void any_samples(std::size_t samples, const Weights& weights, std::size_t rows,
                          std::size_t first, std::size_t count, bool apart, const RoundedTile& x,
                          float* y, std::size_t ldy, bool add) {
    switch (samples) {
      case 1: return rows_by_tile<1>(weights, rows, first, count, apart, x, y, ldy, add);
      case 2: return rows_by_tile<2>(weights, rows, first, count, apart, x, y, ldy, add);
      case 4: return rows_by_tile<4>(weights, rows, first, count, apart, x, y, ldy, add);
      default: return rows_by_tile<widest>(weights, rows, first, count, apart, x, y, ldy, add);
    }
  }

  /// Samples that are rounded at once.
  static std::size_t block_of(const Weights& weights, std::size_t batch) {
    const std::size_t fitting = block_bytes / (weights.lines() * weights.line_bytes + 1);
    const std::size_t some = fitting < block_most ? fitting : block_most;
    const std::size_t block = some < widest ? widest : some / widest * widest;
    return batch < block ? batch : block;
  }

  static void multiply(const Weights& weights, std::size_t rows, std::size_t batch, const float* x,
                       std::size_t ldx, float* y, std::size_t ldy, bool add, float* scratch) {
    constexpr std::size_t groups = Weights::groups;
    const std::size_t line_bytes = weights.line_bytes;
    const std::size_t lines = weights.lines();
    const std::size_t block = block_of(weights, batch);
    auto* const values = reinterpret_cast<std::uint8_t*>(scratch);
    float* const scales = scratch + block * lines * line_bytes / sizeof(float);
    auto* const offsets = reinterpret_cast<std::int32_t*>(scales + block * lines);
    const std::size_t count = (rows + panel_rows - 1) / panel_rows;
    const auto tile_at = [&](std::size_t j) {
      return RoundedTile{values + j * lines * line_bytes, scales + j * lines,
                         offsets + j * lines * groups};
    };
    for (std::size_t begin = 0; begin < batch; begin += block) {
      const std::size_t samples = batch - begin < block ? batch - begin : block;
      for (std::size_t j = 0, N = 0; j < samples; j += N) {
        N = tile_of(samples - j);
        const RoundedTile to = tile_at(j);
        for (std::size_t i = 0; i < N; ++i)
          for (std::size_t line = 0; line < lines; ++line) {
            const std::size_t at = line * N + i;
            const LineCols own = weights.line(line);
            std::int32_t owed[2] = {};
            weights.round(x + (begin + j + i) * ldx + own.first, own.count,
                          to.values + at * line_bytes, to.scales[at], owed);
            for (std::size_t g = 0; g < groups; ++g)
              to.offsets[(line * groups + g) * N + i] = owed[g];
          }
      }
      const bool apart = samples <= 4;
      const std::size_t some = apart ? count : 2;
      for (std::size_t p = 0; p < count; p += some)
        for (std::size_t j = 0, N = 0; j < samples; j += N) {
          N = tile_of(samples - j);
          any_samples(N, weights, rows, p, count - p < some ? count - p : some, apart, tile_at(j),
                      y + (begin + j) * ldy, ldy, add);
        }
    }
  }

  /// Values of scratch that `multiply` needs.
  static std::size_t scratch(const Weights& weights, std::size_t batch) {
    return block_of(weights, batch) * weights.lines() *
           (weights.line_bytes / sizeof(float) + 1 + Weights::groups);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
