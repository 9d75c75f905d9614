// SPDX-License-Identifier: MIT
// Sums over streamed samples of a layer's inputs, in two folds, and the samples while they are few.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/metric/cross_moment.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What a calibration counts. Samples are held until they are as many as inputs, and then let go
/// in blocks, whatever the calls that they came in: sums do not depend on these.
template <Real T>
class SampleSums {
 protected:
  /// The first of the two folds; the second is what it has not.
  struct Fold {
    Matrix<double> gram{};
    Index samples = 0;
    CrossMoment<> cross{};
  };

  /// Adds samples, and what they were before, if they come in pairs.
  void take(const ConstMatrixRef<T>& X, const ConstMatrixRef<T>* originals) {
    for (Index done = 0; done < X.cols();) {
      if (held_count_ == capacity()) let_go(gram(), first_fold(), cross_moment());
      const Index count = (std::min)(X.cols() - done, capacity() - held_count_);
      if (held_count_ + count > held_.cols()) {
        const Index room = (std::min)(capacity(), 2 * (held_count_ + count));
        held_.conservativeResize(inputs_, room);
        if (paired_) originals_.conservativeResize(inputs_, room);
      }
      held_.middleCols(held_count_, count) = X.middleCols(done, count);
      if (originals) originals_.middleCols(held_count_, count) = originals->middleCols(done, count);
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

  /// Adds the samples of another, see `Calibration::merge`.
  void merge(const SampleSums& other) {
    require(other.inputs_ == inputs_, [&] {
      return "Calibration: " + std::to_string(inputs_) + " and " + std::to_string(other.inputs_) +
             " inputs cannot be merged";
    });
    require(paired_ == other.paired_ || samples_ == 0 || other.samples_ == 0, [] {
      return std::string(
          "Calibration: pairs of samples and samples without a pair cannot be merged");
    });
    const Index samples = samples_ + other.samples_;
    const bool known = mean_known_ && other.mean_known_;
    const bool folds = folds_known_ && (other.folds_known_ || other.samples_ == 0);
    const double quartic = std::hypot(quartic_, other.quartic_);
    const double fourth = std::hypot(fourth_, other.fourth_);
    const Vector<double> sum = sum_ + other.sum_;
    if (gram_.size() > 0 || other.gram_.size() > 0) {
      Matrix<double> both = gram() + other.gram();
      require_finite(both, "the sum of Gram matrices");
      Fold first;
      if (folds) {
        first = first_fold();
        Fold more = other.first_fold();
        // Where folds would differ much in size, the larger one gets the smaller.
        const auto imbalance = [&](Index count) { return std::abs(2 * count - samples); };
        const Index rest = other.samples_ - more.samples;
        if (8 * imbalance(first.samples + more.samples) > samples &&
            imbalance(first.samples + rest) < imbalance(first.samples + more.samples))
          more = {other.gram() - more.gram, rest, other.cross_moment() -= more.cross};
        first.gram += more.gram;
        first.samples += more.samples;
        first.cross += more.cross;
      }
      let_go(std::move(both), std::move(first), cross_moment() += other.cross_moment());
    } else if (other.held_count_ > 0) {
      const SampleSums more(other);  // which may be this one
      paired_ = more.paired_;
      const ConstMatrixRef<T> originals(more.originals_);
      take(more.held_.leftCols(more.held_count_), paired_ ? &originals : nullptr);
    }
    paired_ = paired_ || other.paired_;
    samples_ = samples;
    sum_ = sum;
    quartic_ = quartic;
    fourth_ = fourth;
    mean_known_ = known;
    folds_known_ = folds;
    if (!folds) first_ = {};
  }

  /// Of all samples.
  [[nodiscard]] Matrix<double> gram() const {
    Matrix<double> gram = gram_.size() > 0 ? gram_ : Matrix<double>::Zero(inputs_, inputs_);
    if (held_count_ > 0)
      gram += outer_gram(held_.leftCols(held_count_).template cast<double>().eval());
    return gram;
  }

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
              first_.samples + static_cast<Index>(held.size()), first_.cross};
    if (held.empty()) return fold;
    const Matrix<double> samples = held_(Eigen::all, held).template cast<double>();
    fold.gram += outer_gram(samples);
    if (paired_) fold.cross.add(held_differences()(Eigen::all, held), samples);
    return fold;
  }

  /// x - x' of the held pairs; of none, if they are no pairs.
  [[nodiscard]] Matrix<double> held_differences() const {
    if (!paired_) return Matrix<double>(inputs_, 0);
    return originals_.leftCols(held_count_).template cast<double>() -
           held_.leftCols(held_count_).template cast<double>();
  }
  /// Of all pairs.
  [[nodiscard]] CrossMoment<> cross_moment() const {
    CrossMoment<> cross = cross_;
    if (paired_) cross.add(held_differences(), held_.leftCols(held_count_).template cast<double>());
    return cross;
  }

  /// Lets the held samples go: `gram` and `cross` have them, and `first` those of its fold.
  void let_go(Matrix<double> gram, Fold first, CrossMoment<> cross) {
    gram_ = std::move(gram);
    first_ = std::move(first);
    cross_ = std::move(cross);
    held_count_ = 0;
    held_.resize(inputs_, 0);
    originals_.resize(inputs_, 0);
  }

  void swap(SampleSums& other) noexcept {
    std::swap(inputs_, other.inputs_);
    std::swap(samples_, other.samples_);
    gram_.swap(other.gram_);
    first_.gram.swap(other.first_.gram);
    std::swap(first_.samples, other.first_.samples);
    first_.cross.swap(other.first_.cross);
    std::swap(folds_known_, other.folds_known_);
    std::swap(quartic_, other.quartic_);
    std::swap(fourth_, other.fourth_);
    held_.swap(other.held_);
    std::swap(held_count_, other.held_count_);
    std::swap(paired_, other.paired_);
    originals_.swap(other.originals_);
    cross_.swap(other.cross_);
    sum_.swap(other.sum_);
    std::swap(mean_known_, other.mean_known_);
  }

  Index inputs_ = 0;
  Index samples_ = 0;
  Matrix<double> gram_{};  // of the samples that are no longer held; empty if none were let go
  Fold first_{};           // of these, what the first fold has
  bool folds_known_ = false;
  // The square roots, so that they do not overflow, of the sums over samples and i != j of x_i^2
  // x_j^2, and over samples and i of x_i^4.
  double quartic_ = 0;
  double fourth_ = 0;
  Matrix<T> held_{};
  Index held_count_ = 0;
  bool paired_ = false;    // then samples are x',
  Matrix<T> originals_{};  // this has x beside each that is held,
  CrossMoment<> cross_{};  // and this is of those that are not
  Vector<double> sum_{};
  bool mean_known_ = true;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
