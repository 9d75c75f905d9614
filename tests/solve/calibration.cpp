// SPDX-License-Identifier: MIT
// Calibration: streaming, merging, and everything that it must refuse.
#include "pleat/solve/metric/calibration.hpp"

#include "compress/support.hpp"
#include "pleat/solve/metric/shrinkage.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace pleat::test {

TEMPLATE_TEST_CASE("the Gram matrix and the mean are those of the samples", "[calibration]", float,
                   double) {
  Random random(1);
  const Index n = GENERATE(1, 2, 17, 40);
  const Index samples = GENERATE(1, 3, 39, 40, 41, 700);
  const Matrix<TestType> X = correlated_inputs<TestType>(random, n, samples);
  Calibration<TestType> calibration(n);
  calibration.add(X);
  const Matrix<double> exact = X.template cast<double>();
  const Matrix<double> gram = exact * exact.transpose();
  CHECK(calibration.inputs() == n);
  CHECK(calibration.samples() == samples);
  // Sums of products of floats are exact in double but for the last bits of the sum.
  CHECK((calibration.gram() - gram).norm() <= 1e-13 * gram.norm());
  CHECK((calibration.mean() - exact.rowwise().mean()).norm() <= 1e-13 * exact.norm());
  CHECK(calibration.gram() == calibration.gram().transpose());
}

TEST_CASE("how samples are cut into calls does not change a bit", "[calibration]") {
  Random random(2);
  const Index n = 23;
  const Matrix<float> X = correlated_inputs<float>(random, n, 300);
  Calibration<float> whole(n);
  whole.add(X);
  Calibration<float> pieces(n);
  for (Index first = 0; first < X.cols();) {
    const Index count = std::min(X.cols() - first, random.integer(0, 60));
    pieces.add(X.middleCols(first, count));
    first += count;
  }
  CHECK(pieces.samples() == 300);
  CHECK(pieces.gram() == whole.gram());
  CHECK(pieces.mean() == whole.mean());
}

TEST_CASE("merging is adding the other's samples", "[calibration]") {
  Random random(3);
  const Index n = 12;
  for (const Index left : {0, 5, 12, 100})
    for (const Index right : {0, 4, 12, 90}) {
      INFO(left << " and " << right << " samples");
      const Matrix<double> X = correlated_inputs<double>(random, n, left + right);
      Calibration<double> a(n);
      Calibration<double> b(n);
      Calibration<double> both(n);
      a.add(X.leftCols(left));
      b.add(X.rightCols(right));
      both.add(X);
      a.merge(b);
      CHECK(a.samples() == left + right);
      CHECK((a.gram() - both.gram()).norm() <= 1e-12 * both.gram().norm());
      if (left + right > 0) CHECK((a.mean() - both.mean()).norm() <= 1e-12 * X.norm());
    }
  Calibration<double> other(n + 1);
  Calibration<double> calibration(n);
  CHECK_THROWS_WITH(calibration.merge(other), Catch::Contains("12") && Catch::Contains("13"));
}

TEST_CASE("calibrations merge whatever they hold", "[calibration]") {
  Random random(306);
  const Matrix<float> X = random.matrix<float>(600, 1300);
  const Matrix<double> wide = X.cast<double>();
  for (const Index cut : {5, 550, 599, 600, 700}) {
    CAPTURE(cut);
    Calibration<float> a = calibration_of(X.leftCols(cut));
    a.merge(calibration_of(X.rightCols(1300 - cut)));
    CHECK(a.samples() == 1300);
    CHECK(a.gram().isApprox(wide * wide.transpose(), 1e-12));
    CHECK(a.mean().isApprox(wide.rowwise().mean(), 1e-12));
    a.add(X.leftCols(520));
    CHECK(a.samples() == 1820);
    CHECK(a.gram().isApprox(
        wide * wide.transpose() + wide.leftCols(520) * wide.leftCols(520).transpose(), 1e-12));
  }
  Calibration<float> self = calibration_of(X);
  const Calibration<float>& same = self;
  self.merge(same);
  CHECK(self.samples() == 2600);
  CHECK(self.gram().isApprox(2 * wide * wide.transpose(), 1e-12));

  Calibration<double> full =
      Calibration<double>::from_gram(Matrix<double>::Constant(1, 1, 1e308), 1);
  CHECK_THROWS_AS(full.merge(full), std::invalid_argument);
  CHECK(full.samples() == 1);
  CHECK(full.gram()(0, 0) == 1e308);
}

TEST_CASE("what a calibration was moved from is none", "[calibration]") {
  Random random(307);
  Calibration<float> a = calibration_of(random.matrix<float>(4, 9));
  const Matrix<double> gram = a.gram();
  Calibration<float> b = std::move(a);
  CHECK(b.gram() == gram);
  CHECK(a.inputs() == 0);  // NOLINT(bugprone-use-after-move)
  CHECK(a.samples() == 0);
  CHECK(a.gram().size() == 0);
  CHECK(a.held_samples().size() == 0);
  a = std::move(b);
  CHECK(a.gram() == gram);
  CHECK(b.samples() == 0);  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("samples that no calibration can take are refused", "[calibration]") {
  Calibration<float> none;
  CHECK_THROWS_AS(none.add(Matrix<float>(0, 5)), std::invalid_argument);
  CHECK_THROWS_AS(none.add(Matrix<float>(3, 5)), std::invalid_argument);
  Calibration<double> calibration(2);
  CHECK_THROWS_AS(calibration.add(Matrix<double>::Constant(2, 1, 1.1e150)), std::invalid_argument);
  CHECK(calibration.samples() == 0);
  calibration.add(Matrix<double>::Constant(2, 1, 1e150));
  CHECK(is_finite(calibration.gram()(0, 0)));
}

TEST_CASE("samples are held while they are fewer than inputs", "[calibration]") {
  Random random(4);
  const Matrix<float> X = random.matrix<float>(9, 12);
  Calibration<float> calibration(9);
  calibration.add(X.leftCols(4));
  CHECK(calibration.held_samples() == X.leftCols(4));
  calibration.add(X.middleCols(4, 5));
  CHECK(calibration.held_samples() == X.leftCols(9));
  calibration.add(X.rightCols(3));
  CHECK(calibration.held_samples().cols() == 0);
}

TEMPLATE_TEST_CASE("of pairs there are the moments of their difference, of all and of each fold",
                   "[calibration]", float, double) {
  using Access = detail::CalibrationAccess;
  Random random(308);
  for (const Index n : {1, 9, 600})
    for (const Index samples : {1, 8, 9, 10, 70, 1300}) {
      if (n == 600 && samples < 70) continue;
      CAPTURE(n, samples);
      const Matrix<TestType> X = random.matrix<TestType>(n, samples);
      const Matrix<TestType> compressed = random.matrix<TestType>(n, samples);
      Calibration<TestType> calibration(n);
      calibration.add(X, compressed);
      const Matrix<double> delta = X.template cast<double>() - compressed.template cast<double>();
      const auto check = [](const auto& of, const Matrix<double>& difference,
                            const Matrix<double>& rest) {
        const auto cross = Access::cross_moment(of);
        const double size = difference.squaredNorm() + rest.squaredNorm();
        CHECK((cross.D - difference * rest.transpose()).norm() <= 1e-13 * size);
        CHECK((cross.Q - difference * difference.transpose()).norm() <= 1e-13 * size);
        CHECK(cross.Q == cross.Q.transpose());
        const Matrix<double> before = difference + rest;
        CHECK((Access::originals(of).gram() - before * before.transpose()).norm() <= 1e-13 * size);
        CHECK(Access::compressed(of).gram() == of.gram());
        CHECK_FALSE(Access::compressed(of).paired());
      };
      check(calibration, delta, compressed.template cast<double>());
      CHECK(Access::differs(calibration));
      CHECK((Access::differences(calibration).cols() == samples) == (samples <= n));
      auto folds = Access::folds(calibration);
      REQUIRE(folds.has_value() == (samples > 1));
      if (!folds) continue;
      const Index block = std::clamp<Index>(std::min(n, samples) / 8, 1, 64);
      std::vector<Index> places[2];
      for (Index t = 0; t < samples; ++t) places[t / block % 2].push_back(t);
      Access::acquaint(*folds);
      for (const std::size_t k : {0U, 1U}) {
        check((*folds)[k], delta(Eigen::all, places[k]),
              compressed(Eigen::all, places[k]).template cast<double>());
        const auto again = Access::folds(Access::compressed((*folds)[k]));
        REQUIRE(again.has_value());
        CHECK_FALSE((*again)[0].paired());
        CHECK_FALSE((*again)[1].paired());
        CHECK((*again)[1].gram() == (*folds)[1 - k].gram());
      }
    }
}

TEST_CASE("an input that one fold never sees has no moment there", "[calibration]") {
  Random random(309);
  const Index n = 16;
  Matrix<double> X = random.matrix<double>(n, 40);
  Matrix<double> compressed = random.matrix<double>(n, 40);
  for (Index t = 0; t < 40; ++t)
    if (t / 2 % 2 == 1) compressed(3, t) = 0;
  Calibration<double> calibration(n);
  calibration.add(X, compressed);
  const auto folds = detail::CalibrationAccess::folds(calibration);
  REQUIRE(folds.has_value());
  CHECK((*folds)[1].gram()(3, 3) == 0);
  CHECK(detail::CalibrationAccess::cross_moment((*folds)[1]).D.col(3).isZero(0));
  CHECK_FALSE(detail::CalibrationAccess::cross_moment((*folds)[0]).D.col(3).isZero(0));
  CHECK_FALSE(detail::CalibrationAccess::cross_moment((*folds)[1]).D.row(3).isZero(0));
}

TEST_CASE("a Gram matrix can be given", "[calibration]") {
  Random random(5);
  const Matrix<double> X = random.matrix<double>(6, 20);
  const Matrix<double> G = X * X.transpose();
  const auto from_double = Calibration<float>::from_gram(G, 20);
  CHECK(from_double.samples() == 20);
  CHECK((from_double.gram() - G).norm() <= 1e-15 * G.norm());
  const auto from_float = Calibration<float>::from_gram(G.cast<float>(), 20, X.rowwise().mean());
  CHECK((from_float.gram() - G).norm() <= 1e-6 * G.norm());
  CHECK((from_float.mean() - X.rowwise().mean()).norm() <= 1e-14);
  CHECK_THROWS_AS(from_double.mean(), std::invalid_argument);
  auto more = from_float;
  more.add(X.cast<float>());
  CHECK(more.samples() == 40);
  CHECK((more.gram() - 2 * G).norm() <= 1e-6 * G.norm());
  CHECK((more.mean() - X.rowwise().mean()).norm() <= 1e-6);
}

TEST_CASE("a Gram matrix that is none is refused", "[calibration]") {
  using C = Calibration<double>;
  Matrix<double> G = Matrix<double>::Identity(3, 3);
  CHECK_THROWS_WITH(C::from_gram(Matrix<double>::Identity(3, 2), 1), Catch::Contains("3 x 2"));
  CHECK_THROWS_AS(C::from_gram(Matrix<double>(0, 0), 1), std::invalid_argument);
  CHECK_THROWS_AS(C::from_gram(G, 0), std::invalid_argument);
  G(1, 2) = 0.5;
  CHECK_THROWS_WITH(C::from_gram(G, 1), Catch::Contains("symmetric"));
  G(2, 1) = 0.5;
  CHECK_NOTHROW(C::from_gram(G, 1));
  G(1, 2) = G(2, 1) = 1.5;  // more than two variances allow
  CHECK_THROWS_AS(C::from_gram(G, 1), std::invalid_argument);
  G(1, 2) = G(2, 1) = 0;
  G(0, 0) = -1;
  CHECK_THROWS_AS(C::from_gram(G, 1), std::invalid_argument);
  G(0, 0) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(C::from_gram(G, 1), Catch::Contains("row 0, column 0"));
}

TEST_CASE("bad samples are refused and change nothing", "[calibration]") {
  Calibration<float> calibration(3);
  calibration.add(Matrix<float>::Ones(3, 2));
  const Matrix<double> before = calibration.gram();
  Matrix<float> X = Matrix<float>::Ones(3, 4);
  X(1, 2) = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(calibration.add(X), Catch::Contains("row 1, column 2"));
  CHECK_THROWS_WITH(calibration.add(Matrix<float>::Ones(4, 2)),
                    Catch::Contains("3") && Catch::Contains("4 x 2"));
  CHECK_THROWS_AS(Calibration<float>(0), std::invalid_argument);
  CHECK_THROWS_AS(Calibration<float>(-2), std::invalid_argument);
  CHECK(calibration.samples() == 2);
  CHECK(calibration.gram() == before);
  calibration.add(Matrix<float>(3, 0));
  CHECK(calibration.samples() == 2);
}

TEST_CASE("weights of the outputs are checked", "[calibration]") {
  Calibration<double> calibration(2);
  Vector<double> w(3);
  w << 1, 0, 2;
  CHECK(calibration.row_weights(w).row_weights() == w);
  CHECK_NOTHROW(calibration.require_fit(3, 2));
  CHECK_THROWS_WITH(calibration.require_fit(4, 2),
                    Catch::Contains("3 outputs") && Catch::Contains("4 x 2"));
  CHECK_THROWS_WITH(calibration.require_fit(3, 5),
                    Catch::Contains("2 inputs") && Catch::Contains("3 x 5"));
  w << 1, -1, 2;
  CHECK_THROWS_AS(calibration.row_weights(w), std::invalid_argument);
  w.setZero();
  CHECK_THROWS_AS(calibration.row_weights(w), std::invalid_argument);
  w(1) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(calibration.row_weights(w), std::invalid_argument);
  CHECK_THROWS_AS(calibration.output_metric(Matrix<double>::Ones(2, 3)), std::invalid_argument);
  CHECK_THROWS_AS(calibration.output_metric(Matrix<double>::Zero(3, 3)), std::invalid_argument);
  CHECK(calibration.row_weights().size() == 3);
  calibration.output_metric(Matrix<double>::Identity(3, 3));
  CHECK(calibration.row_weights().size() == 0);
  CHECK(calibration.output_metric().rows() == 3);
}

}  // namespace pleat::test
