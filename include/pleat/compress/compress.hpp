// SPDX-License-Identifier: MIT
// The front door of compression: compress<Structure>(W, budget, calibration, options).
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/detail/propagated.hpp"
#include "pleat/compress/detail/rotated.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/solve/metric/calibration.hpp"

namespace pleat {
inline namespace PLEAT_ABI {

/// How an operator type is made. Each header of structure/ specialises it for one, with
///
///     static Op run(const ConstMatrixRef<T>& W, const Budget&, const Calibration<T>&,
///                   const typename Op::Options&);
///
/// which is called with a finite matrix of at least one entry, and a calibration that fits it.
///
/// What makers share works in double, and yet is a template, of nothing: `template <class = void>`.
/// So a program compiles the makers that it uses, and not every decomposition that there is.
template <class Op>
struct Compressor;

namespace detail {

/// What is the same in all structures that have these options: said before any work is done, with
/// the storage that their levels make of theirs,
template <Real T, class Options>
[[nodiscard]] Options checked(Options options) {
  if constexpr (requires { options.levels; }) {
    options.storage = with_levels(options.storage, options.levels);
    options.levels = Levels::uniform;
  }
  if constexpr (requires { options.activations; })
    require_activations<T>(options.storage, options.activations);
  return options;
}
/// and done as it is made, and to what was made, by `make(weight, budget, calibration, options)`.
template <class Op, Real T, class Options, class Make>
[[nodiscard]] Op made_with(const Options& options, const ConstMatrixRef<T>& W, const Budget& budget,
                           const Calibration<T>& calibration, const Make& make) {
  Op op = [&] {
    if constexpr (requires { options.rotate; })
      if (options.rotate) return rotated<Op, T>(W, budget, calibration, options, make);
    return make(W, budget, calibration, options);
  }();
  if constexpr (requires { options.activations; })
    if (is_narrow(options.storage)) return op.with_activations(options.activations);
  return op;
}

}  // namespace detail

/// The closest Structure to W within the budget: W is m x n, any shape from 1 x 1 up.
///
/// Close means: in the metric of the calibration (see `relative_error`) with correlations shrunk as
/// its samples are few (see `Calibration::shrinkage`), or the Frobenius norm without one. Where its
/// samples are pairs of x and x' (see `Calibration::add`), What x' is close to W x: the structure
/// stands for weights that make up for x' as far as the samples are to be trusted (see
/// `detail::CrossFit`); an error below 1e-7, in float about 1e-6, is then not told from 0.
///
/// With `Options::rotate`, which structures in narrow storage have, it is made in rotated inputs,
/// and the rotation, a `Hadamard` in blocks of up to 128 with signs drawn from the seed, is part of
/// it: outliers among the weights of a row are spread over the values that share its scales.
///
/// Deterministic for a given seed, whatever the number of threads, and blind to the scale of W and
/// of the calibration's samples. Throws `std::invalid_argument` if W is empty or not finite, if the
/// calibration does not fit it, on options out of range, and if the budget cannot be met: the
/// message then says the smallest size that can, or the error that was reached. A compression that
/// its monitor stops returns what it has by then, even if its error is beyond the budget.
template <template <Real> class Structure, class Derived>
[[nodiscard]] auto compress(
    const Eigen::MatrixBase<Derived>& W, const Budget& budget,
    const Calibration<typename Derived::Scalar>& calibration = {},
    const typename Structure<typename Derived::Scalar>::Options& options = {}) {
  using T = typename Derived::Scalar;
  const ConstMatrixRef<T> weight(W.derived());
  detail::require_weight<T>(weight, calibration);
  [[maybe_unused]] const detail::SerialEigen serial;
  auto checked = detail::checked<T>(options);
  return detail::propagated<T>(weight, budget, calibration, options.monitor,
                               [&](const ConstMatrixRef<T>& target, const Budget& within,
                                   const Calibration<T>& seen, const Monitor& monitor) {
                                 checked.monitor = monitor;
                                 return detail::made_with<Structure<T>, T>(
                                     checked, target, within, seen, Compressor<Structure<T>>::run);
                               });
}

/// The same with options and no calibration.
template <template <Real> class Structure, class Derived>
[[nodiscard]] auto compress(const Eigen::MatrixBase<Derived>& W, const Budget& budget,
                            const typename Structure<typename Derived::Scalar>::Options& options) {
  return compress<Structure>(W, budget, Calibration<typename Derived::Scalar>(), options);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
