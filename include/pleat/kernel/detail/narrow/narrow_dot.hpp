// SPDX-License-Identifier: MIT
// Narrow weights times activations that are rounded on the way, by dot products of integers or of
// bf16.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/detail/narrow/sample_tiles.hpp"
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
  using Shape = TileShape<Dots>;
  static constexpr std::size_t lanes = Shape::lanes;
  static constexpr std::size_t vectors = Shape::vectors;

  template <Pair P>
  static constexpr std::size_t line_bytes = scale_line_cols* Dots::template value_bytes<P>;

  /// One part of a word of R panels times N samples; `x` points at what the first of them has for
  /// it.
  template <Pair P, std::size_t Part, std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void part(const std::uint8_t* panel,
                                          const std::uint8_t* const (&at)[R], std::size_t word,
                                          const std::uint8_t* x,
                                          typename Dots::template Sums<P> (&sum)[N][R][vectors]) {
    typename Dots::Operand w[R][vectors];
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (std::size_t v = 0; v < vectors; ++v)
        w[r][v] = Dots::template operand<P, Part>(at[r] + 64 * word + 4 * v * lanes, panel);
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (std::size_t v = 0; v < vectors; ++v)
          Dots::template dot<P>(sum[j][r][v], w[r][v], x + j * line_bytes<P>);
  }
  /// All of the word; `x` points at the line of the first sample, `panel` at any of the panels.
  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void step(const std::uint8_t* panel,
                                          const std::uint8_t* const (&at)[R], std::size_t word,
                                          const std::uint8_t* x,
                                          typename Dots::template Sums<P> (&sum)[N][R][vectors]) {
    constexpr std::size_t parts = Dots::template parts<P>;
    x += 4 * parts * word;
    part<P, 0, R, N>(panel, at, word, x, sum);
    if constexpr (parts > 1) part<P, 1, R, N>(panel, at, word, x + 4, sum);
    if constexpr (parts > 2) {
      part<P, 2, R, N>(panel, at, word, x + 8, sum);
      part<P, 3, R, N>(panel, at, word, x + 12, sum);
    }
  }

  /// R panels times the N samples of a tile.
  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::noinline]] static void tile(const std::uint8_t* const* panels, std::size_t cols,
                                     const RoundedTile& x, float* const* y, std::size_t ldy,
                                     bool add) {
    constexpr Format format = weights_of(P);
    constexpr std::size_t groups = groups_of_line(P);
    constexpr std::size_t group = scale_line_cols / groups;
    using Sum = typename Dots::template Sums<P>;
    TileTotals<Dots, N, R> totals;
    totals.begin(y, ldy, add);
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
#pragma GCC unroll 4
            for (std::size_t v = 0; v < vectors; ++v)
              sum[j][r][v] = Dots::template begin<P>(offsets[j]);
        const std::uint8_t* const from = values + g * group * Dots::template value_bytes<P>;
        for (std::size_t word = 0; word < words; ++word)
          step<P, R, N>(panels[0], at, word, from, sum);

        typename Dots::Floats weight[R][vectors];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 4
          for (std::size_t v = 0; v < vectors; ++v)
            weight[r][v] = Dots::template scales<P>(panels[r] + place.scale, v * lanes);
        totals.add(weight, scales, [&](std::size_t j, std::size_t r, std::size_t v) {
          return Dots::template end<P>(sum[j][r][v], offsets[j]);
        });
      }
      values += N * line_bytes<P>;
      scales += N;
    }
    totals.store(y, ldy);
  }

  /// The same for bf16, whose sums are floats and have no groups.
  template <std::size_t R, std::size_t N>
  [[gnu::noinline]] static void half_tile(const std::uint8_t* const* panels, std::size_t cols,
                                          const RoundedTile& x, float* const* y, std::size_t ldy,
                                          bool add) {
    constexpr Pair P = Pair::bf16_bf16;
    HalfSums<Dots, N, R> sums;
    sums.begin(y, ldy, add);
    const std::uint8_t* values = x.values;
    for (std::size_t first = 0; first < cols; first += scale_line_cols) {
      const std::size_t count = cols - first < scale_line_cols ? cols - first : scale_line_cols;
      const std::uint8_t* at[R];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
        at[r] = panels[r] + narrow_place(Format::bf16, first).word;
      for (std::size_t word = 0; word < (count + 1) / 2; ++word)
        step<P, R, N>(panels[0], at, word, values, sums.sum);
      values += N * line_bytes<P>;
    }
    sums.store(y, ldy);
  }

  /// Narrow panels, as `SampleTiles` wants them.
  template <Pair P>
  struct Weights : EvenLines<scale_line_cols> {
    static constexpr std::size_t line_bytes = NarrowDot::line_bytes<P>;
    static constexpr std::size_t groups = groups_of_line(P);
    static constexpr std::size_t widest = Shape::widest;

    [[gnu::always_inline]] static void round(const float* x, std::size_t count, std::uint8_t* to,
                                             float& scale, std::int32_t* offsets) {
      Dots::template round<P>(x, count, to, scale, offsets);
    }
    template <std::size_t R, std::size_t N>
    [[gnu::always_inline]] void tile(const std::size_t (&panel)[R], const RoundedTile& x,
                                     float* const* y, std::size_t ldy, bool add) const {
      const std::uint8_t* at[R];
      for (std::size_t r = 0; r < R; ++r)
        at[r] = panels + panel[r] * narrow_panel_bytes(weights_of(P), this->cols);
      if constexpr (P == Pair::bf16_bf16) half_tile<R, N>(at, this->cols, x, y, ldy, add);
      else NarrowDot::tile<P, R, N>(at, this->cols, x, y, ldy, add);
    }

    const std::uint8_t* panels;
  };

  template <Pair P>
  static void multiply(std::size_t rows, std::size_t cols, const std::uint8_t* panels,
                       std::size_t batch, const float* x, std::size_t ldx, float* y,
                       std::size_t ldy, bool add, float* scratch) {
    SampleTiles<Dots, Weights<P>>::multiply({{cols}, panels}, rows, batch, x, ldx, y, ldy, add,
                                            scratch);
  }

  static void apply(Format format, Activations activations, std::size_t rows, std::size_t cols,
                    const std::uint8_t* panels, std::size_t batch, const float* x, std::size_t ldx,
                    float* y, std::size_t ldy, bool add, float* scratch) {
    if (format == Format::int4)
      return multiply<Pair::int4_int8>(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
    if (format == Format::levels)
      return multiply<Pair::levels_int8>(rows, cols, panels, batch, x, ldx, y, ldy, add, scratch);
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
    if (format == Format::levels) return scratch_of<Pair::levels_int8>(cols, batch);
    if constexpr (Dots::kind == DotProducts::int8_bf16)
      if (format == Format::bf16) return scratch_of<Pair::bf16_bf16>(cols, batch);
    return activations == Activations::int16 ? scratch_of<Pair::int8_int16>(cols, batch)
                                             : scratch_of<Pair::int8_int8>(cols, batch);
  }
  template <Pair P>
  static std::size_t scratch_of(std::size_t cols, std::size_t batch) {
    return SampleTiles<Dots, Weights<P>>::scratch({{cols}, nullptr}, batch);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
