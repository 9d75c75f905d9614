// SPDX-License-Identifier: MIT
// compress_pair, compress_gated_pair: two layers with a nonlinearity between them, and fewer of the
// units there.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/low_rank/rank_within.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/cross_fit.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/selection/unit_selection.hpp"
#include "pleat/solve/selection/unit_shrinkage.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `compress_pair` chooses the hidden units that are kept. Without a calibration all three are
/// `energy`.
enum class UnitSelection : std::uint8_t {
  /// One after the other, that which takes most off the error of the outputs, given those before:
  /// the best in every case measured. See `detail::GreedyUnits`.
  greedy,
  /// Those with the largest leverage scores, without a ridge: for k units, the sums of squares of
  /// their entries in the k leading eigenvectors of C. What the outputs are is not looked at.
  leverage,
  /// The largest C_jj || W2_:j ||^2: what dropping a unit costs if no other stands in for it.
  energy,
};

/// How `compress_pair` and `compress_gated_pair` work.
struct PairOptions {
  /// The number of units to keep; 0 leaves it to the budget.
  Index units = 0;
  UnitSelection selection = UnitSelection::greedy;
  /// Seed of the leading eigenvectors of more than 1024 units, for `leverage`.
  std::uint64_t seed = 0;
  Monitor monitor = {};
};

/// A layer, a nonlinearity and a layer, of k hidden units: W2 f(W1 x + b1).
template <Real T>
struct Pair {
  std::vector<Index> units;  ///< which of the old hidden units these are, ascending
  Matrix<T> W1;              ///< k x n: rows of the old one
  Vector<T> b1;              ///< k of the old biases, or empty
  Matrix<T> W2;              ///< m x k: not columns of the old one, see `compress_pair`

  /// What the two layers take dense.
  [[nodiscard]] std::size_t bytes() const {
    return sizeof(T) * static_cast<std::size_t>(W1.size() + b1.size() + W2.size());
  }
};

/// The same with a gate: W2 (f(Wg x + bg) * (Wu x + bu)), * by entries.
template <Real T>
struct GatedPair {
  std::vector<Index> units;  ///< which of the old hidden units these are, ascending
  Matrix<T> Wg;              ///< k x n
  Vector<T> bg;              ///< k, or empty
  Matrix<T> Wu;              ///< k x n
  Vector<T> bu;              ///< k, or empty
  Matrix<T> W2;              ///< m x k

  /// What the three layers take dense.
  [[nodiscard]] std::size_t bytes() const {
    return sizeof(T) *
           static_cast<std::size_t>(Wg.size() + bg.size() + Wu.size() + bu.size() + W2.size());
  }
};

namespace detail {

/// The layer before the nonlinearity: W, units x inputs, and its biases, which may be missing.
template <Real T>
class LayerBefore {
 public:
  template <class Weights, class Biases>
  LayerBefore(const Eigen::MatrixBase<Weights>& W, const Eigen::MatrixBase<Biases>& b)
      : W_(W.derived()), b_(b.derived()) {
    static_assert(
        std::same_as<typename Weights::Scalar, T> && std::same_as<typename Biases::Scalar, T>,
        "all weights and biases have one scalar type");
  }

  /// Values stored for each unit.
  [[nodiscard]] Index values() const { return W_.cols() + (b_.size() > 0 ? 1 : 0); }

  /// Throws unless there is a unit in it for each input of the layer that follows.
  void require_fit(const std::string& call, const char* layer, const ConstMatrixRef<T>& W2) const {
    require(W_.size() > 0 && W2.size() > 0, [&] {
      return call + ": a pair of " + shape_text(W_.rows(), W_.cols()) + " and " +
             shape_text(W2.rows(), W2.cols()) + " matrices is empty";
    });
    require(W_.rows() == W2.cols(), [&] {
      return call + ": the " + layer + " layer, " + shape_text(W_.rows(), W_.cols()) + ", has " +
             std::to_string(W_.rows()) + " units, but the second, " +
             shape_text(W2.rows(), W2.cols()) + ", takes " + std::to_string(W2.cols());
    });
    require(b_.size() == 0 || (b_.rows() == W_.rows() && b_.cols() == 1), [&] {
      return call + ": the biases of " + std::to_string(W_.rows()) + " units are " +
             shape_text(W_.rows(), 1) + " or empty, not " + shape_text(b_.rows(), b_.cols());
    });
    require_finite(W_, std::string("the weights of the ") + layer + " layer");
    require_finite(b_, std::string("the biases of the ") + layer + " layer");
  }

  [[nodiscard]] Matrix<T> weights(const std::vector<Index>& units) const {
    return W_(units, Eigen::all);
  }
  [[nodiscard]] Vector<T> biases(const std::vector<Index>& units) const {
    return b_.size() > 0 ? Vector<T>(b_.col(0)(units)) : Vector<T>();
  }

 private:
  ConstMatrixRef<T> W_;
  ConstMatrixRef<T> b_;
};

/// The units that are kept, ascending, and the layer that takes them.
template <Real T>
struct KeptUnits {
  std::vector<Index> units;
  Matrix<T> W2;
};

/// Keeps hidden units of W2, m x n. `values` are stored for each, and `call` is named in messages.
template <Real T>
class UnitMaker {
 public:
  UnitMaker(std::string call, Index values, const ConstMatrixRef<T>& W2,
            const Calibration<T>& hidden, const PairOptions& options)
      : call_(std::move(call)),
        values_(values),
        W2_(W2),
        hidden_(hidden),
        options_(options),
        stop_(options.monitor),
        report_(stop_.monitor()) {}
  UnitMaker(const UnitMaker&) = delete;
  UnitMaker& operator=(const UnitMaker&) = delete;
  ~UnitMaker() = default;

  [[nodiscard]] KeptUnits<T> within(const Budget& budget) {
    const Index n = W2_.cols();
    const Index given = options_.units;
    const auto unit = static_cast<std::size_t>(values_) * sizeof(T);
    const std::size_t limit = budget.max_bytes(values_, n, sizeof(T));
    require_finite(W2_, "the weights of the second layer");
    hidden_.require_fit(W2_.rows(), n);
    require_no_pairs(call_.c_str(), hidden_);
    require(given >= 0 && given <= n, [&] {
      return call_ + ": of " + std::to_string(n) + " units, " + std::to_string(given) +
             " cannot be kept";
    });
    require(options_.selection <= UnitSelection::energy,
            [&] { return call_ + ": unknown selection of units"; });
    const auto least = std::max<Index>(1, given);
    require(unit * static_cast<std::size_t>(least) <= limit, [&] {
      return call_ + ": " + budget.text() + " of a pair with " + std::to_string(n) +
             " units allows " + std::to_string(limit) + " bytes, but " + std::to_string(least) +
             (least == 1 ? " unit needs " : " units need ") +
             std::to_string(unit * static_cast<std::size_t>(least));
    });
    const auto most = static_cast<Index>((std::min)(static_cast<std::size_t>(n), limit / unit));
    const Index count = given > 0 ? given : most;
    if (!budget.bounds_error()) {
      prepare(count);
      return make(count);
    }
    prepare(given > 0 ? given : (n + 1) / 2);
    return within_error(budget, count);
  }

 private:
  /// From here down nothing but the rounding of a Gram matrix in double is to be told from 0, nor
  /// from the rounding of weights.
  static constexpr double resolution =
      (std::max)(1e-7, static_cast<double>(std::numeric_limits<T>::epsilon()));

  /// The metric, shrunk as suits so many units.
  void prepare(Index likely) {
    const Index n = W2_.cols();
    W_ = W2_.template cast<double>();
    unit_ = power_of_two_below(W_.cwiseAbs().maxCoeff());
    W_ /= unit_;
    V_ = W_;
    if (const auto& weights = hidden_.row_weights(); weights.size() > 0)
      V_ = (weights / weights.maxCoeff()).cwiseSqrt().asDiagonal() * W_;
    if (hidden_.output_metric().size() > 0) V_ = multiply(scaled_root(hidden_.output_metric()), W_);
    dependent_ = dependent_share<T>(n);
    if (likely == n) return;  // nothing to choose
    // Mean squares stay as they are, few samples or not: what one unit says of another is lost if
    // both are drawn to a mean.
    C_ = shrunk(scaled_gram(hidden_), unit_shrinkage(V_, hidden_, likely, stop_.monitor()));
    if (C_.size() > 0 && options_.selection == UnitSelection::greedy)
      greedy_ = std::make_unique<GreedyUnits<>>(C_, V_, dependent_);
  }

  /// The best `count` units, and the second layer fitted to them.
  [[nodiscard]] KeptUnits<T> make(Index count) {
    const Index n = W2_.cols();
    std::vector<Index> units;
    if (count < n) {
      if (greedy_) {
        greedy_->take(count, -1, report_);
        units = greedy_->order();
      } else if (C_.size() > 0 && options_.selection == UnitSelection::leverage) {
        units = leverage_order(C_, count, options_.seed, stop_.monitor());
      } else if (!stop_.stopped()) {
        (void)report_.begin("units", 1, 1);
      }
      if (std::ssize(units) > count) units.resize(static_cast<std::size_t>(count));
    }
    // What the calibration sees nothing of, or no more: by what it may be worth elsewhere.
    std::vector<bool> taken(static_cast<std::size_t>(n), false);
    for (const Index j : units) taken[static_cast<std::size_t>(j)] = true;
    for (const Index j : energy_order(C_, V_))
      if (std::ssize(units) < count && !taken[static_cast<std::size_t>(j)]) units.push_back(j);
    std::sort(units.begin(), units.end());
    if (count == n) return {std::move(units), W2_};
    const Matrix<double> fitted = refit_to_units(C_, W_, units, dependent_) * unit_;
    return {std::move(units), fitted.template cast<T>()};
  }

  /// The relative error of the outputs.
  [[nodiscard]] double measure(const KeptUnits<T>& made) const {
    Matrix<T> all = Matrix<T>::Zero(W2_.rows(), W2_.cols());
    all(Eigen::all, made.units) = made.W2;
    return relative_error(W2_, Dense<T>(all), hidden_);
  }

  /// `most` units, or fewer where they do.
  [[nodiscard]] KeptUnits<T> within_error(const Budget& budget, Index most) {
    const bool fixed = options_.units > 0;
    const bool exact = budget.max_error() < resolution;
    const double wanted = (std::max)(budget.max_error(), 1e-7);
    Index count = most;
    bool on_path = false;
    if (!fixed && greedy_) {
      greedy_->take(most, exact ? -1 : wanted * wanted * greedy_->total(), report_);
      count = std::max<Index>(1, std::ssize(greedy_->order()));
      if (count < most && greedy_->exhausted() && !exact &&
          greedy_->loss() > wanted * wanted * greedy_->total())
        count = most;
      on_path = true;
    }
    KeptUnits<T> best = make(count);
    const auto pack = [&](Index other) { return make(other); };
    const auto check = [&](const KeptUnits<T>& made) { return measure(made); };
    const auto stopped = [&] { return stop_.stopped(); };
    double reached =
        keep_promise<T>(wanted, native_storage<T>, most, count, best, pack, check, stopped);
    const auto allowed = [&] {
      return allowed_error<T>(wanted, count, W2_.cols(), native_storage<T>);
    };
    if (!fixed && reached <= allowed() && !(on_path && exact))
      take_no_more<T>(wanted, native_storage<T>, most, count, best, reached, pack, check, stopped);
    require(reached <= allowed() || stop_.stopped(), [&] {
      return call_ + ": " + budget.text() + " cannot be met: with " + std::to_string(count) +
             " of " + std::to_string(W2_.cols()) + " units, the relative error is " +
             scientific(reached);
    });
    return best;
  }

  std::string call_;
  Index values_;
  const ConstMatrixRef<T>& W2_;
  const Calibration<T>& hidden_;
  const PairOptions& options_;
  StopMonitor stop_;
  ProgressReport report_;
  Matrix<double> W_{};  // scaled
  double unit_ = 1;
  Matrix<double> V_{};  // with the outputs weighted
  double dependent_ = 0;
  Matrix<double> C_{};  // scaled and shrunk; empty for the identity
  std::unique_ptr<GreedyUnits<>> greedy_{};
};

}  // namespace detail

/// Fewer hidden units for h = f(W1 x + b1), y = W2 h + b2, f any function of single entries; W1: N
/// x n, b1: N or empty, W2: m x N. Of k kept units J, the first layer keeps rows and biases as they
/// are, and the second becomes the best that it can be for them,
///
///     W1' = W1_J:,   b1' = b1_J,   W2' = W2 C_:J C_JJ^-1,
///
/// which minimises || P^(1/2) (W2 h - W2' h_J) || over the calibration `hidden` of the second
/// layer's inputs, C their Gram matrix, shrunk (see `Calibration::shrinkage`), whatever its weights
/// P of outputs; these, and C and W2, decide which units are kept, see `UnitSelection`. C may be
/// singular: to drop what depends on kept units costs nothing, and a kept unit that the calibration
/// never saw keeps its column of W2. Without samples C is the identity, and W2' = W2_:J. The result
/// is dense matrices, for any structure and storage to follow.
///
/// Budgets are of W1, b1 and W2 together, stored dense in T: `keep` is a share of what they take
/// now, and as many units are kept as fit; `error` takes the fewest units, along the order in which
/// they are chosen, whose || P^(1/2) (W2 h - W2' h_J) || / || P^(1/2) W2 h || on the calibration as
/// it is, not shrunk, is at most that. Below 1e-7, or the epsilon of T, nothing can be told from 0
/// by a Gram matrix in double: for such an error all units are kept that do not depend on others.
/// Where all are kept, they are the old pair, bit for bit.
///
/// Deterministic, for any number of threads, and blind to the scales of W2 and of the samples.
/// Cost: N k (k / 2 + m) + 2 m N^2 multiply-adds in double, N^2 + N k + 3 m N doubles, and the
/// choice of a shrinkage (some k^3, and the Gram matrices of the folds; none if it is set); for
/// `error`, about log2(k) times m N (N + k) more. Throws `std::invalid_argument` if a matrix is
/// empty or not finite, if shapes or the calibration do not fit, if that is one of pairs of inputs
/// (see `Calibration::add`), on options out of range, and if one unit, or as many as the options
/// ask for, are not within the budget. Stopped by its monitor, it completes what it has by
/// `energy`.
///
/// Source: MoDeGPT (Lin et al., ICLR 2025, modules of type I), which has the same least squares,
/// and chooses units by ridge leverage scores.
template <class Weights1, class Biases, class Weights2>
[[nodiscard]] auto compress_pair(const Eigen::MatrixBase<Weights1>& W1,
                                 const Eigen::MatrixBase<Biases>& b1,
                                 const Eigen::MatrixBase<Weights2>& W2,
                                 const Calibration<typename Weights1::Scalar>& hidden,
                                 const Budget& budget, const PairOptions& options = {}) {
  using T = typename Weights1::Scalar;
  static_assert(std::same_as<typename Weights2::Scalar, T>, "both layers have one scalar type");
  const std::string call = "compress_pair";
  const detail::LayerBefore<T> first(W1, b1);
  const ConstMatrixRef<T> second(W2.derived());
  first.require_fit(call, "first", second);
  [[maybe_unused]] const detail::SerialEigen serial;
  auto kept = detail::UnitMaker<T>(call, first.values() + second.rows(), second, hidden, options)
                  .within(budget);
  return Pair<T>{kept.units, first.weights(kept.units), first.biases(kept.units),
                 std::move(kept.W2)};
}

/// The same for h = f(Wg x + bg) * (Wu x + bu), * by entries, as in gated feed-forward layers: rows
/// of both are dropped together. Wg and Wu: N x n, bg and bu: N or empty, W2: m x N. Budgets are of
/// all five together.
template <class WeightsG, class BiasesG, class WeightsU, class BiasesU, class Weights2>
[[nodiscard]] auto compress_gated_pair(const Eigen::MatrixBase<WeightsG>& Wg,
                                       const Eigen::MatrixBase<BiasesG>& bg,
                                       const Eigen::MatrixBase<WeightsU>& Wu,
                                       const Eigen::MatrixBase<BiasesU>& bu,
                                       const Eigen::MatrixBase<Weights2>& W2,
                                       const Calibration<typename WeightsG::Scalar>& hidden,
                                       const Budget& budget, const PairOptions& options = {}) {
  using T = typename WeightsG::Scalar;
  static_assert(std::same_as<typename Weights2::Scalar, T>, "all layers have one scalar type");
  const std::string call = "compress_gated_pair";
  const detail::LayerBefore<T> gate(Wg, bg);
  const detail::LayerBefore<T> up(Wu, bu);
  const ConstMatrixRef<T> second(W2.derived());
  gate.require_fit(call, "gate", second);
  up.require_fit(call, "up", second);
  detail::require(Wg.cols() == Wu.cols(), [&] {
    return call + ": gate and up layer see the same inputs, but are " +
           detail::shape_text(Wg.rows(), Wg.cols()) + " and " +
           detail::shape_text(Wu.rows(), Wu.cols());
  });
  [[maybe_unused]] const detail::SerialEigen serial;
  auto kept = detail::UnitMaker<T>(call, gate.values() + up.values() + second.rows(), second,
                                   hidden, options)
                  .within(budget);
  return GatedPair<T>{kept.units,
                      gate.weights(kept.units),
                      gate.biases(kept.units),
                      up.weights(kept.units),
                      up.biases(kept.units),
                      std::move(kept.W2)};
}

}  // namespace PLEAT_ABI
}  // namespace pleat
