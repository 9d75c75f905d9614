// SPDX-License-Identifier: MIT
// compress<LowRank> and compress<Dense>: budgets, ranks, options, monitors, threads, bad input.
#include "compress/support.hpp"
#include "pleat/compress/compensate.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace pleat::test {

TEMPLATE_TEST_CASE("budgets in bytes are used up and never exceeded", "[compress]", float, double) {
  Random random(31);
  for (const auto& [m, n] : {std::pair{24, 24}, {13, 57}, {101, 10}, {64, 1}, {1, 64}, {1, 1}}) {
    const Matrix<TestType> W = random.matrix<TestType>(m, n);
    for (const double share : {0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 3.0}) {
      INFO(m << " x " << n << ", keep " << share);
      const double limit = share * double(m * n) * sizeof(TestType);
      const Index rank = std::min<Index>(
          Index(limit / double(sizeof(TestType)) / double(m + n) + 1e-9), std::min(m, n));
      if (rank == 0) {
        CHECK_THROWS_WITH(compress<LowRank>(W, keep(share)),
                          Catch::Contains(std::to_string(Index(sizeof(TestType)) * (m + n))));
        continue;
      }
      const auto op = compress<LowRank>(W, keep(share));
      CHECK(op.rank() == rank);
      CHECK(double(op.bytes()) <= limit * (1 + 1e-12));
      CHECK(op.bytes() == std::size_t(rank * (m + n)) * sizeof(TestType));
      CHECK(compress<LowRank>(W, bytes(std::int64_t(op.bytes()))).rank() == rank);
      if (rank > 1)
        CHECK(compress<LowRank>(W, bytes(std::int64_t(op.bytes()) - 1)).rank() == rank - 1);
    }
    CHECK(compress<Dense>(W, keep(1)).to_dense() == W);
    CHECK(compress<Dense>(W, error(0)).to_dense() == W);
    CHECK_THROWS_WITH(compress<Dense>(W, keep(0.9)),
                      Catch::Contains(std::to_string(std::size_t(m * n) * sizeof(TestType))));
  }
}

TEMPLATE_TEST_CASE("an error budget gives the smallest rank that meets it", "[compress]", float,
                   double) {
  Random random(32);
  const Matrix<TestType> W = random.matrix<TestType>(40, 50);
  Calibration<TestType> calibration(50);
  calibration.add(correlated_inputs<TestType>(random, 50, 200));
  calibration.shrinkage(0);
  for (const auto& metric : {Calibration<TestType>(), calibration})
    for (const double most : {0.9, 0.5, 0.1, 0.01}) {
      INFO("error " << most << ", " << metric.samples() << " samples");
      const auto op = compress<LowRank>(W, error(most), metric);
      CHECK(relative_error(W, op, metric) <= most);
      if (op.rank() > 1) {
        const auto smaller = compress<LowRank>(
            W, keep(100), metric, typename LowRank<TestType>::Options{.rank = op.rank() - 1});
        CHECK(relative_error(W, smaller, metric) > most);
      }
    }
  CHECK(compress<LowRank>(W, error(1)).rank() == 1);
  const auto whole = compress<LowRank>(W, error(1e-9));
  CHECK(whole.rank() == 40);
  CHECK(relative_error(W, whole) == 0);
  CHECK_THROWS_WITH(
      compress<LowRank>(W, error(1e-9),
                        typename LowRank<TestType>::Options{.storage = Storage::bf16}),
      Catch::Contains("rank 40") && Catch::Contains("e-0"));
}

TEMPLATE_TEST_CASE("an error below all rounding gives the numerical rank", "[compress]", float,
                   double) {
  using Options = typename LowRank<TestType>::Options;
  Random random(34);
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const auto& [m, n, rank] : {std::array<Index, 3>{60, 60, 7}, {31, 70, 1}, {70, 31, 12}}) {
    CAPTURE(m, n, rank);
    const Matrix<TestType> W = random.matrix<TestType>(m, rank) * random.matrix<TestType>(rank, n);
    const auto calibration = calibration_of(correlated_inputs<TestType>(random, n, 3 * n));
    const double least = 2 * epsilon * (1 + std::sqrt(double(rank)));
    for (const double most : {0.0, 0.1 * epsilon, 10 * least}) {
      const auto op = compress<LowRank>(W, error(most));
      CHECK(op.rank() == rank);
      CHECK(relative_error(W, op) <= std::max(most, least));
    }
    CHECK(compress<LowRank>(W, error(1e3 * epsilon), calibration).rank() <= rank);
    // Nothing is left for a correction; what an operator lacks is of the same rank.
    const auto sum = compensate(Dense<TestType>(W), W, error(0));
    CHECK(sum.template operand<1>().rank() == 0);
    const auto all = compensate(Dense<TestType>(Matrix<TestType>::Zero(m, n)), W, error(0));
    CHECK(all.template operand<1>().rank() == rank);
    // Storage that rounds by more than that meets no such error.
    CHECK_THROWS_WITH(compress<LowRank>(W, error(0), Options{.storage = Storage::bf16}),
                      Catch::Contains("cannot be met"));
  }
  // Samples that are taken for all there is see no more directions than there are of them.
  const Matrix<TestType> W = random.matrix<TestType>(40, 50);
  const auto few = exact_calibration(random.matrix<TestType>(50, 6));
  CHECK(compress<LowRank>(W, error(0), few).rank() == 6);
  // And no rank but the full one is enough where all directions count.
  const auto whole = compress<LowRank>(W, error(0));
  CHECK(whole.rank() == 40);
  CHECK(relative_error(W, whole) == 0);
}

TEST_CASE("small singular values count down to the rounding of double", "[compress]") {
  Random random(35);
  Vector<double> sigma(20);
  for (Index i = 0; i < 20; ++i) sigma(i) = std::pow(10, -double(i) / 1.5);  // down to 2e-13
  const Matrix<double> left = detail::orthonormal(random.matrix<double>(40, 20));
  const Matrix<double> right = detail::orthonormal(random.matrix<double>(30, 20));
  const Matrix<double> W = left * sigma.asDiagonal() * right.transpose();
  for (const Index rank : {3, 8, 12, 16}) {
    CAPTURE(rank);
    const double tail = sigma.tail(20 - rank).norm() / sigma.norm();
    CHECK(compress<LowRank>(W, error(1.01 * tail)).rank() == rank);
    CHECK(compress<LowRank>(W, error(0.99 * tail)).rank() == rank + 1);
  }
}

TEST_CASE("rank rules choose within the budget", "[compress]") {
  Random random(33);
  // Five strong directions over noise.
  const Matrix<double> W = random.matrix<double>(50, 5) * random.matrix<double>(5, 60) +
                           1e-4 * random.matrix<double>(50, 60);
  using Options = LowRank<double>::Options;
  CHECK(compress<LowRank>(W, keep(1), Options{.rank_rule = RankRule::elbow}).rank() == 5);
  CHECK(compress<LowRank>(W, keep(1), Options{.rank_rule = RankRule::energy, .energy = 0.999999})
            .rank() == 5);
  const auto half =
      compress<LowRank>(W, keep(1), Options{.rank_rule = RankRule::energy, .energy = 0.5});
  CHECK(relative_error(W, half) <= std::sqrt(0.5));
  CHECK(half.rank() < 5);
  // The budget is the stronger one.
  CHECK(compress<LowRank>(W, bytes(3 * 8 * 110), Options{.rank_rule = RankRule::elbow}).rank() ==
        3);
  // An explicit rank is stronger than a rule; a budget it exceeds is an error.
  CHECK(compress<LowRank>(W, keep(1), Options{.rank = 7, .rank_rule = RankRule::elbow}).rank() ==
        7);
  CHECK_THROWS_WITH(compress<LowRank>(W, keep(0.1), Options{.rank = 7}),
                    Catch::Contains("rank 7") && Catch::Contains(std::to_string(7 * 8 * 110)));
  CHECK_THROWS_AS(compress<LowRank>(W, error(1e-6), Options{.rank = 7}), std::invalid_argument);
  CHECK(compress<LowRank>(W, error(1e-2), Options{.rank = 7}).rank() == 7);
}

TEST_CASE("options out of range throw", "[compress]") {
  const Matrix<double> W = Matrix<double>::Random(6, 8);
  using Options = LowRank<double>::Options;
  CHECK_THROWS_WITH(compress<LowRank>(W, keep(5), Options{.rank = 7}),
                    Catch::Contains("6 x 8") && Catch::Contains("7"));
  CHECK_THROWS_AS(compress<LowRank>(W, keep(5), Options{.rank = -1}), std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(W, keep(5), Options{.energy = 0}), std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(W, keep(5), Options{.energy = 1.01}), std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(W, keep(5), Options{.oversampling = -1}),
                  std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(W, keep(5), Options{.power_iterations = -1}),
                  std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(W, keep(5), Options{.rank_rule = static_cast<RankRule>(9)}),
                  std::invalid_argument);
}

TEST_CASE("bad weights and calibrations throw", "[compress]") {
  Matrix<float> W = Matrix<float>::Ones(6, 8);
  CHECK_THROWS_AS(compress<LowRank>(Matrix<float>(0, 3), keep(1)), std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(Matrix<float>(3, 0), keep(1)), std::invalid_argument);
  CHECK_THROWS_WITH(compress<LowRank>(W, keep(1), Calibration<float>(7)),
                    Catch::Contains("7 inputs") && Catch::Contains("6 x 8"));
  Calibration<float> weights(8);
  weights.row_weights(Vector<float>::Ones(5));
  CHECK_THROWS_WITH(compress<LowRank>(W, keep(1), weights), Catch::Contains("5 outputs"));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    W(4, 3) = bad;
    CHECK_THROWS_WITH(compress<LowRank>(W, keep(1)), Catch::Contains("row 4, column 3"));
    CHECK_THROWS_WITH(compress<Dense>(W, keep(1)), Catch::Contains("row 4, column 3"));
  }
}

TEST_CASE("anything that Eigen calls a matrix can be compressed", "[compress]") {
  Random random(34);
  const Matrix<float> W = random.matrix<float>(12, 9);
  const Matrix<float> reference = compress<LowRank>(W, keep(0.5)).to_dense();
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = W;
  CHECK(compress<LowRank>(rows, keep(0.5)).to_dense() == reference);
  CHECK(compress<LowRank>(Eigen::Map<const Matrix<float>>(W.data(), 12, 9), keep(0.5)).to_dense() ==
        reference);
  CHECK(compress<LowRank>(Matrix<float>(W.transpose()).transpose(), keep(0.5)).to_dense() ==
        reference);
  Matrix<float> large = Matrix<float>::Zero(20, 20);
  large.block(3, 4, 12, 9) = W;
  CHECK(compress<LowRank>(large.block(3, 4, 12, 9), keep(0.5)).to_dense() == reference);
}

TEST_CASE("the monitor sees every phase and can stop, and the best so far comes back",
          "[compress]") {
  Random random(35);
  const Matrix<double> W = random.matrix<double>(120, 130);
  using Options = LowRank<double>::Options;
  std::vector<std::string> phases;
  std::vector<double> losses;
  const auto complete = compress<LowRank>(
      W, keep(0.3), {},
      Options{
          .svd = SvdMethod::randomized, .power_iterations = 4, .monitor = [&](const Progress& p) {
            phases.emplace_back(p.phase);
            losses.push_back(p.loss);
            CHECK(p.iteration == Index(phases.size()));
            CHECK(p.iterations == 4);
            return true;
          }});
  CHECK(phases == std::vector<std::string>(4, "power iteration"));
  for (std::size_t i = 1; i < losses.size(); ++i) CHECK(losses[i] <= losses[i - 1]);
  for (const auto svd : {SvdMethod::randomized, SvdMethod::exact, SvdMethod::automatic}) {
    int calls = 0;
    const auto stopped =
        compress<LowRank>(W, keep(0.3), {}, Options{.svd = svd, .monitor = [&](const Progress&) {
                                                      ++calls;
                                                      return false;
                                                    }});
    CHECK(calls >= 1);
    CHECK(stopped.rank() == complete.rank());
    CHECK(relative_error(W, stopped) < 1.3 * relative_error(W, complete));
  }
  CHECK_THROWS_AS(
      compress<LowRank>(W, keep(0.3), {}, Options{.monitor = [](const Progress&) -> bool {
                          throw std::runtime_error("mine");
                        }}),
      std::runtime_error);
}

TEST_CASE("a stop ends a search for an error, and what there is comes back", "[compress]") {
  Random random(304);
  const Matrix<float> W = random.matrix<float>(70, 60);
  const Matrix<float> X = random.matrix<float>(60, 300);
  int calls = 0;
  const Monitor once = [&](const Progress&) { return ++calls > 1; };
  for (const SvdMethod svd : {SvdMethod::exact, SvdMethod::randomized}) {
    calls = 0;
    const auto op = compress<LowRank>(W, error(0.3), calibration_of(X),
                                      LowRank<float>::Options{.svd = svd, .monitor = once});
    CHECK(op.rows() == 70);
    CHECK(calls <= 2);
    calls = 0;
    CHECK_NOTHROW(compensate(Dense<float>(Matrix<float>::Zero(70, 60)), W, error(0.3),
                             calibration_of(X), {.svd = svd, .monitor = once}));
    CHECK(calls <= 2);
  }
}

TEST_CASE("the result does not depend on the number of threads", "[compress]") {
  Random random(36);
  const Matrix<float> W = random.matrix<float>(210, 300);
  Calibration<float> calibration(300);
  calibration.add(correlated_inputs<float>(random, 300, 900));
  const auto run = [&](SvdMethod svd) {
    return compress<LowRank>(W, keep(0.4), calibration, LowRank<float>::Options{.svd = svd})
        .to_dense();
  };
  const Matrix<float> exact = run(SvdMethod::exact);
  const Matrix<float> randomized = run(SvdMethod::randomized);
  for (const int threads : {2, 3, 7}) {
    set_num_threads(threads);
    CHECK(run(SvdMethod::exact) == exact);
    CHECK(run(SvdMethod::randomized) == randomized);
  }
  set_num_threads(1);
}

TEST_CASE("factors in narrow storage: more rank for the bytes", "[compress][low_rank]") {
  Random random(97);
  const Matrix<float> W = random.matrix<float>(60, 70);
  using Options = LowRank<float>::Options;
  const auto plain = compress<LowRank>(W, keep(0.5), Options{});
  for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4}) {
    CAPTURE(to_string(storage));
    const auto op = compress<LowRank>(W, keep(0.5), Options{.storage = storage});
    CHECK(op.bytes() <= 60 * 70 * 2);
    CHECK(op.U().storage() == storage);
    CHECK(op.V().storage() == storage);
    CHECK(op.rank() > plain.rank());
    if (op.rank() < 60) {
      CHECK_THROWS_AS(
          compress<LowRank>(W, keep(0.5), Options{.rank = op.rank() + 1, .storage = storage}),
          std::invalid_argument);
    }
    if (storage != Storage::int4) CHECK(relative_error(W, op) < relative_error(W, plain));
  }
  CHECK_THROWS_AS(compress<LowRank>(W, keep(0.5), Options{.storage = Storage::f64}),
                  std::invalid_argument);
}

}  // namespace pleat::test
