// SPDX-License-Identifier: MIT
// The sparse code of one row of a matrix over a dictionary.
#pragma once

#include "pleat/core/scalar.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Minimises c A c^T - 2 c p^T over the codes c of one row, A = D G D^T: k x k, p = w G D^T.
///
/// Atoms are taken one by one, always the one after which the loss, with all values fitted anew, is
/// least: order-recursive matching pursuit, or orthogonal least squares (Chen, Billings and Luo
/// 1989). It is a Cholesky factorization of A with pivots of its own choice, of which only the rows
/// of the pivots are computed, so that a step costs no more than one of plain matching pursuit: k j
/// multiply-adds for the j-th atom. Atoms that depend on those taken are passed over. Then single
/// atoms are exchanged for others until that gains nothing more; looking at all exchanges costs
/// about as much as what came before.
///
/// `Atoms` is k where the compiler is to know it, so that what is done with all atoms takes a few
/// vectors and no loop.
template <int Atoms>
class RowCoder {
 public:
  RowCoder(const Matrix<double>& A, Index entries)
      : A_(A),
        triangle_(entries, entries),
        inverse_(entries, entries),
        loads_(A.rows(), entries),
        rows_(A.rows(), entries),
        factor_(entries, entries),
        left_(A.rows()),
        correlation_(A.rows()),
        loadings_(entries),
        taken_(static_cast<std::size_t>(entries)),
        least_(A.rows()) {
    // Values grow with the inverse of the root of this.
    constexpr double of_length = 1e-6;
    const double largest = A.size() > 0 ? A.diagonal().maxCoeff() : 0;
    for (Index l = 0; l < A.rows(); ++l)
      least_(l) =
          A(l, l) > 1e-24 * largest ? of_length * A(l, l) : std::numeric_limits<double>::infinity();
  }

  /// Codes that are at least as good as those in `values` and `atoms`, which have `entries` each.
  /// Returns minus what is minimised.
  double improve(const double* p, double* values, std::int32_t* atoms, Index entries) {
    // The old support, with the best values on it, is the one to beat.
    old_.clear();
    for (Index e = 0; e < entries; ++e)
      if (values[e] != 0) old_.push_back(atoms[e]);
    const double before = gain_of(old_, p);
    begin(p);
    while (count_ < entries) {
      const Index atom = best();
      if (atom < 0) break;
      take(atom);
    }
    if (before > gain_ * (1 + 1e-12)) {
      begin(p);
      for (const std::int32_t atom : old_) take(atom);
    }
    finish(values, atoms, entries);
    if (count_ == entries && entries < A_.rows()) exchange(p, values, atoms, entries);
    return gain_;
  }

 private:
  void begin(const double* p) {
    left_ = A_.diagonal();
    correlation_ = Eigen::Map<const Eigen::Matrix<double, Atoms, 1>>(p, A_.rows());
    count_ = 0;
    gain_ = 0;
  }

  /// What `take` of these atoms in turn would gain, at the cost of a factorization of s x s.
  [[nodiscard]] double gain_of(const std::vector<std::int32_t>& support, const double* p) {
    double gain = 0;
    Index count = 0;
    for (const std::int32_t atom : support) {
      double left = A_(atom, atom);
      double loading = p[atom];
      for (Index j = 0; j < count; ++j) {
        double entry = A_(taken_[static_cast<std::size_t>(j)], atom);
        for (Index i = 0; i < j; ++i) entry -= factor_(i, j) * factor_(i, count);
        entry /= factor_(j, j);
        factor_(j, count) = entry;
        left -= entry * entry;
        loading -= entry * loadings_(j);
      }
      if (!(left > least_(atom))) continue;
      factor_(count, count) = std::sqrt(left);
      loadings_(count) = loading / factor_(count, count);
      gain += loadings_(count) * loadings_(count);
      taken_[static_cast<std::size_t>(count++)] = atom;
    }
    return gain;
  }

  /// The atom with the largest gain; -1 where none has any.
  [[nodiscard]] Index best() const {
    Index found = -1;
    double most = 0;
    for (Index l = 0; l < A_.rows(); ++l) {
      const double square = correlation_(l) * correlation_(l);
      if (square > most * left_(l) && left_(l) > least_(l)) {
        most = square / left_(l);
        found = l;
      }
    }
    return found;
  }

  void take(Index atom) {
    if (!(left_(atom) > least_(atom))) return;
    auto row = rows_.col(count_);
    row = A_.col(atom);
    for (Index j = 0; j < count_; ++j) row -= rows_(atom, j) * rows_.col(j);
    const double pivot = std::sqrt(left_(atom));
    row /= pivot;
    const double loading = correlation_(atom) / pivot;
    correlation_ -= loading * row;
    left_ -= row.cwiseAbs2();
    left_(atom) = 0;
    correlation_(atom) = 0;
    loadings_(count_) = loading;
    taken_[static_cast<std::size_t>(count_++)] = static_cast<std::int32_t>(atom);
    gain_ += loading * loading;
  }

  /// Back-substitution, and the rest of the places filled up with atoms times 0.
  void finish(double* values, std::int32_t* atoms, Index entries) {
    for (Index j = count_ - 1; j >= 0; --j) {
      const Index atom = taken_[static_cast<std::size_t>(j)];
      double value = loadings_(j);
      for (Index i = j + 1; i < count_; ++i)
        value -= rows_(taken_[static_cast<std::size_t>(i)], j) * values[i];
      values[j] = value / rows_(atom, j);
      atoms[j] = static_cast<std::int32_t>(atom);
    }
    std::int32_t spare = 0;
    for (Index j = count_; j < entries; ++j, ++spare) {
      while (std::find(atoms, atoms + j, spare) != atoms + j) ++spare;
      atoms[j] = spare;
      values[j] = 0;
    }
  }

  /// Takes one atom for another as long as that gains anything, always the exchange that gains
  /// most.
  ///
  /// With M = A_SS^-1 of the support S and c = M p_S, the residual correlations rho_l = p_l - A_lS
  /// c and what S leaves of the atoms, v_l = A_ll - A_lS M A_Sl, the exchange of t in S for l gains
  ///
  ///     (rho_l + b c_t / M_tt)^2 / (v_l + b^2 / M_tt) - c_t^2 / M_tt,   b = A_lS M_:t.
  void exchange(const double* p, double* values, std::int32_t* atoms, Index entries) {
    for (Index exchanges = 0; exchanges < 2 * entries; ++exchanges) {
      if (!invert(atoms, entries)) return;
      for (Index t = 0; t < entries; ++t) rows_.col(t) = A_.col(atoms[t]);
      for (Index t = 0; t < entries; ++t) {
        loadings_(t) = 0;
        for (Index i = 0; i < entries; ++i) loadings_(t) += inverse_(i, t) * p[atoms[i]];
        values[t] = loadings_(t);
      }
      loads_.noalias() = rows_.lazyProduct(inverse_);
      correlation_ = Eigen::Map<const Eigen::Matrix<double, Atoms, 1>>(p, A_.rows());
      correlation_.noalias() -= rows_.lazyProduct(loadings_);
      left_ = A_.diagonal() - rows_.cwiseProduct(loads_).rowwise().sum();
      // Atoms of the support gain nothing.
      for (Index t = 0; t < entries; ++t) correlation_(atoms[t]) = left_(atoms[t]) = 0;
      double most = 1e-9 * gain_;
      Index out = -1;
      Index in = -1;
      for (Index t = 0; t < entries; ++t) {
        const double scale = 1 / inverse_(t, t);
        const double cost = values[t] * values[t] * scale;
        const auto loads = loads_.col(t).array();
        const OfAtom lengths = left_.array() + scale * loads.square();
        OfAtom gains =
            (lengths > least_)
                .select((correlation_.array() + scale * values[t] * loads).square() / lengths, 0.0);
        for (Index e = 0; e < entries; ++e) gains(atoms[e]) = 0;
        Index l = 0;
        const double gain = gains.maxCoeff(&l) - cost;
        if (!(gain > most)) continue;
        most = gain;
        out = t;
        in = l;
      }
      if (out < 0) return;
      atoms[out] = static_cast<std::int32_t>(in);
      gain_ += most;
    }
    (void)invert(atoms, entries);
    for (Index t = 0; t < entries; ++t) {
      values[t] = 0;
      for (Index i = 0; i < entries; ++i) values[t] += inverse_(i, t) * p[atoms[i]];
    }
  }

  /// The inverse of A on a support; false if it is next to singular.
  bool invert(const std::int32_t* support, Index entries) {
    for (Index j = 0; j < entries; ++j) {
      for (Index i = 0; i <= j; ++i) {
        double entry = A_(support[i], support[j]);
        for (Index l = 0; l < i; ++l) entry -= factor_(l, i) * factor_(l, j);
        if (i < j) factor_(i, j) = entry / factor_(i, i);
        else if (!(entry > least_(support[j]))) return false;
        else factor_(j, j) = std::sqrt(entry);
      }
      // The column of the inverse of the triangle.
      triangle_(j, j) = 1 / factor_(j, j);
      for (Index i = j - 1; i >= 0; --i) {
        double entry = 0;
        for (Index l = i + 1; l <= j; ++l) entry -= factor_(i, l) * triangle_(l, j);
        triangle_(i, j) = entry / factor_(i, i);
      }
    }
    for (Index j = 0; j < entries; ++j)
      for (Index i = 0; i <= j; ++i) {
        double entry = 0;
        for (Index l = j; l < entries; ++l) entry += triangle_(i, l) * triangle_(j, l);
        inverse_(i, j) = inverse_(j, i) = entry;
      }
    return true;
  }

  using OfAtom = Eigen::Array<double, Atoms, 1>;
  using OfAtoms = Eigen::Matrix<double, Atoms, Eigen::Dynamic>;

  const Matrix<double>& A_;
  Matrix<double> triangle_;  // of a support: the inverse of the transposed Cholesky factor,
  Matrix<double> inverse_;   // that of A,
  OfAtoms loads_;            // and that times the rows of A
  OfAtoms rows_;             // k x s: the rows of the Cholesky factor, one a column
  Matrix<double> factor_;    // of a given support: the transposed Cholesky factor
  Eigen::Matrix<double, Atoms, 1>
      left_;  // of the diagonal of A, what the atoms taken do not explain
  Eigen::Matrix<double, Atoms, 1> correlation_;
  Vector<double> loadings_;
  std::vector<std::int32_t> taken_;
  std::vector<std::int32_t> old_{};
  OfAtom least_;  // what must be left of the diagonal of A for an atom to be of use
  Index count_ = 0;
  double gain_ = 0;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
