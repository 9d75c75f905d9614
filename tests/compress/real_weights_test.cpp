// SPDX-License-Identifier: MIT
// Calibrated low rank on the ten linear layers of a real sentence encoder.
#include "compress/real_layers.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

namespace pleat::test {

TEST_CASE("half of the parameters of a sentence encoder, calibrated", "[real]") {
  const auto layers = RealLayers::open();
  if (!layers) return;
  struct Layer {
    const char* name;
    double error;  // of numpy's weighted SVD on the calibration half, to three digits
  };
  for (const auto& [name, expected] :
       {Layer{"layer0.qkv", .238}, Layer{"layer0.attn_out", .461},
        Layer{"layer0.residual_dense", .168}, Layer{"layer0.ffn1", .090},
        Layer{"layer0.ffn2", .424}, Layer{"layer1.qkv", .378}, Layer{"layer1.attn_out", .314},
        Layer{"layer1.ffn1", .183}, Layer{"layer1.ffn2", .218}, Layer{"tanh", .181}}) {
    INFO(name);
    const Matrix<float> W = layers->weights(name);
    const auto calibration = layers->fitted(name);
    const auto op = compress<LowRank>(W, keep(0.5), calibration);
    const auto plain = compress<LowRank>(W, keep(0.5));
    const double error = relative_error(W, op, calibration);
    CHECK(error == Approx(expected).margin(0.0006));
    CHECK(error < relative_error(W, plain, calibration));
    const auto held_out = layers->held_out(name);
    CHECK(relative_error(W, op, held_out) < relative_error(W, plain, held_out));
  }
}

}  // namespace pleat::test
