// SPDX-License-Identifier: MIT
// The factors of a Monarch matrix, in closed form or, in the metric of a calibration, by sweeps.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/solve/kronecker/monarch_shapes.hpp"
#include "pleat/solve/linear/definite_root.hpp"
#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Minimises || W - What ||_G^2 = tr((W - What) G (W - What)^T) over Monarch matrices of a shape.
///
/// Without a G the norm is a sum over the slices, rows of class j and columns of block k, and each
/// has the best of its rank by its leading singular vectors (Eckart and Young): the optimum. With
/// one, classes have nothing to do with each other, but the blocks of a class have. Where G is
/// block-diagonal the leading left singular vectors U of W_jk S_k, S_k S_k^T = G_kk, are the
/// optimum, L = U and R = U^T W_jk: no inverse, and what the metric does not see stays that of W.
/// Any other G begins there, or at the optimum without one where that is better for a class, and
/// then sweeps: given the other blocks, the best that slice k can be is that of
///
///     T = W_jk + (E G)_{:,k} G_kk^-1,   E the error of class j in the other blocks,
///
/// in the metric G_kk; and after all blocks, given all R of a class, L is that of least squares. A
/// step is taken only if the loss, which is known exactly, falls.
///
/// Cost: m n min(p, q) multiply-adds without a G; m n^2 a sweep, twice.
template <class = void>
class MonarchSolver {
 public:
  /// An empty G is the identity. `seed` is that of the randomized method for large slices.
  MonarchSolver(const Matrix<double>& W, Matrix<double> G, const MonarchShape& shape,
                std::uint64_t seed, Monitor monitor)
      : G_(std::move(G)), shape_(shape), seed_(seed), monitor_(std::move(monitor)) {
    const Index n = W.cols();
    const Index p = shape_.width(n);
    for (Index k = 0; k < shape_.blocks; ++k) {
      const Index first = (std::min)(n, k * p);
      blocks_.push_back({first, (std::min)(p, n - first), {}, {}});
    }
    for (Index j = 0; j < shape_.classes; ++j) {
      const Index rows = (W.rows() - j + shape_.classes - 1) / shape_.classes;
      Class own;
      own.W = W(Eigen::seqN(j, rows, shape_.classes), Eigen::all);
      own.L = Matrix<double>::Zero(rows, shape_.blocks * shape_.rank);
      for (const Block& block : blocks_)
        own.R.push_back(Matrix<double>::Zero(shape_.rank, block.width));
      classes_.push_back(std::move(own));
    }
    if (G_.size() == 0) return;
    const bool tall = shape_.height(W.rows()) > p;
    parallel_ranges(shape_.blocks, [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) {
        Block& block = blocks_[at(k)];
        block.G = G_.block(block.first, block.first, block.width, block.width);
        if (shape_.blocks > 1 || tall) block.definite = definite_root(block.G);
      }
    });
  }

  /// The columns of a block, and its part of the metric.
  struct Block {
    Index first;
    Index width;
    Matrix<double> G;
    DefiniteRoot definite;
  };
  /// The rows of a class, q x n, and its factors: L, q x K t, and for each block R, t x p.
  struct Class {
    Matrix<double> W{};
    Matrix<double> L{};
    std::vector<Matrix<double>> R{};
    Matrix<double> image{};  // (W - What) G
    double loss = 0;
    double whole = 0;  // of What = 0
  };

  /// The closed form, and then at most so many sweeps.
  void run(Index sweeps) {
    if (G_.size() == 0) {
      take_slices(false);
      judge();
      (void)report("slices", 1, 1);
      return;
    }
    std::vector<Class> plain;
    if (shape_.blocks > 1) {  // of one block, the metric's own is the optimum
      take_slices(false);
      judge();
      plain = classes_;
    }
    take_slices(true);
    judge();
    for (std::size_t j = 0; j < plain.size(); ++j)
      if (plain[j].loss < classes_[j].loss) classes_[j] = plain[j];
    if (!report("slices", 1, 1)) return;
    // One block has no others.
    for (Index sweep = 1; sweep <= sweeps && shape_.blocks > 1; ++sweep) {
      const double before = loss();
      in_parallel([this](Class& own) {
        if (own.loss <= 1e-14 * own.whole) return;  // rounding
        for (Index k = 0; k < shape_.blocks; ++k) improve(own, k);
        fit_left(own);
      });
      if (!report("sweeps", sweep, sweeps)) return;
      if (loss() > before * (1 - 1e-4)) return;
    }
  }

  /// Scales the columns of L and the rows of R so that the largest entries of each pair are of one
  /// size: which is good for narrow storage, where the columns of L share scales. By powers of two
  /// unless `exact`.
  void balance(bool exact) {
    for (Class& own : classes_)
      for (Index c = 0; c < own.L.cols(); ++c) {
        auto row = own.R[at(c / shape_.rank)].row(c % shape_.rank);
        const double left = own.L.col(c).cwiseAbs().maxCoeff();
        const double right = row.size() > 0 ? row.cwiseAbs().maxCoeff() : 0;
        if (!(left > 0) || !(right > 0)) continue;
        const double power = (std::log2(right) - std::log2(left)) / 2;
        const double factor = std::exp2(exact ? power : std::round(power));
        own.L.col(c) *= factor;
        row /= factor;
      }
  }

  /// Goes on with other R that are close to these, such as these in fewer bits, class by class and
  /// block by block: finds L for them.
  void refit(std::vector<std::vector<Matrix<double>>> R) {
    for (std::size_t j = 0; j < classes_.size(); ++j) classes_[j].R = std::move(R[j]);
    judge();
    in_parallel([this](Class& own) { fit_left(own); });
  }

  [[nodiscard]] const MonarchShape& shape() const { return shape_; }
  [[nodiscard]] const std::vector<Class>& classes() const { return classes_; }

  /// What is minimised.
  [[nodiscard]] double loss() const {
    double sum = 0;
    for (const Class& own : classes_) sum += own.loss;
    return sum;
  }
  /// The same of nothing: what W itself weighs.
  [[nodiscard]] double whole() const {
    double sum = 0;
    for (const Class& own : classes_) sum += own.whole;
    return sum;
  }
  /// What is minimised, of a Gram matrix of one's own.
  [[nodiscard]] double loss(const Matrix<double>& G) const {
    double sum = 0;
    for (const Class& own : classes_) {
      const Matrix<double> E = error(own);
      sum += E.cwiseProduct(multiply(E, G)).sum();
    }
    return sum;
  }

 private:
  struct Factors {
    Matrix<double> L;
    Matrix<double> R;
  };

  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  bool report(std::string_view phase, Index iteration, Index iterations) const {
    const double all = whole();
    return !monitor_ || monitor_({phase, iteration, iterations,
                                  all > 0 ? std::sqrt((std::max)(0.0, loss()) / all) : 0});
  }

  template <class Body>
  void in_parallel(Body body) {
    parallel_ranges(shape_.classes, [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j) body(classes_[at(j)]);
    });
  }

  [[nodiscard]] Matrix<double> error(const Class& own) const {
    Matrix<double> E = own.W;
    for (Index k = 0; k < shape_.blocks; ++k)
      E.middleCols(blocks_[at(k)].first, blocks_[at(k)].width) -= slice(own, k);
    return E;
  }
  [[nodiscard]] Matrix<double> slice(const Class& own, Index k) const {
    return multiply(own.L.middleCols(k * shape_.rank, shape_.rank), own.R[at(k)]);
  }

  /// The image and the losses of all classes.
  void judge() {
    in_parallel([this](Class& own) {
      const Matrix<double> E = error(own);
      own.image = G_.size() > 0 ? multiply(E, G_) : Matrix<double>();
      own.loss = G_.size() > 0 ? (std::max)(0.0, E.cwiseProduct(own.image).sum()) : E.squaredNorm();
      if (own.whole > 0) return;
      own.whole =
          G_.size() > 0 ? own.W.cwiseProduct(multiply(own.W, G_)).sum() : own.W.squaredNorm();
    });
  }

  /// Each slice by itself, in its own part of the metric or in none.
  void take_slices(bool in_metric) {
    parallel_ranges(shape_.blocks * shape_.classes, [&](Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        const Index k = s % shape_.blocks;
        const Block& block = blocks_[at(k)];
        Class& own = classes_[at(s / shape_.blocks)];
        Factors found =
            closest(own.W.middleCols(block.first, block.width), in_metric ? &block : nullptr, 512);
        own.L.middleCols(k * shape_.rank, shape_.rank) = found.L;
        own.R[at(k)] = std::move(found.R);
      }
    });
  }

  /// What of the loss that a change gains in a metric may be rounding.
  [[nodiscard]] static double rounding(const Matrix<double>& change, const Matrix<double>& metric) {
    return 1e-14 * (change.cwiseAbs2() * metric.diagonal()).sum();
  }

  /// One slice of a class given the others.
  void improve(Class& own, Index k) const {
    const Block& block = blocks_[at(k)];
    if (block.width == 0) return;
    const Matrix<double> W = own.W.middleCols(block.first, block.width);
    const Matrix<double> image = own.image.middleCols(block.first, block.width);
    const Matrix<double> old = slice(own, k);
    const Matrix<double> target =
        W + multiply(image - multiply(W - old, block.G), block.definite.inverse);
    Factors next = closest(target, &block, 128);
    const Matrix<double> change = multiply(next.L, next.R) - old;
    const double gain = change.cwiseProduct(multiply(change, block.G) - 2 * image).sum();
    if (!(gain < -rounding(change, block.G))) return;
    own.image -= multiply(change, Matrix<double>(G_.middleRows(block.first, block.width)));
    own.L.middleCols(k * shape_.rank, shape_.rank) = next.L;
    own.R[at(k)] = std::move(next.R);
    own.loss = (std::max)(0.0, own.loss + gain);
  }

  /// L of least squares, given R: L += E G R^T (R G R^T)^-1.
  void fit_left(Class& own) const {
    const Index t = shape_.rank;
    if (G_.size() == 0) {
      const Matrix<double> E = error(own);
      for (Index k = 0; k < shape_.blocks; ++k) {
        const Matrix<double> Rt = own.R[at(k)].transpose();
        const Matrix<double> E_k = E.middleCols(blocks_[at(k)].first, blocks_[at(k)].width);
        own.L.middleCols(k * t, t) +=
            multiply(multiply(E_k, Rt), definite_root(outer_gram(own.R[at(k)])).inverse);
      }
      own.loss = error(own).squaredNorm();
      return;
    }
    Matrix<double> RG(own.L.cols(), G_.cols());
    for (Index k = 0; k < shape_.blocks; ++k)
      RG.middleRows(k * t, t) = multiply(
          own.R[at(k)], Matrix<double>(G_.middleRows(blocks_[at(k)].first, blocks_[at(k)].width)));
    Matrix<double> moment(own.L.cols(), own.L.cols());
    Matrix<double> gradient(own.L.rows(), own.L.cols());
    for (Index k = 0; k < shape_.blocks; ++k) {
      const Block& block = blocks_[at(k)];
      const Matrix<double> Rt = own.R[at(k)].transpose();
      moment.middleCols(k * t, t) = multiply(RG.middleCols(block.first, block.width), Rt);
      gradient.middleCols(k * t, t) = multiply(own.image.middleCols(block.first, block.width), Rt);
    }
    moment = symmetric_part(std::move(moment));
    const Matrix<double> change = multiply(gradient, definite_root(moment).inverse);
    const double gain = change.cwiseProduct(multiply(change, moment) - 2 * gradient).sum();
    if (!(gain < -rounding(change, moment))) return;
    own.L += change;
    own.image -= multiply(change, RG);
    own.loss = (std::max)(0.0, own.loss + gain);
  }

  /// The best of rank t for a slice, in the metric of a block if there is one; what that does not
  /// see, and the rank still has room for, in none. Singular vectors come from eigenvectors, exact
  /// where the smaller side is at most `exact`.
  [[nodiscard]] Factors closest(const Matrix<double>& target, const Block* metric,
                                Index exact) const {
    const Index q = target.rows();
    const Index p = target.cols();
    const Index t = shape_.rank;
    Factors result{Matrix<double>::Zero(q, t), Matrix<double>::Zero(t, p)};
    if (t >= q) {  // the slice itself
      result.L.leftCols(q).setIdentity();
      result.R.topRows(q) = target;
      return result;
    }
    if (t >= p) {
      result.L.leftCols(p) = target;
      result.R.topRows(p).setIdentity();
      return result;
    }
    constexpr double epsilon = std::numeric_limits<double>::epsilon();
    const double noise =
        epsilon * epsilon * static_cast<double>((std::min)(q, p)) * target.squaredNorm();
    Matrix<double> rest = target;
    Index found = 0;
    for (const Block* const seen : {metric, static_cast<const Block*>(nullptr)})
      while (found < t && rest.squaredNorm() > noise) {
        const Matrix<double> U = leading(rest, seen, t - found, noise, exact);
        if (U.cols() == 0) break;
        const Matrix<double> R = multiply(U.transpose(), rest);
        result.L.middleCols(found, U.cols()) = U;
        result.R.middleRows(found, U.cols()) = R;
        found += U.cols();
        rest -= multiply(U, R);
      }
    return result;
  }

  /// At most so many left singular vectors of E S, as far as they stand out; none of noise.
  [[nodiscard]] Matrix<double> leading(const Matrix<double>& E, const Block* metric, Index count,
                                       double noise, Index exact) const {
    const double least = metric != nullptr ? noise * metric->G.trace() : noise;
    const auto pairs = [&](const Matrix<double>& K) -> Matrix<double> {
      const double trace = K.trace();
      if (!(trace > least)) return Matrix<double>(K.rows(), 0);
      const Index spare = std::max<Index>(10, count / 10);
      if (K.rows() <= exact || 2 * (count + spare) > K.rows())
        return numerically_positive(exact_eigenpairs(K), count, trace).vectors;
      return numerically_positive(randomized_eigenpairs(K, count, spare, 6, seed_,
                                                        [](Index, double) { return true; }),
                                  count, trace)
          .vectors;
    };
    if (E.rows() <= E.cols()) {
      if (metric == nullptr) return pairs(outer_gram(E));
      return pairs(symmetric_part(multiply(E, multiply(metric->G, Matrix<double>(E.transpose())))));
    }
    const Matrix<double> M = metric != nullptr ? multiply(E, metric->definite.root) : E;
    return orthonormal(multiply(M, pairs(outer_gram(M.transpose()))));
  }

  Matrix<double> G_;
  MonarchShape shape_;
  std::uint64_t seed_;
  Monitor monitor_;
  std::vector<Block> blocks_{};
  std::vector<Class> classes_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
