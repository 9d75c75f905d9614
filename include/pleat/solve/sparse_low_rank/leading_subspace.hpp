// SPDX-License-Identifier: MIT
// The low-rank part beside a sparse one that keeps changing: a subspace of outputs, kept warm.
#pragma once

#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/random.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// H times a matrix; H, n x n, may be empty, which stands for the identity.
class SplittingMetric {
 public:
  explicit SplittingMetric(const Matrix<double>& H) : packed_(H) {}

  [[nodiscard]] Matrix<double> times(Matrix<double> A) const {
    if (packed_.rows() == 0) return A;
    return multiply(packed_, A);
  }
  /// tr(E H E^T) for E^T.
  [[nodiscard]] double loss(const Matrix<double>& Et) const {
    const double sum = times(Et).cwiseProduct(Et).sum();
    return sum < 0 ? 0 : sum;
  }

 private:
  Dense<double> packed_;
};

/// L = U V of a rank, for a residual E = W - S that changes little from call to call: U, m x r, has
/// orthonormal columns, and V = U^T E is the best for it in every metric of the inputs. Each call
/// takes some steps of subspace iteration from where the last one ended, in a few dimensions more
/// than the rank (as `randomized_eigenpairs` does from random vectors), none of which lets U E lose
/// energy. Cost of a step: 4 m n r + n^2 r multiply-adds.
template <class = void>
class LeadingSubspace {
 public:
  LeadingSubspace(Index outputs, Index rank, std::uint64_t seed)
      : rank_(rank),
        width_(rank == 0 ? 0 : (std::min)(outputs, rank + std::max<Index>(8, rank / 4))),
        random_(seed),
        space_(outputs, 0),
        U_(outputs, 0) {}

  [[nodiscard]] Index rank() const noexcept { return rank_; }
  /// m x r, or fewer columns where E has no more.
  [[nodiscard]] const Matrix<double>& U() const noexcept { return U_; }

  /// For E^T, n x m, the U that makes || E - U U^T E ||_H small.
  void follow(const SplittingMetric& H, const Matrix<double>& Et, int steps) {
    const Dense<double> E(Matrix<double>(Et.transpose()));
    const Dense<double> packed(Et);
    iterate(steps,
            [&](const Matrix<double>& Q) { return multiply(E, H.times(multiply(packed, Q))); });
  }

  /// For A = Q^T Z, symmetric and positive semidefinite, Q and Z: n x m, the U that makes tr(U^T A
  /// U) large.
  void follow_product(const Matrix<double>& Q, const Dense<double>& Z, int steps) {
    const Dense<double> Qt(Matrix<double>(Q.transpose()));
    iterate(steps, [&](const Matrix<double>& P) { return multiply(Qt, multiply(Z, P)); });
  }

  /// A U U^T for A: n x m.
  [[nodiscard]] Matrix<double> projected(const Dense<double>& A) const {
    if (U_.cols() == 0) return Matrix<double>::Zero(A.rows(), A.cols());
    return multiply(multiply(A, U_), Matrix<double>(U_.transpose()));
  }
  [[nodiscard]] Matrix<double> projected(const Matrix<double>& A) const {
    return projected(Dense<double>(A));
  }

 private:
  template <class Times>
  void iterate(int steps, const Times& times) {
    if (rank_ == 0) return;
    Matrix<double> Y;
    for (int step = 0;; ++step) {
      fill();
      if (space_.cols() == 0) return;
      Y = times(space_);
      if (step == steps) break;
      space_ = orthonormal(std::move(Y));
    }
    const Matrix<double> inner = multiply(Matrix<double>(space_.transpose()), Y);
    space_ = multiply(space_, exact_eigenpairs(symmetric_part(inner)).vectors);
    U_ = space_.leftCols((std::min)(rank_, space_.cols()));
  }

  /// Directions that were lost, because nothing was left in them, may be needed again.
  void fill() {
    const Index found = space_.cols();
    if (found >= width_) return;
    Matrix<double> filled(space_.rows(), width_);
    filled.leftCols(found) = space_;
    filled.rightCols(width_ - found) = random_.normal(space_.rows(), width_ - found);
    space_ = orthonormal(std::move(filled));
  }

  Index rank_;
  Index width_;
  Random random_;
  Matrix<double> space_;
  Matrix<double> U_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
