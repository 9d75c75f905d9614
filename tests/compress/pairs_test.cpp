// SPDX-License-Identifier: MIT
// Pairs of layers with fewer hidden units: least squares, the order of the greedy choice, budgets.
#include "pleat/compress/pairs.hpp"

#include "compress/support.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;
using Units = std::vector<Index>;

constexpr UnitSelection unit_selections[] = {UnitSelection::greedy, UnitSelection::leverage,
                                             UnitSelection::energy};

/// A pair of layers, and what its units say: relu(W1 x + b1).
template <Real T>
struct PairCase {
  Matrix<T> W1;
  Vector<T> b1;
  Matrix<T> W2;
  Matrix<T> H;
};
template <Real T>
PairCase<T> pair_case(Random& random, Index n, Index units, Index m, Index samples) {
  PairCase<T> made;
  made.W1 = random.matrix<T>(units, n);
  made.b1 = random.matrix<T>(units, 1);
  made.W2 = random.matrix<T>(m, units);
  // Units of many sizes.
  for (Index j = 0; j < units; ++j) made.W2.col(j) *= static_cast<T>(random.uniform(0.1, 2));
  const Matrix<T> X = correlated_inputs<T>(random, n, samples);
  made.H = ((made.W1 * X).colwise() + made.b1).cwiseMax(T(0));
  return made;
}

Matrix<double> pair_gram(const Matrix<double>& H) { return H * H.transpose(); }

/// W2' with zeros in the places of the units that were dropped.
template <class Made>
Matrix<double> pair_spread(const Made& made, Index units) {
  Matrix<double> all = Matrix<double>::Zero(made.W2.rows(), units);
  all(Eigen::all, made.units) = made.W2.template cast<double>();
  return all;
}

/// || P^(1/2) (W2 h - W2' h_J) || / || P^(1/2) W2 h ||.
template <class Made>
double pair_error(const Made& made, const Matrix<double>& W2, const Matrix<double>& H,
                  const Matrix<double>& root = {}) {
  Matrix<double> lost = (W2 - pair_spread(made, W2.cols())) * H;
  Matrix<double> whole = W2 * H;
  if (root.size() > 0) {
    lost = root * lost;
    whole = root * whole;
  }
  return lost.norm() / whole.norm();
}

/// The least squares loss of units J, from nothing but its definition.
double pair_loss(const Matrix<double>& V, const Matrix<double>& C, const Units& J) {
  const Matrix<double> B = V * C(Eigen::all, J);
  const Matrix<double> CJJ = C(J, J);
  const Matrix<double> inverse = CJJ.completeOrthogonalDecomposition().pseudoInverse();
  return (V * C * V.transpose()).trace() - (B * inverse * B.transpose()).trace();
}

/// The greedy choice, each step from scratch.
Units pair_oracle(const Matrix<double>& V, const Matrix<double>& C, Index count) {
  Units J;
  while (std::ssize(J) < count) {
    Index best = -1;
    double least = std::numeric_limits<double>::infinity();
    for (Index j = 0; j < C.rows(); ++j) {
      if (std::find(J.begin(), J.end(), j) != J.end()) continue;
      Units more = J;
      more.push_back(j);
      const double loss = pair_loss(V, C, more);
      if (loss < least) {
        least = loss;
        best = j;
      }
    }
    J.push_back(best);
  }
  std::sort(J.begin(), J.end());
  return J;
}

Units pair_first_units(Index count) {
  Units all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), Index{0});
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("a pair that keeps all units is the old one", "[pairs]", float, double) {
  using T = TestType;
  Random random(701);
  for (const auto& [n, units, m] :
       {std::tuple<Index, Index, Index>{1, 1, 1}, {7, 1, 3}, {1, 13, 1}, {5, 12, 31}, {31, 12, 1}})
    for (const Index samples : {0, 2, 50}) {
      CAPTURE(n, units, m, samples);
      const auto layers = pair_case<T>(random, n, units, m, samples);
      const auto hidden = calibration_of(layers.H);
      for (const auto& made :
           {compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1)),
            compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(7)),
            compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1), {.units = units})}) {
        CHECK(made.units == pair_first_units(units));
        CHECK(made.W1 == layers.W1);
        CHECK(made.b1 == layers.b1);
        CHECK(made.W2 == layers.W2);
        CHECK(made.bytes() == sizeof(T) * static_cast<std::size_t>(units * (n + 1 + m)));
      }
    }
}

TEMPLATE_TEST_CASE("the second layer is the least squares for the kept units", "[pairs]", float,
                   double) {
  using T = TestType;
  const double rounding = std::same_as<T, float> ? 2e-5 : 1e-9;
  Random random(702);
  for (const Index samples : {5, 24, 200})  // singular Gram matrices as well
    for (const UnitSelection selection : unit_selections)
      for (const Index count : {1, 3, 11, 23}) {
        CAPTURE(samples, static_cast<int>(selection), count);
        const auto layers = pair_case<T>(random, 9, 24, 7, samples);
        const auto hidden = exact_calibration(layers.H);
        const auto made = compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1),
                                        {.units = count, .selection = selection});
        REQUIRE(std::ssize(made.units) == count);
        CHECK(std::is_sorted(made.units.begin(), made.units.end()));
        CHECK(std::adjacent_find(made.units.begin(), made.units.end()) == made.units.end());
        CHECK(made.W1 == Matrix<T>(layers.W1(made.units, Eigen::all)));
        CHECK(made.b1 == Vector<T>(layers.b1(made.units)));
        const Matrix<double> H = layers.H.template cast<double>();
        const Matrix<double> W2 = layers.W2.template cast<double>();
        const Matrix<double> left = (W2 - pair_spread(made, 24)) * H;
        const Matrix<double> kept = H(made.units, Eigen::all);
        CHECK((left * kept.transpose()).norm() <= rounding * (W2 * H).norm() * kept.norm());
      }
}

TEST_CASE("the greedy choice is that of trying each unit at each step", "[pairs]") {
  Random random(703);
  for (const auto& [n, units, m] :
       {std::tuple<Index, Index, Index>{4, 17, 5}, {8, 12, 1}, {6, 9, 23}}) {
    const auto layers = pair_case<double>(random, n, units, m, 80);
    const Matrix<double> C = pair_gram(layers.H);
    auto hidden = exact_calibration(layers.H);
    const Matrix<double> B = random.matrix<double>(m, m);
    const Vector<double> weights = (random.matrix<double>(m, 1).array() + 1.1).matrix();
    for (const int metric : {0, 1, 2}) {
      Matrix<double> root = Matrix<double>::Identity(m, m);
      if (metric == 1) {
        hidden.row_weights(weights);
        root = weights.cwiseSqrt().asDiagonal();
      }
      if (metric == 2) {
        hidden.output_metric(B * B.transpose());
        root = B.transpose();
      }
      for (const Index count : {1, 2, 5, 8}) {
        CAPTURE(n, units, m, metric, count);
        const auto made =
            compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1), {.units = count});
        CHECK(made.units == pair_oracle(root * layers.W2, C, count));
        const double loss = pair_loss(root * layers.W2, C, made.units);
        CHECK(pair_error(made, layers.W2, layers.H, root) ==
              Approx(std::sqrt(loss) / (root * layers.W2 * layers.H).norm()).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("the greedy choice stays exact over many steps", "[pairs]") {
  Random random(704);
  const Index units = 190;
  const auto layers = pair_case<double>(random, 40, units, 11, 900);
  const Matrix<double> C = pair_gram(layers.H);
  const Matrix<double>& V = layers.W2;
  // The Schur complement from scratch at each step.
  Units J;
  for (Index step = 0; step < 170; ++step) {
    const Matrix<double> CJ = C(Eigen::all, J);
    const Matrix<double> CJJ = C(J, J);
    Matrix<double> R = C;
    if (step > 0) R -= CJ * CJJ.llt().solve(CJ.transpose());
    const Matrix<double> P = V * R;
    Index best = -1;
    double most = 0;
    for (Index j = 0; j < units; ++j)
      if (std::find(J.begin(), J.end(), j) == J.end() && P.col(j).squaredNorm() > most * R(j, j)) {
        most = P.col(j).squaredNorm() / R(j, j);
        best = j;
      }
    J.push_back(best);
  }
  detail::GreedyUnits greedy(C, V, detail::dependent_share<double>(units));
  detail::ProgressReport silent({});
  CHECK(greedy.total() == Approx((V * C * V.transpose()).trace()));
  double before = greedy.total();
  for (const Index count : {1, 63, 64, 65, 128, 150, 170}) {
    greedy.take(count, -1, silent);
    CAPTURE(count);
    REQUIRE(greedy.order() == Units(J.begin(), J.begin() + count));
    CHECK(greedy.loss() < before);
    before = greedy.loss();
    CHECK(before == Approx(pair_loss(V, C, greedy.order())).epsilon(1e-7));
  }
  const auto made =
      compress_pair(layers.W1, layers.b1, V, exact_calibration(layers.H), keep(1), {.units = 170});
  Units sorted = J;
  std::sort(sorted.begin(), sorted.end());
  CHECK(made.units == sorted);
}

TEST_CASE("a small pair by hand", "[pairs][golden]") {
  Matrix<double> C(3, 3);
  C << 1, 0.9, 0,  //
      0.9, 1, 0,   //
      0, 0, 1.2;
  const auto hidden = Calibration<double>::from_gram(C, 100).shrinkage(0);
  const Matrix<double> W1 = Matrix<double>::Identity(3, 3);
  const Matrix<double> W2 = Matrix<double>::Ones(1, 3);
  // The first unit takes 1.9^2 = 3.61 of 5 off, the third 1.2^2 / 1.2.
  const auto one = compress_pair(W1, Vector<double>(), W2, hidden, keep(1), {.units = 1});
  CHECK(one.units == Units{0});
  CHECK(one.W2(0, 0) == Approx(1.9).epsilon(1e-14));
  CHECK(one.b1.size() == 0);
  const auto two = compress_pair(W1, Vector<double>(), W2, hidden, keep(1), {.units = 2});
  CHECK(two.units == Units{0, 2});
  CHECK(two.W2.isApprox((Matrix<double>(1, 2) << 1.9, 1).finished(), 1e-14));
  // What is left is 0.19 of 5.
  CHECK(compress_pair(W1, Vector<double>(), W2, hidden, error(0.19494)).units.size() == 2);
  CHECK(compress_pair(W1, Vector<double>(), W2, hidden, error(0.19493)).units.size() == 3);
  const auto energy = compress_pair(W1, Vector<double>(), W2, hidden, keep(1),
                                    {.units = 1, .selection = UnitSelection::energy});
  CHECK(energy.units == Units{2});
  CHECK(energy.W2(0, 0) == Approx(1).epsilon(1e-14));
  // The leading eigenvectors are (1, 1, 0) of 1.9, then (0, 0, 1) of 1.2.
  const auto leverage = compress_pair(W1, Vector<double>(), W2, hidden, keep(1),
                                      {.units = 2, .selection = UnitSelection::leverage});
  CHECK(leverage.units[1] == 2);
  CHECK(leverage.W2(0, 0) == Approx(1.9).epsilon(1e-14));
}

TEST_CASE("the pair that Gaussian elimination in another language finds", "[pairs][golden]") {
  const Matrix<double> W1 = Matrix<double>::Identity(16, 16);
  const Matrix<double> W2 = golden_weight();
  const auto hidden = golden_calibration();
  const auto check = [&](Index count, UnitSelection selection, const Units& units,
                         double expected) {
    const auto made = compress_pair(W1, Vector<double>(), W2, hidden, keep(1),
                                    {.units = count, .selection = selection});
    CHECK(made.units == units);
    const Dense<double> spread(pair_spread(made, 16));
    CHECK(relative_error(W2, spread, hidden) == Approx(expected).epsilon(1e-10));
  };
  check(1, UnitSelection::greedy, {13}, 0.901748997679);
  check(4, UnitSelection::greedy, {0, 6, 12, 13}, 0.691684514799);
  check(9, UnitSelection::greedy, {0, 1, 5, 6, 7, 11, 12, 13, 14}, 0.389564948735);
  check(12, UnitSelection::greedy, {0, 1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 14}, 0.235633586649);
  check(4, UnitSelection::energy, {0, 7, 12, 13}, 0.711078343524);
}

TEST_CASE("leverage scores are those of the leading eigenvectors", "[pairs]") {
  Random random(705);
  const auto layers = pair_case<double>(random, 12, 30, 5, 200);
  const Eigen::SelfAdjointEigenSolver<Matrix<double>> solver(pair_gram(layers.H));
  for (const Index count : {1, 4, 10}) {
    const Vector<double> scores = solver.eigenvectors().rightCols(count).rowwise().squaredNorm();
    Units expected = pair_first_units(30);
    std::sort(expected.begin(), expected.end(),
              [&](Index i, Index j) { return scores(i) > scores(j); });
    expected.resize(static_cast<std::size_t>(count));
    std::sort(expected.begin(), expected.end());
    CHECK(compress_pair(layers.W1, layers.b1, layers.W2, exact_calibration(layers.H), keep(1),
                        {.units = count, .selection = UnitSelection::leverage})
              .units == expected);
  }
}

TEST_CASE("greedy is no worse than the other choices", "[pairs]") {
  for (const std::uint64_t seed : {706U, 716U, 726U}) {
    Random random(seed);
    auto layers = pair_case<double>(random, 16, 80, 20, 600);
    // Some units say what others say, some are loud and not listened to.
    for (Index j = 0; j < 20; ++j) layers.H.row(j) = layers.H.row(79 - j) + 0.1 * layers.H.row(40);
    layers.H.middleRows(30, 6) *= 20;
    layers.W2.middleCols(30, 6) *= 1e-3;
    const auto hidden = exact_calibration(layers.H);
    for (const Index count : {8, 20, 40, 50}) {
      const auto error_of = [&](UnitSelection selection) {
        return pair_error(compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1),
                                        {.units = count, .selection = selection}),
                          layers.W2, layers.H);
      };
      const double greedy = error_of(UnitSelection::greedy);
      CAPTURE(seed, count, greedy);
      CHECK(greedy < error_of(UnitSelection::leverage));
      CHECK(greedy < error_of(UnitSelection::energy));
    }
  }
}

TEMPLATE_TEST_CASE("budgets of a pair are of both layers and the biases", "[pairs]", float,
                   double) {
  using T = TestType;
  Random random(707);
  const auto layers = pair_case<T>(random, 10, 40, 6, 300);
  const auto hidden = calibration_of(layers.H);
  constexpr std::size_t unit = sizeof(T) * (10 + 1 + 6);
  const auto made = [&](const Budget& budget, const PairOptions& options = {}) {
    return compress_pair(layers.W1, layers.b1, layers.W2, hidden, budget, options);
  };
  for (const double share : {0.025, 0.1, 0.333, 0.5, 0.99}) {
    const auto kept = made(keep(share));
    const double limit = share * 40 * double(unit);
    CHECK(double(kept.bytes()) <= limit);
    CHECK(double(kept.bytes() + unit) > limit);
    CHECK(kept.bytes() == unit * kept.units.size());
  }
  CHECK(made(bytes(std::int64_t(5 * unit))).units.size() == 5);
  CHECK(made(bytes(std::int64_t(6 * unit - 1))).units.size() == 5);
  CHECK(made(keep(0.5), {.units = 3}).units.size() == 3);
  // Without biases a unit is smaller.
  CHECK(compress_pair(layers.W1, Vector<T>(), layers.W2, hidden, bytes(std::int64_t(5 * unit)))
            .units.size() == 5);
  CHECK(compress_pair(layers.W1, Vector<T>(), layers.W2, hidden, bytes(std::int64_t(16 * unit)))
            .units.size() == 17);

  CHECK_THROWS_WITH(made(bytes(std::int64_t(unit - 1))),
                    Contains("1 unit needs " + std::to_string(unit)));
  CHECK_THROWS_WITH(made(keep(0.5), {.units = 21}),
                    Contains("21 units need " + std::to_string(21 * unit)));
  CHECK_THROWS_WITH(made(error(1e-3), {.units = 2}), Contains("cannot be met: with 2 of 40 units"));
  CHECK(made(error(0.999), {.units = 17}).units.size() == 17);
}

TEMPLATE_TEST_CASE("an error takes the fewest units on the way", "[pairs]", float, double) {
  using T = TestType;
  Random random(708);
  const Index units = 48;
  const auto layers = pair_case<T>(random, 12, units, 9, 500);
  auto hidden = calibration_of(layers.H);
  for (const bool shrunk : {false, true}) {
    if (!shrunk) hidden.shrinkage(0);
    else hidden.shrinkage(0.05);
    for (const UnitSelection selection : unit_selections) {
      std::vector<double> errors{1};
      for (Index count = 1; count <= units; ++count)
        errors.push_back(pair_error(compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1),
                                                  {.units = count, .selection = selection}),
                                    layers.W2.template cast<double>(),
                                    layers.H.template cast<double>()));
      for (const double wanted : {0.7, 0.3, 0.1, 0.02, 1e-3}) {
        const auto made = compress_pair(layers.W1, layers.b1, layers.W2, hidden, error(wanted),
                                        {.selection = selection});
        CAPTURE(shrunk, static_cast<int>(selection), wanted, made.units.size());
        CHECK(errors[made.units.size()] <= wanted * (1 + 1e-5));
        CHECK(errors[made.units.size() - 1] > wanted);
        if (!shrunk && selection == UnitSelection::greedy)  // then errors fall with each unit
          for (std::size_t k = 0; k < made.units.size(); ++k) CHECK(errors[k] > wanted);
      }
    }
  }
  // Nothing is lost: all units, as none depends on others.
  const auto all = compress_pair(layers.W1, layers.b1, layers.W2, hidden, error(0));
  CHECK(all.units.size() == 48);
  CHECK(all.W2 == layers.W2);
}

TEMPLATE_TEST_CASE("units that say the same are as good as one", "[pairs]", float, double) {
  using T = TestType;
  Random random(709);
  auto layers = pair_case<T>(random, 9, 30, 8, 400);
  // Every third is another's double, or the sum of two, or always 0.
  for (Index j = 0; j < 30; j += 3) {
    if (j % 9 == 0) layers.H.row(j) = T(2) * layers.H.row(j + 1);
    if (j % 9 == 3) layers.H.row(j) = layers.H.row(j + 1) + layers.H.row(j + 2);
    if (j % 9 == 6) layers.H.row(j).setZero();
  }
  const auto hidden = exact_calibration(layers.H);
  const Matrix<double> H = layers.H.template cast<double>();
  const Matrix<double> W2 = layers.W2.template cast<double>();
  const double rounding = std::same_as<T, float> ? 1e-5 : 1e-9;
  const auto none = compress_pair(layers.W1, layers.b1, layers.W2, hidden, error(0));
  CHECK(none.units.size() == 20);
  CHECK(pair_error(none, W2, H) <= rounding);
  const auto twenty = compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(0.667));
  CHECK(twenty.units.size() == 20);
  CHECK(pair_error(twenty, W2, H) <= rounding);
  // More than that: units beyond those that are needed, none of them in another's way.
  for (const UnitSelection selection : unit_selections)
    for (const Index count : {23, 29}) {
      const auto more = compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1),
                                      {.units = count, .selection = selection});
      CHECK(std::ssize(more.units) == count);
      CHECK(more.W2.allFinite());
      if (selection == UnitSelection::greedy) CHECK(pair_error(more, W2, H) <= rounding);
      CHECK(double(more.W2.cwiseAbs().maxCoeff()) <= 20 * double(layers.W2.cwiseAbs().maxCoeff()));
      // What the calibration never saw stays as it was.
      for (std::size_t i = 0; i < more.units.size(); ++i)
        if (more.units[i] % 9 == 6) CHECK(more.W2.col(Index(i)) == layers.W2.col(more.units[i]));
    }
}

TEST_CASE("without a calibration the largest columns stay as they are", "[pairs]") {
  Random random(710);
  const auto layers = pair_case<float>(random, 6, 20, 5, 0);
  Units expected = pair_first_units(20);
  std::sort(expected.begin(), expected.end(),
            [&](Index i, Index j) { return layers.W2.col(i).norm() > layers.W2.col(j).norm(); });
  expected.resize(7);
  std::sort(expected.begin(), expected.end());
  auto zeros = calibration_of(Matrix<float>::Zero(20, 9));
  auto weighted = Calibration<float>(20);
  weighted.row_weights(Vector<float>::Ones(5));
  for (const auto& hidden : {Calibration<float>(), Calibration<float>(20), zeros, weighted})
    for (const UnitSelection selection : unit_selections) {
      const auto made = compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(0.35),
                                      {.selection = selection});
      CHECK(made.units == expected);
      CHECK(made.W2 == Matrix<float>(layers.W2(Eigen::all, expected)));
    }
  // By the error of the weights, that of white inputs.
  const auto half = compress_pair(layers.W1, layers.b1, layers.W2, {}, error(0.5));
  const auto left = [&](const Matrix<float>& kept) {
    return std::sqrt(1 - kept.squaredNorm() / layers.W2.squaredNorm());
  };
  CHECK(left(half.W2) <= 0.5F);
  const auto less = compress_pair(layers.W1, layers.b1, layers.W2, {}, keep(1),
                                  {.units = std::ssize(half.units) - 1});
  CHECK(left(less.W2) > 0.5F);
}

TEST_CASE("rows of gate and up layer are dropped together", "[pairs]") {
  Random random(711);
  const auto layers = pair_case<double>(random, 7, 25, 6, 200);
  const Matrix<double> Wu = random.matrix<double>(25, 7);
  const Vector<double> bu = random.matrix<double>(25, 1);
  const auto hidden = calibration_of(layers.H);
  const auto pair = compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(1), {.units = 9});
  const auto gated =
      compress_gated_pair(layers.W1, layers.b1, Wu, bu, layers.W2, hidden, keep(1), {.units = 9});
  CHECK(gated.units == pair.units);
  CHECK(gated.W2 == pair.W2);
  CHECK(gated.Wg == pair.W1);
  CHECK(gated.bg == pair.b1);
  CHECK(gated.Wu == Matrix<double>(Wu(gated.units, Eigen::all)));
  CHECK(gated.bu == Vector<double>(bu(gated.units)));
  CHECK(gated.bytes() == 8 * 9 * (7 + 1 + 7 + 1 + 6));
  // The budget is of all five; each bias may be missing.
  const auto half =
      compress_gated_pair(layers.W1, Vector<double>(), Wu, bu, layers.W2, hidden, keep(0.5));
  CHECK(half.units.size() == 12);
  CHECK(half.bg.size() == 0);
  CHECK(half.bu.size() == 12);
  CHECK(half.bytes() == 8 * 12 * (7 + 7 + 1 + 6));
}

TEST_CASE("few samples of the hidden units are no trap", "[pairs]") {
  for (const Index samples : {4, 12, 30, 60, 120, 400}) {
    double chosen = 0;
    double without = 0;
    double plain = 0;
    for (const std::uint64_t seed : {712U, 722U, 732U, 742U}) {
      Random random(seed);
      auto layers = pair_case<float>(random, 16, 60, 20, 4000);
      const Matrix<double> W2 = layers.W2.cast<double>();
      const Matrix<double> all = layers.H.cast<double>();
      auto hidden = calibration_of(Matrix<float>(layers.H.leftCols(samples)));
      const auto error_with = [&](const Calibration<float>& seen) {
        return pair_error(compress_pair(layers.W1, layers.b1, layers.W2, seen, keep(0.5)), W2, all);
      };
      chosen += error_with(hidden);
      plain += error_with(hidden.shrinkage(0));
      without += error_with({});
    }
    CAPTURE(samples, chosen, plain, without);
    CHECK(chosen <= 1.02 * without);
    CHECK(chosen <= 1.05 * plain);
    if (samples == 30) CHECK(chosen < 0.5 * plain);  // as many samples as kept units
  }
}

TEST_CASE("a pair depends neither on scale nor on threads", "[pairs]") {
  Random random(713);
  for (const Index samples : {10, 90, 400}) {
    const auto layers = pair_case<double>(random, 12, 90, 33, samples);
    for (const UnitSelection selection : unit_selections) {
      const auto make = [&](double weights, double inputs) {
        return compress_pair(layers.W1, layers.b1, Matrix<double>(weights * layers.W2),
                             calibration_of(Matrix<double>(inputs * layers.H)), keep(0.8),
                             {.selection = selection});
      };
      const auto reference = make(1, 1);
      CAPTURE(samples, static_cast<int>(selection));
      for (const double scale : {0x1p-20, 0x1p20}) {
        CHECK(make(1, scale).W2 == reference.W2);
        CHECK(make(scale, 1).W2 == scale * reference.W2);
        CHECK(make(scale, scale).units == reference.units);
      }
      for (const double scale : {1e-6, 1e6}) {
        CHECK(make(1, scale).W2.isApprox(reference.W2, 1e-7));
        CHECK(make(scale, 1).W2.isApprox(scale * reference.W2, 1e-7));
      }
      set_num_threads(3);
      const auto threaded = make(1, 1);
      set_num_threads(1);
      CHECK(threaded.units == reference.units);
      CHECK(threaded.W2 == reference.W2);
    }
  }
}

TEST_CASE("a pair that its monitor stops is complete", "[pairs]") {
  Random random(714);
  const auto layers = pair_case<double>(random, 8, 40, 6, 300);
  const auto hidden = exact_calibration(layers.H);
  for (const Index last : {1, 2, 9}) {
    Index calls = 0;
    std::string phase;
    const auto made = compress_pair(layers.W1, layers.b1, layers.W2, hidden, keep(0.5),
                                    {.monitor = [&](const Progress& progress) {
                                      phase = progress.phase;
                                      CHECK(progress.iterations == 20);
                                      CHECK(progress.iteration == ++calls);
                                      CHECK((progress.loss > 0 && progress.loss <= 1));
                                      return calls < last;
                                    }});
    CHECK(calls == last);
    CHECK(phase == "units");
    CHECK(made.units.size() == 20);
    CHECK(pair_error(made, layers.W2, layers.H) < 1);
  }
  const auto few = compress_pair(layers.W1, layers.b1, layers.W2, hidden, error(1e-3),
                                 {.monitor = [](const Progress& p) { return p.iteration < 4; }});
  CHECK(few.units.size() == 3);
}

TEST_CASE("what is no pair is refused", "[pairs]") {
  Random random(715);
  const auto layers = pair_case<float>(random, 5, 8, 4, 20);
  const auto hidden = calibration_of(layers.H);
  const auto& [W1, b1, W2, H] = layers;
  const Vector<float> none;
  CHECK_THROWS_WITH(compress_pair(W1, b1, Matrix<float>(4, 9), hidden, keep(0.5)),
                    Contains("8 x 5") && Contains("4 x 9"));
  CHECK_THROWS_WITH(compress_pair(Matrix<float>(0, 5), none, Matrix<float>(4, 0), {}, keep(0.5)),
                    Contains("0 x 5 and 4 x 0 matrices is empty"));
  CHECK_THROWS_WITH(compress_pair(Matrix<float>(8, 0), none, W2, hidden, keep(0.5)),
                    Contains("empty"));
  CHECK_THROWS_WITH(compress_pair(W1, none, Matrix<float>(0, 8), hidden, keep(0.5)),
                    Contains("empty"));
  CHECK_THROWS_WITH(compress_pair(W1, Vector<float>::Zero(7), W2, hidden, keep(0.5)),
                    Contains("biases of 8 units are 8 x 1 or empty, not 7 x 1"));
  CHECK_THROWS_WITH(compress_pair(W1, b1, W2, Calibration<float>(9), keep(0.5)),
                    Contains("9 inputs does not fit a 4 x 8"));
  CHECK_THROWS_WITH(compress_pair(W1, b1, W2, hidden, keep(1), {.units = 9}),
                    Contains("of 8 units, 9 cannot be kept"));
  CHECK_THROWS_WITH(compress_pair(W1, b1, W2, hidden, keep(1), {.units = -1}), Contains("-1"));
  CHECK_THROWS_WITH(
      compress_pair(W1, b1, W2, hidden, keep(0.5), {.selection = static_cast<UnitSelection>(9)}),
      Contains("unknown selection"));
  CHECK_THROWS_WITH(compress_pair(W1, b1, W2, hidden, keep(0.01)), Contains("allows"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  auto broken = layers;
  broken.W1(3, 2) = nan;
  CHECK_THROWS_WITH(compress_pair(broken.W1, b1, W2, hidden, keep(0.5)),
                    Contains("first layer") && Contains("row 3, column 2"));
  broken.b1(6) = nan;
  CHECK_THROWS_WITH(compress_pair(W1, broken.b1, W2, hidden, keep(0.5)),
                    Contains("biases") && Contains("row 6"));
  broken.W2(1, 7) = nan;
  CHECK_THROWS_WITH(compress_pair(W1, b1, broken.W2, hidden, keep(1)),
                    Contains("second layer") && Contains("row 1, column 7"));
  CHECK_THROWS_WITH(compress_gated_pair(W1, b1, Matrix<float>(7, 5), b1, W2, hidden, keep(0.5)),
                    Contains("up layer, 7 x 5"));
  CHECK_THROWS_WITH(
      compress_gated_pair(W1, b1, random.matrix<float>(8, 6), b1, W2, hidden, keep(0.5)),
      Contains("8 x 5 and 8 x 6"));
}

}  // namespace pleat::test
