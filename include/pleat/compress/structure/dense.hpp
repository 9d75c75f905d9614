// SPDX-License-Identifier: MIT
// The weight itself: what remains where no structure helps.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/wide_metric.hpp"
#include "pleat/solve/sparse/rounded_weights.hpp"
#include "pleat/solve/sparse/sparse_shrinkage.hpp"

#include <cstddef>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Dense>: W, packed for the kernels, in the storage of `Options::storage`; in the native
/// one the error is 0. A budget below its bytes throws.
///
/// Each value is rounded to the nearest; but in int8 to int2, with a calibration, in a sweep over
/// the columns in which the later ones make up for the rounding of the earlier ones (Frantar et
/// al., "GPTQ", ICLR 2023), and then improved one by one, and their scales (Behdin et al.,
/// "QuantEase", 2023): never worse than the nearest in the metric of the inputs, shrunk (see
/// `Calibration::shrinkage`). Row weights and output metrics do not change the result; see
/// `Compressor<SemiStructured<T>>`. Of 4096 inputs or more, while the calibration holds no more
/// than n / 8 samples, to the nearest. Cost: at most some 15 products of m n^2.
template <Real T>
struct Compressor<Dense<T>> {
  static Dense<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                      const Calibration<T>& calibration,
                      const typename Dense<T>::Options& options) {
    const Storage storage = detail::require_storage<T>(options.storage);
    detail::require_budget("Dense", W.rows(), W.cols(), budget, sizeof(T),
                           matrix_bytes(storage, static_cast<std::size_t>(W.rows()),
                                        static_cast<std::size_t>(W.cols())),
                           "the matrix");
    Dense<T> dense(W, storage);
    detail::StopMonitor stop(options.monitor);
    bool told = false;
    if (const auto grid = detail::Grid::of(storage); grid.span > 0) {
      const Matrix<double> H =
          detail::WideMetric<>::of(calibration)
              ? Matrix<double>()
              : detail::fitting_gram(detail::rounding_gram(W, calibration, grid, stop.monitor()));
      if (H.size() > 0) {
        const Matrix<double> Wt = W.transpose().template cast<double>();
        dense = detail::rounded(std::move(dense), H, Wt, Wt, false, grid, stop.monitor());
        told = true;
      }
    }
    if (budget.bounds_error() && is_narrow(storage) && !stop.stopped()) {
      const double reached = pleat::relative_error(W, dense, calibration);
      detail::require(reached <= budget.max_error(), [&] {
        return "compress<Dense>: " + budget.text() + " cannot be met: stored as " +
               std::string(to_string(storage)) + ", the matrix has relative error " +
               detail::scientific(reached);
      });
    }
    if (options.monitor && !told) (void)options.monitor({"pack", 1, 1, 0});
    return dense;
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
