// SPDX-License-Identifier: MIT
// The bodies of `makers::compress` and `cross_validate`, for the files that instantiate them.
#pragma once

#include "makers.hpp"

#include <pleat/compress/compress.hpp>
#include <pleat/compress/cross_validate.hpp>

namespace makers {

// T, because clang 14 crashes on a constrained template of a type that is no parameter.
template <template <pleat::Real> class Structure, pleat::Real T = float>
auto options_for(pleat::Storage storage) {
  typename Structure<T>::Options options;
  if constexpr (requires { options.storage; }) options.storage = storage;
  return options;
}

template <template <pleat::Real> class Structure>
Operator compress(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                  const Calibration& calibration, pleat::Storage storage) {
  return pleat::compress<Structure>(W, budget, calibration, options_for<Structure>(storage));
}

template <template <pleat::Real> class Structure>
double cross_validate(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                      const Calibration& calibration, pleat::Storage storage) {
  return pleat::cross_validate<Structure>(W, budget, calibration, options_for<Structure>(storage));
}

}  // namespace makers
