// SPDX-License-Identifier: MIT
// Dot products of kept values with those activations that each row picks: in plain C++, for
// instruction sets without dot products of bytes.
#pragma once

#include "pleat/kernel/detail/narrow/dot_products.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Up to 128 activations of a sample, rounded in plain loops, 128 added.
[[gnu::always_inline]] inline void round_line_plainly(const float* x, std::size_t count,
                                                      std::uint8_t* to, float& scale) {
  const LineScale line = LineScale::of(largest_bits(x, count), largest_of(Pair::int8_int8));
  scale = line.scale;
  for (std::size_t k = 0; k < picked_line_cols; ++k) {
    std::int32_t value = 0;
    if (k < count && line.inverse > 0)
      value = static_cast<std::int32_t>(__builtin_nearbyintf(x[k] * line.inverse));
    to[k] = static_cast<std::uint8_t>(value + 128);
  }
}

/// What a trait of dot products has besides where weights are N of every M columns. The values of
/// `lanes` rows of one step are words of 32 bits; of the 8 bytes of activations that belong to the
/// step, the controls of the rows say which meet them: four of eight bytes (P is int8_int8, the
/// activations unsigned, 128 added), or two of four bf16.
///
///     begin(at)                   sums of integers from what they start from
///     values(at), controls(at)    of `lanes` rows
///     next<P>(controls)           those of the next step
///     activations(at)             8 bytes for every row
///     pick<P>(sum, values, controls, activations)
///     round_line(x, count, to, scale)
///                                 up to 128 activations of one sample, all with one scale; all 128
///                                 are written
///     widest                      samples of the largest tile
///
/// This one has bytes alone, and is a template so that no instruction set has functions of another.
template <class Dots>
struct PickedDots {
  static constexpr DotProducts kind = DotProducts::none;
  static constexpr std::size_t lanes = panel_rows;
  static constexpr std::size_t widest = 4;
  struct Floats {
    float lane[lanes];
  };
  struct Integers {
    std::int32_t lane[lanes];
  };
  struct Operand {
    std::int8_t lane[lanes][4];
  };
  struct Controls {
    std::uint32_t lane[lanes];
  };
  struct Activated {
    std::uint8_t byte[8];
  };
  template <Pair P>
  using Sums = Integers;

  static Integers begin(const std::int32_t* at) {
    Integers result;
    __builtin_memcpy(result.lane, at, sizeof result.lane);
    return result;
  }
  static Operand values(const std::uint8_t* at) {
    Operand result;
    __builtin_memcpy(result.lane, at, sizeof result.lane);
    return result;
  }
  static Controls controls(const std::uint32_t* at) {
    Controls result;
    __builtin_memcpy(result.lane, at, sizeof result.lane);
    return result;
  }
  template <Pair P>
  static void next(Controls& controls) {
    for (std::size_t i = 0; i < lanes; ++i) controls.lane[i] >>= 4U;
  }
  static Activated activations(const std::uint8_t* at) {
    Activated result;
    __builtin_memcpy(result.byte, at, sizeof result.byte);
    return result;
  }
  template <Pair P>
  static void pick(Integers& sum, const Operand& values, const Controls& controls,
                   const Activated& x) {
    for (std::size_t i = 0; i < lanes; ++i)
      for (std::size_t b = 0; b < 4; ++b)
        sum.lane[i] += values.lane[i][b] * x.byte[controls.lane[i] >> 8 * b & 7U];
  }
  template <Pair P>
  static Floats end(const Integers& sum, std::int32_t) {
    Floats result;
    for (std::size_t i = 0; i < lanes; ++i) result.lane[i] = static_cast<float>(sum.lane[i]);
    return result;
  }

  static Floats load(const float* from) {
    Floats result;
    __builtin_memcpy(result.lane, from, sizeof result.lane);
    return result;
  }
  static void store(float* to, const Floats& value) {
    __builtin_memcpy(to, value.lane, sizeof value.lane);
  }
  static Floats multiply_add(const Floats& a, const Floats& b, float s, const Floats& c) {
    Floats result;
    for (std::size_t i = 0; i < lanes; ++i)
      result.lane[i] = a.lane[i] * (b.lane[i] * s) + c.lane[i];
    return result;
  }
  template <Pair P>
  static Floats scales(const std::uint8_t* at, std::size_t) {
    Floats result;
    __builtin_memcpy(result.lane, at, sizeof result.lane);
    return result;
  }

  static void round_line(const float* x, std::size_t count, std::uint8_t* to, float& scale) {
    round_line_plainly(x, count, to, scale);
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
