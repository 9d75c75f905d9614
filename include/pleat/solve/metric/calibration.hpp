// SPDX-License-Identifier: MIT
// What a layer sees: the second moment of its inputs, and how much each of its outputs matters.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/moment.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// Whether a calibration keeps its samples apart in two halves, at the cost of a second Gram
/// matrix: then what is fitted to one half can be judged by the other.
enum class Folds : std::uint8_t { one, two };

namespace detail {
struct CalibrationAccess;
}

/// Statistics of the inputs x of a layer, streamed: the Gram matrix sum x x^T and the mean, both
/// accumulated in double; and, if wanted, weights of its outputs. Together they are the metric in
/// which a compression is close to W: the mean over inputs of || P^(1/2) (W - What) x ||^2, with P
/// the identity unless outputs are weighted. Without samples the inputs are taken as white, which
/// is the plain Frobenius norm.
///
/// Samples are a part of all that the layer will see, and makers do not fit what they have by
/// chance: they fit to a Gram matrix G whose correlations are smaller, see `shrinkage`. To find by
/// how much, the samples are kept in two folds, which alternate in blocks as the samples come: 64,
/// or an eighth where samples or inputs are fewer than 512, so that neighbours stay together.
///
/// Any number of samples is legal, fewer than inputs too, and inputs that are always zero. Memory:
/// n^2 doubles for each fold; while there are fewer than n samples, the samples themselves. How
/// samples are cut into calls of `add` does not change a bit.
template <Real T>
class Calibration {
 public:
  /// No calibration: the plain Frobenius norm for a matrix of any size.
  Calibration() = default;

  /// For a layer of so many inputs. Throws `std::invalid_argument` if there are none, or the value
  /// of `folds` is none of its names.
  explicit Calibration(Index inputs, Folds folds = Folds::two)
      : inputs_(inputs), folds_known_(folds == Folds::two) {
    detail::require(inputs >= 1, [&] {
      return "Calibration: a layer has at least 1 input, not " + std::to_string(inputs);
    });
    detail::require(folds <= Folds::two,
                    [] { return std::string("Calibration: unknown number of folds"); });
    sum_ = Vector<double>::Zero(inputs);
  }

  // What was moved from is no calibration.
  Calibration(const Calibration&) = default;
  Calibration& operator=(const Calibration&) = default;
  Calibration(Calibration&& other) noexcept { swap(other); }
  Calibration& operator=(Calibration&& other) noexcept {
    Calibration taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Calibration() = default;

  /// From the Gram matrix of so many samples, n x n: the sum, not the mean, of their x x^T; and
  /// from their mean, n x 1, if it is known. Throws `std::invalid_argument` unless the Gram matrix
  /// is square, finite, symmetric and free of entries that no sum of x x^T can have, the mean fits
  /// it, and there is a sample.
  template <class Derived>
  [[nodiscard]] static Calibration from_gram(const Eigen::MatrixBase<Derived>& gram,
                                             Index samples) {
    detail::require(gram.rows() == gram.cols() && gram.rows() >= 1, [&] {
      return "Calibration: a Gram matrix is square, not " +
             detail::shape_text(gram.rows(), gram.cols());
    });
    detail::require(samples >= 1, [&] {
      return "Calibration: a Gram matrix is of at least 1 sample, not " + std::to_string(samples);
    });
    detail::require_finite(gram, "the Gram matrix");
    Calibration calibration(gram.rows(), Folds::one);
    calibration.gram_ = gram.template cast<double>();
    calibration.samples_ = samples;
    calibration.mean_known_ = false;
    detail::check_moment(calibration.gram_, "the Gram matrix");
    calibration.gram_ = detail::symmetric_part(calibration.gram_);
    calibration.guess_fourth_moments();
    return calibration;
  }
  template <class Derived, class Mean>
  [[nodiscard]] static Calibration from_gram(const Eigen::MatrixBase<Derived>& gram, Index samples,
                                             const Eigen::MatrixBase<Mean>& mean) {
    Calibration calibration = from_gram(gram, samples);
    detail::require(mean.rows() == gram.rows() && mean.cols() == 1, [&] {
      return "Calibration: the mean of " + std::to_string(gram.rows()) + " inputs is not " +
             detail::shape_text(mean.rows(), mean.cols());
    });
    detail::require_finite(mean, "the mean");
    calibration.sum_ = mean.template cast<double>() * static_cast<double>(samples);
    calibration.mean_known_ = true;
    return calibration;
  }

  /// Adds samples, one a column: inputs() x any number. Throws `std::invalid_argument`, and changes
  /// nothing, if the shape is wrong or an entry is not finite, or beyond 1e150, the sums of whose
  /// squares double could not hold. Cost: n^2 multiply-adds a sample, and half as many more for the
  /// second fold.
  void add(const ConstMatrixRef<T>& X) {
    detail::require(inputs_ > 0 && X.rows() == inputs_, [&] {
      return "Calibration: samples of " + std::to_string(inputs_) + " inputs cannot be " +
             detail::shape_text(X.rows(), X.cols());
    });
    detail::require_finite(X, "calibration samples");
    if constexpr (sizeof(T) > sizeof(float))
      detail::require(X.size() == 0 || X.cwiseAbs().maxCoeff() <= T(1e150), [] {
        return std::string("Calibration: an entry of the samples is beyond 1e150");
      });
    for (Index done = 0; done < X.cols();) {
      if (held_count_ == capacity()) let_go(gram(), first_fold());
      const Index count = (std::min)(X.cols() - done, capacity() - held_count_);
      if (held_count_ + count > held_.cols())
        held_.conservativeResize(inputs_, (std::min)(capacity(), 2 * (held_count_ + count)));
      held_.middleCols(held_count_, count) = X.middleCols(done, count);
      held_count_ += count;
      samples_ += count;
      done += count;
    }
    for (Index j = 0; j < X.cols(); ++j) {
      const Vector<double> x = X.col(j).template cast<double>();
      sum_ += x;
      const double square = x.squaredNorm();
      if (!(square > 0)) continue;
      const double rest = 1 - (x.cwiseAbs2() / square).squaredNorm();
      quartic_ = std::hypot(quartic_, square * std::sqrt((std::max)(0.0, rest)));
      fourth_ = std::hypot(fourth_, square * std::sqrt(1 - rest));
    }
  }

  /// Adds the samples of another calibration of the same layer, as if they had been added here.
  /// Folds are merged with folds; there are none where one of the two has none. Output weights and
  /// shrinkage stay as they are. Throws `std::invalid_argument`, and changes nothing, if the
  /// numbers of inputs differ, or the sum of the Gram matrices overflows.
  void merge(const Calibration& other) {
    detail::require(other.inputs_ == inputs_, [&] {
      return "Calibration: " + std::to_string(inputs_) + " and " + std::to_string(other.inputs_) +
             " inputs cannot be merged";
    });
    const Index samples = samples_ + other.samples_;
    const bool known = mean_known_ && other.mean_known_;
    const bool folds = folds_known_ && (other.folds_known_ || other.samples_ == 0);
    const double quartic = std::hypot(quartic_, other.quartic_);
    const double fourth = std::hypot(fourth_, other.fourth_);
    const Vector<double> sum = sum_ + other.sum_;
    if (gram_.size() > 0 || other.gram_.size() > 0) {
      Matrix<double> both = gram() + other.gram();
      detail::require_finite(both, "the sum of Gram matrices");
      Fold first;
      if (folds) {
        first = first_fold();
        Fold more = other.first_fold();
        // Where folds would differ much in size, the larger one gets the smaller.
        const auto imbalance = [&](Index count) { return std::abs(2 * count - samples); };
        const Index rest = other.samples_ - more.samples;
        if (8 * imbalance(first.samples + more.samples) > samples &&
            imbalance(first.samples + rest) < imbalance(first.samples + more.samples))
          more = {other.gram() - more.gram, rest};
        first.gram += more.gram;
        first.samples += more.samples;
      }
      let_go(std::move(both), std::move(first));
    } else if (other.held_count_ > 0) {
      add(Matrix<T>(other.held_.leftCols(other.held_count_)));
    }
    samples_ = samples;
    sum_ = sum;
    quartic_ = quartic;
    fourth_ = fourth;
    mean_known_ = known;
    folds_known_ = folds;
    if (!folds) first_ = {};
  }

  /// Number of inputs n; 0 for no calibration.
  [[nodiscard]] Index inputs() const noexcept { return inputs_; }
  /// Number of samples seen.
  [[nodiscard]] Index samples() const noexcept { return samples_; }

  /// Sum of x x^T over the samples, n x n.
  [[nodiscard]] Matrix<double> gram() const {
    Matrix<double> gram = gram_.size() > 0 ? gram_ : Matrix<double>::Zero(inputs_, inputs_);
    if (held_count_ > 0)
      gram += detail::outer_gram(held_.leftCols(held_count_).template cast<double>().eval());
    return gram;
  }

  /// Mean of x over the samples, n x 1. Throws `std::invalid_argument` where it is not known:
  /// without samples, or from a Gram matrix alone.
  [[nodiscard]] Vector<double> mean() const {
    detail::require(samples_ > 0 && mean_known_,
                    [] { return std::string("Calibration: the mean is not known"); });
    return sum_ / static_cast<double>(samples_);
  }

  /// The samples themselves, n x samples(), while all of them are still held (at most n); else
  /// empty.
  [[nodiscard]] Matrix<T> held_samples() const {
    return gram_.size() == 0 ? Matrix<T>(held_.leftCols(held_count_)) : Matrix<T>(inputs_, 0);
  }

  /// How far makers trust correlations of the inputs: they fit to (1 - a) G + a diag(G), with G the
  /// Gram matrix; 0 takes G as it is. Errors are measured in G itself.
  ///
  /// Without a call, makers choose a themselves, each for what it makes: by cross-validation, which
  /// fits a cheap stand-in of the method to one fold of the samples, judges it by the other, and
  /// the other way round; where there are no folds by the closed form of Ledoit and Wolf, "A
  /// well-conditioned estimator for large-dimensional covariance matrices", 2004, towards the
  /// diagonal instead of the identity. It falls to 0 as samples become many. While there are no
  /// more than eight samples an input, the mean squares of the inputs that are not 0 are drawn to
  /// each other as well, by the same closed form, and correlations kept. Throws
  /// `std::invalid_argument` unless 0 <= a < 1.
  Calibration& shrinkage(double a) {
    detail::require(is_finite(a) && a >= 0 && a < 1, [&] {
      return "Calibration: shrinkage must be at least 0 and less than 1, not " + std::to_string(a);
    });
    shrinkage_ = a;
    return *this;
  }
  /// What was set; nothing where makers choose.
  [[nodiscard]] std::optional<double> shrinkage() const noexcept { return shrinkage_; }

  /// Weighs the squared error of output i by w_i >= 0. With the sums of the rows of the Fisher
  /// information this is Fisher-weighted SVD (Hsu et al. 2022). Throws `std::invalid_argument` if a
  /// weight is negative or not finite, or none is positive.
  template <class Derived>
  Calibration& row_weights(const Eigen::MatrixBase<Derived>& weights) {
    detail::require(weights.cols() == 1 && weights.rows() >= 1, [&] {
      return "Calibration: row weights are a column, not " +
             detail::shape_text(weights.rows(), weights.cols());
    });
    detail::require_finite(weights, "row weights");
    detail::require(weights.minCoeff() >= 0 && weights.maxCoeff() > 0, [] {
      return std::string("Calibration: row weights must not be negative, nor all 0");
    });
    row_weights_ = weights.template cast<double>();
    output_metric_.resize(0, 0);
    return *this;
  }
  /// The weights of the outputs, m x 1; empty where none are set.
  [[nodiscard]] const Vector<double>& row_weights() const noexcept { return row_weights_; }

  /// The two-sided metric: P, m x m, symmetric and positive semidefinite, such as the second moment
  /// of the gradients of the outputs (K-FAC). Replaces row weights, which are its diagonal case.
  /// Throws `std::invalid_argument` as `from_gram` does, and if it is all 0.
  template <class Derived>
  Calibration& output_metric(const Eigen::MatrixBase<Derived>& metric) {
    detail::require(metric.rows() == metric.cols() && metric.rows() >= 1, [&] {
      return "Calibration: an output metric is square, not " +
             detail::shape_text(metric.rows(), metric.cols());
    });
    detail::require_finite(metric, "the output metric");
    Matrix<double> values = metric.template cast<double>();
    detail::check_moment(values, "the output metric");
    detail::require(values.diagonal().maxCoeff() > 0,
                    [] { return std::string("Calibration: an output metric must not be all 0"); });
    output_metric_ = detail::symmetric_part(values);
    row_weights_.resize(0);
    return *this;
  }
  /// P; empty where none is set.
  [[nodiscard]] const Matrix<double>& output_metric() const noexcept { return output_metric_; }

  /// Throws `std::invalid_argument` unless this calibration is one for an m x n matrix.
  void require_fit(Index rows, Index cols) const {
    detail::require(inputs_ == 0 || inputs_ == cols, [&] {
      return "a calibration of " + std::to_string(inputs_) + " inputs does not fit a " +
             detail::shape_text(rows, cols) + " matrix";
    });
    const Index outputs = row_weights_.size() > 0 ? row_weights_.size() : output_metric_.rows();
    detail::require(outputs == 0 || outputs == rows, [&] {
      return "weights of " + std::to_string(outputs) + " outputs do not fit a " +
             detail::shape_text(rows, cols) + " matrix";
    });
  }

 private:
  friend struct detail::CalibrationAccess;

  /// The first of the two folds; the second is what it has not.
  struct Fold {
    Matrix<double> gram;
    Index samples = 0;
  };

  /// Samples held before they are let go: all while they are fewer than inputs, then blocks.
  [[nodiscard]] Index capacity() const noexcept {
    return gram_.size() == 0 ? inputs_ : std::min<Index>(inputs_, 512);
  }

  /// Which of the held samples the first fold has: blocks of samples alternate.
  [[nodiscard]] std::vector<Index> held_in_first() const {
    const Index before = samples_ - held_count_;
    const Index block = std::clamp<Index>((gram_.size() == 0 ? held_count_ : inputs_) / 8, 1, 64);
    std::vector<Index> found;
    for (Index j = 0; j < held_count_; ++j)
      if ((before + j) / block % 2 == 0) found.push_back(j);
    return found;
  }

  /// That fold, of all samples.
  [[nodiscard]] Fold first_fold() const {
    if (!folds_known_) return {};
    const std::vector<Index> held = held_in_first();
    Fold fold{first_.gram.size() > 0 ? first_.gram : Matrix<double>::Zero(inputs_, inputs_),
              first_.samples + static_cast<Index>(held.size())};
    if (!held.empty())
      fold.gram += detail::outer_gram(held_(Eigen::all, held).template cast<double>().eval());
    return fold;
  }

  /// Lets the held samples go: `gram` has them, and `first` those of its fold.
  void let_go(Matrix<double> gram, Fold first) {
    gram_ = std::move(gram);
    first_ = std::move(first);
    held_count_ = 0;
    held_.resize(inputs_, 0);
  }

  /// Those of Gaussian inputs, for which the mean of (x_i x_j)^2 is G_ii G_jj + 2 G_ij^2.
  void guess_fourth_moments() {
    const double largest = gram_.diagonal().maxCoeff();
    if (!(largest > 0)) return;
    const Vector<double> d = gram_.diagonal().cwiseMax(0) / largest;
    const double own = 3 * d.squaredNorm();
    const double all = d.sum() * d.sum() + 2 * (gram_ / largest).squaredNorm();
    const auto count = static_cast<double>(samples_);
    quartic_ = largest * std::sqrt((std::max)(0.0, all - own) / count);
    fourth_ = largest * std::sqrt(own / count);
  }

  void swap(Calibration& other) noexcept {
    std::swap(inputs_, other.inputs_);
    std::swap(samples_, other.samples_);
    gram_.swap(other.gram_);
    held_.swap(other.held_);
    std::swap(held_count_, other.held_count_);
    sum_.swap(other.sum_);
    std::swap(mean_known_, other.mean_known_);
    row_weights_.swap(other.row_weights_);
    output_metric_.swap(other.output_metric_);
    first_.gram.swap(other.first_.gram);
    std::swap(first_.samples, other.first_.samples);
    std::swap(folds_known_, other.folds_known_);
    std::swap(quartic_, other.quartic_);
    std::swap(fourth_, other.fourth_);
    std::swap(shrinkage_, other.shrinkage_);
    other_fold_.swap(other.other_fold_);
  }

  Index inputs_ = 0;
  Index samples_ = 0;
  Matrix<double> gram_;  // of the samples that are no longer held; empty if none were let go
  Fold first_;           // of these, what the first fold has
  bool folds_known_ = false;
  // The square roots, so that they do not overflow, of the sums over samples and i != j of x_i^2
  // x_j^2, and over samples and i of x_i^4.
  double quartic_ = 0;
  double fourth_ = 0;
  std::optional<double> shrinkage_;
  std::shared_ptr<const Calibration> other_fold_;  // where this is one of two
  Matrix<T> held_;
  Index held_count_ = 0;
  Vector<double> sum_;
  bool mean_known_ = true;
  Vector<double> row_weights_;
  Matrix<double> output_metric_;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
