// SPDX-License-Identifier: MIT
// update and recompress: what is done to factors is what would be done to their product.
#include "pleat/compress/update.hpp"

#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

/// The norm of what lies beyond the first `rank` singular values.
double beyond_rank(const Matrix<double>& A, Index rank) {
  const Vector<double> sigma = singular_values(A);
  return sigma.size() <= rank ? 0 : sigma.tail(sigma.size() - rank).norm();
}

template <Real T>
LowRank<T> random_factors(Random& random, Index m, Index r, Index n,
                          Storage storage = native_storage<T>) {
  const Matrix<T> U = random.matrix<T>(m, r);
  const Matrix<T> V = random.matrix<T>(r, n);
  return {Dense<T>(U, storage), Dense<T>(V, storage)};
}

template <Real T>
Matrix<double> product_of(const LowRank<T>& op) {
  return op.U().to_dense().template cast<double>() * op.V().to_dense().template cast<double>();
}

/// How far A^T A is from a multiple of the identity, where it is not 0.
double skewness(const Matrix<double>& A) {
  const Matrix<double> gram = A.transpose() * A;
  const double unit = gram.diagonal().maxCoeff();
  double worst = 0;
  for (Index i = 0; i < gram.rows(); ++i)
    for (Index j = 0; j < gram.cols(); ++j)
      if (gram(i, i) > 0 && gram(j, j) > 0)
        worst = std::max(worst, std::abs(gram(i, j) / unit - (i == j ? 1 : 0)));
  return worst;
}

}  // namespace

TEMPLATE_TEST_CASE("update is the best of its rank of the sum", "[update]", float, double) {
  using T = TestType;
  Random random(501);
  const double rounding = 20 * double(std::numeric_limits<T>::epsilon());
  for (const auto& [m, r, n, s] : std::vector<std::array<Index, 4>>{{1, 1, 1, 1},
                                                                    {1, 1, 9, 2},
                                                                    {9, 1, 1, 1},
                                                                    {23, 4, 17, 2},
                                                                    {17, 5, 31, 9},
                                                                    {31, 13, 11, 3},
                                                                    {7, 12, 5, 4},
                                                                    {20, 6, 20, 0}}) {
    INFO(m << " x " << n << ", rank " << r << " and " << s);
    const auto op = random_factors<T>(random, m, r, n);
    const Matrix<T> dU = random.matrix<T>(m, s);
    const Matrix<T> dV = random.matrix<T>(s, n);
    const Matrix<double> sum =
        product_of(op) + dU.template cast<double>() * dV.template cast<double>();
    const Index least = std::min(m, n);
    const auto same = update(op, dU, dV);
    CHECK(same.rank() == std::min(r, least));
    CHECK(same.bytes() <= op.bytes());
    CHECK((sum - product_of(same)).norm() ==
          Approx(beyond_rank(sum, same.rank())).epsilon(1e-9).margin(rounding * sum.norm()));
    for (const Index rank : {Index{1}, Index{2}, Index{5}, Index{11}, r + s}) {
      if (rank > least) continue;
      const auto made = update(op, dU, dV, {.rank = rank});
      CHECK(made.rank() == rank);
      CHECK((sum - product_of(made)).norm() ==
            Approx(beyond_rank(sum, rank)).epsilon(1e-9).margin(rounding * sum.norm()));
    }
  }
}

TEST_CASE("a hundred updates that fit into the rank stay exact", "[update]") {
  Random random(502);
  const Index m = 60;
  const Index n = 45;
  const Matrix<double> left = random.matrix<double>(m, 10);
  const Matrix<double> right = random.matrix<double>(10, n);
  // Of rank 6 in a space of 10 dimensions; each change has two directions of them.
  const Matrix<double> U = left.leftCols(6);
  const Matrix<double> V = right.topRows(6);
  LowRank<double> op{Dense<double>(U), Dense<double>(V)};
  Matrix<double> sum = U * V;
  op = update(op, left.col(6), right.row(7), {.rank = 10});
  sum += left.col(6) * right.row(7);
  for (int step = 0; step < 100; ++step) {
    const Matrix<double> a = random.matrix<double>(10, 2);
    const Matrix<double> b = random.matrix<double>(2, 10);
    const Matrix<double> dU = left * a;
    const Matrix<double> dV = b * right;
    op = update(op, dU, dV);
    sum += dU * dV;
    REQUIRE(op.rank() == 10);
  }
  CHECK((product_of(op) - sum).norm() <= 1e-12 * sum.norm());
  CHECK(std::min(skewness(op.U().to_dense()), skewness(op.V().to_dense().transpose())) <= 1e-12);
}

TEST_CASE("what updates give up bounds what is lost in the end", "[update]") {
  Random random(503);
  const Index m = 25;
  const Index n = 33;
  auto op = random_factors<double>(random, m, 4, n);
  Matrix<double> sum = product_of(op);
  double given_up = 0;
  for (int step = 0; step < 20; ++step) {
    const Matrix<double> dU = random.matrix<double>(m, 2);
    const Matrix<double> dV = 0.2 * random.matrix<double>(2, n);
    const Matrix<double> before = product_of(op) + dU * dV;
    op = update(op, dU, dV);
    sum += dU * dV;
    given_up += (before - product_of(op)).norm();
    CHECK(skewness(op.U().to_dense()) <= 1e-12);
  }
  const double lost = (sum - product_of(op)).norm();
  CHECK(lost <= given_up * (1 + 1e-12));
  CHECK(lost >= beyond_rank(sum, 4) * (1 - 1e-12));
}

TEST_CASE("changes that cancel, repeat or vanish are taken as they are", "[update]") {
  Random random(504);
  const auto op = random_factors<double>(random, 14, 3, 11);
  const Matrix<double> U = op.U().to_dense();
  const Matrix<double> V = op.V().to_dense();
  const auto nothing = update(op, Matrix<double>(-U), V);
  CHECK(nothing.rank() == 3);
  CHECK(product_of(nothing).norm() <= 1e-14 * product_of(op).norm());
  CHECK((product_of(update(op, U, V)) - 2 * U * V).norm() <= 1e-13 * (U * V).norm());
  const auto zero = update(op, Matrix<double>::Zero(14, 2), Matrix<double>::Zero(2, 11));
  CHECK((product_of(zero) - U * V).norm() <= 1e-14 * (U * V).norm());
  // A change far below what there is, and one far above it.
  const Matrix<double> u = random.matrix<double>(14, 1);
  const Matrix<double> v = random.matrix<double>(1, 11);
  for (const double size : {1e-9, 1e9}) {
    const Matrix<double> sum = U * V + size * u * v;
    const auto made = update(op, Matrix<double>(size * u), v, {.rank = 4});
    CHECK((product_of(made) - sum).norm() <= 1e-14 * sum.norm());
  }
  // An operator of rank 0 is zero, and takes the rank of the change.
  const LowRank<double> empty(Dense<double>(Matrix<double>(14, 0)),
                              Dense<double>(Matrix<double>(0, 11)));
  const auto first = update(empty, u, v);
  CHECK(first.rank() == 1);
  CHECK((product_of(first) - u * v).norm() <= 1e-15 * (u * v).norm() * 10);
  const auto still = update(empty, Matrix<double>(14, 0), Matrix<double>(0, 11));
  CHECK(still.rank() == 0);
  CHECK(still.to_dense() == Matrix<double>::Zero(14, 11));
}

TEST_CASE("updates of narrow factors, and into them", "[update]") {
  Random random(505);
  for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4}) {
    INFO(to_string(storage));
    const auto op = random_factors<float>(random, 40, 6, 70, storage);
    const Matrix<float> dU = random.matrix<float>(40, 2);
    const Matrix<float> dV = random.matrix<float>(2, 70);
    const Matrix<double> sum = product_of(op) + dU.cast<double>() * dV.cast<double>();
    const auto kept = update(op, dU, dV);
    CHECK(kept.U().storage() == storage);
    CHECK(kept.V().storage() == storage);
    CHECK(kept.bytes() == op.bytes());
    const auto wide = update(op, dU, dV, {.rank = 8, .storage = Storage::f32});
    CHECK(wide.U().storage() == Storage::f32);
    CHECK((product_of(wide) - sum).norm() <= 1e-6 * sum.norm());
    const auto rounded = update(wide, dU, dV, {.storage = storage});
    CHECK(rounded.U().storage() == storage);
    const LowRank<float> mixed(op.U(), Dense<float>(op.V().to_dense()));
    CHECK(update(mixed, dU, dV).U().storage() == Storage::f32);
  }
}

TEST_CASE("update is blind to scale, and the same for any number of threads", "[update]") {
  Random random(506);
  const Matrix<double> U = random.matrix<double>(50, 7);
  const Matrix<double> V = random.matrix<double>(7, 64);
  const Matrix<double> dU = random.matrix<double>(50, 3);
  const Matrix<double> dV = random.matrix<double>(3, 64);
  const auto made = [&](double left, double right) {
    const LowRank<double> op(Dense<double>(Matrix<double>(left * U)),
                             Dense<double>(Matrix<double>(right * V)));
    return product_of(update(op, Matrix<double>(left * dU), Matrix<double>(right * dV)));
  };
  const Matrix<double> reference = made(1, 1);
  for (const auto& [left, right] : {std::pair{0x1p20, 0x1p-7}, {0x1p-300, 0x1p100}, {8.0, 1.0}})
    CHECK(made(left, right) / right / left == reference);
  for (const auto& [left, right] : {std::pair{1e-6, 1.0}, {1e6, 1e6}, {1e-150, 1e-150}})
    CHECK((made(left, right) / right / left - reference).norm() <= 1e-13 * reference.norm());
  set_num_threads(3);
  CHECK(made(1, 1) == reference);
  set_num_threads(1);
}

TEST_CASE("update refuses what does not fit", "[update]") {
  Random random(507);
  const auto op = random_factors<double>(random, 6, 2, 9);
  const Matrix<double> dU = random.matrix<double>(6, 1);
  const Matrix<double> dV = random.matrix<double>(1, 9);
  CHECK_THROWS_WITH(update(op, Matrix<double>(dU.topRows(5)), dV),
                    Contains("5 x 1") && Contains("1 x 9") && Contains("6 x 9"));
  CHECK_THROWS_WITH(update(op, dU, Matrix<double>(dV.leftCols(8))), Contains("1 x 8"));
  CHECK_THROWS_WITH(update(op, random.matrix<double>(6, 2), dV), Contains("6 x 2"));
  CHECK_THROWS_WITH(update(op, dU, dV, {.rank = 7}), Contains("6 x 9") && Contains("rank 7"));
  CHECK_THROWS_AS(update(op, dU, dV, {.rank = -1}), std::invalid_argument);
  CHECK_THROWS_AS(update(op, dU, dV, {.storage = Storage::f32}), std::invalid_argument);
  Matrix<double> broken = dV;
  broken(0, 4) = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(update(op, dU, broken), Contains("dV") && Contains("row 0, column 4"));
  const LowRank<double> bad(Dense<double>(Matrix<double>(dU * std::nan(""))), Dense<double>(dV));
  CHECK_THROWS_WITH(update(bad, dU, dV), Contains("U of the operator"));
  const LowRank<double> empty(Dense<double>(Matrix<double>(0, 2)),
                              Dense<double>(Matrix<double>::Ones(2, 9)));
  CHECK_THROWS_WITH(update(empty, Matrix<double>(0, 1), dV), Contains("0 x 9"));
}

TEST_CASE("recompress is the best of its rank, in any metric", "[update]") {
  Random random(508);
  for (const auto& [m, r, n] :
       std::vector<std::array<Index, 3>>{{30, 9, 40}, {41, 12, 19}, {8, 11, 13}, {13, 9, 7}})
    for (const Index samples : {0, 5, 120}) {  // none, a singular Gram matrix, and enough
      INFO(m << " x " << n << ", rank " << r << ", " << samples << " samples");
      const auto op = random_factors<double>(random, m, r, n);
      const Matrix<double> W = product_of(op);
      Calibration<double> calibration;
      Matrix<double> X = Matrix<double>::Identity(n, n);
      if (samples > 0) {
        X = correlated_inputs<double>(random, n, samples);
        calibration = exact_calibration(X);
      }
      for (const Index rank : {1, 3, 6}) {
        const auto cut = recompress(op, keep(100), calibration, {.rank = rank});
        CHECK(cut.rank() == rank);
        CHECK(((W - product_of(cut)) * X).norm() ==
              Approx(beyond_rank(W * X, rank)).epsilon(1e-8).margin(1e-11 * (W * X).norm()));
      }
      // As for the dense matrix, but never made.
      const auto dense = compress<LowRank>(W, keep(100), calibration, {.rank = 3});
      const auto cut = recompress(op, keep(100), calibration, {.rank = 3});
      CHECK(((product_of(cut) - product_of(dense)) * X).norm() <= 1e-7 * (W * X).norm());

      Calibration<double> rows = calibration;
      Vector<double> weights(m);
      for (Index i = 0; i < m; ++i) weights(i) = random.uniform(0.1, 5);
      rows.row_weights(weights);
      const Matrix<double> root = weights.cwiseSqrt().asDiagonal();
      CHECK((root * (W - product_of(recompress(op, keep(100), rows, {.rank = 4}))) * X).norm() ==
            Approx(beyond_rank(root * W * X, 4)).epsilon(1e-7).margin(1e-9 * (W * X).norm()));
      const Matrix<double> B = random.matrix<double>(m, m);
      const Matrix<double> P = B * B.transpose();
      Calibration<double> both = calibration;
      both.output_metric(P);
      const Matrix<double> L = Eigen::LLT<Matrix<double>>(P).matrixL().transpose();
      CHECK((L * (W - product_of(recompress(op, keep(100), both, {.rank = 4}))) * X).norm() ==
            Approx(beyond_rank(L * W * X, 4)).epsilon(1e-6).margin(1e-8 * (L * W * X).norm()));
    }
}

TEST_CASE("recompress keeps budgets", "[update]") {
  Random random(509);
  const Index m = 48;
  const Index n = 36;
  Matrix<float> U = random.matrix<float>(m, 12);
  for (Index j = 0; j < 12; ++j) U.col(j) *= std::pow(0.6F, float(j));
  const LowRank<float> op{Dense<float>(U), Dense<float>(random.matrix<float>(12, n))};
  const auto calibration = exact_calibration(correlated_inputs<float>(random, n, 100));
  const std::size_t one = 4 * (m + n);
  const auto kept = recompress(op, keep(0.3), calibration);
  CHECK(kept.bytes() <= std::size_t(0.3 * 4 * m * n));
  CHECK(kept.bytes() + one > std::size_t(0.3 * 4 * m * n));
  CHECK(recompress(op, bytes(std::int64_t(5 * one + 3))).rank() == 5);
  // What meets the budget stays as it is, to the bit.
  for (const auto& whole : {recompress(op, keep(1)), recompress(op, bytes(std::int64_t(12 * one))),
                            recompress(op, keep(2), calibration, {.rank = 12})}) {
    CHECK(whole.U().to_dense() == U);
    CHECK(whole.V().to_dense() == op.V().to_dense());
  }
  // The smallest rank within an error, which is relative to the operator.
  const Matrix<float> W = op.to_dense();
  for (const auto& seen : {Calibration<float>(), calibration})
    for (const double target : {0.9, 0.3, 0.02, 1e-3}) {
      INFO("error " << target);
      const auto cut = recompress(op, error(target), seen);
      CHECK(relative_error(W, cut, seen) <= target * (1 + 1e-5));
      if (cut.rank() > 1)
        CHECK(relative_error(W, recompress(op, keep(9), seen, {.rank = cut.rank() - 1}), seen) >
              target * (1 - 1e-5));
    }
  // No error: as it is, or of the rank that it has.
  CHECK(relative_error(W, recompress(op, error(0))) <= 1e-6);
  Matrix<float> twice_U(m, 24);
  twice_U << U, U;
  Matrix<float> twice_V(24, n);
  twice_V << op.V().to_dense(), op.V().to_dense();
  const LowRank<float> redundant{Dense<float>(twice_U), Dense<float>(twice_V)};
  const auto lean = recompress(redundant, error(0));
  CHECK(lean.rank() == 12);
  CHECK(relative_error(Matrix<float>(2 * W), lean) <= 2e-6);
  CHECK_THROWS_WITH(recompress(op, error(1e-3), {.rank = 2}), Contains("cannot be met"));
  CHECK_THROWS_WITH(recompress(op, bytes(std::int64_t(one - 1))),
                    Contains(std::to_string(one)) && Contains("48 x 36"));
  CHECK_THROWS_WITH(recompress(op, bytes(std::int64_t(one)), {.rank = 2}),
                    Contains(std::to_string(2 * one)));
}

TEST_CASE("recompress in the shrunk metric and with few samples keeps errors too", "[update]") {
  Random random(510);
  const auto op = random_factors<double>(random, 40, 14, 50);
  const Matrix<double> W = product_of(op);
  for (const Index samples : {12, 60}) {
    const auto calibration = calibration_of(correlated_inputs<double>(random, 50, samples));
    const auto cut = recompress(op, error(0.05), calibration);
    CHECK(relative_error(W, cut, calibration) <= 0.05);
    CHECK(cut.rank() < 14);
  }
  // Weights that see nothing of the operator, and inputs that are all 0.
  Matrix<double> U = random.matrix<double>(10, 3);
  U.row(4).setZero();
  const LowRank<double> blind{Dense<double>(U), Dense<double>(random.matrix<double>(3, 8))};
  Calibration<double> calibration;
  calibration.row_weights(Vector<double>::Unit(10, 4));
  CHECK(recompress(blind, error(0), calibration).rank() <= 3);
  CHECK(recompress(blind, keep(1), calibration, {.rank = 2}).rank() == 2);
  const auto dead = calibration_of(Matrix<double>::Zero(8, 20));
  CHECK(recompress(blind, error(0.1), dead).rank() >= 1);
}

TEST_CASE("a merged adapter is cut back", "[update]") {
  Random random(511);
  const Matrix<float> W = random.matrix<float>(64, 48);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 48, 300));
  const auto base = compress<LowRank>(W, keep(1), calibration, {.rank = 12});
  const Matrix<float> dU = random.matrix<float>(64, 4);
  const Matrix<float> dV = random.matrix<float>(4, 48);
  const auto merged = update(base, dU, dV, {.rank = 16});
  const Matrix<float> sum = base.to_dense() + dU * dV;
  CHECK(relative_error(sum, merged) <= 1e-6);
  const auto squeezed = recompress(merged, keep(0.5), calibration, {.rank = 12});
  CHECK(squeezed.rank() == 12);
  CHECK(relative_error(sum, squeezed, calibration) <=
        1.02 * relative_error(sum, update(base, dU, dV), calibration));
}

TEST_CASE("recompress in narrow storage", "[update]") {
  Random random(512);
  const auto op = random_factors<float>(random, 64, 8, 96, Storage::bf16);
  const auto cut = recompress(op, keep(1), {.rank = 5});
  CHECK(cut.U().storage() == Storage::bf16);
  CHECK(cut.bytes() == 2 * 5 * (64 + 96));
  const auto narrower = recompress(op, keep(1), {.storage = Storage::int8});
  CHECK(narrower.U().storage() == Storage::int8);
  // How activations meet the factors is theirs to keep.
  const auto rounds = recompress(narrower.with_activations(Activations::int8),
                                 pleat::bytes(narrower.bytes() * 3 / 4));
  CHECK(rounds.rank() < narrower.rank());
  CHECK(rounds.V().activations() == Activations::int8);
  CHECK(narrower.rank() == 8);
  CHECK((product_of(narrower) - product_of(op)).norm() <= 0.02 * product_of(op).norm());
  const auto within = recompress(op, error(0.02), {.storage = Storage::int8});
  CHECK((product_of(within) - product_of(op)).norm() <= 0.02 * product_of(op).norm());
  CHECK_THROWS_WITH(recompress(op, error(1e-5), {.storage = Storage::int8}),
                    Contains("cannot be met"));
}

TEST_CASE("recompress is blind to scale, and the same for any number of threads", "[update]") {
  Random random(513);
  const Matrix<double> U = random.matrix<double>(30, 9);
  const Matrix<double> V = random.matrix<double>(9, 40);
  const Matrix<double> X = correlated_inputs<double>(random, 40, 70);
  const auto made = [&](double left, double right, double inputs) {
    const LowRank<double> op(Dense<double>(Matrix<double>(left * U)),
                             Dense<double>(Matrix<double>(right * V)));
    return product_of(recompress(op, keep(0.3), calibration_of(Matrix<double>(inputs * X))));
  };
  const Matrix<double> reference = made(1, 1, 1);
  for (const auto& [left, right, inputs] :
       {std::tuple{2.0, 1.0, 1.0}, {0x1p-30, 0x1p70, 0x1p-20}, {1.0, 1.0, 0x1p20}})
    CHECK(made(left, right, inputs) / right / left == reference);
  for (const auto& [left, right, inputs] : {std::tuple{1e-6, 1.0, 1.0}, {1e6, 1e6, 1e6}})
    CHECK((made(left, right, inputs) / right / left - reference).norm() <= 1e-9 * reference.norm());
  set_num_threads(3);
  CHECK(made(1, 1, 1) == reference);
  set_num_threads(1);
}

TEST_CASE("recompress refuses what does not fit, and stops when told to", "[update]") {
  Random random(514);
  const auto op = random_factors<double>(random, 12, 5, 10);
  CHECK_THROWS_WITH(recompress(op, keep(1), {.rank = 6}), Contains("rank 5") && Contains("rank 6"));
  CHECK_THROWS_AS(recompress(op, keep(1), {.rank = -1}), std::invalid_argument);
  CHECK_THROWS_AS(recompress(op, keep(1), {.storage = Storage::f32}), std::invalid_argument);
  CHECK_THROWS_WITH(recompress(op, keep(1), Calibration<double>(9)), Contains("9 inputs"));
  const LowRank<double> zero(Dense<double>(Matrix<double>(12, 0)),
                             Dense<double>(Matrix<double>(0, 10)));
  CHECK(recompress(zero, error(0)).rank() == 0);
  Index calls = 0;
  const auto stopped = recompress(op, error(1e-6), {.monitor = [&](const Progress&) {
                                    ++calls;
                                    return false;
                                  }});
  CHECK(calls == 1);
  CHECK(stopped.rank() >= 1);
  calls = 0;
  const Matrix<double> dU = random.matrix<double>(12, 1);
  const Matrix<double> dV = random.matrix<double>(1, 10);
  const auto cut = update(op, dU, dV, {.rank = 3, .monitor = [&](const Progress&) {
                                         ++calls;
                                         return false;
                                       }});
  CHECK(calls == 1);
  CHECK(cut.rank() == 3);
}

}  // namespace pleat::test
