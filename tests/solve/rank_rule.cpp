// SPDX-License-Identifier: MIT
// Ranks from spectra that can be checked by hand.
#include "pleat/solve/low_rank/rank_rule.hpp"

#include "support/catch.hpp"

namespace pleat::test {

using detail::elbow_rank;
using detail::energy_rank;
using detail::error_rank;

Vector<double> spectrum(std::initializer_list<double> squared) {
  Vector<double> values(static_cast<Index>(squared.size()));
  Index i = 0;
  for (const double value : squared) values(i++) = value;
  return values;
}

TEST_CASE("energy keeps the smallest rank with the share", "[rank]") {
  const auto s = spectrum({8, 4, 2, 1, 1});  // sum 16
  CHECK(energy_rank(s, 0.5) == 1);
  CHECK(energy_rank(s, 0.51) == 2);
  CHECK(energy_rank(s, 0.75) == 2);
  CHECK(energy_rank(s, 0.875) == 3);
  CHECK(energy_rank(s, 0.9375) == 4);
  CHECK(energy_rank(s, 1) == 5);
  CHECK(energy_rank(spectrum({5, 0, 0}), 1) == 1);
  CHECK(energy_rank(spectrum({0, 0}), 0.9) == 1);
}

TEST_CASE("error keeps the smallest rank within it", "[rank]") {
  const auto s = spectrum({12, 3, 0.75, 0.25});  // sum 16
  CHECK(error_rank(s, 1) == 1);
  CHECK(error_rank(s, 0.5) == 1);  // tail 4 of 16
  CHECK(error_rank(s, 0.49) == 2);
  CHECK(error_rank(s, 0.25) == 2);  // tail 1 of 16
  CHECK(error_rank(s, 0.125) == 3);
  CHECK(error_rank(s, 0.1) == 4);
  CHECK(error_rank(s, 0) == 4);
}

TEST_CASE("the elbow is where a spectrum turns flat", "[rank]") {
  // Six strong values, then a flat floor.
  CHECK(elbow_rank(
            spectrum({1e6, 8e5, 6e5, 5e5, 4e5, 3e5, 1, .9, .8, .7, .6, .5, .4, .3, .2, .1})) == 6);
  CHECK(elbow_rank(spectrum({1, 1, 1, 1})) == 4);  // flat: no elbow, everything
  CHECK(elbow_rank(spectrum({3})) == 1);
  CHECK(elbow_rank(spectrum({3, 2})) == 2);
  CHECK(elbow_rank(spectrum({7, 0, 0, 0})) == 1);
  CHECK(elbow_rank(spectrum({0, 0})) == 1);
}

}  // namespace pleat::test
