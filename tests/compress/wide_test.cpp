// SPDX-License-Identifier: MIT
// Makers on layers of many inputs while few samples are held: no memory of inputs x inputs.
#include "compress/support.hpp"
#include "pleat/compress/armor.hpp"
#include "pleat/compress/block_dictionary.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/prune.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "pleat/compress/sparse_dictionary.hpp"
#include "support/allocation_count.hpp"
#include "support/catch.hpp"

#include <cstddef>

namespace pleat::test {
namespace {

constexpr Index outputs = 4;
constexpr Index inputs = 4096;
constexpr Index samples = 16;

/// Inputs that follow three of their kind, and noise.
struct Layer {
  explicit Layer(std::uint64_t seed)
      : random(seed),
        W(random.matrix<float>(outputs, inputs)),
        mixing(random.matrix<float>(inputs, 3)) {
    calibration = calibration_of(seen(samples));
    fresh = calibration_of(seen(200));
  }
  Matrix<float> seen(Index count) {
    return mixing * random.matrix<float>(3, count) + 0.3F * random.matrix<float>(inputs, count);
  }

  Random random;
  Matrix<float> W;
  Matrix<float> mixing;
  Calibration<float> calibration;
  Calibration<float> fresh;
};

/// A sixth of inputs x inputs in double.
constexpr std::size_t most = std::size_t{inputs} * inputs * sizeof(double) / 6;

}  // namespace

TEST_CASE("makers of wide layers use few samples well, and little memory", "[wide]") {
  if (!why_not_counted().empty()) WARN(why_not_counted());
  Layer layer(71);
  const auto check = [&](const auto& make, double gain) {
    const Calibration<float> none;
    const double before = relative_error(layer.W, make(none), layer.fresh);
    forget_largest_allocation();
    const auto op = make(layer.calibration);
    (void)relative_error(layer.W, op, layer.calibration);
    CHECK(largest_allocation() < most);
    CHECK(relative_error(layer.W, op, layer.fresh) <= gain * before + 1e-12);
  };
  SECTION("2:4") {
    check(
        [&](const auto& c) {
          return compress<SemiStructured>(layer.W, keep(1), c, {.pattern = {2, 4}});
        },
        0.5);
  }
  SECTION("2:4 in int4") {
    check(
        [&](const auto& c) {
          return compress<SemiStructured>(layer.W, keep(1), c,
                                          {.pattern = {2, 4}, .storage = Storage::int4});
        },
        0.6);
  }
  SECTION("pruned") {
    check([&](const auto& c) { return prune(layer.W, {3, 6}, c); }, 0.5);
  }
  SECTION("pruned by rows") {
    check([&](const auto& c) { return prune(layer.W, {inputs / 2, inputs}, c); }, 1.05);
  }
  SECTION("rounded") {
    check(
        [&](const auto& c) {
          return compress<Dense>(layer.W, keep(1), c, {.storage = Storage::int4});
        },
        1);
  }
  SECTION("a dictionary") {
    check(
        [&](const auto& c) {
          return compress<BlockDictionary>(
              layer.W, keep(2), c, {.block = 16, .atoms = 3, .nonzeros = 1, .iterations = 1});
        },
        1);
  }
  SECTION("one dictionary for all") {
    for (const DictionarySolver solver : {DictionarySolver::compot, DictionarySolver::ksvd})
      check(
          [&](const auto& c) {
            return compress<SparseDictionary>(layer.W, keep(2), c,
                                              {.atoms = 3, .nonzeros = 1, .solver = solver});
          },
          1);
  }
  SECTION("ARMOR") {
    for (const ArmorObjective objective : {ArmorObjective::output, ArmorObjective::proxy}) {
      forget_largest_allocation();
      const auto op =
          compress<Armor>(layer.W, keep(2), layer.calibration,
                          {.block_rows = 2, .block_cols = 2, .objective = objective, .rounds = 1});
      const double reached = relative_error(layer.W, op, layer.calibration);
      CHECK(largest_allocation() < most);
      if (objective == ArmorObjective::output)
        CHECK(reached <=
              relative_error(layer.W,
                             compress<SemiStructured>(layer.W, keep(1), layer.calibration,
                                                      {.pattern = {2, 4}}),
                             layer.calibration));
    }
  }
}

TEST_CASE("pairs of inputs of wide layers take little memory, too", "[wide]") {
  if (!why_not_counted().empty()) WARN(why_not_counted());
  Layer layer(72);
  const Matrix<float> X = layer.seen(samples);
  const Matrix<float> noise = layer.seen(samples);
  const Matrix<float> compressed = 0.7F * X + 0.05F * noise;
  const Matrix<float> more = layer.seen(200);
  const Matrix<float> more_noise = layer.seen(200);
  const Matrix<float> more_compressed = 0.7F * more + 0.05F * more_noise;
  Calibration<float> pairs(inputs);
  pairs.add(X, compressed);
  Calibration<float> fresh(inputs);
  fresh.add(more, more_compressed);
  const auto check = [&](const auto& make) {
    forget_largest_allocation();
    const auto op = make(pairs);
    const double error = relative_error(layer.W, op, fresh);
    CHECK(relative_error(layer.W, op, pairs) < 1);
    CHECK(largest_allocation() < most);
    CHECK(error < 0.9 * relative_error(layer.W, make(calibration_of(compressed)), fresh));
  };
  check([&](const auto& c) { return compress<Dense>(layer.W, keep(1), c); });
  check([&](const auto& c) {
    return compress<SemiStructured>(layer.W, keep(1), c, {.pattern = {2, 4}});
  });
  check([&](const auto& c) { return prune(layer.W, {2, 4}, c); });
  check([&](const auto& c) {
    return compress<SemiStructured>(layer.W, error(0.8), c, {.pattern = {2, 4}});
  });
}

}  // namespace pleat::test
