// SPDX-License-Identifier: MIT
// update and recompress: a weight of low rank takes up a change, or gives up a part of its rank,
// without a matrix of its size.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/factored_weight.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"
#include "pleat/solve/low_rank/rank_within.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/cross_fit.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `update` works.
struct UpdateOptions {
  /// The rank of the result; 0 takes that of the operator, or, where it has rank 0, of the change.
  Index rank = 0;
  /// How both factors are stored; without it as they are, or natively where the two differ.
  std::optional<Storage> storage = {};
  /// Seed of the randomized method, which only ranks beyond some 1000 need.
  std::uint64_t seed = 0;
  Monitor monitor = {};
};

/// How `recompress` works.
struct RecompressOptions {
  /// The rank of the result, at most that of the operator; 0 leaves it to the budget.
  Index rank = 0;
  /// How both factors are stored; without it as they are, or natively where the two differ.
  std::optional<Storage> storage = {};
  /// Seed of the randomized method, which only ranks beyond some 1000 need.
  std::uint64_t seed = 0;
  Monitor monitor = {};
};

namespace detail {

/// The factors of an operator, once they are found in order.
template <Real T>
[[nodiscard]] std::pair<Matrix<double>, Matrix<double>> finite_factors(const char* call,
                                                                       const LowRank<T>& op) {
  require(op.rows() > 0 && op.cols() > 0, [&] {
    return std::string(call) + ": a " + shape_text(op.rows(), op.cols()) + " operator is empty";
  });
  const Matrix<T> U = op.U().to_dense();
  const Matrix<T> V = op.V().to_dense();
  require_finite(U, "U of the operator");
  require_finite(V, "V of the operator");
  return {U.template cast<double>(), V.template cast<double>()};
}

template <Real T>
[[nodiscard]] Storage storage_of(const LowRank<T>& op, const std::optional<Storage>& wanted) {
  if (wanted) return require_storage<T>(*wanted);
  return op.U().storage() == op.V().storage() ? op.U().storage() : native_storage<T>;
}

/// The factors of this rank that stand for a factored weight; filled with zeros where it has less.
template <Real T>
[[nodiscard]] LowRank<T> pack_factored(const FactoredWeight<>& weight, LowRankSolver<>& solver,
                                       Index rank, Storage storage) {
  const Index found = (std::min)(rank, weight.most());
  auto [U, V] = solver.factors(found);
  weight.lift(U, V);
  U.conservativeResize(U.rows(), rank);
  V.conservativeResize(rank, V.cols());
  U.rightCols(rank - found).setZero();
  V.bottomRows(rank - found).setZero();
  return LowRank<T>(Dense<T>(U.template cast<T>(), storage),
                    Dense<T>(V.template cast<T>(), storage));
}

/// Factors that round activations as those of an operator do, where they are stored so that they
/// can.
template <Real T>
[[nodiscard]] LowRank<T> with_activations_of(const LowRank<T>& op, const LowRank<T>& made) {
  const auto as = [](const Dense<T>& factor, Activations activations) {
    return factor.meets(activations) ? factor.with_activations(activations) : factor;
  };
  return LowRank<T>(as(made.U(), op.U().activations()), as(made.V(), op.V().activations()));
}

/// The body of `recompress` for one operator and its metric.
template <Real T>
class Recompressor {
 public:
  Recompressor(const LowRank<T>& op, const Budget& budget, const Calibration<T>& calibration,
               const RecompressOptions& options)
      : op_(op),
        budget_(budget),
        calibration_(calibration),
        storage_(checked(op, budget, calibration, options)),
        rank_(options.rank),
        stop_(options.monitor),
        method_{SvdMethod::automatic, 0, 6, options.seed, stop_.monitor()} {}
  Recompressor(const Recompressor&) = delete;
  Recompressor& operator=(const Recompressor&) = delete;
  ~Recompressor() = default;

  [[nodiscard]] LowRank<T> run() {
    auto [U, V] = finite_factors("recompress", op_);
    const std::size_t limit = budget_.max_bytes(op_.rows(), op_.cols(), sizeof(T));
    const Index own = op_.rank();
    const Index fits = largest_rank(op_.rows(), op_.cols(), limit, storage_);
    if (own == 0 || (as_stored() && (rank_ == own || (rank_ == 0 && !budget_.bounds_error() &&
                                                      op_.bytes() <= limit))))
      return op_;
    const FactoredWeight<> weight(U, V);
    const Index most = weight.most();
    const Index asked = rank_ > 0 ? rank_ : (std::min)(fits, most);
    const auto steady = steadied(calibration_);
    const Calibration<T>& seen = steady ? *steady : calibration_;
    const std::optional<Calibration<T>> inner = seen_through(seen, weight.Q());
    const Calibration<T>& metric = inner ? *inner : seen;
    const Index likely = rank_ == 0 && budget_.bounds_error() ? (most + 3) / 4 : asked;
    const double shrinkage =
        low_rank_shrinkage(weight.E(), metric, (std::min)(likely, most), stop_.monitor());
    LowRankSolver<> solver(weight.E(), metric, shrinkage, method_);
    const auto make = [&](Index rank) {
      // All of the rank is the operator itself, without another rounding.
      return rank == own && as_stored() ? op_ : pack_factored<T>(weight, solver, rank, storage_);
    };
    if (!budget_.bounds_error()) return make(asked);

    const double wanted = budget_.max_error();
    const ProductDistance<> distance(std::move(U), std::move(V), calibration_);
    Index tried = 0;
    double reached = 1;
    const auto measure = [&](const LowRank<T>& made) {
      if (const Monitor monitor = stop_.monitor()) (void)monitor({"rank", ++tried, tried, reached});
      return distance.to(made.U().to_dense().template cast<double>(),
                         made.V().to_dense().template cast<double>());
    };
    const auto stopped = [&] { return stop_.stopped(); };
    Index rank = rank_ > 0 ? rank_
                           : rank_within(solver, weight.E(), metric, shrinkage, method_,
                                         sought_error<T>(wanted, most));
    LowRank<T> best = make(rank);
    reached = keep_promise<T>(wanted, storage_, rank_ > 0 ? rank : most, rank, best, make, measure,
                              stopped);
    const auto allowed = [&] { return allowed_error<T>(wanted, rank, most, storage_); };
    if (shrinkage > 0 && rank_ == 0 && reached <= allowed())
      take_no_more<T>(wanted, storage_, most, rank, best, reached, make, measure, stopped);
    require(reached <= allowed() || stop_.stopped(), [&] {
      return "recompress: " + budget_.text() + " cannot be met: rank " + std::to_string(rank) +
             " of " + std::to_string(own) + " is off by " + scientific(reached);
    });
    return best;
  }

 private:
  static Storage checked(const LowRank<T>& op, const Budget& budget,
                         const Calibration<T>& calibration, const RecompressOptions& options) {
    const Storage storage = storage_of(op, options.storage);
    const Index m = op.rows();
    const Index n = op.cols();
    calibration.require_fit(m, n);
    require_no_pairs("recompress", calibration);
    require(options.rank >= 0 && options.rank <= op.rank(), [&] {
      return "recompress: an operator of rank " + std::to_string(op.rank()) +
             " cannot be cut to rank " + std::to_string(options.rank);
    });
    const std::size_t limit = budget.max_bytes(m, n, sizeof(T));
    const Index least = options.rank > 0 ? options.rank : (std::min)(Index{1}, op.rank());
    const std::size_t smallest = low_rank_bytes(m, n, least, storage);
    require(smallest <= limit, [&] {
      return "recompress: " + budget.text() + " of a " + shape_text(m, n) + " matrix allows " +
             std::to_string(limit) + " bytes, but rank " + std::to_string(least) + " needs " +
             std::to_string(smallest);
    });
    return storage;
  }

  /// Whether the operator, whose rotation takes bytes as well, may be the result as it is stored.
  [[nodiscard]] bool as_stored() const {
    return op_.U().storage() == storage_ && op_.V().storage() == storage_ &&
           op_.bytes() <= budget_.max_bytes(op_.rows(), op_.cols(), sizeof(T));
  }

  /// The calibration with Q^T P Q for P: outputs are what Q takes them to. Nothing where outputs
  /// are not weighted, or Q has none that is.
  [[nodiscard]] static std::optional<Calibration<T>> seen_through(const Calibration<T>& seen,
                                                                  const Matrix<double>& Q) {
    Matrix<double> PQ;
    if (seen.row_weights().size() > 0)
      PQ = (seen.row_weights() / seen.row_weights().maxCoeff()).asDiagonal() * Q;
    else if (seen.output_metric().size() > 0)
      PQ = multiply(seen.output_metric() / seen.output_metric().diagonal().maxCoeff(), Q);
    else return std::nullopt;
    Matrix<double> P = symmetric_part(multiply(Q.transpose(), PQ));
    if (!(P.diagonal().maxCoeff() > 0)) P.setIdentity();
    Calibration<T> inner = seen;
    inner.output_metric(P);
    return inner;
  }

  const LowRank<T>& op_;
  const Budget& budget_;
  const Calibration<T>& calibration_;
  Storage storage_;
  Index rank_;
  StopMonitor stop_;
  LowRankMethod method_;
};

}  // namespace detail

/// The operator of U V + dU dV, dU: m x s and dV: s x n: the closest of the rank asked for, which
/// is the sum itself where its rank is no more. Of the rank that the operator had by default, so
/// that any number of changes, such as low-rank adapters (LoRA) or the steps of an online fit, are
/// taken up at no more bytes; what each of them gives up is the smallest singular values.
///
/// The columns of one factor are orthonormal but for their common scale, so nothing drifts: in
/// double, hundreds of changes that fit into the rank are as exact as one. Factors in narrow
/// storage are read as they are, and the result is rounded anew; activations stay rounded.
///
/// Cost: 4 m (r + s)^2 + 4 n (r + s)^2 multiply-adds, and an eigendecomposition of r + s; never an
/// m x n matrix. Throws `std::invalid_argument` if the shapes do not fit, if a factor or the change
/// is not finite, if the operator is empty, and if the rank is not in 0 ... min(m, n).
///
/// Source: H. Zha and H. Simon 1999; M. Brand 2006, section 2: the additive modification.
template <Real T, class Left, class Right>
[[nodiscard]] LowRank<T> update(const LowRank<T>& op, const Eigen::MatrixBase<Left>& dU,
                                const Eigen::MatrixBase<Right>& dV,
                                const UpdateOptions& options = {}) {
  static_assert(std::same_as<typename Left::Scalar, T> && std::same_as<typename Right::Scalar, T>,
                "the change has the scalar type of the operator");
  const Index m = op.rows();
  const Index n = op.cols();
  detail::require(dU.rows() == m && dV.cols() == n && dU.cols() == dV.rows(), [&] {
    return "update: a change of " + detail::shape_text(dU.rows(), dU.cols()) + " times " +
           detail::shape_text(dV.rows(), dV.cols()) + " does not fit the " +
           detail::shape_text(m, n) + " operator";
  });
  const Index least = (std::min)(m, n);
  detail::require(options.rank >= 0 && options.rank <= least, [&] {
    return "update: a " + detail::shape_text(m, n) + " matrix has no rank " +
           std::to_string(options.rank);
  });
  const Storage storage = detail::storage_of(op, options.storage);
  const auto [U, V] = detail::finite_factors("update", op);
  detail::require_finite(dU, "dU");
  detail::require_finite(dV, "dV");
  [[maybe_unused]] const detail::SerialEigen serial;
  Matrix<double> left = dU.template cast<double>();
  Matrix<double> right = dV.transpose().template cast<double>();
  const detail::FactoredWeight<> weight(detail::side_by_side(U, left),
                                        detail::side_by_side(V.transpose(), right).transpose());
  const Index kept = op.rank() > 0 ? op.rank() : dU.cols();
  const Index rank = options.rank > 0 ? options.rank : (std::min)(kept, least);
  if (weight.most() == 0)
    return LowRank<T>(Dense<T>(Matrix<T>::Zero(m, rank), storage),
                      Dense<T>(Matrix<T>::Zero(rank, n), storage));
  detail::StopMonitor stop(options.monitor);
  const Calibration<double> plain;
  detail::LowRankSolver<> solver(weight.E(), plain, 0,
                                 {SvdMethod::automatic, 0, 6, options.seed, stop.monitor()});
  return detail::with_activations_of(op, detail::pack_factored<T>(weight, solver, rank, storage));
}

/// The operator with as much of its rank as a budget allows: of all factors of that rank the
/// closest to U V in the metric of a calibration, or in the Frobenius norm without one. `keep` is
/// of m n values, and `error` bounds
///
///     || P^(1/2) (U V - What) X ||_F / || P^(1/2) U V X ||_F,
///
/// that is, it is relative to the operator, whatever the operator stands for. After `update` with
/// rank r + s this is LoRA-Squeeze (merge the adapter, then cut), and a trained pair of factors is
/// cut to a smaller machine. An operator that meets the budget is returned as it is.
///
/// U V = Q E with Q orthonormal and E: r x n (see `detail::FactoredWeight`), so the work is that of
/// `compress<LowRank>` for an r x n matrix, its shrinkage too, and one of rank r is never made
/// m x n. Narrow factors are read as they are, and the result is rounded anew.
///
/// Throws `std::invalid_argument` if a factor is not finite, if the operator is empty, if the
/// calibration does not fit or is one of pairs of inputs (see `Calibration::add`), on a rank that
/// is more than the operator's, and on a budget that even rank 1 exceeds, or that the rank asked
/// for does.
template <Real T>
[[nodiscard]] LowRank<T> recompress(const LowRank<T>& op, const Budget& budget,
                                    const Calibration<T>& calibration = {},
                                    const RecompressOptions& options = {}) {
  [[maybe_unused]] const detail::SerialEigen serial;
  return detail::with_activations_of(
      op, detail::Recompressor<T>(op, budget, calibration, options).run());
}
/// The same with options and no calibration.
template <Real T>
[[nodiscard]] LowRank<T> recompress(const LowRank<T>& op, const Budget& budget,
                                    const RecompressOptions& options) {
  return recompress(op, budget, Calibration<T>(), options);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
