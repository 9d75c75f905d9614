// SPDX-License-Identifier: MIT
// The best factors of any rank of one matrix in one metric.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
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
  Monitor monitor{};
};

/// Minimises || P^(1/2) (W - U V) S ||_F, S S^T = (1 - a) G + a diag(G) with a the shrinkage, over
/// factors of a rank, for W: m x n.
///
/// With M = P^(1/2) W S and U_r its leading left singular vectors, the optimum is P^(-1/2) U_r
/// times U_r^T P^(1/2) W, whatever S. Its loss is the tail of the squared singular values of M,
/// which are the eigenvalues of M M^T as of M^T M. So the solver decomposes whichever is smallest:
///
///   route E    P^(1/2) W G W^T P^(1/2)    m x m    where m <= n, or outputs are weighted by a P
///   route S    S^T W^T W S                n x n    where n < m; S from the eigenvectors of G
///   route X    X^T W^T W X                T x T    where the T < min(m, n) samples are still held
///                                                  and nothing is shrunk
///
/// While samples are held, route E forms its matrix from W X and the diagonal: n x n is nothing.
/// Squaring loses what is far below the largest singular value. Where the rank reaches below 1e-4
/// of it, what is left of W is decomposed anew, at its own scale. W and G are scaled by powers of
/// two first, so that neither overflows and neither's scale matters.
template <class = void>
class LowRankSolver {
 public:
  /// The calibration must live as long as the solver; its own shrinkage is not looked at.
  template <Real T>
  LowRankSolver(Matrix<double> W, const Calibration<T>& calibration, double shrinkage,
                LowRankMethod method)
      : method_(std::move(method)),
        W_(std::move(W)),
        again_(
            [=, this, &calibration](const Matrix<double>& residual, Index rank, bool calibrated) {
              return of_residual(residual, calibrated ? calibration : Calibration<T>(), shrinkage,
                                 rank);
            }) {
    const double largest = W_.cwiseAbs().maxCoeff();
    scale_ = power_of_two_below(largest);
    W_ /= scale_;
    const Index least = (std::min)(W_.rows(), W_.cols());
    const bool weighted =
        calibration.row_weights().size() > 0 || calibration.output_metric().size() > 0;
    if (calibration.row_weights().size() > 0)
      root_ = (calibration.row_weights() / calibration.row_weights().maxCoeff())
                  .cwiseSqrt()
                  .asDiagonal();
    if (calibration.output_metric().size() > 0) root_ = scaled_root(calibration.output_metric());

    Matrix<double> samples = calibration.held_samples().template cast<double>();
    if (samples.size() > 0) samples /= power_of_two_below(samples.cwiseAbs().maxCoeff());
    const bool by_outputs = weighted || W_.rows() <= W_.cols();
    if ((shrinkage > 0 || few_for(samples.rows(), samples.cols())) && samples.size() > 0 &&
        by_outputs) {
      gram_trace_ = samples.squaredNorm();
      const Vector<double> roots = samples.rowwise().norm();
      set_output_gram((1 - shrinkage) * outer_gram(multiply(W_, samples)) +
                      shrinkage * outer_gram(W_ * roots.asDiagonal()));
      return;
    }
    if (shrinkage == 0 && !weighted && samples.size() > 0 && samples.cols() < least) {
      gram_trace_ = samples.squaredNorm();
      M_ = multiply(W_, samples);
      set_gram(outer_gram(M_.transpose()));
      return;
    }
    samples.resize(0, 0);
    Matrix<double> G = shrunk(scaled_gram(calibration), shrinkage);
    if (G.size() > 0) gram_trace_ = G.trace();
    if (by_outputs) {
      Matrix<double> WGWt;
      if (G.size() > 0) {
        const Dense<double> packed(G);
        G.resize(0, 0);  // these are the largest matrices here: one of them less
        WGWt = multiply(packed, Matrix<double>(W_.transpose()));
        WGWt = symmetric_part(multiply(W_, WGWt));
      } else {
        WGWt = outer_gram(W_);
      }
      set_output_gram(std::move(WGWt));
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

  LowRankSolver(const LowRankSolver&) = delete;
  LowRankSolver& operator=(const LowRankSolver&) = delete;
  ~LowRankSolver() = default;

  /// All squared singular values of M, descending; min(m, n) of them.
  [[nodiscard]] const Vector<double>& spectrum() {
    if (spectrum_.size() > 0) return spectrum_;
    const Index count = (std::min)(W_.rows(), W_.cols());
    spectrum_ = Vector<double>::Zero(count);
    Vector<double> values;
    if (exact_size()) {
      decompose();
      values = pairs_.values;
    } else {
      (void)report("spectrum", 1, 1, 1);
      values = eigenpairs(K_, Eigen::EigenvaluesOnly).eigenvalues().reverse().cwiseMax(0);
    }
    const Index found = (std::min)(count, values.size());
    spectrum_.head(found) = values.head(found);
    return spectrum_;
  }

  /// || P^(1/2) W S ||_F^2 for P and G that are scaled by their powers of two.
  [[nodiscard]] double energy() const { return trace_ * scale_ * scale_; }

  struct Factors {
    Matrix<double> U{};  // m x r
    Matrix<double> V{};  // r x n
  };

  /// The optimal factors of this rank, 1 <= rank <= min(m, n). The largest entries of both are of
  /// one size, to a power of two: half precision has few exponents, and float is not unlimited.
  [[nodiscard]] Factors factors(Index rank) {
    const Index m = W_.rows();
    const Index n = W_.cols();
    Factors result;
    if (rank == (std::min)(m, n)) {  // W itself
      if (m <= n) result = {Matrix<double>::Identity(m, m), W_};
      else result = {W_, Matrix<double>::Identity(n, n)};
    } else {
      result = leading_factors(rank);
      // First what the metric still sees. What it does not costs nothing in it, and inputs that the
      // calibration never saw come out better.
      for (const bool calibrated : {true, false}) complete(result, rank, calibrated);
      const Index found = result.U.cols();
      result.U.conservativeResize(m, rank);
      result.V.conservativeResize(rank, n);
      result.U.rightCols(rank - found).setZero();
      result.V.bottomRows(rank - found).setZero();
    }
    const double left = result.U.cwiseAbs().maxCoeff();
    const double right = result.V.cwiseAbs().maxCoeff();
    double balance = scale_;
    if (left > 0 && right > 0)
      balance =
          std::exp2(std::round(std::log2(right) / 2 - std::log2(left) / 2 + std::log2(scale_) / 2));
    result.U *= balance;
    result.V *= scale_ / balance;
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

  /// Of W G W^T, m x m.
  void set_output_gram(Matrix<double> WGWt) {
    if (root_.size() == 0) {
      set_gram(std::move(WGWt));
      return;
    }
    unweighted_ = std::move(WGWt);
    set_gram(symmetric_part(root_ * unweighted_ * root_));
  }

  void decompose() {
    if (pairs_.values.size() > 0) return;
    pairs_ = exact_eigenpairs(K_);
  }

  [[nodiscard]] Eigenpairs leading(Index rank) {
    const Index count = (std::min)(rank, K_.rows());
    const Index extra = (std::min)(
        method_.oversampling > 0 ? method_.oversampling : std::max<Index>(10, count / 10),
        K_.rows());
    // Past half the size, the products of the iteration cost as much as the whole decomposition.
    const bool exact =
        exact_size() || (method_.svd == SvdMethod::automatic && 2 * (count + extra) > K_.rows());
    if (exact && (pairs_.values.size() > 0 || report("eigendecomposition", 1, 1, 1))) {
      decompose();
      return numerically_positive(pairs_, count, trace_);
    }
    if (count > iterated_for_) {  // of fewer, the pairs are the first of these
      iterated_ = randomized_eigenpairs(K_, count, extra, exact ? 0 : method_.power_iterations,
                                        method_.seed, [&](Index iteration, double held) {
                                          return report("power iteration", iteration,
                                                        method_.power_iterations,
                                                        std::sqrt((std::max)(0.0, 1 - held)));
                                        });
      iterated_for_ = count;
    }
    return numerically_positive(iterated_, count, trace_);
  }

  /// Factors of W_, of this rank or of as much as the decomposition finds.
  [[nodiscard]] Factors leading_factors(Index rank) {
    Eigenpairs pairs = leading(rank);
    // W V_r V_r^T
    if (right_) return {multiply(W_, pairs.vectors), pairs.vectors.transpose()};
    if (M_.size() > 0)  // from right to left singular vectors of M
      pairs.vectors = orthonormal(multiply(M_, pairs.vectors));
    Matrix<double> U = pairs.vectors;
    const Matrix<double> Ut = U.transpose();
    Matrix<double> B = multiply(root_.size() > 0 ? Matrix<double>(Ut * root_) : Ut, W_);
    if (unweighted_.size() > 0) {
      // Given the row space B, the least-squares U is W G B^T (B G B^T)^-1, and B G B^T = Sigma^2.
      // It is P^(-1/2) U_r where that exists, and serves outputs of weight 0 as well.
      U = multiply(unweighted_, Matrix<double>(root_ * U)) *
          pairs.values.cwiseInverse().asDiagonal();
    }
    return {std::move(U), std::move(B)};
  }

  /// Adds factors of what is left of W, until the rank is reached or only rounding is left.
  void complete(Factors& result, Index rank, bool calibrated) const {
    while (result.U.cols() < rank) {
      const Index found = result.U.cols();
      const Factors more =
          again_(found > 0 ? Matrix<double>(W_ - multiply(result.U, result.V)) : W_, rank - found,
                 calibrated);
      const Index added = more.U.cols();
      if (added == 0) return;
      result.U.conservativeResize(W_.rows(), found + added);
      result.V.conservativeResize(found + added, W_.cols());
      result.U.rightCols(added) = more.U;
      result.V.bottomRows(added) = more.V;
    }
  }

  /// Factors of what is left of W, none where it is but rounding.
  template <Real T>
  [[nodiscard]] Factors of_residual(const Matrix<double>& residual,
                                    const Calibration<T>& calibration, double shrinkage,
                                    Index rank) const {
    constexpr double epsilon = std::numeric_limits<double>::epsilon();
    const double noise = epsilon * epsilon * static_cast<double>((std::min)(W_.rows(), W_.cols())) *
                         W_.squaredNorm();
    if (residual.squaredNorm() > noise) {
      LowRankSolver solver(residual, calibration, shrinkage, method_);
      if (solver.trace_ * solver.scale_ * solver.scale_ > noise * solver.gram_trace_) {
        Factors factors = solver.leading_factors(rank);
        factors.V *= solver.scale_;
        return factors;
      }
    }
    return {Matrix<double>(W_.rows(), 0), Matrix<double>(0, W_.cols())};
  }

  LowRankMethod method_;
  Matrix<double> W_;  // scaled
  std::function<Factors(const Matrix<double>& residual, Index rank, bool calibrated)> again_;
  double scale_ = 1;
  Matrix<double> root_{};        // P^(1/2); empty for the identity
  Matrix<double> K_{};           // the Gram matrix that is decomposed
  Matrix<double> M_{};           // where K is M^T M
  Matrix<double> unweighted_{};  // W G W^T where outputs are weighted
  bool right_ = false;           // K = W^T W
  double trace_ = 0;
  double gram_trace_ = 1;   // of G, scaled
  Eigenpairs pairs_{};      // all, where they are known
  Eigenpairs iterated_{};   // the leading ones,
  Index iterated_for_ = 0;  // of so many at most
  Vector<double> spectrum_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
