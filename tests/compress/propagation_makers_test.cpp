// SPDX-License-Identifier: MIT
// Calibrations of pairs of inputs, in every maker of a structure.
#include "compress/layer_before.hpp"
#include "compress/support.hpp"
#include "pleat/compress/armor.hpp"
#include "pleat/compress/blast.hpp"
#include "pleat/compress/block_dictionary.hpp"
#include "pleat/compress/block_sparse.hpp"
#include "pleat/compress/cur.hpp"
#include "pleat/compress/kronecker.hpp"
#include "pleat/compress/monarch.hpp"
#include "pleat/compress/sparse_dictionary.hpp"
#include "pleat/compress/sparse_low_rank.hpp"
#include "support/catch.hpp"

#include <algorithm>

namespace pleat::test {
namespace {

/// `check(name, make)` for each maker of a structure of W that `propagation_test.cpp` has not.
template <class Check>
void each_other_maker(const Matrix<float>& W, const Check& check) {
  check("Armor", [&](const auto& c) { return compress<Armor>(W, keep(0.8), c); });
  check("Blast", [&](const auto& c) { return compress<Blast>(W, keep(0.6), c); });
  check("BlockDictionary",
        [&](const auto& c) { return compress<BlockDictionary>(W, keep(0.7), c); });
  check("BlockSparse", [&](const auto& c) {
    return compress<BlockSparse>(W, keep(0.6), c, {.block_rows = 4, .block_cols = 2});
  });
  check("Cur", [&](const auto& c) { return compress<Cur>(W, keep(0.7), c); });
  check("Kronecker", [&](const auto& c) {
    return compress<Kronecker>(W, keep(0.6), c, {.left_rows = 4, .left_cols = 6});
  });
  check("Monarch", [&](const auto& c) {
    return compress<Monarch>(W, keep(0.6), c, {.input_blocks = 4, .output_classes = 2});
  });
  check("SparseDictionary",
        [&](const auto& c) { return compress<SparseDictionary>(W, keep(0.8), c); });
  check("SparseLowRank", [&](const auto& c) { return compress<SparseLowRank>(W, keep(0.7), c); });
}

}  // namespace

TEST_CASE("what every maker fits to pairs is closer than what it fits to either input",
          "[propagation_makers]") {
  Random random(2131);
  const Index n = 48;
  const LayerBefore<float> before(random, n);
  const Matrix<float> W = random.matrix<float>(32, n);
  const auto [X, compressed] = before.inputs(random, 1000);
  const auto [more, more_compressed] = before.inputs(random, 3000);
  const auto pairs = calibration_of_pairs<float>(X, compressed);
  const auto fresh = calibration_of_pairs<float>(more, more_compressed);
  const auto original = calibration_of(X);
  const auto now = calibration_of(compressed);
  each_other_maker(W, [&](const char* what, const auto& make) {
    const auto fitted = make(pairs);
    const auto to_original = make(original);
    const auto to_compressed = make(now);
    for (const auto* judge : {&pairs, &fresh}) {
      CAPTURE(what, judge == &fresh);
      const double error = relative_error(W, fitted, *judge);
      CHECK(error < relative_error(W, to_original, *judge));
      CHECK(error < relative_error(W, to_compressed, *judge));
    }
  });
}

TEST_CASE("pairs that do not differ are samples, bit for bit, to every maker",
          "[propagation_makers]") {
  Random random(2132);
  const Index n = 24;
  const Matrix<float> W = random.matrix<float>(16, n);
  for (const Index samples : {13, 200}) {
    const Matrix<float> X = correlated_inputs<float>(random, n, samples);
    const auto plain = calibration_of(X);
    const auto pairs = calibration_of_pairs<float>(X, X);
    each_other_maker(W, [&](const char* what, const auto& make) {
      CAPTURE(what, samples);
      CHECK(make(plain).to_dense() == make(pairs).to_dense());
    });
  }
}

}  // namespace pleat::test
