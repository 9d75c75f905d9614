// SPDX-License-Identifier: MIT
// The error to expect on inputs that were not seen.
#include "pleat/compress/cross_validate.hpp"

#include "compress/support.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>

namespace pleat::test {

TEMPLATE_TEST_CASE("cross-validation fits one fold and judges by the other, both ways",
                   "[cross_validate]", float, double) {
  using T = TestType;
  Random random(701);
  const Index n = 40;
  for (const Index m : {9, 60})
    for (const Index samples : {2, 17, 40, 41, 300}) {
      CAPTURE(m, samples);
      const Matrix<T> W = random.matrix<T>(m, n);
      const Matrix<T> X = correlated_inputs<T>(random, n, samples);
      const Vector<double> weights = random.matrix<double>(m, 1).cwiseAbs();
      const auto calibration = calibration_of(X).shrinkage(0.1).row_weights(weights);
      const Index block = std::max<Index>(1, (std::min)(n, samples) / 8);
      Calibration<T> folds[] = {Calibration<T>(n), Calibration<T>(n)};
      for (Index t = 0; t < samples; ++t) folds[t / block % 2].add(X.col(t));
      double loss = 0;
      double total = 0;
      for (const int k : {0, 1}) {
        folds[k].shrinkage(0.1).row_weights(weights);
        const Matrix<double> What = compress<LowRank>(W, keep(0.5), folds[k], {.seed = 3})
                                        .to_dense()
                                        .template cast<double>();
        const Matrix<double> G = folds[1 - k].gram();
        const Matrix<double> wide = W.template cast<double>();
        const auto norm = [&](const Matrix<double>& D) {
          return (weights.asDiagonal() * D * G).cwiseProduct(D).sum();
        };
        loss += norm(wide - What);
        total += norm(wide);
      }
      CHECK(cross_validate<LowRank>(W, keep(0.5), calibration, {.seed = 3}) ==
            Approx(std::sqrt(loss / total)).epsilon(sizeof(T) == 4 ? 1e-3 : 1e-8));
    }
}

TEST_CASE("what is expected of unseen inputs is what they show", "[cross_validate]") {
  Random random(702);
  const Index n = 48;
  Matrix<double> A = random.matrix<double>(n, n);
  for (Index j = 0; j < n; ++j) A.col(j) *= std::pow(1.0 + double(j), -0.6);
  const auto all = Calibration<double>::from_gram(A * A.transpose(), 1);
  const Matrix<double> W = random.matrix<double>(32, n);
  for (const Index samples : {40, 100, 400}) {
    CAPTURE(samples);
    const Matrix<double> X = A * random.matrix<double>(n, samples);
    const auto calibration = calibration_of(X);
    const auto op = compress<LowRank>(W, keep(0.5), calibration);
    const double expected = cross_validate<LowRank>(W, keep(0.5), calibration);
    CHECK(expected > relative_error(W, op, calibration));
    // That of a fit to half of the samples, from which all of them are not far.
    const auto half = compress<LowRank>(W, keep(0.5), calibration_of(X.leftCols(samples / 2)));
    CHECK(expected == Approx(relative_error(W, half, all)).epsilon(0.1));
    CHECK(expected == Approx(relative_error(W, op, all)).epsilon(0.2));
    // Nor does it depend on the sizes of things.
    CHECK(cross_validate<LowRank>(0x1p-30 * W, keep(0.5), calibration) == expected);
  }
}

TEST_CASE("rounded activations are part of what is expected, where samples are held",
          "[cross_validate]") {
  Random random(703);
  const Matrix<float> W = random.matrix<float>(60, 96);
  const Matrix<float> X = random.matrix<float>(96, 40);
  const Vector<double> weights = random.matrix<double>(60, 1).cwiseAbs();
  using Options = Dense<float>::Options;
  const auto expected = [&](const Calibration<float>& calibration, Activations activations) {
    return cross_validate<Dense>(W, pleat::keep(1), calibration,
                                 Options{.storage = Storage::int8, .activations = activations});
  };
  for (const bool weighted : {false, true}) {
    auto calibration = calibration_of(X);
    if (weighted) calibration.row_weights(weights);
    REQUIRE(calibration.held_samples().size() > 0);
    const double native = expected(calibration, Activations::native);
    CHECK(expected(calibration, Activations::int16) == Approx(native).epsilon(1e-2));
    const double rounded = expected(calibration, Activations::int8);
    CHECK(rounded > 1.1 * native);
    CHECK(rounded < 4 * native);
  }
}

TEST_CASE("where there are no two folds there is nothing to validate by", "[cross_validate]") {
  Random random(703);
  const Matrix<double> W = random.matrix<double>(6, 8);
  const Matrix<double> X = random.matrix<double>(8, 30);
  const auto refused = [&](const Calibration<double>& calibration) {
    CHECK_THROWS_WITH(cross_validate<LowRank>(W, keep(1), calibration), Catch::Contains("folds"));
  };
  refused({});
  refused(Calibration<double>(8));
  refused(calibration_of(X.leftCols(1)));
  refused(Calibration<double>::from_gram(X * X.transpose(), 30));
  Calibration<double> one(8, Folds::one);
  one.add(X);
  refused(one);
  const auto calibration = calibration_of(X);
  CHECK_THROWS_AS(cross_validate<LowRank>(Matrix<double>(0, 8), keep(1), calibration),
                  std::invalid_argument);
  CHECK_THROWS_AS(cross_validate<LowRank>(random.matrix<double>(6, 9), keep(1), calibration),
                  std::invalid_argument);
  CHECK_THROWS_AS(cross_validate<LowRank>(W, bytes(8), calibration), std::invalid_argument);
  // Nothing to lose is lost.
  CHECK(cross_validate<LowRank>(Matrix<double>::Zero(6, 8), keep(1), calibration) == 0);
}

}  // namespace pleat::test
