// SPDX-License-Identifier: MIT
// The factors of a BLAST matrix, by least squares in turns from those of low rank.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/solve/kronecker/blast_moments.hpp"
#include "pleat/solve/kronecker/blast_shapes.hpp"
#include "pleat/solve/linear/definite_root.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Minimises || W - What ||_G^2 = tr((W - What) G (W - What)^T) over BLAST matrices of a shape,
/// from factors of low rank, which are those with s = 1. A sweep is three steps, with E = W - What:
///
///     U_i += (E G)_i Vbar_i M_i^+,           Vbar_i = [V_j diag(s_ij)]_j,  M_i = Vbar_i^T G Vbar_i
///     s_i: K_i ds_i = h_i,                   h_ij = diag(U_i^T (E G)_ij V_j)
///     V_j += G_jj^+ (E G)_j^T Ubar_j N_j^+,  Ubar_j = [U_i diag(s_ij)]_i,  N_j = Ubar_j^T Ubar_j
///
/// each of which is the least of the loss given the other factors: in U_i and s_i of every row of
/// blocks, in V_j of one column of blocks after the other. K_i, b2 r x b2 r, is of r x r blocks
/// (U_i^T U_i) o (V_j^T G_jk V_k); it is never formed, but solved with by conjugate gradients, of
/// which large systems take no more than a dozen steps. The loss, of E itself, is exact, and a
/// sweep that does not lower it is undone: the result is never further than the start, which is the
/// best of low rank.
///
/// Cost of a sweep: 4 m n r multiply-adds, (m + n) r^2 and (b1 + b2) r^3 / 6 for the systems; with
/// a G also 2 m n^2 + n r (n + b2 r / 2) + 13 b1 b2^2 r^2. Memory: some four matrices like W, b2 m
/// r, and with a G b2^2 r^2.
///
/// Source: C. Lee et al. 2024 descend by preconditioned gradients from a random start without a
/// metric; exact steps in a metric, from low rank, are ours.
template <class = void>
class BlastSolver {
 public:
  /// An empty G is the identity. Both must live as long as the solver.
  BlastSolver(const Matrix<double>& W, const Matrix<double>& G, const BlastShape& shape,
              Monitor monitor)
      : W_(W), G_(G), shape_(shape), monitor_(std::move(monitor)) {
    whole_ = G_.size() > 0 ? W_.cwiseProduct(multiply(W_, G_)).sum() : W_.squaredNorm();
    if (G_.size() == 0) return;
    inverses_.resize(at(shape_.column_blocks));
    parallel_ranges(shape_.column_blocks, [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j)
        inverses_[at(j)] =
            definite_root(Matrix<double>(G_.block(col(j), col(j), width(j), width(j)))).inverse;
    });
  }

  /// The factors of low rank U V, m x r and r x n.
  void start(Matrix<double> U, const Matrix<double>& V) {
    factors_.U = std::move(U);
    factors_.V = V.transpose();
    factors_.s.assign(at(shape_.row_blocks),
                      Matrix<double>::Ones(shape_.rank, shape_.column_blocks));
    judge();
  }
  /// Any factors.
  void start(BlastFactors factors) {
    factors_ = std::move(factors);
    judge();
  }

  /// At most so many sweeps; fewer where they gain no more than 1e-4 of the error.
  void run(Index sweeps) {
    if (!report("sweeps", 0, sweeps)) return;
    for (Index sweep = 1; sweep <= sweeps; ++sweep) {
      if (loss_ <= 1e-28 * whole_) return;  // rounding
      const double before = loss_;
      const BlastFactors kept = factors_;
      fit_rows(true, true);
      judge();
      fit_right();
      if (!(loss_ < before)) {
        factors_ = kept;
        loss_ = before;
        return;
      }
      if (!report("sweeps", sweep, sweeps)) return;
      if (loss_ > before * (1 - 2e-4)) return;
    }
  }

  /// The least over one factor, given the others.
  void fit_left() {
    fit_rows(true, false);
    judge();
  }
  void fit_coupling() {
    fit_rows(false, true);
    judge();
  }
  void fit_right() {
    const Index b2 = shape_.column_blocks;
    std::vector<Matrix<double>> UU(at(shape_.row_blocks));
    parallel_ranges(shape_.row_blocks, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        UU[at(i)] = outer_gram(factors_.U.middleRows(row(i), height(i)).transpose());
    });
    std::vector<DefiniteSolver<>> systems(at(b2));
    parallel_ranges(b2, [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j) {
        Matrix<double> N = Matrix<double>::Zero(shape_.rank, shape_.rank);
        for (Index i = 0; i < shape_.row_blocks; ++i) {
          const auto s = factors_.s[at(i)].col(j);
          N += s.asDiagonal() * UU[at(i)] * s.asDiagonal();
        }
        systems[at(j)] = DefiniteSolver<>(N);
      }
    });
    for (Index j = 0; j < b2; ++j) {
      if (width(j) == 0) continue;
      const Matrix<double> Ubar = scaled_left(j);
      Matrix<double> change = systems[at(j)].solve(
          multiply(Ubar.transpose(), Matrix<double>(image().middleCols(col(j), width(j)))));
      if (G_.size() > 0) change = multiply(change, inverses_[at(j)]);
      factors_.V.middleRows(col(j), width(j)) += change.transpose();
      const Matrix<double> moved = multiply(Ubar, change);
      E_.middleCols(col(j), width(j)) -= moved;
      if (G_.size() > 0) image_ -= multiply(moved, Matrix<double>(G_.middleRows(col(j), width(j))));
    }
    measure();
  }

  /// Scales columns of U_i and V_j to one length, and s by what they were: groups of narrow storage
  /// run across the columns of U_i.
  void normalise() {
    for (Index i = 0; i < shape_.row_blocks; ++i) {
      auto U = factors_.U.middleRows(row(i), height(i));
      for (Index e = 0; e < shape_.rank; ++e) {
        const double length = U.col(e).norm();
        if (!(length > 0)) continue;
        U.col(e) /= length;
        factors_.s[at(i)].row(e) *= length;
      }
    }
    for (Index j = 0; j < shape_.column_blocks; ++j) {
      auto V = factors_.V.middleRows(col(j), width(j));
      for (Index e = 0; e < shape_.rank; ++e) {
        const double length = V.col(e).norm();
        if (!(length > 0)) continue;
        V.col(e) /= length;
        for (Matrix<double>& s : factors_.s) s(e, j) *= length;
      }
    }
  }

  [[nodiscard]] const BlastFactors& factors() const { return factors_; }
  /// What is minimised.
  [[nodiscard]] double loss() const { return loss_; }
  /// The same of nothing: what W itself weighs.
  [[nodiscard]] double whole() const { return whole_; }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  // Where blocks begin, and how much of them there is.
  [[nodiscard]] Index row(Index i) const {
    return (std::min)(W_.rows(), i * shape_.height(W_.rows()));
  }
  [[nodiscard]] Index col(Index j) const {
    return (std::min)(W_.cols(), j * shape_.width(W_.cols()));
  }
  [[nodiscard]] Index height(Index i) const { return row(i + 1) - row(i); }
  [[nodiscard]] Index width(Index j) const { return col(j + 1) - col(j); }

  bool report(std::string_view phase, Index iteration, Index iterations) const {
    return !monitor_ ||
           monitor_({phase, iteration, iterations, whole_ > 0 ? std::sqrt(loss_ / whole_) : 0});
  }

  /// [U_i diag(s_ij)]_i, m x r.
  [[nodiscard]] Matrix<double> scaled_left(Index j) const {
    Matrix<double> Ubar(W_.rows(), shape_.rank);
    for (Index i = 0; i < shape_.row_blocks; ++i)
      Ubar.middleRows(row(i), height(i)) =
          factors_.U.middleRows(row(i), height(i)) * factors_.s[at(i)].col(j).asDiagonal();
    return Ubar;
  }

  [[nodiscard]] const Matrix<double>& image() const { return G_.size() > 0 ? image_ : E_; }

  /// E, E G and the loss, from the factors.
  void judge() {
    E_ = W_;
    for (Index j = 0; j < shape_.column_blocks; ++j)
      if (width(j) > 0)
        E_.middleCols(col(j), width(j)) -= multiply(
            scaled_left(j), Matrix<double>(factors_.V.middleRows(col(j), width(j)).transpose()));
    if (G_.size() > 0) image_ = multiply(E_, G_);
    measure();
  }
  void measure() { loss_ = (std::max)(0.0, E_.cwiseProduct(image()).sum()); }

  /// U and s, or one of them, of all rows of blocks; E is not brought up to date.
  void fit_rows(bool left, bool coupling) {
    const BlastMoments<> moments(factors_.V, G_, shape_);
    std::vector<Matrix<double>> images;  // (E G)_j V_j
    for (Index j = 0; j < shape_.column_blocks; ++j)
      images.push_back(width(j) > 0
                           ? multiply(image().middleCols(col(j), width(j)),
                                      Matrix<double>(factors_.V.middleRows(col(j), width(j))))
                           : Matrix<double>(Matrix<double>::Zero(W_.rows(), shape_.rank)));
    const auto in_parallel = [&](auto body) {
      parallel_ranges(shape_.row_blocks, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i)
          body(i, at(i), factors_.U.middleRows(row(i), height(i)));
      });
    };
    std::vector<Matrix<double>>& s = factors_.s;
    std::vector<Matrix<double>> h(s.size(), Matrix<double>::Zero(shape_.rank, s[0].cols()));
    if (left) {
      const std::vector<Matrix<double>> grams = moments.weighted(s);
      std::vector<Matrix<double>> changes(s.size());  // U_i^T dU_i
      in_parallel([&](Index i, std::size_t own, auto U) {
        Matrix<double> gradient = Matrix<double>::Zero(U.rows(), U.cols());
        for (Index j = 0; j < s[own].cols(); ++j)
          gradient += images[at(j)].middleRows(row(i), height(i)) * s[own].col(j).asDiagonal();
        const Matrix<double> change =
            DefiniteSolver<>(grams[own]).solve(gradient.transpose()).transpose();
        U += change;
        if (coupling) changes[own] = multiply(U.transpose(), change);
      });
      if (coupling)
        for (Matrix<double>& part : h = moments.times(changes, s)) part *= -1;
    }
    if (!coupling) return;
    std::vector<Matrix<double>> grams(s.size());
    in_parallel([&](Index i, std::size_t own, auto U) {
      for (Index j = 0; j < s[own].cols(); ++j)
        h[own].col(j) +=
            U.cwiseProduct(images[at(j)].middleRows(row(i), height(i))).colwise().sum().transpose();
      grams[own] = outer_gram(U.transpose());
    });
    const std::vector<Matrix<double>> changes = moments.solve(grams, h);
    for (std::size_t i = 0; i < s.size(); ++i) s[i] += changes[i];
  }

  const Matrix<double>& W_;
  const Matrix<double>& G_;
  BlastShape shape_;
  Monitor monitor_;
  std::vector<Matrix<double>> inverses_{};  // of the G_jj
  BlastFactors factors_{};
  Matrix<double> E_{};      // W - What
  Matrix<double> image_{};  // E G, where there is a G
  double loss_ = 0;
  double whole_ = 0;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
