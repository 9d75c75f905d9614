// SPDX-License-Identifier: MIT
// The weight itself: what remains where no structure helps.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/matrix/dense.hpp"

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Dense>: W, packed for the kernels; its error is 0. A budget below m n values throws.
template <Real T>
struct Compressor<Dense<T>> {
  static Dense<T> run(const ConstMatrixRef<T>& W, const Budget& budget, const Calibration<T>&,
                      const typename Dense<T>::Options& options) {
    Dense<T> dense(W);
    detail::require_budget("Dense", W.rows(), W.cols(), budget, sizeof(T), dense.bytes(),
                           "the matrix");
    if (options.monitor) (void)options.monitor({"pack", 1, 1, 0});
    return dense;
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
