// SPDX-License-Identifier: MIT
// Memory of the bricks: aligned for the kernels, shared by copies, written once.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// An array of trivial values, zero at first and aligned to 64 bytes. Copies share the memory: a
/// brick fills its array while it is built and never writes it again.
template <class T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr std::align_val_t alignment{64};

 public:
  AlignedArray() = default;
  explicit AlignedArray(std::size_t size) {
    if (size == 0) return;
    auto* values = static_cast<T*>(::operator new(size * sizeof(T), alignment));
    values_ = std::shared_ptr<T[]>(values, [](T* p) { ::operator delete(p, alignment); });
    std::uninitialized_fill_n(values, size, T{});
  }

  [[nodiscard]] T* data() noexcept { return values_.get(); }
  [[nodiscard]] const T* data() const noexcept { return values_.get(); }

 private:
  std::shared_ptr<T[]> values_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
