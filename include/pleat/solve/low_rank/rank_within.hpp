// SPDX-License-Identifier: MIT
// The rank that an error needs, down to the rounding of the scalar.
#pragma once

#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What decompositions in double leave of a matrix with so many singular values, as a share of it.
[[nodiscard]] inline double decomposition_noise(Index count) {
  return 16 * std::numeric_limits<double>::epsilon() * std::sqrt(static_cast<double>(count));
}

/// The relative error that factors of this rank, as they are stored, may have where `wanted` is
/// asked for, of a matrix with `most` singular values. No factors in T come closer than the
/// rounding of their entries and of sums of so many terms, unless one of them is the matrix itself;
/// so to ask for less than the epsilon of T is to ask for that.
template <Real T>
[[nodiscard]] double allowed_error(double wanted, Index rank, Index most, Storage storage) {
  constexpr double epsilon = std::numeric_limits<T>::epsilon();
  if (wanted >= epsilon || is_narrow(storage)) return wanted;
  return 2 * epsilon * (1 + std::sqrt(static_cast<double>(rank))) + decomposition_noise(most);
}

/// The error that a rank is sought for.
template <Real T>
[[nodiscard]] double sought_error(double wanted, Index most) {
  const double epsilon = std::numeric_limits<T>::epsilon();
  return (std::max)(wanted, (std::max)(epsilon, decomposition_noise(most)));
}

/// The smallest rank r >= 1 whose relative error is at most `error`, for `solver` of this W,
/// calibration and shrinkage. A spectrum by squaring holds nothing below about 1e-7 of the whole:
/// where the error does, what is left of W after the directions that stand out is decomposed anew,
/// at its own scale, and so on. Cost: that of the spectrum, each time.
template <Real T>
[[nodiscard]] Index rank_within(LowRankSolver<>& solver, const Matrix<double>& W,
                                const Calibration<T>& calibration, double shrinkage,
                                const LowRankMethod& method, double error) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  const Index most = (std::min)(W.rows(), W.cols());
  const double tail = error * error * solver.energy();
  const double nothing = epsilon * epsilon * double(most) * W.squaredNorm();
  Matrix<double> residual;
  std::optional<LowRankSolver<>> deeper;
  LowRankSolver<>* current = &solver;
  for (Index rank = 0;;) {
    const double energy = current->energy();
    if (energy <= tail) return std::max<Index>(1, rank);
    const Vector<double>& spectrum = current->spectrum();
    const double unit = energy / spectrum.sum();
    const auto distinct = (spectrum.array() > 1e-8 * spectrum.sum()).count();
    if (tail >= 8 * epsilon * double(most) * energy || distinct == most)
      return (std::min)(most, rank + tail_rank(spectrum, tail / unit));
    rank += distinct;
    if (rank >= most) return most;
    const auto [U, V] = current->factors(distinct);
    residual = (residual.size() > 0 ? residual : W) - multiply(U, V);
    if (residual.squaredNorm() <= nothing) return rank;
    deeper.emplace(residual, calibration, shrinkage, method);
    current = &*deeper;
  }
}

/// Makes `made` larger, from `rank` on, until its error is one that is allowed, the rank is `most`,
/// or it was `stopped`: the spectrum promised the error; the factors, rounded to T, must keep the
/// promise. Where they are far from it, it is their rounding, which only W itself does not have.
/// `pack` makes one of a rank, `measure` tells its error. Returns the error.
template <Real T, class Made, class Pack, class Measure, class Stopped>
double keep_promise(double wanted, Storage storage, Index most, Index& rank, Made& made,
                    const Pack& pack, const Measure& measure, const Stopped& stopped) {
  double reached = measure(made);
  for (Index step = std::max<Index>(1, rank / 64);; step *= 2) {
    const double allowed = allowed_error<T>(wanted, rank, most, storage);
    if (reached <= allowed || rank >= most || stopped()) return reached;
    rank = reached > 2 * allowed ? most : (std::min)(most, rank + step);
    made = pack(rank);
    reached = measure(made);
  }
}

/// Makes `made` as small as keeps its error allowed: the spectrum of a shrunk metric promises no
/// more than is needed in the one that errors are measured in. Takes what `keep_promise` takes, and
/// the error that it returned.
template <Real T, class Made, class Pack, class Measure, class Stopped>
void take_no_more(double wanted, Storage storage, Index most, Index& rank, Made& made,
                  double& reached, const Pack& pack, const Measure& measure,
                  const Stopped& stopped) {
  for (Index misses = 0; rank - misses > 1 && !stopped();) {
    const Index middle = misses + (rank - misses) / 2;
    Made smaller = pack(middle);
    const double error = measure(smaller);
    if (error <= allowed_error<T>(wanted, middle, most, storage)) {
      made = std::move(smaller);
      reached = error;
      rank = middle;
    } else {
      misses = middle;
    }
  }
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
