// SPDX-License-Identifier: MIT
// What a layer sees: the second moment of its inputs, and how much each of its outputs matters.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/moment.hpp"
#include "pleat/solve/metric/sample_sums.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

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
/// Where layers before are compressed already, samples come in pairs: x' that those now make,
/// beside x that they made. Makers then fit What x' to W x, and `gram`, `mean`, `held_samples` and
/// the metric are those of x'.
///
/// Any number of samples is legal, fewer than inputs too, and inputs that are always zero. Memory:
/// n^2 doubles for each fold, three times that for pairs; while there are fewer than n samples, the
/// samples themselves. How samples are cut into calls of `add` does not change a bit.
template <Real T>
class Calibration : detail::SampleSums<T> {
  using Sums = detail::SampleSums<T>;

 public:
  /// No calibration: the plain Frobenius norm for a matrix of any size.
  Calibration() = default;

  /// For a layer of so many inputs. Throws `std::invalid_argument` if there are none, or the value
  /// of `folds` is none of its names.
  explicit Calibration(Index inputs, Folds folds = Folds::two) {
    detail::require(inputs >= 1, [&] {
      return "Calibration: a layer has at least 1 input, not " + std::to_string(inputs);
    });
    detail::require(folds <= Folds::two,
                    [] { return std::string("Calibration: unknown number of folds"); });
    inputs_ = inputs;
    folds_known_ = folds == Folds::two;
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
    std::tie(calibration.quartic_, calibration.fourth_) =
        detail::gaussian_fourth_moments(calibration.gram_, samples);
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
    detail::check_samples<T>(X, inputs_);
    detail::require(!paired_, [] {
      return std::string(
          "Calibration: after pairs of samples, add(X, X_compressed), no others fit");
    });
    Sums::take(X, nullptr);
  }

  /// Adds pairs of samples: X as inputs were, and what layers that are compressed already make of
  /// them; both inputs() x any number, column by column of the same sample. What is fitted then
  /// makes up for errors of the layers before as far as it can. Throws `std::invalid_argument`, and
  /// changes nothing, where `add` of either would, if the shapes differ, and after samples that
  /// were no pairs; so does `add` of one after pairs. Cost: three times that of `add` of one.
  ///
  /// Source: X. Zhang et al., "Accelerating very deep convolutional networks", 2016, asymmetric
  /// reconstruction.
  void add(const ConstMatrixRef<T>& X, const ConstMatrixRef<T>& X_compressed) {
    detail::require(X.rows() == X_compressed.rows() && X.cols() == X_compressed.cols(), [&] {
      return "Calibration: samples that are " + detail::shape_text(X.rows(), X.cols()) +
             " and compressed ones that are " +
             detail::shape_text(X_compressed.rows(), X_compressed.cols()) + " are no pairs";
    });
    detail::check_samples<T>(X, inputs_);
    detail::check_samples<T>(X_compressed, inputs_);
    detail::require(paired_ || samples_ == 0, [] {
      return std::string("Calibration: after samples without a pair, add(X), no pairs fit");
    });
    paired_ = paired_ || X.cols() > 0;
    Sums::take(X_compressed, &X);
  }

  /// Adds the samples of another calibration of the same layer, as if they had been added here.
  /// Folds are merged with folds; there are none where one of the two has none. Output weights and
  /// shrinkage stay as they are. Throws `std::invalid_argument`, and changes nothing, if the
  /// numbers of inputs differ, if one has pairs and the other samples that are none, or the sum of
  /// the Gram matrices overflows.
  void merge(const Calibration& other) { Sums::merge(other); }

  /// Number of inputs n; 0 for no calibration.
  [[nodiscard]] Index inputs() const noexcept { return inputs_; }
  /// Number of samples seen.
  [[nodiscard]] Index samples() const noexcept { return samples_; }

  /// Whether samples came in pairs.
  [[nodiscard]] bool paired() const noexcept { return paired_; }

  /// Sum of x x^T over the samples, n x n.
  [[nodiscard]] Matrix<double> gram() const { return Sums::gram(); }

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
  /// each other as well, by the same closed form, and correlations kept. Of pairs the Gram matrix
  /// is that of x'; how far weights change to suit x' is shrunk as well, by what was set, or what
  /// the folds say of that, up to not at all. Throws `std::invalid_argument` unless 0 <= a < 1.
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
  using Sums::cross_;
  using Sums::cross_moment;
  using Sums::first_;
  using Sums::first_fold;
  using Sums::folds_known_;
  using Sums::fourth_;
  using Sums::gram_;
  using Sums::held_;
  using Sums::held_count_;
  using Sums::held_differences;
  using Sums::held_in_first;
  using Sums::inputs_;
  using Sums::mean_known_;
  using Sums::originals_;
  using Sums::paired_;
  using Sums::quartic_;
  using Sums::samples_;
  using Sums::sum_;

  void swap(Calibration& other) noexcept {
    Sums::swap(other);
    row_weights_.swap(other.row_weights_);
    output_metric_.swap(other.output_metric_);
    std::swap(shrinkage_, other.shrinkage_);
    other_fold_.swap(other.other_fold_);
  }

  std::optional<double> shrinkage_{};
  std::shared_ptr<const Calibration> other_fold_{};  // where this is one of two
  Vector<double> row_weights_{};
  Matrix<double> output_metric_{};
};

}  // namespace PLEAT_ABI
}  // namespace pleat
