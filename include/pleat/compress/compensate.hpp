// SPDX-License-Identifier: MIT
// compensate: adds the best correction of low rank to any operator.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/detail/propagated.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_refit.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"
#include "pleat/solve/low_rank/rank_within.hpp"
#include "pleat/solve/metric/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `compensate` works. The fields are those of `LowRank::Options` with the same names.
template <Real T>
struct CompensateOptions {
  /// How both factors of the correction are stored. In narrow storage the left one is fitted to the
  /// right one as it was rounded.
  Storage storage = native_storage<T>;
  SvdMethod svd = SvdMethod::automatic;
  Index oversampling = 0;
  Index power_iterations = 6;
  std::uint64_t seed = 0;
  Monitor monitor = {};
};

namespace detail {

/// The body of `compensate` for one operator, its matrix and its metric.
template <LinearOperator Op>
class Compensator {
  using T = typename Op::Scalar;

 public:
  using Result = Sum<Op, LowRank<T>>;

  Compensator(const Compensator&) = delete;
  Compensator& operator=(const Compensator&) = delete;
  ~Compensator() = default;

  /// `likely` is the rank for which the shrinkage is chosen.
  Compensator(const Op& op, const ConstMatrixRef<T>& W, const Calibration<T>& calibration,
              const CompensateOptions<T>& options, Index likely, const Monitor& monitor)
      : op_(op),
        W_(W),
        calibration_(calibration),
        options_(options),
        residual_(residual(op, W, calibration, options)),
        stop_(monitor),
        method_{options.svd, options.oversampling, options.power_iterations, options.seed,
                stop_.monitor()},
        steady_(steadied(calibration)),
        seen_(steady_ ? *steady_ : calibration),
        shrinkage_(shrinkage(residual_, seen_, likely, stop_.monitor())),
        solver_(residual_, seen_, shrinkage_, method_) {}

  [[nodiscard]] Result with_rank(Index rank) {
    const Index most = (std::min)(W_.rows(), W_.cols());
    require(rank >= 1 && rank <= most, [&] {
      return "compensate: the rank for a " + shape_text(W_.rows(), W_.cols()) +
             " matrix must lie between 1 and " + std::to_string(most) + ", not " +
             std::to_string(rank);
    });
    return corrected(rank);
  }

  [[nodiscard]] Result within(const Budget& budget) {
    return budget.bounds_error() ? within_error(budget) : within_bytes(budget);
  }

 private:
  /// W - What in double, once everything else has been found in order.
  static Matrix<double> residual(const Op& op, const ConstMatrixRef<T>& W,
                                 const Calibration<T>& calibration,
                                 const CompensateOptions<T>& options) {
    const Index rows = static_cast<Index>(op.rows());
    const Index cols = static_cast<Index>(op.cols());
    require(W.rows() == rows && W.cols() == cols, [&] {
      return "compensate: the matrix is " + shape_text(W.rows(), W.cols()) + ", the operator " +
             shape_text(rows, cols);
    });
    require(W.size() > 0,
            [&] { return "compensate: a " + shape_text(rows, cols) + " matrix is empty"; });
    require_finite(W, "the weights");
    calibration.require_fit(rows, cols);
    (void)require_storage<T>(options.storage);
    require(options.svd <= SvdMethod::randomized,
            [] { return std::string("compensate: unknown SVD method"); });
    require(options.oversampling >= 0 && options.power_iterations >= 0, [] {
      return std::string("compensate: oversampling and power_iterations must not be negative");
    });
    const Matrix<T> approximation = op.to_dense();
    require_finite(approximation, "the operator");
    return W.template cast<double>() - approximation.template cast<double>();
  }

  /// What is left of W by an operator that was fitted to these samples is small on both folds, so
  /// that they judge a correction too well: no less than the closed form, which looks at inputs
  /// alone.
  static double shrinkage(const Matrix<double>& residual, const Calibration<T>& seen, Index likely,
                          const Monitor& monitor) {
    const double chosen = low_rank_shrinkage(residual, seen, likely, monitor);
    return seen.shrinkage() ? chosen : (std::max)(chosen, closed_form_shrinkage(seen));
  }

  [[nodiscard]] Result corrected(Index rank) {
    auto [U, V] = rank > 0 ? solver_.factors(rank)
                           : LowRankSolver<>::Factors{Matrix<double>(W_.rows(), 0),
                                                      Matrix<double>(0, W_.cols())};
    if (rank > 0 && is_narrow(options_.storage))
      return Result(op_, rounded_factors<T>(residual_, std::move(U), std::move(V), seen_,
                                            shrinkage_, options_.storage));
    return Result(op_, LowRank<T>(Dense<T>(U.template cast<T>()), Dense<T>(V.template cast<T>())));
  }

  [[nodiscard]] Result within_bytes(const Budget& budget) {
    const Index m = W_.rows();
    const Index n = W_.cols();
    const std::size_t limit = budget.max_bytes(m, n, sizeof(T));
    const auto own = static_cast<std::size_t>(op_.bytes());
    const std::size_t smallest = own + low_rank_bytes(m, n, 1, options_.storage);
    require(smallest <= limit, [&] {
      return "compensate: " + budget.text() + " of a " + shape_text(m, n) + " matrix allows " +
             std::to_string(limit) + " bytes, but the operator and a correction of rank 1 need " +
             std::to_string(smallest);
    });
    return corrected(largest_rank(m, n, limit - own, options_.storage));
  }

  [[nodiscard]] Result within_error(const Budget& budget) {
    const Index most = (std::min)(W_.rows(), W_.cols());
    // The spectrum is that of the residual; the budget is a share of W.
    const double before = pleat::relative_error(W_, op_, calibration_);
    const double wanted = budget.max_error();
    if (before <= allowed_error<T>(wanted, 0, most, options_.storage)) return corrected(0);
    Index rank = rank_within(solver_, residual_, seen_, shrinkage_, method_,
                             is_finite(before) ? sought_error<T>(wanted, most) / before : 0);
    Result best = corrected(rank);
    const auto make = [&](Index other) { return corrected(other); };
    const auto measure = [&](const Result& made) {
      return pleat::relative_error(W_, made, calibration_);
    };
    const auto stopped = [&] { return stop_.stopped(); };
    double reached =
        keep_promise<T>(wanted, options_.storage, most, rank, best, make, measure, stopped);
    const auto allowed = [&] { return allowed_error<T>(wanted, rank, most, options_.storage); };
    if (shrinkage_ > 0 && reached <= allowed())
      take_no_more<T>(wanted, options_.storage, most, rank, best, reached, make, measure, stopped);
    require(reached <= allowed() || stop_.stopped(), [&] {
      return "compensate: " + budget.text() + " cannot be met: with a correction of rank " +
             std::to_string(rank) + ", the " + shape_text(W_.rows(), W_.cols()) +
             " operator has relative error " + scientific(reached);
    });
    return best;
  }

  const Op& op_;
  const ConstMatrixRef<T>& W_;
  const Calibration<T>& calibration_;
  const CompensateOptions<T>& options_;
  Matrix<double> residual_;
  StopMonitor stop_;
  LowRankMethod method_;
  std::optional<Calibration<T>> steady_;
  const Calibration<T>& seen_;  // what is fitted to; errors are measured in `calibration_`
  double shrinkage_;
  LowRankSolver<> solver_;
};

template <LinearOperator Op, class Derived, class Size>
[[nodiscard]] Sum<Op, LowRank<typename Op::Scalar>> compensated(
    const Op& op, const Eigen::MatrixBase<Derived>& W, const Size& size,
    const Calibration<typename Op::Scalar>& calibration,
    const CompensateOptions<typename Op::Scalar>& options) {
  static_assert(std::same_as<typename Derived::Scalar, typename Op::Scalar>,
                "W and the operator have one scalar type");
  const ConstMatrixRef<typename Op::Scalar> weight(W.derived());
  [[maybe_unused]] const SerialEigen serial;
  using T = typename Op::Scalar;
  const auto budget = [&] {
    if constexpr (std::same_as<Size, Budget>) return size;
    else return any_size();
  }();
  return propagated<T>(weight, budget, calibration, options.monitor,
                       [&](const ConstMatrixRef<T>& target, const Budget& within,
                           const Calibration<T>& seen, const Monitor& monitor) {
                         const auto make = [&](Index likely) {
                           return Compensator<Op>(op, target, seen, options, likely, monitor);
                         };
                         if constexpr (std::same_as<Size, Budget>) {
                           const Index m = target.rows();
                           const Index n = target.cols();
                           Index likely = ((std::min)(m, n) + 3) / 4;
                           if (!within.bounds_error()) {
                             const std::size_t limit = within.max_bytes(m, n, sizeof(T));
                             const auto own = static_cast<std::size_t>(op.bytes());
                             likely =
                                 limit > own ? largest_rank(m, n, limit - own, options.storage) : 0;
                           }
                           return make(likely).within(within);
                         } else {
                           return make(size).with_rank(size);
                         }
                       });
}

}  // namespace detail

/// What + U V, where U: m x r and V: r x n minimise || P^(1/2) (W - What - U V) X ||_F: the best
/// correction of rank r of any operator, a user's own too, in the metric of a calibration, or the
/// Frobenius norm without one (see `relative_error`).
///
/// The metric is shrunk, see `Calibration::shrinkage`. Where it is not, the error that is left is
/// the tail, beyond r, of the singular values of P^(1/2) (W - What) X, and never more than before;
/// with r = min(m, n) it is 0. What itself is taken over as it is. Any calibration will do,
/// singular ones too: no inverse is taken, see `detail::LowRankSolver`.
///
/// Where the calibration is of pairs of inputs (see `Calibration::add`), (What + U V) x' is what
/// comes close to W x.
///
/// The cost is that of `compress<LowRank>` for the residual, which is held in double, and one
/// `op.to_dense()`. Throws `std::invalid_argument` if W is empty or not finite or has another shape
/// than the operator, if What is not finite, if the calibration does not fit, if the rank is not
/// in 1 ... min(m, n), and on options out of range.
///
/// Source: EoRA (Liu et al., arXiv 2410.21271), which inverts the square root of X X^T instead.
template <LinearOperator Op, class Derived, std::integral Rank>
[[nodiscard]] auto compensate(const Op& op, const Eigen::MatrixBase<Derived>& W, Rank rank,
                              const Calibration<typename Op::Scalar>& calibration = {},
                              const CompensateOptions<typename Op::Scalar>& options = {}) {
  return detail::compensated(op, W, static_cast<Index>(rank), calibration, options);
}

/// The same, of the rank that a budget leaves: for `keep` and `bytes` the largest with which
/// operator and correction together take no more; for `error` the smallest that reaches it, 0 if
/// the operator does by itself. An error below the epsilon of the scalar is reached where it is
/// within rounding, as for `compress<LowRank>`. Throws `std::invalid_argument` also where not even
/// rank 1 fits, and where no rank reaches the error, which happens only by the rounding of the
/// factors.
template <LinearOperator Op, class Derived>
[[nodiscard]] auto compensate(const Op& op, const Eigen::MatrixBase<Derived>& W,
                              const Budget& budget,
                              const Calibration<typename Op::Scalar>& calibration = {},
                              const CompensateOptions<typename Op::Scalar>& options = {}) {
  return detail::compensated(op, W, budget, calibration, options);
}

/// Both with options and no calibration.
template <LinearOperator Op, class Derived, std::integral Rank>
[[nodiscard]] auto compensate(const Op& op, const Eigen::MatrixBase<Derived>& W, Rank rank,
                              const CompensateOptions<typename Op::Scalar>& options) {
  return compensate(op, W, rank, Calibration<typename Op::Scalar>(), options);
}
template <LinearOperator Op, class Derived>
[[nodiscard]] auto compensate(const Op& op, const Eigen::MatrixBase<Derived>& W,
                              const Budget& budget,
                              const CompensateOptions<typename Op::Scalar>& options) {
  return compensate(op, W, budget, Calibration<typename Op::Scalar>(), options);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
