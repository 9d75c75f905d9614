// SPDX-License-Identifier: MIT
// compress_shared: matrices as one stack, and which of them go together.
#include "pleat/compress/shared.hpp"

#include "compress/support.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

Matrix<double> stacked(const std::vector<Matrix<double>>& matrices) {
  Index m = 0;
  for (const auto& matrix : matrices) m += matrix.rows();
  Matrix<double> W(m, matrices.front().cols());
  m = 0;
  for (const auto& matrix : matrices) {
    W.middleRows(m, matrix.rows()) = matrix;
    m += matrix.rows();
  }
  return W;
}

/// The relative error of the best of a rank.
double least_error(const Matrix<double>& A, Index rank) {
  const Vector<double> sigma = singular_values(A);
  return sigma.size() <= rank ? 0 : sigma.tail(sigma.size() - rank).norm() / sigma.norm();
}

/// Matrices with rows in one space of some dimensions, and noise.
std::vector<Matrix<double>> family(Random& random, Index count, Index m, Index n, Index dimensions,
                                   double noise) {
  const Matrix<double> space = random.matrix<double>(dimensions, n);
  std::vector<Matrix<double>> matrices;
  for (Index l = 0; l < count; ++l) {
    const Matrix<double> mixing = random.matrix<double>(m, dimensions);
    const Matrix<double> rest = random.matrix<double>(m, n);
    matrices.push_back(mixing * space + noise * rest);
  }
  return matrices;
}

}  // namespace

TEST_CASE("shared compression is that of the stack", "[shared]") {
  Random random(541);
  const Matrix<double> Q = random.matrix<double>(20, 24);
  const Matrix<double> K = random.matrix<double>(6, 24);
  const Matrix<double> V = random.matrix<double>(7, 24);
  const Matrix<double> X = correlated_inputs<double>(random, 24, 80);
  const auto calibration = calibration_of(X);
  const auto shared = compress_shared<LowRank>({Q, K, V}, keep(0.5), calibration);
  static_assert(std::same_as<decltype(shared), const Shared<LowRank<double>>>);
  CHECK(shared.first_rows == std::vector<Index>{0, 20, 26});
  CHECK(shared.matrices() == 3);
  CHECK(shared.rows(0) == 20);
  CHECK(shared.rows(1) == 6);
  CHECK(shared.rows(2) == 7);
  const Matrix<double> W = stacked({Q, K, V});
  const auto direct = compress<LowRank>(W, keep(0.5), calibration);
  CHECK(shared.op.to_dense() == direct.to_dense());
  CHECK(shared.op.bytes() <= 8 * 33 * 24 / 2);
  // As a vector, with options, and in another structure.
  const std::vector<Matrix<double>> matrices{Q, K, V};
  CHECK(compress_shared<LowRank>(matrices, keep(1), {}, {.rank = 3}).op.rank() == 3);
  CHECK(compress_shared<SemiStructured>(matrices, keep(0.6), calibration).op.to_dense() ==
        compress<SemiStructured>(W, keep(0.6), calibration).to_dense());
  CHECK(relative_error(W, compress_shared<LowRank>({Q, K, V}, error(0.2), calibration).op,
                       calibration) <= 0.2);
  // One apply has the outputs of all.
  const Matrix<double> What = shared.op.to_dense();
  Matrix<double> Y(33, 80);
  shared.op.apply(X, Y);
  for (Index l = 0; l < 3; ++l) {
    const Index first = shared.first_rows[std::size_t(l)];
    CHECK(
        (Y.middleRows(first, shared.rows(l)) - What.middleRows(first, shared.rows(l)) * X).norm() <=
        1e-10 * Y.norm());
  }
  const auto alone = compress_shared<LowRank>({Q}, keep(0.5));
  CHECK(alone.first_rows == std::vector<Index>{0});
  CHECK(alone.op.to_dense() == compress<LowRank>(Q, keep(0.5)).to_dense());
}

TEMPLATE_TEST_CASE("shared bases of what is shared are smaller", "[shared]", float, double) {
  using T = TestType;
  Random random(542);
  const auto matrices = family(random, 4, 30, 40, 6, 0);
  std::vector<Matrix<T>> cast;
  for (const auto& matrix : matrices) cast.push_back(matrix.template cast<T>());
  const auto shared = compress_shared<LowRank>(cast, error(1e-4));
  CHECK(shared.op.rank() == 6);
  std::size_t apart = 0;
  for (const auto& matrix : cast) apart += compress<LowRank>(matrix, error(1e-4)).bytes();
  CHECK(apart - shared.op.bytes() == 3 * 6 * 40 * sizeof(T));
}

TEST_CASE("shared compression counts each matrix by its own norm where asked to", "[shared]") {
  Random random(543);
  const Matrix<double> X = correlated_inputs<double>(random, 20, 90);
  const Matrix<double> large = 100 * random.matrix<double>(18, 20);
  const Matrix<double> little = 0.01 * random.matrix<double>(9, 20);
  Vector<double> weights(27);
  for (Index i = 0; i < 27; ++i) weights(i) = random.uniform(0.2, 3);
  const Matrix<double> B = random.matrix<double>(27, 27);
  for (const int kind : {0, 1, 2, 3}) {  // no calibration, inputs, weights too, a metric
    INFO(kind);
    Calibration<double> calibration;
    Matrix<double> root = Matrix<double>::Identity(27, 27);
    const Matrix<double> seen = kind > 0 ? X : Matrix<double>::Identity(20, 20);
    if (kind > 0) calibration = exact_calibration(X);
    if (kind == 2) {
      calibration.row_weights(weights);
      root = weights.cwiseSqrt().asDiagonal();
    }
    if (kind == 3) {
      const Matrix<double> P = B.transpose() * B;
      calibration.output_metric(P);
      root = Eigen::LLT<Matrix<double>>(P).matrixL().transpose();
    }
    const auto total = compress_shared<LowRank>({large, little}, keep(1), calibration, {.rank = 6});
    const auto relative = compress_shared<LowRank>({large, little}, keep(1), calibration,
                                                   {.rank = 6}, SharedLoss::relative);
    const auto errors = [&](const LowRank<double>& op) {
      const Matrix<double> What = op.to_dense();
      Vector<double> both(2);
      both(0) = (root.leftCols(18) * (large - What.topRows(18)) * seen).norm() /
                (root.leftCols(18) * large * seen).norm();
      both(1) = (root.rightCols(9) * (little - What.bottomRows(9)) * seen).norm() /
                (root.rightCols(9) * little * seen).norm();
      return both;
    };
    CHECK(errors(relative.op)(1) < errors(total.op)(1));
    CHECK(errors(relative.op).norm() < errors(total.op).norm());
    if (kind == 3) continue;
    // The optimum of the scaled stack, which is the root of the mean square of both.
    const Matrix<double> scaled = root *
                                  stacked({large / (root.leftCols(18) * large * seen).norm(),
                                           little / (root.rightCols(9) * little * seen).norm()}) *
                                  seen;
    CHECK(errors(relative.op).norm() / std::sqrt(2.0) ==
          Approx(least_error(scaled, 6)).epsilon(1e-6));
  }
  // Of an error: that mean is within it.
  const auto within =
      compress_shared<LowRank>({large, little}, error(0.3), {}, {}, SharedLoss::relative);
  const Matrix<double> What = within.op.to_dense();
  const double first = (large - What.topRows(18)).norm() / large.norm();
  const double second = (little - What.bottomRows(9)).norm() / little.norm();
  CHECK(std::sqrt((first * first + second * second) / 2) <= 0.3);
  // A matrix of zeros has no norm, and does no harm.
  const Matrix<double> zero = Matrix<double>::Zero(5, 20);
  const auto with_zero =
      compress_shared<LowRank>({large, zero}, keep(9), {}, {.rank = 18}, SharedLoss::relative);
  CHECK((with_zero.op.to_dense().topRows(18) - large).norm() <= 1e-12 * large.norm());
  CHECK(compress_shared<LowRank>({zero, zero}, keep(9), {}, {.rank = 2}, SharedLoss::relative)
            .op.to_dense()
            .norm() == 0);
}

TEST_CASE("the bound of a shared basis is above its error, and equal for low ranks", "[shared]") {
  Random random(544);
  for (const auto& [m, n] : {std::pair{12, 30}, {40, 18}, {1, 9}, {7, 1}})
    for (const double noise : {0.0, 0.05, 1.0})
      for (const Index samples : {0, 6, 100}) {
        INFO(m << " x " << n << ", noise " << noise << ", " << samples << " samples");
        const auto matrices = family(random, 5, m, n, 3, noise);
        Matrix<double> X = Matrix<double>::Identity(n, n);
        Calibration<double> calibration;
        double resolution = 1e-12;
        if (samples > 0) {
          X = correlated_inputs<double>(random, n, samples);
          calibration = calibration_of(X);
          resolution = 1e-8;  // a Gram matrix holds squares: errors to the root of the rounding
        }
        const Matrix<double> WX = stacked(matrices) * X;
        double before = 2;
        for (const Index rank : {1, 2, 3, 8, 17}) {
          if (rank > std::min(5 * m, n)) break;
          const double bound = shared_error_bound(matrices, rank, calibration);
          const double exact = least_error(WX, rank);
          INFO("rank " << rank);
          CHECK(bound >= exact * (1 - 1e-9) - 1e-13);
          CHECK(bound <= 1);
          if (noise == 0 || n <= rank + 5)
            CHECK(bound == Approx(exact).epsilon(1e-7).margin(resolution));
          // Far tighter than that of the directions of one matrix.
          if (noise == 0.05) CHECK(bound <= 1.2 * exact + resolution);
          CHECK(bound <= before * (1 + 1e-9) + 1e-13);
          before = bound;
        }
      }
}

TEST_CASE("the bound of a shared basis in weighted and relative losses", "[shared]") {
  Random random(545);
  auto matrices = family(random, 3, 9, 14, 4, 0.02);
  matrices[1] *= 1e-3;
  Vector<double> weights(27);
  for (Index i = 0; i < 27; ++i) weights(i) = random.uniform(0.2, 3);
  Calibration<double> calibration;
  calibration.row_weights(weights);
  const Matrix<double> root = weights.cwiseSqrt().asDiagonal();
  const double weighted = shared_error_bound(matrices, 5, calibration);
  const double exact = least_error(root * stacked(matrices), 5);
  CHECK(weighted >= exact * (1 - 1e-12));
  CHECK(weighted <= 1.1 * exact);
  std::vector<Matrix<double>> units = matrices;
  for (auto& matrix : units) matrix /= matrix.norm();
  const double relative = shared_error_bound(matrices, 5, {}, SharedLoss::relative);
  CHECK(relative == Approx(shared_error_bound(units, 5)).epsilon(1e-9));
  CHECK(relative >= least_error(stacked(units), 5) * (1 - 1e-12));
  CHECK(shared_error_bound({matrices[0], matrices[2]}, 4) >=
        least_error(stacked({matrices[0], matrices[2]}), 4) * (1 - 1e-12));
  // It is what low rank of the stack has, at the least.
  const auto made = compress_shared<LowRank>(matrices, keep(9), {}, {.rank = 5});
  CHECK(relative_error(stacked(matrices), made.op) <=
        shared_error_bound(matrices, 5) * (1 + 1e-12));
  const Matrix<double> zero = Matrix<double>::Zero(4, 5);
  CHECK(shared_error_bound({zero, zero}, 2) == 0);
  CHECK(shared_error_bound({Matrix<double>(Matrix<double>::Ones(4, 5))}, 1,
                           calibration_of(Matrix<double>::Zero(5, 9))) == 0);
}

TEST_CASE("matrices of two families are told apart", "[shared]") {
  Random random(546);
  auto first = family(random, 4, 15, 32, 4, 0.01);
  const auto second = family(random, 3, 20, 32, 5, 0.01);
  std::vector<Matrix<double>> mixed{first[0],  second[0], first[1], second[1],
                                    second[2], first[2],  first[3]};
  const auto groups = shared_groups(mixed, 5, 0.1);
  CHECK(groups == std::vector<std::vector<Index>>{{0, 2, 5, 6}, {1, 3, 4}});
  // Each group keeps the error, and so does what is made of it.
  for (const auto& group : groups) {
    std::vector<Matrix<double>> members;
    for (const Index l : group) members.push_back(mixed[std::size_t(l)]);
    CHECK(shared_error_bound(members, 5) <= 0.1);
    const auto made = compress_shared<LowRank>(members, keep(9), {}, {.rank = 5});
    CHECK(relative_error(stacked(members), made.op) <= 0.1);
  }
  // With no error allowed nothing goes with another, with all of it everything does.
  const auto apart = shared_groups(mixed, 5, 0);
  CHECK(apart.size() == 7);
  CHECK(shared_groups(mixed, 5, 1) == std::vector<std::vector<Index>>{{0, 1, 2, 3, 4, 5, 6}});
  // Inputs that only see one family's directions change what matters.
  const auto calibration = calibration_of(correlated_inputs<double>(random, 32, 4));
  CHECK(shared_groups(mixed, 5, 0.01, calibration).size() == 1);
  // A little matrix of another kind goes along by its norm, but not by its own error.
  mixed = {100 * first[0], 100 * first[1], 1e-3 * second[0]};
  CHECK(shared_groups(mixed, 5, 0.1).size() == 1);
  CHECK(shared_groups(mixed, 5, 0.1, {}, {.loss = SharedLoss::relative}) ==
        std::vector<std::vector<Index>>{{0, 1}, {2}});
}

TEST_CASE("groups of a brute force", "[shared]") {
  // Of three pairs in planes of their own, no other grouping keeps rank 2 without error.
  Random random(547);
  std::vector<Matrix<double>> matrices;
  for (Index pair = 0; pair < 3; ++pair) {
    const Matrix<double> plane = random.matrix<double>(2, 12);
    for (int twin = 0; twin < 2; ++twin) {
      const Matrix<double> mixing = random.matrix<double>(6, 2);
      matrices.push_back(mixing * plane);
    }
  }
  const auto groups = shared_groups(matrices, 2, 1e-6);
  CHECK(groups == std::vector<std::vector<Index>>{{0, 1}, {2, 3}, {4, 5}});
  for (Index a = 0; a < 6; ++a)
    for (Index b = a + 1; b < 6; ++b) {
      const std::vector<Matrix<double>> two{matrices[std::size_t(a)], matrices[std::size_t(b)]};
      CHECK((shared_error_bound(two, 2) <= 1e-6) == (a / 2 == b / 2));
    }
  // One miss closes a group: the nearest is tried first, so pairs are found all the same.
  CHECK(shared_groups(matrices, 2, 1e-6, {}, {.patience = 1}) == groups);
}

TEST_CASE("shared bases are blind to scale, and the same for any number of threads", "[shared]") {
  Random random(548);
  const auto matrices = family(random, 4, 11, 17, 3, 0.3);
  const Matrix<double> X = correlated_inputs<double>(random, 17, 40);
  const auto scaled = [&](double by) {
    auto all = matrices;
    for (auto& matrix : all) matrix *= by;
    return all;
  };
  const double bound = shared_error_bound(matrices, 4, calibration_of(X));
  CHECK(shared_error_bound(scaled(0x1p40), 4, calibration_of(Matrix<double>(0x1p-20 * X))) ==
        bound);
  CHECK(shared_error_bound(scaled(1e200), 4, calibration_of(Matrix<double>(1e-6 * X))) ==
        Approx(bound).epsilon(1e-12));
  CHECK(shared_groups(scaled(1e-6), 4, 0.5) == shared_groups(matrices, 4, 0.5));
  const auto reference =
      compress_shared<LowRank>(matrices, keep(0.5), {}, {}, SharedLoss::relative).op.to_dense();
  CHECK(compress_shared<LowRank>(scaled(0x1p-33), keep(0.5), {}, {}, SharedLoss::relative)
                .op.to_dense() *
            0x1p33 ==
        reference);
  set_num_threads(3);
  CHECK(shared_error_bound(matrices, 4, calibration_of(X)) == bound);
  CHECK(compress_shared<LowRank>(matrices, keep(0.5), {}, {}, SharedLoss::relative).op.to_dense() ==
        reference);
  set_num_threads(1);
}

TEST_CASE("shared compression refuses what does not fit, and stops", "[shared]") {
  Random random(549);
  const Matrix<double> A = random.matrix<double>(5, 8);
  const Matrix<double> B = random.matrix<double>(4, 7);
  const std::vector<Matrix<double>> none;
  CHECK_THROWS_WITH(compress_shared<LowRank>({A, B}, keep(1)),
                    Contains("matrix 1") && Contains("4 x 7") && Contains("8"));
  CHECK_THROWS_WITH(compress_shared<LowRank>(none, keep(1)), Contains("no matrices"));
  CHECK_THROWS_WITH(compress_shared<LowRank>({A, Matrix<double>(0, 8)}, keep(1)),
                    Contains("matrix 1") && Contains("0 x 8"));
  Matrix<double> broken = A;
  broken(3, 2) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(compress_shared<LowRank>({A, broken}, keep(1)),
                    Contains("matrix 1") && Contains("row 3, column 2"));
  CHECK_THROWS_WITH(compress_shared<LowRank>({A, A}, keep(1), Calibration<double>(7)),
                    Contains("10 x 8"));
  CHECK_THROWS_AS(compress_shared<LowRank>({A, A}, bytes(8)), std::invalid_argument);
  CHECK_THROWS_AS(compress_shared<LowRank>({A}, keep(1), {}, {}, static_cast<SharedLoss>(2)),
                  std::invalid_argument);
  CHECK_THROWS_WITH(shared_error_bound({A, B}, 1), Contains("matrix 1"));
  CHECK_THROWS_WITH(shared_error_bound({A, A}, 9), Contains("10 x 8") && Contains("rank 9"));
  CHECK_THROWS_AS(shared_error_bound({A, A}, 0), std::invalid_argument);
  Calibration<double> tied;
  tied.output_metric(Matrix<double>::Identity(10, 10));
  CHECK_THROWS_WITH(shared_error_bound({A, A}, 2, tied), Contains("output metric"));
  CHECK_THROWS_AS(shared_groups({A, A}, 2, -0.1), std::invalid_argument);
  CHECK_THROWS_AS(shared_groups({A, A}, 2, std::nan("")), std::invalid_argument);
  CHECK_THROWS_WITH(shared_groups({A, A}, 2, 0.5, {}, {.patience = 0}), Contains("patience"));
  CHECK_THROWS_AS(shared_groups(none, 2, 0.5), std::invalid_argument);
  Index calls = 0;
  const auto groups = shared_groups({A, A, A, A}, 8, 0.5, {}, {.monitor = [&](const Progress&) {
                                      ++calls;
                                      return false;
                                    }});
  CHECK(calls == 1);
  CHECK(groups == std::vector<std::vector<Index>>{{0, 1, 2, 3}});
  const auto stopped = shared_groups({A, Matrix<double>(1e-9 * random.matrix<double>(5, 8)), A}, 5,
                                     1e-12, {}, {.monitor = [](const Progress&) { return false; }});
  CHECK(stopped == std::vector<std::vector<Index>>{{0, 2}, {1}});
}

}  // namespace pleat::test
