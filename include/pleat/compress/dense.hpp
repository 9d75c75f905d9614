// SPDX-License-Identifier: MIT
// The weight itself: what remains where no structure helps.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/matrix/dense.hpp"

#include <cstddef>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Dense>: W, packed for the kernels, each value rounded to the nearest that
/// `Options::storage` has; in the native storage the error is 0. A budget below its bytes throws.
template <Real T>
struct Compressor<Dense<T>> {
  static Dense<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                      const Calibration<T>& calibration,
                      const typename Dense<T>::Options& options) {
    const Storage storage = detail::require_storage<T>(options.storage);
    detail::require_budget(
        "Dense", W.rows(), W.cols(), budget, sizeof(T),
        static_cast<std::size_t>(W.rows()) * row_bytes(storage, static_cast<std::size_t>(W.cols())),
        "the matrix");
    Dense<T> dense(W, storage);
    if (budget.bounds_error() && is_narrow(storage)) {
      const double reached = relative_error(W, dense, calibration);
      detail::require(reached <= budget.max_error(), [&] {
        return "compress<Dense>: " + budget.text() + " cannot be met: stored as " +
               std::string(to_string(storage)) + ", the matrix has relative error " +
               detail::scientific(reached);
      });
    }
    if (options.monitor) (void)options.monitor({"pack", 1, 1, 0});
    return dense;
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
