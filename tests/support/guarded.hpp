// SPDX-License-Identifier: MIT
// Memory that ends, or begins, where the process may not read: one element too far is a crash.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace pleat::test {

enum class Guard : bool { before, after };

/// An array with an unreadable page right before its first or right after its last value.
template <Real T>
class Guarded {
 public:
  Guarded(std::size_t size, Guard guard) : size_(size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = size * sizeof(T);
    const std::size_t body = (bytes + page - 1) / page * page;
    length_ = body + 2 * page;
    base_ = mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::runtime_error("no memory for guard pages");
    std::byte* const first = static_cast<std::byte*>(base_) + page;
    if (body > 0 && mprotect(first, body, PROT_READ | PROT_WRITE) != 0) {
      munmap(base_, length_);
      throw std::runtime_error("cannot open the memory between the guard pages");
    }
    data_ = reinterpret_cast<T*>(guard == Guard::before ? first : first + (body - bytes));
  }
  Guarded(const std::vector<T>& values, Guard guard) : Guarded(values.size(), guard) {
    if (!values.empty()) std::memcpy(data_, values.data(), values.size() * sizeof(T));
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, length_); }

  [[nodiscard]] T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::size_t size_;
  std::size_t length_ = 0;
  void* base_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace pleat::test
