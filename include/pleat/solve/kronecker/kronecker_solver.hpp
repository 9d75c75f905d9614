// SPDX-License-Identifier: MIT
// The best sum of Kronecker products of one shape: singular vectors of the rearranged weight, and
// least squares in turns.
#pragma once

#include "pleat/matrix/kronecker_sum.hpp"
#include "pleat/solve/kronecker/kronecker_system.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/low_rank/low_rank_solver.hpp"
#include "pleat/solve/metric/calibration.hpp"
#include "pleat/solve/metric/layer_metric.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Minimises tr(P (W - What) G (W - What)^T) over sums of R Kronecker products of one shape, for W:
/// m x n, of a size about 1, and G definite, or the identity. P is diagonal: of weights p of the
/// rows, the m2 x m1 matrix is replaced by the nearest p2 p1^T, for which rows (i1, i2) of W, A and
/// B are scaled by the roots of its factors.
///
/// For G = C1 (x) C2, the identity too, the optimum is that of the singular vectors of the
/// rearranged W (C1^(1/2) (x) C2^(1/2)), multiplied by C1^(-1/2) and C2^(-1/2). For any G the A_r
/// are, given the B_r, the solution of a linear system,
///
///     [A_1, A_2, ...] M = H,   M_(r j1)(s k1) = sum over j2, k2 of (B_r^T B_s)_(j2 k2) G_(j1
///     j2)(k1 k2),   H_i1(r j1) = sum over i2, j2 of (W G)_(i1 i2)(j1 j2) (B_r)_(i2 j2),
///
/// R n1 x R n1, and the B_r, given the A_r, of one that is R n2 x R n2. Both half-steps are exact,
/// so the loss never rises. They begin at the better of two after one round: the singular vectors
/// of W, and of the closed form for the C1 (x) C2 that is nearest to G. Cost: m n^2 multiply-adds,
/// then 2 R^2 n^2 + 2 R m n and the systems a round. Memory: some four times W, and what G takes.
template <class = void>
class KroneckerSolver {
 public:
  /// For shapes that cover W, and roots of the weights of rows, of a size about 1 or empty. W need
  /// not live as long as the solver, G must.
  KroneckerSolver(const Matrix<double>& W, const Matrix<double>& G, const Vector<double>& roots,
                  const KroneckerShape& shape, LowRankMethod method)
      : shape_(shape), method_(std::move(method)), G_(&G) {
    const Index n = shape_.left_cols * shape_.right_cols;
    scale_rows(roots, W.rows());
    W_ = Matrix<double>::Zero(W.rows(), n);
    W_.leftCols(W.cols()) = W;
    for (Index row = 0; row < W.rows(); ++row)
      W_.row(row) *= left_roots_(row / shape_.right_rows) * right_roots_(row % shape_.right_rows);
    if (G.size() == 0) {
      energy_ = W_.squaredNorm();
      target_ = Dense<double>(rearranged(W_, shape_));
      return;
    }
    if (G.rows() < n) {  // inputs past the last are always 0
      padded_ = Matrix<double>::Zero(n, n);
      padded_.topLeftCorner(G.rows(), G.cols()) = G;
      padded_.diagonal().tail(n - G.rows()).setConstant(1e-8 * G.diagonal().mean());
      G_ = &padded_;
    }
    const Matrix<double> WG = multiply(W_, *G_);
    energy_ = WG.cwiseProduct(W_).sum();
    target_ = Dense<double>(rearranged(WG, shape_));
  }
  KroneckerSolver(const KroneckerSolver&) = delete;
  KroneckerSolver& operator=(const KroneckerSolver&) = delete;
  ~KroneckerSolver() = default;

  /// All squared singular values of the rearranged W, with its rows weighted, descending.
  [[nodiscard]] Vector<double> spectrum() const {
    return LowRankSolver<>(rearranged(W_, shape_), none_, 0, method_).spectrum();
  }

  /// By singular vectors, as if G were the identity: then the optimum.
  [[nodiscard]] KroneckerTerms by_singular_vectors(Index terms) {
    return unscaled(cached_singular_terms(terms));
  }

  /// The closed form for the nearest C1 (x) C2: the optimum where G is one.
  [[nodiscard]] KroneckerTerms by_closed_form(Index terms) {
    return unscaled(separable_terms(terms));
  }

  /// Whether the systems of half-steps of a shape are of a size to solve; 2048 is one.
  [[nodiscard]] static bool solvable(const KroneckerShape& shape) noexcept {
    constexpr Index most = 2048;
    return (std::max)(shape.left_cols, shape.right_cols) <= most / shape.terms;
  }
  /// The same for so many terms of this shape; without a metric there is nothing to solve.
  [[nodiscard]] bool has_half_steps(Index terms) const noexcept {
    KroneckerShape shape = shape_;
    shape.terms = terms;
    return is_plain() || solvable(shape);
  }

  /// Half-steps from the better of both, as many rounds, or, for 0, as pay; none where their
  /// systems are too large.
  [[nodiscard]] KroneckerTerms fitted(Index terms, Index rounds, ProgressReport& report) {
    KroneckerTerms best = separable_terms(terms);
    if (is_plain()) return unscaled(std::move(best));
    report.relative_to(energy_);
    KroneckerTerms other = cached_singular_terms(terms);
    const Index most = !has_half_steps(terms) ? 0 : rounds > 0 ? rounds : rounds_worth(terms);
    double least = loss_of(best);
    double loss = loss_of(other);
    if (most > 0 && report.begin("half-steps", 1, most)) {
      least = round(best, least);
      loss = round(other, loss);
    }
    if (loss < least) {
      std::swap(best, other);
      std::swap(loss, least);
    }
    report.reached(least);
    for (Index i = 2; i <= most && report.begin("half-steps", i, most); ++i) {
      loss = round(best, least);
      const double gain = least - loss;
      least = loss;
      report.reached(least);
      if (rounds == 0 && !(gain > 1e-4 * least)) break;
    }
    return unscaled(std::move(best));
  }

  /// The best A_r for these B_r; and the other way round. Where there are half-steps.
  [[nodiscard]] Matrix<double> left_for(const Matrix<double>& B) const {
    const Matrix<double> scaled = times(right_roots_, B);
    return over(left_roots_,
                left_step(Matrix<double>::Zero(target_.rows(), B.cols()), scaled).solution);
  }
  [[nodiscard]] Matrix<double> right_for(const Matrix<double>& A) const {
    const Matrix<double> scaled = times(left_roots_, A);
    return over(right_roots_,
                right_step(Matrix<double>::Zero(target_.cols(), A.cols()), scaled).solution);
  }

  /// What is minimised.
  [[nodiscard]] double loss(const KroneckerTerms& terms) const {
    return loss_of({times(left_roots_, terms.A), times(right_roots_, terms.B)});
  }
  /// The loss of zeros.
  [[nodiscard]] double energy() const noexcept { return energy_; }

 private:
  struct Step {
    Matrix<double> solution;
    double loss;
  };

  [[nodiscard]] bool is_plain() const noexcept { return G_->size() == 0; }

  /// Rounds beyond which a compression would take some ten seconds, at most 20.
  [[nodiscard]] Index rounds_worth(Index terms) const {
    const auto size = [](Index n) { return static_cast<double>(n); };
    const double left = size(terms * shape_.left_cols);
    const double right = size(terms * shape_.right_cols);
    const double n = size(W_.cols());
    const double cost = 2 * size(terms) * (size(terms) * n * n + size(W_.rows()) * n) +
                        left * left * left + right * right * right;
    return static_cast<Index>(std::clamp(5e10 / cost, 0.0, 20.0));
  }

  // ---- Weights of rows ----

  /// The roots of the factors of the nearest p2 p1^T, by power iteration, which keeps positive what
  /// is. Ones where all weights are one.
  void scale_rows(const Vector<double>& roots, Index rows) {
    const Index m1 = shape_.left_rows;
    const Index m2 = shape_.right_rows;
    left_roots_ = Vector<double>::Ones(m1);
    right_roots_ = Vector<double>::Ones(m2);
    if (roots.size() == 0 || (roots.array() == roots(0)).all()) return;
    // Rows past the last are as their neighbours in the other factor.
    Matrix<double> P = Matrix<double>::Constant(m2, m1, roots.squaredNorm() / double(rows));
    for (Index row = 0; row < rows; ++row) P(row % m2, row / m2) = roots(row) * roots(row);
    Vector<double> left = Vector<double>::Ones(m1);
    Vector<double> right;
    for (int i = 0; i < 50; ++i) {
      right = P * (left / left.norm());
      left = P.transpose() * (right / right.norm());
    }
    const auto root = [](const Vector<double>& p) {
      return Vector<double>((p / p.maxCoeff()).cwiseMax(0x1p-40).cwiseSqrt());
    };
    left_roots_ = root(left);
    right_roots_ = root(right);
  }

  /// Terms whose rows are scaled, entry (i, j) of a term by roots(i); and back.
  [[nodiscard]] static Matrix<double> times(const Vector<double>& roots, Matrix<double> terms) {
    Eigen::Map<Matrix<double>> rows(terms.data(), roots.size(), terms.size() / roots.size());
    rows = roots.asDiagonal() * rows;
    return terms;
  }
  [[nodiscard]] static Matrix<double> over(const Vector<double>& roots, Matrix<double> terms) {
    return times(roots.cwiseInverse(), std::move(terms));
  }
  [[nodiscard]] KroneckerTerms unscaled(KroneckerTerms terms) const {
    return {over(left_roots_, std::move(terms.A)), over(right_roots_, std::move(terms.B))};
  }

  // ---- Closed forms ----

  [[nodiscard]] KroneckerTerms singular_terms(const Matrix<double>& W, Index terms) const {
    LowRankSolver<> solver(rearranged(W, shape_), none_, 0, method_);
    auto factors = solver.factors(terms);
    return {std::move(factors.U), factors.V.transpose()};
  }
  [[nodiscard]] const KroneckerTerms& cached_singular_terms(Index terms) {
    if (singular_.A.cols() != terms) singular_ = singular_terms(W_, terms);
    return singular_;
  }

  /// An S with S S^T = C, definite, and the inverse of S: of Cholesky, or, where C hardly is
  /// definite, symmetric, from eigenvalues that are cut off below.
  [[nodiscard]] static std::pair<Matrix<double>, Matrix<double>> root_of(Matrix<double> C) {
    C = symmetric_part(std::move(C));
    const double noise = std::numeric_limits<double>::epsilon() * static_cast<double>(C.rows());
    const Eigen::LLT<Matrix<double>> cholesky(C);
    if (cholesky.info() == Eigen::Success &&
        cholesky.matrixLLT().diagonal().cwiseAbs2().minCoeff() > noise * C.diagonal().maxCoeff())
      return {cholesky.matrixL(),
              cholesky.matrixL().solve(Matrix<double>::Identity(C.rows(), C.cols()))};
    const auto pairs = eigenpairs(C);
    const Vector<double>& values = pairs.eigenvalues();
    const Vector<double> roots = values.cwiseMax(noise * values.maxCoeff()).cwiseSqrt();
    const Matrix<double>& vectors = pairs.eigenvectors();
    const Matrix<double> transposed = vectors.transpose();
    return {multiply(vectors * roots.asDiagonal(), transposed),
            multiply(vectors * roots.cwiseInverse().asDiagonal(), transposed)};
  }

  [[nodiscard]] KroneckerTerms separable_terms(Index terms) {
    if (is_plain()) return cached_singular_terms(terms);
    const Index m = W_.rows();
    const Index n1 = shape_.left_cols;
    const Index n2 = shape_.right_cols;
    const auto [C1, C2] = KroneckerSystem<>(*G_, shape_).nearest_product();
    const auto [root1, inverse1] = root_of(C1);
    const auto [root2, inverse2] = root_of(C2);
    // W (root1 (x) root2), where column (j1, j2) is j1 n2 + j2.
    Matrix<double> white = multiply(Eigen::Map<const Matrix<double>>(W_.data(), m * n2, n1), root1);
    white.resize(m, n1 * n2);
    for (Index j = 0; j < n1; ++j)
      white.middleCols(j * n2, n2) = multiply(white.middleCols(j * n2, n2), root2);
    KroneckerTerms result = singular_terms(white, terms);
    // The terms below each other, as they may have one row each.
    const auto unwhiten = [](Matrix<double>& all, Index rows, const Matrix<double>& inverse) {
      Matrix<double> stack(all.cols() * rows, inverse.rows());
      const auto term = [&](Index r) {
        return Eigen::Map<Matrix<double>>(all.col(r).data(), rows, inverse.rows());
      };
      for (Index r = 0; r < all.cols(); ++r) stack.middleRows(r * rows, rows) = term(r);
      stack = multiply(stack, inverse);
      for (Index r = 0; r < all.cols(); ++r) term(r) = stack.middleRows(r * rows, rows);
    };
    unwhiten(result.A, shape_.left_rows, inverse1);
    unwhiten(result.B, shape_.right_rows, inverse2);
    return result;
  }

  // ---- Half-steps ----

  /// The solution of T M = H for T, from what it was: only what it changes by is rounded. For terms
  /// as columns, of so many rows, where M is for them side by side.
  [[nodiscard]] Step solved(Matrix<double> terms, const Matrix<double>& H, const Matrix<double>& M,
                            Index rows) const {
    Eigen::Map<Matrix<double>> T(terms.data(), rows, M.rows());
    const Eigen::Map<const Matrix<double>> right(H.data(), rows, M.rows());
    T += quotient(right - multiply(T, M), M);
    const Matrix<double> TM = multiply(T, M);
    const double loss = energy_ + T.cwiseProduct(TM - 2 * right).sum();
    return {std::move(terms), loss};
  }
  [[nodiscard]] Step left_step(Matrix<double> A, const Matrix<double>& B) const {
    const Matrix<double> H = multiply(target_, B);
    if (is_plain()) {
      const Index rows = A.rows();
      return solved(std::move(A), H, outer_gram(B.transpose()), rows);
    }
    return solved(std::move(A), H, KroneckerSystem<>(*G_, shape_).left(B), shape_.left_rows);
  }
  [[nodiscard]] Step right_step(Matrix<double> B, const Matrix<double>& A) const {
    Matrix<double> H(target_.cols(), A.cols());
    target_.apply_transpose(A, H);
    if (is_plain()) {
      const Index rows = B.rows();
      return solved(std::move(B), H, outer_gram(A.transpose()), rows);
    }
    return solved(std::move(B), H, KroneckerSystem<>(*G_, shape_).right(A), shape_.right_rows);
  }

  /// Both half-steps; what rounding makes worse stays as it was. Returns the loss.
  double round(KroneckerTerms& terms, double loss) const {
    Step left = left_step(terms.A, terms.B);
    if (left.loss <= loss) {
      terms.A = std::move(left.solution);
      loss = left.loss;
    }
    Step right = right_step(terms.B, terms.A);
    if (right.loss <= loss) {
      terms.B = std::move(right.solution);
      loss = right.loss;
    }
    return (std::max)(0.0, loss);
  }

  /// The loss from what is left of W, to its own rounding.
  [[nodiscard]] double loss_of(const KroneckerTerms& terms) const {
    const Matrix<double> What = multiply(terms.A, Matrix<double>(terms.B.transpose()));
    const Index m1 = shape_.left_rows;
    const Index m2 = shape_.right_rows;
    const Index n2 = shape_.right_cols;
    Matrix<double> Et(W_.cols(), m1 * m2);
    for (Index row = 0; row < m1 * m2; ++row)
      for (Index col = 0; col < W_.cols(); ++col)
        Et(col, row) = (row < W_.rows() ? W_(row, col) : 0) -
                       What(row / m2 + m1 * (col / n2), row % m2 + m2 * (col % n2));
    if (is_plain()) return Et.squaredNorm();
    return metric_loss(Dense<double>(*G_), Et);
  }

  KroneckerShape shape_;
  LowRankMethod method_;
  Calibration<double> none_{};
  const Matrix<double>* G_;
  Matrix<double> padded_{};       // G, where columns were added
  Matrix<double> W_{};            // with rows weighted, and columns added
  Vector<double> left_roots_{};   // of the weights of rows, m1
  Vector<double> right_roots_{};  // and m2
  Dense<double> target_{};        // the rearranged W G
  KroneckerTerms singular_{};     // of W, once they were asked for
  double energy_ = 0;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
