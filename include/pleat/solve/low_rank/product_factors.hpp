// SPDX-License-Identifier: MIT
// The best factors of low rank of a product of two matrices, without the product.
#pragma once

#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The metric || P^(1/2) E S ||_F of a calibration, S S^T = (1 - a) G + a diag(G), for matrices
/// that are products: both sides are seen by the small inner moments of their factors only. P and G
/// are scaled by powers of two. The calibration must outlive this.
template <Real T>
class ProductMetric {
 public:
  explicit ProductMetric(const Calibration<T>& calibration)
      : calibration_(calibration), root_(scaled_root(calibration.output_metric())) {
    const Matrix<T> X = calibration.held_samples();
    double largest = 0;
    if (X.size() > 0) largest = static_cast<double>(X.cwiseAbs().maxCoeff());
    else if (calibration.samples() > 0)
      largest = std::sqrt((std::max)(0.0, calibration.gram().diagonal().maxCoeff()));
    white_ = !(largest > 0);
    unit_ = power_of_two_below(largest);
    if (calibration.row_weights().size() > 0)
      root_ = (calibration.row_weights() / calibration.row_weights().maxCoeff())
                  .cwiseSqrt()
                  .asDiagonal();
  }

  /// B S S^T B^T for rows of inputs.
  [[nodiscard]] Matrix<double> of_inputs(const Matrix<double>& B, double shrinkage) const {
    return white_ ? outer_gram(B) : output_moment(B, calibration_, unit_).shrunk(shrinkage);
  }
  /// A^T P A for columns of outputs.
  [[nodiscard]] Matrix<double> of_outputs(const Matrix<double>& A) const {
    return outer_gram((root_.size() > 0 ? multiply(root_, A) : A).transpose());
  }

 private:
  const Calibration<T>& calibration_;
  Matrix<double> root_;  // P^(1/2); empty for the identity
  bool white_ = true;    // no sample says anything: G is the identity
  double unit_ = 1;
};

/// Factors U: m x r and V: r x n.
struct ProductFactors {
  Matrix<double> U{};
  Matrix<double> V{};
};

/// The U V of this rank, at most d, closest to A B, A: m x d and B: d x n, in the metric.
///
/// With N = B S S^T B^T, Q = A^T P A and y_i, l_i the eigenpairs of N^(1/2) Q N^(1/2), d x d, the
/// l_i are the squared singular values of P^(1/2) A B S, and
///
///     U = A N^(1/2) Y_r L_r^(-1/2),   V = L_r^(-1/2) Y_r^T N^(1/2) Q B
///
/// the optimum: the same as `LowRankSolver` finds for the m x n product, without an inverse of
/// either metric. Squaring loses what is below 1e-4 of the largest singular value; where the rank
/// reaches there, what is left of the product, A (B - U' V), is decomposed anew at its own scale,
/// and then what the metric does not see. Columns and rows beyond the numerical rank are 0. Cost: d
/// n^2 + m d^2 multiply-adds, d n T for held samples, and about 9 d^3 flops.
template <Real T>
[[nodiscard]] ProductFactors product_factors(const Matrix<double>& A, const Matrix<double>& B,
                                             Index rank, const ProductMetric<T>& metric,
                                             double shrinkage) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  const Index d = A.cols();
  ProductFactors result{Matrix<double>::Zero(A.rows(), rank), Matrix<double>::Zero(rank, B.cols())};
  if (rank == d) return {A, B};
  Matrix<double> left = B;  // the product that is left is A times this
  Index found = 0;
  for (const bool in_metric : {true, false}) {
    const Matrix<double> Q = in_metric ? metric.of_outputs(A) : outer_gram(A.transpose());
    const auto moment = [&](const Matrix<double>& rows) {
      return in_metric ? metric.of_inputs(rows, shrinkage) : outer_gram(rows);
    };
    Matrix<double> N = moment(B);
    const double nothing = epsilon * epsilon * static_cast<double>(d) * N.cwiseProduct(Q).sum();
    if (found > 0) N = moment(left);
    while (found < rank) {
      const Matrix<double> root = square_root(N);
      const Matrix<double> K = symmetric_part(multiply(root, multiply(Q, root)));
      const double trace = K.trace();
      if (!(trace > nothing)) break;
      const Eigenpairs pairs = numerically_positive(exact_eigenpairs(K), rank - found, trace);
      const Index more = pairs.values.size();
      if (more == 0) break;
      const Matrix<double> mixing =
          multiply(root, pairs.vectors) * pairs.values.cwiseSqrt().cwiseInverse().asDiagonal();
      const Matrix<double> V = multiply(multiply(mixing.transpose(), Q), left);
      result.U.middleCols(found, more) = multiply(A, mixing);
      result.V.middleRows(found, more) = V;
      left -= multiply(mixing, V);
      found += more;
      if (found < rank) N = moment(left);
    }
  }
  return result;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
