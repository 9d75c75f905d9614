// SPDX-License-Identifier: MIT
// Which kernel serves a batch, on machines that this one need not be.
#include "pleat/kernel/regime.hpp"

#include "support/catch.hpp"

#include <cstddef>

namespace pleat::test {
namespace {

using kernel::Regime;
using kernel::VectorUnit;

constexpr VectorUnit sse2 = VectorUnit::of(16);
constexpr VectorUnit avx2 = VectorUnit::of(32);
constexpr VectorUnit avx512 = VectorUnit::of(64);

/// The first batch that is blocked; what is smaller must not be, and what is larger must.
template <class Regimes>
std::size_t first_blocked(Regimes regime) {
  std::size_t first = 0;
  while (regime(first) == Regime::in_place) ++first;
  for (std::size_t batch = first; batch < 1000; ++batch) CHECK(regime(batch) == Regime::blocked);
  return first;
}

}  // namespace

TEST_CASE("dense tiles fill the registers of each instruction set", "[kernel][regime]") {
  CHECK(kernel::dense_tile_samples(sse2, 4) == 3);
  CHECK(kernel::dense_tile_samples(sse2, 8) == 1);
  CHECK(kernel::dense_tile_samples(avx2, 4) == 6);
  CHECK(kernel::dense_tile_samples(avx2, 8) == 3);
  CHECK(kernel::dense_tile_samples(avx512, 4) == 12);
  CHECK(kernel::dense_tile_samples(avx512, 8) == 12);
}

TEST_CASE("small batches are read in place, large ones in blocks", "[kernel][regime]") {
  const auto dense = [](VectorUnit unit, std::size_t bytes, std::size_t cols) {
    return first_blocked(
        [=](std::size_t batch) { return kernel::dense_regime(unit, bytes, cols, batch); });
  };
  // Few columns: two tiles.
  CHECK(dense(sse2, 4, 512) == 7);
  CHECK(dense(sse2, 8, 512) == 3);
  CHECK(dense(avx2, 4, 512) == 13);
  CHECK(dense(avx2, 8, 512) == 7);
  CHECK(dense(avx512, 4, 512) == 25);
  CHECK(dense(avx512, 8, 64) == 25);
  CHECK(dense(avx512, 4, 0) == 25);
  // Many columns: half a tile.
  CHECK(dense(sse2, 4, 4096) == 3);
  CHECK(dense(sse2, 8, 9999) == 2);
  CHECK(dense(avx2, 4, 4096) == 4);
  CHECK(dense(avx512, 4, 4096) == 7);
  CHECK(dense(avx512, 8, 512) == 7);
  const auto semi_structured = [](VectorUnit unit, std::size_t bytes, bool narrow) {
    return first_blocked([=](std::size_t batch) {
      return kernel::semi_structured_regime(unit, bytes, narrow, batch);
    });
  };
  CHECK(semi_structured(sse2, 4, false) == 24);
  CHECK(semi_structured(avx2, 4, false) == 24);
  CHECK(semi_structured(avx512, 4, false) == 48);
  CHECK(semi_structured(avx512, 4, true) == 32);
  CHECK(semi_structured(avx512, 8, false) == 24);
  CHECK(first_blocked([](std::size_t batch) { return kernel::narrow_regime(4, batch); }) == 9);
  CHECK(kernel::narrow_regime(8, 1) == Regime::blocked);
}

}  // namespace pleat::test
