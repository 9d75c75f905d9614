// SPDX-License-Identifier: MIT
// Hadamard matrices times activations: sums and differences, in registers as far as they reach.
#pragma once

#include "pleat/kernel/detail/simd/exchange.hpp"
#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/partial.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"

#include <cstddef>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// 1 in those lanes in whose number the bit Distance is 0, -1 in the others.
template <class Arch, class T, std::size_t Distance>
struct AlternatingSigns {
  static constexpr std::size_t size = xsimd::batch<T, Arch>::size;
  alignas(sizeof(xsimd::batch<T, Arch>)) T lane[size] = {};

  constexpr AlternatingSigns() {
    for (std::size_t i = 0; i < size; ++i) lane[i] = (i & Distance) != 0 ? T(-1) : T(1);
  }
};

/// Kernels of `Table::hadamard_apply`. In every one, step h = 1, 2, 4, ... takes the values i and
/// i + h, where i has not the bit h, to their sum and their difference. All instruction sets sum in
/// this one order.
template <class Arch, class T>
struct Hadamard {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  /// Vectors that go through three steps while they are in registers.
  static constexpr std::size_t together = 8;

  /// What else is done to values on their way; pointers may be null.
  struct Ends {
    const T* before;  // factors of the inputs
    const T* after;   // factors of the outputs
    T scale;
    bool add;

    /// The same from value `i` on.
    [[nodiscard]] Ends from(std::size_t i) const {
      return {before != nullptr ? before + i : nullptr, after != nullptr ? after + i : nullptr,
              scale, add};
    }
  };

  /// The steps h < End of the values of a vector. The product with a sign rounds nothing.
  template <std::size_t End, std::size_t Distance = 1>
  static Batch within(const Batch& v) {
    if constexpr (Distance >= End) {
      return v;
    } else {
      static constexpr AlternatingSigns<Arch, T, Distance> signs{};
      return within<End, 2 * Distance>(MultiplyAdd<Arch, T>::of(
          v, Batch::load_aligned(signs.lane), Exchange<Arch, T>::template lanes<Distance>(v)));
    }
  }

  /// The steps between vectors.
  template <std::size_t Count, std::size_t Distance = 1>
  static void across(Batch (&v)[Count]) {
    if constexpr (Distance < Count) {
#pragma GCC unroll 16
      for (std::size_t i = 0; i < Count; ++i) {
        if ((i & Distance) != 0) continue;
        const Batch sum = v[i] + v[i + Distance];
        v[i + Distance] = v[i] - v[i + Distance];
        v[i] = sum;
      }
      across<Count, 2 * Distance>(v);
    }
  }

  /// Puts out what has gone through all steps, vectors `distance` values apart, the first of them
  /// the value `i`.
  template <std::size_t Count>
  static void finish(Batch (&v)[Count], T* y, std::size_t i, std::size_t distance,
                     const Ends& ends) {
    if (ends.after != nullptr)
#pragma GCC unroll 16
      for (std::size_t k = 0; k < Count; ++k)
        v[k] = v[k] * Batch::load_unaligned(ends.after + i + k * distance);
    const Batch scale(ends.scale);
    if (ends.add)
#pragma GCC unroll 16
      for (std::size_t k = 0; k < Count; ++k) {
        T* const to = y + i + k * distance;
        MultiplyAdd<Arch, T>::of(v[k], scale, Batch::load_unaligned(to)).store_unaligned(to);
      }
    else
#pragma GCC unroll 16
      for (std::size_t k = 0; k < Count; ++k) (v[k] * scale).store_unaligned(y + i + k * distance);
  }

  /// All blocks of `Count` vectors, or all of `End` < lanes values; where not `Last`, the first
  /// steps of larger blocks, put out as they are.
  template <std::size_t Count, std::size_t End, bool Last>
  static void in_registers(std::size_t size, const T* x, T* y, const Ends& ends) {
    std::size_t i = 0;
    for (; i + Count * lanes <= size; i += Count * lanes) {
      Batch v[Count];
#pragma GCC unroll 16
      for (std::size_t k = 0; k < Count; ++k) v[k] = Batch::load_unaligned(x + i + k * lanes);
      if (ends.before != nullptr)
#pragma GCC unroll 16
        for (std::size_t k = 0; k < Count; ++k)
          v[k] = v[k] * Batch::load_unaligned(ends.before + i + k * lanes);
#pragma GCC unroll 16
      for (std::size_t k = 0; k < Count; ++k) v[k] = within<End>(v[k]);
      across<Count>(v);
      if constexpr (Last) finish<Count>(v, y, i, lanes, ends);
      else
#pragma GCC unroll 16
        for (std::size_t k = 0; k < Count; ++k) v[k].store_unaligned(y + i + k * lanes);
    }
    if constexpr (End < lanes)
      if (i < size) last_lanes<End>(size - i, x + i, y + i, ends.from(i));
  }

  /// The last blocks of less than a vector together.
  template <std::size_t End>
  static void last_lanes(std::size_t count, const T* x, T* y, const Ends& ends) {
    using Lanes = Partial<Arch, T>;
    Batch v = Lanes::load(x, count);
    if (ends.before != nullptr) v = v * Lanes::load(ends.before, count);
    v = within<End>(v);
    if (ends.after != nullptr) v = v * Lanes::load(ends.after, count);
    const Batch scale(ends.scale);
    Lanes::store(
        ends.add ? MultiplyAdd<Arch, T>::of(v, scale, Lanes::load(y, count)) : Batch(v * scale), y,
        count);
  }

  /// The steps distance, 2 distance, ... of one block, up to `Count` times the first.
  template <std::size_t Count, bool Last>
  static void pass(std::size_t block, std::size_t distance, T* work, T* y, const Ends& ends) {
    for (std::size_t first = 0; first < block; first += Count * distance)
      for (std::size_t i = first; i < first + distance; i += lanes) {
        Batch v[Count];
#pragma GCC unroll 16
        for (std::size_t k = 0; k < Count; ++k)
          v[k] = Batch::load_unaligned(work + i + k * distance);
        across<Count>(v);
        if constexpr (Last) finish<Count>(v, y, i, distance, ends);
        else
#pragma GCC unroll 16
          for (std::size_t k = 0; k < Count; ++k) v[k].store_unaligned(work + i + k * distance);
      }
  }

  /// A block that no registers hold: in several passes over the output, or over scratch where the
  /// output is added to.
  static void large_block(std::size_t block, const T* x, T* y, const Ends& ends, T* scratch) {
    T* const work = ends.add ? scratch : y;
    in_registers<together, lanes, false>(block, x, work, ends);
    std::size_t distance = together * lanes;
    for (; block / distance > 8; distance *= 8) pass<8, false>(block, distance, work, y, ends);
    switch (block / distance) {
      case 8: return pass<8, true>(block, distance, work, y, ends);
      case 4: return pass<4, true>(block, distance, work, y, ends);
      default: return pass<2, true>(block, distance, work, y, ends);
    }
  }

  /// Blocks of at most `End` values, which are not more than a vector.
  template <std::size_t End>
  static void few_values(std::size_t block, std::size_t size, const T* x, T* y, const Ends& ends) {
    if constexpr (End > 1)
      if (block < End) return few_values<End / 2>(block, size, x, y, ends);
    in_registers<1, End, true>(size, x, y, ends);
  }

  /// See `Table::hadamard_apply`.
  static void apply(std::size_t block, std::size_t size, T scale, const T* before, const T* after,
                    std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                    T* scratch) {
    const Ends ends{before, after, scale, add};
    for (std::size_t j = 0; j < batch; ++j) {
      const T* const in = x + j * ldx;
      T* const out = y + j * ldy;
      if (block > together * lanes)
        for (std::size_t i = 0; i < size; i += block)
          large_block(block, in + i, out + i, ends.from(i), scratch);
      else if (block == 8 * lanes) in_registers<8, lanes, true>(size, in, out, ends);
      else if (block == 4 * lanes) in_registers<4, lanes, true>(size, in, out, ends);
      else if (block == 2 * lanes) in_registers<2, lanes, true>(size, in, out, ends);
      else few_values<lanes>(block, size, in, out, ends);
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
