// SPDX-License-Identifier: MIT
// compress_product: two linear layers with nothing but attention between them, narrower per head.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/product_factors.hpp"
#include "pleat/solve/low_rank/rank_within.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/cross_fit.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `compress_product` works.
struct ProductOptions {
  /// The width of a head to keep; 0 leaves it to the budget.
  Index rank = 0;
  /// Without effect: nothing is random here.
  std::uint64_t seed = 0;
  Monitor monitor = {};
};

/// Both layers, of heads of width `rank`.
template <Real T>
struct ProductPair {
  Matrix<T> W2;    ///< m x (heads * rank): columns h * rank, ... of head h
  Matrix<T> W1;    ///< (heads * rank) x n: rows h * rank, ... of head h
  Index rank = 0;  ///< the same for every head

  /// What the two layers take dense.
  [[nodiscard]] std::size_t bytes() const {
    return sizeof(T) * static_cast<std::size_t>(W1.size() + W2.size());
  }
};

namespace detail {

/// "1, 2, 5, 10": what divides a number; the first 32 of it.
[[nodiscard]] inline std::string divisors_text(Index number) {
  std::string text;
  int listed = 0;
  for (Index divisor = 1; divisor <= number && listed < 32; ++divisor)
    if (number % divisor == 0) {
      text += (listed > 0 ? ", " : "") + std::to_string(divisor);
      ++listed;
    }
  return text;
}

/// The body of `compress_product`.
template <Real T>
class ProductMaker {
 public:
  ProductMaker(const ConstMatrixRef<T>& W2, const ConstMatrixRef<T>& W1, Index heads,
               const Calibration<T>& calibration, const ProductOptions& options)
      : W2_(W2),
        W1_(W1),
        heads_(heads),
        calibration_(calibration),
        options_(options),
        stop_(options.monitor) {}
  ProductMaker(const ProductMaker&) = delete;
  ProductMaker& operator=(const ProductMaker&) = delete;
  ~ProductMaker() = default;

  [[nodiscard]] ProductPair<T> within(const Budget& budget) {
    check();
    const Index d = W1_.rows() / heads_;
    const Index values = heads_ * (W1_.cols() + W2_.rows());
    const std::size_t one = static_cast<std::size_t>(values) * sizeof(T);
    const std::size_t limit = budget.max_bytes(values, d, sizeof(T));
    require(options_.rank >= 0 && options_.rank <= d, [&] {
      return "compress_product: heads of width " + std::to_string(d) + " cannot keep " +
             std::to_string(options_.rank);
    });
    const auto least = std::max<Index>(1, options_.rank);
    require(one * static_cast<std::size_t>(least) <= limit, [&] {
      return "compress_product: " + budget.text() + " of " + shape_text(W2_.rows(), W2_.cols()) +
             " and " + shape_text(W1_.rows(), W1_.cols()) + " matrices allows " +
             std::to_string(limit) + " bytes, but rank " + std::to_string(least) + " needs " +
             std::to_string(one * static_cast<std::size_t>(least));
    });
    const bool fixed = options_.rank > 0;
    const auto most = static_cast<Index>((std::min)(static_cast<std::size_t>(d), limit / one));
    Index rank = fixed ? options_.rank : most;
    if (rank == d && (fixed || !budget.bounds_error())) return made(d);
    scale();
    const auto steady = steadied(calibration_);
    const Calibration<T>& seen = steady ? *steady : calibration_;
    const ProductMetric<T> fitting(seen);
    const double shrinkage =
        shrinkage_for(seen, budget.bounds_error() && !fixed ? (d + 1) / 2 : rank);
    const auto pack = [&](Index other) { return made(other, fitting, shrinkage); };
    ProductPair<T> best = pack(rank);
    if (!budget.bounds_error()) return best;

    const double wanted = (std::max)(budget.max_error(), 1e-7);
    const ProductMetric<T> judging(calibration_);
    const auto measure = [&](const ProductPair<T>& pair) { return error_of(pair, judging); };
    double reached = measure(best);
    const auto allowed = [&] { return allowed_error<T>(wanted, rank, d, native_storage<T>); };
    if (!fixed)
      take_no_more<T>(wanted, native_storage<T>, d, rank, best, reached, pack, measure,
                      [&] { return stop_.stopped(); });
    require(reached <= allowed() || stop_.stopped(), [&] {
      return "compress_product: " + budget.text() + " cannot be met: rank " + std::to_string(rank) +
             " of heads of width " + std::to_string(d) + " has relative error " +
             scientific(reached);
    });
    return best;
  }

 private:
  void check() const {
    const auto shapes = [&] {
      return shape_text(W2_.rows(), W2_.cols()) + " and " + shape_text(W1_.rows(), W1_.cols());
    };
    require(W1_.size() > 0 && W2_.size() > 0,
            [&] { return "compress_product: a product of " + shapes() + " matrices is empty"; });
    require(W2_.cols() == W1_.rows(),
            [&] { return "compress_product: there is no product of " + shapes() + " matrices"; });
    require(heads_ >= 1 && W1_.rows() % heads_ == 0, [&] {
      return "compress_product: " + std::to_string(W1_.rows()) + " rows cannot be those of " +
             std::to_string(heads_) + " heads of one width; " + divisors_text(W1_.rows()) +
             " heads would fit";
    });
    require_finite(W1_, "the weights of the first layer");
    require_finite(W2_, "the weights of the second layer");
    calibration_.require_fit(W2_.rows(), W1_.cols());
    require_no_pairs("compress_product", calibration_);
  }

  void scale() {
    A_ = W2_.template cast<double>();
    B_ = W1_.template cast<double>();
    const double left = power_of_two_below(A_.cwiseAbs().maxCoeff());
    const double right = power_of_two_below(B_.cwiseAbs().maxCoeff());
    A_ /= left;
    B_ /= right;
    scale_ = left * right;
  }

  /// By the product of the head in the middle.
  [[nodiscard]] double shrinkage_for(const Calibration<T>& seen, Index rank) {
    const Index d = W1_.rows() / heads_;
    const Index m = W2_.rows();
    const Index n = W1_.cols();
    const Matrix<double> W = multiply(A_.middleCols(heads_ / 2 * d, d),
                                      Matrix<double>(B_.middleRows(heads_ / 2 * d, d)));
    // Of the rows that are tried, as many dimensions are kept as of the whole, which has d at most.
    const double tried = static_cast<double>((std::min)({m, n, Index{128}}));
    const double kept = static_cast<double>(rank) * (std::min)(1.0, tried / static_cast<double>(d));
    return low_rank_shrinkage(
        W, seen,
        static_cast<Index>(std::lround(kept * static_cast<double>((std::min)(m, n)) / tried)),
        stop_.monitor());
  }

  /// The layers as they are.
  [[nodiscard]] ProductPair<T> made(Index rank) const { return {W2_, W1_, rank}; }

  [[nodiscard]] ProductPair<T> made(Index rank, const ProductMetric<T>& metric, double shrinkage) {
    const Index d = W1_.rows() / heads_;
    if (rank == d) return made(rank);
    ProductPair<T> pair{Matrix<T>(W2_.rows(), heads_ * rank), Matrix<T>(heads_ * rank, W1_.cols()),
                        rank};
    ProgressReport report(stop_.monitor());
    for (Index head = 0; head < heads_; ++head) {
      const Matrix<double> A = A_.middleCols(head * d, d);
      const Matrix<double> B = B_.middleRows(head * d, d);
      ProductFactors factors;
      if (report.begin("heads", head + 1, heads_))
        factors = product_factors(A, B, rank, metric, shrinkage);
      else factors = {A.leftCols(rank), B.topRows(rank)};
      // The largest entries of both are of one size, to a power of two.
      const double left = factors.U.cwiseAbs().maxCoeff();
      const double right = factors.V.cwiseAbs().maxCoeff();
      double balance = scale_;
      if (left > 0 && right > 0)
        balance =
            std::exp2(std::round((std::log2(right) - std::log2(left) + std::log2(scale_)) / 2));
      pair.W2.middleCols(head * rank, rank) = (factors.U * balance).template cast<T>();
      pair.W1.middleRows(head * rank, rank) = (factors.V * (scale_ / balance)).template cast<T>();
    }
    return pair;
  }

  /// The root of the sum over heads of || P^(1/2) (A B - U V) X ||^2 over that of A B.
  [[nodiscard]] double error_of(const ProductPair<T>& pair, const ProductMetric<T>& metric) const {
    const Index d = W1_.rows() / heads_;
    const Index r = pair.rank;
    if (r == d) return 0;
    double loss = 0;
    double total = 0;
    Matrix<double> left(W2_.rows(), d + r);
    Matrix<double> right(d + r, W1_.cols());
    for (Index head = 0; head < heads_; ++head) {
      const Matrix<double> U = pair.W2.middleCols(head * r, r).template cast<double>();
      const Matrix<double> V = pair.W1.middleRows(head * r, r).template cast<double>();
      const double unit = power_of_two_below(U.cwiseAbs().maxCoeff());
      left << A_.middleCols(head * d, d), U / unit;
      right << B_.middleRows(head * d, d), V * (-unit / scale_);
      const Matrix<double> outer = metric.of_outputs(left);
      const Matrix<double> inner = metric.of_inputs(right, 0);
      loss += (std::max)(0.0, outer.cwiseProduct(inner).sum());
      total += outer.topLeftCorner(d, d).cwiseProduct(inner.topLeftCorner(d, d)).sum();
    }
    if (total > 0) return std::sqrt(loss / total);
    return loss > 0 ? std::numeric_limits<double>::infinity() : 0;
  }

  const ConstMatrixRef<T>& W2_;
  const ConstMatrixRef<T>& W1_;
  Index heads_;
  const Calibration<T>& calibration_;
  const ProductOptions& options_;
  StopMonitor stop_;
  Matrix<double> A_{};  // W2, scaled
  Matrix<double> B_{};  // W1, scaled
  double scale_ = 1;
};

}  // namespace detail

/// Narrower heads for two layers y = sum over heads h of W2_h a_h(W1_h x), a_h linear across
/// samples, as attention is: W2: m x (heads d), columns of head h from h d on; W1: (heads d) x n,
/// rows likewise. Values and output of attention are such layers, and in the metric of x each
/// product W2_h W1_h, of rank d at most, is replaced by the best of rank r,
///
///     W2_h' W1_h'  minimises  || P^(1/2) (W2_h W1_h - W2_h' W1_h') X ||,
///
/// X X^T the Gram matrix of the calibration, shrunk (see `Calibration::shrinkage`), P its weights
/// of outputs. It is the truncated singular value decomposition of P^(1/2) W2_h W1_h X: see
/// `detail::product_factors`. No inverse is taken, calibrations may be singular. r is the same for
/// every head; r = d returns the layers bit for bit. No other r of the d dimensions do better, in
/// any basis, on the calibration where it is not shrunk.
///
/// Budgets are of both matrices, dense in T: `keep` is a share of what they take now; `error` is
/// the smallest r found whose
///
///     sqrt(sum over heads of || P^(1/2) (W2_h W1_h - W2_h' W1_h') X ||^2
///          / sum over heads of || P^(1/2) W2_h W1_h X ||^2)
///
/// on the calibration as it is, is at most that; attention weighs each head by itself, so errors of
/// heads do not cancel here. Below 1e-7 nothing can be told from 0.
///
/// For grouped queries, the W2_h of the g heads that share values are stacked by rows: W2 is (g m)
/// x (heads d). Without rotary embedding, queries and keys are a product as well: W2 = Wq^T, W1 =
/// Wk, with the second moment of the queries' inputs as the calibration's `output_metric`. Biases
/// of values reach the outputs as a constant, W2 b1, since weights of attention sum to 1: add it
/// there.
///
/// Deterministic, for any number of threads, and blind to scale. Cost: heads times that of
/// `detail::product_factors`; for `error`, log2(d) times that and heads (d + r) n^2. Throws
/// `std::invalid_argument` if a matrix is empty or not finite, if shapes or the calibration do not
/// fit, if that is one of pairs of inputs (see `Calibration::add`), if the heads do not divide the
/// inner size, on a rank out of range, and if rank 1, or the rank of the options, is not within the
/// budget. Where a monitor stops it, the remaining heads keep the first r dimensions as they are.
///
/// Source: MoDeGPT (Lin et al., ICLR 2025, modules of type III), which inverts a square root of the
/// Gram matrix.
template <class Weights2, class Weights1>
[[nodiscard]] auto compress_product(const Eigen::MatrixBase<Weights2>& W2,
                                    const Eigen::MatrixBase<Weights1>& W1, Index heads,
                                    const Budget& budget,
                                    const Calibration<typename Weights1::Scalar>& calibration = {},
                                    const ProductOptions& options = {}) {
  using T = typename Weights1::Scalar;
  static_assert(std::same_as<typename Weights2::Scalar, T>, "both layers have one scalar type");
  const ConstMatrixRef<T> second(W2.derived());
  const ConstMatrixRef<T> first(W1.derived());
  [[maybe_unused]] const detail::SerialEigen serial;
  return detail::ProductMaker<T>(second, first, heads, calibration, options).within(budget);
}

/// The same with options and no calibration.
template <class Weights2, class Weights1>
[[nodiscard]] auto compress_product(const Eigen::MatrixBase<Weights2>& W2,
                                    const Eigen::MatrixBase<Weights1>& W1, Index heads,
                                    const Budget& budget, const ProductOptions& options) {
  return compress_product(W2, W1, heads, budget, Calibration<typename Weights1::Scalar>(), options);
}

}  // namespace PLEAT_ABI
}  // namespace pleat
