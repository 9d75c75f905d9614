// SPDX-License-Identifier: MIT
// Feed-forward layers with fewer hidden units.
#include "makers.hpp"

#include <pleat/compress/pairs.hpp>

#include <map>
#include <string>
#include <utility>

namespace makers {

encoder::Encoder fewer_units(const encoder::Encoder& dense, double share,
                             const Calibrations& calibrations) {
  encoder::Weights weights = dense.weights();
  std::map<std::string, Eigen::VectorXf> biases;
  for (const std::string layer : {"layer0", "layer1"}) {
    const std::string first = layer + ".ffn1";
    const std::string second = layer + ".ffn2";
    auto pair = pleat::compress_pair(weights.at(first).to_dense(), dense.bias(first),
                                     weights.at(second).to_dense(), calibrations.at(second),
                                     pleat::keep(share));
    weights[first] = pleat::Dense<float>(pair.W1);
    weights[second] = pleat::Dense<float>(pair.W2);
    biases[first] = std::move(pair.b1);
  }
  return dense.with(std::move(weights), biases);
}

}  // namespace makers
