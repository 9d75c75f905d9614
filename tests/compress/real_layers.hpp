// SPDX-License-Identifier: MIT
// The linear layers of a real sentence encoder, for tests on a machine that has them.
#pragma once

#include "pleat/io/safetensors.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "support/catch.hpp"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

namespace pleat::test {

/// Read from use.safetensors and use_grams.safetensors.
class RealLayers {
 public:
  /// Where PLEAT_DATA names their folder; else nothing, and a warning that the test is skipped.
  [[nodiscard]] static std::optional<RealLayers> open() {
    const char* const data = std::getenv("PLEAT_DATA");
    if (data == nullptr) {
      WARN(
          "skipped: PLEAT_DATA does not name a folder with use.safetensors and "
          "use_grams.safetensors");
      return std::nullopt;
    }
    const std::filesystem::path folder = data;
    return RealLayers(Safetensors::open(folder / "use.safetensors"),
                      Safetensors::open(folder / "use_grams.safetensors"));
  }

  /// Outputs x inputs; stored the other way round.
  [[nodiscard]] Matrix<float> weights(const std::string& layer) const {
    return weights_.matrix<float>(layer + ".weight").transpose();
  }
  /// What enters the layer, in the half of the data to fit to, and in the other half: as it is,
  /// like the numbers from other programs.
  [[nodiscard]] Calibration<float> fitted(const std::string& layer) const {
    return calibration(layer + ".gram_calib");
  }
  [[nodiscard]] Calibration<float> held_out(const std::string& layer) const {
    return calibration(layer + ".gram_heldout");
  }

 private:
  RealLayers(Safetensors weights, Safetensors grams)
      : weights_(std::move(weights)), grams_(std::move(grams)) {}

  [[nodiscard]] Calibration<float> calibration(const std::string& name) const {
    return Calibration<float>::from_gram(grams_.matrix<double>(name), 32000).shrinkage(0);
  }

  Safetensors weights_;
  Safetensors grams_;
};

}  // namespace pleat::test
