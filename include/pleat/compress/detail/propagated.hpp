// SPDX-License-Identifier: MIT
// How makers take pairs of inputs: they are given the weights that suit the compressed ones.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/core/error.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/cross_fit.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What every maker asks of a weight and its calibration.
template <Real T>
void require_weight(const ConstMatrixRef<T>& W, const Calibration<T>& calibration) {
  require(W.size() > 0,
          [&] { return "compress: a " + shape_text(W.rows(), W.cols()) + " matrix is empty"; });
  require_finite(W, "the weights");
  calibration.require_fit(W.rows(), W.cols());
}

/// The body of `propagated`, for pairs that differ.
///
/// With M = W + N the weights of `CrossFit` and E = What - M, the square of the error is that of
/// E X' and that of M X' - W X, but for a term that shrinkage leaves between them. So What is made
/// for M and the calibration of x' alone, and a budget of error is what M has not used up of it;
/// the result is measured, and made again for less where the promise is not kept. Where it cannot
/// be for the shrunk M, it is tried for that of least squares, below whose own error no weights
/// come.
template <Real T>
class Propagation {
 public:
  /// Makes What for the weights, a budget and a calibration, and keeps it;
  using Make = std::function<void(const Matrix<T>&, const Budget&, const Calibration<T>&)>;
  /// the relative error of what was made last.
  using Error = std::function<double()>;

  Propagation(const ConstMatrixRef<T>& W, const Budget& budget, const Calibration<T>& pairs,
              StopMonitor& stop, Make make, Error reached)
      : W_(W),
        budget_(budget),
        pairs_(pairs),
        stop_(stop),
        make_(std::move(make)),
        reached_(std::move(reached)),
        seen_(CalibrationAccess::compressed(pairs)) {}
  Propagation(const Propagation&) = delete;
  Propagation& operator=(const Propagation&) = delete;
  ~Propagation() = default;

  void run() const {
    const Matrix<double> weight = W_.template cast<double>();
    const double largest = power_of_two_below(weight.cwiseAbs().maxCoeff());
    const double a = cross_shrinkage<T>(weight / largest, pairs_, stop_.monitor());
    const Matrix<T> target = target_for(weight, a);
    if (!budget_.bounds_error()) return make_(target, budget_, seen_);
    if (a > 0 && is_within_error(target, false)) return;
    (void)is_within_error(a > 0 ? target_for(weight, 0) : target, true);
  }

 private:
  [[nodiscard]] Matrix<T> target_for(const Matrix<double>& weight, double a) const {
    Matrix<T> target = cross_target(weight, pairs_, a).template cast<T>();
    require_finite(target, "the weights that suit compressed inputs");
    return target;
  }

  /// Makes it within the error of the budget for this M; false, or if this is the `last` an
  /// exception, where that cannot be.
  [[nodiscard]] bool is_within_error(const Matrix<T>& target, bool last) const {
    // Below this neither moments in double nor factors in T tell anything from 0.
    const double resolution =
        (std::max)(1e-7, 2 * double(std::numeric_limits<T>::epsilon()) *
                             (1 + std::sqrt(double((std::min)(W_.rows(), W_.cols())))));
    const double wanted = (std::max)(budget_.max_error(), resolution);
    const Dense<T> best(target);
    const auto exactly = [&](const auto& Y, auto X) { best.apply_transpose(Y, X); };
    const ErrorNorms whole = error_norms<T>(W_, exactly, pairs_);
    const ErrorNorms own = error_norms<T>(target, exactly, seen_);
    const double least = whole.reference > 0 ? std::sqrt(whole.loss / whole.reference)
                         : whole.loss > 0    ? std::numeric_limits<double>::infinity()
                                             : 0;
    if (least > wanted && !stop_.stopped()) {
      require(!last, [&] {
        return budget_.text() +
               " cannot be met: with these compressed inputs no weights have a relative error " +
               "below " + scientific(least);
      });
      return false;
    }
    // The squares of errors relative to W X times this are of errors relative to M X'.
    const double units = whole.unit / own.unit;
    const double share = own.reference > 0 ? whole.reference / own.reference * units * units
                                           : std::numeric_limits<double>::infinity();
    double left = (wanted * wanted - least * least) * share;
    for (int attempt = 0;; ++attempt) {
      const double asked = std::sqrt((std::max)(0.0, left));
      try {
        make_(target, error(is_finite(asked) ? asked : 1.0), seen_);
      } catch (const std::invalid_argument& refused) {
        if (!last) return false;
        throw std::invalid_argument(std::string(refused.what()) + "; " + budget_.text() +
                                    " of pairs of inputs, where the best weights have " +
                                    scientific(least) + ", leaves it no more");
      }
      const double reached = reached_();
      if (reached <= wanted || stop_.stopped()) return true;
      if (attempt == 5 || !(left > 0)) {
        require(!last, [&] {
          return budget_.text() + " cannot be met: the relative error is " + scientific(reached) +
                 ", and that of the best weights " + scientific(least);
        });
        return false;
      }
      const double excess = (reached * reached - wanted * wanted) * share;
      left -= (std::max)(1.25 * excess, left * std::exp2(attempt - 6));
    }
  }

  const ConstMatrixRef<T>& W_;
  const Budget& budget_;
  const Calibration<T>& pairs_;
  StopMonitor& stop_;
  const Make make_;
  const Error reached_;
  const Calibration<T> seen_;
};

/// make(W, budget, calibration, monitor), or, where samples came in pairs, what it makes of the
/// weights that suit the compressed inputs, for these.
template <Real T, class Make>
[[nodiscard]] auto propagated(const ConstMatrixRef<T>& W, const Budget& budget,
                              const Calibration<T>& calibration, const Monitor& monitor,
                              const Make& make) {
  if (!calibration.paired()) return make(W, budget, calibration, monitor);
  require_weight(W, calibration);
  if (!CalibrationAccess::differs(calibration))
    return make(W, budget, CalibrationAccess::compressed(calibration), monitor);
  StopMonitor stop(monitor);
  std::optional<decltype(make(W, budget, calibration, monitor))> made;
  Propagation<T>(
      W, budget, calibration, stop,
      [&](const Matrix<T>& target, const Budget& within, const Calibration<T>& seen) {
        made = make(ConstMatrixRef<T>(target), within, seen, stop.monitor());
      },
      [&] { return pleat::relative_error(W, *made, calibration); })
      .run();
  return *std::move(made);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
