// SPDX-License-Identifier: MIT
// The memory of narrow panels: halves, integers and scales, where the layout has them.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow/narrow_layout.hpp"
#include "pleat/matrix/detail/narrow/numbers.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Zeros, until they are set. Copies share it.
class NarrowMemory : public NarrowLayout {
 protected:
  NarrowMemory() = default;
  NarrowMemory(Storage storage, Index rows, Index cols)
      : NarrowLayout(storage, rows, cols), bytes_(static_cast<std::size_t>(memory())) {
    if (group() > 0) set_numbers(Numbers(storage));
  }

  /// What integers stand for.
  void set_numbers(const Numbers& numbers) {
    numbers_ = numbers;
    if (!numbers.are_fitted()) return;
    for (Index row = 0; row < rows(); row += Index{kernel::panel_rows})
      for (Index copy = 0; copy < 4; ++copy) store(panel_at(row) + 16 * copy, numbers.levels());
  }

  template <class V>
  [[nodiscard]] V load(Index at) const {
    V value;
    std::memcpy(static_cast<void*>(&value), bytes_.data() + at, sizeof value);
    return value;
  }
  template <class V>
  void store(Index at, V value) {
    std::memcpy(bytes_.data() + at, static_cast<const void*>(&value), sizeof value);
  }

  [[nodiscard]] float scale(Index row, Index col) const {
    const Index at = scale_at(row, col);
    return storage() == Storage::int8 ? load<float>(at) : static_cast<float>(load<Eigen::half>(at));
  }
  [[nodiscard]] int integer(Index row, Index col) const {
    const int byte = load<std::uint8_t>(byte_at(row, col));
    if (storage() == Storage::int8) return byte < 128 ? byte : byte - 256;
    return (col % 2 == 0 ? byte & 15 : byte >> 4) - 8;
  }
  void set_scale(Index row, Index col, float value) {
    if (storage() == Storage::int8) store(scale_at(row, col), value);
    else store(scale_at(row, col), static_cast<Eigen::half>(value));
  }
  void set_integer(Index row, Index col, int value) {
    std::uint8_t& byte = bytes_.data()[byte_at(row, col)];
    if (storage() == Storage::int8) byte = static_cast<std::uint8_t>(value & 255);
    else byte = static_cast<std::uint8_t>(byte | (value + 8) << (col % 2 == 0 ? 0 : 4));
  }
  [[nodiscard]] auto half_as() const {
    return [this](Index row, Index col) { return load<std::uint16_t>(half_at(row, col)); };
  }

  AlignedArray<std::uint8_t> bytes_ = {};
  Numbers numbers_ = {};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
