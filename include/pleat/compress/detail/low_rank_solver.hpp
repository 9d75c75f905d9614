// SPDX-License-Identifier: MIT
// The best factors of any rank of one matrix in one metric.
#pragma once

#include "pleat/compress/calibration.hpp"
#include "pleat/compress/detail/layer_metric.hpp"
#include "pleat/compress/detail/leading_eigenpairs.hpp"
#include "pleat/compress/detail/multiply.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/factor/low_rank.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// How `LowRankSolver` works; the fields are those of `LowRank::Options`.
struct LowRankMethod {
  SvdMethod svd = SvdMethod::automatic;
  Index oversampling = 0;
  Index power_iterations = 6;
  std::uint64_t seed = 0;
  Monitor monitor;
};

/// Minimises || P^(1/2) (W - U V) S ||_F, S S^T = G, over factors of a rank, for W: m x n.
///
/// With M = P^(1/2) W S and U_r its leading left singular vectors, the optimum is P^(-1/2) U_r
/// times U_r^T P^(1/2) W, whatever S. Its loss is the tail of the squared singular values of M,
/// which are the eigenvalues of M M^T as of M^T M. So the solver decomposes whichever is smallest:
///
///   route E    P^(1/2) W G W^T P^(1/2)    m x m    where m <= n, or outputs are weighted by a P
///   route S    S^T W^T W S                n x n    where n < m; S from the eigenvectors of G
///   route X    X^T W^T W X                T x T    where the T < min(m, n) samples are still held
///
/// Squaring loses singular values below 1e-8 of the largest, in double: far below what float holds.
/// W and G are scaled by powers of two first, so that neither overflows and neither's scale
/// matters.
template <class = void>
class LowRankSolver {
 public:
  /// W of any scalar: the residual of a float matrix is one of double.
  template <Real S, Real T>
  LowRankSolver(const ConstMatrixRef<S>& W, const Calibration<T>& calibration, LowRankMethod method)
      : method_(std::move(method)), W_(W.template cast<double>()) {
    const double largest = W_.cwiseAbs().maxCoeff();
    scale_ = power_of_two_below(largest);
    W_ /= scale_;
    const Index least = std::min(W_.rows(), W_.cols());
    const bool weighted =
        calibration.row_weights().size() > 0 || calibration.output_metric().size() > 0;
    if (calibration.row_weights().size() > 0)
      root_ = (calibration.row_weights() / calibration.row_weights().maxCoeff())
                  .cwiseSqrt()
                  .asDiagonal();
    if (calibration.output_metric().size() > 0)
      root_ = square_root(calibration.output_metric() /
                          calibration.output_metric().diagonal().maxCoeff());

    Matrix<double> samples = calibration.held_samples().template cast<double>();
    if (samples.size() > 0) samples /= power_of_two_below(samples.cwiseAbs().maxCoeff());
    if (!weighted && samples.size() > 0 && samples.cols() < least) {
      M_ = multiply(W_, samples);
      set_gram(outer_gram(M_.transpose()));
      return;
    }
    samples.resize(0, 0);
    Matrix<double> G = scaled_gram(calibration);
    if (weighted || W_.rows() <= W_.cols()) {
      Matrix<double> WGWt;
      if (G.size() > 0) {
        const Dense<double> packed(G);
        G.resize(0, 0);  // these are the largest matrices here: one of them less
        WGWt = multiply(packed, Matrix<double>(W_.transpose()));
        WGWt = symmetric_part(multiply(W_, WGWt));
      } else {
        WGWt = outer_gram(W_);
      }
      if (!weighted) {
        set_gram(std::move(WGWt));
        return;
      }
      unweighted_ = WGWt;
      set_gram(symmetric_part(root_ * WGWt * root_));
      return;
    }
    if (G.size() == 0) {
      set_gram(outer_gram(W_.transpose()));
      right_ = true;
      return;
    }
    const auto solver = eigenpairs(G);
    G.resize(0, 0);
    M_ = multiply(W_, Matrix<double>(solver.eigenvectors() *
                                     solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal()));
    set_gram(outer_gram(M_.transpose()));
  }

  /// All squared singular values of M, descending; min(m, n) of them.
  [[nodiscard]] const Vector<double>& spectrum() {
    if (spectrum_.size() > 0) return spectrum_;
    const Index count = std::min(W_.rows(), W_.cols());
    spectrum_ = Vector<double>::Zero(count);
    Vector<double> values;
    if (exact_size()) {
      decompose();
      values = pairs_.values;
    } else {
      (void)report("spectrum", 1, 1, 1);
      values = eigenpairs(K_, Eigen::EigenvaluesOnly).eigenvalues().reverse().cwiseMax(0);
    }
    const Index found = std::min(count, values.size());
    spectrum_.head(found) = values.head(found);
    return spectrum_;
  }

  struct Factors {
    Matrix<double> U;  // m x r
    Matrix<double> V;  // r x n
  };

  /// The optimal factors of this rank, 1 <= rank <= min(m, n).
  [[nodiscard]] Factors factors(Index rank) {
    Eigenpairs pairs = leading(rank);
    const Index found = pairs.vectors.cols();
    Factors result{Matrix<double>::Zero(W_.rows(), rank), Matrix<double>::Zero(rank, W_.cols())};
    if (right_) {  // W V_r V_r^T
      result.U.leftCols(found) = multiply(W_, pairs.vectors) * scale_;
      result.V.topRows(found) = pairs.vectors.transpose();
      return result;
    }
    if (M_.size() > 0)  // from right to left singular vectors of M
      pairs.vectors = orthonormal(multiply(M_, pairs.vectors));
    Matrix<double> U = pairs.vectors;
    Matrix<double> B = multiply(Matrix<double>(U.transpose()) * weight_root(), W_);
    if (unweighted_.size() > 0) {
      // Given the row space B, the least-squares U is W G B^T (B G B^T)^-1, and B G B^T = Sigma^2.
      // It is P^(-1/2) U_r where that exists, and serves outputs of weight 0 as well.
      U = multiply(unweighted_, Matrix<double>(root_ * U)) *
          pairs.values.cwiseInverse().asDiagonal();
    }
    const Index used = std::min(rank, U.cols());
    result.U.leftCols(used) = U.leftCols(used) * scale_;
    result.V.topRows(used) = B.topRows(used);
    if (used < rank) fill(result, used);
    return result;
  }

 private:
  /// Up to this size a complete decomposition takes a second or two, and nothing is gained by less.
  static constexpr Index exact_limit = 1024;

  [[nodiscard]] bool exact_size() const {
    return method_.svd == SvdMethod::exact ||
           (method_.svd == SvdMethod::automatic && K_.rows() <= exact_limit);
  }

  bool report(std::string_view phase, Index iteration, Index iterations, double loss) const {
    return !method_.monitor || method_.monitor({phase, iteration, iterations, loss});
  }

  void set_gram(Matrix<double> K) {
    K_ = std::move(K);
    trace_ = K_.trace();
  }

  [[nodiscard]] Matrix<double> weight_root() const {
    return root_.size() > 0 ? root_
                            : Matrix<double>(Matrix<double>::Identity(W_.rows(), W_.rows()));
  }

  void decompose() {
    if (pairs_.values.size() > 0) return;
    pairs_ = exact_eigenpairs(K_);
  }

  [[nodiscard]] Eigenpairs leading(Index rank) {
    const Index count = std::min(rank, K_.rows());
    const Index extra =
        method_.oversampling > 0 ? method_.oversampling : std::max<Index>(10, count / 10);
    // Past half the size, the products of the iteration cost as much as the whole decomposition.
    const bool exact =
        exact_size() || (method_.svd == SvdMethod::automatic && 2 * (count + extra) > K_.rows());
    if (exact && (pairs_.values.size() > 0 || report("eigendecomposition", 1, 1, 1))) {
      decompose();
      return numerically_positive(pairs_, count, trace_);
    }
    return numerically_positive(
        randomized_eigenpairs(K_, count, extra, exact ? 0 : method_.power_iterations, method_.seed,
                              [&](Index iteration, double held) {
                                return report("power iteration", iteration,
                                              method_.power_iterations,
                                              std::sqrt(std::max(0.0, 1 - held)));
                              }),
        count, trace_);
  }

  /// Where the metric sees fewer dimensions than the rank, what is left goes to the plain residual:
  /// it costs nothing in the metric, and inputs that the calibration never saw come out better.
  void fill(Factors& result, Index used) const {
    const Matrix<double> residual = W_ - multiply(Matrix<double>(result.U.leftCols(used)),
                                                  Matrix<double>(result.V.topRows(used))) /
                                             scale_;
    const bool wide = W_.rows() <= W_.cols();
    const Matrix<double> K = wide ? outer_gram(residual) : outer_gram(residual.transpose());
    const Eigenpairs pairs =
        numerically_positive(exact_eigenpairs(K), result.U.cols() - used, W_.squaredNorm());
    const Index more = pairs.vectors.cols();
    const Matrix<double> other =
        multiply(wide ? Matrix<double>(residual.transpose()) : residual, pairs.vectors);
    result.U.middleCols(used, more) = (wide ? pairs.vectors : other) * scale_;
    result.V.middleRows(used, more) = (wide ? other : pairs.vectors).transpose();
  }

  LowRankMethod method_;
  Matrix<double> W_;  // scaled
  double scale_ = 1;
  Matrix<double> root_;        // P^(1/2); empty for the identity
  Matrix<double> K_;           // the Gram matrix that is decomposed
  Matrix<double> M_;           // where K is M^T M
  Matrix<double> unweighted_;  // W G W^T where outputs are weighted
  bool right_ = false;         // K = W^T W
  double trace_ = 0;
  Eigenpairs pairs_;
  Vector<double> spectrum_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
