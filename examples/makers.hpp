// SPDX-License-Identifier: MIT
// The compressions that the example tries. They take long to compile, so they are in files of their
// own, which more than one core can compile at once.
#pragma once

#include "encoder.hpp"

#include <pleat/compress/budget.hpp>
#include <pleat/compress/calibration.hpp>
#include <pleat/core/scalar.hpp>
#include <pleat/matrix/sparse_pattern.hpp>

#include <map>
#include <string>

namespace makers {

using encoder::Operator;
using Calibration = pleat::Calibration<float>;
/// Of each linear layer, by its name.
using Calibrations = std::map<std::string, Calibration>;

/// What of the options is not as it is by default, in the structures that have it.
struct Choice {
  pleat::Storage storage = pleat::Storage::f32;
  pleat::SparsePattern pattern = {0, 0};  // what this machine runs fast
  bool fast = false;                      // shapes for speed, where there is a choice
  pleat::Index iterations = 0;            // as many as by default
};

/// `pleat::compress<Structure>` with default options, but for that choice: for every
/// structure that a file makers_*.cpp instantiates it for.
template <template <pleat::Real> class Structure>
Operator compress(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                  const Calibration& calibration, Choice choice);

/// `pleat::cross_validate<Structure>` of the same.
template <template <pleat::Real> class Structure>
double cross_validate(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                      const Calibration& calibration, Choice choice);

/// Low rank as the plain singular value decomposition has it, without looking at the inputs.
Operator low_rank_plain(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                        const Calibration& calibration);

/// 2:4, and what low rank can repair of it.
Operator semi_structured_and_low_rank(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                                      const Calibration& calibration);

/// The encoder with a share of the hidden units of its feed-forward pairs, everything dense.
encoder::Encoder fewer_units(const encoder::Encoder& dense, double share,
                             const Calibrations& calibrations);

}  // namespace makers
