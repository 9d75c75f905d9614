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
  const auto dense = [](VectorUnit unit, std::size_t bytes, std::size_t cols,
                        std::size_t rows = 9999) {
    return first_blocked(
        [=](std::size_t batch) { return kernel::dense_regime(unit, bytes, rows, cols, batch); });
  };
  // Few columns: two tiles.
  CHECK(dense(sse2, 4, 512) == 7);
  CHECK(dense(sse2, 8, 512) == 3);
  CHECK(dense(avx2, 4, 512) == 13);
  CHECK(dense(avx2, 8, 512) == 7);
  CHECK(dense(avx512, 4, 512) == 25);
  CHECK(dense(avx512, 8, 64) == 25);
  // Many columns: half a tile.
  CHECK(dense(sse2, 4, 4096) == 3);
  CHECK(dense(sse2, 8, 9999) == 2);
  CHECK(dense(avx2, 4, 4096) == 4);
  CHECK(dense(avx512, 4, 4096) == 7);
  CHECK(dense(avx512, 8, 512) == 7);
  // Any batch of a small matrix, and so of a part of it.
  CHECK(kernel::dense_regime(avx512, 4, 128, 128, 999) == Regime::in_place);
  CHECK(dense(avx512, 4, 128, 129) == 25);
  CHECK(kernel::dense_regime(avx512, 8, 64, 128, 999) == Regime::in_place);
  CHECK(kernel::dense_regime(sse2, 4, 9999, 0, 999) == Regime::in_place);
  CHECK(dense(avx2, 4, 9999, 1) == 4);
  for (const std::size_t cols : {1U, 100U, 1000U})
    for (const std::size_t batch : {1U, 7U, 20U, 100U})
      for (std::size_t rows = 1; rows < 300; ++rows)
        if (kernel::dense_regime(avx2, 4, rows, cols, batch) == Regime::in_place)
          CHECK(kernel::dense_regime(avx2, 4, rows - 1, cols, batch) == Regime::in_place);
  using Pattern = kernel::SemiStructuredPattern;
  const auto semi_structured = [](VectorUnit unit, std::size_t bytes, bool narrow,
                                  Pattern pattern = {2, 4}, bool permutes = true) {
    return first_blocked([=](std::size_t batch) {
      return kernel::semi_structured_regime(unit, bytes, pattern, permutes, narrow, batch);
    });
  };
  CHECK(semi_structured(sse2, 4, false) == 24);
  CHECK(semi_structured(avx2, 4, false) == 24);
  CHECK(semi_structured(avx512, 4, false) == 32);
  CHECK(semi_structured(avx512, 4, true) == 32);
  CHECK(semi_structured(avx512, 8, false) == 24);
  CHECK(semi_structured(avx512, 4, false, {8, 16}) == 32);
  CHECK(semi_structured(avx512, 4, false, {16, 32}) == 32);
  // Other patterns than halves: always in place where registers and a permutation of one of them
  // allow it, or a tile would have few products.
  const auto never = [](VectorUnit unit, std::size_t bytes, Pattern pattern) {
    return kernel::semi_structured_regime(unit, bytes, pattern, true, false, 999) ==
           Regime::in_place;
  };
  CHECK(never(avx512, 4, {3, 16}));
  CHECK(never(avx512, 4, {5, 8}));
  CHECK(never(avx512, 4, {3, 32}));
  CHECK(never(avx512, 8, {3, 8}));
  CHECK_FALSE(never(avx2, 4, {3, 16}));
  CHECK(semi_structured(avx512, 4, false, {4, 32}) == 32);
  CHECK(semi_structured(avx512, 4, false, {1, 4}) == 32);
  CHECK(semi_structured(avx512, 8, false, {3, 16}) == 24);
  CHECK(semi_structured(avx512, 4, false, {3, 16}, false) == 32);
  CHECK(semi_structured(avx512, 4, true, {3, 16}) == 32);
  CHECK(semi_structured(avx2, 4, false, {3, 16}) == 24);
  const auto samples = kernel::semi_structured_tile_samples;
  CHECK(samples(avx512, 4, true, false, 56) == 48);
  CHECK(samples(avx512, 4, true, false, 57) == 57);
  CHECK(samples(avx512, 4, true, false, 64) == 64);
  CHECK(samples(avx512, 8, true, false, 28) == 24);
  CHECK(samples(avx512, 4, false, false, 56) == 56);
  CHECK(samples(avx512, 4, true, true, 56) == 56);
  CHECK(samples(avx2, 4, true, false, 57) == 57);
  CHECK(first_blocked([](std::size_t batch) { return kernel::narrow_regime(4, batch); }) == 9);
  CHECK(kernel::narrow_regime(8, 1) == Regime::blocked);
}

TEST_CASE("small 2:4 matrices are multiplied as dense ones", "[kernel][regime]") {
  const auto as_dense = kernel::semi_structured_as_dense;
  CHECK(as_dense(8, true, 64, 64));
  CHECK(!as_dense(8, true, 65, 64));
  CHECK(!as_dense(8, true, 64, 65));
  CHECK(as_dense(4, true, 64, 128));
  CHECK(!as_dense(4, true, 128, 128));
  CHECK(as_dense(4, false, 128, 256));
  CHECK(as_dense(8, false, 128, 128));
  CHECK(!as_dense(8, false, 129, 128));
}

TEST_CASE("small blocks of narrow weights are held widened", "[kernel][regime]") {
  CHECK(kernel::holds_widened(32, 32));
  CHECK(kernel::holds_widened(4, 256));
  CHECK(kernel::holds_widened(0, 0));
  CHECK(!kernel::holds_widened(33, 32));
}

}  // namespace pleat::test
