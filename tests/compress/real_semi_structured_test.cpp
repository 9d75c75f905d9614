// SPDX-License-Identifier: MIT
// 2:4 and calibrated rounding on linear layers of a real sentence encoder.
#include "compress/real_layers.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "support/catch.hpp"

#include <utility>

namespace pleat::test {

TEST_CASE("2:4 and int4 of a sentence encoder, calibrated", "[real]") {
  const auto layers = RealLayers::open();
  if (!layers) return;
  struct Layer {
    const char* name;
    double sparse_gpt;  // error of numpy's SparseGPT and refit, on the calibration half
    double held_out;    // of the same, on the other half
  };
  // The smallest: the others take minutes without optimisation.
  for (const auto& [name, sparse_gpt, held_out] :
       {Layer{"layer0.attn_out", .271, .274}, Layer{"layer0.residual_dense", .126, .128}}) {
    INFO(name);
    const Matrix<float> W = layers->weights(name);
    const auto calibration = layers->fitted(name);
    const auto unseen = layers->held_out(name);
    const auto swept = compress<SemiStructured>(
        W, keep(1), calibration, {.criterion = PruneCriterion::sparsegpt, .pattern = {2, 4}});
    CHECK(relative_error(W, swept, calibration) <= sparse_gpt + 0.0006);
    CHECK(relative_error(W, swept, unseen) == Approx(held_out).margin(0.0006));

    const auto searched = compress<SemiStructured>(W, keep(1), calibration, {.pattern = {2, 4}});
    CHECK(relative_error(W, searched, calibration) < 0.96 * sparse_gpt);
    CHECK(relative_error(W, searched, unseen) < 0.98 * held_out);
    const auto rounded = compress<SemiStructured>(W, keep(1), calibration,
                                                  {.pattern = {2, 4}, .storage = Storage::int8});
    CHECK(relative_error(W, rounded, calibration) <=
          relative_error(W, searched, calibration) + 0.0005);

    for (const auto& [storage, gain] :
         {std::pair{Storage::int8, 0.8}, std::pair{Storage::int4, 0.81}}) {
      const auto op = compress<Dense>(W, keep(1), calibration, {.storage = storage});
      const Dense<float> nearest(W, storage);
      CHECK(relative_error(W, op, calibration) < gain * relative_error(W, nearest, calibration));
      CHECK(relative_error(W, op, unseen) < gain * relative_error(W, nearest, unseen));
    }
  }
}

}  // namespace pleat::test
