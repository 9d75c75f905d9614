// SPDX-License-Identifier: MIT
// The kernel of Hadamard matrices against its definition: whole numbers, so that equal means equal.
#include "pleat/kernel/active.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/random.hpp"

#include <bit>
#include <cstddef>
#include <limits>
#include <vector>

namespace pleat::test {
namespace {

template <Real T>
void check_hadamard(std::size_t block, std::size_t size, std::size_t batch, std::size_t gap,
                    bool has_before, bool has_after, Guard guard, Random& random) {
  CAPTURE(block, size, batch, gap, has_before, has_after);
  const auto& table = kernel::active<T>();
  const auto signs = [&] {
    std::vector<T> values(size);
    for (T& value : values) value = random.integer(0, 1) == 0 ? T(1) : T(-1);
    return values;
  };
  const std::size_t ld = size + gap;
  const std::size_t length = size == 0 || batch == 0 ? 0 : (batch - 1) * ld + size;
  const auto vector = [&] {
    std::vector<T> values(length);
    for (T& value : values) value = static_cast<T>(random.integer(-3, 3));
    return values;
  };
  const Guarded<T> before(signs(), guard);
  const Guarded<T> after(signs(), guard);
  const Guarded<T> x(vector(), guard);
  const std::vector<T> old = vector();
  const Guarded<T> scratch(block, guard);
  const T scale(0.5);
  for (const bool add : {false, true}) {
    std::vector<T> expected = old;
    std::vector<T> start = old;
    for (std::size_t j = 0; j < batch; ++j)
      for (std::size_t i = 0; i < size; ++i) {
        T sum = 0;
        for (std::size_t k = i / block * block; k < (i / block + 1) * block; ++k) {
          const T sign = std::popcount(i & k & (block - 1)) % 2 == 0 ? T(1) : T(-1);
          sum += sign * (has_before ? before.data()[k] : T(1)) * x.data()[j * ld + k];
        }
        expected[j * ld + i] =
            (add ? old[j * ld + i] : T(0)) + scale * (has_after ? after.data()[i] : T(1)) * sum;
        if (!add) start[j * ld + i] = std::numeric_limits<T>::quiet_NaN();
      }
    const Guarded<T> y(start, guard);
    table.hadamard_apply(block, size, scale, has_before ? before.data() : nullptr,
                         has_after ? after.data() : nullptr, batch, x.data(), ld, y.data(), ld, add,
                         add ? scratch.data() : nullptr);
    CHECK(std::vector<T>(y.data(), y.data() + y.size()) == expected);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("Hadamard kernels: all blocks, and nothing outside", "[kernel][guard]", float,
                   double) {
  Random random(11);
  for (std::size_t block = 1; block <= 2048; block *= 2)
    for (const std::size_t blocks : {1U, 2U, 3U, 5U, 7U, 21U}) {
      if (block * blocks > 6000) continue;
      for (const std::size_t batch : {0U, 1U, 3U})
        for (const std::size_t gap : {0U, 1U, 16U}) {
          const bool has_before = (blocks + batch + gap) % 3 != 0;
          const bool has_after = (blocks + batch + gap) % 2 != 0;
          check_hadamard<TestType>(block, block * blocks, batch, gap, has_before, has_after,
                                   batch % 2 == 0 ? Guard::before : Guard::after, random);
        }
    }
  check_hadamard<TestType>(8, 0, 3, 5, true, true, Guard::after, random);
  check_hadamard<TestType>(16384, 16384, 1, 0, true, false, Guard::after, random);
}

}  // namespace pleat::test
