// SPDX-License-Identifier: MIT
// The metric in which sparse and rounded weights are fitted, and how far the fitting is.
#pragma once

#include "pleat/compress/calibration.hpp"
#include "pleat/compress/detail/column_sweep.hpp"
#include "pleat/compress/detail/multiply.hpp"
#include "pleat/core/progress.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The largest power of two that is not above the largest entry; 1 for zeros.
[[nodiscard]] inline double power_of_two_below(double largest) {
  return largest > 0 ? std::exp2(std::floor(std::log2(largest))) : 1;
}

/// The Gram matrix H of a calibration, divided by a power of two, plus 1e-8 of its mean diagonal
/// entry: so much that a weight on an input that was never seen is kept as it is where that costs
/// nothing, and too little to be seen in any error. Empty without samples, or where all were zero.
template <Real T>
[[nodiscard]] Matrix<double> fitting_gram(const Calibration<T>& calibration) {
  if (calibration.samples() == 0) return {};
  Matrix<double> H = calibration.gram();
  const double largest = H.diagonal().maxCoeff();
  if (!(largest > 0)) return {};
  H /= power_of_two_below(largest);
  H.diagonal().array() = H.diagonal().array().max(0) + 1e-8 * H.diagonal().mean();
  return H;
}

/// Tells a monitor how far one weight is, and remembers when it asked to stop.
class Reporter {
 public:
  /// `total` is the loss of a matrix of zeros.
  Reporter(const Monitor& monitor, double total) : monitor_(monitor), total_(total) {}

  /// The loss of the best result so far.
  void reached(double loss) { loss_ = std::min(loss_, total_ > 0 ? loss / total_ : 0); }
  [[nodiscard]] bool stopped() const { return stopped_; }

  bool report(std::string_view phase, Index iteration, Index iterations) {
    if (monitor_ && !stopped_)
      stopped_ = !monitor_({phase, iteration, iterations, std::sqrt(std::max(0.0, loss_))});
    return !stopped_;
  }

  /// For the steps of one phase, in hundredths.
  [[nodiscard]] Proceed phase(std::string_view name) {
    if (!monitor_) return {};
    return [this, name](double done, double) {
      return report(name, static_cast<Index>(std::lround(100 * done)), 100);
    };
  }

 private:
  const Monitor& monitor_;
  double total_;
  double loss_ = 1;
  bool stopped_ = false;
};

/// tr(D H D^T) for D^T.
template <class = void>
[[nodiscard]] double metric_loss(const Dense<double>& H, const Matrix<double>& Dt) {
  return std::max(0.0, multiply(H, Dt).cwiseProduct(Dt).sum());
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
