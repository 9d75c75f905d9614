// SPDX-License-Identifier: MIT
// Compression in a program built with -ffast-math: what is not finite is still found, never
// decomposed.
#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

#include <bit>
#include <cstdint>

#ifndef __FAST_MATH__
#error "this test is about -ffast-math"
#endif

namespace pleat::test {

TEST_CASE("weights and samples that are not finite are refused under -ffast-math", "[fast_math]") {
  Random random(41);
  for (const std::uint32_t bits : {0x7fc0'0000U, 0x7f80'0000U, 0xff80'0000U, 0x7f80'0001U}) {
    Matrix<float> W = random.matrix<float>(40, 30);
    W(17, 11) = std::bit_cast<float>(bits);
    CHECK_THROWS_WITH(compress<LowRank>(W, keep(0.5)), Catch::Contains("row 17, column 11"));
    Calibration<float> calibration(40);
    CHECK_THROWS_WITH(calibration.add(W), Catch::Contains("row 17, column 11"));
  }
}

TEST_CASE("compression is as close under -ffast-math", "[fast_math]") {
  Random random(42);
  const Matrix<double> W = random.matrix<double>(40, 3) * random.matrix<double>(3, 30);
  CHECK(relative_error(W, compress<LowRank>(W, keep(10), LowRank<double>::Options{.rank = 3})) <
        1e-10);
}

}  // namespace pleat::test
