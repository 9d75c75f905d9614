// SPDX-License-Identifier: MIT
// Columns of a panel of narrow weights, widened to floats.
#pragma once

#include "pleat/kernel/detail/simd/narrow.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// How the columns of a narrow panel are widened to floats, one step of columns at a time.
template <class Arch, Format F>
struct NarrowColumns {
  using Batch = xsimd::batch<float, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;
  static constexpr std::size_t group = scale_group(F);
  static constexpr std::size_t step = word_cols(F);  // columns that share bytes
  static constexpr std::size_t step_bytes = (F == Format::f16 ? 2 : 4) * panel_rows;

  /// What a panel has before its columns: its levels, where it has some. Of no columns there may be
  /// no panel.
  struct Head {
    using Levels = decltype([] {
      if constexpr (F == Format::levels) return typename Narrow<Arch>::Words();
      else return 0;
    }());
    Levels levels;

    Head([[maybe_unused]] const std::uint8_t* panel, [[maybe_unused]] std::size_t cols) : levels() {
      if constexpr (F == Format::levels)
        if (cols > 0) levels = Narrow<Arch>::words(panel);
    }
  };

  /// One step of one panel. `column<S>()` gives its columns as floats, in ascending order.
  struct Step {
    using Raw = decltype([] {
      if constexpr (F == Format::f16) return Batch();
      else return typename Narrow<Arch>::Words();
    }());
    Raw raw[vectors];
    Raw odd[F == Format::levels ? vectors : 1];  // levels: of every second column

    void load(const std::uint8_t* at, [[maybe_unused]] const Head& head) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < vectors; ++v) {
        if constexpr (F == Format::f16) raw[v] = Narrow<Arch>::f16(at + 2 * v * lanes);
        else raw[v] = Narrow<Arch>::words(at + 4 * v * lanes);
        if constexpr (F == Format::levels) {
          odd[v] = Narrow<Arch>::template levels<1>(raw[v], head.levels);
          raw[v] = Narrow<Arch>::template levels<0>(raw[v], head.levels);
        }
      }
    }
    template <std::size_t S>
    void column(Batch (&w)[vectors]) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < vectors; ++v) {
        if constexpr (F == Format::levels)
          w[v] = Narrow<Arch>::template byte<S / 2>(S % 2 == 0 ? raw[v] : odd[v]);
        if constexpr (F == Format::f16) w[v] = raw[v];
        if constexpr (F == Format::bf16) w[v] = Narrow<Arch>::template half<S>(raw[v]);
        if constexpr (F == Format::int8) w[v] = Narrow<Arch>::template byte<S>(raw[v]);
        if constexpr (F == Format::int4) {
          if constexpr (S == 5) raw[v] = Narrow<Arch>::high(raw[v]);
          w[v] = Narrow<Arch>::template nibble<4 * int{S < 5 ? S : S - 5}>(raw[v]);
        }
      }
    }
  };

  static void load_scales(const std::uint8_t* at, Batch (&scale)[vectors]) {
#pragma GCC unroll 16
    for (std::size_t v = 0; v < vectors; ++v) {
      if constexpr (is_of_four_bits(F)) {
        scale[v] = Narrow<Arch>::f16(at + 2 * v * lanes);
        if constexpr (F == Format::levels) scale[v] = scale[v] * Batch(1.0F / 128);
      } else {
        // Not through an array: what is stored in pieces is slow to load as a whole.
        scale[v] = Batch::load_unaligned(reinterpret_cast<const float*>(at) + v * lanes);
      }
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
