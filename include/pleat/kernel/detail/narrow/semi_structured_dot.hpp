// SPDX-License-Identifier: MIT
// Narrow weights of which half of every four or eight columns are kept, times activations that are
// rounded on the way.
#pragma once

#include "pleat/kernel/detail/narrow/picked_dots.hpp"
#include "pleat/kernel/detail/narrow/sample_tiles.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over the narrow panels of kept values (see `Table::semi_structured_dot_apply`). A step
/// are the values of one word of a row, and the 8 bytes of activations that they pick from; 16 of
/// them are a line. The sums of a line of integers are exact, and are added up in order.
template <class Arch, class PlainDots>
struct SemiStructuredDot {
  using Dots = PickedDots<PlainDots>;
  using Shape = TileShape<Dots>;
  static constexpr std::size_t lanes = Shape::lanes;
  static constexpr std::size_t vectors = Shape::vectors;
  static constexpr std::size_t line_steps = 16;
  static constexpr std::size_t line_bytes = 8 * line_steps;
  template <Pair P>
  static constexpr std::size_t line_cols = line_steps* picked_cols(weights_of(P));

  /// Where the values and the controls of a line of R panels begin.
  template <std::size_t R>
  struct Line {
    const std::uint8_t* values[R];
    const std::uint32_t* controls[R];
    std::size_t steps;
  };

  /// One step of R panels times N samples; leaves the controls of the next.
  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void step(const Line<R>& line, std::size_t number,
                                          typename Dots::Controls (&controls)[R][vectors],
                                          const std::uint8_t* x,
                                          typename Dots::template Sums<P> (&sum)[N][R][vectors]) {
    typename Dots::Operand values[R][vectors];
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (std::size_t v = 0; v < vectors; ++v)
        values[r][v] = Dots::values(line.values[r] + 64 * number + 4 * v * lanes);
#pragma GCC unroll 8
    for (std::size_t j = 0; j < N; ++j) {
      const auto eight = Dots::activations(x + j * line_bytes + 8 * number);
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (std::size_t v = 0; v < vectors; ++v)
          Dots::template pick<P>(sum[j][r][v], values[r][v], controls[r][v], eight);
    }
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (std::size_t v = 0; v < vectors; ++v) Dots::template next<P>(controls[r][v]);
  }

  template <Pair P, std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void multiply_line(
      const Line<R>& line, const std::uint8_t* x,
      typename Dots::template Sums<P> (&sum)[N][R][vectors]) {
    constexpr std::size_t together = control_steps(weights_of(P));
    for (std::size_t first = 0; first < line.steps; first += together) {
      typename Dots::Controls controls[R][vectors];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (std::size_t v = 0; v < vectors; ++v)
          controls[r][v] =
              Dots::controls(line.controls[r] + first / together * panel_rows + v * lanes);
      if (line.steps - first >= together)
#pragma GCC unroll 2
        for (std::size_t s = 0; s < together; ++s) step<P, R, N>(line, first + s, controls, x, sum);
      else
        for (std::size_t s = first; s < line.steps; ++s) step<P, R, N>(line, s, controls, x, sum);
    }
  }

  /// The panels of R numbers.
  template <std::size_t R>
  struct Panels {
    const std::uint8_t* values[R];
    const std::uint32_t* controls[R];
    const std::int32_t* sums[R];

    /// From column `first` on, which begins a line.
    template <Pair P>
    [[gnu::always_inline]] Line<R> line(std::size_t first, std::size_t cols) const {
      constexpr Format format = weights_of(P);
      constexpr std::size_t width = picked_cols(format);
      const std::size_t steps = (cols - first + width - 1) / width;
      Line<R> result;
      result.steps = steps < line_steps ? steps : line_steps;
      const std::size_t at = narrow_place(format, first / width * word_cols(format)).word;
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        result.values[r] = values[r] + at;
        result.controls[r] = controls[r] + panel_controls(format, first);
      }
      return result;
    }
  };

  template <std::size_t R, std::size_t N>
  [[gnu::noinline]] static void tile(const Panels<R>& panels, std::size_t cols,
                                     const RoundedTile& x, float* const* y, std::size_t ldy,
                                     bool add) {
    constexpr Pair P = Pair::int8_int8;
    TileTotals<Dots, N, R> totals;
    totals.begin(y, ldy, add);
    const std::uint8_t* values = x.values;
    const float* scales = x.scales;
    for (std::size_t first = 0; first < cols; first += line_cols<P>) {
      const std::size_t own = first / line_cols<P> * panel_rows;
      typename Dots::template Sums<P> sum[N][R][vectors];
#pragma GCC unroll 8
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (std::size_t v = 0; v < vectors; ++v)
            sum[j][r][v] = Dots::begin(panels.sums[r] + own + v * lanes);
      const Line<R> line = panels.template line<P>(first, cols);
      multiply_line<P, R, N>(line, values, sum);

      typename Dots::Floats weight[R][vectors];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (std::size_t v = 0; v < vectors; ++v)  // which lie before the values
          weight[r][v] = Dots::template scales<P>(line.values[r] - 64 + 4 * v * lanes, 0);
      totals.add(weight, scales, [&](std::size_t j, std::size_t r, std::size_t v) {
        return Dots::template end<P>(sum[j][r][v], 0);
      });
      values += N * line_bytes;
      scales += N;
    }
    totals.store(y, ldy);
  }

  /// The same for bf16, whose sums are floats and have no groups.
  template <std::size_t R, std::size_t N>
  [[gnu::noinline]] static void half_tile(const Panels<R>& panels, std::size_t cols,
                                          const RoundedTile& x, float* const* y, std::size_t ldy,
                                          bool add) {
    constexpr Pair P = Pair::bf16_bf16;
    HalfSums<PlainDots, N, R> sums;
    sums.begin(y, ldy, add);
    const std::uint8_t* values = x.values;
    for (std::size_t first = 0; first < cols; first += line_cols<P>, values += N * line_bytes)
      multiply_line<P, R, N>(panels.template line<P>(first, cols), values, sums.sum);
    sums.store(y, ldy);
  }

  /// Panels and what belongs to them, as `SampleTiles` wants them.
  template <Pair P>
  struct Weights {
    static constexpr std::size_t line_cols = SemiStructuredDot::line_cols<P>;
    static constexpr std::size_t line_bytes = SemiStructuredDot::line_bytes;
    static constexpr std::size_t groups = 0;
    static constexpr std::size_t widest = Dots::widest;

    [[gnu::always_inline]] static void round(const float* x, std::size_t count, std::uint8_t* to,
                                             float& scale, std::int32_t* offsets) {
      if constexpr (P == Pair::bf16_bf16)
        PlainDots::template round<P>(x, count, to, scale, offsets);
      else Dots::round_line(x, count, to, scale);
    }
    template <std::size_t R, std::size_t N>
    [[gnu::always_inline]] void tile(const std::size_t (&panel)[R], const RoundedTile& x,
                                     float* const* y, std::size_t ldy, bool add) const {
      constexpr Format format = weights_of(P);
      const std::size_t kept = (cols + picked_cols(format) - 1) / picked_cols(format);
      const std::size_t stride = narrow_panel_bytes(format, kept * word_cols(format));
      Panels<R> panels;
      for (std::size_t r = 0; r < R; ++r) {
        panels.values[r] = values + panel[r] * stride;
        panels.controls[r] = controls + panel[r] * panel_controls(format, cols);
        panels.sums[r] = sums + (P == Pair::bf16_bf16 ? 0 : panel[r] * panel_sums(cols));
      }
      if constexpr (P == Pair::bf16_bf16) half_tile<R, N>(panels, cols, x, y, ldy, add);
      else SemiStructuredDot::tile<R, N>(panels, cols, x, y, ldy, add);
    }

    const std::uint8_t* values;
    const std::uint32_t* controls;
    const std::int32_t* sums;
    std::size_t cols;
  };

  static void apply(Format format, std::size_t rows, std::size_t cols, const std::uint8_t* values,
                    const std::uint32_t* controls, const std::int32_t* sums, std::size_t batch,
                    const float* x, std::size_t ldx, float* y, std::size_t ldy, bool add,
                    float* scratch) {
    if constexpr (PlainDots::kind == DotProducts::int8_bf16)
      if (format == Format::bf16)
        return SampleTiles<Dots, Weights<Pair::bf16_bf16>>::multiply(
            {values, controls, sums, cols}, rows, batch, x, ldx, y, ldy, add, scratch);
    SampleTiles<Dots, Weights<Pair::int8_int8>>::multiply({values, controls, sums, cols}, rows,
                                                          batch, x, ldx, y, ldy, add, scratch);
  }

  static std::size_t scratch(Format format, std::size_t cols, std::size_t batch) {
    if constexpr (PlainDots::kind == DotProducts::int8_bf16)
      if (format == Format::bf16)
        return SampleTiles<Dots, Weights<Pair::bf16_bf16>>::scratch(cols, batch);
    return SampleTiles<Dots, Weights<Pair::int8_int8>>::scratch(cols, batch);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
