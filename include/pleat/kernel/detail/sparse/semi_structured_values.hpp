// SPDX-License-Identifier: MIT
// Where the kernels over 2:4 matrices find their values, a block of columns at a time.
#pragma once

#include "pleat/kernel/detail/dense/dense_narrow.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Values as they are: those of panel p, whose blocks follow each other.
template <class T>
struct PlainValues {
  static constexpr std::size_t group_values = 2 * panel_rows;  // of a panel, for four columns
  static constexpr std::size_t block_groups = 8;               // groups that one code word serves

  const T* values;
  std::size_t stride;

  static constexpr bool narrow = false;
  struct Block {};

  [[nodiscard]] PlainValues panel(std::size_t p) const { return {values + p * stride, stride}; }
  const T* block(std::size_t b, std::size_t, Block&) const {
    return values + b * block_groups * group_values;
  }
};

/// Narrow values, which are widened a block at a time.
template <class Arch, class T>
struct WidenedValues {
  static constexpr std::size_t group_values = PlainValues<T>::group_values;
  static constexpr std::size_t block_groups = PlainValues<T>::block_groups;

  Format format;
  const std::uint8_t* values;
  std::size_t stride;

  static constexpr bool narrow = true;
  struct Block {
    alignas(64) T value[block_groups * group_values];
  };

  [[nodiscard]] WidenedValues panel(std::size_t p) const {
    return {format, values + p * stride, stride};
  }
  const T* block(std::size_t b, std::size_t groups, Block& to) const {
    DenseNarrow<Arch, T>::decode_any(format, values, 2 * b * block_groups, 2 * groups, to.value);
    return to.value;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
