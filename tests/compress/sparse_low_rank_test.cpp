// SPDX-License-Identifier: MIT
// compress<SparseLowRank>: what a sparse matrix and a low rank must be together, and what budgets
// give.
#include "pleat/compress/sparse_low_rank.hpp"

#include "compress/rotation.hpp"
#include "compress/support.hpp"
#include "pleat/compress/compensate.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;
using Method = SparseLowRankMethod;
template <Real T>
using JointOptions = typename SparseLowRank<T>::Options;

constexpr SparseKind all_kinds[] = {SparseKind::semi_structured, SparseKind::csr,
                                    SparseKind::columns};

/// A rule, a rank, and where a short search for them ends.
detail::JointState joint_state_of(const Matrix<double>& H, const Matrix<double>& Wt,
                                  const detail::SparseRule& rule, Index rank) {
  std::vector<detail::JointState> states{{rule, detail::LeadingSubspace<>(Wt.cols(), rank, 1)}};
  detail::joint_search(H, Wt, states, {6, 4});
  return std::move(states.front());
}

constexpr detail::SparseRule three_of_eight_rule{detail::SparseRule::Kind::pattern, {3, 8}};

double tail_beyond(const Matrix<double>& A, Index rank) {
  const Vector<double> sigma = singular_values(A);
  return rank < sigma.size() ? sigma.tail(sigma.size() - rank).norm() : 0;
}

/// What `compensate` makes of the same bytes: the sparse pattern first.
double one_after_the_other(const Matrix<double>& W, double share, SparsePattern pattern,
                           const Calibration<double>& calibration) {
  const auto S = compress<SemiStructured>(W, keep(share), calibration,
                                          {.pattern = pattern, .places = Places::masks});
  return relative_error(W, compensate(S, W, keep(share), calibration), calibration);
}

}  // namespace

TEST_CASE("SparseLowRank: U V is the best for its S", "[sparse_low_rank]") {
  Random random(421);
  const Matrix<double> W = random.matrix<double>(30, 41);
  const Matrix<double> X = correlated_inputs<double>(random, 41, 120);
  const auto calibration = exact_calibration(X);
  for (const SparseKind kind : all_kinds)
    for (const Method method : {Method::joint, Method::oats, Method::godec}) {
      CAPTURE(int(kind), int(method));
      const auto op =
          compress<SparseLowRank>(W, keep(0.7), calibration,
                                  {.sparse = kind, .rank = 4, .method = method, .iterations = 20});
      CHECK(op.rank() == 4);
      const Matrix<double> left = (W - op.sparse_part()) * X;
      CHECK(((W - op.to_dense()) * X).norm() ==
            Approx(tail_beyond(left, 4)).epsilon(1e-9).margin(1e-9));
    }
}

TEST_CASE("SparseLowRank: kept values are least squares, beside U V", "[sparse_low_rank]") {
  Random random(422);
  const Matrix<double> W = random.matrix<double>(20, 30);
  const Matrix<double> Wt = W.transpose();
  for (const Index samples : {90, 15}) {  // of full rank, and not
    const Matrix<double> G = gram_of(random, 30, samples);
    const Matrix<double> H = detail::fitting_gram(G / G.trace());
    auto state = joint_state_of(H, Wt, three_of_eight_rule, 3);
    const detail::SplittingMetric metric(H);
    state.low.follow(metric, Wt - state.St, 10);
    const Matrix<double> before = Wt - state.St;
    double loss = metric.loss(before - state.low.projected(before));
    // More iterations are never worse, and the loss that is returned is that of S.
    for (const Index iterations : {1, 3, 10, 5000}) {
      const double reached = detail::refit_beside(metric, Vector<double>(H.diagonal()), Wt,
                                                  state.St, state.low, iterations, 0);
      CHECK(reached <= loss * (1 + 1e-12));
      loss = reached;
      const Matrix<double> E = Wt - state.St;
      CHECK(loss == Approx(metric.loss(E - state.low.projected(E))).epsilon(1e-8).margin(1e-13));
    }
    const Matrix<double> E = Wt - state.St;
    const Matrix<double> gradient = H * (E - state.low.projected(E));
    const auto kept = (state.St.array() != 0).cast<double>();
    CHECK((gradient.array() * kept).matrix().norm() <= 1e-6 * (H * Wt).norm());
    // By normal equations: S with L = U U^T (W - S) eliminated.
    const Matrix<double> beside =
        Matrix<double>::Identity(20, 20) - state.low.U() * state.low.U().transpose();
    std::vector<std::pair<Index, Index>> places;
    for (Index j = 0; j < 20; ++j)
      for (Index i = 0; i < 30; ++i)
        if (state.St(i, j) != 0) places.emplace_back(i, j);
    const auto count = static_cast<Index>(places.size());
    Matrix<double> A(count, count);
    Vector<double> b(count);
    const Matrix<double> right = H * Wt * beside;
    for (Index p = 0; p < count; ++p) {
      const auto& [i, j] = places[std::size_t(p)];
      b(p) = right(i, j);
      for (Index q = 0; q < count; ++q) {
        const auto& [k, l] = places[std::size_t(q)];
        A(p, q) = H(i, k) * beside(j, l);
      }
    }
    const Vector<double> s = A.ldlt().solve(b);
    const double optimum = (H * Wt * beside).cwiseProduct(Wt).sum() - b.dot(s);
    CHECK(loss <= optimum + 1e-4 * std::abs(optimum) + 1e-9);
  }
}

TEST_CASE("SparseLowRank: losses never rise", "[sparse_low_rank]") {
  Random random(423);
  const Matrix<double> W = random.matrix<double>(33, 40);
  const Matrix<double> Wt = W.transpose();
  const Matrix<double> G = gram_of(random, 40, 100);
  const Matrix<double> H = detail::fitting_gram(G / G.trace());
  for (const auto& rule :
       {three_of_eight_rule, detail::SparseRule{detail::SparseRule::Kind::entries, {}, 300},
        detail::SparseRule{detail::SparseRule::Kind::columns, {}, 7}}) {
    CAPTURE(int(rule.kind));
    // Half turn by half turn of OATS, and of GoDec.
    for (const Vector<double>& scale :
         {Vector<double>(H.diagonal().cwiseSqrt()), Vector<double>(Vector<double>::Ones(40))}) {
      detail::JointState state{rule, detail::LeadingSubspace<>(33, 4, 7)};
      std::vector<double> losses;
      detail::alternate(scale, Wt, state, 30, {}, &losses);
      REQUIRE(losses.size() == 60);
      bool monotone = true;
      for (std::size_t i = 1; i < losses.size(); ++i)
        monotone = monotone && losses[i] <= losses[i - 1] * (1 + 1e-12);
      CHECK(monotone);
      CHECK(losses.back() < losses[1]);
    }
    // Turn by turn after the splitting, with a metric and without.
    for (const Matrix<double>& metric : {H, Matrix<double>()}) {
      const auto start = joint_state_of(metric, Wt, rule, 4);
      double before = detail::SplittingMetric(metric).loss(Wt);
      for (const Index turns : {0, 1, 2, 3, 6}) {
        auto state = start;
        const double loss = detail::settle(metric, Wt, state, turns);
        CHECK(loss <= before * (1 + 1e-12));
        before = loss;
      }
    }
  }
}

TEST_CASE("SparseLowRank: every rule keeps what it says, and the largest", "[sparse_low_rank]") {
  Random random(424);
  const Matrix<double> V = random.matrix<double>(13, 6);
  Matrix<double> D(13, 6);
  for (const Index count : {0, 1, 17, 77, 78, 100}) {
    detail::project({detail::SparseRule::Kind::entries, {}, count}, V, D);
    const Index kept = (D.array() != 0).count();
    CHECK(kept == std::min<Index>(count, 78));
    const double least = kept > 0 ? (D.array() != 0).select(D.cwiseAbs(), 9.0).minCoeff() : 9;
    CHECK((D.array() == 0).select(V.cwiseAbs(), 0.0).maxCoeff() <= least);
  }
  for (const Index count : {0, 1, 5, 13}) {
    detail::project({detail::SparseRule::Kind::columns, {}, count}, V, D);
    CHECK((D.rowwise().norm().array() != 0).count() == count);
  }
  detail::project(three_of_eight_rule, V, D);
  CHECK(((D.topRows(8).array() != 0).colwise().count() == 3).all());
  CHECK(((D.bottomRows(5).array() != 0).colwise().count() == 3).all());
  // Of equal ones the first.
  D.resize(4, 2);
  detail::project({detail::SparseRule::Kind::entries, {}, 3}, Matrix<double>::Ones(4, 2), D);
  CHECK(D.col(0).head(3).sum() == 3);
}

TEST_CASE("SparseLowRank: without a rank it is the sparse maker", "[sparse_low_rank]") {
  Random random(425);
  const Matrix<float> W = random.matrix<float>(24, 32);
  const auto calibration = exact_calibration(correlated_inputs<float>(random, 32, 90));
  for (const SparsePattern pattern : {SparsePattern{2, 4}, {3, 8}, {8, 16}}) {
    const auto alone = compress<SemiStructured>(W, keep(1), calibration,
                                                {.pattern = pattern, .places = Places::masks});
    const auto op = compress<SparseLowRank>(W, bytes(std::int64_t(alone.bytes())), calibration,
                                            {.pattern = pattern, .places = Places::masks});
    CHECK(op.rank() == 0);
    CHECK(op.bytes() == alone.bytes());
    CHECK(op.to_dense() == alone.to_dense());
  }
}

TEST_CASE("SparseLowRank: without a calibration OATS is GoDec", "[sparse_low_rank]") {
  Random random(426);
  const Matrix<double> W = random.matrix<double>(24, 32);
  for (const SparseKind kind : all_kinds) {
    JointOptions<double> options{.sparse = kind, .method = Method::oats};
    const auto oats = compress<SparseLowRank>(W, keep(0.6), options);
    options.method = Method::godec;
    CHECK(compress<SparseLowRank>(W, keep(0.6), options).to_dense() == oats.to_dense());
  }
}

TEST_CASE("SparseLowRank: what is planted is found", "[sparse_low_rank]") {
  Random random(427);
  const Index m = 60;
  const Index n = 64;
  const Matrix<double> U = random.matrix<double>(m, 5);
  const Matrix<double> V = random.matrix<double>(5, n);
  const Matrix<double> L = U * V;
  Matrix<double> any = Matrix<double>::Zero(m, n);
  for (Index e = 0; e < 120; ++e) {
    const Index i = random.integer(0, m - 1);
    const Index j = random.integer(0, n - 1);
    any(i, j) = random.uniform(4, 8) * (e % 2 == 0 ? 1 : -1);
  }
  const auto entries = double((any.array() != 0).count());
  const double rows = 10 * entries + 8 * (m + 1);
  const double low = 8.0 * 5 * (m + n);
  const Matrix<double> W = L + any;
  for (const Method method : {Method::joint, Method::godec}) {
    CAPTURE(int(method));
    const auto op = compress<SparseLowRank>(W, bytes(std::int64_t(rows + low)),
                                            {.sparse = SparseKind::csr,
                                             .share = (rows + 1) / (rows + low),
                                             .rank = 5,
                                             .method = method,
                                             .iterations = method == Method::godec ? 400 : 0});
    CHECK(relative_error(W, op) <= 1e-3);
    CHECK((op.sparse_part() - any).norm() <= 1e-2 * any.norm());
  }
  Matrix<double> columns = Matrix<double>::Zero(m, n);
  for (const Index j : {3, 17, 40}) columns.col(j) = 3 * random.matrix<double>(m, 1);
  const Matrix<double> of_columns = L + columns;
  const auto op = compress<SparseLowRank>(of_columns, keep(0.3),
                                          {.sparse = SparseKind::columns, .share = 0.2, .rank = 5});
  CHECK(relative_error(of_columns, op) <= 1e-7);
}

TEST_CASE("SparseLowRank: whole columns are exact by a Schur complement", "[sparse_low_rank]") {
  Random random(428);
  const Matrix<double> W = random.matrix<double>(14, 18);
  const Matrix<double> Wt = W.transpose();
  const Matrix<double> G = gram_of(random, 18, 60);
  const Matrix<double> H = detail::fitting_gram(G / G.trace());
  for (const std::vector<Index>& chosen :
       {std::vector<Index>{}, {0}, {2, 5, 17}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}) {
    CAPTURE(chosen.size());
    const auto found = detail::beside_columns(H, Wt, chosen, 3, 1);
    const Matrix<double> E = Wt - found.St - found.Vt * found.U.transpose();
    CHECK(found.loss == Approx((H * E).cwiseProduct(E).sum()).epsilon(1e-8).margin(1e-14));
    std::vector<Index> others;
    for (Index j = 0; j < 18; ++j)
      if (std::find(chosen.begin(), chosen.end(), j) == chosen.end()) others.push_back(j);
    Matrix<double> schur = H(others, others);
    if (!chosen.empty())
      schur -= H(others, chosen) * H(chosen, chosen).llt().solve(H(chosen, others).eval());
    const Matrix<double> root = schur.llt().matrixL();
    const double tail = tail_beyond(W(Eigen::all, others) * root, 3);
    CHECK(found.loss == Approx(tail * tail).epsilon(1e-8).margin(1e-14));
    // A stationary point in the columns: nothing that they see is left.
    const Matrix<double> gradient = H * E;
    for (const Index j : chosen) CHECK(gradient.row(j).norm() <= 1e-8 * (H * Wt).norm());
  }
  // The first column is the best of all, given U; more of them never lose.
  const auto plain = detail::beside_columns(H, Wt, {}, 3, 1);
  const Matrix<double> left = Wt - Wt * plain.U * plain.U.transpose();
  const auto first = detail::outlier_columns(H, left, 1);
  const auto gain = [&](Index j) { return (H * left).row(j).squaredNorm() / H(j, j); };
  for (Index j = 0; j < 18; ++j) CHECK(gain(j) <= gain(first.front()) * (1 + 1e-12));
  double before = plain.loss;
  for (const Index count : {1, 2, 4, 9, 18}) {
    const auto found = detail::column_outliers(H, Wt, count, 3, 1, 4);
    CHECK(std::ssize(found.columns) == count);
    CHECK(found.loss <= before * (1 + 1e-9) + 1e-12);
    before = found.loss;
  }
  CHECK(before <= 1e-12);
}

TEST_CASE("SparseLowRank: together is better than one after the other", "[sparse_low_rank]") {
  Random random(429);
  for (const auto& [m, n] : {std::pair{64, 48}, {40, 64}}) {
    CAPTURE(m, n);
    const Matrix<double> W = random.matrix<double>(m, n);
    const auto calibration = exact_calibration(correlated_inputs<double>(random, n, 3 * n));
    const double joint = relative_error(
        W, compress<SparseLowRank>(W, keep(0.62), calibration, {.target = "avx512"}), calibration);
    for (const SparsePattern pattern : {SparsePattern{2, 4}, {4, 8}})
      CHECK(joint < 0.97 * one_after_the_other(W, 0.62, pattern, calibration));
    CHECK(joint <
          relative_error(W, compress<SemiStructured>(W, keep(0.62), calibration), calibration));
    CHECK(joint < relative_error(W, compress<LowRank>(W, keep(0.62), calibration), calibration));
    // And than methods that do not see correlations.
    for (const Method method : {Method::oats, Method::godec})
      CHECK(joint < relative_error(W,
                                   compress<SparseLowRank>(W, keep(0.62), calibration,
                                                           {.method = method, .target = "avx512"}),
                                   calibration));
  }
}

TEMPLATE_TEST_CASE("SparseLowRank: every shape within every budget", "[sparse_low_rank]", float,
                   double) {
  using T = TestType;
  Random random(430);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 40}, {40, 1}, {2, 3}, {13, 17}, {37, 23}})
    for (const SparseKind kind : all_kinds) {
      const Matrix<T> W = random.matrix<T>(m, n);
      Calibration<T> calibration(n);
      calibration.add(correlated_inputs<T>(random, n, 5));  // fewer samples than inputs
      for (const double share : {0.2, 0.5, 1.0, 4.0}) {
        CAPTURE(m, n, int(kind), share);
        const JointOptions<T> quick{.sparse = kind, .iterations = 6};
        try {
          const auto op = compress<SparseLowRank>(W, keep(share), calibration, quick);
          CHECK(double(op.bytes()) <= share * double(sizeof(T)) * m * n);
          CHECK(op.kind() == kind);
          CHECK(relative_error(W, op, calibration) <= 1);
          // So few bytes are no more than the bounds of the rows of no entries.
          if (share == 4.0 && m * n > 1) CHECK(relative_error(W, op, calibration) <= 1e-5);
        } catch (const std::invalid_argument& refusal) {
          const std::string text = refusal.what();
          const auto smallest = std::stoll(text.substr(text.rfind(' ') + 1));
          CHECK(double(smallest) > share * double(sizeof(T)) * m * n);
          CHECK(compress<SparseLowRank>(W, bytes(smallest), calibration, quick).bytes() <=
                std::size_t(smallest));
          if (smallest > 1)
            CHECK_THROWS_AS(compress<SparseLowRank>(W, bytes(smallest - 1), calibration, quick),
                            std::invalid_argument);
        }
      }
    }
}

TEST_CASE("SparseLowRank: the smallest found that reaches an error", "[sparse_low_rank]") {
  Random random(431);
  const Matrix<float> W = random.matrix<float>(40, 32);
  const auto calibration = exact_calibration(correlated_inputs<float>(random, 32, 90));
  for (const SparseKind kind : all_kinds) {
    std::size_t before = 4 * 40 * 32 * 4;
    for (const double target : {1e-5, 0.2, 0.5}) {
      const auto op = compress<SparseLowRank>(
          W, error(target), calibration, {.sparse = kind, .iterations = 12, .target = "avx512"});
      CHECK(relative_error(W, op, calibration) <= target);
      CHECK(op.bytes() < before);
      before = op.bytes();
    }
  }
  CHECK_THROWS_WITH(
      compress<SparseLowRank>(W, error(1e-12), calibration, {.rank = 3, .pattern = {2, 4}}),
      Contains("cannot be met") && Contains("2:4 + rank 3"));
}

TEST_CASE("SparseLowRank: hyperparameters that were given are kept", "[sparse_low_rank]") {
  Random random(432);
  const Matrix<float> W = random.matrix<float>(64, 48);
  const auto with = [&](JointOptions<float> options, double share = 0.8) {
    options.iterations = 6;
    return compress<SparseLowRank>(W, keep(share), options);
  };
  CHECK(with({.rank = 3}).rank() == 3);
  CHECK(with({.pattern = {5, 16}}).semi_structured()->pattern() == SparsePattern{5, 16});
  CHECK(with({.places = Places::codes}).semi_structured()->places() == Places::codes);
  CHECK(with({.places = Places::masks}).semi_structured()->places() == Places::masks);
  const auto half = with({.share = 0.5, .target = "avx512"});
  CHECK(half.semi_structured()->bytes() <= std::size_t(0.4 * 4 * 64 * 48));
  CHECK(half.semi_structured()->bytes() + 64 * 4 * 4 > std::size_t(0.4 * 4 * 64 * 48));
  for (const auto& [target, group] : {std::pair{"sse2", 4}, {"fma3+avx2", 8}, {"avx512", 16}})
    CHECK(with({.target = target}).semi_structured()->pattern().group == group);
  // Sparser than the group of the machine allows, where the budget asks for it.
  CHECK(with({.target = "sse2"}, 0.1).semi_structured()->pattern().kept == 1);
  const auto csr = with({.sparse = SparseKind::csr, .share = 0.5});
  CHECK(csr.csr()->bytes() <= std::size_t(0.4 * 4 * 64 * 48));
  CHECK(csr.csr()->bytes() + 6 > std::size_t(0.4 * 4 * 64 * 48));
  CHECK_THROWS_WITH(with({.share = 1.5}), Contains("share must lie in [0, 1]"));
  CHECK_THROWS_WITH(with({.share = -0.5}), Contains("share"));
  CHECK_THROWS_WITH(with({.rank = -1}), Contains("64 x 48 matrix has no rank -1"));
  CHECK_THROWS_WITH(with({.rank = 49}), Contains("no rank 49"));
  CHECK_THROWS_WITH(with({.pattern = {3, 5}}), Contains("not 5"));
  CHECK_THROWS_WITH(with({.target = "mips"}), Contains("mips"));
  CHECK_THROWS_WITH(with({.sparse = SparseKind(9)}), Contains("kind"));
  CHECK_THROWS_WITH(with({.method = Method(9)}), Contains("method"));
  CHECK_THROWS_WITH(with({.places = Places(9)}), Contains("places"));
  CHECK_THROWS_WITH(with({.rank = 30}), Contains("needs"));
  CHECK_THROWS_WITH(compress<SparseLowRank>(W, keep(1), JointOptions<float>{.iterations = -1}),
                    Contains("iterations"));
}

TEST_CASE("SparseLowRank: blind to scale, the same for any number of threads",
          "[sparse_low_rank]") {
  Random random(433);
  const Matrix<double> W = random.matrix<double>(40, 32);
  const Matrix<double> X = correlated_inputs<double>(random, 32, 80);
  for (const SparseKind kind : all_kinds) {
    CAPTURE(int(kind));
    const auto run = [&](double of_W, double of_X, bool exact = false) {
      const Matrix<double> scaled = of_W * W;
      const auto calibration = exact ? exact_calibration(of_X * X) : calibration_of(of_X * X);
      return Matrix<double>(
          compress<SparseLowRank>(scaled, keep(0.6), calibration, {.sparse = kind}).to_dense() /
          of_W);
    };
    const Matrix<double> reference = run(1, 1);
    CHECK(run(0x1p-20, 1) == reference);  // powers of two: to the bit
    CHECK(run(0x1p20, 1) == reference);
    CHECK(run(1, 0x1p-20) == reference);
    const auto error = [&](const Matrix<double>& A) {
      return ((W - A) * X).norm() / (W * X).norm();
    };
    // By rounding, other places may be as good, in the metric that is fitted.
    const double exact = error(run(1, 1, true));
    for (const double scale : {1e-6, 1e6}) {
      CHECK(error(run(scale, 1, true)) == Approx(exact).epsilon(0.02));
      CHECK(error(run(1, scale, true)) == Approx(exact).epsilon(0.02));
    }
    set_num_threads(3);
    CHECK(run(1, 1) == reference);
    set_num_threads(1);
  }
}

TEST_CASE("SparseLowRank: a stop returns what there is", "[sparse_low_rank]") {
  Random random(434);
  const Matrix<double> W = random.matrix<double>(50, 64);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 64, 100));
  for (const SparseKind kind : all_kinds)
    for (const Index stop : {1, 2, 5, 12}) {
      CAPTURE(int(kind), stop);
      Index calls = 0;
      const auto op = compress<SparseLowRank>(
          W, keep(0.5), calibration, {.sparse = kind, .monitor = [&](const Progress& progress) {
                                        CHECK(progress.iteration <= progress.iterations);
                                        return ++calls < stop;
                                      }});
      CHECK(calls == stop);
      CHECK(op.bytes() <= std::size_t(4 * 50 * 64));
      CHECK(relative_error(W, op, calibration) < 1);
    }
}

TEST_CASE("SparseLowRank: weights of rows, and of none", "[sparse_low_rank]") {
  Random random(435);
  const Matrix<double> W = random.matrix<double>(40, 32);
  Vector<double> weights = Vector<double>::Ones(40);
  weights.head(20).setConstant(100);
  Calibration<double> weighted(32);
  weighted.row_weights(weights);
  Calibration<double> metric(32);
  metric.output_metric(Matrix<double>(weights.asDiagonal()));
  for (const SparseKind kind : all_kinds) {
    CAPTURE(int(kind));
    const JointOptions<double> options{.sparse = kind};
    const auto plain = compress<SparseLowRank>(W, keep(0.6), options);
    const auto op = compress<SparseLowRank>(W, keep(0.6), weighted, options);
    CHECK(relative_error(W, op, weighted) < relative_error(W, plain, weighted));
    const auto same = compress<SparseLowRank>(W, keep(0.6), metric, options);
    CHECK(relative_error(W, same, metric) == Approx(relative_error(W, op, weighted)).epsilon(1e-6));
    Vector<double> none = weights;
    none.head(20).setZero();
    Calibration<double> half(32);
    half.row_weights(none);
    CHECK(relative_error(W, compress<SparseLowRank>(W, keep(0.6), half, options), half) < 0.7);
    // Zeros, and samples of nothing but zeros.
    const Matrix<double> zero = Matrix<double>::Zero(9, 10);
    CHECK(compress<SparseLowRank>(zero, keep(0.9), options).to_dense() == zero);
    const auto blind = calibration_of(Matrix<double>::Zero(32, 4));
    CHECK(compress<SparseLowRank>(W, keep(0.6), blind, options).to_dense() == plain.to_dense());
  }
}

TEST_CASE("SparseLowRank: narrow storage of both parts", "[sparse_low_rank]") {
  Random random(436);
  const Matrix<float> W = random.matrix<float>(64, 64);
  const auto calibration = exact_calibration(correlated_inputs<float>(random, 64, 200));
  for (const SparseKind kind : {SparseKind::semi_structured, SparseKind::columns}) {
    const auto wide = compress<SparseLowRank>(W, keep(0.7), calibration,
                                              {.sparse = kind, .rank = 6, .iterations = 24});
    for (const auto& [storage, share, more] :
         {std::tuple{Storage::bf16, 0.36, 1.05}, {Storage::int8, 0.24, 1.1}}) {
      const auto op = compress<SparseLowRank>(
          W, keep(share), calibration,
          {.sparse = kind,
           .rank = 6,
           .iterations = 24,
           .storage = storage,
           .activations = Activations::native});  // which have no say in the pattern
      CHECK(double(op.bytes()) <= share * 4 * 64 * 64);
      CHECK(op.factors().U().storage() == storage);
      CHECK(relative_error(W, op, calibration) <= more * relative_error(W, wide, calibration));
    }
  }
}

TEST_CASE("SparseLowRank: in rotated inputs", "[sparse_low_rank][rotation]") {
  using Options = SparseLowRank<float>::Options;
  for (const SparseKind kind : all_kinds)
    for (const auto& [m, n, block] :
         {std::tuple<Index, Index, Index>{1, 1, 1}, {3, 7, 4}, {9, 131, 128}})
      check_made_in_rotated_inputs<SparseLowRank, float>(
          Options{.sparse = kind, .rank = 1, .iterations = 12}, m, n, block);
  const auto [plain, rotated] = errors_of_rotation<SparseLowRank>(
      Options{.rank = 4, .iterations = 24, .pattern = {4, 8}}, 0.2);
  CAPTURE(plain, rotated);
  CHECK(rotated < 0.8 * plain);
}

TEST_CASE("SparseLowRank: few samples of many inputs", "[sparse_low_rank]") {
  Random random(437);
  const Index n = 4096;
  const Matrix<float> W = random.matrix<float>(5, n);
  const Matrix<float> X = random.matrix<float>(n, 40);
  const auto calibration = calibration_of(X);
  for (const SparseKind kind : all_kinds) {
    const auto op = compress<SparseLowRank>(W, keep(0.6), calibration, {.sparse = kind, .rank = 1});
    CHECK(op.bytes() <= std::size_t(0.6 * 4 * 5 * 4096));
    CHECK(relative_error(W, op, calibration) < 0.95);
  }
}

}  // namespace pleat::test
