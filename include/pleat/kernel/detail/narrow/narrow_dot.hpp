// SPDX-License-Identifier: MIT
// Narrow weights times activations that are rounded on the way, by dot products of integers or of
// bf16.
#pragma once

#include "pleat/kernel/detail/simd/dot_products.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over narrow panels that multiply stored numbers as they are (see
/// `Table::narrow_dot_apply`). A block of samples is rounded first, and lies in tiles: for each
/// line of 64 columns, the integers of each sample of the tile; scales and offsets apart. The sums
/// of a group are exact, and are added up in the order of the groups.
template <class Arch, class Dots>
struct NarrowDot {
  static constexpr std::size_t lanes = Dots::lanes;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr bool is_wide = lanes == 16 && Dots::kind != DotProducts::none;

  // Samples of the largest tile: sums of 16 vectors of 512 bits, or of 12 of 256.
  static constexpr std::size_t widest = is_wide ? 8 : vectors == 2 ? 6 : 4;
  // Sums in registers besides those of a group.
  static constexpr std::size_t held = is_wide ? 12 : 4;
  // Bytes of a block of rounded samples, and the most samples of one: the second-level cache.
  static constexpr std::size_t block_bytes = (is_wide ? 512 : 256) * std::size_t{1024};
  static constexpr std::size_t block_most = 96;

  /// The rounded samples of a tile of N.
  struct Rounded {
    std::uint8_t* values;   // [line][sample][64 * value_bytes]
    float* scales;          // [line][sample]
    std::int32_t* offsets;  // [line][group][sample]
  };

  static constexpr std::size_t lines_of(std::size_t cols) {
    return (cols + scale_line_cols - 1) / scale_line_cols;
  }
  template <Pair P>
  static constexpr std::size_t line_bytes = scale_line_cols* Dots::template value_bytes<P>;

  /// One word of R panels times N samples; `x` points at the first of them.
  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void step(const std::uint8_t* const (&at)[R], std::size_t word,
                                          const std::uint8_t* x,
                                          typename Dots::template Sums<P> (&sum)[N][R][vectors]) {
    constexpr std::size_t parts = Dots::template parts<P>;
    typename Dots::Operand w[R][vectors][parts];
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (std::size_t v = 0; v < vectors; ++v)
        Dots::template operands<P>(at[r] + 64 * word + 4 * v * lanes, w[r][v]);
    x += 4 * parts * word;
#pragma GCC unroll 2
    for (std::size_t part = 0; part < parts; ++part)
#pragma GCC unroll 8
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (std::size_t v = 0; v < vectors; ++v)
            Dots::template dot<P>(sum[j][r][v], w[r][v][part], x + j * line_bytes<P> + 4 * part);
  }

  /// Totals of a tile: in registers where there are few.
  template <bool Held, std::size_t N, std::size_t R>
  struct Totals {
    typename Dots::Floats total[N][R][vectors];
    typename Dots::Floats get(std::size_t j, std::size_t r, std::size_t v) {
      return total[j][r][v];
    }
    void set(std::size_t j, std::size_t r, std::size_t v, typename Dots::Floats value) {
      total[j][r][v] = value;
    }
  };
  template <std::size_t N, std::size_t R>
  struct Totals<false, N, R> {
    alignas(64) float total[N][R][vectors][lanes];
    typename Dots::Floats get(std::size_t j, std::size_t r, std::size_t v) {
      return Dots::load(total[j][r][v]);
    }
    void set(std::size_t j, std::size_t r, std::size_t v, typename Dots::Floats value) {
      Dots::store(total[j][r][v], value);
    }
  };

  /// R panels times the N samples of a tile.
  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::noinline]] static void tile(const std::uint8_t* const* panels, std::size_t cols,
                                     const Rounded& x, float* const* y, std::size_t ldy, bool add) {
    constexpr Format format = weights_of(P);
    constexpr std::size_t groups = groups_of_line(P);
    constexpr std::size_t group = scale_line_cols / groups;
    using Sum = typename Dots::template Sums<P>;
    Totals<(N * R * vectors <= held), N, R> totals;
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t r = 0; r < R; ++r)
        for (std::size_t v = 0; v < vectors; ++v) {
          alignas(64) static constexpr float none[lanes] = {};
          totals.set(j, r, v, Dots::load(add ? y[r] + j * ldy + v * lanes : none));
        }
    const std::uint8_t* values = x.values;
    const float* scales = x.scales;
    const std::int32_t* offsets = x.offsets;
    for (std::size_t first = 0; first < cols; first += scale_line_cols) {
#pragma GCC unroll 2
      for (std::size_t g = 0; g < groups; ++g, offsets += N) {
        const std::size_t begin = first + g * group;
        if (g > 0 && begin >= cols) continue;
        const NarrowPlace place = narrow_place(format, begin);
        const std::size_t count = cols - begin < group ? cols - begin : group;
        const std::size_t words = (count + word_cols(format) - 1) / word_cols(format);
        const std::uint8_t* at[R];
        Sum sum[N][R][vectors];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r) at[r] = panels[r] + place.word;
#pragma GCC unroll 8
        for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
          for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
            for (std::size_t v = 0; v < vectors; ++v)
              sum[j][r][v] = Dots::template begin<P>(offsets[j]);
        const std::uint8_t* const from = values + g * group * Dots::template value_bytes<P>;
        for (std::size_t word = 0; word < words; ++word) step<P, R, N>(at, word, from, sum);

        typename Dots::Floats weight[R][vectors];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (std::size_t v = 0; v < vectors; ++v)
            weight[r][v] = Dots::template scales<P>(panels[r] + place.scale, v * lanes);
#pragma GCC unroll 8
        for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
          for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
            for (std::size_t v = 0; v < vectors; ++v)
              totals.set(j, r, v,
                         Dots::multiply_add(Dots::template end<P>(sum[j][r][v], offsets[j]),
                                            weight[r][v], scales[j], totals.get(j, r, v)));
      }
      values += N * line_bytes<P>;
      scales += N;
    }
    for (std::size_t j = 0; j < N; ++j)
      for (std::size_t r = 0; r < R; ++r)
        for (std::size_t v = 0; v < vectors; ++v)
          Dots::store(y[r] + j * ldy + v * lanes, totals.get(j, r, v));
  }

  /// The same for bf16, whose sums are floats and have no groups.
  template <std::size_t R, std::size_t N>
  [[gnu::noinline]] static void half_tile(const std::uint8_t* const* panels, std::size_t cols,
                                          const Rounded& x, float* const* y, std::size_t ldy,
                                          bool add) {
    constexpr Pair P = Pair::bf16_bf16;
    typename Dots::template Sums<P> sum[N][R][vectors];
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        if (add) sum[j][r][0] = Dots::load(y[r] + j * ldy);
        else sum[j][r][0] = Dots::template begin<P>(0);
      }
    const std::uint8_t* values = x.values;
    for (std::size_t first = 0; first < cols; first += scale_line_cols) {
      const std::size_t count = cols - first < scale_line_cols ? cols - first : scale_line_cols;
      const std::uint8_t* at[R];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
        at[r] = panels[r] + narrow_place(Format::bf16, first).word;
      for (std::size_t word = 0; word < (count + 1) / 2; ++word)
        step<P, R, N>(at, word, values, sum);
      values += N * line_bytes<P>;
    }
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) Dots::store(y[r] + j * ldy, sum[j][r][0]);
  }

  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void any_tile(const std::uint8_t* const* panels, std::size_t cols,
                                              const Rounded& x, float* const* y, std::size_t ldy,
                                              bool add) {
    if constexpr (P == Pair::bf16_bf16) half_tile<R, N>(panels, cols, x, y, ldy, add);
    else tile<P, R, N>(panels, cols, x, y, ldy, add);
  }

  /// `count` panels from the first of `panels` on times a tile, several at once: neighbours, or
  /// where `apart`, some that lie apart, which keeps several streams of memory busy.
  template <Pair P, std::size_t N>
  static void rows_by_tile(std::size_t rows, std::size_t cols, const std::uint8_t* panels,
                           std::size_t first, std::size_t count, bool apart, const Rounded& x,
                           float* y, std::size_t ldy, bool add) {
    constexpr std::size_t most = is_wide ? 16 : vectors == 2 ? 6 : 4;
    constexpr std::size_t fitting = most / (N * vectors) < 1 ? 1 : most / (N * vectors);
    constexpr std::size_t R = fitting > 4 ? 4 : fitting;
    const std::size_t stride = narrow_panel_bytes(weights_of(P), cols);
    const std::size_t full = rows / panel_rows;
    const std::size_t last = first + count < full ? first + count : full;
    const std::size_t part = (last - first) / R;
    for (std::size_t i = 0; i < part; ++i) {
      const std::uint8_t* panel[R];
      float* target[R];
      for (std::size_t r = 0; r < R; ++r) {
        const std::size_t p = first + (apart ? r * part + i : i * R + r);
        panel[r] = panels + p * stride;
        target[r] = y + p * panel_rows;
      }
      any_tile<P, R, N>(panel, cols, x, target, ldy, add);
    }
    for (std::size_t p = first + part * R; p < first + count; ++p) {
      const std::uint8_t* const panel = panels + p * stride;
      float* target = y + p * panel_rows;
      if (p < full) {
        any_tile<P, 1, N>(&panel, cols, x, &target, ldy, add);
        continue;
      }
      // The last panel is short of rows: through a copy, so that nothing past Y is touched.
      const std::size_t height = rows - full * panel_rows;
      float copy[N * panel_rows] = {};
      float* whole = copy;
      if (add)
        for (std::size_t j = 0; j < N; ++j)
          for (std::size_t i = 0; i < height; ++i) copy[j * panel_rows + i] = target[j * ldy + i];
      any_tile<P, 1, N>(&panel, cols, x, &whole, panel_rows, add);
      for (std::size_t j = 0; j < N; ++j)
        for (std::size_t i = 0; i < height; ++i) target[j * ldy + i] = copy[j * panel_rows + i];
    }
  }

  /// Samples of the next tile of so many that are left.
  static constexpr std::size_t tile_of(std::size_t left) {
    return left >= widest ? widest : left >= 4 ? 4 : left >= 2 ? 2 : 1;
  }

  template <Pair P>
  static void any_samples(std::size_t samples, std::size_t rows, std::size_t cols,
                          const std::uint8_t* panels, std::size_t first, std::size_t count,
                          bool apart, const Rounded& x, float* y, std::size_t ldy, bool add) {
    switch (samples) {
      case 1: return rows_by_tile<P, 1>(rows, cols, panels, first, count, apart, x, y, ldy, add);
      case 2: return rows_by_tile<P, 2>(rows, cols, panels, first, count, apart, x, y, ldy, add);
      case 4: return rows_by_tile<P, 4>(rows, cols, panels, first, count, apart, x, y, ldy, add);
      default:
        return rows_by_tile<P, widest>(rows, cols, panels, first, count, apart, x, y, ldy, add);
    }
  }

  /// Samples that are rounded at once.
  template <Pair P>
  static constexpr std::size_t block_of(std::size_t cols) {
    const std::size_t fitting = block_bytes / (lines_of(cols) * line_bytes<P> + 1);
    const std::size_t some = fitting < block_most ? fitting : block_most;
    return some < widest ? widest : some / widest * widest;
  }

  template <Pair P>
  static void multiply(std::size_t rows, std::size_t cols, const std::uint8_t* panels,
                       std::size_t batch, const float* x, std::size_t ldx, float* y,
                       std::size_t ldy, bool add, float* scratch) {
    constexpr std::size_t groups = groups_of_line(P);
    const std::size_t lines = lines_of(cols);
    const std::size_t block = batch < block_of<P>(cols) ? batch : block_of<P>(cols);
    auto* const values = reinterpret_cast<std::uint8_t*>(scratch);
    float* const scales = scratch + block * lines * line_bytes<P> / sizeof(float);
    auto* const offsets = reinterpret_cast<std::int32_t*>(scales + block * lines);
    const std::size_t count = (rows + panel_rows - 1) / panel_rows;
    const auto tile_at = [&](std::size_t j) {
      return Rounded{values + j * lines * line_bytes<P>, scales + j * lines,
                     offsets + j * lines * groups};
    };
    for (std::size_t begin = 0; begin < batch; begin += block) {
      const std::size_t samples = batch - begin < block ? batch - begin : block;
      for (std::size_t j = 0, N = 0; j < samples; j += N) {
        N = tile_of(samples - j);
        const Rounded to = tile_at(j);
        for (std::size_t i = 0; i < N; ++i)
          for (std::size_t line = 0; line < lines; ++line) {
            const std::size_t at = line * N + i;
            const std::size_t col = line * scale_line_cols;
            std::int32_t owed[2] = {};
            Dots::template round<P>(x + (begin + j + i) * ldx + col,
                                    cols - col < scale_line_cols ? cols - col : scale_line_cols,
                                    to.values + at * line_bytes<P>, to.scales[at], owed);
            for (std::size_t g = 0; g < groups; ++g)
              to.offsets[(line * groups + g) * N + i] = owed[g];
          }
      }
      const bool apart = samples <= 4;
      const std::size_t some = apart ? count : 2;
      for (std::size_t p = 0; p < count; p += some)
        for (std::size_t j = 0, N = 0; j < samples; j += N) {
          N = tile_of(samples - j);
          any_samples<P>(N, rows, cols, panels, p, count - p < some ? count - p : some, apart,
                         tile_at(j), y + (begin + j) * ldy, ldy, add);
        }
    }
  }

  static void apply(Format format, Activations activations, std::size_t rows, std::size_t cols,
                    const std::uint8_t* panels, std::size_t batch, const float* x, std::size_t ldx,
                    float* y, std::size_t ldy, bool add, float* scratch) {
    if (format == Format::int4)
      return multiply<Pair::int4_int8>(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
    if constexpr (Dots::kind == DotProducts::int8_bf16)
      if (format == Format::bf16)
        return multiply<Pair::bf16_bf16>(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
    if (activations == Activations::int16)
      return multiply<Pair::int8_int16>(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
    multiply<Pair::int8_int8>(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
  }

  static std::size_t scratch(Format format, Activations activations, std::size_t cols,
                             std::size_t batch) {
    if (format == Format::int4) return scratch_of<Pair::int4_int8>(cols, batch);
    if constexpr (Dots::kind == DotProducts::int8_bf16)
      if (format == Format::bf16) return scratch_of<Pair::bf16_bf16>(cols, batch);
    return activations == Activations::int16 ? scratch_of<Pair::int8_int16>(cols, batch)
                                             : scratch_of<Pair::int8_int8>(cols, batch);
  }
  template <Pair P>
  static std::size_t scratch_of(std::size_t cols, std::size_t batch) {
    const std::size_t block = batch < block_of<P>(cols) ? batch : block_of<P>(cols);
    return block * lines_of(cols) * (line_bytes<P> / sizeof(float) + 1 + groups_of_line(P));
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
