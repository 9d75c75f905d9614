// SPDX-License-Identifier: MIT
// compress_shared: one operator for matrices that see the same inputs; which of them go together.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/low_rank/shared_spectrum.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/cross_fit.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/metric_root.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// What the error of several matrices is: one sum over all, or one in which each counts the same.
enum class SharedLoss : std::uint8_t {
  total,     ///< sum over l of || P^(1/2) (W_l - What_l) X ||_F^2, as of the stack
  relative,  ///< each term divided by || P^(1/2) W_l X ||_F^2: a small matrix matters as a large
             ///< one
};

/// One operator for several matrices, stacked by rows: y of matrix l are the rows from
/// `first_rows[l]` on.
template <LinearOperator Op>
struct Shared {
  Op op;
  /// The first row of each matrix in the stack, ascending from 0.
  std::vector<Index> first_rows;

  /// Number of matrices.
  [[nodiscard]] Index matrices() const { return static_cast<Index>(first_rows.size()); }
  /// Rows of matrix l.
  [[nodiscard]] Index rows(Index l) const {
    const auto next = static_cast<std::size_t>(l + 1);
    return (next < first_rows.size() ? first_rows[next] : Index{op.rows()}) -
           first_rows[static_cast<std::size_t>(l)];
  }
};

namespace detail {

/// The stack of matrices of one width, and where each begins.
template <Real T>
struct Stack {
  Matrix<T> W{};
  std::vector<Index> first_rows{};

  template <class Matrices>
  Stack(const char* call, const Matrices& matrices) {
    require(matrices.size() > 0,
            [&] { return std::string(call) + ": there are no matrices to share"; });
    const Index n = matrices.begin()->cols();
    Index m = 0;
    for (const auto& matrix : matrices) {
      const std::string which = "matrix " + std::to_string(first_rows.size());
      require(matrix.cols() == n, [&] {
        return std::string(call) + ": " + which + " is " +
               shape_text(matrix.rows(), matrix.cols()) + ", but the inputs that all share are " +
               std::to_string(n);
      });
      require(matrix.size() > 0, [&] {
        return std::string(call) + ": " + which + ", " + shape_text(matrix.rows(), n) +
               ", is empty";
      });
      require_finite(matrix, "the weights of " + which);
      first_rows.push_back(m);
      m += matrix.rows();
    }
    W.resize(m, n);
    auto at = first_rows.begin();
    for (const auto& matrix : matrices) W.middleRows(*at++, matrix.rows()) = matrix;
  }

  [[nodiscard]] Index rows(std::size_t l) const {
    return (l + 1 < first_rows.size() ? first_rows[l + 1] : W.rows()) - first_rows[l];
  }
};

/// What each matrix of a stack is multiplied by so that its norm in the metric is 1, but for a
/// common scale; one that is 0 in it as the one that is multiplied by most.
template <Real T>
[[nodiscard]] Vector<double> balancing_scales(const Stack<T>& stack,
                                              const Calibration<T>& calibration) {
  const Matrix<double> weight = stack.W.template cast<double>();
  const Matrix<double> WS = MetricRoot<>::of_inputs(CalibrationAccess::originals(calibration))
                                .after(weight / power_of_two_below(weight.cwiseAbs().maxCoeff()));
  const auto count = static_cast<Index>(stack.first_rows.size());
  Vector<double> scales(count);
  for (Index l = 0; l < count; ++l) {
    const Index first = stack.first_rows[static_cast<std::size_t>(l)];
    const Index rows = stack.rows(static_cast<std::size_t>(l));
    const Matrix<double> own = WS.middleRows(first, rows);
    double square = own.squaredNorm();
    if (calibration.row_weights().size() > 0)
      square = calibration.row_weights().segment(first, rows).dot(own.rowwise().squaredNorm()) /
               calibration.row_weights().maxCoeff();
    if (calibration.output_metric().size() > 0) {
      const Matrix<double>& P = calibration.output_metric();
      square = own.cwiseProduct(multiply(P.block(first, first, rows, rows), own)).sum() /
               P.diagonal().maxCoeff();
    }
    scales(l) = square > 0 ? 1 / std::sqrt(square) : 0;
  }
  const double most = scales.maxCoeff();
  if (!(most > 0)) return Vector<double>::Ones(count);
  return scales.unaryExpr([=](double scale) { return scale > 0 ? scale / most : 1; });
}

/// The calibration in which each matrix of a stack counts the same.
template <Real T>
[[nodiscard]] Calibration<T> balanced(const Stack<T>& stack, Calibration<T> calibration) {
  const Vector<double> scales = balancing_scales(stack, calibration);
  Vector<double> rows(stack.W.rows());
  for (std::size_t l = 0; l < stack.first_rows.size(); ++l)
    rows.segment(stack.first_rows[l], stack.rows(l)).setConstant(scales(static_cast<Index>(l)));
  if (calibration.output_metric().size() > 0) {
    const Matrix<double> P = rows.asDiagonal() * calibration.output_metric() * rows.asDiagonal();
    calibration.output_metric(P);
  } else {
    Vector<double> weights = rows.cwiseAbs2();
    if (calibration.row_weights().size() > 0)
      weights = weights.cwiseProduct(calibration.row_weights()).eval();
    calibration.row_weights(weights);
  }
  return calibration;
}

template <template <Real> class Structure, class Matrices, Real T>
[[nodiscard]] auto compress_stack(const Matrices& matrices, const Budget& budget,
                                  const Calibration<T>& calibration,
                                  const typename Structure<T>::Options& options, SharedLoss loss) {
  require(loss <= SharedLoss::relative,
          [] { return std::string("compress_shared: unknown loss"); });
  Stack<T> stack("compress_shared", matrices);
  calibration.require_fit(stack.W.rows(), stack.W.cols());
  [[maybe_unused]] const SerialEigen serial;
  if (loss == SharedLoss::relative)
    return Shared<Structure<T>>{
        compress<Structure>(stack.W, budget, balanced(stack, calibration), options),
        std::move(stack.first_rows)};
  return Shared<Structure<T>>{compress<Structure>(stack.W, budget, calibration, options),
                              std::move(stack.first_rows)};
}

/// Directions beyond the rank that are held of each group.
inline constexpr Index shared_spare = 5;

/// The leading parts of matrices in the metric of a calibration, each with its own rows of weights.
template <class Matrices, Real T>
[[nodiscard]] std::vector<SharedSpectrum<>> leading_parts(const char* call,
                                                          const Matrices& matrices, Index rank,
                                                          const Calibration<T>& calibration,
                                                          SharedLoss loss,
                                                          const LowRankMethod& method) {
  const Stack<T> stack(call, matrices);
  const Index n = stack.W.cols();
  calibration.require_fit(stack.W.rows(), n);
  require_no_pairs(call, calibration);
  require(rank >= 1 && rank <= (std::min)(stack.W.rows(), n), [&] {
    return std::string(call) + ": a stack of " + shape_text(stack.W.rows(), n) + " has no rank " +
           std::to_string(rank);
  });
  require(loss <= SharedLoss::relative, [&] { return std::string(call) + ": unknown loss"; });
  require(calibration.output_metric().size() == 0, [&] {
    return std::string(call) + ": an output metric ties the matrices together; row weights do not";
  });
  const MetricRoot<> inputs = MetricRoot<>::of_inputs(calibration);
  const double scale = power_of_two_below(static_cast<double>(stack.W.cwiseAbs().maxCoeff()));
  std::vector<SharedSpectrum<>> parts;
  for (std::size_t l = 0; l < stack.first_rows.size(); ++l) {
    const Index first = stack.first_rows[l];
    Matrix<double> M =
        inputs.after(stack.W.middleRows(first, stack.rows(l)).template cast<double>() / scale);
    if (calibration.row_weights().size() > 0)
      M = (calibration.row_weights().segment(first, M.rows()) /
           calibration.row_weights().maxCoeff())
              .cwiseSqrt()
              .asDiagonal() *
          M;
    parts.push_back(SharedSpectrum<>(M, rank + shared_spare, method));
    if (loss == SharedLoss::relative && parts.back().energy() > 0)
      parts.back().scale(1 / std::sqrt(parts.back().energy()));
  }
  return parts;
}

}  // namespace detail

/// One Structure for several matrices with the same inputs, such as the queries, keys and values of
/// an attention, gate and up of a gated layer, or experts: `compress<Structure>` of the matrices
/// stacked by rows. What they have in common, a row space or a dictionary, is stored once, and one
/// `apply` computes all of their outputs (Basis Sharing: Wang et al., arXiv 2410.03765, on the
/// outputs' side). `keep` and `bytes` are of all together, and so is `error`, which is
///
///     sqrt(sum over l of || P^(1/2) (W_l - What_l) X ||_F^2 / sum of || P^(1/2) W_l X ||_F^2),
///
/// or, for `SharedLoss::relative`, the root of the mean square of the relative errors of each. The
/// calibration is of the common inputs; its output weights are of all rows of the stack.
///
/// Throws what `compress` throws, and `std::invalid_argument` if there are no matrices, if one is
/// empty or not finite or has other columns than the first, naming it by its place from 0.
template <template <Real> class Structure, class M>
[[nodiscard]] auto compress_shared(
    std::initializer_list<M> matrices, const Budget& budget,
    const Calibration<typename M::Scalar>& calibration = {},
    const typename Structure<typename M::Scalar>::Options& options = {},
    SharedLoss loss = SharedLoss::total) {
  return detail::compress_stack<Structure>(matrices, budget, calibration, options, loss);
}
template <template <Real> class Structure, class M>
[[nodiscard]] auto compress_shared(
    const std::vector<M>& matrices, const Budget& budget,
    const Calibration<typename M::Scalar>& calibration = {},
    const typename Structure<typename M::Scalar>::Options& options = {},
    SharedLoss loss = SharedLoss::total) {
  return detail::compress_stack<Structure>(matrices, budget, calibration, options, loss);
}

/// At least the relative error that low rank of this rank has for the stack of matrices,
///
///     sqrt(sum over i > rank of sigma_i^2 / sum of sigma_i^2),   sigma of P^(1/2) (W_1; W_2; ...)
///     X,
///
/// from the leading rank + 5 directions of each, stacked one after the other: the error itself
/// where the stack has no higher rank than that. The metric is that of the calibration as it is;
/// what makers make in the shrunk one is somewhat farther in it.
///
/// Cost: m_l n min(m_l, n) multiply-adds for each matrix, and for the stack only n (rank + 5)^2.
/// Throws `std::invalid_argument` for matrices as `compress_shared` does, for a rank that the stack
/// does not have, for an output metric, which knows no single matrices, and for pairs of inputs
/// (see `Calibration::add`).
template <class M>
[[nodiscard]] double shared_error_bound(const std::vector<M>& matrices, Index rank,
                                        const Calibration<typename M::Scalar>& calibration = {},
                                        SharedLoss loss = SharedLoss::total) {
  [[maybe_unused]] const detail::SerialEigen serial;
  const detail::LowRankMethod method;
  const auto parts =
      detail::leading_parts("shared_error_bound", matrices, rank, calibration, loss, method);
  detail::SharedSpectrum<> all = parts.front();
  for (std::size_t l = 1; l < parts.size(); ++l)
    all = all.with(parts[l], rank + detail::shared_spare, method);
  return all.error(rank, method);
}
template <class M>
[[nodiscard]] double shared_error_bound(std::initializer_list<M> matrices, Index rank,
                                        const Calibration<typename M::Scalar>& calibration = {},
                                        SharedLoss loss = SharedLoss::total) {
  return shared_error_bound(std::vector<M>(matrices), rank, calibration, loss);
}

/// How `shared_groups` works.
struct SharedGroupsOptions {
  SharedLoss loss = SharedLoss::total;
  /// So many matrices in a row that do not fit into a group close it.
  Index patience = 10;
  /// Seed of the randomized method, which only large matrices need.
  std::uint64_t seed = 0;
  /// Told of each group; when it stops, what is left are groups of one.
  Monitor monitor = {};
};

/// Which of several matrices may share a basis: groups of their indices, such that low rank of this
/// rank for the stack of a group has a relative error of at most `max_error`, by the bound of
/// `shared_error_bound`. A matrix that misses it even by itself is a group of one. Each matrix is
/// in exactly one group; indices ascend in a group, and groups by their first.
///
/// Greedy: a group begins with the matrix of the largest norm among those that are left, and tries
/// those that are left in the order of what the group's directions leave of them, the least first.
///
/// Cost: that of `shared_error_bound`, and n (rank + 5)^2 multiply-adds for each attempt, of which
/// there are at most `patience` beyond those that succeed, a group. Throws what
/// `shared_error_bound` throws, and if `max_error` is negative or no number, or `patience` is less
/// than 1.
template <class M>
[[nodiscard]] std::vector<std::vector<Index>> shared_groups(
    const std::vector<M>& matrices, Index rank, double max_error,
    const Calibration<typename M::Scalar>& calibration = {},
    const SharedGroupsOptions& options = {}) {
  detail::require(is_finite(max_error) && max_error >= 0, [&] {
    return "shared_groups: the relative error must be 0 or more, not " + std::to_string(max_error);
  });
  detail::require(options.patience >= 1, [&] {
    return "shared_groups: patience must be at least 1, not " + std::to_string(options.patience);
  });
  [[maybe_unused]] const detail::SerialEigen serial;
  detail::LowRankMethod method;
  method.seed = options.seed;
  const auto parts =
      detail::leading_parts("shared_groups", matrices, rank, calibration, options.loss, method);
  const auto part = [&](Index l) -> const auto& { return parts[static_cast<std::size_t>(l)]; };
  std::vector<Index> left(parts.size());
  for (std::size_t l = 0; l < left.size(); ++l) left[l] = static_cast<Index>(l);
  std::stable_sort(left.begin(), left.end(),
                   [&](Index a, Index b) { return part(a).energy() > part(b).energy(); });
  detail::StopMonitor stop(options.monitor);
  const Monitor monitor = stop.monitor();
  std::vector<std::vector<Index>> groups;
  while (!left.empty()) {
    std::vector<Index> group{left.front()};
    left.erase(left.begin());
    detail::SharedSpectrum<> held = part(group.front());
    Index misses = stop.stopped() ? options.patience : 0;
    if (held.error(rank, method) > max_error) misses = options.patience;
    std::vector<Index> refused;  // since the group last grew: what it leaves of them is as it was
    while (misses < options.patience) {
      // What the directions of the group leave of the others.
      const Matrix<double> basis = detail::thin_qr(Matrix<double>(held.leading().transpose())).Q;
      Index best = -1;
      double least = std::numeric_limits<double>::infinity();
      for (const Index l : left) {
        if (std::find(refused.begin(), refused.end(), l) != refused.end()) continue;
        const double rest =
            part(l).energy() - detail::multiply(part(l).leading(), basis).squaredNorm();
        if (rest < least) {
          least = rest;
          best = l;
        }
      }
      if (best < 0) break;
      auto grown = held.with(part(best), rank + detail::shared_spare, method);
      if (grown.error(rank, method) <= max_error) {
        held = std::move(grown);
        group.push_back(best);
        left.erase(std::find(left.begin(), left.end(), best));
        refused.clear();
        misses = 0;
      } else {
        refused.push_back(best);
        ++misses;
      }
    }
    std::sort(group.begin(), group.end());
    groups.push_back(std::move(group));
    if (monitor)
      (void)monitor({"groups", static_cast<Index>(groups.size()),
                     static_cast<Index>(groups.size() + left.size()), 1});
  }
  std::sort(groups.begin(), groups.end());
  return groups;
}
template <class M>
[[nodiscard]] std::vector<std::vector<Index>> shared_groups(
    std::initializer_list<M> matrices, Index rank, double max_error,
    const Calibration<typename M::Scalar>& calibration = {},
    const SharedGroupsOptions& options = {}) {
  return shared_groups(std::vector<M>(matrices), rank, max_error, calibration, options);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
