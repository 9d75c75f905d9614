// SPDX-License-Identifier: MIT
// The linear systems of the coupling of a BLAST matrix: Hadamard products of small Gram matrices.
#pragma once

#include "pleat/solve/kronecker/blast_shapes.hpp"
#include "pleat/solve/linear/definite_root.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// U: m x r, V: n x r, and for each row of blocks the s_ij as columns of an r x b2 matrix.
struct BlastFactors {
  Matrix<double> U{};
  Matrix<double> V{};
  std::vector<Matrix<double>> s{};
};

/// T_jk = V_j^T G_jk V_k, r x r, of all columns of blocks; without a G those of j = k alone, the
/// others are 0. What is asked of them is answered for all rows of blocks i at once: entry (a, b)
/// of the sums over k of T_jk diag(x_ik), for one b, is a product of small matrices.
///
/// Cost: n^2 r + b2 n r^2 / 2 multiply-adds, without a G n r^2; an answer b1 b2^2 r^2, without b1
/// b2 r^2. Memory: b2^2 r^2, without b2 r^2.
template <class = void>
class BlastMoments {
 public:
  using Matrices = std::vector<Matrix<double>>;  // one for each row of blocks

  BlastMoments(const Matrix<double>& V, const Matrix<double>& G, const BlastShape& shape)
      : rank_(shape.rank), blocks_(shape.column_blocks), each_(G.size() > 0 ? blocks_ : 1) {
    const Index n = V.rows();
    const Index q = shape.width(n);
    const auto first = [&](Index j) { return (std::min)(n, j * q); };
    T_ = Matrix<double>::Zero(blocks_ * rank_, rank_ * each_);
    for (Index j = 0; j < blocks_; ++j) {
      const Index width = first(j + 1) - first(j);
      if (width == 0) break;
      const Matrix<double> Vt = V.middleRows(first(j), width).transpose();
      const Matrix<double> VG =
          G.size() == 0
              ? Vt
              : multiply(Vt, Matrix<double>(G.block(first(j), first(j), width, n - first(j))));
      for (Index k = j; k < (G.size() > 0 ? blocks_ : j + 1); ++k) {
        const Index other = first(k + 1) - first(k);
        if (other == 0) break;
        Matrix<double> T = multiply(VG.middleCols(first(k) - first(j), other),
                                    Matrix<double>(V.middleRows(first(k), other)));
        if (j == k) T = symmetric_part(std::move(T));
        for (Index b = 0; b < rank_; ++b)
          T_.block(j * rank_, b * each_ + k % each_, rank_, 1) = T.col(b);
        if (j == k) continue;
        for (Index a = 0; a < rank_; ++a)
          T_.block(k * rank_, a * each_ + j, rank_, 1) = T.row(a).transpose();
      }
    }
    // For each a, what the couplings of one row of blocks are to each other by it alone.
    for (Index a = 0; a < rank_; ++a) {
      Matrix<double> own = Matrix<double>::Zero(blocks_, blocks_);
      for (Index j = 0; j < blocks_; ++j)
        for (Index k = 0; k < each_; ++k)
          own(j, only_own() ? j : k) = T_(j * rank_ + a, a * each_ + k);
      inverses_.push_back(definite_root(own).inverse);
    }
  }

  /// For each i the sum over j, k of (s_ij s_ik^T) o T_jk, which is Vbar_i^T G Vbar_i.
  [[nodiscard]] Matrices weighted(const Matrices& s) const {
    Matrices sums(s.size(), Matrix<double>::Zero(rank_, rank_));
    parallel_ranges(rank_, [&](Index begin, Index end) {
      for (Index b = begin; b < end; ++b)
        for (Index j = 0; j < blocks_; ++j) {
          const Matrix<double> part = column(j, b, s);
          for (std::size_t i = 0; i < s.size(); ++i)
            sums[i].col(b) += s[i].col(j).cwiseProduct(part.col(static_cast<Index>(i)));
        }
    });
    for (Matrix<double>& sum : sums) sum = symmetric_part(std::move(sum));
    return sums;
  }

  /// For each i, as column j, the sum over k of (A_i o T_jk) x_ik.
  [[nodiscard]] Matrices times(const Matrices& A, const Matrices& x) const {
    Matrices y(x.size(), Matrix<double>::Zero(rank_, blocks_));
    parallel_ranges(blocks_, [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j)
        for (Index b = 0; b < rank_; ++b) {
          const Matrix<double> part = column(j, b, x);
          for (std::size_t i = 0; i < x.size(); ++i)
            y[i].col(j) += A[i].col(b).cwiseProduct(part.col(static_cast<Index>(i)));
        }
    });
    return y;
  }

  /// x with the sum over k of (A_i o T_jk) x_ik = h_ij for all i and j, A_i positive semidefinite,
  /// by conjugate gradients, for each i by itself: until what is left to gain of the loss is 1e-12
  /// of what was gained; of large systems at most a dozen steps, as sweeps go on from there. The
  /// preconditioner is exact but for products of two correlations, of columns of U_i and of V_j.
  [[nodiscard]] Matrices solve(const Matrices& A, const Matrices& h) const {
    constexpr double enough = 1e-12;
    const int most = rank_ * blocks_ <= 256 ? 256 : 12;
    Matrices x(h.size(), Matrix<double>::Zero(rank_, blocks_));
    Matrices residuals = h;
    Matrices directions = x;
    std::vector<double> sizes(h.size());
    std::vector<double> least(h.size());
    for (std::size_t i = 0; i < h.size(); ++i) {
      directions[i] = preconditioned(A[i], h[i]);
      sizes[i] = h[i].cwiseProduct(directions[i]).sum();
      least[i] = enough * sizes[i];
    }
    for (int step = 0; step < most; ++step) {
      const Matrices images = times(A, directions);
      bool going = false;
      for (std::size_t i = 0; i < h.size(); ++i) {
        if (!(sizes[i] > least[i])) continue;
        const double curvature = directions[i].cwiseProduct(images[i]).sum();
        if (!(curvature > 0)) {
          sizes[i] = 0;
          continue;
        }
        x[i] += (sizes[i] / curvature) * directions[i];
        residuals[i] -= (sizes[i] / curvature) * images[i];
        const Matrix<double> z = preconditioned(A[i], residuals[i]);
        const double next = residuals[i].cwiseProduct(z).sum();
        directions[i] = z + (next / sizes[i]) * directions[i];
        sizes[i] = next;
        going = going || next > least[i];
      }
      if (!going) break;
    }
    return x;
  }

 private:
  /// Column i is column b of the sum over k of T_jk diag(x_ik).
  [[nodiscard]] Matrix<double> column(Index j, Index b, const Matrices& x) const {
    Matrix<double> factors(each_, static_cast<Index>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i)
      for (Index k = 0; k < each_; ++k)
        factors(k, static_cast<Index>(i)) = x[i](b, only_own() ? j : k);
    return T_.block(j * rank_, b * each_, rank_, each_) * factors;
  }
  [[nodiscard]] bool only_own() const { return each_ < blocks_; }

  [[nodiscard]] Matrix<double> preconditioned(const Matrix<double>& A,
                                              const Matrix<double>& r) const {
    Matrix<double> z(r.rows(), r.cols());
    for (Index a = 0; a < rank_; ++a) {
      const double length = A(a, a);
      if (length > 0) z.row(a) = r.row(a) * inverses_[static_cast<std::size_t>(a)] / length;
      else z.row(a).setZero();
    }
    return z;
  }

  Index rank_;
  Index blocks_;
  Index each_;           // T_jk for each j: b2 of them, or 1
  Matrix<double> T_{};   // T_jk[a, b] at row j r + a and column b times `each_` and k
  Matrices inverses_{};  // b2 x b2, for each a
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
