// SPDX-License-Identifier: MIT
// Counts what a test allocates, by whatever function. Link allocation_count.cpp into the test.
#pragma once

#include <cstddef>
#include <string>

namespace pleat::test {

/// Calls of malloc, calloc, realloc, aligned_alloc, posix_memalign, memalign, and so of every
/// operator new, by any thread since the program began.
[[nodiscard]] std::size_t allocation_count() noexcept;

/// Bytes of the largest of these since the last call of `forget_largest_allocation`.
[[nodiscard]] std::size_t largest_allocation() noexcept;
void forget_largest_allocation() noexcept;

/// Empty where allocations are counted, else why they cannot be.
[[nodiscard]] std::string why_not_counted();

}  // namespace pleat::test
