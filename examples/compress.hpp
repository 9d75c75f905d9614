// SPDX-License-Identifier: MIT
// The body of `makers::compress`, for the files that instantiate it.
#pragma once

#include "makers.hpp"

#include <pleat/compress/compress.hpp>

namespace makers {

template <template <pleat::Real> class Structure>
Operator compress(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                  const Calibration& calibration, pleat::Storage storage) {
  typename Structure<float>::Options options;
  if constexpr (requires { options.storage; }) options.storage = storage;
  return pleat::compress<Structure>(W, budget, calibration, options);
}

}  // namespace makers
