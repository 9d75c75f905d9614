// SPDX-License-Identifier: MIT
// The relative error against its definition, and at the edges.
#include "pleat/compress/error.hpp"

#include "compress/support.hpp"
#include "pleat/compress/budget.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/core/any_operator.hpp"
#include "support/catch.hpp"

#include <Eigen/LU>

#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace pleat::test {

TEMPLATE_TEST_CASE("the relative error is its definition", "[error]", float, double) {
  Random random(11);
  const double tolerance = std::is_same_v<TestType, float> ? 1e-6 : 1e-13;
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 9}, {7, 1}, {64, 64}, {65, 31}, {150, 70}}) {
    INFO(m << " x " << n);
    const Matrix<TestType> W = random.matrix<TestType>(m, n);
    const Matrix<TestType> What = W + TestType(0.1) * random.matrix<TestType>(m, n);
    const Dense<TestType> op(What);
    const Matrix<TestType> X = correlated_inputs<TestType>(random, n, 2 * n + 1);
    const Matrix<double> E = (W - What).template cast<double>();
    const Matrix<double> Wd = W.template cast<double>();
    const Matrix<double> Xd = X.template cast<double>();

    CHECK(relative_error(W, op) == Approx(E.norm() / Wd.norm()).epsilon(tolerance));
    Calibration<TestType> calibration(n);
    calibration.add(X);
    CHECK(relative_error(W, op, calibration) ==
          Approx((E * Xd).norm() / (Wd * Xd).norm()).epsilon(tolerance));
    CHECK(relative_error(W, AnyOperator<TestType>(op), calibration) ==
          relative_error(W, op, calibration));

    Vector<double> weights(m);
    for (Index i = 0; i < m; ++i) weights(i) = random.uniform(0, 3);
    weights(0) = 1;
    calibration.row_weights(weights);
    const Matrix<double> root = weights.cwiseSqrt().asDiagonal();
    CHECK(relative_error(W, op, calibration) ==
          Approx((root * E * Xd).norm() / (root * Wd * Xd).norm()).epsilon(tolerance));

    const Matrix<double> B = random.matrix<double>(m, m);
    const Matrix<double> P = B * B.transpose();
    calibration.output_metric(P);
    const double loss = (P * E * Xd * Xd.transpose() * E.transpose()).trace();
    const double reference = (P * Wd * Xd * Xd.transpose() * Wd.transpose()).trace();
    CHECK(relative_error(W, op, calibration) ==
          Approx(std::sqrt(loss / reference)).epsilon(10 * tolerance));
  }
}

TEST_CASE("the relative error on few samples is that of their Gram matrix, and of less rounding",
          "[error]") {
  Random random(13);
  for (const auto& [m, n, samples] : {std::array<Index, 3>{70, 40, 1}, {5, 90, 20}, {30, 30, 30}}) {
    CAPTURE(m, n, samples);
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> X = random.matrix<double>(n, samples);
    auto held = calibration_of(X);
    auto gram = Calibration<double>::from_gram(X * X.transpose(), samples);
    const Dense<double> op(W + 0.1 * random.matrix<double>(m, n));
    const auto same = [&] {
      CHECK(relative_error(W, op, held) == Approx(relative_error(W, op, gram)).epsilon(1e-9));
    };
    same();
    Vector<double> weights = Vector<double>::Ones(m);
    weights(0) = 4;
    held.row_weights(weights);
    gram.row_weights(weights);
    same();
    const Matrix<double> B = random.matrix<double>(m, m);
    held.output_metric(B * B.transpose());
    gram.output_metric(B * B.transpose());
    same();
    // Of What that is W on the samples alone, nothing but rounding is left.
    if (samples == n) continue;
    const Matrix<double> E = random.matrix<double>(m, n);
    const Matrix<double> blind = E - E * X * (X.transpose() * X).inverse() * X.transpose();
    CHECK(relative_error(W, Dense<double>(W + blind), calibration_of(X)) <= 1e-12);
  }
}

TEST_CASE("the relative error of an exact operator is 0, of a zero operator 1", "[error]") {
  Random random(12);
  const Matrix<float> W = random.matrix<float>(30, 20);
  CHECK(relative_error(W, Dense<float>(W)) == 0);
  CHECK(relative_error(W, Dense<float>(Matrix<float>::Zero(30, 20))) == 1);
  const Matrix<float> zero = Matrix<float>::Zero(30, 20);
  CHECK(relative_error(zero, Dense<float>(zero)) == 0);
  CHECK(relative_error(zero, Dense<float>(W)) == std::numeric_limits<double>::infinity());
  Calibration<float> only_zeros(20);
  only_zeros.add(Matrix<float>::Zero(20, 5));
  CHECK(relative_error(W, Dense<float>(zero), only_zeros) == 0);
}

TEST_CASE("the relative error does not overflow or underflow", "[error]") {
  Random random(13);
  const Matrix<double> W = random.matrix<double>(10, 12);
  const Matrix<double> What = 1.5 * W;
  const Matrix<double> X = random.matrix<double>(12, 40);
  for (const double scale : {1e-200, 1e-30, 1e30, 1e200}) {
    INFO("scale " << scale);
    CHECK(relative_error(Matrix<double>(scale * W), Dense<double>(scale * What)) == Approx(0.5));
    Calibration<double> calibration(12);
    calibration.add(X * (scale > 1 ? 1e100 : 1e-100));
    CHECK(relative_error(Matrix<double>(scale * W), Dense<double>(scale * What), calibration) ==
          Approx(0.5));
  }
}

TEST_CASE("the relative error is blind to scale, as far as double reaches", "[error]") {
  Random random(13);
  const Matrix<double> W = random.matrix<double>(20, 12);
  const Matrix<double> What = W + 0.1 * random.matrix<double>(20, 12);
  const Matrix<double> X = correlated_inputs<double>(random, 12, 50);
  const Matrix<double> B = random.matrix<double>(20, 20);
  const double at_one = relative_error(W, Dense<double>(What), calibration_of(X));
  for (const double scale : {1e-140, 1e-30, 1e149}) {
    CAPTURE(scale);
    CHECK(relative_error(W, Dense<double>(What), calibration_of(Matrix<double>(scale * X / 100))) ==
          Approx(at_one).epsilon(1e-12));
  }
  const Matrix<double> tiny = W * 1e-310;
  CHECK(relative_error(tiny, Dense<double>(Matrix<double>(What * 1e-310))) ==
        Approx(relative_error(W, Dense<double>(What))).epsilon(1e-10));
  // In float, where the root of a metric could overflow.
  const Matrix<float> V = W.cast<float>();
  const Dense<float> op(Matrix<float>(What.cast<float>()));
  auto weighted = Calibration<float>(12).output_metric(B * B.transpose());
  const double expected = relative_error(V, op, weighted);
  for (const double scale : {1e-90, 1e80}) {
    weighted.output_metric(scale * B * B.transpose());
    CHECK(relative_error(V, op, weighted) == Approx(expected).epsilon(1e-6));
  }
}

TEST_CASE("an operator with a NaN has no relative error, and meets no budget", "[error]") {
  Random random(14);
  const Matrix<float> W = random.matrix<float>(9, 7);
  Matrix<float> broken = W;
  broken(2, 3) = std::numeric_limits<float>::quiet_NaN();
  const auto calibration = calibration_of(random.matrix<float>(7, 30));
  const double reached = relative_error(W, Dense<float>(broken), calibration);
  CHECK(!is_finite(reached));
  CHECK(!(reached <= 0.5));
}

TEST_CASE("the relative error refuses what does not fit", "[error]") {
  const Matrix<float> W = Matrix<float>::Ones(4, 3);
  CHECK_THROWS_WITH(relative_error(W, Dense<float>(Matrix<float>::Ones(3, 4))),
                    Catch::Contains("4 x 3") && Catch::Contains("3 x 4"));
  CHECK_THROWS_AS(relative_error(W, Dense<float>(W), Calibration<float>(4)), std::invalid_argument);
  Matrix<float> bad = W;
  bad(2, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(relative_error(bad, Dense<float>(W)), Catch::Contains("row 2, column 1"));
}

TEST_CASE("compress<Dense> rounds to the storage asked for", "[compress]") {
  Random random(98);
  const Matrix<float> W = random.matrix<float>(33, 70);
  using Options = Dense<float>::Options;
  CHECK(relative_error(W, compress<Dense>(W, pleat::keep(1))) == 0);
  const auto op = compress<Dense>(W, pleat::keep(0.3), Options{.storage = Storage::int8});
  CHECK(op.bytes() == 33 * (70 + 2 * 4));
  CHECK(relative_error(W, op) < 0.01);
  CHECK_THROWS_AS(compress<Dense>(W, pleat::keep(0.25), Options{.storage = Storage::int8}),
                  std::invalid_argument);
  CHECK_NOTHROW(compress<Dense>(W, pleat::error(0.01), Options{.storage = Storage::int8}));
  CHECK_THROWS_AS(compress<Dense>(W, pleat::error(0.01), Options{.storage = Storage::int4}),
                  std::invalid_argument);
  CHECK_THROWS_AS(compress<Dense>(W, pleat::keep(1), Options{.storage = Storage::f64}),
                  std::invalid_argument);
}

TEMPLATE_TEST_CASE("the error of a call is its definition", "[error]", float, double) {
  using T = TestType;
  Random random(31);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 9}, {7, 1}, {65, 31}, {150, 70}}) {
    const Matrix<T> W = random.matrix<T>(m, n);
    const Matrix<T> noise = random.matrix<T>(m, n);
    const Dense<T> op(W + T(0.1) * noise);
    for (const Index batch : {1, 3, 64, 65, 150}) {
      CAPTURE(m, n, batch);
      const Matrix<T> X = random.matrix<T>(n, batch);
      Matrix<T> Y(m, batch);
      op.apply(X, Y);
      const Matrix<double> exact = W.template cast<double>() * X.template cast<double>();
      const double defined = (Y.template cast<double>() - exact).norm() / exact.norm();
      CHECK(apply_error(W, op, X) == Approx(defined).epsilon(1e-12));
      CHECK(apply_error(W, AnyOperator<T>(op), X) == apply_error(W, op, X));
      // Of W itself only the rounding of the product is left, which `relative_error` does not see.
      CHECK(apply_error(W, Dense<T>(W), X) <= (sizeof(T) == 4 ? 1e-5 : 1e-14));
      // Sizes whose squares overflow or vanish; a power of two changes no bit of it.
      const T large = T(sizeof(T) == 4 ? 0x1p60 : 0x1p500);
      CHECK(apply_error(W * large, Dense<T>(large * (W + T(0.1) * noise)), X) ==
            apply_error(W, op, X));
      CHECK(apply_error(W, op, Matrix<T>(X / large)) == apply_error(W, op, X));
    }
  }
}

TEST_CASE("the error of a call at its edges", "[error]") {
  const Matrix<float> W = Matrix<float>::Identity(3, 2);
  const Matrix<float> X = Matrix<float>::Ones(2, 4);
  const Matrix<float> none(2, 0);
  const Matrix<float> nothing = Matrix<float>::Zero(2, 4);
  CHECK(apply_error(W, Dense<float>(W), none) == 0);
  CHECK(apply_error(W, Dense<float>(W), nothing) == 0);
  CHECK(apply_error((0 * W).eval(), Dense<float>(W), X) == std::numeric_limits<double>::infinity());
  CHECK_THROWS_AS(apply_error(W, Dense<float>(W), Matrix<float>::Ones(3, 4).eval()),
                  std::invalid_argument);
  CHECK_THROWS_AS(apply_error(W, Dense<float>(Matrix<float>::Ones(2, 2)), X),
                  std::invalid_argument);
  Matrix<float> bad = X;
  bad(1, 2) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(apply_error(W, Dense<float>(W), bad),
                    Catch::Matchers::Contains("row 1, column 2"));
  // Finite inputs of which sums are not.
  Matrix<float> huge = Matrix<float>::Constant(2, 1, 3e38F);
  CHECK_FALSE(std::isfinite(apply_error(Matrix<float>::Ones(1, 2).eval(),
                                        Dense<float>(Matrix<float>::Ones(1, 2)), huge)));
}

}  // namespace pleat::test
