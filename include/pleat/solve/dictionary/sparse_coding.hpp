// SPDX-License-Identifier: MIT
// Sparse codes of the rows of a matrix over a dictionary, and better atoms for given supports.
#pragma once

#include "pleat/solve/dictionary/row_coder.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <type_traits>
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

  Matrix<double> values{};
  Eigen::Matrix<std::int32_t, Eigen::Dynamic, Eigen::Dynamic> atoms{};
};

/// Codes of all rows that are at least as good as those given, from A and P = D G W^T: k x m. On
/// the threads of the library's setting. Returns for each row minus what is minimised. Cost: k s^2
/// multiply-adds a row.
template <class = void>
Vector<double> improve_codes(const Matrix<double>& A, const Matrix<double>& P, SparseCodes& codes) {
  Vector<double> gains(codes.rows());
  const auto improve = [&]<class Atoms>(Atoms) {
    constexpr Index least = 64;  // rows that are worth a task
    parallel_ranges((codes.rows() + least - 1) / least, [&](Index first, Index last) {
      RowCoder<Atoms::value> coder(A, codes.entries());
      for (Index i = first * least; i < (std::min)(last * least, codes.rows()); ++i)
        gains(i) = coder.improve(P.data() + i * P.rows(), codes.values.data() + i * codes.entries(),
                                 codes.atoms.data() + i * codes.entries(), codes.entries());
    });
  };
  // The counts that codes in lanes have.
  if (A.rows() == 8) improve(std::integral_constant<int, 8>());
  else if (A.rows() == 16) improve(std::integral_constant<int, 16>());
  else if (A.rows() == 32) improve(std::integral_constant<int, 32>());
  else improve(std::integral_constant<int, Eigen::Dynamic>());
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
