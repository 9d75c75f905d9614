// SPDX-License-Identifier: MIT
// How far a calibration is to be trusted: the choice of its shrinkage, by its folds or without.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What of a calibration is not for its users.
struct CalibrationAccess {
  /// The two folds, each a calibration of its own; nothing where there are not two. They weigh
  /// outputs as the whole does, and what was set of shrinkage holds for them.
  template <Real T>
  [[nodiscard]] static std::optional<std::array<Calibration<T>, 2>> folds(
      const Calibration<T>& whole) {
    if (whole.other_fold_) {
      std::array<Calibration<T>, 2> both{whole, *whole.other_fold_};
      return both;
    }
    if (!whole.folds_known_ || whole.samples_ < 2) return std::nullopt;
    const Index n = whole.inputs_;
    std::array<Calibration<T>, 2> both{Calibration<T>(n, Folds::one),
                                       Calibration<T>(n, Folds::one)};
    if (whole.gram_.size() == 0) {
      const std::vector<Index> first = whole.held_in_first();
      std::vector<Index> second;
      for (Index j = 0, k = 0; j < whole.held_count_; ++j) {
        if (k < static_cast<Index>(first.size()) && first[static_cast<std::size_t>(k)] == j) ++k;
        else second.push_back(j);
      }
      for (const std::size_t k : {0U, 1U}) {
        const std::vector<Index>& own = k == 0 ? first : second;
        const Matrix<T> samples = whole.held_(Eigen::all, own);
        if (whole.paired_) both[k].add(Matrix<T>(whole.originals_(Eigen::all, own)), samples);
        else both[k].add(samples);
      }
    } else {
      auto first = whole.first_fold();
      both[1].gram_ = whole.gram() - first.gram;
      both[1].samples_ = whole.samples_ - first.samples;
      both[0].gram_ = std::move(first.gram);
      both[0].samples_ = first.samples;
      both[1].cross_ = whole.cross_moment();
      both[1].cross_ -= first.cross;
      both[0].cross_ = std::move(first.cross);
      // What is left of an input that the second fold never saw is rounding.
      for (Index j = 0; j < n; ++j)
        if (both[1].gram_(j, j) <= 1e-13 * both[0].gram_(j, j)) {
          both[1].gram_.row(j).setZero();
          both[1].gram_.col(j).setZero();
          both[1].cross_.forget(j);
        }
      for (Calibration<T>& fold : both) {
        const double share =
            std::sqrt(static_cast<double>(fold.samples_) / static_cast<double>(whole.samples_));
        fold.quartic_ = share * whole.quartic_;
        fold.fourth_ = share * whole.fourth_;
        fold.mean_known_ = false;
        fold.paired_ = whole.paired_;
      }
    }
    if (both[0].samples_ == 0 || both[1].samples_ == 0) return std::nullopt;
    for (Calibration<T>& fold : both) {
      fold.row_weights_ = whole.row_weights_;
      fold.output_metric_ = whole.output_metric_;
      fold.shrinkage_ = whole.shrinkage_;
    }
    return both;
  }

  /// The same folds, each of which knows of the other: then the two are the folds of either.
  template <Real T>
  static void acquaint(std::array<Calibration<T>, 2>& folds) {
    auto first = std::make_shared<const Calibration<T>>(folds[0]);
    folds[0].other_fold_ = std::make_shared<const Calibration<T>>(folds[1]);
    folds[1].other_fold_ = std::move(first);
  }

  /// As if input i had been `scales(i)` times what it was.
  template <Real T>
  [[nodiscard]] static Calibration<T> with_inputs_scaled(Calibration<T> calibration,
                                                         const Vector<double>& scales) {
    for (Matrix<double>* const G : {&calibration.gram_, &calibration.first_.gram})
      if (G->size() > 0) *G = scales.asDiagonal() * *G * scales.asDiagonal();
    const Matrix<double> held =  // by itself: what is assigned has another size
        calibration.held_.leftCols(calibration.held_count_).template cast<double>();
    if (held.size() > 0) calibration.held_ = (scales.asDiagonal() * held).template cast<T>();
    if (calibration.other_fold_)
      calibration.other_fold_ = std::make_shared<const Calibration<T>>(
          with_inputs_scaled(*calibration.other_fold_, scales));
    return calibration;
  }

  /// As if inputs had been H x, H orthonormal, `turn(A)` = H A; of no pairs. Throws
  /// `std::invalid_argument` for a sample that is beyond the largest of T then. What Gram matrices
  /// do not say of fourth moments is taken from Gaussian inputs of the same Gram matrix.
  template <Real T, class Turn>
  [[nodiscard]] static Calibration<T> rotated(Calibration<T> calibration, const Turn& turn) {
    if (calibration.samples_ == 0) return calibration;
    Matrix<T> held(calibration.inputs_, calibration.held_count_);
    if (held.size() > 0)
      held = turn(calibration.held_.leftCols(calibration.held_count_).template cast<double>())
                 .template cast<T>();
    require_finite(held, "rotated samples of the calibration");
    if (calibration.other_fold_)
      calibration.other_fold_ =
          std::make_shared<const Calibration<T>>(rotated(*calibration.other_fold_, turn));
    if (calibration.gram_.size() == 0) {  // all samples are held
      const Folds folds = calibration.folds_known_ ? Folds::two : Folds::one;
      Calibration<T> result(calibration.inputs_, folds);
      result.take(held, nullptr);
      result.shrinkage_ = calibration.shrinkage_;
      result.other_fold_ = std::move(calibration.other_fold_);
      result.row_weights_ = std::move(calibration.row_weights_);
      result.output_metric_ = std::move(calibration.output_metric_);
      return result;
    }
    calibration.held_ = held;
    calibration.sum_ = turn(calibration.sum_);
    for (Matrix<double>* const G : {&calibration.gram_, &calibration.first_.gram})
      if (G->size() > 0) *G = symmetric_part(turn(turn(*G).transpose()));
    const double all = std::hypot(calibration.quartic_, calibration.fourth_);
    const auto [quartic, fourth] =
        gaussian_fourth_moments(calibration.gram(), calibration.samples_);
    if (const double same = std::hypot(quartic, fourth); same > 0) {
      calibration.quartic_ = all * (quartic / same);
      calibration.fourth_ = all * (fourth / same);
    }
    return calibration;
  }

  /// Whether there are pairs, and one that differs.
  template <Real T>
  [[nodiscard]] static bool differs(const Calibration<T>& calibration) {
    return calibration.paired_ && (!calibration.cross_.empty() ||
                                   calibration.held_.leftCols(calibration.held_count_) !=
                                       calibration.originals_.leftCols(calibration.held_count_));
  }
  /// Of pairs, x - x' while all are held; else none.
  template <Real T>
  [[nodiscard]] static Matrix<double> differences(const Calibration<T>& calibration) {
    return calibration.gram_.size() == 0 ? calibration.held_differences()
                                         : Matrix<double>(calibration.inputs_, 0);
  }
  /// Of pairs, their moments beside the Gram matrix of x'.
  template <Real T>
  [[nodiscard]] static CrossMoment<> cross_moment(const Calibration<T>& calibration) {
    return calibration.cross_moment();
  }
  /// Of pairs, x' alone: the same calibration without what it was before.
  template <Real T>
  [[nodiscard]] static Calibration<T> compressed(Calibration<T> calibration) {
    calibration.paired_ = false;
    calibration.cross_ = {};
    calibration.first_.cross = {};
    calibration.originals_.resize(0, 0);
    if (calibration.other_fold_)
      calibration.other_fold_ =
          std::make_shared<const Calibration<T>>(compressed(*calibration.other_fold_));
    return calibration;
  }
  /// Of pairs, x alone, in no folds.
  template <Real T>
  [[nodiscard]] static Calibration<T> originals(const Calibration<T>& calibration) {
    if (!differs(calibration)) return compressed(calibration);
    Calibration<T> result(calibration.inputs_, Folds::one);
    if (calibration.gram_.size() == 0) {
      result.add(calibration.originals_.leftCols(calibration.held_count_));
    } else {
      result.gram_ = calibration.cross_moment().original_gram(calibration.gram());
      result.samples_ = calibration.samples_;
      result.mean_known_ = false;
    }
    result.row_weights_ = calibration.row_weights_;
    result.output_metric_ = calibration.output_metric_;
    return result;
  }

  /// See `Calibration::fourth_`.
  template <Real T>
  [[nodiscard]] static double fourth(const Calibration<T>& calibration) {
    return calibration.fourth_;
  }
  /// See `Calibration::quartic_`.
  template <Real T>
  [[nodiscard]] static double quartic(const Calibration<T>& calibration) {
    return calibration.quartic_;
  }
};

/// The shrinkage whose Gram matrix is expected to be nearest to that of all inputs, had samples
/// nothing to do with each other: with q the mean over T samples of (sum x_i^2)^2 - sum x_i^4 and g
/// the sum of squares of G / T beside its diagonal, (q - g) / ((T - 1) g), at most 1. This has T -
/// 1 where Ledoit and Wolf have T, which for two samples is twice as much; of one sample nothing is
/// known but the diagonal. Cost: n^2 min(n, T) multiply-adds, where samples are held n T^2.
template <Real T>
[[nodiscard]] double closed_form_shrinkage(const Calibration<T>& calibration) {
  const auto count = static_cast<double>(calibration.samples());
  if (calibration.samples() < 2) return calibration.samples() == 1 ? 1 : 0;
  const Matrix<T> samples = calibration.held_samples();
  Vector<double> d;
  Matrix<double> G;  // or X^T X, which has the same sum of squares
  if (samples.size() > 0) {
    const Matrix<double> X = samples.template cast<double>();
    d = X.rowwise().squaredNorm();
    G = outer_gram(X.transpose());
  } else {
    G = calibration.gram();
    d = G.diagonal();
  }
  const double largest = d.maxCoeff();
  if (!(largest > 0)) return 0;
  const double g = (G / largest).squaredNorm() - (d / largest).squaredNorm();
  const double quartic = CalibrationAccess::quartic(calibration) / largest;
  const double numerator = count * quartic * quartic - g;
  if (!(numerator > 0)) return 0;
  // Where nothing is beside the diagonal, nothing can be shrunk.
  const double denominator = (count - 1) * g;
  return numerator < denominator ? numerator / denominator : 1;
}

/// The Gram matrices of the folds, divided by one power of two.
template <Real T>
[[nodiscard]] std::array<Matrix<double>, 2> fold_grams(const std::array<Calibration<T>, 2>& folds) {
  std::array<Matrix<double>, 2> grams{folds[0].gram(), folds[1].gram()};
  const double unit = power_of_two_below(
      (std::max)(grams[0].diagonal().maxCoeff(), grams[1].diagonal().maxCoeff()));
  for (Matrix<double>& G : grams) G /= unit;
  return grams;
}

/// A power of two by which the inputs of both folds are of no extreme size.
template <Real T>
[[nodiscard]] double input_unit(const std::array<Calibration<T>, 2>& folds) {
  double largest = 0;
  for (const Calibration<T>& fold : folds) {
    const Matrix<T> X = fold.held_samples();
    largest = (std::max)(
        largest, X.size() > 0 ? static_cast<double>(X.cwiseAbs().maxCoeff())
                              : std::sqrt((std::max)(0.0, fold.gram().diagonal().maxCoeff())));
  }
  return power_of_two_below(largest);
}

/// The calibration that makers fit to, but for `chosen_shrinkage`, where it is another: while there
/// are no more than eight samples an input, mean squares d of the inputs that are not 0 are drawn
/// to their mean by the share of their spread that chance explains, sum of (mean of x_i^4 - d_i^2)
/// / (T - 1) over sum of (d_i - mean)^2. Else a weight would be kept because its input happened to
/// be large in a few samples. None where it says itself how to shrink.
template <Real T>
[[nodiscard]] std::optional<Calibration<T>> steadied(const Calibration<T>& calibration) {
  const Index samples = calibration.samples();
  if (samples < 2 || samples > 8 * calibration.inputs() || calibration.shrinkage())
    return std::nullopt;
  const Matrix<double> X = calibration.held_samples().template cast<double>();
  const double largest = X.size() > 0
                             ? X.cwiseAbs().maxCoeff()
                             : std::sqrt((std::max)(0.0, calibration.gram().diagonal().maxCoeff()));
  if (!(largest > 0)) return std::nullopt;
  const auto count = static_cast<double>(samples);
  Vector<double> d =
      X.size() > 0
          ? Vector<double>((X / largest).rowwise().squaredNorm())
          : Vector<double>(calibration.gram().diagonal().cwiseMax(0) / (largest * largest));
  d /= count;
  const auto seen = static_cast<double>((d.array() > 0).count());
  const double mean = d.sum() / seen;
  const double spread = (d.array() > 0).select((d.array() - mean).square(), 0.0).sum();
  const double fourth = CalibrationAccess::fourth(calibration) / largest / largest;
  const double chance = (std::max)(0.0, fourth * fourth / count - d.squaredNorm()) / (count - 1);
  if (!(chance > 0)) return std::nullopt;
  const double b = chance < spread ? chance / spread : 1;
  const Vector<double> scales = d.unaryExpr(
      [=](double own) { return own > 0 ? std::sqrt(((1 - b) * own + b * mean) / own) : 0; });
  return CalibrationAccess::with_inputs_scaled(calibration, scales);
}

/// The a that a maker shrinks the Gram matrix by: what was set; without folds, the closed form;
/// else by cross-validation. `stand_in(folds)` returns the loss as a function of a: what a cheap
/// stand-in of the method, fitted to one fold shrunk by a and judged by the other as it is, loses
/// both ways together.
///
/// The search starts at the closed form, and goes up and down until the loss rises; then to the
/// vertex of the parabola through the best and its neighbours. What is not clearly better than the
/// closed form is not preferred to it. The whole has more samples than a fold, and needs less: a /
/// (1 - a) is taken to fall as T to the power of minus `decay`. `monitor` is told, and may stop the
/// search.
template <Real T, class StandIn>
[[nodiscard]] double chosen_shrinkage(const Calibration<T>& calibration, double decay,
                                      const Monitor& monitor, const StandIn& stand_in) {
  if (calibration.samples() == 0) return 0;
  if (calibration.shrinkage()) return *calibration.shrinkage();
  const auto folds = CalibrationAccess::folds(calibration);
  if (!folds) return closed_form_shrinkage(calibration);
  const std::array<Calibration<T>, 2>& both = *folds;
  const std::function<double(double)> loss = stand_in(both);

  std::vector<double> grid{0, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9};
  const double closed = (closed_form_shrinkage(both[0]) + closed_form_shrinkage(both[1])) / 2;
  auto place = std::lower_bound(grid.begin(), grid.end(), closed);
  if (place == grid.end() || *place != closed) place = grid.insert(place, closed);
  const auto start = place - grid.begin();

  std::vector<double> losses(grid.size(), std::numeric_limits<double>::infinity());
  std::ptrdiff_t best = start;
  Index tried = 0;
  bool going = true;
  const auto at = [](auto& values, std::ptrdiff_t i) -> auto& {
    return values[static_cast<std::size_t>(i)];
  };
  const auto walk = [&](std::ptrdiff_t from, std::ptrdiff_t step) {
    int worse = 0;
    for (std::ptrdiff_t i = from; i >= 0 && i < std::ssize(grid) && going && worse < 2; i += step) {
      at(losses, i) = loss(at(grid, i));
      if (at(losses, i) < at(losses, best) || i == start) {
        best = i;
        worse = 0;
      } else {
        worse += at(losses, i) > 1.02 * at(losses, best) ? 2 : 1;
      }
      going = !monitor || monitor({"shrinkage", ++tried, static_cast<Index>(grid.size()), 1});
    }
  };
  walk(start, 1);
  walk(start - 1, -1);
  if (at(losses, start) <= 1.02 * at(losses, best)) best = start;
  const double a = at(grid, best);
  if (a == 1 || a == 0) return a;
  double odds = a / (1 - a);
  if (best != start && best > 1 && best + 1 < std::ssize(grid) && at(grid, best + 1) < 1 &&
      is_finite(at(losses, best - 1)) && is_finite(at(losses, best + 1))) {
    const auto place_of = [&](std::ptrdiff_t i) {
      return std::log(at(grid, i) / (1 - at(grid, i)));
    };
    const double left = place_of(best) - place_of(best - 1);
    const double right = place_of(best + 1) - place_of(best);
    const double up_left = (at(losses, best - 1) - at(losses, best)) / left;
    const double up_right = (at(losses, best + 1) - at(losses, best)) / right;
    if (up_left + up_right > 0)
      odds *= std::exp((up_left * right - up_right * left) / (2 * (up_left + up_right)));
  }
  const auto count = static_cast<double>(both[0].samples() + both[1].samples()) / 2;
  odds *= std::pow(count / static_cast<double>(calibration.samples()), decay);
  return odds / (1 + odds);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
