// SPDX-License-Identifier: MIT
// The search for a good mask by operator splitting: least squares and projection, alternating.
#pragma once

#include "pleat/solve/linear/cholesky_solver.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// S minimising tr((W - S) H (W - S)^T) over a pattern, by the alternating direction method of
/// multipliers: with H scaled to a unit diagonal and the penalty rho,
///
///     S <- W + rho (H + rho)^-1 (D - V - W),   D <- the pattern's part of S + V,   V <- S + V - D,
///
/// while rho grows, from a state D that has the pattern. Rows move all at once, which is what finds
/// masks that no sweep from left to right, and no step on a single group, does. D is returned: a
/// mask with values to be refitted. Nothing where `proceed` stopped it. Cost: for each rho, of
/// which there are at most `most_rounds`, n^3 / 6 multiply-adds and three times m n^2; fewer of
/// them for large matrices.
///
/// Source: X. Meng, K. Behdin, H. Wang, R. Mazumder, "ALPS: improved optimization for highly sparse
/// one-shot pruning for large language models", NeurIPS 2024.
template <class = void>
[[nodiscard]] std::optional<Matrix<double>> mask_search(
    const Matrix<double>& H, const Matrix<double>& Wt, const Matrix<double>& start,
    SparsePattern pattern, const Proceed& proceed = {}, int most_rounds = 24) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  constexpr int steps = 3;
  const double work = std::pow(double(n), 2) * (double(n) / 6 + steps * double(m));
  const int rounds = static_cast<int>(std::clamp(5e10 / work, 3.0, double(most_rounds)));
  // A few steps are best taken where most of the mask is decided.
  const double least = rounds < 6 ? 0.1 : 0.02;
  const double most = rounds < 6 ? 2 : 10;
  const double growth = std::pow(most / least, 1.0 / (rounds - 1));
  // The mask is all that counts, and single precision halves the time of what is not small.
  const bool single = work > 1e9;

  const Vector<double> root =
      (H.diagonal().array() > 0).select(H.diagonal().cwiseSqrt(), Vector<double>::Ones(n));
  const Vector<double> inverse_root = root.cwiseInverse();
  const Matrix<double> X = root.asDiagonal() * Wt;
  Matrix<double> D = root.asDiagonal() * start;
  Matrix<double> V = Matrix<double>::Zero(n, m);
  double rho = least;
  double done = 0;
  const auto tell = [&] {
    if (proceed) (void)proceed(done, 0);
  };
  const auto search = [&]<class T>(CholeskySolver<T> solver) {
    Matrix<T> S(n, m);
    for (int round = 0; round < rounds; ++round, rho *= growth) {
      Matrix<double> shifted = inverse_root.asDiagonal() * H * inverse_root.asDiagonal();
      shifted.diagonal().array() += rho;
      if (!solver.factor(std::move(shifted), tell)) continue;  // a larger rho will do
      for (int step = 1; step <= steps; ++step) {
        const double shrink = step == 1 && round > 0 ? 1 / growth : 1;
        parallel_ranges(m, [&](Index begin, Index end) {
          const Index count = end - begin;
          V.middleCols(begin, count) *= shrink;
          S.middleCols(begin, count) =
              (rho * (D - V - X).middleCols(begin, count)).template cast<T>();
        });
        tell();
        solver.solve_in_place(S);
        parallel_ranges(m, [&](Index begin, Index end) {
          LargestOfGroups keep(pattern, n);
          for (Index row = begin; row < end; ++row) {
            V.col(row) += X.col(row) + S.col(row).template cast<double>();
            keep(&V(0, row), &D(0, row));
            V.col(row) -= D.col(row);
          }
        });
        done = (round + double(step) / steps) / rounds;
        if (proceed && !proceed(done, 0)) return false;
      }
    }
    return true;
  };
  if (!(single ? search(CholeskySolver<float>()) : search(CholeskySolver<double>())))
    return std::nullopt;
  return Matrix<double>(inverse_root.asDiagonal() * D);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
