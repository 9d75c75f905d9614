// SPDX-License-Identifier: MIT
// Narrow weights of which N of every M columns are kept, times activations that are rounded on the
// way.
#pragma once

#include "pleat/kernel/detail/narrow/picked_dots.hpp"
#include "pleat/kernel/detail/narrow/sample_tiles.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// The values and the controls of a line of R panels: of so many steps, which are words of values.
template <std::size_t R>
struct PickedLine {
  const std::uint8_t* values[R];
  const std::uint32_t* controls[R];
  std::size_t steps;
};

/// Steps of halves (see `has_half_steps`): a line has 8 bytes of activations for each.
template <class Dots, Pair P>
struct HalfSteps : EvenLines<picked_line_words * picked_cols(weights_of(P))> {
  static constexpr std::size_t lanes = Dots::lanes;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr std::size_t together = control_steps(weights_of(P));
  static constexpr std::size_t line_bytes = 8 * picked_line_words;
  static constexpr std::size_t line_controls = picked_line_words / together * panel_rows;

  /// One step of R panels times N samples; leaves the controls of the next.
  template <std::size_t R, std::size_t N>
  [[gnu::always_inline]] static void step(const PickedLine<R>& line, std::size_t number,
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

  /// R panels times N samples.
  template <std::size_t R, std::size_t N>
  [[gnu::always_inline]] void multiply(const PickedLine<R>& line, const std::uint8_t* x,
                                       typename Dots::template Sums<P> (&sum)[N][R][vectors]) {
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
        for (std::size_t s = 0; s < together; ++s) step<R, N>(line, first + s, controls, x, sum);
      else
        for (std::size_t s = first; s < line.steps; ++s) step<R, N>(line, s, controls, x, sum);
    }
  }
};

/// Steps of any pattern of int8: each picks from a window of activations. A line are those of all
/// groups that one of its 64 values belongs to, so two lines share a group where its values are of
/// both.
template <class Dots>
struct WindowSteps {
  static constexpr std::size_t lanes = Dots::lanes;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr std::size_t line_controls = picked_line_words * panel_rows;
  static constexpr std::size_t line_values = 4 * picked_line_words;
  using Sums = typename Dots::template Sums<Pair::int8_int8>;

  [[nodiscard]] static WindowSteps of(SemiStructuredPattern pattern, std::size_t cols) {
    const std::size_t kept = pattern.kept;
    const std::size_t groups =
        line_values % kept == 0 ? line_values / kept : (line_values - 2 + kept) / kept + 1;
    const std::size_t own = picked_window(pattern);
    const std::size_t last = own < 64 ? 64 : own;
    return {pattern, cols, ((groups - 1) * pattern.group + last + 63) / 64 * 64, 0};
  }

  [[nodiscard]] std::size_t lines() const {
    return (row_values(pattern, cols) + line_values - 1) / line_values;
  }
  [[nodiscard]] LineCols line(std::size_t number) const {
    const std::size_t all = row_values(pattern, cols);
    const std::size_t begin = number * line_values;
    const std::size_t end = begin + line_values < all ? begin + line_values : all;
    const std::size_t first = begin / pattern.kept * pattern.group;
    const std::size_t past = ((end - 1) / pattern.kept + 1) * pattern.group;
    return {first, (past < cols ? past : cols) - first};
  }

  /// R panels times N samples; one line after the other, from the first on.
  template <std::size_t R, std::size_t N>
  [[gnu::always_inline]] void multiply(const PickedLine<R>& line, const std::uint8_t* x,
                                       Sums (&sum)[N][R][vectors]) {
    const std::size_t whole = 4 / pattern.kept * pattern.group;
    const std::size_t rest = 4 % pattern.kept;
    for (std::size_t number = 0; number < line.steps; ++number) {
      auto values = operands<R>([&](std::size_t r, std::size_t v) {
        return Dots::values(line.values[r] + 64 * number + 4 * v * lanes);
      });
      auto controls = operands<R>([&](std::size_t r, std::size_t v) {
        return Dots::controls(line.controls[r] + number * panel_rows + v * lanes);
      });
#pragma GCC unroll 8
      for (std::size_t j = 0; j < N; ++j) {
        const auto window = Dots::window(x + j * line_bytes);
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (std::size_t v = 0; v < vectors; ++v)
            Dots::pick_of(sum[j][r][v], values.at[r][v], controls.at[r][v], window);
      }
      x += whole;
      before += rest;
      if (before >= pattern.kept) {
        before -= pattern.kept;
        x += pattern.group;
      }
    }
  }

  template <class Value, std::size_t R>
  struct Operands {
    Value at[R][vectors];
  };
  template <std::size_t R, class Load>
  [[gnu::always_inline]] static auto operands(const Load& load) {
    Operands<decltype(load(0, 0)), R> result;
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (std::size_t v = 0; v < vectors; ++v) result.at[r][v] = load(r, v);
    return result;
  }

  SemiStructuredPattern pattern;
  std::size_t cols;
  std::size_t line_bytes;
  std::size_t before;  // values of the next step's first group that earlier steps have
};

/// Kernels over the narrow panels of kept values (see `Table::semi_structured_dot_apply`). The
/// sums of a line of integers are exact, and are added up in order.
template <class Arch, class PlainDots>
struct SemiStructuredDot {
  /// The panels of R numbers.
  template <std::size_t R>
  struct Panels {
    const std::uint8_t* values[R];
    const std::uint32_t* controls[R];
    const std::int32_t* sums[R];
    std::size_t steps;

    [[nodiscard, gnu::always_inline]] std::size_t lines() const {
      return (steps + picked_line_words - 1) / picked_line_words;
    }
    template <class Steps>
    [[gnu::always_inline]] PickedLine<R> line(Format format, std::size_t number) const {
      const std::size_t first = number * picked_line_words;
      const std::size_t at = narrow_place(format, first * word_cols(format)).word;
      PickedLine<R> result;
      result.steps = steps - first < picked_line_words ? steps - first : picked_line_words;
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        result.values[r] = values[r] + at;
        result.controls[r] = controls[r] + number * Steps::line_controls;
      }
      return result;
    }
  };

  template <class Dots, class Steps, std::size_t R, std::size_t N>
  [[gnu::noinline]] static void tile(const Panels<R>& panels, Steps steps, const RoundedTile& x,
                                     float* const* y, std::size_t ldy, bool add) {
    constexpr Pair P = Pair::int8_int8;
    constexpr std::size_t lanes = Dots::lanes;
    constexpr std::size_t vectors = panel_rows / lanes;
    TileTotals<Dots, N, R> totals;
    totals.begin(y, ldy, add);
    const std::uint8_t* values = x.values;
    const float* scales = x.scales;
    for (std::size_t number = 0; number < panels.lines(); ++number) {
      typename Dots::template Sums<P> sum[N][R][vectors];
#pragma GCC unroll 8
      for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 4
        for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
          for (std::size_t v = 0; v < vectors; ++v)
            sum[j][r][v] = Dots::begin(panels.sums[r] + number * panel_rows + v * lanes);
      const PickedLine<R> line = panels.template line<Steps>(Format::int8, number);
      steps.template multiply<R, N>(line, values, sum);

      typename Dots::Floats weight[R][vectors];
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (std::size_t v = 0; v < vectors; ++v)  // which lie before the values
          weight[r][v] = Dots::template scales<P>(line.values[r] - 64 + 4 * v * lanes, 0);
      totals.add(weight, scales, [&](std::size_t j, std::size_t r, std::size_t v) {
        return Dots::template end<P>(sum[j][r][v], 0);
      });
      values += N * steps.line_bytes;
      scales += N;
    }
    totals.store(y, ldy);
  }

  /// The same for bf16, whose sums are floats and have no groups.
  template <class Dots, class Steps, std::size_t R, std::size_t N>
  [[gnu::noinline]] static void half_tile(const Panels<R>& panels, Steps steps,
                                          const RoundedTile& x, float* const* y, std::size_t ldy,
                                          bool add) {
    HalfSums<PlainDots, N, R> sums;
    sums.begin(y, ldy, add);
    const std::uint8_t* values = x.values;
    for (std::size_t number = 0; number < panels.lines(); ++number, values += N * steps.line_bytes)
      steps.template multiply<R, N>(panels.template line<Steps>(Format::bf16, number), values,
                                    sums.sum);
    sums.store(y, ldy);
  }

  /// Panels and what belongs to them, as `SampleTiles` wants them.
  template <class Dots, Pair P, class Steps>
  struct Weights : Steps {
    static constexpr std::size_t groups = 0;
    static constexpr std::size_t widest = Dots::widest;

    [[gnu::always_inline]] void round(const float* x, std::size_t count, std::uint8_t* to,
                                      float& scale, std::int32_t* offsets) const {
      if constexpr (P == Pair::bf16_bf16)
        PlainDots::template round<P>(x, count, to, scale, offsets);
      else Dots::round_line(x, count, this->line_bytes, to, scale);
    }
    template <std::size_t R, std::size_t N>
    [[gnu::always_inline]] void tile(const std::size_t (&panel)[R], const RoundedTile& x,
                                     float* const* y, std::size_t ldy, bool add) const {
      constexpr Format format = weights_of(P);
      const std::size_t words = row_words(format, pattern, this->cols);
      const std::size_t stride = narrow_panel_bytes(format, words * word_cols(format));
      Panels<R> panels;
      panels.steps = words;
      for (std::size_t r = 0; r < R; ++r) {
        panels.values[r] = values + panel[r] * stride;
        panels.controls[r] = controls + panel[r] * panel_controls(format, pattern, this->cols);
        panels.sums[r] =
            sums + (P == Pair::bf16_bf16 ? 0 : panel[r] * panel_sums(format, pattern, this->cols));
      }
      const Steps& steps = *this;
      if constexpr (P == Pair::bf16_bf16)
        half_tile<Dots, Steps, R, N>(panels, steps, x, y, ldy, add);
      else SemiStructuredDot::tile<Dots, Steps, R, N>(panels, steps, x, y, ldy, add);
    }

    SemiStructuredPattern pattern;
    const std::uint8_t* values = nullptr;
    const std::uint32_t* controls = nullptr;
    const std::int32_t* sums = nullptr;
  };

  /// Calls `with` with the tiles and the weights of a pattern, whose pointers are null.
  template <class With>
  [[gnu::always_inline]] static void visit(Format format, SemiStructuredPattern pattern,
                                           std::size_t cols, const With& with) {
    using Dots = PickedDots<PlainDots>;
    using Portable = PickedDots<PlainLoops<PlainDots>>;
    if constexpr (PlainDots::kind == DotProducts::int8_bf16)
      if (format == Format::bf16)
        return some<Dots, Pair::bf16_bf16>(HalfSteps<Dots, Pair::bf16_bf16>{{cols}}, pattern, with);
    if constexpr (Dots::has_halves)
      if (has_half_steps(format, pattern))
        return some<Dots, Pair::int8_int8>(HalfSteps<Dots, Pair::int8_int8>{{cols}}, pattern, with);
    if constexpr (has_byte_dots(PlainDots::kind))
      if (picked_window(pattern) <= Dots::picks)
        return some<Dots, Pair::int8_int8>(WindowSteps<Dots>::of(pattern, cols), pattern, with);
    some<Portable, Pair::int8_int8>(WindowSteps<Portable>::of(pattern, cols), pattern, with);
  }
  template <class Dots, Pair P, class Steps, class With>
  [[gnu::always_inline]] static void some(const Steps& steps, SemiStructuredPattern pattern,
                                          const With& with) {
    using Own = Weights<Dots, P, Steps>;
    with(SampleTiles<Dots, Own>(), Own{steps, pattern});
  }

  static void apply(Format format, SemiStructuredPattern pattern, std::size_t rows,
                    std::size_t cols, const std::uint8_t* values, const std::uint32_t* controls,
                    const std::int32_t* sums, std::size_t batch, const float* x, std::size_t ldx,
                    float* y, std::size_t ldy, bool add, float* scratch) {
    visit(format, pattern, cols, [&](auto tiles, auto weights) {
      weights.values = values;
      weights.controls = controls;
      weights.sums = sums;
      decltype(tiles)::multiply(weights, rows, batch, x, ldx, y, ldy, add, scratch);
    });
  }

  static std::size_t scratch(Format format, SemiStructuredPattern pattern, std::size_t cols,
                             std::size_t batch) {
    std::size_t result = 0;
    visit(format, pattern, cols,
          [&](auto tiles, auto weights) { result = decltype(tiles)::scratch(weights, batch); });
    return result;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
