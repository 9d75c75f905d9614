// SPDX-License-Identifier: MIT
// Which inputs of a layer to keep, and what the kept ones can do for the others.
#pragma once

#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/linear/square_root.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A unit counts as dependent on others where they leave less than this share of its energy: the
/// rounding of a factorization in double, and so much that no weight in T gets so large that its
/// rounding would be seen.
template <Real T>
[[nodiscard]] double dependent_share(Index units) {
  return (std::max)(16 * static_cast<double>(units) * std::numeric_limits<double>::epsilon(),
                    static_cast<double>(std::numeric_limits<T>::epsilon()) / 1024);
}

/// c_j || v_j ||^2, what is lost of the outputs V h if unit j is dropped and no other stands in for
/// it, by || v_j ||^2 where that ties. C is empty for the identity.
template <class = void>
[[nodiscard]] std::vector<Index> energy_order(const Matrix<double>& C, const Matrix<double>& V) {
  std::vector<std::tuple<double, double, Index>> keys;
  for (Index j = 0; j < V.cols(); ++j) {
    const double own = V.col(j).squaredNorm();
    keys.emplace_back(-own * (C.size() > 0 ? C(j, j) : 1), -own, j);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<Index> order;
  order.reserve(keys.size());
  for (const auto& [energy, own, j] : keys) order.push_back(j);
  return order;
}

/// The `count` units with the largest leverage scores: the sums of squares of their entries in the
/// `count` leading eigenvectors of C. Those of fewer where C has no more. Cost: all eigenpairs up
/// to 1024 units, above it randomized ones.
template <class = void>
[[nodiscard]] std::vector<Index> leverage_order(const Matrix<double>& C, Index count,
                                                std::uint64_t seed, const Monitor& monitor) {
  const auto report = [&](Index iteration, Index iterations, double loss) {
    return !monitor || monitor({"eigenvectors", iteration, iterations, loss});
  };
  constexpr Index iterations = 6;
  const bool exact = C.rows() <= 1024 || 2 * count > C.rows();
  if (exact) (void)report(1, 1, 1);
  const Eigenpairs pairs = numerically_positive(
      exact ? exact_eigenpairs(C)
            : randomized_eigenpairs(C, count, std::max<Index>(10, count / 10), iterations, seed,
                                    [&](Index iteration, double held) {
                                      return report(iteration, iterations,
                                                    std::sqrt((std::max)(0.0, 1 - held)));
                                    }),
      count, C.trace());
  const Vector<double> scores = pairs.vectors.rowwise().squaredNorm();
  std::vector<Index> order(static_cast<std::size_t>(C.rows()));
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](Index i, Index j) { return scores(i) > scores(j); });
  return order;
}

/// Takes units one at a time, each time the one that takes most off the loss || V h - V' h_J ||^2,
/// V: m x n, with the best V' there is for the units so far; h of second moment C, n x n.
///
/// With R what the units so far leave of C, in a pivoted Cholesky factorization C = F F^T + R, and
/// P = V R, the loss is tr(V R V^T), and unit j takes || P_:j ||^2 / R_jj off it. Neither R nor P
/// is updated in whole: a column of R is made from C and F when it is taken; P is brought up to
/// date every 64 steps, by a product. Their diagonal and norms are, at every step,
///
///     r = R_:j / R_jj^(1/2),  g = P_:j / R_jj^(1/2):   R_ii -= r_i^2,
///     || P_:i ||^2 += r_i^2 || g ||^2 - 2 r_i P_:i^T g,
///
/// and before a unit is taken, its own are computed anew, for what is left of it may be rounding.
/// Units that depend on those taken are passed over. Cost: n k (k / 2 + m) multiply-adds for k
/// units, once m n^2, and n k + m n doubles beside C and V, which must outlive this.
///
/// The rule is that of orthogonal least squares (Chen, Billings, Luo 1989) for all outputs at once.
template <class = void>
class GreedyUnits {
 public:
  GreedyUnits(const Matrix<double>& C, const Matrix<double>& V, double dependent)
      : C_(C),
        V_(V),
        dependent_(dependent),
        P_(multiply(V, C)),
        left_(C.diagonal()),
        squares_(P_.colwise().squaredNorm().transpose()),
        recent_(V.rows(), block),
        taken_(static_cast<std::size_t>(C.rows()), false) {
    total_ = loss_ = current_loss();
  }
  GreedyUnits(const GreedyUnits&) = delete;
  GreedyUnits& operator=(const GreedyUnits&) = delete;
  ~GreedyUnits() = default;

  /// The units in the order in which they were taken.
  [[nodiscard]] const std::vector<Index>& order() const noexcept { return order_; }
  /// The loss of no unit, and of those taken so far.
  [[nodiscard]] double total() const noexcept { return total_; }
  [[nodiscard]] double loss() const noexcept { return loss_; }
  /// Whether no unit is left that is independent of those taken and takes anything off the loss.
  [[nodiscard]] bool exhausted() const noexcept { return exhausted_; }

  /// Takes units until there are `count`, or the loss is at most `enough`, which below 0 it never
  /// is, or none is left, or `report` says stop.
  void take(Index count, double enough, ProgressReport& report) {
    report.relative_to(total_);
    while (!exhausted_ && std::ssize(order_) < count && loss_ > enough) {
      report.reached(loss_);
      if (!report.begin("units", std::ssize(order_) + 1, count)) return;
      reserve((std::min)(count, C_.rows()), enough >= 0);
      exhausted_ = !step();
    }
  }

 private:
  static constexpr Index block = 64;

  [[nodiscard]] double current_loss() const {
    double sum = 0;
    for (Index j = 0; j < V_.cols(); ++j)
      if (!taken_[static_cast<std::size_t>(j)]) sum += V_.col(j).dot(P_.col(j));
    return (std::max)(0.0, sum);
  }

  /// Room for one more row of F^T: at once for all that will come, or twice as much as there was.
  void reserve(Index count, bool may_end_early) {
    const Index size = std::ssize(order_);
    if (size < Ft_.rows()) return;
    const Index wanted = may_end_early ? std::max<Index>(2 * size, 2 * block) : count;
    Ft_.conservativeResize(std::clamp(wanted, size + 1, C_.rows()), C_.rows());
  }

  /// The unit that gains most, of several the first; -1 where none gains anything.
  [[nodiscard]] Index leading() const {
    Index best = -1;
    double most = 1e-26 * total_;  // the rounding of a gain of nothing
    for (Index j = 0; j < C_.rows(); ++j)
      if (!taken_[static_cast<std::size_t>(j)] && left_(j) > dependent_ * C_(j, j) &&
          squares_(j) > most * left_(j)) {
        most = squares_(j) / left_(j);
        best = j;
      }
    return best;
  }

  bool step() {
    const Index size = std::ssize(order_);
    const Index fresh = size - first_;  // steps that P does not know of
    Index unit = -1;
    Vector<double> column;
    for (Index tried = -2;; tried = unit) {
      unit = leading();
      if (unit < 0) return false;
      if (unit == tried) break;
      column = P_.col(unit) - recent_.leftCols(fresh) * Ft_.col(unit).segment(first_, fresh);
      squares_(unit) = column.squaredNorm();
      left_(unit) = C_(unit, unit) - Ft_.col(unit).head(size).squaredNorm();
    }
    const double root = std::sqrt(left_(unit));
    const Vector<double> g = column / root;
    const double gain = g.squaredNorm();
    const Vector<double> row = Ft_.col(unit).head(size);
    const Vector<double> shares = recent_.leftCols(fresh).transpose() * g;
    taken_[static_cast<std::size_t>(unit)] = true;
    parallel_ranges(C_.rows(), [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j) {
        if (taken_[static_cast<std::size_t>(j)]) {
          Ft_(size, j) = j == unit ? root : 0;
          continue;
        }
        const auto own = Ft_.col(j);
        const double r = (C_(j, unit) - own.head(size).dot(row)) / root;
        const double product = P_.col(j).dot(g) - own.segment(first_, fresh).dot(shares);
        squares_(j) = (std::max)(0.0, squares_(j) + r * (r * gain - 2 * product));
        left_(j) -= r * r;
        Ft_(size, j) = r;
      }
    });
    recent_.col(fresh) = g;
    order_.push_back(unit);
    loss_ = (std::max)(0.0, loss_ - gain);
    if (fresh + 1 == block) bring_up_to_date();
    return true;
  }

  void bring_up_to_date() {
    const Matrix<double> rows = Ft_.middleRows(first_, block);
    Dense<double>(-recent_).apply_add(rows, P_);
    squares_ = P_.colwise().squaredNorm().transpose();
    first_ += block;
    loss_ = current_loss();
  }

  const Matrix<double>& C_;
  const Matrix<double>& V_;
  double dependent_;
  Matrix<double> P_;        // V R as it was after `first_` units
  Vector<double> left_;     // the diagonal of R
  Vector<double> squares_;  // || P_:j ||^2
  Matrix<double> recent_;   // the g of the steps since
  Index first_ = 0;
  Matrix<double> Ft_{};  // F^T: a row a step
  std::vector<bool> taken_;
  std::vector<Index> order_{};
  double total_ = 0;
  double loss_ = 0;
  bool exhausted_ = false;
};

/// The W', m x k, for which || W h - W' h_J || is least, J the kept units and C the second moment
/// of h: with K those dropped, W' = W_:J + D where D C_JJ = W_:K C_KJ. That is W C_:J C_JJ^-1;
/// where C_JJ is singular, the smallest such D for h_j of one size, and 0 for those that are always
/// 0. W_:J itself where C is empty, for the identity. Cost: m n k + k^3 / 3 multiply-adds.
template <class = void>
[[nodiscard]] Matrix<double> refit_to_units(const Matrix<double>& C, const Matrix<double>& W,
                                            const std::vector<Index>& kept, double dependent) {
  Matrix<double> result = W(Eigen::all, kept);
  std::vector<bool> is_kept(static_cast<std::size_t>(W.cols()), false);
  for (const Index j : kept) is_kept[static_cast<std::size_t>(j)] = true;
  std::vector<Index> dropped;
  for (Index j = 0; j < W.cols(); ++j)
    if (!is_kept[static_cast<std::size_t>(j)]) dropped.push_back(j);
  if (C.size() == 0 || kept.empty() || dropped.empty()) return result;

  // In units of their own size, so that only what depends on others is left out.
  const Vector<double> scale = C.diagonal()(kept).unaryExpr(
      [](double energy) { return energy > 0 ? 1 / std::sqrt(energy) : 0; });
  const auto correlations = [&] {
    Matrix<double> H = scale.asDiagonal() * C(kept, kept) * scale.asDiagonal();
    H.diagonal().setOnes();
    return H;
  };
  Matrix<double> Dt =
      scale.asDiagonal() *
      multiply(C(kept, dropped), Matrix<double>(W(Eigen::all, dropped).transpose()));
  Matrix<double> H = correlations();
  const Eigen::LLT<Eigen::Ref<Matrix<double>>> cholesky(H);
  if (cholesky.info() == Eigen::Success &&
      cholesky.matrixLLT().diagonal().cwiseAbs2().minCoeff() > dependent) {
    constexpr Index width = 64;  // the same for any number of threads
    parallel_ranges((Dt.cols() + width - 1) / width, [&](Index begin, Index end) {
      for (Index b = begin; b < end; ++b) {
        auto part = Dt.middleCols(b * width, (std::min)(width, Dt.cols() - b * width));
        cholesky.solveInPlace(part);
      }
    });
  } else {
    const auto solver = eigenpairs(correlations());
    const Vector<double> inverse = solver.eigenvalues().unaryExpr(
        [=](double value) { return value > dependent ? 1 / value : 0; });
    const Matrix<double>& basis = solver.eigenvectors();
    Dt = multiply(basis, inverse.asDiagonal() * multiply(basis.transpose(), Dt));
  }
  result += Matrix<double>(scale.asDiagonal() * Dt).transpose();
  return result;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
