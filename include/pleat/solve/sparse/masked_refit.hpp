// SPDX-License-Identifier: MIT
// Least squares of the values of a sparse matrix on a fixed mask, in the metric of the inputs.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The exact refit: for every row with nonzeros K, the d with (H_KK + ridge) d = (H (W - S)^T)_K is
/// added to S_K. The ridge pulls towards S, not to 0, so that the loss cannot rise whatever it is:
/// 1e-12 of the mean of the diagonal, and more where H_KK is not positive definite. Cost: m k^3 / 6
/// multiply-adds for k nonzeros a row. Where `proceed` stops it, rows to come stay as they are.
template <class = void>
void refit_exactly(const Matrix<double>& H, const Matrix<double>& Wt, Matrix<double>& St,
                   const Proceed& proceed = {}) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  const Matrix<double> Z = multiply(H, Matrix<double>(Wt - St));
  const double loss = Z.cwiseProduct(Wt - St).sum();
  constexpr Index rows = 64;
  for (Index first = 0; first < m; first += rows) {
    parallel_ranges((std::min)(rows, m - first), [&](Index begin, Index end) {
      std::vector<Index> kept;
      Matrix<double> block;
      Vector<double> change;
      for (Index row = first + begin; row < first + end; ++row) {
        kept.clear();
        for (Index i = 0; i < n; ++i)
          if (St(i, row) != 0) kept.push_back(i);
        const auto size = static_cast<Index>(kept.size());
        if (size == 0) continue;
        double ridge = 1e-12;
        for (int attempt = 0; attempt < 4; ++attempt, ridge *= 1e3) {
          block.resize(size, size);
          change.resize(size);
          double trace = 0;
          for (Index j = 0; j < size; ++j) {
            const Index col = kept[static_cast<std::size_t>(j)];
            const double* const from = &H(0, col);
            for (Index i = j; i < size; ++i) block(i, j) = from[kept[static_cast<std::size_t>(i)]];
            change(j) = Z(col, row);
            trace += from[col];
          }
          block.diagonal().array() += ridge * trace / static_cast<double>(size);
          const Eigen::LLT<Eigen::Ref<Matrix<double>>> cholesky(block);
          if (cholesky.info() != Eigen::Success) continue;
          cholesky.solveInPlace(change);
          if (!is_finite(change.sum())) continue;
          for (Index j = 0; j < size; ++j) St(kept[static_cast<std::size_t>(j)], row) += change(j);
          break;
        }
      }
    });
    if (proceed && !proceed(double((std::min)(first + rows, m)) / double(m), loss)) return;
  }
}

/// The same by conjugate gradients, all rows at once and each with its own step lengths,
/// preconditioned by the diagonal. No iteration increases the loss of a row. Stops where no row
/// gains more than `tolerance` of its loss. Cost: m n^2 multiply-adds an iteration.
template <class = void>
void refit_iteratively(const Matrix<double>& H, const Matrix<double>& Wt, Matrix<double>& St,
                       Index iterations, const Proceed& proceed = {}, double tolerance = 2e-5) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  const Dense<double> packed(H);
  Matrix<double> residual = multiply(packed, Matrix<double>(Wt - St));
  Vector<double> loss(m);  // of each row
  Matrix<double> direction(n, m);
  Matrix<double> product(n, m);
  Vector<double> squares(m);
  const Vector<double> inverse =
      (H.diagonal().array() > 0).select(H.diagonal().cwiseInverse(), Vector<double>::Zero(n));
  parallel_ranges(m, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      loss(row) = residual.col(row).dot(Wt.col(row) - St.col(row));
      double square = 0;
      for (Index i = 0; i < n; ++i) {
        if (St(i, row) == 0) residual(i, row) = 0;
        direction(i, row) = inverse(i) * residual(i, row);
        square += residual(i, row) * direction(i, row);
      }
      squares(row) = square;
    }
  });
  Vector<double> gains(m);
  for (Index iteration = 1; iteration <= iterations; ++iteration) {
    packed.apply(direction, product);
    parallel_ranges(m, [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) {
        gains(row) = 0;
        const double curvature = direction.col(row).dot(product.col(row));
        if (!(curvature > 0) || !(squares(row) > 0)) {
          direction.col(row).setZero();
          squares(row) = 0;
          continue;
        }
        const double step = squares(row) / curvature;
        gains(row) = step * squares(row);
        double square = 0;
        for (Index i = 0; i < n; ++i) {
          if (St(i, row) == 0) continue;
          St(i, row) += step * direction(i, row);
          residual(i, row) -= step * product(i, row);
          square += inverse(i) * residual(i, row) * residual(i, row);
        }
        const double ratio = square / squares(row);
        squares(row) = square;
        for (Index i = 0; i < n; ++i)
          direction(i, row) = inverse(i) * residual(i, row) + ratio * direction(i, row);
      }
    });
    loss -= gains;
    if (proceed &&
        !proceed(static_cast<double>(iteration) / static_cast<double>(iterations), loss.sum()))
      return;
    if (((gains - tolerance * loss).array() <= 0).all()) return;
  }
}

/// Refits the nonzeros of S to W, exactly where that is the cheaper way or nearly so.
template <class = void>
void masked_refit(const Matrix<double>& H, const Matrix<double>& Wt, Matrix<double>& St,
                  Index iterations = 40, const Proceed& proceed = {}) {
  const Index kept = (St.array() != 0).count() / std::max<Index>(1, St.cols());
  if (kept <= 256) refit_exactly(H, Wt, St, proceed);
  else refit_iteratively(H, Wt, St, iterations, proceed);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
