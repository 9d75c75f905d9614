// SPDX-License-Identifier: MIT
// compress<Cur>: columns and rows that are those of the weight, and what stands between them.
#include "pleat/compress/cur.hpp"

#include "compress/support.hpp"
#include "pleat/compress/cross_validate.hpp"
#include "support/catch.hpp"

#include <Eigen/SVD>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;
template <Real T>
using CurOptions = typename Cur<T>::Options;

/// The pseudoinverse, by singular values.
Matrix<double> pseudoinverse(const Matrix<double>& A) {
  const Eigen::JacobiSVD<Matrix<double>> svd(A, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const double cut = 1e-12 * svd.singularValues()(0);
  const Vector<double> inverse =
      svd.singularValues().unaryExpr([=](double s) { return s > cut ? 1 / s : 0; });
  return svd.matrixV() * inverse.asDiagonal() * svd.matrixU().transpose();
}

/// The product of the factors in double.
template <Real T>
Matrix<double> exact_product(const Cur<T>& op) {
  return op.C().to_dense().template cast<double>() * op.U().to_dense().template cast<double>() *
         op.R().to_dense().template cast<double>();
}

/// Of that many columns and rows, whatever it takes.
template <Real T>
Cur<T> of_size(const Matrix<T>& W, Index c, Index r, const Calibration<T>& calibration = {},
               CurSelection selection = CurSelection::pivoted_qr) {
  return compress<Cur>(W, keep(1000), calibration,
                       CurOptions<T>{.columns = c, .rows = r, .selection = selection});
}

/// A spectrum that falls by a factor from one singular value to the next.
Matrix<double> falling_spectrum(Random& random, Index m, Index n, double factor) {
  const Index k = std::min(m, n);
  const Eigen::JacobiSVD<Matrix<double>> left(random.matrix<double>(m, k), Eigen::ComputeThinU);
  const Eigen::JacobiSVD<Matrix<double>> right(random.matrix<double>(n, k), Eigen::ComputeThinU);
  Vector<double> sigma(k);
  for (Index i = 0; i < k; ++i) sigma(i) = std::pow(factor, double(i));
  return left.matrixU() * sigma.asDiagonal() * right.matrixU().transpose();
}

bool are_distinct(std::vector<Index> indices) {
  std::sort(indices.begin(), indices.end());
  return std::adjacent_find(indices.begin(), indices.end()) == indices.end();
}

}  // namespace

TEMPLATE_TEST_CASE("CUR: columns and rows are those of the weight to the bit", "[cur]", float,
                   double) {
  using T = TestType;
  Random random(521);
  for (const auto& [m, n, c, r] : std::vector<std::array<Index, 4>>{{1, 1, 1, 1},
                                                                    {1, 9, 3, 1},
                                                                    {9, 1, 1, 4},
                                                                    {23, 17, 5, 5},
                                                                    {13, 31, 7, 3},
                                                                    {31, 13, 13, 2},
                                                                    {11, 29, 20, 11}})
    for (const auto selection : {CurSelection::pivoted_qr, CurSelection::leverage})
      for (const Index samples : {0, 3, 60}) {
        INFO(m << " x " << n << ", " << c << " columns, " << r << " rows, " << samples);
        const Matrix<T> W = random.matrix<T>(m, n);
        Calibration<T> calibration;
        if (samples > 0) calibration = calibration_of(correlated_inputs<T>(random, n, samples));
        const auto op = of_size<T>(W, c, r, calibration, selection);
        REQUIRE(Index(op.columns().size()) == c);
        REQUIRE(Index(op.rows_of_weight().size()) == r);
        CHECK(are_distinct(op.columns()));
        CHECK(are_distinct(op.rows_of_weight()));
        CHECK(op.C().to_dense() == Matrix<T>(W(Eigen::all, op.columns())));
        CHECK(op.R().to_dense() == Matrix<T>(W(op.rows_of_weight(), Eigen::all)));
        CHECK(op.U().rows() == c);
        CHECK(op.U().cols() == r);
        CHECK(op.bytes() == Cur<T>::stored_bytes(m, n, c, r));
        CHECK(op.bytes() ==
              sizeof(T) * std::size_t(c * m + c * r + r * n) + 2 * std::size_t(c + r));
      }
}

TEST_CASE("CUR: all columns and all rows are exact", "[cur]") {
  Random random(522);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 8}, {8, 1}, {20, 20}, {17, 29}, {29, 17}}) {
    INFO(m << " x " << n);
    const Matrix<double> W = random.matrix<double>(m, n);
    CHECK(relative_error(W, of_size<double>(W, n, m)) <= 1e-11);
    const auto calibration = calibration_of(correlated_inputs<double>(random, n, 2 * n));
    CHECK(relative_error(W, of_size<double>(W, n, m, calibration), calibration) <= 1e-9);
    // As many as the smaller side has do.
    const Index least = std::min(m, n);
    CHECK(relative_error(W, of_size<double>(W, least, least)) <= 1e-11);
    CHECK(relative_error(W, compress<Cur>(W, keep(10))) <= 1e-11);
  }
}

TEST_CASE("CUR: a weight of low rank is found exactly", "[cur]") {
  Random random(523);
  const Matrix<double> left = random.matrix<double>(40, 6);
  const Matrix<double> right = random.matrix<double>(6, 33);
  const Matrix<double> W = left * right;
  for (const auto selection : {CurSelection::pivoted_qr, CurSelection::leverage})
    for (const Index k : {6, 7, 12, 33}) {  // more than the rank do no harm
      INFO(k);
      CHECK(relative_error(W, of_size<double>(W, k, k, {}, selection)) <= 1e-10);
    }
  const auto calibration = calibration_of(correlated_inputs<double>(random, 33, 20));
  CHECK(relative_error(W, of_size<double>(W, 6, 6, calibration), calibration) <= 1e-8);
  const Matrix<float> narrow = W.cast<float>();
  CHECK(relative_error(narrow, of_size<float>(narrow, 6, 6)) <= 1e-5);
}

TEST_CASE("CUR: what stands between is the optimum for its columns and rows", "[cur]") {
  Random random(524);
  for (const auto& [m, n, c, r] :
       std::vector<std::array<Index, 4>>{{24, 30, 6, 6}, {30, 18, 4, 9}, {15, 22, 8, 3}}) {
    INFO(m << " x " << n << ", " << c << " columns, " << r << " rows");
    const Matrix<double> W = random.matrix<double>(m, n);
    const auto plain = of_size<double>(W, c, r);
    const Matrix<double> C = plain.C().to_dense();
    const Matrix<double> R = plain.R().to_dense();
    CHECK((W - exact_product(plain)).norm() ==
          Approx((W - C * (pseudoinverse(C) * W * pseudoinverse(R)) * R).norm()).epsilon(1e-12));

    const Matrix<double> X = correlated_inputs<double>(random, n, 90);
    Calibration<double> calibration = exact_calibration(X);
    Vector<double> weights(m);
    for (Index i = 0; i < m; ++i) weights(i) = random.uniform(0.1, 5);
    const Matrix<double> B = random.matrix<double>(m, m);
    for (const int kind : {0, 1, 2}) {  // of outputs: the identity, weights, a metric
      INFO("outputs " << kind);
      Matrix<double> root = Matrix<double>::Identity(m, m);
      if (kind == 1) {
        calibration.row_weights(weights);
        root = weights.cwiseSqrt().asDiagonal();
      }
      if (kind == 2) {
        calibration.output_metric(B.transpose() * B);
        root = B;
      }
      const auto op = of_size<double>(W, c, r, calibration);
      const Matrix<double> PC = root * op.C().to_dense();
      const Matrix<double> RX = op.R().to_dense() * X;
      const Matrix<double> target = root * W * X;
      const Matrix<double> best = PC * (pseudoinverse(PC) * target * pseudoinverse(RX)) * RX;
      CHECK((target - root * exact_product(op) * X).norm() ==
            Approx((target - best).norm()).epsilon(1e-6));
      // The metric is worth having.
      CHECK((target - best).norm() <= (target - root * exact_product(plain) * X).norm());
    }
  }
}

TEST_CASE("CUR: pivoted QR is close to the singular vectors", "[cur]") {
  Random random(525);
  for (const double factor : {0.5, 0.8, 0.95}) {
    const Matrix<double> W = falling_spectrum(random, 50, 40, factor);
    const Vector<double> sigma = singular_values(W);
    for (const Index k : {1, 4, 10, 20}) {
      INFO(factor << ", " << k);
      const double optimum = sigma.tail(40 - k).norm();
      const double loss = (W - exact_product(of_size<double>(W, k, k))).norm();
      CHECK(loss >= optimum * (1 - 1e-9));
      CHECK(loss <= 4 * optimum + 1e-13 * sigma.norm());
    }
  }
}

TEST_CASE("CUR: the bound of DEIM holds", "[cur]") {
  Random random(526);
  const Matrix<double> W = falling_spectrum(random, 30, 44, 0.8);
  const Eigen::JacobiSVD<Matrix<double>> svd(W, Eigen::ComputeThinU | Eigen::ComputeThinV);
  for (const Index k : {2, 5, 9}) {
    const auto op = of_size<double>(W, k, k);
    const Matrix<double> V = svd.matrixV()(op.columns(), Eigen::all).leftCols(k);
    const Matrix<double> U = svd.matrixU()(op.rows_of_weight(), Eigen::all).leftCols(k);
    const double eta = 1 / singular_values(V)(k - 1) + 1 / singular_values(U)(k - 1);
    CHECK(singular_values(W - exact_product(op))(0) <= eta * svd.singularValues()(k));
  }
}

TEST_CASE("leverage scores sum to the rank, and lie between 0 and 1", "[cur]") {
  Random random(527);
  const Matrix<double> W = random.matrix<double>(21, 34);
  const Eigen::JacobiSVD<Matrix<double>> svd(W, Eigen::ComputeThinV);
  for (const Index k : {1, 3, 21}) {
    const Vector<double> scores =
        detail::leverage_scores(Matrix<double>(svd.matrixV().leftCols(k).transpose()));
    CHECK(scores.sum() == Approx(double(k)).epsilon(1e-12));
    CHECK(scores.minCoeff() >= 0);
    CHECK(scores.maxCoeff() <= 1 + 1e-12);
    // The maker takes the largest of these.
    const auto op = of_size<double>(W, k, k, {}, CurSelection::leverage);
    auto expected = detail::largest_first(scores);
    expected.resize(std::size_t(k));
    CHECK(op.columns() == expected);
    auto pivots = detail::pivoted_columns(Matrix<double>(svd.matrixV().leftCols(k).transpose()));
    pivots.resize(std::size_t(k));
    CHECK(of_size<double>(W, k, k).columns() == pivots);
  }
}

TEST_CASE("pivoted columns: an order of all, the spanning ones first", "[cur]") {
  Random random(528);
  Matrix<double> F = Matrix<double>::Zero(3, 8);
  F.col(5) = 3 * Vector<double>::Unit(3, 0);
  F.col(2) = 2 * Vector<double>::Unit(3, 1);
  F.col(7) = 2.9 * Vector<double>::Unit(3, 0);
  const auto order = detail::pivoted_columns(F);
  CHECK(order == std::vector<Index>{5, 2, 7, 0, 1, 3, 4, 6});
  CHECK(detail::pivoted_columns(Matrix<double>(Matrix<double>::Zero(2, 3))) ==
        std::vector<Index>{0, 1, 2});
  auto all = detail::pivoted_columns(random.matrix<double>(9, 4));
  std::sort(all.begin(), all.end());
  CHECK(all == std::vector<Index>{0, 1, 2, 3});
  // Least squares: columns that depend on others have no part.
  Matrix<double> T = random.matrix<double>(6, 4);
  T.col(3) = T.col(0) + T.col(1);
  const Matrix<double> B = random.matrix<double>(6, 2);
  const detail::PivotedSolver<> solver(T);
  CHECK(solver.rank(1e-12) == 3);
  const Matrix<double> X = solver.solve(B, 3);
  CHECK((X.rowwise().norm().array() > 0).count() == 3);
  CHECK((T.transpose() * (T * X - B)).norm() <= 1e-12);
}

TEST_CASE("CUR: a permutation of the weight permutes the choice and nothing else", "[cur]") {
  Random random(529);
  const Index m = 26;
  const Index n = 19;
  const Matrix<double> W = random.matrix<double>(m, n);
  const Matrix<double> X = correlated_inputs<double>(random, n, 70);
  std::vector<Index> columns(static_cast<std::size_t>(n));
  for (Index j = 0; j < n; ++j) columns[std::size_t(j)] = j * 7 % n;
  std::vector<Index> rows(static_cast<std::size_t>(m));
  for (Index i = 0; i < m; ++i) rows[std::size_t(i)] = i * 11 % m;
  const Matrix<double> moved = W(rows, columns);
  for (const auto selection : {CurSelection::pivoted_qr, CurSelection::leverage})
    for (const bool calibrated : {false, true}) {
      const auto op = of_size<double>(
          W, 6, 5, calibrated ? exact_calibration(X) : Calibration<double>(), selection);
      const auto other =
          of_size<double>(moved, 6, 5,
                          calibrated ? exact_calibration(Matrix<double>(X(columns, Eigen::all)))
                                     : Calibration<double>(),
                          selection);
      for (std::size_t k = 0; k < 6; ++k)
        CHECK(columns[std::size_t(other.columns()[k])] == op.columns()[k]);
      for (std::size_t k = 0; k < 5; ++k)
        CHECK(rows[std::size_t(other.rows_of_weight()[k])] == op.rows_of_weight()[k]);
      CHECK((exact_product(other) - Matrix<double>(exact_product(op)(rows, columns))).norm() <=
            1e-10 * W.norm());
    }
}

TEST_CASE("CUR: inputs that are used are preferred, those that are dead come last", "[cur]") {
  Random random(530);
  const Matrix<double> W = random.matrix<double>(20, 16);
  Matrix<double> X = random.matrix<double>(16, 200);
  X.topRows(4) *= 30;         // what the layer lives on
  X.bottomRows(3).setZero();  // and what it never sees
  const auto calibration = exact_calibration(X);
  for (const auto selection : {CurSelection::pivoted_qr, CurSelection::leverage}) {
    auto four = of_size<double>(W, 4, 20, calibration, selection).columns();
    std::sort(four.begin(), four.end());
    CHECK(four == std::vector<Index>{0, 1, 2, 3});
    const auto living = of_size<double>(W, 13, 20, calibration, selection).columns();
    CHECK(*std::max_element(living.begin(), living.end()) < 13);
  }
  Calibration<double> weighted;
  weighted.row_weights(Vector<double>::LinSpaced(20, 0, 1).array().square().matrix());
  const auto rows = of_size<double>(W, 16, 10, weighted).rows_of_weight();
  CHECK(std::find(rows.begin(), rows.end(), 0) == rows.end());
}

TEST_CASE("CUR: budgets and sizes are kept", "[cur]") {
  Random random(531);
  const Index m = 45;
  const Index n = 37;
  const Matrix<float> W = falling_spectrum(random, m, n, 0.8).cast<float>();
  const auto calibration = calibration_of(correlated_inputs<float>(random, n, 100));
  const auto size = [&](Index c, Index r) { return Cur<float>::stored_bytes(m, n, c, r); };
  for (const double share : {0.1, 0.3, 0.7}) {
    const auto op = compress<Cur>(W, keep(share), calibration);
    const auto limit = std::size_t(share * 4 * double(m * n));
    const auto k = Index(op.columns().size());
    CHECK(Index(op.rows_of_weight().size()) == k);
    CHECK(op.bytes() <= limit);
    CHECK(size(k + 1, k + 1) > limit);
  }
  const auto by_bytes = compress<Cur>(W, bytes(std::int64_t(size(5, 5)) + 1));
  CHECK(by_bytes.columns().size() == 5);
  const auto wide =
      compress<Cur>(W, bytes(std::int64_t(size(3, 9))), CurOptions<float>{.columns = 3});
  CHECK(wide.columns().size() == 3);
  CHECK(wide.rows_of_weight().size() == 9);
  const auto tall = compress<Cur>(W, bytes(std::int64_t(size(9, 3))), CurOptions<float>{.rows = 3});
  CHECK(tall.columns().size() == 9);
  for (const auto& seen : {Calibration<float>(), calibration})
    for (const double target : {0.5, 0.1, 0.01}) {
      INFO(target);
      const auto op = compress<Cur>(W, error(target), seen);
      const auto k = Index(op.columns().size());
      CHECK(relative_error(W, op, seen) <= target);
      if (k > 1) CHECK(relative_error(W, of_size<float>(W, k - 1, k - 1, seen), seen) > target);
    }
  CHECK(compress<Cur>(W, error(0.5), CurOptions<float>{.columns = 6}).columns().size() == 6);
  CHECK_THROWS_WITH(compress<Cur>(W, error(0.01), CurOptions<float>{.columns = 2}),
                    Contains("cannot be met") && Contains("2 columns"));
  CHECK_THROWS_WITH(compress<Cur>(W, bytes(std::int64_t(size(1, 1)) - 1)),
                    Contains(std::to_string(size(1, 1))) && Contains("45 x 37"));
  CHECK_THROWS_WITH(compress<Cur>(W, bytes(std::int64_t(size(4, 4)) - 1),
                                  CurOptions<float>{.columns = 4, .rows = 4}),
                    Contains(std::to_string(size(4, 4))) && Contains("4 columns and 4 rows"));
  CHECK_THROWS_WITH(compress<Cur>(W, keep(9), CurOptions<float>{.columns = 38}),
                    Contains("45 x 37") && Contains("38"));
  CHECK_THROWS_AS(compress<Cur>(W, keep(9), CurOptions<float>{.rows = 46}), std::invalid_argument);
  CHECK_THROWS_AS(compress<Cur>(W, keep(9), CurOptions<float>{.rows = -1}), std::invalid_argument);
  CHECK_THROWS_AS(compress<Cur>(W, keep(9), CurOptions<float>{.storage = Storage::f64}),
                  std::invalid_argument);
  CHECK_THROWS_AS(
      compress<Cur>(W, keep(9), CurOptions<float>{.selection = static_cast<CurSelection>(7)}),
      std::invalid_argument);
  CHECK_THROWS_AS(compress<Cur>(W, keep(1), Calibration<float>(36)), std::invalid_argument);
}

TEST_CASE("CUR: narrow columns and rows, and what is fitted to them", "[cur]") {
  Random random(532);
  const Index m = 64;
  const Index n = 96;
  const Matrix<float> W = falling_spectrum(random, m, n, 0.7).cast<float>();
  const auto calibration = exact_calibration(correlated_inputs<float>(random, n, 300));
  const double exact = relative_error(W, of_size<float>(W, 8, 8, calibration), calibration);
  for (const auto& [storage, allowance] : {std::pair{Storage::bf16, 0.02},
                                           {Storage::f16, 0.002},
                                           {Storage::int8, 0.05},
                                           {Storage::int4, 0.5}}) {
    INFO(to_string(storage));
    const auto op = compress<Cur>(W, keep(9), calibration,
                                  CurOptions<float>{.columns = 8, .rows = 8, .storage = storage});
    CHECK(op.C().storage() == storage);
    CHECK(op.R().storage() == storage);
    CHECK(op.U().storage() == Storage::f32);
    CHECK(op.bytes() == Cur<float>::stored_bytes(m, n, 8, 8, storage));
    CHECK(relative_error(W, op, calibration) <= exact + allowance);
    // Not worse than the U of columns and rows that were not rounded.
    const auto blunt = of_size<float>(W, 8, 8, calibration);
    const Cur<float> rounded(Dense<float>(blunt.C().to_dense(), storage), blunt.U(),
                             Dense<float>(blunt.R().to_dense(), storage), blunt.columns(),
                             blunt.rows_of_weight());
    CHECK(relative_error(W, op, calibration) <= 1.0001 * relative_error(W, rounded, calibration));
  }
}

TEST_CASE("CUR: dependent columns, tiny ones and zeros do no harm", "[cur]") {
  Random random(533);
  // In float, with a spectrum that falls far below its epsilon: the rounding of U costs the root of
  // epsilon, which is about 3.5e-4, and no number of columns is a reason for more.
  const Matrix<float> W = falling_spectrum(random, 40, 40, 0.4).cast<float>();
  for (const Index k : {2, 6, 12, 20, 30, 40})
    CHECK(relative_error(W, of_size<float>(W, k, k)) <= 4 * std::pow(0.4, double(k)) + 3.5e-4);
  Matrix<double> twins = random.matrix<double>(12, 10);
  twins.col(3) = twins.col(4);
  twins.col(5).setZero();
  twins.row(2) = 1e-9 * twins.row(7);
  for (const Index k : {8, 9, 10})
    CHECK(relative_error(twins, of_size<double>(twins, k, k)) <= 1e-8);
  const Matrix<double> zero = Matrix<double>::Zero(6, 9);
  CHECK(exact_product(of_size<double>(zero, 2, 3)) == zero);
  CHECK(relative_error(zero, compress<Cur>(zero, error(0))) == 0);
  // No samples, or only zeros, are no metric.
  const Matrix<double> plain = random.matrix<double>(8, 7);
  const Matrix<double> reference = exact_product(of_size<double>(plain, 3, 3));
  CHECK(exact_product(of_size<double>(plain, 3, 3, Calibration<double>(7))) == reference);
  const auto dead = calibration_of(Matrix<double>::Zero(7, 12));
  CHECK(exact_product(of_size<double>(plain, 3, 3, dead)) == reference);
}

TEST_CASE("CUR is blind to scale, and the same for any number of threads", "[cur]") {
  Random random(534);
  const Matrix<double> W = random.matrix<double>(28, 35);
  const Matrix<double> X = correlated_inputs<double>(random, 35, 60);
  const auto made = [&](double weight, double input) {
    return compress<Cur>(Matrix<double>(weight * W), keep(0.4),
                         calibration_of(Matrix<double>(input * X)));
  };
  const auto reference = made(1, 1);
  for (const auto& [weight, input] : {std::pair{0x1p20, 1.0}, {0x1p-31, 0x1p17}}) {
    const auto other = made(weight, input);
    CHECK(other.columns() == reference.columns());
    CHECK(other.rows_of_weight() == reference.rows_of_weight());
    CHECK(other.U().to_dense() * weight == reference.U().to_dense());
  }
  for (const auto& [weight, input] : {std::pair{1e-6, 1.0}, {1e6, 1e-6}, {1.0, 1e6}}) {
    const auto other = made(weight, input);
    CHECK(other.columns() == reference.columns());
    CHECK((exact_product(other) / weight - exact_product(reference)).norm() <= 1e-9 * W.norm());
  }
  set_num_threads(3);
  const auto threaded = made(1, 1);
  set_num_threads(1);
  CHECK(threaded.columns() == reference.columns());
  CHECK(threaded.U().to_dense() == reference.U().to_dense());
}

TEST_CASE("CUR of a wide layer with few samples", "[cur]") {
  Random random(535);
  const Matrix<float> W = random.matrix<float>(12, 4096);
  const auto calibration = exact_calibration(random.matrix<float>(4096, 10));
  const auto op = of_size<float>(W, 12, 12, calibration);
  CHECK(relative_error(W, op, calibration) <= 1e-5);
  const auto shrunk = of_size<float>(W, 6, 6, calibration_of(random.matrix<float>(4096, 20)));
  CHECK(relative_error(W, shrunk) < 1);
}

TEST_CASE("CUR reports, stops, and is cross-validated", "[cur]") {
  Random random(536);
  const Matrix<double> W = falling_spectrum(random, 30, 26, 0.7);
  Index calls = 0;
  const auto stopped =
      compress<Cur>(W, error(1e-9), CurOptions<double>{.monitor = [&](const auto&) {
                      ++calls;
                      return false;
                    }});
  CHECK(calls == 1);
  CHECK(stopped.columns().size() >= 1);
  calls = 0;
  const auto watched = compress<Cur>(W, keep(0.5), CurOptions<double>{.monitor = [&](const auto&) {
                                       ++calls;
                                       return true;
                                     }});
  CHECK(calls >= 1);
  CHECK(relative_error(W, watched) < 0.5);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 26, 300));
  const double expected = cross_validate<Cur>(W, keep(0.5), calibration);
  CHECK(expected > 0);
  CHECK(expected < 1);
}

}  // namespace pleat::test
