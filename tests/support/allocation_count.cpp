// SPDX-License-Identifier: MIT
// The allocation functions of the C library, each with a counter in front.
#include "support/allocation_count.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

// Sanitizers bring allocation functions of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PLEAT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define PLEAT_TEST_SANITIZED 1
#endif
#endif

namespace {
std::atomic<std::size_t> calls{0};
std::atomic<std::size_t> largest{0};

[[maybe_unused]] void count(std::size_t size) noexcept {
  calls.fetch_add(1, std::memory_order_relaxed);
  std::size_t before = largest.load(std::memory_order_relaxed);
  while (size > before && !largest.compare_exchange_weak(before, size, std::memory_order_relaxed)) {
  }
}
}  // namespace

#if defined(__GLIBC__) && !defined(PLEAT_TEST_SANITIZED)

// glibc exports its own functions under these names too, which spares a dlsym that may allocate.
extern "C" {
void* __libc_malloc(std::size_t);                 // NOLINT
void* __libc_calloc(std::size_t, std::size_t);    // NOLINT
void* __libc_realloc(void*, std::size_t);         // NOLINT
void* __libc_memalign(std::size_t, std::size_t);  // NOLINT

void* malloc(std::size_t size) noexcept {
  count(size);
  return __libc_malloc(size);
}
void* calloc(std::size_t number, std::size_t size) noexcept {
  count(number * size);
  return __libc_calloc(number, size);
}
void* realloc(void* old, std::size_t size) noexcept {
  count(size);
  return __libc_realloc(old, size);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  count(size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  count(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t size) noexcept {
  count(size);
  if (alignment < sizeof(void*) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void* const memory = __libc_memalign(alignment, size);
  if (memory == nullptr) return ENOMEM;
  *result = memory;
  return 0;
}
}

namespace pleat::test {
std::string why_not_counted() {
  const char* const preload = std::getenv("LD_PRELOAD");
  if (preload != nullptr && std::strstr(preload, "vgpreload") != nullptr)
    return "allocations are not counted: valgrind replaces the allocation functions";
  return {};
}
}  // namespace pleat::test

#else

namespace pleat::test {
std::string why_not_counted() {
#ifdef PLEAT_TEST_SANITIZED
  return "allocations are not counted: a sanitizer replaces the allocation functions";
#else
  return "allocations are not counted: this C library is not glibc";
#endif
}
}  // namespace pleat::test

#endif

namespace pleat::test {
std::size_t allocation_count() noexcept { return calls.load(std::memory_order_relaxed); }
std::size_t largest_allocation() noexcept { return largest.load(std::memory_order_relaxed); }
void forget_largest_allocation() noexcept { largest.store(0, std::memory_order_relaxed); }
}  // namespace pleat::test
