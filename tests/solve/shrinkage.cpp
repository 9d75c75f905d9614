// SPDX-License-Identifier: MIT
// How a calibration finds out how far it is to be trusted: its folds, and the closed form.
#include "pleat/solve/metric/shrinkage.hpp"

#include "compress/support.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <utility>

namespace pleat::test {
namespace {

using detail::CalibrationAccess;
using detail::closed_form_shrinkage;

template <Real T>
std::array<Calibration<T>, 2> folds_of(const Calibration<T>& calibration) {
  const auto folds = CalibrationAccess::folds(calibration);
  REQUIRE(folds.has_value());
  return *folds;
}

/// Ledoit and Wolf's estimate, from its definition: how far the samples' own x x^T are from their
/// mean, over how far that is from its diagonal.
double closed_form_by_hand(const Matrix<double>& X) {
  const auto count = static_cast<double>(X.cols());
  Matrix<double> mean = X * X.transpose() / count;
  mean.diagonal().setZero();
  double variance = 0;
  for (Index t = 0; t < X.cols(); ++t) {
    Matrix<double> one = X.col(t) * X.col(t).transpose();
    one.diagonal().setZero();
    variance += (one - mean).squaredNorm();
  }
  variance /= count * (count - 1);
  return std::clamp(variance / mean.squaredNorm(), 0.0, 1.0);
}

}  // namespace

TEMPLATE_TEST_CASE("the closed form is that of Ledoit and Wolf", "[shrinkage]", float, double) {
  Random random(501);
  for (const auto& [n, samples] :
       {std::pair<Index, Index>{7, 2}, {30, 5}, {30, 30}, {30, 31}, {16, 700}}) {
    CAPTURE(n, samples);
    const Matrix<TestType> X = correlated_inputs<TestType>(random, n, samples);
    const double exact = closed_form_by_hand(X.template cast<double>());
    for (const double scale : {1.0, 1e-6, 1e6}) {
      const auto calibration = calibration_of(Matrix<TestType>(X * TestType(scale)));
      CHECK(closed_form_shrinkage(calibration) == Approx(exact).epsilon(1e-4));
    }
  }
  CHECK(closed_form_shrinkage(calibration_of(random.matrix<TestType>(5, 1))) == 1);
  CHECK(closed_form_shrinkage(Calibration<TestType>(5)) == 0);
  CHECK(closed_form_shrinkage(calibration_of(Matrix<TestType>::Zero(5, 9))) == 0);
}

TEST_CASE("the closed form survives samples of any size", "[shrinkage]") {
  Random random(502);
  const Matrix<double> X = correlated_inputs<double>(random, 9, 40);
  const double exact = closed_form_by_hand(X);
  const double largest = X.cwiseAbs().maxCoeff();
  for (const double size : {1e150, 1e-140}) {
    const Matrix<double> scaled = X / largest * size;
    CHECK(closed_form_shrinkage(calibration_of(scaled)) == Approx(exact).epsilon(1e-6));
  }
}

TEST_CASE("from a Gram matrix alone, inputs count as Gaussian", "[shrinkage]") {
  Random random(503);
  const Matrix<double> mixing = random.matrix<double>(24, 24);
  for (const Index samples : {12, 48, 400}) {
    CAPTURE(samples);
    const auto seen = calibration_of(Matrix<double>(mixing * random.matrix<double>(24, samples)));
    const auto alone = Calibration<double>::from_gram(seen.gram(), samples);
    CHECK(closed_form_shrinkage(alone) == Approx(closed_form_shrinkage(seen)).epsilon(0.3));
  }
}

TEST_CASE("with many samples nothing is left to shrink", "[shrinkage]") {
  Random random(504);
  const Matrix<double> mixing = random.matrix<double>(20, 20);
  double before = 2;
  for (const Index samples : {10, 100, 1000, 10000}) {
    const auto calibration =
        calibration_of(Matrix<double>(mixing * random.matrix<double>(20, samples)));
    const double a = closed_form_shrinkage(calibration);
    CHECK(a < before / 2);
    before = a;
  }
  CHECK(before < 0.01);
}

TEST_CASE("what is set is what makers are told, and nothing else is", "[shrinkage]") {
  Calibration<float> calibration(4);
  CHECK(!calibration.shrinkage());
  for (const double a : {-0.1, 1.0, 2.0, std::nan("")})
    CHECK_THROWS_AS(calibration.shrinkage(a), std::invalid_argument);
  CHECK(!calibration.shrinkage());
  CHECK(&calibration.shrinkage(0.25) == &calibration);
  CHECK(calibration.shrinkage() == 0.25);
  calibration.add(Matrix<float>::Ones(4, 9));
  const auto never = [](const auto&) -> std::function<double(double)> {
    FAIL("there was nothing to choose");
    return {};
  };
  CHECK(detail::chosen_shrinkage(calibration, 1, {}, never) == 0.25);
  CHECK(detail::chosen_shrinkage(calibration.shrinkage(0), 1, {}, never) == 0);
  CHECK(folds_of(calibration)[0].shrinkage() == 0);
  Calibration<float> copy;
  copy = std::move(calibration);
  CHECK(copy.shrinkage() == 0);
}

TEST_CASE("the two folds share the samples in alternate blocks", "[shrinkage]") {
  const Index n = 24;
  for (const Index samples : {2, 3, 16, 24, 25, 64, 600}) {
    CAPTURE(samples);
    Random random(505);
    const Matrix<double> X = random.matrix<double>(n, samples);
    const auto calibration = calibration_of(X);
    auto folds = folds_of(calibration);
    CalibrationAccess::acquaint(folds);
    const Index block = std::max<Index>(1, (std::min)(n, samples) / 8);
    std::array<Matrix<double>, 2> grams{Matrix<double>::Zero(n, n), Matrix<double>::Zero(n, n)};
    std::array<Index, 2> counts{};
    for (Index t = 0; t < samples; ++t) {
      const auto fold = static_cast<std::size_t>(t / block % 2);
      grams[fold] += X.col(t) * X.col(t).transpose();
      ++counts[fold];
    }
    for (const std::size_t fold : {0U, 1U}) {
      CHECK(folds[fold].samples() == counts[fold]);
      CHECK(folds[fold].gram().isApprox(grams[fold], 1e-11));
      CHECK((folds[fold].held_samples().cols() > 0) == (samples <= n));
      // A fold and the other are the two folds of a fold.
      CHECK(folds_of(folds[fold])[1].samples() == counts[1 - fold]);
    }
  }
}

TEST_CASE("how samples are cut into calls does not change a bit of a fold", "[shrinkage]") {
  Random random(506);
  for (const Index samples : {20, 40, 41, 300, 1500}) {
    const Matrix<float> X = correlated_inputs<float>(random, 40, samples);
    Calibration<float> pieces(40);
    for (Index first = 0; first < samples;) {
      const Index count = (std::min)(samples - first, random.integer(0, 50));
      pieces.add(X.middleCols(first, count));
      first += count;
    }
    const auto whole = calibration_of(X);
    CHECK(closed_form_shrinkage(pieces) == closed_form_shrinkage(whole));
    for (const std::size_t fold : {0U, 1U})
      CHECK(folds_of(pieces)[fold].gram() == folds_of(whole)[fold].gram());
  }
}

TEST_CASE("folds are of like size whatever is merged, and share no sample", "[shrinkage]") {
  Random random(507);
  const Index n = 10;
  // Sample t has an input of its own: which fold has it can be read from the diagonal.
  const Matrix<double> X = Matrix<double>::Identity(n, n);
  for (const Index piece : {1, 3, 10}) {
    Calibration<double> all(n);
    Index total = 0;
    for (int i = 0; i < 40; ++i) {
      all.merge(calibration_of(Matrix<double>(X.leftCols(piece))));
      total += piece;
    }
    CAPTURE(piece);
    CHECK(all.samples() == total);
    const auto folds = folds_of(all);
    CHECK(folds[0].samples() + folds[1].samples() == total);
    CHECK(std::abs(folds[0].samples() - folds[1].samples()) <= total / 4);
    const Vector<double> shared = folds[0].gram().diagonal() + folds[1].gram().diagonal();
    CHECK((shared - all.gram().diagonal()).norm() <= 1e-12 * double(total));
  }
  // Added to themselves, folds still share nothing.
  auto twice = calibration_of(random.matrix<double>(n, 100));
  const auto before = folds_of(twice);
  const Calibration<double> same = twice;
  twice.merge(same);
  CHECK(folds_of(twice)[0].gram().isApprox(2 * before[0].gram(), 1e-12));
}

TEST_CASE("where samples are not kept apart there are no folds", "[shrinkage]") {
  Random random(508);
  const Matrix<double> X = random.matrix<double>(6, 50);
  const auto has = [](const Calibration<double>& calibration) {
    return CalibrationAccess::folds(calibration).has_value();
  };
  Calibration<double> one(6, Folds::one);
  one.add(X);
  CHECK(!has(one));
  CHECK(one.gram() == calibration_of(X).gram());
  auto gram = Calibration<double>::from_gram(one.gram(), 50);
  CHECK(!has(gram));
  gram.add(X);
  CHECK(!has(gram));
  CHECK(!has(Calibration<double>()));
  CHECK(!has(Calibration<double>(6)));
  CHECK(!has(calibration_of(X.leftCols(1))));
  CHECK(has(calibration_of(X.leftCols(2))));
  auto mixed = calibration_of(X);
  CHECK(has(mixed));
  mixed.merge(one);
  CHECK(!has(mixed));
  CHECK_THROWS_AS(Calibration<double>(6, static_cast<Folds>(7)), std::invalid_argument);
  CHECK(detail::chosen_shrinkage(one, 1, {}, [](const auto&) {
          return std::function<double(double)>();
        }) == closed_form_shrinkage(one));
}

TEST_CASE("the search finds the valley of the loss, and halves it for twice the samples",
          "[shrinkage]") {
  Random random(509);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 12, 400));
  for (const double valley : {0.0, 0.002, 0.05, 0.5}) {
    CAPTURE(valley);
    const auto stand_in = [&](const auto&) {
      return std::function<double(double)>(
          [=](double a) { return 1 + std::pow(std::log((a + 1e-3) / (valley + 1e-3)), 2); });
    };
    const double a = detail::chosen_shrinkage(calibration, 1, {}, stand_in);
    const double odds = valley / (1 - valley) / 2;
    CHECK(std::abs(std::log((a + 1e-3) / (odds / (1 + odds) + 1e-3))) < 0.5);
  }
  // A loss that does not care leaves the closed form.
  const double flat = detail::chosen_shrinkage(calibration, 1, {}, [](const auto&) {
    return std::function<double(double)>([](double) { return 1.0; });
  });
  CHECK(flat == Approx(closed_form_shrinkage(calibration)).epsilon(0.3));
  // Stopped at once, too.
  int told = 0;
  const double stopped = detail::chosen_shrinkage(
      calibration, 1,
      [&](const Progress& now) {
        CHECK(now.phase == "shrinkage");
        return ++told < 0;
      },
      [](const auto&) { return std::function<double(double)>([](double a) { return 1 - a; }); });
  CHECK(told == 1);
  CHECK(stopped == Approx(flat).epsilon(1e-12));
}

TEST_CASE("few samples say little of the sizes of inputs", "[shrinkage]") {
  Random random(510);
  const auto spread = [](const Calibration<double>& calibration) {
    const Vector<double> d = calibration.gram().diagonal() / double(calibration.samples());
    return (d.maxCoeff() - d.minCoeff()) / d.mean();
  };
  const Matrix<double> white = random.matrix<double>(40, 10);
  const auto steady = detail::steadied(calibration_of(white));
  REQUIRE(steady.has_value());
  CHECK(spread(calibration_of(white)) > 1);
  CHECK(spread(*steady) < 0.3);
  CHECK(steady->gram().trace() == Approx(calibration_of(white).gram().trace()));
  // Inputs that differ by far are left as they are, and dead ones dead.
  Matrix<double> uneven = white;
  for (Index i = 0; i < 40; ++i) uneven.row(i) *= std::exp2(double(i % 5));
  uneven.row(7).setZero();
  const auto other = detail::steadied(calibration_of(uneven));
  REQUIRE(other.has_value());
  CHECK(spread(*other) > 0.7 * spread(calibration_of(uneven)));
  CHECK(other->gram().row(7).isZero(0));
  // Not with many samples an input, nor where one says how to shrink.
  CHECK(!detail::steadied(calibration_of(random.matrix<double>(8, 65))));
  CHECK(!detail::steadied(calibration_of(white).shrinkage(0)));
}

}  // namespace pleat::test
