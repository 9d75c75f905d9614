// SPDX-License-Identifier: MIT
// Memory of the bricks: aligned for the kernels, shared by copies, written once.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// An array of trivial values, zero at first and aligned to 64 bytes. Copies share the memory: a
/// brick fills its array while it is built and never writes it again.
///
/// From 4 MiB on it asks for huge pages, where Linux gives them to who asks: a kernel that reads
/// from several places of a large weight at once otherwise waits for the TLB.
template <class T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr std::size_t huge_page = std::size_t{2} << 20U;

 public:
  AlignedArray() = default;
  explicit AlignedArray(std::size_t size) {
    if (size == 0) return;
    const std::size_t bytes = size * sizeof(T);
    const std::align_val_t alignment{bytes < 2 * huge_page ? 64 : huge_page};
    auto* values = static_cast<T*>(::operator new(bytes, alignment));
    values_ = std::shared_ptr<T[]>(values, [alignment](T* p) { ::operator delete(p, alignment); });
#if defined(__linux__)
    // Advice: to be refused it does no harm. Whole pages, which nothing else lies in.
    if (bytes >= 2 * huge_page) (void)madvise(values, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
    std::uninitialized_fill_n(values, size, T{});
  }

  [[nodiscard]] T* data() noexcept { return values_.get(); }
  [[nodiscard]] const T* data() const noexcept { return values_.get(); }

 private:
  std::shared_ptr<T[]> values_ = {};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
