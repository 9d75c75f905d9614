// SPDX-License-Identifier: MIT
// What the kernels over N of M see of a matrix: its pattern, and its values, a block at a time.
#pragma once

#include "pleat/kernel/detail/dense/dense_narrow.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Groups of M columns, of which N are kept: half, or N = 0 where only the run knows how many.
template <std::size_t M, std::size_t N>
struct KnownPattern {
  static constexpr bool halves = N > 0;  // then groups and words of codes end where a block does
  static constexpr std::size_t kept_of_half = N;
  static_assert(!halves || 2 * N == M);
  std::size_t kept_of_run;

  [[gnu::always_inline]] static constexpr std::size_t group() { return M; }
  [[gnu::always_inline]] static constexpr unsigned bits() { return code_bits(M); }
  [[gnu::always_inline]] static constexpr std::size_t codes() { return word_codes(M); }
  [[nodiscard, gnu::always_inline]] constexpr std::size_t kept() const {
    if constexpr (halves) return N;
    else return kept_of_run;
  }
};

/// A pattern of which nothing is known before the run.
struct AnyPattern {
  static constexpr bool halves = false;
  SemiStructuredPattern pattern;

  [[nodiscard, gnu::always_inline]] constexpr std::size_t group() const { return pattern.group; }
  [[nodiscard, gnu::always_inline]] constexpr unsigned bits() const {
    return code_bits(pattern.group);
  }
  [[nodiscard, gnu::always_inline]] constexpr std::size_t codes() const {
    return word_codes(pattern.group);
  }
  [[nodiscard, gnu::always_inline]] constexpr std::size_t kept() const { return pattern.kept; }
};

/// Calls `f` with the pattern as a type that knows M, and N where it is half of M.
template <class F>
void with_pattern(SemiStructuredPattern pattern, const F& f) {
  const bool half = 2 * pattern.kept == pattern.group;
  switch (pattern.group) {
    case 4: return half ? f(KnownPattern<4, 2>{}) : f(KnownPattern<4, 0>{pattern.kept});
    case 8: return half ? f(KnownPattern<8, 4>{}) : f(KnownPattern<8, 0>{pattern.kept});
    case 16: return half ? f(KnownPattern<16, 8>{}) : f(KnownPattern<16, 0>{pattern.kept});
    default: return half ? f(KnownPattern<32, 16>{}) : f(KnownPattern<32, 0>{pattern.kept});
  }
}

/// Values as they are: those of panel p, whose blocks follow each other.
template <class T>
struct PlainValues {
  const T* values;
  std::size_t stride;

  static constexpr bool narrow = false;
  struct Block {};

  [[nodiscard, gnu::always_inline]] PlainValues panel(std::size_t p) const {
    return {values + p * stride, stride};
  }
  [[gnu::always_inline]] const T* block(std::size_t b, std::size_t, Block&) const {
    return values + b * block_values * panel_rows;
  }
};

/// Narrow values, which are widened a block at a time.
template <class Arch, class T>
struct WidenedValues {
  Format format;
  const std::uint8_t* values;
  std::size_t stride;

  static constexpr bool narrow = true;
  struct Block {
    alignas(64) T value[block_values * panel_rows];
  };

  [[nodiscard]] WidenedValues panel(std::size_t p) const {
    return {format, values + p * stride, stride};
  }
  const T* block(std::size_t b, std::size_t count, Block& to) const {
    range(b * block_values, count, to.value);
    return to.value;
  }
  /// So many values of each row from `first` on, where a block begins.
  void range(std::size_t first, std::size_t count, T* to) const {
    DenseNarrow<Arch, T>::decode_any(format, values, first, count, to);
  }
};

[[nodiscard, gnu::always_inline]] constexpr std::size_t least(std::size_t a, std::size_t b) {
  return a < b ? a : b;
}

/// The values of a block of a row that has `count` of them in all.
[[nodiscard, gnu::always_inline]] constexpr std::size_t values_of_block(std::size_t block,
                                                                        std::size_t count) {
  return least(count - block * block_values, block_values);
}

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
