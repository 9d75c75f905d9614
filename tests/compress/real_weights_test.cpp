// SPDX-License-Identifier: MIT
// Calibrated low rank on the ten linear layers of a real sentence encoder.
#include "pleat/compress/low_rank.hpp"
#include "pleat/io/safetensors.hpp"
#include "support/catch.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>

namespace pleat::test {

TEST_CASE("half of the parameters of a sentence encoder, calibrated", "[real]") {
  const char* const data = std::getenv("PLEAT_DATA");
  if (data == nullptr) {
    WARN(
        "skipped: PLEAT_DATA does not name a folder with use.safetensors and "
        "use_grams.safetensors");
    return;
  }
  const auto weights = Safetensors::open(std::filesystem::path(data) / "use.safetensors");
  const auto grams = Safetensors::open(std::filesystem::path(data) / "use_grams.safetensors");
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
    const Matrix<float> W = weights.matrix<float>(std::string(name) + ".weight").transpose();
    const auto calibration = Calibration<float>::from_gram(
        grams.matrix<double>(std::string(name) + ".gram_calib"), 32000);
    const auto op = compress<LowRank>(W, keep(0.5), calibration);
    const auto plain = compress<LowRank>(W, keep(0.5));
    const double error = relative_error(W, op, calibration);
    CHECK(error == Approx(expected).margin(0.0006));
    CHECK(error < relative_error(W, plain, calibration));
    const auto held_out = Calibration<float>::from_gram(
        grams.matrix<double>(std::string(name) + ".gram_heldout"), 32000);
    CHECK(relative_error(W, op, held_out) < relative_error(W, plain, held_out));
  }
}

}  // namespace pleat::test
