// SPDX-License-Identifier: MIT
// How bytes are shared out over layers: against every way there is, and within them.
#include "pleat/compress/allocation.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;
using Layers = std::vector<std::vector<LayerOption>>;

constexpr double unbounded = std::numeric_limits<double>::infinity();

struct Total {
  std::size_t bytes = 0;
  double sum = 0;
  double largest = 0;
};

Total total(const Layers& layers, const std::vector<std::size_t>& choice) {
  Total total;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerOption& option = layers[l].at(choice[l]);
    total.bytes += option.bytes;
    total.sum += option.error;
    total.largest = std::max(total.largest, option.error);
  }
  return total;
}

/// Calls `body(total)` for every choice.
template <class Body>
void each_choice(const Layers& layers, Body body) {
  std::vector<std::size_t> choice(layers.size(), 0);
  for (;;) {
    body(total(layers, choice));
    std::size_t l = 0;
    while (l < layers.size() && ++choice[l] == layers[l].size()) choice[l++] = 0;
    if (l == layers.size()) return;
  }
}

/// The least sum within so many bytes, of those with no error above `cap`.
double least_sum(const Layers& layers, std::size_t bytes, double cap = unbounded) {
  double least = unbounded;
  each_choice(layers, [&](const Total& t) {
    if (t.bytes <= bytes && t.largest <= cap) least = std::min(least, t.sum);
  });
  return least;
}

Layers layers_of(Random& random, std::size_t count, std::size_t options, int most_bytes) {
  Layers layers(count);
  for (auto& layer : layers)
    for (std::size_t i = 0; i < options; ++i)
      layer.push_back(
          {static_cast<std::size_t>(random.integer(1, most_bytes)), random.uniform(0.0, 1.0)});
  return layers;
}

}  // namespace

TEST_CASE("bytes are shared out with the least sum of errors", "[allocation]") {
  Random random(951);
  for (int trial = 0; trial < 20; ++trial) {
    CAPTURE(trial);
    const Layers layers = layers_of(random, 6, 4, 1000);
    const std::size_t least = detail::least_bytes(layers, unbounded);
    double before = unbounded;
    for (const std::size_t more : {0U, 1U, 300U, 900U, 3000U, 60000U}) {
      const Total found = total(layers, allocate_bytes(layers, least + more));
      CHECK(found.bytes <= least + more);
      CHECK(found.sum == Approx(least_sum(layers, least + more)));
      CHECK(found.sum <= before);
      before = found.sum;
    }
    CHECK_THROWS_WITH(allocate_bytes(layers, least - 1), Contains("smallest options take"));
  }
}

TEST_CASE("no layer loses much more than it must", "[allocation]") {
  Random random(952);
  for (int trial = 0; trial < 20; ++trial) {
    const Layers layers = layers_of(random, 6, 4, 1000);
    const std::size_t bytes = detail::least_bytes(layers, unbounded) + 700;
    double least_largest = unbounded;
    each_choice(layers, [&](const Total& t) {
      if (t.bytes <= bytes) least_largest = std::min(least_largest, t.largest);
    });
    for (const double alpha : {1.0, 1.2, 2.0}) {
      CAPTURE(trial, alpha);
      const Total found = total(layers, allocate_bytes(layers, bytes, alpha));
      CHECK(found.bytes <= bytes);
      CHECK(found.largest <= alpha * least_largest);
      CHECK(found.sum == Approx(least_sum(layers, bytes, alpha * least_largest)));
    }
  }
}

TEST_CASE("large sizes are rounded up, and what that leaves is spent", "[allocation]") {
  Random random(953);
  for (int trial = 0; trial < 10; ++trial) {
    CAPTURE(trial);
    const Layers layers = layers_of(random, 5, 4, 1'000'000'000);
    const std::size_t bytes = detail::least_bytes(layers, unbounded) + 500'000'000;
    const Total found = total(layers, allocate_bytes(layers, bytes));
    CHECK(found.bytes <= bytes);
    // On the grid each layer takes at most a step more.
    CHECK(found.sum <= least_sum(layers, bytes - 5 * (bytes / 50000 + 1)) + 1e-12);
  }
  // Exactly what there is, in numbers that no double holds.
  const std::size_t huge = (std::size_t{1} << 60) + 3;
  CHECK(allocate_bytes({{{huge, 1}}, {{1, 1}}}, huge + 1) == std::vector<std::size_t>{0, 0});
  CHECK(allocate_bytes({{{huge, 1}, {huge + 1, 0.5}}, {{1, 1}}}, huge + 2) ==
        std::vector<std::size_t>{1, 0});
}

TEST_CASE("sizes whose sum no number holds do not fit", "[allocation]") {
  const std::size_t half = (std::numeric_limits<std::size_t>::max)() / 2 + 1;
  CHECK_THROWS_WITH(allocate_bytes({{{half, 1}}, {{half, 1}}}, 9),
                    Contains("smallest options take"));
}

TEST_CASE("layers without bytes, and none", "[allocation]") {
  CHECK(allocate_bytes({}, 0).empty());
  CHECK(allocate_bytes({{{0, 1}, {0, 0.5}}}, 0) == std::vector<std::size_t>{1});
  CHECK(allocate_bytes({{{7, 0}, {3, 0}}}, 9) == std::vector<std::size_t>{1});
  CHECK_THROWS_WITH(allocate_bytes({{{1, 0}}, {}}, 9), Contains("layer 1 has 0 options"));
  CHECK_THROWS_WITH(allocate_bytes({{{1, -1}}}, 9), Contains("negative"));
  CHECK_THROWS_WITH(allocate_bytes({{{1, unbounded}}}, 9), Contains("not finite"));
  CHECK_THROWS_WITH(allocate_bytes({{{1, 0}}}, 9, 0.5), Contains("alpha"));
}

}  // namespace pleat::test
