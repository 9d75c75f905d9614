// SPDX-License-Identifier: MIT
// The metric in which sparse and rounded weights are fitted.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/calibration.hpp"

#include <algorithm>
#include <cmath>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The largest power of two that is not above the largest entry; 1 for zeros.
[[nodiscard]] inline double power_of_two_below(double largest) {
  return largest > 0 ? std::exp2(std::floor(std::log2(largest))) : 1;
}

/// The roots of what errors of the rows of an m x n weight count for: of row weights, or of the
/// diagonal of an output metric, over a power of two; at least 2^-20, so that they can be divided
/// by. Ones where outputs are not weighted.
template <Real T>
[[nodiscard]] Vector<double> row_roots(const Calibration<T>& calibration, Index rows) {
  Vector<double> weights = calibration.row_weights();
  if (calibration.output_metric().size() > 0)
    weights = calibration.output_metric().diagonal().cwiseMax(0);
  if (weights.size() == 0 || !(weights.maxCoeff() > 0)) return Vector<double>::Ones(rows);
  return (weights / power_of_two_below(weights.maxCoeff())).cwiseMax(0x1p-40).cwiseSqrt();
}

/// Whether so few samples of so many inputs that a matrix of inputs x inputs would be waste.
[[nodiscard]] constexpr bool few_for(Index inputs, Index samples) noexcept {
  return inputs >= 4096 && 8 * samples <= inputs;
}

/// The Gram matrix of a calibration, divided by a power of two. Empty without samples, or where all
/// were zero.
template <Real T>
[[nodiscard]] Matrix<double> scaled_gram(const Calibration<T>& calibration) {
  if (calibration.samples() == 0) return {};
  Matrix<double> G = calibration.gram();
  const double largest = G.diagonal().maxCoeff();
  if (!(largest > 0)) return {};
  G /= power_of_two_below(largest);
  return G;
}

/// (1 - a) G + a diag(G).
[[nodiscard]] inline Matrix<double> shrunk(Matrix<double> G, double a) {
  if (a == 0 || G.size() == 0) return G;
  const Vector<double> diagonal = G.diagonal();
  G *= 1 - a;
  G.diagonal() = diagonal;
  return G;
}

/// H, which may be empty, plus 1e-8 of its mean diagonal entry: so much that a weight on an input
/// that was never seen is kept as it is where that costs nothing, and too little to be seen in any
/// error.
[[nodiscard]] inline Matrix<double> fitting_gram(Matrix<double> H) {
  if (H.size() == 0) return H;
  H.diagonal().array() = H.diagonal().cwiseMax(0).array() + 1e-8 * H.diagonal().mean();
  return H;
}

/// At most so many rows of P^(1/2) W, with P the calibration's weights of outputs, by which
/// something is chosen for all of them; divided by a power of two.
template <Real T>
[[nodiscard]] Matrix<double> some_weighted_rows(const Matrix<double>& W,
                                                const Calibration<T>& calibration, Index most) {
  const Index height = (std::min)(W.rows(), most);
  Matrix<double> rows(height, W.cols());
  const Matrix<double> root = scaled_root(calibration.output_metric());
  for (Index i = 0; i < height; ++i) {
    const Index from = i * W.rows() / height;
    if (root.size() > 0) rows.row(i) = root.row(from) * W;
    else rows.row(i) = W.row(from);
    if (calibration.row_weights().size() > 0)
      rows.row(i) *=
          std::sqrt(calibration.row_weights()(from) / calibration.row_weights().maxCoeff());
  }
  rows /= power_of_two_below(rows.cwiseAbs().maxCoeff());
  return rows;
}

/// tr(D H D^T) for D^T.
template <class = void>
[[nodiscard]] double metric_loss(const Dense<double>& H, const Matrix<double>& Dt) {
  const double sum = multiply(H, Dt).cwiseProduct(Dt).sum();
  return sum < 0 ? 0 : sum;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
