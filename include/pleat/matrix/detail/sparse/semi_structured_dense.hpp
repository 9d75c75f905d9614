// SPDX-License-Identifier: MIT
// N:M matrices that are multiplied as dense ones, where that is faster.
#pragma once

#include "pleat/kernel/active.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/semi_structured_places.hpp"
#include "pleat/matrix/detail/sparse/semi_structured_product.hpp"

#include <cstddef>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Whether narrow values meet rounded activations as those of a dense matrix: where there is a
/// kernel for that, and none for the pattern.
template <Real T>
[[nodiscard]] bool is_rounded_as_dense(const NarrowPanels<T>& values, SparsePattern pattern) {
  return values.activations() != Activations::native && !has_sparse_dot(values, pattern) &&
         kernel::has_narrow_dot(kernel::active<T>().dots, values.format(),
                                kernel_activations(values.activations()));
}

/// The matrix `dense`, whose kept values these are, in the same narrow storage, bit for bit: a
/// group of columns has the scale of the kept values in it.
template <Real T>
[[nodiscard]] Dense<T> narrow_dense_form(const Matrix<T>& dense, const SemiStructuredPlaces& places,
                                         const NarrowPanels<T>& values) {
  const Index group = values.group();
  const SparsePattern pattern = places.pattern();
  const auto whole = [&]() -> Dense<T> {
    if (group == 0) return Dense<T>(dense, values.storage());
    Matrix<float> scales(places.rows(), (places.cols() + group - 1) / group);
    for (Index j = 0; j < scales.cols(); ++j)
      for (Index row = 0; row < scales.rows(); ++row)
        scales(row, j) = values.scale_of(row, j * group / pattern.group * pattern.kept);
    return Dense<T>(dense, values.storage(), scales, values.exponent(), values.numbers().levels());
  };
  return whole().with_activations(values.activations());
}

/// The matrix `dense()` as a dense one where that is faster than its kept values; else the empty
/// matrix. So are small ones, and narrow ones whose rounded activations have no kernel.
template <Real T, class Whole>
[[nodiscard]] Dense<T> faster_dense_form(const SemiStructuredPlaces& places, Storage storage,
                                         const NarrowPanels<T>& values, const Whole& dense) {
  if (is_narrow(storage))
    return is_rounded_as_dense(values, places.pattern())
               ? narrow_dense_form<T>(dense(), places, values)
               : Dense<T>();
  const bool is_small = kernel::active<T>().semi_structured_as_dense(
      kernel_pattern(places.pattern()), static_cast<std::size_t>(places.rows()),
      static_cast<std::size_t>(places.cols()));
  return is_small ? Dense<T>(dense()) : Dense<T>();
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
