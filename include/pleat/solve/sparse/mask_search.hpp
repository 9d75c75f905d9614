// SPDX-License-Identifier: MIT
// The search for a good mask by operator splitting: least squares and projection, alternating.
#pragma once

#include "pleat/solve/linear/inverse_factor.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/sparse/column_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// U^T U for an upper triangular U. `tell` is called on the way. Cost: n^3 / 3 multiply-adds.
template <class = void>
[[nodiscard]] Matrix<double> triangular_gram(const Matrix<double>& U,
                                             const std::function<void()>& tell = {}) {
  const Index n = U.rows();
  Matrix<double> result = Matrix<double>::Zero(n, n);
  constexpr Index block = 256;
  for (Index first = 0; first < n; first += block) {
    const auto rows = U.block(first, first, (std::min)(block, n - first), n - first);
    Dense<double>(rows.transpose())
        .apply_add(Matrix<double>(rows), result.bottomRightCorner(n - first, n - first));
    if (tell) tell();
  }
  return result;
}

/// S minimising tr((W - S) H (W - S)^T) over a pattern, by the alternating direction method of
/// multipliers: with H scaled to a unit diagonal and the penalty rho,
///
///     S <- W + rho (H + rho)^-1 (D - V - W),   D <- the pattern's part of S + V,   V <- S + V - D,
///
/// while rho grows, from a state D that has the pattern. Rows move all at once, which is what finds
/// masks that no sweep from left to right, and no step on a single group, does. D is returned: a
/// mask with values to be refitted. Nothing where `proceed` stopped it. Cost: for each rho, of
/// which there are at most `most_rounds`, about n^3 multiply-adds and three times m n^2; fewer of
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
  const double work = std::pow(double(n), 2) * (1.3 * double(n) + steps * double(m));
  const int rounds = static_cast<int>(std::clamp(8e10 / work, 3.0, double(most_rounds)));
  // A few steps are best taken where most of the mask is decided.
  const double least = rounds < 6 ? 0.1 : 0.02;
  const double most = rounds < 6 ? 2 : 10;
  const double growth = std::pow(most / least, 1.0 / (rounds - 1));
  // Where products take seconds, single precision halves them, and the mask is all that counts.
  const bool single = work > 2e10;

  const Vector<double> root =
      (H.diagonal().array() > 0).select(H.diagonal().cwiseSqrt(), Vector<double>::Ones(n));
  const Vector<double> inverse_root = root.cwiseInverse();
  const Matrix<double> X = root.asDiagonal() * Wt;
  Matrix<double> D = root.asDiagonal() * start;
  Matrix<double> V = Matrix<double>::Zero(n, m);
  Matrix<double> S(n, m);
  double rho = least;
  double done = 0;
  const auto tell = [&] {
    if (proceed) (void)proceed(done, 0);
  };
  for (int round = 0; round < rounds; ++round, rho *= growth, V /= growth) {
    Matrix<double> inverse = inverse_root.asDiagonal() * H * inverse_root.asDiagonal();
    inverse.diagonal().array() += rho;
    if (!invert_to_factor(inverse, 0, n, tell)) continue;  // a larger rho will do
    inverse.triangularView<Eigen::StrictlyLower>().setZero();
    inverse = triangular_gram(inverse, tell);
    inverse *= rho;
    Dense<double> packed;
    Dense<float> packed_single;
    if (single) packed_single = Dense<float>(inverse.cast<float>());
    else packed = Dense<double>(inverse);
    inverse.resize(0, 0);
    for (int step = 1; step <= steps; ++step) {
      S = D - V - X;
      tell();
      if (single) {
        Matrix<float> product(n, m);
        packed_single.apply(Matrix<float>(S.cast<float>()), product);
        S = product.cast<double>();
      } else {
        S = multiply(packed, S);
      }
      parallel_ranges(m, [&](Index begin, Index end) {
        const auto size = static_cast<std::size_t>((std::min)(n, pattern.group));
        std::vector<double> scores(size);
        const auto marks = std::make_unique<bool[]>(size);
        for (Index row = begin; row < end; ++row)
          for (Index first = 0; first < n; first += pattern.group) {
            const Index width = (std::min)(pattern.group, n - first);
            double* const v = &V(first, row);
            double* const d = &D(first, row);
            for (Index k = 0; k < width; ++k) {
              v[k] += X(first + k, row) + S(first + k, row);
              scores[static_cast<std::size_t>(k)] = std::abs(v[k]);
            }
            mark_largest(scores.data(), width, pattern.kept, marks.get());
            for (Index k = 0; k < width; ++k) {
              d[k] = marks[static_cast<std::size_t>(k)] ? v[k] : 0;
              v[k] -= d[k];
            }
          }
      });
      done = (round + double(step) / steps) / rounds;
      if (proceed && !proceed(done, 0)) return std::nullopt;
    }
  }
  return Matrix<double>(inverse_root.asDiagonal() * D);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
