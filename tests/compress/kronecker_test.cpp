// SPDX-License-Identifier: MIT
// compress<Kronecker>: the optimum by singular vectors, half-steps in a metric, shapes and budgets.
#include "pleat/compress/kronecker.hpp"

#include "compress/support.hpp"
#include "pleat/compress/cross_validate.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;
template <Real T>
using KroneckerOptions = typename Kronecker<T>::Options;

/// Of that left shape and so many terms, whatever it takes.
template <Real T>
Kronecker<T> kronecker_of_shape(const Matrix<T>& W, Index m1, Index n1, Index terms,
                                const Calibration<T>& calibration = {}) {
  return compress<Kronecker>(W, keep(1e4), calibration,
                             KroneckerOptions<T>{.left_rows = m1, .left_cols = n1, .terms = terms});
}

template <class A, class B>
Matrix<double> kronecker_product(const A& left, const B& right) {
  Matrix<double> W(left.rows() * right.rows(), left.cols() * right.cols());
  for (Index i = 0; i < left.rows(); ++i)
    for (Index j = 0; j < left.cols(); ++j)
      W.block(i * right.rows(), j * right.cols(), right.rows(), right.cols()) =
          double(left(i, j)) * right.template cast<double>();
  return W;
}

/// The sum of its products in double, by the definition.
template <Real T>
Matrix<double> kronecker_in_double(const Kronecker<T>& op) {
  const auto left = op.left_terms();
  const auto right = op.right_terms();
  Matrix<double> W = kronecker_product(left[0], right[0]);
  for (std::size_t r = 1; r < left.size(); ++r) W += kronecker_product(left[r], right[r]);
  return W.topLeftCorner(op.rows(), op.cols());
}

/// The singular values of a weight, zeros around it, rearranged for a shape.
Vector<double> kronecker_spectrum(const Matrix<double>& W, Index m1, Index n1) {
  const Index m2 = (W.rows() + m1 - 1) / m1;
  const Index n2 = (W.cols() + n1 - 1) / n1;
  Matrix<double> R = Matrix<double>::Zero(m1 * n1, m2 * n2);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index j = 0; j < W.cols(); ++j) R(i / m2 * n1 + j / n2, i % m2 * n2 + j % n2) = W(i, j);
  return singular_values(R);
}

/// || P^(1/2) (W - What) X ||, of the exact sum.
template <Real T>
double kronecker_distance(const Matrix<double>& W, const Kronecker<T>& op,
                          const Matrix<double>& X) {
  return ((W - kronecker_in_double(op)) * X).norm();
}

/// A metric of a definite Gram matrix, taken as it is.
Calibration<double> kronecker_metric(const Matrix<double>& G) {
  return Calibration<double>::from_gram(G, G.rows()).shrinkage(0);
}

Matrix<double> kronecker_gram(Random& random, Index n) {
  const Matrix<double> X = random.matrix<double>(n, 2 * n);
  Matrix<double> G = X * X.transpose() + 0.1 * Matrix<double>::Identity(n, n);
  return (G + G.transpose()) / 2;
}

}  // namespace

TEST_CASE("Kronecker: numbers of another program", "[kronecker]") {
  const Matrix<double> W = Matrix<double>::NullaryExpr(24, 30, [](Index i, Index j) {
    return std::sin(1 + double(i) + 2 * double(j) + 0.1 * double(i * j)) + 0.01 * double(i - j);
  });
  CHECK(W.norm() == Approx(19.606862759910).epsilon(1e-12));
  for (const auto& [m1, n1, terms, expected] :
       std::vector<std::tuple<Index, Index, Index, double>>{{4, 5, 1, 17.835587212173},
                                                            {4, 5, 3, 14.313954568816},
                                                            {6, 6, 2, 14.219054166956},
                                                            {2, 3, 1, 16.739637192952}}) {
    CAPTURE(m1, n1, terms);
    const auto op = kronecker_of_shape<double>(W, m1, n1, terms);
    CHECK((W - kronecker_in_double(op)).norm() == Approx(expected).epsilon(0).margin(1e-9));
    CHECK((W - op.to_dense()).norm() == Approx(expected).epsilon(0).margin(1e-9));
  }
}

TEMPLATE_TEST_CASE("Kronecker: the error is the tail of the rearranged weight", "[kronecker]",
                   float, double) {
  using T = TestType;
  Random random(551);
  const double rounding = std::same_as<T, float> ? 1e-5 : 1e-11;
  for (const auto& [m, n, m1, n1] : std::vector<std::array<Index, 4>>{{1, 1, 1, 1},
                                                                      {1, 12, 1, 3},
                                                                      {12, 1, 4, 1},
                                                                      {12, 18, 3, 6},
                                                                      {12, 18, 12, 1},
                                                                      {12, 18, 1, 18},
                                                                      {12, 18, 1, 1},
                                                                      {12, 18, 12, 18},
                                                                      {13, 11, 4, 3},
                                                                      {17, 30, 6, 5},
                                                                      {30, 7, 5, 4}}) {
    CAPTURE(m, n, m1, n1);
    const Matrix<T> W = random.matrix<T>(m, n);
    const Vector<double> sigma = kronecker_spectrum(W.template cast<double>(), m1, n1);
    for (const Index terms : {Index{1}, Index{2}, Index{5}, sigma.size()}) {
      if (terms > sigma.size()) continue;
      CAPTURE(terms);
      const auto op = kronecker_of_shape<T>(W, m1, n1, terms);
      REQUIRE(op.rows() == m);
      REQUIRE(op.cols() == n);
      CHECK(op.left_rows() == m1);
      CHECK(op.left_cols() == n1);
      CHECK(op.terms() == terms);
      const double tail = sigma.tail(sigma.size() - terms).norm();
      const double error = (W.template cast<double>() - kronecker_in_double(op)).norm();
      const double slack = rounding * sigma.norm();
      if (m % m1 == 0 && n % n1 == 0) CHECK(error >= tail - slack);
      CHECK(error <= tail + slack);  // of a corner, what is outside does not count
      // All terms are W itself.
      if (terms == sigma.size()) CHECK(op.to_dense() == W);
      for (const Matrix<T>& A : op.left_terms()) {  // signs
        Index largest = 0;
        (void)Eigen::Map<const Vector<T>>(A.data(), A.size()).cwiseAbs().maxCoeff(&largest);
        CHECK(A.data()[largest] >= T(0));
      }
    }
  }
}

TEST_CASE("Kronecker: sums of products are found again", "[kronecker]") {
  Random random(552);
  for (const Index terms : {1, 2, 4}) {
    CAPTURE(terms);
    Matrix<double> W = Matrix<double>::Zero(24, 35);
    for (Index r = 0; r < terms; ++r) {
      const Matrix<double> A = random.matrix<double>(6, 5);
      const Matrix<double> B = random.matrix<double>(4, 7);
      W += kronecker_product(A, B);
    }
    const auto calibration = calibration_of(correlated_inputs<double>(random, 35, 20));
    const auto scarce = calibration_of(correlated_inputs<double>(random, 35, 3));
    for (const Index more : {0, 1, 3}) {
      CHECK(relative_error(W, kronecker_of_shape<double>(W, 6, 5, terms + more)) <= 1e-12);
      for (const auto& seen : {calibration, scarce}) {
        const auto op = kronecker_of_shape<double>(W, 6, 5, terms + more, seen);
        CHECK(relative_error(W, op, seen) <= 1e-12);
        CHECK(relative_error(W, op) <= 1e-10);
      }
    }
    // No more terms than there are.
    const auto enough =
        compress<Kronecker>(W, keep(1), KroneckerOptions<double>{.left_rows = 6, .left_cols = 5});
    CHECK(enough.terms() == terms);
    CHECK(relative_error(W, enough) <= 1e-12);
    // The shape, too, where the budget has room for it.
    const auto bytes_of = [&](Index count) {
      return bytes(std::int64_t(8 * count * (6 * 5 + 4 * 7)));
    };
    const auto found = compress<Kronecker>(W, bytes_of(terms));
    CHECK(relative_error(W, found) <= 1e-12);
    CHECK(found.bytes() <= std::size_t(8 * terms * (6 * 5 + 4 * 7)));
    CHECK(relative_error(W, compress<Kronecker>(W, bytes_of(terms), calibration), calibration) <=
          1e-12);
    // Cut out of a larger one.
    const Matrix<double> corner = W.topLeftCorner(23, 33);
    const auto cropped = kronecker_of_shape<double>(corner, 6, 5, terms);
    CHECK(cropped.right_rows() == 4);
    CHECK(cropped.right_cols() == 7);
    const Vector<double> sigma = kronecker_spectrum(corner, 6, 5);
    CHECK((corner - kronecker_in_double(cropped)).norm() <=
          sigma.tail(sigma.size() - terms).norm() * (1 + 1e-12));
  }
}

TEST_CASE("Kronecker: half-steps leave out what is outside of the corner", "[kronecker]") {
  // With a calibration, columns past the last are inputs that never are; rows all are there.
  Random random(553);
  const Matrix<double> A = random.matrix<double>(6, 5);
  const Matrix<double> B = random.matrix<double>(4, 7);
  const Matrix<double> W = kronecker_product(A, B).leftCols(32);
  const auto calibration = kronecker_metric(kronecker_gram(random, 32));
  const double plain = relative_error(W, kronecker_of_shape<double>(W, 6, 5, 1), calibration);
  const auto op = compress<Kronecker>(
      W, keep(10), calibration,
      KroneckerOptions<double>{.left_rows = 6, .left_cols = 5, .terms = 1, .iterations = 200});
  CHECK(plain > 1e-2);
  CHECK(relative_error(W, op, calibration) <= 1e-4);
}

TEST_CASE("Kronecker: the Hadamard matrix is one product of any shape", "[kronecker]") {
  Matrix<float> H = Matrix<float>::Ones(1, 1);
  while (H.rows() < 32) {
    Matrix<float> next(2 * H.rows(), 2 * H.rows());
    next << H, H, H, -H;
    H = next;
  }
  for (const Index split : {1, 2, 4, 8, 16, 32})
    CHECK(relative_error(H, kronecker_of_shape<float>(H, split, split, 1)) <= 1e-6);
  const auto least = compress<Kronecker>(H, error(1e-5));
  CHECK(least.bytes() == 4 * (4 * 4 + 8 * 8));
}

TEST_CASE("Kronecker: columns times rows is low rank", "[kronecker]") {
  Random random(554);
  for (const auto& [m, n] : {std::pair<Index, Index>{20, 14}, {14, 20}, {15, 15}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    const auto calibration = kronecker_metric(kronecker_gram(random, n));
    for (const Index rank : {1, 3, 7})
      for (const bool calibrated : {false, true}) {
        CAPTURE(m, n, rank, calibrated);
        const auto seen = calibrated ? calibration : Calibration<double>();
        const auto low_rank = compress<LowRank>(W, keep(10), seen, {.rank = rank});
        for (const auto& [m1, n1] : {std::pair<Index, Index>{m, 1}, {1, n}}) {
          const auto op = kronecker_of_shape<double>(W, m1, n1, rank, seen);
          CHECK(op.bytes() == low_rank.bytes());
          CHECK(relative_error(W, op, seen) ==
                Approx(relative_error(W, low_rank, seen)).epsilon(1e-7));
          if (!calibrated) CHECK((op.to_dense() - low_rank.to_dense()).norm() <= 1e-10 * W.norm());
        }
      }
  }
}

TEST_CASE("Kronecker: exact where the metric is a product", "[kronecker]") {
  Random random(555);
  for (const auto& [m1, n1, m2, n2, terms] : std::vector<std::array<Index, 5>>{
           {4, 5, 6, 3, 1}, {4, 5, 6, 3, 4}, {3, 2, 5, 9, 2}, {7, 6, 2, 4, 3}}) {
    CAPTURE(m1, n1, m2, n2, terms);
    const Matrix<double> C1 = kronecker_gram(random, n1);
    const Matrix<double> C2 = kronecker_gram(random, n2);
    const Matrix<double> W = random.matrix<double>(m1 * m2, n1 * n2);
    const auto calibration = kronecker_metric(kronecker_product(C1, C2));
    const Matrix<double> S =
        kronecker_product(Matrix<double>(Eigen::LLT<Matrix<double>>(C1).matrixL()),
                          Matrix<double>(Eigen::LLT<Matrix<double>>(C2).matrixL()));
    const Vector<double> sigma = kronecker_spectrum(W * S, m1, n1);
    const double best = sigma.tail(sigma.size() - terms).norm();
    const auto op = kronecker_of_shape<double>(W, m1, n1, terms, calibration);
    CHECK(((W - kronecker_in_double(op)) * S).norm() == Approx(best).epsilon(1e-7));
  }
}

TEST_CASE("Kronecker: the nearest product of a metric", "[kronecker]") {
  Random random(556);
  const KroneckerShape shape{1, 20, 1, 4, 1, 5, 1};
  const Matrix<double> C1 = kronecker_gram(random, 4);
  const Matrix<double> C2 = kronecker_gram(random, 5);
  const Matrix<double> G = kronecker_product(C1, C2);
  const auto [D1, D2] = detail::KroneckerSystem<>(G, shape).nearest_product();
  const Matrix<double> found = kronecker_product(D1, D2);
  CHECK((found / found.norm() - G / G.norm()).norm() <= 1e-12);
  const Matrix<double> any = kronecker_gram(random, 20);
  const auto [E1, E2] = detail::KroneckerSystem<>(any, shape).nearest_product();
  const Matrix<double> E = kronecker_product(E1, E2);
  const double share = E.cwiseProduct(any).sum() / E.norm() / any.norm();
  const Vector<double> sigma = kronecker_spectrum(any, 4, 4);
  CHECK(share == Approx(sigma(0) / sigma.norm()).epsilon(1e-9));
}

TEST_CASE("Kronecker: half-steps solve least squares, and never lose", "[kronecker]") {
  Random random(557);
  for (const auto& sizes :
       std::vector<std::array<Index, 5>>{{3, 4, 5, 2, 2}, {4, 2, 3, 6, 3}, {2, 3, 2, 3, 1}}) {
    const Index m1 = sizes[0];
    const Index n1 = sizes[1];
    const Index m2 = sizes[2];
    const Index n2 = sizes[3];
    const Index terms = sizes[4];
    CAPTURE(m1, n1, m2, n2, terms);
    const Index m = m1 * m2;
    const Index n = n1 * n2;
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> G = kronecker_gram(random, n);
    const Matrix<double> S = Eigen::LLT<Matrix<double>>(G).matrixL();
    const KroneckerShape shape{m, n, m1, n1, m2, n2, terms};
    detail::KroneckerSolver<> solver(W, G, {}, shape, {});
    const Matrix<double> B = random.matrix<double>(m2 * n2, terms);
    const Matrix<double> A = random.matrix<double>(m1 * n1, terms);
    const auto product = [&](const Matrix<double>& left, const Matrix<double>& right) {
      Matrix<double> sum = Matrix<double>::Zero(m, n);
      for (Index r = 0; r < terms; ++r)
        sum += kronecker_product(Eigen::Map<const Matrix<double>>(left.col(r).data(), m1, n1),
                                 Eigen::Map<const Matrix<double>>(right.col(r).data(), m2, n2));
      return sum;
    };
    CHECK(solver.loss({A, B}) == Approx(((W - product(A, B)) * S).squaredNorm()).epsilon(1e-12));
    CHECK(solver.energy() == Approx((W * S).squaredNorm()).epsilon(1e-12));
    // Every column of the design is what one entry of a term does.
    const auto brute_force = [&](bool left) {
      const Index count = left ? m1 * n1 : m2 * n2;
      Matrix<double> design(m * n, terms * count);
      for (Index r = 0; r < terms; ++r)
        for (Index e = 0; e < count; ++e) {
          Matrix<double> one = Matrix<double>::Zero(count, terms);
          one(e, r) = 1;
          const Matrix<double> effect = (left ? product(one, B) : product(A, one)) * S;
          design.col(r * count + e) = Eigen::Map<const Vector<double>>(effect.data(), m * n);
        }
      const Matrix<double> WS = W * S;
      const Vector<double> target = Eigen::Map<const Vector<double>>(WS.data(), m * n);
      const Vector<double> solution =
          Eigen::CompleteOrthogonalDecomposition<Matrix<double>>(design).solve(target);
      return std::pair(
          Matrix<double>(Eigen::Map<const Matrix<double>>(solution.data(), count, terms)),
          (target - design * solution).squaredNorm());
    };
    const auto [best_A, loss_A] = brute_force(true);
    const Matrix<double> found_A = solver.left_for(B);
    CHECK((found_A - best_A).norm() <= 1e-9 * best_A.norm());
    CHECK(solver.loss({found_A, B}) == Approx(loss_A).epsilon(1e-10));
    const auto [best_B, loss_B] = brute_force(false);
    const Matrix<double> found_B = solver.right_for(A);
    CHECK((found_B - best_B).norm() <= 1e-9 * best_B.norm());
    CHECK(solver.loss({A, found_B}) == Approx(loss_B).epsilon(1e-10));

    // Monotone from either start; the best of all.
    double least = solver.loss(solver.by_singular_vectors(terms));
    CHECK(least >= solver.loss(solver.by_singular_vectors((std::min)(m1 * n1, m2 * n2))));
    least = (std::min)(least, solver.loss(solver.by_closed_form(terms)));
    for (const Index rounds : {1, 2, 3, 5, 10, 40}) {
      detail::ProgressReport report({});
      const double loss = solver.loss(solver.fitted(terms, rounds, report));
      CHECK(loss <= least * (1 + 1e-12));
      least = loss;
    }
  }
}

TEST_CASE("Kronecker: terms that depend on each other have a solution", "[kronecker]") {
  Random random(558);
  const Matrix<double> W = random.matrix<double>(6, 8);
  const Matrix<double> G = kronecker_gram(random, 8);
  detail::KroneckerSolver<> solver(W, G, {}, {6, 8, 2, 4, 3, 2, 3}, {});
  Matrix<double> B = random.matrix<double>(6, 3);
  const double of_two = solver.loss({solver.left_for(B.leftCols(2)), B.leftCols(2)});
  B.col(2) = 2 * B.col(0) - B.col(1);
  CHECK(solver.loss({solver.left_for(B), B}) == Approx(of_two).epsilon(1e-9));
  B.col(2).setZero();
  const Matrix<double> A = solver.left_for(B);
  CHECK(A.allFinite());
  CHECK(solver.loss({A, B}) == Approx(of_two).epsilon(1e-9));
}

TEMPLATE_TEST_CASE("Kronecker: with a calibration never further than without", "[kronecker]", float,
                   double) {
  using T = TestType;
  Random random(559);
  for (const auto& [m, n, m1, n1, terms] : std::vector<std::array<Index, 5>>{{24, 30, 4, 5, 2},
                                                                             {30, 24, 6, 3, 5},
                                                                             {1, 30, 1, 6, 1},
                                                                             {30, 1, 5, 1, 1},
                                                                             {1, 1, 1, 1, 1},
                                                                             {23, 29, 5, 6, 3}})
    for (const Index samples : {1, 2, 10, 200}) {
      CAPTURE(m, n, m1, n1, terms, samples);
      const Matrix<T> W = random.matrix<T>(m, n);
      const auto plain = kronecker_of_shape<T>(W, m1, n1, terms);
      auto calibration = calibration_of(correlated_inputs<T>(random, n, samples));
      for (const int outputs : {0, 1, 2}) {
        CAPTURE(outputs);
        if (outputs == 1) {
          Vector<double> weights(m);
          for (Index i = 0; i < m; ++i) weights(i) = i % 4 == 1 && m > 1 ? 0 : random.uniform(0, 3);
          weights(m - 1) = 2;
          calibration.row_weights(weights);
        }
        if (outputs == 2) calibration.output_metric(gram_of(random, m, m + 3));
        const auto op = kronecker_of_shape<T>(W, m1, n1, terms, calibration);
        CHECK(relative_error(W, op, calibration) <= relative_error(W, plain, calibration));
        // It gains, too: of many samples, by the metric.
        if (samples == 200 && outputs == 0 && m > 1 && n > 1)
          CHECK(relative_error(W, op, calibration) < 0.97 * relative_error(W, plain, calibration));
      }
    }
}

TEST_CASE("Kronecker: weights of rows that are a product are exact", "[kronecker]") {
  Random random(560);
  const Matrix<double> W = random.matrix<double>(20, 18);
  Vector<double> p1(5);
  for (Index i = 0; i < 5; ++i) p1(i) = random.uniform(0.1, 4);
  Vector<double> p2(4);
  for (Index i = 0; i < 4; ++i) p2(i) = random.uniform(0.1, 4);
  const Vector<double> weights = kronecker_product(p1, p2);
  Calibration<double> calibration;
  calibration.row_weights(weights);
  const Vector<double> sigma = kronecker_spectrum(weights.cwiseSqrt().asDiagonal() * W, 5, 3);
  for (const Index terms : {1, 4}) {
    const auto op = kronecker_of_shape<double>(W, 5, 3, terms, calibration);
    CHECK((weights.cwiseSqrt().asDiagonal() * (W - kronecker_in_double(op))).norm() ==
          Approx(sigma.tail(sigma.size() - terms).norm()).epsilon(1e-10));
  }
}

TEST_CASE("Kronecker: where systems are too large, the closed form stands", "[kronecker]") {
  Random random(569);
  const Matrix<double> G = Matrix<double>::Identity(600, 600);
  const Matrix<double> W = random.matrix<double>(5, 600);
  const detail::KroneckerSolver<> solver(W, G, {}, {5, 600, 1, 300, 5, 2, 1}, {});
  CHECK(solver.has_half_steps(6));
  CHECK(!solver.has_half_steps(7));
  const auto calibration = calibration_of(correlated_inputs<double>(random, 600, 40));
  for (const Storage storage : {Storage::f64, Storage::bf16}) {
    auto options = KroneckerOptions<double>{
        .left_rows = 1, .left_cols = 300, .terms = 10, .iterations = 5, .storage = storage};
    const auto op = compress<Kronecker>(W, keep(10), calibration, options);
    CHECK(relative_error(W, op, calibration) <= (is_narrow(storage) ? 0.01 : 1e-10));
    options.terms = 9;
    const auto nine = compress<Kronecker>(W, keep(10), calibration, options);
    const auto plain = compress<Kronecker>(W, keep(10), options);
    CHECK(relative_error(W, nine, calibration) <= relative_error(W, plain, calibration));
    options.terms = 11;
    CHECK_THROWS_AS(compress<Kronecker>(W, keep(10), options), std::invalid_argument);
  }
}

TEST_CASE("Kronecker: any shape of a weight", "[kronecker]") {
  Random random(561);
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{
           {1, 1}, {1, 40}, {40, 1}, {2, 2}, {7, 1}, {257, 64}, {120, 131}, {5, 3}}) {
    CAPTURE(m, n);
    const Matrix<float> W = random.matrix<float>(m, n);
    const auto calibration = calibration_of(correlated_inputs<float>(random, n, 50));
    for (const double share : {0.3, 0.6, 1.1, 3.0})
      for (const bool calibrated : {false, true}) {
        const auto limit = std::size_t(share * 4 * double(m * n));
        const auto seen = calibrated ? calibration : Calibration<float>();
        try {
          const auto op = compress<Kronecker>(W, keep(share), seen);
          CHECK(op.bytes() <= limit + 1);
          CHECK(op.rows() == m);
          CHECK(op.cols() == n);
          CHECK(relative_error(W, op, seen) <= 1);
          if (share == 3.0) CHECK(relative_error(W, op) <= 1e-6);
        } catch (const std::invalid_argument& refused) {
          CHECK((m + n) * 4 > Index(limit));  // not even rank 1
          CHECK_THAT(refused.what(), Contains("1 term needs"));
        }
      }
  }
}

TEST_CASE("Kronecker: low rank is among the shapes that a calibration is tried with",
          "[kronecker]") {
  Random random(565);
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{48, 64}, {64, 24}, {30, 60}}) {
    const Matrix<float> W = random.matrix<float>(m, n);
    const auto calibration = exact_calibration(correlated_inputs<float>(random, n, 400));
    for (const double share : {0.25, 0.5}) {
      CAPTURE(m, n, share);
      const double low_rank =
          relative_error(W, compress<LowRank>(W, keep(share), calibration), calibration);
      CHECK(relative_error(W, compress<Kronecker>(W, keep(share), calibration), calibration) <=
            low_rank * (1 + 1e-5));
    }
  }
}

TEST_CASE("Kronecker: parts of numbers that have none", "[kronecker]") {
  CHECK(detail::part_counts<>(1) == std::vector<Index>{1});
  CHECK(detail::part_counts<>(12) == std::vector<Index>{1, 2, 3, 4, 6, 12});
  for (const Index n : {2, 7, 64, 131, 257, 262, 720, 1009, 4096, 50257}) {
    CAPTURE(n);
    const auto counts = detail::part_counts<>(n);
    CHECK(counts.size() <= 12);
    CHECK(counts.front() == 1);
    CHECK(counts.back() == n);
    CHECK(std::is_sorted(counts.begin(), counts.end()));
    const double root = std::sqrt(double(n));
    if (n > 4)
      CHECK(std::any_of(counts.begin(), counts.end(), [&](Index count) {
        return double(count) >= root / 4 && double(count) <= 4 * root;
      }));
    for (const Index count : counts) {
      const Index part = (n + count - 1) / count;
      CHECK((count - 1) * part < n);
      CHECK(count * part >= n);
    }
  }
}

TEST_CASE("Kronecker: budgets and what options say are kept", "[kronecker]") {
  Random random(562);
  const Index m = 48;
  const Index n = 60;
  const Matrix<float> W = random.matrix<float>(m, n);
  const auto calibration = calibration_of(correlated_inputs<float>(random, n, 100));
  for (const double share : {0.05, 0.2, 0.5}) {
    const auto limit = std::size_t(share * 4 * double(m * n));
    for (const auto& seen : {Calibration<float>(), calibration}) {
      const auto op = compress<Kronecker>(W, keep(share), seen);
      CHECK(op.bytes() <= limit);
      auto more = op.shape();
      ++more.terms;
      CHECK(Kronecker<float>::stored_bytes(more) > limit);
      const auto rows =
          compress<Kronecker>(W, keep(share), seen, KroneckerOptions<float>{.left_rows = 6});
      CHECK(rows.left_rows() == 6);
      CHECK(rows.right_rows() == 8);
      CHECK(rows.bytes() <= limit);
      const auto cols =
          compress<Kronecker>(W, keep(share), seen, KroneckerOptions<float>{.left_cols = 10});
      CHECK(cols.left_cols() == 10);
      CHECK(cols.bytes() <= limit);
      if (share < 0.1) continue;
      const auto two =
          compress<Kronecker>(W, keep(share), seen, KroneckerOptions<float>{.terms = 2});
      CHECK(two.terms() == 2);
      CHECK(two.bytes() <= limit);
    }
  }
  const auto fixed =
      compress<Kronecker>(W, bytes(4 * 3 * (24 + 120)),
                          KroneckerOptions<float>{.left_rows = 6, .left_cols = 4, .terms = 3});
  CHECK(fixed.shape() == KroneckerShape{m, n, 6, 4, 8, 15, 3});
  CHECK(fixed.bytes() == 4 * 3 * (24 + 120));
  // The best of its size: no worse than any shape that is asked for.
  const auto chosen = compress<Kronecker>(W, keep(0.3));
  for (const Index m1 : {2, 6, 12, 24, 48})
    for (const Index n1 : {1, 4, 10, 30}) {
      if (4 * double(m1 * n1 + m / m1 * (n / n1)) > 0.3 * 4 * double(m * n)) continue;
      const auto asked = compress<Kronecker>(
          W, keep(0.3), KroneckerOptions<float>{.left_rows = m1, .left_cols = n1});
      CHECK(relative_error(W, chosen) <= 1.02 * relative_error(W, asked));
    }
  for (const auto& seen : {Calibration<float>(), calibration})
    for (const double target : {0.6, 0.2, 0.0}) {
      CAPTURE(target);
      const auto op = compress<Kronecker>(W, error(target), seen);
      CHECK(relative_error(W, op, seen) <= target);
      CHECK(op.bytes() <= 4 * std::size_t(m * n) + 4);
    }
  const auto within =
      compress<Kronecker>(W, error(0.5), KroneckerOptions<float>{.left_rows = 6, .left_cols = 6});
  CHECK(within.left_cols() == 6);
  CHECK(relative_error(W, within) <= 0.5);
  CHECK(relative_error(W, kronecker_of_shape<float>(W, 6, 6, within.terms() - 2)) > 0.5);
}

TEST_CASE("Kronecker refuses what no weight has, in words", "[kronecker]") {
  const Matrix<float> W = Matrix<float>::Ones(12, 20);
  const auto refused = [&](const KroneckerOptions<float>& options, const auto& message) {
    CHECK_THROWS_WITH(compress<Kronecker>(W, keep(10), options), message);
  };
  refused({.left_rows = -1}, Contains("left_rows") && Contains("12 rows") && Contains("-1"));
  refused({.left_rows = 13}, Contains("left_rows") && Contains("between 1 and 12"));
  refused({.left_cols = 21}, Contains("left_cols") && Contains("20 columns") && Contains("21"));
  refused({.left_rows = 5},
          Contains("left_rows = 5 times 3 is more than 12 rows need: 4 would do, or 6"));
  refused({.left_cols = 9},
          Contains("left_cols = 9 times 3 is more than 20 columns need: 7 would do, or 10"));
  refused({.terms = -1}, Contains("terms") && Contains("-1"));
  refused({.iterations = -2}, Contains("iterations") && Contains("-2"));
  refused({.left_rows = 4, .left_cols = 2, .terms = 9},
          Contains("12 x 20") && Contains("9 terms") && Contains("4 rows and 2 columns"));
  refused({.rank_rule = static_cast<RankRule>(9)}, Contains("rank rule"));
  refused({.energy = 0}, Contains("energy"));
  refused({.storage = Storage::f64}, Contains("f64"));
  CHECK_THROWS_WITH(compress<Kronecker>(W, bytes(4 * 31 - 1)),
                    Contains("12 x 20") && Contains("1 term needs 124"));
  CHECK(compress<Kronecker>(W, bytes(4 * 31)).bytes() == 4 * 31);
  CHECK_THROWS_WITH(compress<Kronecker>(W, bytes(4 * 61), KroneckerOptions<float>{.terms = 2}),
                    Contains("2 terms needs 248"));
  CHECK_THROWS_WITH(compress<Kronecker>(W, keep(0.1), KroneckerOptions<float>{.left_rows = 12}),
                    Contains("1 term with left matrices of 12 rows and any columns needs"));
  CHECK_THROWS_AS(compress<Kronecker>(W, keep(1), Calibration<float>(19)), std::invalid_argument);
}

TEST_CASE("Kronecker: narrow matrices, and what is fitted to them", "[kronecker]") {
  Random random(563);
  Matrix<float> W = random.matrix<float>(64, 96);
  for (Index r = 0; r < 3; ++r) {  // something to find
    const Matrix<double> A = random.matrix<double>(8, 12);
    const Matrix<double> B = random.matrix<double>(8, 8);
    W += (std::pow(3.0, double(3 - r)) * kronecker_product(A, B)).cast<float>();
  }
  const auto calibration = exact_calibration(correlated_inputs<float>(random, 96, 300));
  for (const bool calibrated : {false, true})
    for (const auto& [m1, n1] : {std::pair<Index, Index>{8, 12}, {4, 48}, {32, 2}}) {
      CAPTURE(calibrated, m1, n1);
      const auto seen = calibrated ? calibration : Calibration<float>();
      const auto exact = kronecker_of_shape<float>(W, m1, n1, 3, seen);
      for (const auto& [storage, allowance] : {std::pair{Storage::bf16, 0.01},
                                               {Storage::f16, 0.001},
                                               {Storage::int8, 0.02},
                                               {Storage::int4, 0.2}}) {
        INFO(to_string(storage));
        const auto op = compress<Kronecker>(
            W, keep(9), seen,
            KroneckerOptions<float>{
                .left_rows = m1, .left_cols = n1, .terms = 3, .storage = storage});
        CHECK(op.left().storage() == storage);
        CHECK(op.right().storage() == storage);
        CHECK(op.bytes() == Kronecker<float>::stored_bytes(exact.shape(), storage));
        CHECK(relative_error(W, op, seen) <= relative_error(W, exact, seen) + allowance);
        // Not worse than both rounded as they are.
        const Kronecker<float> rounded(64, 96, exact.left_terms(), exact.right_terms(), storage);
        CHECK(relative_error(W, op, seen) <= relative_error(W, rounded, seen) * (1 + 1e-6));
      }
    }
  const auto op =
      compress<Kronecker>(W, keep(0.1), KroneckerOptions<float>{.storage = Storage::int8});
  CHECK(op.bytes() <= std::size_t(0.1 * 4 * 64 * 96));
}

TEST_CASE("Kronecker is blind to scale, and the same for any number of threads", "[kronecker]") {
  Random random(564);
  const Matrix<double> W = random.matrix<double>(24, 36);
  const Matrix<double> X = correlated_inputs<double>(random, 36, 60);
  Vector<double> weights(24);
  for (Index i = 0; i < 24; ++i) weights(i) = random.uniform(0.5, 2);
  const auto made = [&](double weight, double input, bool free) {
    auto options = KroneckerOptions<double>{.iterations = 4};
    if (!free) options.left_rows = options.left_cols = 6;
    return compress<Kronecker>(Matrix<double>(weight * W), keep(0.4),
                               calibration_of(Matrix<double>(input * X)).row_weights(weights),
                               options);
  };
  const auto reference = made(1, 1, true);
  for (const auto& [weight, input] : {std::pair{0x1p20, 1.0}, {0x1p-31, 0x1p17}, {1.0, 0x1p-40}}) {
    const auto other = made(weight, input, true);
    CHECK(other.shape() == reference.shape());
    CHECK(other.to_dense() == Matrix<double>(weight * reference.to_dense()));
  }
  const auto fixed = made(1, 1, false);
  for (const auto& [weight, input] : {std::pair{1e-6, 1.0}, {1e6, 1e-6}, {1.0, 1e6}}) {
    const auto other = made(weight, input, false);
    CHECK((other.to_dense() / weight - fixed.to_dense()).norm() <= 1e-8 * W.norm());
  }
  set_num_threads(3);
  const auto threaded = made(1, 1, true);
  set_num_threads(1);
  CHECK(threaded.shape() == reference.shape());
  CHECK(threaded.left_terms() == reference.left_terms());
  CHECK(threaded.right_terms() == reference.right_terms());
  // In float, from one end of the numbers to the other.
  for (const float scale : {1e-36F, 1e36F}) {
    const Matrix<float> extreme = scale * W.cast<float>();
    CHECK(relative_error(extreme, kronecker_of_shape<float>(extreme, 6, 6, 24)) <= 1e-6);
    const double plain = relative_error(Matrix<float>(W.cast<float>()),
                                        kronecker_of_shape<float>(W.cast<float>(), 6, 6, 4));
    CHECK(relative_error(extreme, kronecker_of_shape<float>(extreme, 6, 6, 4)) ==
          Approx(plain).epsilon(1e-4));
  }
}

TEST_CASE("Kronecker: nothing seen is no metric, and zeros are zeros", "[kronecker]") {
  Random random(565);
  const Matrix<double> W = random.matrix<double>(12, 10);
  const auto plain = kronecker_of_shape<double>(W, 3, 5, 2);
  CHECK(kronecker_of_shape<double>(W, 3, 5, 2, Calibration<double>(10)).to_dense() ==
        plain.to_dense());
  const auto dead = calibration_of(Matrix<double>::Zero(10, 12));
  CHECK(kronecker_of_shape<double>(W, 3, 5, 2, dead).to_dense() == plain.to_dense());
  const Matrix<double> zero = Matrix<double>::Zero(12, 10);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 10, 30));
  for (const auto& seen : {Calibration<double>(), dead, calibration}) {
    CHECK(kronecker_of_shape<double>(zero, 3, 5, 2, seen).to_dense() == zero);
    CHECK(relative_error(zero, compress<Kronecker>(zero, error(0), seen), seen) == 0);
  }
}

TEST_CASE("Kronecker: terms by the spectrum", "[kronecker]") {
  Random random(566);
  Matrix<double> W = 1e-3 * random.matrix<double>(24, 30);
  for (Index r = 0; r < 3; ++r) {
    const Matrix<double> A = random.matrix<double>(4, 5);
    const Matrix<double> B = random.matrix<double>(6, 6);
    W += std::pow(0.7, double(r)) * kronecker_product(A, B);
  }
  const auto calibration = calibration_of(correlated_inputs<double>(random, 30, 300));
  for (const auto& seen : {Calibration<double>(), calibration}) {
    const auto by = [&](RankRule rule, double energy, double share) {
      return compress<Kronecker>(
          W, keep(share), seen,
          KroneckerOptions<double>{
              .left_rows = 4, .left_cols = 5, .rank_rule = rule, .energy = energy});
    };
    CHECK(by(RankRule::elbow, 0.95, 2).terms() == 3);
    CHECK(by(RankRule::energy, 0.9999, 2).terms() == 3);
    CHECK(by(RankRule::energy, 1e-3, 2).terms() == 1);
    CHECK(by(RankRule::energy, 1, 2).terms() == 20);
    CHECK(by(RankRule::elbow, 0.95, 0.16).terms() == 2);  // no more than the budget allows
    CHECK(by(RankRule::budget, 0.95, 0.16).terms() == 2);
  }
}

TEST_CASE("Kronecker reports, stops, and is cross-validated", "[kronecker]") {
  Random random(567);
  const Matrix<double> W = random.matrix<double>(24, 30);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 30, 300));
  for (const auto& seen : {Calibration<double>(), calibration})
    for (const auto& budget : {keep(0.4), error(1e-9)}) {
      Index calls = 0;
      const auto stopped = compress<Kronecker>(
          W, budget, seen, KroneckerOptions<double>{.monitor = [&](const Progress&) {
            ++calls;
            return false;
          }});
      CHECK(calls == 1);
      CHECK(relative_error(W, stopped, seen) <= 1);
    }
  double last = 1;
  Index rounds = 0;
  const auto watched =
      compress<Kronecker>(W, keep(0.4), calibration,
                          KroneckerOptions<double>{.left_rows = 4,
                                                   .left_cols = 5,
                                                   .iterations = 7,
                                                   .monitor = [&](const Progress& progress) {
                                                     if (progress.phase != "half-steps")
                                                       return true;
                                                     CHECK(progress.iteration == ++rounds);
                                                     CHECK(progress.iterations == 7);
                                                     CHECK(progress.loss <= last);
                                                     last = progress.loss;
                                                     return true;
                                                   }});
  CHECK(rounds == 7);
  CHECK(last < 1);
  CHECK(relative_error(W, watched, calibration) < 1);
  // Stopped between half-steps, what there is by then is returned.
  rounds = 0;
  const auto early = compress<Kronecker>(
      W, keep(0.4), calibration,
      KroneckerOptions<double>{.left_rows = 4,
                               .left_cols = 5,
                               .iterations = 50,
                               .monitor = [&](const Progress& progress) {
                                 return progress.phase != "half-steps" || ++rounds < 3;
                               }});
  CHECK(rounds == 3);
  CHECK(early.bytes() <= std::size_t(0.4 * 8 * 24 * 30));
  CHECK(relative_error(W, early, calibration) <=
        relative_error(W, kronecker_of_shape<double>(W, 4, 5, early.terms()), calibration));
  const double expected = cross_validate<Kronecker>(W, keep(0.4), calibration);
  CHECK(expected > 0);
  CHECK(expected < 1);
}

TEST_CASE("Kronecker of larger layers, and wide ones with few samples", "[kronecker]") {
  Random random(568);
  const Matrix<float> W = random.matrix<float>(257, 512);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 512, 900));
  const auto op = compress<Kronecker>(W, keep(0.1), calibration,
                                      KroneckerOptions<float>{.left_rows = 17, .left_cols = 16});
  CHECK(op.right_rows() == 16);
  CHECK(op.bytes() <= std::size_t(0.1 * 4 * 257 * 512));
  const auto plain =
      compress<Kronecker>(W, keep(0.1), KroneckerOptions<float>{.left_rows = 17, .left_cols = 16});
  CHECK(relative_error(W, op, calibration) < 0.9 * relative_error(W, plain, calibration));
  const Matrix<float> wide = random.matrix<float>(6, 4096);
  const auto few = calibration_of(random.matrix<float>(4096, 10));
  const auto seen = compress<Kronecker>(wide, keep(0.3), few);
  CHECK(seen.bytes() <= std::size_t(0.3 * 4 * 6 * 4096));
  CHECK(relative_error(wide, seen) < 1);
}

}  // namespace pleat::test
