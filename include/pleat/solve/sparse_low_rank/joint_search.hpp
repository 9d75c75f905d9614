// SPDX-License-Identifier: MIT
// A sparse matrix and one of low rank, sought together: operator splitting, then least squares.
#pragma once

#include "pleat/solve/linear/cholesky_solver.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/sparse_low_rank/leading_subspace.hpp"
#include "pleat/solve/sparse_low_rank/sparse_rule.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// How long a joint search goes on: penalties, and steps with each.
struct JointPlan {
  int rounds = 12;
  int steps = 6;

  /// What is worth its time for an n x m weight: 108 steps where they cost little, 18 at the least.
  [[nodiscard]] static JointPlan of(Index n, Index m) {
    const double factor = std::pow(double(n), 3) / 6;
    const double step = std::pow(double(n), 2) * double(m);
    const double most = 1.2e11;
    const int rounds = static_cast<int>(std::clamp(0.1 * most / factor, 6.0, 12.0));
    return {rounds, static_cast<int>(std::clamp(0.7 * most / (rounds * step), 3.0, 9.0))};
  }
  /// About so many steps.
  [[nodiscard]] static JointPlan of_steps(Index steps) {
    const int rounds = static_cast<int>(std::clamp<Index>(steps / 6, 2, 12));
    return {rounds, static_cast<int>((steps + rounds - 1) / rounds)};
  }
};

/// One sparse matrix and its low rank in a search: S^T as far as it has come, n x m, and U.
struct JointState {
  SparseRule rule;
  LeadingSubspace<> low;
  Matrix<double> St = {};
  Matrix<double> dual = {};
};

/// S of a rule and L of a rank that make tr((W - S - L) H (W - S - L)^T) small, by the alternating
/// direction method of multipliers with L eliminated. With H scaled to a unit diagonal, R = rho (H
/// + rho)^-1 and Q = (D - V - W)^T, the augmented Lagrangian is least over both S and L for
///
///     U  the leading eigenvectors of Q^T (Q - R Q),
///     S^T <- W^T + R Q (I - U U^T) + Q U U^T,   L = U U^T (W - S),
///
/// because what a direction of outputs costs without L is its part of Q^T (Q - R Q), and with L
/// nothing. Then D <- what the rule keeps of S + V, V <- S + V - D, while rho grows. H may be
/// empty, for the identity. `states` say which rules and ranks; all of them go through the same
/// penalties, which share their factors, and end with D, a mask with values to be refitted. Stops
/// where `proceed` says so, with what it has. Cost: for each rho n^3 / 6 multiply-adds, and m n^2
/// for each step and state.
///
/// Source: M. Makni, K. Behdin, Z. Xu, N. Ponomareva, R. Mazumder, "3BASiL: an algorithmic
/// framework for sparse plus low-rank compression of LLMs", 2025, which holds L fixed while S
/// moves, and so takes several times as many steps.
template <class = void>
void joint_search(const Matrix<double>& H, const Matrix<double>& Wt,
                  std::vector<JointState>& states, const JointPlan& plan,
                  const Proceed& proceed = {}) {
  const Index n = Wt.rows();
  const Index m = Wt.cols();
  constexpr double least = 0.1;
  constexpr double most = 2;
  const double growth = std::pow(most / least, 1.0 / (std::max)(1, plan.rounds - 1));
  // The mask is all that counts, and single precision halves the time of what is not small.
  const double work = std::pow(double(n), 2) * double(m) * plan.rounds * plan.steps;
  const bool single = work * double(states.size()) > 5e9;

  const bool calibrated = H.size() > 0;
  Vector<double> root = Vector<double>::Ones(n);
  if (calibrated) root = (H.diagonal().array() > 0).select(H.diagonal().cwiseSqrt(), root);
  const Vector<double> inverse_root = root.cwiseInverse();
  const Matrix<double> X = root.asDiagonal() * Wt;
  for (JointState& state : states) {
    state.St.resize(n, m);
    project(state.rule, X, state.St);
    state.dual = Matrix<double>::Zero(n, m);
  }
  double rho = least;
  double done = 0;
  bool going = true;
  const auto tell = [&] {
    if (proceed && going) going = proceed(done, 0);
  };
  Matrix<double> Q(n, m);
  Matrix<double> RQ(n, m);
  Matrix<double> Z;
  const auto search = [&]<class T>(CholeskySolver<T> solver) {
    Matrix<T> product(n, m);
    for (int round = 0; round < plan.rounds && going; ++round, rho *= growth) {
      if (calibrated) {
        Matrix<double> shifted = inverse_root.asDiagonal() * H * inverse_root.asDiagonal();
        shifted.diagonal().array() += rho;
        if (!solver.factor(std::move(shifted), tell)) continue;  // a larger one will do
      }
      for (int step = 1; step <= plan.steps && going; ++step) {
        for (JointState& state : states) {
          parallel_ranges(m, [&](Index begin, Index end) {
            const Index count = end - begin;
            const auto of = [&](auto& A) { return A.middleCols(begin, count); };
            of(Q) = of(state.St) - of(state.dual) - of(X);
            if (calibrated) of(product) = (rho * of(Q)).template cast<T>();
            else of(RQ) = rho / (1 + rho) * of(Q);
          });
          if (calibrated) {
            solver.solve_in_place(product);
            parallel_ranges(m, [&](Index begin, Index end) {
              RQ.middleCols(begin, end - begin) =
                  product.middleCols(begin, end - begin).template cast<double>();
            });
          }
          if (state.low.rank() > 0) {
            Z = Q - RQ;
            const Dense<double> packed(Z);
            state.low.follow_product(Q, packed, round == 0 && step == 1 ? 4 : 1);
            Z = state.low.projected(packed);
          }
          parallel_ranges(m, [&](Index begin, Index end) {
            const auto of = [&](auto& A) { return A.middleCols(begin, end - begin); };
            of(state.dual) += of(X) + of(RQ);
            if (state.low.rank() > 0) of(state.dual) += of(Z);
          });
          project(state.rule, state.dual, state.St);
          parallel_ranges(m, [&](Index begin, Index end) {
            const auto of = [&](auto& A) { return A.middleCols(begin, end - begin); };
            of(state.dual) -= of(state.St);
          });
        }
        done = (round + double(step) / plan.steps) / plan.rounds;
        tell();
      }
      for (JointState& state : states) state.dual /= growth;
    }
  };
  if (single) search(CholeskySolver<float>());
  else search(CholeskySolver<double>());
  for (JointState& state : states) {
    state.St = inverse_root.asDiagonal() * state.St;
    state.dual.resize(0, 0);
  }
}

/// Least squares of the nonzeros of S for a U that stays, L = U U^T (W - S) eliminated: conjugate
/// gradients on || (I - U U^T) (W - S) ||_H, preconditioned by the diagonal of H. No iteration
/// increases the loss; ends where one gains less than `tolerance` of it. Returns the loss. Cost: m
/// n^2 multiply-adds an iteration.
template <class = void>
double refit_beside(const SplittingMetric& H, const Vector<double>& diagonal,
                    const Matrix<double>& Wt, Matrix<double>& St, const LeadingSubspace<>& low,
                    Index iterations, double tolerance = 1e-5) {
  const auto beside = [&](Matrix<double> A) {
    A -= low.projected(A);
    return A;
  };
  const Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic> kept = St.array() != 0;
  Vector<double> inverse = Vector<double>::Ones(Wt.rows());
  if (diagonal.size() > 0)
    inverse = (diagonal.array() > 0).select(diagonal.cwiseInverse(), 0 * inverse);
  const Matrix<double> E = beside(Wt - St);
  Matrix<double> residual = H.times(E);
  double loss = residual.cwiseProduct(E).sum();
  residual = kept.select(residual, 0.0);
  Matrix<double> direction = inverse.asDiagonal() * residual;
  double square = residual.cwiseProduct(direction).sum();
  for (Index i = 0; i < iterations && square > 0; ++i) {
    const Matrix<double> product = H.times(beside(direction));
    const double curvature = direction.cwiseProduct(product).sum();
    if (!(curvature > 0)) break;
    const double step = square / curvature;
    St += step * direction;
    residual = kept.select(residual - step * product, 0.0);
    loss -= step * square;
    if (step * square <= tolerance * loss) break;
    const Matrix<double> Z = inverse.asDiagonal() * residual;
    const double next = residual.cwiseProduct(Z).sum();
    direction = Z + (next / square) * direction;
    square = next;
  }
  return loss;
}

/// Improves the values of S on its mask and L in turns: `refit_beside`, then U anew. Each turn is
/// undone if it raised the loss, which is returned: that of S and of L = U U^T (W - S). At most so
/// many turns, of at most so many iterations.
template <class = void>
double settle(const Matrix<double>& H, const Matrix<double>& Wt, JointState& state, Index turns,
              const Proceed& proceed = {}, Index iterations = 12) {
  const SplittingMetric metric(H);
  const Vector<double> diagonal = H.size() > 0 ? Vector<double>(H.diagonal()) : Vector<double>();
  const auto loss_of = [&](const JointState& of) {
    const Matrix<double> E = Wt - of.St;
    return metric.loss(E - of.low.projected(E));
  };
  state.low.follow(metric, Wt - state.St, 4);
  double loss = loss_of(state);
  for (Index turn = 1; turn <= turns; ++turn) {
    if (proceed && !proceed(double(turn) / double(turns), loss)) break;
    JointState next = state;
    (void)refit_beside(metric, diagonal, Wt, next.St, next.low, iterations);
    next.low.follow(metric, Wt - next.St, 2);
    const double reached = loss_of(next);
    if (!(reached < loss)) break;
    const bool little = loss - reached <= 1e-4 * loss;
    state = std::move(next);
    loss = reached;
    if (little) break;
  }
  return loss;
}

/// S and L in turns, each the best given the other, where inputs count by the weights `scale` and
/// not by their correlations: L the leading singular vectors of (W - S) diag(scale), S what the
/// rule keeps of (W - L) diag(scale). || (W - S - L) diag(scale) ||_F never rises; `losses`, if
/// given, has its square after every half turn. With the roots of the inputs' energies it is OATS,
/// with ones GoDec. Cost of a turn: 6 m n r multiply-adds.
///
/// Source: S. Zhang and V. Papyan, "OATS: outlier-aware pruning through sparse and low rank
/// decomposition", 2024; T. Zhou and D. Tao, "GoDec", ICML 2011.
template <class = void>
void alternate(const Vector<double>& scale, const Matrix<double>& Wt, JointState& state,
               Index turns, const Proceed& proceed = {}, std::vector<double>* losses = nullptr) {
  const SplittingMetric identity{Matrix<double>()};
  const Matrix<double> A = scale.asDiagonal() * Wt;
  Matrix<double> L = Matrix<double>::Zero(A.rows(), A.cols());
  state.St = Matrix<double>::Zero(A.rows(), A.cols());
  for (Index turn = 1; turn <= turns; ++turn) {
    const Matrix<double> E = A - state.St;
    state.low.follow(identity, E, turn == 1 ? 6 : 1);
    L = state.low.projected(E);
    if (losses != nullptr) losses->push_back((E - L).squaredNorm());
    project(state.rule, A - L, state.St);
    const double loss = (A - L - state.St).squaredNorm();
    if (losses != nullptr) losses->push_back(loss);
    if (proceed && !proceed(double(turn) / double(turns), 0)) break;
  }
  state.St = (scale.array() > 0).select(scale.cwiseInverse(), 0 * scale).asDiagonal() * state.St;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
