// SPDX-License-Identifier: MIT
// One dictionary and sparse codes for the rows of a matrix: orthonormal atoms first, then any.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/matrix/sparse_pattern.hpp"
#include "pleat/solve/dictionary/block_dictionary_solver.hpp"
#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/metric_root.hpp"
#include "pleat/solve/sparse/group_descent.hpp"
#include "pleat/solve/sparse/masked_refit.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// C^T, k x m, and D, k x n.
struct CodedDictionary {
  Matrix<double> Ct{};
  Matrix<double> D{};
};

/// Minimises || (W - C D) S ||_F over dictionaries D, k x n, and codes C, m x k, of which each row
/// has N entries in every M consecutive atoms; with M = k, anywhere. Everything lies transposed, so
/// that the code of a row is contiguous. S S^T is the metric of the inputs.
template <class = void>
class SparseDictionarySolver {
 public:
  /// W^T is n x m.
  SparseDictionarySolver(Matrix<double> Wt, MetricRoot<> root, std::uint64_t seed)
      : Wt_(std::move(Wt)), root_(std::move(root)), seed_(seed) {
    Zt_ = root_.after(Wt_.transpose()).transpose();
    packed_ = Dense<double>(Zt_);
    energy_ = Zt_.squaredNorm();
  }

  /// || W S ||_F^2.
  [[nodiscard]] double energy() const { return energy_; }

  /// || (W - C D) S ||_F^2.
  [[nodiscard]] double loss(const CodedDictionary& found) const {
    return (Zt_ - multiply(root_.after(found.D).transpose(), found.Ct)).squaredNorm();
  }

  /// The largest codes of the rows over the k leading right singular vectors of W S. They are dealt
  /// to the groups in turn, so that no group has all of the large ones.
  [[nodiscard]] Matrix<double> one_shot(Index k, SparsePattern pattern) {
    return largest(multiply(dealt(directions(k), pattern.group), Zt_), pattern);
  }

  /// From these, orthonormal atoms and codes in turn: given atoms Q, the best codes are the largest
  /// of W S Q^T; given codes, the best Q is U V^T of the singular value decomposition of C^T W S
  /// (Procrustes). So || W S - C Q ||_F^2 = || W S ||_F^2 - || C ||_F^2 never rises. Ends where it
  /// falls by less than 1e-5 of itself. Cost of an iteration: 2 m n k + n k^2 multiply-adds, and an
  /// eigendecomposition of k x k.
  ///
  /// Source: COMPOT, arXiv 2602.15200.
  [[nodiscard]] Matrix<double> orthonormal_codes(Index k, SparsePattern pattern, Index iterations,
                                                 const Proceed& proceed = {}) {
    Matrix<double> Ct = one_shot(k, pattern);
    double kept = Ct.squaredNorm();
    for (Index i = 1; i <= iterations; ++i) {
      if (proceed && !proceed(double(i) / double(iterations), energy_ - kept)) break;
      Matrix<double> next = largest(multiply(best_rotation(Ct).transpose(), Zt_), pattern);
      const double reached = next.squaredNorm();
      if (!(reached > kept)) break;
      const bool little = reached - kept <= 1e-5 * (energy_ - kept);
      Ct = std::move(next);
      kept = reached;
      if (little) break;
    }
    return Ct;
  }

  /// Codes of s entries a row over k atoms of any kind, as `BlockDictionarySolver` finds them for
  /// one block: in the coordinates of W S in its right singular vectors, where the metric is the
  /// identity, and there are at most min(m, n) of them.
  [[nodiscard]] Matrix<double> pursuit_codes(Index k, Index s, Index iterations,
                                             const Monitor& monitor) {
    const Matrix<double> rows = multiply(directions((std::min)(Zt_.rows(), Zt_.cols())), Zt_);
    BlockDictionarySolver<> solver(rows, {}, Vector<double>::Ones(rows.cols()), {rows.rows(), k, s},
                                   monitor);
    solver.run(iterations, 0);
    const SparseCodes& codes = solver.blocks().front().codes;
    Matrix<double> Ct = Matrix<double>::Zero(k, rows.cols());
    for (Index i = 0; i < rows.cols(); ++i)
      for (Index e = 0; e < s; ++e) Ct(codes.atoms(e, i), i) = codes.values(e, i);
    return Ct;
  }

  /// The best dictionary for given codes, (C^T C)^-1 C^T W, whatever the metric. Atoms without
  /// codes are zero. Cost: m k (n + k) + n k^2 multiply-adds.
  [[nodiscard]] Matrix<double> best_dictionary(const Matrix<double>& Ct) const {
    const Index k = Ct.rows();
    const Matrix<double> C = Ct.transpose();
    Matrix<double> right = multiply(Wt_, C).transpose();
    Matrix<double> moment = symmetric_part(multiply(Ct, C));
    const Vector<double> unit = moment.diagonal().unaryExpr(
        [](double square) { return square > 0 ? 1 / std::sqrt(square) : 0; });
    moment = unit.asDiagonal() * moment * unit.asDiagonal();
    right = unit.asDiagonal() * right;
    for (double ridge = 1e-12; ridge < 1e-2; ridge *= 1e2) {
      Matrix<double> sum = moment;
      for (Index j = 0; j < k; ++j) sum(j, j) = 1 + ridge;
      const Eigen::LLT<Matrix<double>> cholesky(sum);
      if (cholesky.info() != Eigen::Success) continue;
      return unit.asDiagonal() * cholesky.solve(right);
    }
    return Matrix<double>::Zero(k, Wt_.rows());
  }

  /// Better codes for atoms that are not orthonormal, then the best atoms for them, in turns that
  /// never raise the loss. In the metric A = D S S^T D^T codes are a sparse stand-in for those that
  /// may use all atoms: of patterns they take better places too, a group at a time. Cost of a turn:
  /// 3 m n k + 2 m k^2 multiply-adds.
  void settle(CodedDictionary& found, SparsePattern pattern, Index turns,
              const Proceed& proceed = {}) const {
    double least = loss(found);
    for (Index turn = 1; turn <= turns; ++turn) {
      if (proceed && !proceed(double(turn) / double(turns), least)) return;
      CodedDictionary next{found.Ct, {}};
      const Matrix<double> DS = root_.after(found.D);
      Matrix<double> A = outer_gram(DS);
      const double mean = A.diagonal().mean();
      if (!(mean > 0)) return;
      A.diagonal().array() += 1e-9 * mean;
      const Eigen::LLT<Matrix<double>> cholesky(A);
      if (cholesky.info() != Eigen::Success) return;
      const Matrix<double> wanted = cholesky.solve(multiply(DS, Zt_));
      if (pattern.group <= 32 && 128 % pattern.group == 0)
        (void)group_descent(A, wanted, next.Ct, pattern, 1);
      else masked_refit(A, wanted, next.Ct, 20);
      next.D = best_dictionary(next.Ct);
      const double reached = loss(next);
      if (!(reached < least)) return;
      const bool little = least - reached <= 1e-3 * least;
      least = reached;
      found = std::move(next);
      if (little) return;
    }
  }

 private:
  [[nodiscard]] static Matrix<double> largest(const Matrix<double>& codes, SparsePattern pattern) {
    return prune_by(codes.cwiseAbs(), codes, pattern);
  }

  /// The k leading right singular vectors of W S as rows; zeros where there are no more.
  [[nodiscard]] Matrix<double> directions(Index k) {
    if (k > directions_.rows()) {
      const bool by_rows = Zt_.cols() <= Zt_.rows();
      const Matrix<double> K = by_rows ? outer_gram(Zt_.transpose()) : outer_gram(Zt_);
      const Index most = K.rows();
      const bool exact = most <= 1024 || 5 * k > 2 * most;
      Eigenpairs pairs = exact ? exact_eigenpairs(K)
                               : randomized_eigenpairs(K, k, (std::max)(Index{10}, k / 10), 4,
                                                       seed_, [](Index, double) { return true; });
      pairs = numerically_positive(std::move(pairs), exact ? most : k, K.trace());
      if (by_rows) pairs.vectors = orthonormal(multiply(Zt_, pairs.vectors));
      const Index asked = exact ? (std::max)(k, most) : k;
      directions_ = Matrix<double>::Zero(asked, Zt_.rows());
      directions_.topRows(pairs.vectors.cols()) = pairs.vectors.transpose();
    }
    return directions_.topRows(k);
  }

  /// Rows dealt to groups: the first to the first place of the first group, the second to the first
  /// place of the second.
  [[nodiscard]] static Matrix<double> dealt(const Matrix<double>& rows, Index group) {
    const Index groups = (rows.rows() + group - 1) / group;
    Matrix<double> result(rows.rows(), rows.cols());
    Index from = 0;
    for (Index place = 0; place < group; ++place)
      for (Index g = 0; g < groups; ++g)
        if (g * group + place < rows.rows()) result.row(g * group + place) = rows.row(from++);
    return result;
  }

  /// Q^T: of the matrices with orthonormal rows the one with the largest trace of C^T W S Q^T. With
  /// Y = S^T W^T C it is Y (Y^T Y)^(-1/2); what codes do not use stays 0.
  [[nodiscard]] Matrix<double> best_rotation(const Matrix<double>& Ct) const {
    const Matrix<double> Y = multiply(packed_, Matrix<double>(Ct.transpose()));
    const auto solver = eigenpairs(outer_gram(Y.transpose()));
    const Vector<double>& values = solver.eigenvalues();
    const double least = 1e-13 * (std::max)(0.0, values.maxCoeff());
    const Vector<double> inverse = values.unaryExpr(
        [least](double value) { return value > least ? 1 / std::sqrt(value) : 0; });
    const Matrix<double> root =
        multiply(Matrix<double>(solver.eigenvectors() * inverse.asDiagonal()),
                 Matrix<double>(solver.eigenvectors().transpose()));
    return multiply(Y, root);
  }

  Matrix<double> Wt_;
  MetricRoot<> root_;
  std::uint64_t seed_;
  Matrix<double> Zt_{};     // (W S)^T
  Dense<double> packed_{};  // the same, for products with it on the left
  double energy_ = 0;
  Matrix<double> directions_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
