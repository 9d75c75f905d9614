// SPDX-License-Identifier: MIT
// compensate: the invariants of EoRA, for the library's operators and for one of the user's own.
#include "pleat/compress/compensate.hpp"

#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/core/any_operator.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "support/catch.hpp"

#include <Eigen/SVD>

#include <cmath>
#include <limits>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

/// The norm of what lies beyond the first `rank` singular values.
double tail(const Matrix<double>& A, Index rank) {
  const Vector<double> sigma = singular_values(A);
  return sigma.size() <= rank ? 0 : sigma.tail(sigma.size() - rank).norm();
}

/// The two largest of every four columns.
template <Real T>
SemiStructured<T> pruned(Matrix<T> W) {
  for (Index i = 0; i < W.rows(); ++i)
    for (Index group = 0; group < W.cols(); group += 4)
      for (Index left = std::min<Index>(4, W.cols() - group); left > 2; --left) {
        Index smallest = -1;
        for (Index j = group; j < std::min(group + 4, W.cols()); ++j)
          if (W(i, j) != T(0) && (smallest < 0 || std::abs(W(i, j)) < std::abs(W(i, smallest))))
            smallest = j;
        W(i, smallest) = T(0);
      }
  return SemiStructured<T>(W);
}

/// An operator that the library does not know: a multiple of the matrix of ones.
class Ones : public OperatorBase<Ones, double> {
 public:
  Ones(Index rows, Index cols, double value) : rows_(rows), cols_(cols), value_(value) {}
  [[nodiscard]] Index rows() const { return rows_; }
  [[nodiscard]] Index cols() const { return cols_; }
  [[nodiscard]] std::size_t bytes() const { return sizeof value_; }
  [[nodiscard]] double flops() const { return double(rows_ + cols_); }

 private:
  friend OperatorBase<Ones, double>;
  void evaluate(const ConstMatrixRef<double>& X, MatrixRef<double>& Y, Update update,
                Workspace&) const {
    if (update == Update::overwrite) Y.setZero();
    Y.rowwise() += value_ * X.colwise().sum();
  }
  void evaluate_transpose(const ConstMatrixRef<double>& Y, MatrixRef<double>& X, Workspace&) const {
    X.setZero();
    X.rowwise() += value_ * Y.colwise().sum();
  }

  Index rows_;
  Index cols_;
  double value_;
};

}  // namespace

TEST_CASE("EoRA: the error is the sum of the squared singular values left out", "[compensate]") {
  Random random(41);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 9}, {9, 1}, {24, 36}, {36, 24}, {31, 31}})
    for (const Index samples : {3, 20, 90}) {  // singular Gram matrices, and one of full rank
      const Matrix<double> W = random.matrix<double>(m, n);
      const Matrix<double> X = correlated_inputs<double>(random, n, samples);
      const Calibration<double> calibration = exact_calibration(X);
      const auto op = pruned(W);
      const Matrix<double> residual = W - op.to_dense();
      const double before = (residual * X).norm();
      double previous = before;
      for (const Index rank : {1, 2, 7, 24, 31}) {
        if (rank > std::min(m, n)) break;
        INFO(m << " x " << n << ", " << samples << " samples, rank " << rank);
        const auto sum = compensate(op, W, rank, calibration);
        const double loss = ((W - sum.to_dense()) * X).norm();
        CHECK(loss == Approx(tail(residual * X, rank)).epsilon(1e-9).margin(1e-10 * before));
        CHECK(loss <= previous + 1e-12 * before);  // monotone in the rank, and never above `before`
        previous = loss;
        CHECK(sum.template operand<1>().rank() == rank);
        CHECK(sum.template operand<0>().to_dense() == op.to_dense());  // What is unchanged
        // Never worse than the correction that does not know the samples.
        const auto blind = compensate(op, W, rank);
        CHECK(loss <= ((W - blind.to_dense()) * X).norm() * (1 + 1e-12) + 1e-12 * before);
      }
      // All ranks: nothing is left.
      const auto all = compensate(op, W, std::min(m, n), calibration);
      CHECK((W - all.to_dense()).norm() <= 1e-10 * W.norm());
    }
}

TEST_CASE("EoRA: white inputs make it the truncated SVD of the residual", "[compensate]") {
  Random random(42);
  for (const auto& [m, n] : {std::pair{20, 33}, {33, 20}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    const auto op = pruned(W);
    const Matrix<double> residual = W - op.to_dense();
    const Eigen::JacobiSVD<Matrix<double>> svd(residual, Eigen::ComputeThinU | Eigen::ComputeThinV);
    const Matrix<double> truncated = svd.matrixU().leftCols(6) *
                                     svd.singularValues().head(6).asDiagonal() *
                                     svd.matrixV().leftCols(6).transpose();
    const auto white = Calibration<double>::from_gram(3 * Matrix<double>::Identity(n, n), 100);
    for (const auto& sum : {compensate(op, W, 6), compensate(op, W, 6, white)})
      CHECK((sum.template operand<1>().to_dense() - truncated).norm() <= 1e-10 * W.norm());
  }
}

TEST_CASE("EoRA: weighted outputs and the two-sided metric", "[compensate]") {
  Random random(43);
  for (const auto& [m, n] : {std::pair{18, 26}, {26, 18}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> X = correlated_inputs<double>(random, n, 70);
    const auto op = pruned(W);
    const Matrix<double> residual = W - op.to_dense();
    Vector<double> weights(m);
    for (Index i = 0; i < m; ++i) weights(i) = random.uniform(0.1, 5);
    Calibration<double> rows = exact_calibration(X);
    rows.row_weights(weights);
    const Matrix<double> root = weights.cwiseSqrt().asDiagonal();
    CHECK((root * (W - compensate(op, W, 5, rows).to_dense()) * X).norm() ==
          Approx(tail(root * residual * X, 5)).epsilon(1e-8));

    const Matrix<double> B = random.matrix<double>(m, m);
    const Matrix<double> P = B * B.transpose();
    Calibration<double> two_sided = exact_calibration(X);
    two_sided.output_metric(P);
    const Matrix<double> L = Eigen::LLT<Matrix<double>>(P).matrixL();
    CHECK((L.transpose() * (W - compensate(op, W, 5, two_sided).to_dense()) * X).norm() ==
          Approx(tail(L.transpose() * residual * X, 5)).epsilon(1e-8));
  }
}

TEST_CASE("a user's own operator is compensated like any other", "[compensate]") {
  Random random(44);
  const Matrix<double> W = Matrix<double>::Constant(14, 19, 0.7) +
                           random.matrix<double>(14, 3) * random.matrix<double>(3, 19);
  const Ones op(14, 19, 0.7);
  const auto sum = compensate(op, W, 3);
  static_assert(std::same_as<decltype(compensate(op, W, 3)), Sum<Ones, LowRank<double>>>);
  CHECK(relative_error(W, sum) <= 1e-12);
  CHECK(sum.bytes() == 8 + 8 * 3 * (14 + 19));
  // Held as anything, and compensated once more.
  const AnyOperator<double> any = compensate(op, W, 1);
  CHECK(relative_error(W, compensate(any, W, 2)) <= 1e-12);
}

TEST_CASE("the correction takes what the budget leaves", "[compensate]") {
  Random random(45);
  const Index m = 40;
  const Index n = 56;
  const Matrix<float> W = random.matrix<float>(m, n);
  Calibration<float> calibration(n);
  calibration.add(correlated_inputs<float>(random, n, 200));
  calibration.shrinkage(0);
  const auto op = pruned(W);
  const std::size_t one = 4 * (m + n);  // bytes of rank 1

  const auto kept = compensate(op, W, keep(0.7), calibration);
  CHECK(kept.bytes() <= std::size_t(0.7 * 4 * m * n));
  CHECK(kept.bytes() + one > std::size_t(0.7 * 4 * m * n));
  CHECK(compensate(op, W, bytes(std::int64_t(op.bytes() + 2 * one)), calibration)
            .operand<1>()
            .rank() == 2);
  CHECK(compensate(op, W, keep(10)).operand<1>().rank() == m);
  CHECK_THROWS_WITH(compensate(op, W, bytes(std::int64_t(op.bytes() + one - 1))),
                    Contains(std::to_string(op.bytes() + one)));

  // An error: reached, by the smallest rank that reaches it.
  const double before = relative_error(W, op, calibration);
  for (const double target : {0.9 * before, 0.5 * before, 1e-4 * before}) {
    const auto sum = compensate(op, W, error(target), calibration);
    const Index rank = sum.operand<1>().rank();
    CHECK(relative_error(W, sum, calibration) <= target);
    if (rank > 1)
      CHECK(relative_error(W, compensate(op, W, rank - 1, calibration), calibration) > target);
  }
  // What the operator reaches by itself needs no correction.
  const auto alone = compensate(op, W, error(before), calibration);
  CHECK(alone.operand<1>().rank() == 0);
  CHECK(alone.bytes() == op.bytes());
  CHECK(alone.to_dense() == op.to_dense());
  CHECK_THROWS_WITH(compensate(op, W, error(1e-12), {.storage = Storage::bf16}),
                    Contains("cannot be met"));
}

TEST_CASE("a correction in narrow storage", "[compensate]") {
  Random random(46);
  const Index m = 96;
  const Index n = 128;
  const Matrix<float> W = random.matrix<float>(m, n);
  Calibration<float> calibration(n);
  calibration.add(correlated_inputs<float>(random, n, 400));
  calibration.shrinkage(0);
  const auto op = pruned(W);
  const double before = relative_error(W, op, calibration);
  const double exact = relative_error(W, compensate(op, W, 24, calibration), calibration);
  for (const auto& [storage, share] : {std::pair{Storage::bf16, 0.02},
                                       {Storage::f16, 0.005},
                                       {Storage::int8, 0.03},
                                       {Storage::int4, 0.6}}) {
    INFO(to_string(storage));
    const auto sum = compensate(op, W, 24, calibration, {.storage = storage});
    CHECK(sum.operand<1>().U().storage() == storage);
    CHECK(sum.bytes() == op.bytes() + m * row_bytes(storage, 24) + 24 * row_bytes(storage, n));
    const double error = relative_error(W, sum, calibration);
    CHECK(error < before);
    // The share of the gain that rounding takes.
    CHECK(error <= exact + share * (before - exact));
    // Not worse than both factors rounded by themselves.
    const auto correction = compensate(op, W, 24, calibration).operand<1>();
    const Sum both(op, LowRank<float>(Dense<float>(correction.U().to_dense(), storage),
                                      Dense<float>(correction.V().to_dense(), storage)));
    CHECK(error <= 1.001 * relative_error(W, both, calibration));
  }
  // Weights of the outputs go into the last check, whether the whole is worth having.
  calibration.row_weights(Vector<float>::LinSpaced(m, 0, 1));
  const auto weighted = compensate(op, W, 24, calibration, {.storage = Storage::int8});
  CHECK(relative_error(W, weighted, calibration) < relative_error(W, op, calibration));
  calibration.output_metric(Matrix<float>::Identity(m, m));
  const auto metric = compensate(op, W, 24, calibration, {.storage = Storage::int8});
  CHECK(relative_error(W, metric, calibration) < before);
  // More directions than the samples span: the others are kept for the plain residual.
  Calibration<float> few(n);
  few.add(random.matrix<float>(n, 5));
  few.shrinkage(0);
  const auto filled = compensate(op, W, 24, few, {.storage = Storage::int8});
  CHECK(relative_error(W, filled, few) <= 0.05 * relative_error(W, op, few));
  CHECK(relative_error(W, filled) < 0.95 * relative_error(W, op));
}

TEST_CASE("compensation is blind to scale and deterministic", "[compensate]") {
  Random random(47);
  const Matrix<double> W = random.matrix<double>(30, 22);
  const Matrix<double> X = correlated_inputs<double>(random, 22, 50);
  const Matrix<double> reference = compensate(pruned(W), W, 4, calibration_of(X)).to_dense();
  for (const double scale : {1e-6, 1e6}) {
    const Matrix<double> scaled = scale * W;
    CHECK((compensate(pruned(scaled), scaled, 4, calibration_of(X)).to_dense() / scale - reference)
              .norm() <= 1e-9 * W.norm());
    CHECK((compensate(pruned(W), W, 4, calibration_of(scale * X)).to_dense() - reference).norm() <=
          1e-9 * W.norm());
    for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4})
      CHECK(relative_error(scaled, compensate(pruned(scaled), scaled, 4, {.storage = storage})) ==
            Approx(relative_error(W, compensate(pruned(W), W, 4, {.storage = storage})))
                .epsilon(1e-2));
  }
  set_num_threads(2);
  CHECK(compensate(pruned(W), W, 4, calibration_of(X)).to_dense() == reference);
  set_num_threads(1);
}

TEST_CASE("nothing is left to correct, whatever the size", "[compensate]") {
  Random random(305);
  const Matrix<float> W = random.matrix<float>(1030, 1040);
  const Dense<float> exact(W);
  CHECK(relative_error(W, compensate(exact, W, 4)) == 0);
  const Matrix<double> V = random.matrix<double>(30, 40);
  const auto whole = compensate(Dense<double>(Matrix<double>(0.5 * V)), V, 30);
  CHECK(relative_error(V, whole) <= 1e-15);
}

TEST_CASE("a correction of nothing is nothing", "[compensate]") {
  Random random(48);
  const Matrix<float> W = random.matrix<float>(8, 12);
  for (const Storage storage : {Storage::f32, Storage::int8}) {
    const auto sum = compensate(Dense<float>(W), W, 3, {.storage = storage});
    CHECK(sum.to_dense() == W);
  }
  const Matrix<float> zero = Matrix<float>::Zero(8, 12);
  CHECK(relative_error(zero, compensate(Dense<float>(W), zero, 8)) == 0);  // minus W
  CHECK(relative_error(zero, compensate(Dense<float>(W), zero, 7)) ==
        std::numeric_limits<double>::infinity());
  CHECK(compensate(Dense<float>(zero), zero, 8).to_dense() == zero);
}

TEST_CASE("compensate refuses what does not fit", "[compensate]") {
  Random random(49);
  const Matrix<double> W = random.matrix<double>(6, 10);
  const Dense<double> op(random.matrix<double>(6, 10));
  CHECK_THROWS_WITH(compensate(Dense<double>(random.matrix<double>(5, 10)), W, 1),
                    Contains("6 x 10") && Contains("5 x 10"));
  CHECK_THROWS_WITH(compensate(op, W, 0), Contains("between 1 and 6, not 0"));
  CHECK_THROWS_WITH(compensate(op, W, 7), Contains("between 1 and 6, not 7"));
  CHECK_THROWS_AS(compensate(op, W, -1), std::invalid_argument);
  CHECK_THROWS_AS(compensate(op, W, 1, Calibration<double>(9)), std::invalid_argument);
  CHECK_THROWS_AS(compensate(op, W, 1, {.storage = Storage::f32}), std::invalid_argument);
  CHECK_THROWS_AS(compensate(op, W, 1, {.power_iterations = -1}), std::invalid_argument);
  CHECK_THROWS_AS(compensate(Dense<double>(), Matrix<double>(0, 0), 1), std::invalid_argument);
  Matrix<double> broken = W;
  broken(2, 3) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(compensate(op, broken, 1), Contains("row 2, column 3"));
  CHECK_THROWS_WITH(compensate(Dense<double>(broken), W, 1), Contains("the operator"));
}

TEST_CASE("compensate reports, and stops with the best so far", "[compensate]") {
  Random random(50);
  const Matrix<double> W = random.matrix<double>(40, 40);
  const auto op = pruned(W);
  Index calls = 0;
  const auto sum =
      compensate(op, W, 5, {.svd = SvdMethod::randomized, .monitor = [&](const Progress&) {
                              ++calls;
                              return false;
                            }});
  CHECK(calls == 1);
  CHECK(relative_error(W, sum) < relative_error(W, op));
}

TEST_CASE("compensation is that of numpy", "[golden]") {
  const Matrix<double> W = golden_weight();
  const auto calibration = golden_calibration();
  // Of four columns those that matter most to the outputs.
  const Vector<double> d = calibration.gram().diagonal().cwiseSqrt();
  const Matrix<double> kept = pruned(Matrix<double>(W * d.asDiagonal())).to_dense();
  const SemiStructured<double> op(Matrix<double>(kept * d.cwiseInverse().asDiagonal()));
  for (const auto& [rank, expected] : {std::pair{1, 0.355911965246}, {3, 0.251473565022}})
    CHECK(relative_error(W, compensate(op, W, rank, calibration), calibration) ==
          Approx(expected).epsilon(1e-9));
}

}  // namespace pleat::test
