// SPDX-License-Identifier: MIT
// What the example tries: a row of its table each.
#pragma once

#include "encoder.hpp"
#include "makers.hpp"

#include <Eigen/Core>
#include <pleat/compress/budget.hpp>
#include <pleat/core/scalar.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace methods {

using Eigen::MatrixXf;
using encoder::Encoder;
using encoder::Operator;
using makers::Calibration;
using makers::Calibrations;

/// A way to compress one layer, and the shares of the dense bytes that it is tried at; or a way to
/// make the whole encoder narrower, and the shares of the hidden units that stay, after which what
/// is left is calibrated anew and compressed, where there is a way for that as well.
struct Method {
  std::string name;
  std::vector<double> keep;  // all but the first only if all are asked for
  bool usual;                // or tried only if all are asked for, or this one is
  std::function<Operator(const MatrixXf&, const pleat::Budget&, const Calibration&)> compress;
  /// What cross-validation says of it, which is two more compressions; of some methods.
  std::function<double(const MatrixXf&, const pleat::Budget&, const Calibration&)> cross_validate;
  bool quick = false;  // so that it is said even if not all is asked for
  std::function<Encoder(const Encoder&, double, const Calibrations&)> narrow = {};
  /// Layer after layer, each fitted to what the ones before it now make of its inputs.
  bool in_turn = false;
  /// A shorter compression, by which bytes are shared out over the layers, so that the sum of
  /// squared errors is least; without one all layers keep the same share.
  std::function<Operator(const MatrixXf&, const pleat::Budget&, const Calibration&)> trial = {};
};

/// A structure with default options, but for a choice.
template <template <pleat::Real> class Structure>
Method method(std::string name, std::vector<double> keep, bool usual, makers::Choice choice = {},
              bool quick = false) {
  return {std::move(name),
          std::move(keep),
          usual,
          [choice](const auto& W, const auto& budget, const auto& calibration) {
            return makers::compress<Structure>(W, budget, calibration, choice);
          },
          [choice](const auto& W, const auto& budget, const auto& calibration) {
            return makers::cross_validate<Structure>(W, budget, calibration, choice);
          },
          quick};
}

/// The same layer after layer.
template <template <pleat::Real> class Structure>
Method in_turn(std::string name, std::vector<double> keep, makers::Choice choice = {}) {
  Method result = method<Structure>(std::move(name), std::move(keep), false, choice);
  result.cross_validate = {};
  result.in_turn = true;
  return result;
}

/// The same, with bytes shared out over the layers.
template <template <pleat::Real> class Structure>
Method shared_out(std::string name, std::vector<double> keep, makers::Choice choice = {}) {
  Method result = in_turn<Structure>(std::move(name), std::move(keep), choice);
  choice.iterations = 2;
  result.trial = [choice](const auto& W, const auto& budget, const auto& calibration) {
    return makers::compress<Structure>(W, budget, calibration, choice);
  };
  return result;
}

/// So many of every so many columns, on any machine.
inline makers::Choice of_pattern(pleat::Index kept, pleat::Index group) {
  return {.pattern = {kept, group}};
}

/// Those whose makers nothing else here needs, and that take minutes to compile: tried only if all
/// are asked for, or that one is. None in the program that is built without them.
std::vector<Method> rare_methods();

}  // namespace methods
