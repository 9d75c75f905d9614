// SPDX-License-Identifier: MIT
// The bodies of `makers::compress` and `cross_validate`, for the files that instantiate them.
#pragma once

#include "makers.hpp"

#include <pleat/compress/compress.hpp>
#include <pleat/compress/cross_validate.hpp>

namespace makers {

// T, because clang 14 crashes on a constrained template of a type that is no parameter.
template <template <pleat::Real> class Structure, pleat::Real T = float>
auto options_for(Choice choice) {
  typename Structure<T>::Options options;
  if constexpr (requires { options.storage; }) options.storage = choice.storage;
  if constexpr (requires { options.pattern; }) options.pattern = choice.pattern;
  if constexpr (requires { options.prefer; })
    if (choice.fast) options.prefer = decltype(options.prefer)::speed;
  if constexpr (requires { options.iterations; })
    if (choice.iterations > 0) options.iterations = choice.iterations;
  return options;
}

template <template <pleat::Real> class Structure>
Operator compress(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                  const Calibration& calibration, Choice choice) {
  return pleat::compress<Structure>(W, budget, calibration, options_for<Structure>(choice));
}

template <template <pleat::Real> class Structure>
double cross_validate(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                      const Calibration& calibration, Choice choice) {
  return pleat::cross_validate<Structure>(W, budget, calibration, options_for<Structure>(choice));
}

}  // namespace makers
