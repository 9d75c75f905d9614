// SPDX-License-Identifier: MIT
// Any N:M pattern: masks, and pruned weights in compressed rows.
#pragma once

#include "pleat/compress/detail/propagated.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/sparse_pattern.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `prune` works: as `SemiStructured::Options` says, with 2 sweeps and native storage.
struct PruneOptions {
  PruneCriterion criterion = PruneCriterion::automatic;
  bool refit = true;  ///< with a calibration, least squares of the kept values
  /// Without effect: nothing is random here.
  std::uint64_t seed = 0;
  Monitor monitor = {};
};

namespace detail {

/// The body of `prune`.
template <Real T>
[[nodiscard]] Csr<T> pruned(const ConstMatrixRef<T>& W, SparsePattern pattern,
                            const Calibration<T>& calibration, const PruneOptions& options,
                            const Monitor& monitor) {
  const PruneMethod method{
      options.criterion, options.refit, 2, {pattern.kept, (std::min)(pattern.group, W.cols())}};
  StopMonitor stop(monitor);
  const auto wide = WideMetric<>::of(calibration);
  const Matrix<double> St =
      wide ? prune_scaled(W, *wide, method, stop.monitor())
           : prune_scaled(W, fitting_gram(pruning_gram(W, calibration, method, {}, stop.monitor())),
                          method, stop.monitor());
  return Csr<T>(St.transpose().template cast<T>());
}

}  // namespace detail

/// W, m x n, pruned to a pattern in the metric of a calibration, as `compress<SemiStructured>` does
/// it: the sweep of SparseGPT, then operator splitting, then least squares of what is kept, and
/// group by group for groups of 4, 8, 16 and 32; without a calibration, the largest entries as they
/// are. With pairs of inputs (see `Calibration::add`), What x' is close to W x. Throws
/// `std::invalid_argument` if W is empty or not finite, if the calibration does not fit it, and
/// unless 1 <= kept <= group.
template <class Derived>
[[nodiscard]] auto prune(const Eigen::MatrixBase<Derived>& W, SparsePattern pattern,
                         const Calibration<typename Derived::Scalar>& calibration = {},
                         const PruneOptions& options = {}) {
  using T = typename Derived::Scalar;
  const ConstMatrixRef<T> weight(W.derived());
  detail::require(pattern.group >= 1, [&] {
    return "prune: a group has at least 1 column, not " + std::to_string(pattern.group);
  });
  detail::require(pattern.kept >= 1 && pattern.kept <= pattern.group, [&] {
    return "prune: " + std::to_string(pattern.kept) + " of " + std::to_string(pattern.group) +
           " columns cannot be kept";
  });
  detail::require(weight.size() > 0, [&] {
    return "prune: a " + detail::shape_text(weight.rows(), weight.cols()) + " matrix is empty";
  });
  detail::require_finite(weight, "the weights");
  calibration.require_fit(weight.rows(), weight.cols());
  [[maybe_unused]] const detail::SerialEigen serial;
  return detail::propagated<T>(weight, detail::any_size(), calibration, options.monitor,
                               [&](const ConstMatrixRef<T>& target, const Budget&,
                                   const Calibration<T>& seen, const Monitor& monitor) {
                                 return detail::pruned<T>(target, pattern, seen, options, monitor);
                               });
}

/// Where `prune` with these arguments keeps a weight, m x n.
template <class Derived>
[[nodiscard]] Matrix<bool> prune_mask(const Eigen::MatrixBase<Derived>& W, SparsePattern pattern,
                                      const Calibration<typename Derived::Scalar>& calibration = {},
                                      const PruneOptions& options = {}) {
  return (prune(W, pattern, calibration, options).to_dense().array() != 0).matrix();
}

}  // namespace PLEAT_ABI
}  // namespace pleat
