// SPDX-License-Identifier: MIT
// Sparse codes of the rows of a matrix over a dictionary, and better atoms for given supports.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

// Everything here lies transposed, so that what belongs to one row of W, or to one atom, is
// contiguous: W^T is n x m, the atoms are the columns of D^T, n x k. G, n x n, is the metric.

/// C, m x k with s entries in every row: entry e of row i is values(e, i), at atom atoms(e, i).
struct SparseCodes {
  SparseCodes() = default;
  /// The first s atoms, times 0, in every row.
  SparseCodes(Index entries, Index rows)
      : values(Matrix<double>::Zero(entries, rows)), atoms(entries, rows) {
    for (Index e = 0; e < entries; ++e) atoms.row(e).setConstant(static_cast<std::int32_t>(e));
  }

  [[nodiscard]] Index entries() const { return values.rows(); }
  [[nodiscard]] Index rows() const { return values.cols(); }

  /// (C D)^T.
  template <class = void>
  [[nodiscard]] Matrix<double> times(const Matrix<double>& Dt) const {
    Matrix<double> product = Matrix<double>::Zero(Dt.rows(), rows());
    parallel_ranges(rows(), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index e = 0; e < entries(); ++e)
          if (values(e, i) != 0) product.col(i) += values(e, i) * Dt.col(atoms(e, i));
    });
    return product;
  }

  Matrix<double> values;
  Eigen::Matrix<std::int32_t, Eigen::Dynamic, Eigen::Dynamic> atoms;
};

/// Minimises c A c^T - 2 c p^T over the codes c of one row, A = D G D^T: k x k, p = w G D^T.
///
/// Atoms are taken one by one, always the one after which the loss, with all values fitted anew, is
/// least: order-recursive matching pursuit, or orthogonal least squares (Chen, Billings and Luo
/// 1989). It is a Cholesky factorization of A with pivots of its own choice, of which only the rows
/// of the pivots are computed, so that a step costs no more than one of plain matching pursuit: k j
/// multiply-adds for the j-th atom. Atoms that depend on those taken are passed over. Then single
/// atoms are exchanged for others until that gains nothing more; looking at all exchanges costs
/// about as much as what came before.
template <class = void>
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
        largest_(A.size() > 0 ? A.diagonal().maxCoeff() : 0) {}

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
    correlation_ = Eigen::Map<const Vector<double>>(p, A_.rows());
    count_ = 0;
    gain_ = 0;
  }

  [[nodiscard]] bool usable(double left, double length) const {
    // Values grow with the inverse of the root of this.
    constexpr double least = 1e-6;
    return left > least * length && length > 1e-24 * largest_;
  }

  /// What `take` of these atoms in turn would gain, at the cost of a factorization of s x s.
  [[nodiscard]] double gain_of(const std::vector<std::int32_t>& support, const double* p) {
    double gain = 0;
    Index count = 0;
    for (const std::int32_t atom : support) {
      const double length = A_(atom, atom);
      double left = length;
      double loading = p[atom];
      for (Index j = 0; j < count; ++j) {
        double entry = A_(taken_[static_cast<std::size_t>(j)], atom);
        for (Index i = 0; i < j; ++i) entry -= factor_(i, j) * factor_(i, count);
        entry /= factor_(j, j);
        factor_(j, count) = entry;
        left -= entry * entry;
        loading -= entry * loadings_(j);
      }
      if (!usable(left, length)) continue;
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
      if (square > most * left_(l) && usable(left_(l), A_(l, l))) {
        most = square / left_(l);
        found = l;
      }
    }
    return found;
  }

  void take(Index atom) {
    if (!usable(left_(atom), A_(atom, atom))) return;
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
      correlation_ = Eigen::Map<const Vector<double>>(p, A_.rows());
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
        for (Index l = 0; l < A_.rows(); ++l) {
          const double load = loads_(l, t) * scale;
          const double rho = correlation_(l) + load * values[t];
          const double length = left_(l) + load * loads_(l, t);
          if (rho * rho <= (most + cost) * length || !usable(length, A_(l, l))) continue;
          if (std::find(atoms, atoms + entries, l) != atoms + entries) continue;
          most = rho * rho / length - cost;
          out = t;
          in = l;
        }
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
        else if (!usable(entry, A_(support[j], support[j]))) return false;
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

  const Matrix<double>& A_;
  Matrix<double> triangle_;  // of a support: the inverse of the transposed Cholesky factor,
  Matrix<double> inverse_;   // that of A,
  Matrix<double> loads_;     // and that times the rows of A
  Matrix<double> rows_;      // k x s: the rows of the Cholesky factor, one a column
  Matrix<double> factor_;    // of a given support: the transposed Cholesky factor
  Vector<double> left_;      // of the diagonal of A, what the atoms taken do not explain
  Vector<double> correlation_;
  Vector<double> loadings_;
  std::vector<std::int32_t> taken_;
  std::vector<std::int32_t> old_;
  double largest_;
  Index count_ = 0;
  double gain_ = 0;
};

/// Codes of all rows that are at least as good as those given, from A and P = D G W^T: k x m. On
/// the threads of the library's setting. Returns for each row minus what is minimised. Cost: k s^2
/// multiply-adds a row.
template <class = void>
Vector<double> improve_codes(const Matrix<double>& A, const Matrix<double>& P, SparseCodes& codes) {
  Vector<double> gains(codes.rows());
  constexpr Index least = 64;  // rows that are worth a task
  parallel_ranges((codes.rows() + least - 1) / least, [&](Index first, Index last) {
    RowCoder coder(A, codes.entries());
    for (Index i = first * least; i < (std::min)(last * least, codes.rows()); ++i)
      gains(i) = coder.improve(P.data() + i * P.rows(), codes.values.data() + i * codes.entries(),
                               codes.atoms.data() + i * codes.entries(), codes.entries());
  });
  return gains;
}

/// A dictionary and its Gram matrix in a metric.
struct Dictionary {
  Matrix<double> Dt;  // n x k, atoms of length 1 in the metric
  Matrix<double> A;   // D G D^T

  /// Sets atom l, scaled to length 1 in the metric; false, and nothing changes, if the metric
  /// hardly sees it: to scale that up would bring nothing but rounding.
  template <class = void>
  bool set(Index l, const Vector<double>& atom, const Matrix<double>& G) {
    constexpr double least = 1e-10;
    Vector<double> image = G * atom;
    const double square = atom.dot(image);
    if (!(square > least * atom.squaredNorm() * G.diagonal().mean() && square > 1e-280))
      return false;
    const double length = std::sqrt(square);
    Dt.col(l) = atom / length;
    image /= length;
    A.col(l).noalias() = Dt.transpose() * image;
    A.row(l) = A.col(l).transpose();
    return true;
  }
};

/// What each row, times its weight, has lost; for rows whose values are the best on their support.
template <class = void>
[[nodiscard]] Vector<double> row_losses(const Matrix<double>& Tt, const Matrix<double>& GT,
                                        const Vector<double>& weights, const SparseCodes& codes,
                                        const Matrix<double>& Dt) {
  Vector<double> losses(codes.rows());
  for (Index i = 0; i < codes.rows(); ++i) {
    double loss = Tt.col(i).dot(GT.col(i));
    for (Index e = 0; e < codes.entries(); ++e)
      loss -= codes.values(e, i) * Dt.col(codes.atoms(e, i)).dot(GT.col(i));
    losses(i) = weights(i) * loss;
  }
  return losses;
}

/// One pass over all atoms: each becomes the best for its users, whose values for it become the
/// best for the new atom (the approximate K-SVD of Rubinstein, Zibulevsky and Elad 2008; both steps
/// are exact, so the loss never rises). Supports stay. T^T is what is approximated, GT = G T^T;
/// rows count by their weights. An atom without users becomes what is missing of the row that is
/// approximated worst. Cost: 2 s (n + s) multiply-adds a row, and k (k + n) n.
template <class = void>
void improve_atoms(const Matrix<double>& Tt, const Matrix<double>& GT, const Matrix<double>& G,
                   const Vector<double>& weights, SparseCodes& codes, Dictionary& dictionary) {
  Matrix<double>& Dt = dictionary.Dt;
  const Index k = Dt.cols();
  const Index s = codes.entries();
  // The users of each atom.
  std::vector<Index> starts(static_cast<std::size_t>(k) + 1, 0);
  std::vector<Index> users(static_cast<std::size_t>(codes.atoms.size()));
  for (Index i = 0; i < codes.atoms.size(); ++i)
    ++starts[static_cast<std::size_t>(codes.atoms.data()[i]) + 1];
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  std::vector<Index> next(starts.begin(), starts.end() - 1);
  for (Index i = 0; i < codes.atoms.size(); ++i)
    users[static_cast<std::size_t>(next[static_cast<std::size_t>(codes.atoms.data()[i])]++)] = i;

  Vector<double> losses;
  Vector<double> shared(k);
  for (Index l = 0; l < k; ++l) {
    const Index* const begin = users.data() + starts[static_cast<std::size_t>(l)];
    const Index* const end = users.data() + starts[static_cast<std::size_t>(l) + 1];
    Vector<double> sum = Vector<double>::Zero(Tt.rows());
    shared.setZero();
    for (const Index* user = begin; user != end; ++user) {
      const double value = codes.values.data()[*user];
      if (value == 0) continue;
      const Index i = *user / s;
      const double factor = weights(i) * value;
      sum += factor * Tt.col(i);
      for (Index e = 0; e < s; ++e) shared(codes.atoms(e, i)) += factor * codes.values(e, i);
    }
    const double own = shared(l);
    if (!(own > 0)) {
      if (losses.size() == 0) losses = row_losses(Tt, GT, weights, codes, Dt);
      Index worst = 0;
      if (!(losses.maxCoeff(&worst) > 0)) continue;
      losses(worst) = 0;
      Vector<double> missing = Tt.col(worst);
      for (Index e = 0; e < s; ++e)
        missing -= codes.values(e, worst) * Dt.col(codes.atoms(e, worst));
      (void)dictionary.set(l, missing, G);
      continue;
    }
    shared(l) = 0;
    if (!dictionary.set(l, (sum - Dt * shared) / own, G)) continue;
    for (const Index* user = begin; user != end; ++user) {
      double& value = codes.values.data()[*user];
      if (value == 0) continue;
      const Index i = *user / s;
      double fitted = Dt.col(l).dot(GT.col(i));
      for (Index e = 0; e < s; ++e)
        if (codes.atoms(e, i) != l)
          fitted -= codes.values(e, i) * dictionary.A(codes.atoms(e, i), l);
      value = fitted;
    }
  }
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
