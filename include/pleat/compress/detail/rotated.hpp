// SPDX-License-Identifier: MIT
// How makers rotate: they are given the weight and the calibration in rotated inputs.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/core/error.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Blocks of 128 inputs, or, of fewer, the largest power of two among them: two to four groups of
/// values that share a scale, at 7 additions an input.
template <Real T>
[[nodiscard]] Hadamard<T> rotation_of_inputs(Index inputs, std::uint64_t seed) {
  const auto block = std::bit_floor(static_cast<std::size_t>(std::min<Index>(inputs, 128)));
  return Hadamard<T>::with_random_signs(inputs, static_cast<Index>(block), seed);
}

/// core H with core = make(W H^T, budget, calibration of H x, options that do not rotate), H the
/// rotation above: || (W - core H) X || = || (W H^T - core) H X ||, so what is close to the one is
/// as close to the other. The bytes of H are taken out of the budget. Throws
/// `std::invalid_argument` for native storage, which nothing is rounded to, and where rotated
/// weights or samples are beyond the largest of T.
template <class Op, Real T, class Make>
[[nodiscard]] Op rotated(const ConstMatrixRef<T>& W, const Budget& budget,
                         const Calibration<T>& calibration, typename Op::Options options,
                         const Make& make) {
  require(is_narrow(require_storage<T>(options.storage)), [&] {
    return "compress<" + std::string(Op::name) + ">: rotate is for narrow storage, not " +
           std::string(to_string(options.storage));
  });
  options.rotate = false;
  const Index n = W.cols();
  const auto H = rotation_of_inputs<T>(n, options.seed);
  const auto wide = rotation_of_inputs<double>(n, options.seed);
  const auto turn = [&](const Matrix<double>& A) {
    Matrix<double> result(A.rows(), A.cols());
    wide.apply(A, result);
    return result;
  };
  const Matrix<T> weight =
      turn(W.transpose().template cast<double>()).transpose().template cast<T>();
  require_finite(weight, "the rotated weights");
  const Calibration<T> seen = CalibrationAccess::rotated(calibration, turn);
  const auto made = [&](const Budget& within) {
    return make(ConstMatrixRef<T>(weight), within, seen, options).rotated(H);
  };
  Op op = made(budget.beside(H.bytes()));
  if (!budget.bounds_error()) return op;
  // What was measured in rotated inputs is off by rounding; what is off by more was stopped.
  const double most = budget.max_error();
  const double reached = pleat::relative_error(W, op, calibration);
  if (reached <= most || reached > most * (1 + 1e-4)) return op;
  return made(error((std::max)(0.0, most - 2 * (reached - most))));
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
