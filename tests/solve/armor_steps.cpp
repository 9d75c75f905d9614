// SPDX-License-Identifier: MIT
// The steps of ARMOR against plain loops: each is exact, and none increases the loss.
#include "compress/support.hpp"
#include "pleat/solve/armor/armor_search.hpp"
#include "pleat/solve/sparse/sparse_weights.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace pleat::test {
namespace {

using detail::ArmorFactors;
using detail::ArmorSolver;
using detail::BlockDiagonal;
using detail::InputMetric;

/// The best mask in a diagonal metric.
Matrix<double> prune_by_score(const Matrix<double>& Wt, const Vector<double>& d) {
  return detail::prune_by(d.cwiseSqrt().asDiagonal() * Wt.cwiseAbs(), Wt, {});
}

Matrix<double> dense(const BlockDiagonal& D) {
  Matrix<double> result = Matrix<double>::Zero(D.size(), D.size());
  for (Index i = 0; i < D.count(); ++i)
    result.block(D.first(i), D.first(i), D.width(i), D.width(i)) = D[i];
  return result;
}

Matrix<double> product(const ArmorFactors& f) { return dense(f.A) * f.St.transpose() * dense(f.B); }

/// tr((W - A S B) G (W - A S B)^T) as it is written.
double loss_of(const Matrix<double>& W, const ArmorFactors& f, const Matrix<double>& G) {
  const Matrix<double> E = W - product(f);
  return (E * G).cwiseProduct(E).sum();
}

bool semi_structured(const Matrix<double>& St) {
  for (Index row = 0; row < St.cols(); ++row)
    for (Index i = 0; i < St.rows(); i += 4)
      if ((St.col(row).segment(i, std::min<Index>(4, St.rows() - i)).array() != 0).count() > 2)
        return false;
  return true;
}

/// W, G and factors somewhere: random blocks near the identity around a pruned W.
struct Trial {
  Trial(Random& random, Index m, Index n, Index b, Index c, Index samples = 0)
      : W(random.matrix<double>(m, n)),
        factors{BlockDiagonal(m, b), prune_by_score(W.transpose(), Vector<double>::Ones(n)),
                BlockDiagonal(n, c)} {
    const Matrix<double> X = correlated_inputs<double>(random, n, samples > 0 ? samples : 2 * n);
    G = X * X.transpose();
    for (BlockDiagonal* D : {&factors.A, &factors.B})
      for (Index i = 0; i < D->count(); ++i)
        (*D)[i] += 0.3 * random.matrix<double>(D->width(i), D->width(i));
  }

  [[nodiscard]] ArmorSolver<> solver() const {
    return ArmorSolver(W.transpose(), InputMetric::full(G), factors);
  }

  Matrix<double> W;
  Matrix<double> G;
  ArmorFactors factors;
};

/// S, row r, with the best two values of group g, by six least squares problems.
Matrix<double> best_group(const Matrix<double>& W, const ArmorFactors& f, const Matrix<double>& G,
                          Index r, Index first) {
  const Index width = std::min<Index>(4, W.cols() - first);
  const Matrix<double> A = dense(f.A);
  const Matrix<double> B = dense(f.B);
  ArmorFactors trial = f;
  trial.St.col(r).segment(first, width).setZero();
  const Matrix<double> E = W - product(trial);
  const Vector<double> a = A.col(r);
  const Matrix<double> Bg = B.middleRows(first, width);
  const Matrix<double> H = a.squaredNorm() * (Bg * G * Bg.transpose());
  const Vector<double> h = Bg * G * E.transpose() * a;
  double least = std::numeric_limits<double>::infinity();
  Matrix<double> best = trial.St;
  for (Index k = 0; k < width; ++k)
    for (Index l = std::min(k + 1, width - 1); l < width; ++l) {
      std::vector<Index> places{k};
      if (l != k) places.push_back(l);
      const Matrix<double> block = H(places, places);
      const Vector<double> values = block.ldlt().solve(Vector<double>(h(places)));
      const double loss = -values.dot(Vector<double>(h(places)));
      if (loss >= least) continue;
      least = loss;
      best = trial.St;
      for (std::size_t q = 0; q < places.size(); ++q)
        best(first + places[q], r) = values(static_cast<Index>(q));
    }
  return best;
}

}  // namespace

TEST_CASE("ARMOR's loss is that of the definition", "[armor]") {
  Random random(901);
  for (const auto& [m, n, b, c] :
       {std::array<Index, 4>{1, 1, 1, 1}, {7, 5, 3, 2}, {6, 70, 4, 16}}) {
    INFO(m << " x " << n);
    const Trial trial(random, m, n, b, c);
    const double total = (trial.W * trial.G).cwiseProduct(trial.W).sum();
    CHECK(trial.solver().loss() ==
          Approx(loss_of(trial.W, trial.factors, trial.G) / total).epsilon(1e-10));
  }
}

TEST_CASE("no step of ARMOR increases the loss, and each group keeps two", "[armor]") {
  Random random(902);
  // Fewer samples than inputs, too: no step needs a regular Gram matrix.
  for (const auto& [m, n, b, c, samples] :
       {std::array<Index, 5>{13, 22, 4, 5, 60}, {13, 70, 4, 5, 9}, {5, 9, 5, 9, 3}}) {
    INFO(m << " x " << n << ", " << samples << " samples");
    const Trial trial(random, m, n, b, c, samples);
    auto solver = trial.solver();
    double previous = solver.loss();
    const auto improved = [&] {
      const double loss = solver.loss();
      CHECK(loss <= previous * (1 + 1e-12) + 1e-14);
      CHECK(loss_of(trial.W, solver.factors(), trial.G) ==
            Approx(loss * (trial.W * trial.G).cwiseProduct(trial.W).sum())
                .epsilon(1e-7)
                .margin(1e-9 * trial.G.trace()));
      CHECK(semi_structured(solver.factors().St));
      previous = loss;
    };
    for (int round = 0; round < 3; ++round) {
      solver.improve_a();
      improved();
      solver.improve_groups();
      improved();
      solver.improve_values(3);
      improved();
      solver.improve_b();
      solver.carry_metric();
      solver.carry_values();
      improved();
    }
  }
}

TEST_CASE("after a step of ARMOR the gradient is zero", "[armor]") {
  Random random(903);
  const Trial trial(random, 10, 24, 4, 8);
  auto solver = trial.solver();
  const auto residual = [&] { return Matrix<double>(trial.W - product(solver.factors())); };
  const double scale = trial.W.norm() * trial.G.norm() * trial.factors.St.norm();
  solver.improve_a(false);
  {
    const auto& f = solver.factors();
    const Matrix<double> gradient =
        residual() * trial.G * (f.St.transpose() * dense(f.B)).transpose();
    for (Index i = 0; i < f.A.count(); ++i)
      CHECK(gradient.block(f.A.first(i), f.A.first(i), f.A.width(i), f.A.width(i)).norm() <=
            1e-8 * scale);
  }
  solver.improve_b();
  {
    const auto& f = solver.factors();  // the last block is the last that moved
    const Matrix<double> gradient =
        (dense(f.A) * f.St.transpose()).transpose() * residual() * trial.G;
    CHECK(gradient.block(16, 16, 8, 8).norm() <= 1e-8 * scale);
  }
  solver.carry_metric();
  solver.carry_values();
  solver.improve_values(200);
  {
    const auto& f = solver.factors();
    const Matrix<double> gradient = dense(f.B) * trial.G * residual().transpose() * dense(f.A);
    CHECK((f.St.array() != 0).select(gradient, 0).norm() <= 1e-6 * scale);
  }
}

TEST_CASE("a sweep of ARMOR is the naive one over six least squares problems a group", "[armor]") {
  Random random(904);
  for (const auto& [m, n, b, c] : {std::array<Index, 4>{5, 70, 2, 7}, {3, 9, 3, 4}, {2, 1, 1, 1}}) {
    INFO(m << " x " << n);
    const Trial trial(random, m, n, b, c);
    ArmorFactors naive = trial.factors;
    for (Index r = 0; r < m; ++r)
      for (Index first = 0; first < n; first += 4)
        naive.St = best_group(trial.W, naive, trial.G, r, first);
    auto solver = trial.solver();
    solver.improve_groups();
    CHECK((solver.factors().St - naive.St).norm() <= 1e-7 * naive.St.norm());
    CHECK(((solver.factors().St.array() != 0) == (naive.St.array() != 0)).all());
  }
}

TEST_CASE("in a diagonal metric ARMOR is the same, and B does not depend on it", "[armor]") {
  Random random(905);
  const Trial trial(random, 11, 75, 4, 6);
  const Vector<double> d = random.matrix<double>(75, 1).array().exp().matrix();
  ArmorSolver by_blocks(trial.W.transpose(), InputMetric::diagonal(d), trial.factors);
  ArmorSolver in_full(trial.W.transpose(), InputMetric::full(d.asDiagonal()), trial.factors);
  ArmorSolver other(trial.W.transpose(), InputMetric::diagonal(Vector<double>::Ones(75)),
                    trial.factors);
  for (ArmorSolver<>* solver : {&by_blocks, &in_full, &other}) solver->improve_b();
  CHECK((dense(by_blocks.factors().B) - dense(other.factors().B)).norm() <= 1e-7);
  CHECK((dense(by_blocks.factors().B) - dense(in_full.factors().B)).norm() <= 1e-7);
  for (ArmorSolver<>* solver : {&by_blocks, &in_full}) {
    solver->carry_metric();
    solver->carry_values();
    solver->improve_a();
    solver->improve_groups();
    solver->improve_values(2);
  }
  CHECK(by_blocks.loss() == Approx(in_full.loss()).epsilon(1e-7));
  CHECK((by_blocks.factors().St - in_full.factors().St).norm() <= 1e-5 * trial.W.norm());
}

TEST_CASE("ARMOR's loss begins as that of NoWag-P", "[armor]") {
  Random random(906);
  const Index m = 9;
  const Index n = 14;
  const Matrix<double> W = random.matrix<double>(m, n);
  const Vector<double> d = random.matrix<double>(n, 1).array().exp().matrix();
  const detail::NoWag normal(W.transpose());
  const Matrix<double> Wbar = normal.Wt.transpose();
  CHECK((normal.of_rows.asDiagonal() * Wbar * normal.of_cols.asDiagonal() - W).norm() <=
        1e-14 * W.norm());
  double expected = 0;
  double total = 0;
  for (Index i = 0; i < m; ++i)
    for (Index first = 0; first < n; first += 4) {
      std::vector<double> scores;
      for (Index k = first; k < std::min(first + 4, n); ++k)
        scores.push_back(Wbar(i, k) * Wbar(i, k) * d(k));
      std::sort(scores.begin(), scores.end());
      for (std::size_t k = 0; k < scores.size(); ++k) {
        total += scores[k];
        if (k + 2 < scores.size()) expected += scores[k];
      }
    }
  const ArmorSolver solver(
      normal.Wt, InputMetric::diagonal(d),
      {BlockDiagonal(m, 4), prune_by_score(normal.Wt, d), BlockDiagonal(n, 4)});
  CHECK(solver.loss() == Approx(expected / total).epsilon(1e-12));
}

TEST_CASE("pruning between wrappers is the sweep in the product of two metrics", "[armor]") {
  Random random(907);
  constexpr double damping = 0.1;
  SECTION("with identities, it is the sweep of every row") {
    Trial trial(random, 5, 70, 2, 7);
    trial.factors.A = BlockDiagonal(5, 2);
    trial.factors.B = BlockDiagonal(70, 7);
    const auto factor = detail::inverse_factor(trial.G, damping);
    const auto expected = detail::column_sweep(trial.W.transpose(), factor, {{2, 4}})->values;
    auto solver = trial.solver();
    solver.prune(factor.U, damping);
    CHECK((solver.factors().St - expected).norm() <= 1e-6 * expected.norm());
  }
  SECTION("with one block, it is the sweep of one row as long as the matrix") {
    const Trial trial(random, 3, 72, 3, 12);
    const Matrix<double> A = dense(trial.factors.A);
    const Matrix<double> B = dense(trial.factors.B);
    Matrix<double> H = trial.G;
    H.diagonal().array() += damping * trial.G.trace() / 72;
    const Matrix<double> of_rows = detail::inverse_factor(A.transpose() * A, damping).U;
    const Matrix<double> of_cols = detail::inverse_factor(B * H * B.transpose(), 0).U;
    detail::InverseFactor factor;
    factor.U = Matrix<double>(3 * 72, 3 * 72);
    for (Index r = 0; r < 3; ++r)
      for (Index k = 0; k < 3; ++k)
        factor.U.block(72 * r, 72 * k, 72, 72) = of_rows(r, k) * of_cols;
    const Matrix<double> moved = (A.inverse() * trial.W * B.inverse()).transpose();
    const Matrix<double> one_row = moved.reshaped(3 * 72, 1);
    const auto expected = detail::column_sweep(one_row, factor, {{2, 4}})->values;
    auto solver = trial.solver();
    solver.prune(InputMetric::full(trial.G).inverse_root(damping), damping);
    CHECK((solver.factors().St.reshaped(3 * 72, 1) - expected).norm() <= 1e-6 * expected.norm());
  }
}

TEST_CASE("ARMOR's gauge is fixed, and leaves the product", "[armor]") {
  Random random(908);
  const Trial trial(random, 10, 20, 4, 5);
  auto scaled = trial.solver();
  auto as_is = trial.solver();
  scaled.improve_a();
  as_is.improve_a(false);
  const Matrix<double> expected = product(as_is.factors());
  CHECK((product(scaled.factors()) - expected).norm() <= 1e-12 * expected.norm());
  CHECK(scaled.loss() == Approx(as_is.loss()).epsilon(1e-12));
  const Matrix<double> A = dense(scaled.factors().A);
  for (Index r = 0; r < 10; ++r) CHECK(A.col(r).norm() == Approx(1));
}

TEST_CASE("a planted ARMOR is found, nearly", "[armor]") {
  Random random(909);
  const Index size = 64;
  ArmorFactors planted{
      BlockDiagonal(size, 8),
      prune_by_score(random.matrix<double>(size, size), Vector<double>::Ones(size)),
      BlockDiagonal(size, 8)};
  for (BlockDiagonal* D : {&planted.A, &planted.B})
    for (Index i = 0; i < D->count(); ++i) (*D)[i] = random.matrix<double>(8, 8);
  const Matrix<double> Wt = product(planted).transpose();
  const auto metric = InputMetric::diagonal(Vector<double>::Ones(size));
  const ArmorFactors start{BlockDiagonal(size, 8), prune_by_score(Wt, Vector<double>::Ones(size)),
                           BlockDiagonal(size, 8)};
  detail::ProgressReport report({});
  const ArmorFactors found = detail::armor_search(Wt, metric, start, 20, true, report).factors;
  CHECK((Wt.transpose() - product(found)).squaredNorm() <=
        0.2 * (Wt.transpose() - product(start)).squaredNorm());
}

TEST_CASE("the steps of ARMOR are those of numpy, in both metrics", "[golden]") {
  const Matrix<double> W = golden_weight();
  const Matrix<double> G = golden_calibration().gram();
  const Vector<double> d = G.diagonal();
  const auto steps = [](auto&& solver, const std::vector<double>& expected) {
    std::vector<double> losses{solver.loss()};
    solver.improve_a();
    losses.push_back(solver.loss());
    solver.improve_b();
    solver.carry_metric();
    solver.carry_values();
    losses.push_back(solver.loss());
    solver.improve_groups();
    losses.push_back(solver.loss());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(losses[i] == Approx(expected[i]).epsilon(1e-7));
    }
  };
  const auto start = [&](const Matrix<double>& Wt) {
    return ArmorFactors{BlockDiagonal(12, 4), prune_by_score(Wt, d), BlockDiagonal(16, 4)};
  };
  const detail::NoWag normal(W.transpose());
  steps(ArmorSolver(normal.Wt, InputMetric::diagonal(d), start(normal.Wt)),
        {0.158823795043, 0.139446218834, 0.110957624111, 0.094599892892});
  steps(ArmorSolver(W.transpose(), InputMetric::full(G), start(W.transpose())),
        {0.183343001014, 0.140173898901, 0.099092519079, 0.068532380638});
}

TEST_CASE("ARMOR takes fewer rounds where they take longer", "[armor]") {
  CHECK(detail::automatic_rounds(512, 512, 512) == 32);
  CHECK(detail::automatic_rounds(512, 1536, 1536) == 10);
  CHECK(detail::automatic_rounds(4096, 4096, 4096) == 5);
  CHECK(detail::automatic_rounds(1, 1, 1) == 32);
  CHECK(detail::automatic_rounds(65536, 65536, 65536) == 5);
}

}  // namespace pleat::test
