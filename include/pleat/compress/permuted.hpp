// SPDX-License-Identifier: MIT
// N:M after the columns were put in an order that keeps more.
#pragma once

#include "pleat/compress/detail/propagated.hpp"
#include "pleat/compress/structure/semi_structured.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/matrix/permutation.hpp"
#include "pleat/solve/linear/random.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// An order of n columns in which N:M keeps more of the sum of squares of `scores`, n x m: swaps of
/// two columns of different groups, drawn at random, that gain. Cost: about 1e9 operations at most.
template <class = void>
[[nodiscard]] std::vector<Index> kept_energy_order(const Matrix<double>& scores,
                                                   SparsePattern pattern, std::uint64_t seed) {
  const Index width = pattern.group;
  const Index n = scores.rows();
  const Index m = scores.cols();
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  const Index groups = (n + width - 1) / width;
  if (groups < 2 || m == 0) return order;
  const Matrix<double> energy = scores.cwiseAbs2().transpose();  // m x n: columns are contiguous
  const Vector<double> nothing = Vector<double>::Zero(m);
  // What the group keeps with `other` in the place of its member `left`; -1 for none.
  const auto kept = [&](Index group, Index left, Index other) {
    const double* columns[32];
    for (Index k = 0; k < width; ++k) {
      const Index position = width * group + k;
      const Index column = position == left ? other
                           : position < n   ? order[static_cast<std::size_t>(position)]
                                            : -1;
      columns[k] = column < 0 ? nothing.data() : &energy(0, column);
    }
    double sum = 0;
    if (pattern != SparsePattern{2, 4}) {
      double values[32];
      for (Index row = 0; row < m; ++row) {
        for (Index k = 0; k < width; ++k) values[k] = columns[k][row];
        std::nth_element(values, values + pattern.kept - 1, values + width, std::greater<>());
        for (Index k = 0; k < pattern.kept; ++k) sum += values[k];
      }
      return sum;
    }
    for (Index row = 0; row < m; ++row) {
      const double a = columns[0][row];
      const double b = columns[1][row];
      const double c = columns[2][row];
      const double d = columns[3][row];
      const double high = (std::max)(a, b);
      const double low = (std::min)(a, b);
      const double other_high = (std::max)(c, d);
      const double other_low = (std::min)(c, d);
      sum += (std::max)(high, other_high) +
             (std::max)((std::min)(high, other_high), (std::max)(low, other_low));
    }
    return sum;
  };
  Vector<double> held(groups);
  for (Index group = 0; group < groups; ++group) held(group) = kept(group, -1, -1);
  Random random(seed);
  const auto draw = [&](Index count) {
    return static_cast<Index>(random.bits() % static_cast<std::uint64_t>(count));
  };
  const auto trials =
      static_cast<Index>((std::min)(8.0 * double(n) * double(n), 5e7 / double(m) + 16 * double(n)));
  for (Index trial = 0; trial < trials; ++trial) {
    const Index i = draw(n);
    const Index j = draw(n);
    if (i / width == j / width) continue;
    Index& first = order[static_cast<std::size_t>(i)];
    Index& second = order[static_cast<std::size_t>(j)];
    const double left = kept(i / width, i, second);
    const double right = kept(j / width, j, first);
    if (left + right <= (held(i / width) + held(j / width)) * (1 + 1e-12)) continue;
    std::swap(first, second);
    held(i / width) = left;
    held(j / width) = right;
  }
  return order;
}

/// The body of `compress_permuted`.
template <Real T>
[[nodiscard]] Product<SemiStructured<T>, Permutation<T>> permuted(
    const ConstMatrixRef<T>& weight, const Budget& budget, const Calibration<T>& calibration,
    const typename SemiStructured<T>::Options& given, const Monitor& monitor) {
  const auto options = checked<T>(given);
  require(!options.rotate, [] {
    return std::string("compress_permuted: inputs are permuted or rotated, but not both");
  });
  const Index n = weight.cols();
  std::vector<Index> identity(static_cast<std::size_t>(n));
  std::iota(identity.begin(), identity.end(), Index{0});
  const Permutation<T> as_given(identity);
  const PatternChoice choice = chosen_pattern<T>(
      "SemiStructured", weight.rows(), n, budget, as_given.bytes(), options.pattern, options.places,
      options.target, require_storage<T>(options.storage), options.activations,
      " with a permutation");
  require_weight<T>(weight, calibration);
  StopMonitor stop(monitor);
  const PruneMethod method = prune_method(options, choice.pattern);
  // Shrunk once, for both orders.
  const auto wide = WideMetric<>::of(calibration);
  const Matrix<double> H =
      wide ? Matrix<double>()
           : fitting_gram(pruning_gram(weight, calibration, method,
                                       Grid::of(options.storage, choice.pattern), stop.monitor()));
  const auto pruned = [&](const ConstMatrixRef<T>& W, const auto& metric) {
    auto S = pruned_semi_structured(W, metric, method, choice, options.storage, stop);
    return is_narrow(options.storage) ? S.with_activations(options.activations) : S;
  };
  const auto as_it_is = wide ? pruned(weight, *wide) : pruned(weight, H);
  Product<SemiStructured<T>, Permutation<T>> result(as_it_is, as_given);
  double reached = relative_error(weight, result, calibration);

  const Matrix<double> Wt = weight.transpose().template cast<double>();
  const Matrix<double> scaled = Wt / power_of_two_below(Wt.cwiseAbs().maxCoeff());
  const std::vector<Index> order = kept_energy_order(
      scores(H, wide ? Matrix<double>(wide->diagonal().cwiseSqrt().asDiagonal() * scaled) : scaled,
             PruneCriterion::wanda),
      choice.pattern, options.seed);
  if (order != identity && !stop.stopped()) {
    Matrix<T> ordered(weight.rows(), n);
    for (Index j = 0; j < n; ++j) ordered.col(j) = weight.col(order[static_cast<std::size_t>(j)]);
    const auto pruned_in_order = [&] {
      if (!wide) return pruned(ordered, H.size() == 0 ? H : Matrix<double>(H(order, order)));
      const Matrix<T> samples = calibration.held_samples()(order, Eigen::all);
      return pruned(ordered, WideMetric<>::of_samples(samples.template cast<double>(),
                                                      calibration.shrinkage()));
    };
    Product<SemiStructured<T>, Permutation<T>> candidate(pruned_in_order(), Permutation<T>(order));
    const double error = relative_error(weight, candidate, calibration);
    if (error < reached) {
      reached = error;
      result = candidate;
    }
  }
  require(reached <= budget.max_error() || stop.stopped(), [&] {
    return "compress_permuted: " + budget.text() + " cannot be met: " + to_string(choice.pattern) +
           " has relative error " + scientific(reached);
  });
  return result;
}

}  // namespace detail

/// N:M of W with its columns in another order, times the permutation of the inputs that undoes it:
///
///     What = S P,   S close to W P^T,
///
/// where P is searched such that the groups keep as much as possible of w_ij^2 d_j, d_j the sum of
/// squares of input j (Pool and Yu, "Channel permutations for N:M sparsity", NeurIPS 2021). Where
/// that does not lower the error of `compress<SemiStructured>`, P is the identity: never worse, at
/// two bytes an input more. Cost: twice `compress<SemiStructured>`, and up to some seconds of
/// search. With pairs of inputs (see `Calibration::add`), What x' is close to W x. Throws what
/// `compress` throws.
template <class Derived>
[[nodiscard]] auto compress_permuted(
    const Eigen::MatrixBase<Derived>& W, const Budget& budget,
    const Calibration<typename Derived::Scalar>& calibration = {},
    const typename SemiStructured<typename Derived::Scalar>::Options& options = {}) {
  using T = typename Derived::Scalar;
  const ConstMatrixRef<T> weight(W.derived());
  [[maybe_unused]] const detail::SerialEigen serial;
  return detail::propagated<T>(weight, budget, calibration, options.monitor,
                               [&](const ConstMatrixRef<T>& target, const Budget& within,
                                   const Calibration<T>& seen, const Monitor& monitor) {
                                 return detail::permuted<T>(target, within, seen, options, monitor);
                               });
}

}  // namespace PLEAT_ABI
}  // namespace pleat
