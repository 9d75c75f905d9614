// SPDX-License-Identifier: MIT
// The leading part of a matrix that grows by rows: how much of it no low rank can keep.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/thin_qr.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/metric/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A matrix M, m x n, of which only its leading part is held: B = Q^T M, at most q x n, with Q of
/// orthonormal columns, and the energy of the rest,
///
///     M^T M >= B^T B,   dropped = || M ||_F^2 - || B ||_F^2.
///
/// So what B says of a rank bounds what M does: of r <= q directions, those of B hold no more than
/// those of M. Parts are stacked by the leading part of what they hold, and the bound stays one,
/// because what is dropped is positive semidefinite and can only lower eigenvalues; nothing is
/// dropped, and the bound is the error itself, while the rank of the whole is no more than q.
///
/// Source: the incremental Gram estimate of arXiv 2601.11626; that it is a bound is Weyl's
/// monotonicity.
template <class = void>
class SharedSpectrum {
 public:
  SharedSpectrum() = default;

  /// Of M, of which q directions are to be held.
  SharedSpectrum(const Matrix<double>& M, Index q, const LowRankMethod& method)
      : energy_(M.squaredNorm()), B_(M) {
    shorten(q, method);
  }

  /// What the stack of both is.
  [[nodiscard]] SharedSpectrum with(const SharedSpectrum& other, Index q,
                                    const LowRankMethod& method) const {
    SharedSpectrum both;
    both.energy_ = energy_ + other.energy_;
    both.dropped_ = dropped_ + other.dropped_;
    both.B_.resize(B_.rows() + other.B_.rows(), other.B_.cols());
    if (B_.rows() > 0) both.B_.topRows(B_.rows()) = B_;
    both.B_.bottomRows(other.B_.rows()) = other.B_;
    both.shorten(q, method);
    return both;
  }

  /// Of M times a number.
  void scale(double by) {
    energy_ *= by * by;
    dropped_ *= by * by;
    B_ *= by;
  }

  [[nodiscard]] double energy() const noexcept { return energy_; }
  [[nodiscard]] const Matrix<double>& leading() const noexcept { return B_; }

  /// At least the energy of M beyond its best approximation of rank r.
  [[nodiscard]] double tail(Index r, const LowRankMethod& method) const {
    SharedSpectrum rest = *this;
    rest.shorten(r, method);
    return rest.dropped_;
  }

  /// At least the relative error of that; 0 for a matrix of zeros.
  [[nodiscard]] double error(Index r, const LowRankMethod& method) const {
    return energy_ > 0 ? std::sqrt(tail(r, method) / energy_) : 0;
  }

 private:
  /// Holds no more than q directions, the leading ones. What any Q drops is measured, not inferred,
  /// so it is right whatever the rounding of Q, and as exact where it is small.
  void shorten(Index q, const LowRankMethod& method) {
    if (B_.rows() <= q) return;
    if (q == 0 || B_.cwiseAbs().maxCoeff() == 0) {
      dropped_ += B_.squaredNorm();
      B_.resize(0, B_.cols());
      return;
    }
    const Calibration<double> plain;
    LowRankSolver<> solver(B_, plain, 0, method);
    const Matrix<double> Q = thin_qr(solver.factors((std::min)(q, B_.cols())).U).Q;
    const Matrix<double> kept = multiply(Q.transpose(), B_);
    dropped_ += (B_ - multiply(Q, kept)).squaredNorm();
    B_ = kept;
  }

  double energy_ = 0;
  double dropped_ = 0;
  Matrix<double> B_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
