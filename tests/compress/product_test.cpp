// SPDX-License-Identifier: MIT
// Products of two layers, per head: the truncated singular value decomposition, without the
// product.
#include "pleat/compress/product.hpp"

#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

/// The product of one head of width d.
template <class Left, class Right>
Matrix<double> head_product(const Left& W2, const Right& W1, Index head, Index d) {
  return W2.middleCols(head * d, d).template cast<double>() *
         W1.middleRows(head * d, d).template cast<double>();
}

/// The sum over heads of || root (A B - U V) X ||^2, root and X may be empty for the identity.
template <class Left, class Right, class Made>
double product_loss(const Left& W2, const Right& W1, Index heads, const Made& made,
                    const Matrix<double>& X = {}, const Matrix<double>& root = {}) {
  double sum = 0;
  for (Index head = 0; head < heads; ++head) {
    Matrix<double> lost = head_product(W2, W1, head, W1.rows() / heads) -
                          head_product(made.W2, made.W1, head, made.rank);
    if (X.size() > 0) lost = lost * X;
    if (root.size() > 0) lost = root * lost;
    sum += lost.squaredNorm();
  }
  return sum;
}

/// The sum of the squared singular values of root A B X beyond the first r, over heads.
template <class Left, class Right>
double product_tail(const Left& W2, const Right& W1, Index heads, Index r, const Matrix<double>& X,
                    const Matrix<double>& root = {}) {
  double sum = 0;
  for (Index head = 0; head < heads; ++head) {
    Matrix<double> M = head_product(W2, W1, head, W1.rows() / heads) * X;
    if (root.size() > 0) M = root * M;
    const Vector<double> sigma = singular_values(M);
    if (sigma.size() > r) sum += sigma.tail(sigma.size() - r).squaredNorm();
  }
  return sum;
}

}  // namespace

TEST_CASE("each head's product is its truncated singular value decomposition", "[product]") {
  Random random(751);
  for (const auto& [m, heads, d, n] : {std::tuple<Index, Index, Index, Index>{9, 1, 5, 11},
                                       {11, 3, 4, 13},
                                       {3, 2, 7, 5},
                                       {1, 2, 3, 1},
                                       {20, 2, 6, 3}})
    for (const Index samples : {2, 9, 60}) {
      const Matrix<double> W2 = random.matrix<double>(m, heads * d);
      const Matrix<double> W1 = random.matrix<double>(heads * d, n);
      const Matrix<double> X = correlated_inputs<double>(random, n, samples);
      auto calibration = exact_calibration(X);
      const Matrix<double> B = random.matrix<double>(m, m);
      const Vector<double> weights = (random.matrix<double>(m, 1).array() + 1.1).matrix();
      for (const int metric : {0, 1, 2}) {
        Matrix<double> root = Matrix<double>::Identity(m, m);
        if (metric == 1) {
          calibration.row_weights(weights);
          root = weights.cwiseSqrt().asDiagonal();
        }
        if (metric == 2) {
          calibration.output_metric(B * B.transpose());
          root = B.transpose();
        }
        const double whole = product_tail(W2, W1, heads, 0, X, root);
        for (Index r = 1; r <= d; ++r) {
          CAPTURE(m, heads, d, n, samples, metric, r);
          const auto made = compress_product(W2, W1, heads, keep(1), calibration, {.rank = r});
          CHECK(made.rank == r);
          CHECK((made.W2.rows() == m && made.W2.cols() == heads * r));
          CHECK((made.W1.rows() == heads * r && made.W1.cols() == n));
          CHECK(made.bytes() == sizeof(double) * static_cast<std::size_t>(heads * r * (m + n)));
          const double loss = product_loss(W2, W1, heads, made, X, root);
          CHECK(
              loss ==
              Approx(product_tail(W2, W1, heads, r, X, root)).epsilon(1e-7).margin(1e-16 * whole));
          // Dropping dimensions is no better.
          if (heads == 1 && r < d)
            CHECK(loss <= product_loss(W2, W1, 1,
                                       ProductPair<double>{W2.rightCols(r), W1.bottomRows(r), r}, X,
                                       root) *
                                  (1 + 1e-9) +
                              1e-16 * whole);
          if (r == d) {
            CHECK(made.W2 == W2);
            CHECK(made.W1 == W1);
          }
        }
      }
    }
}

TEST_CASE("one head is what low rank makes of the product", "[product]") {
  Random random(752);
  const Matrix<double> W2 = random.matrix<double>(12, 8);
  const Matrix<double> W1 = random.matrix<double>(8, 15);
  for (const Index samples : {0, 6, 15, 90}) {
    // Shrunk as well.
    for (const double shrinkage : {0.0, 0.2}) {
      auto calibration = calibration_of(correlated_inputs<double>(random, 15, samples));
      calibration.shrinkage(shrinkage);
      for (const Index r : {1, 3, 7}) {
        CAPTURE(samples, shrinkage, r);
        const auto made = compress_product(W2, W1, 1, keep(1), calibration, {.rank = r});
        const auto expected =
            compress<LowRank>(Matrix<double>(W2 * W1), keep(10), calibration, {.rank = r});
        if (samples >= 15 || shrinkage > 0 || samples == 0 || r < samples)
          CHECK((made.W2 * made.W1).isApprox(expected.to_dense(), 1e-6));
        CHECK(relative_error(Matrix<double>(W2 * W1), expected, calibration) ==
              Approx(
                  std::sqrt(product_loss(W2, W1, 1, made,
                                         samples > 0 ? detail::square_root(calibration.gram())
                                                     : Matrix<double>()) /
                            (samples > 0
                                 ? (W2 * W1 * detail::square_root(calibration.gram())).squaredNorm()
                                 : (W2 * W1).squaredNorm())))
                  .epsilon(1e-6)
                  .margin(1e-7));
      }
    }
  }
}

TEST_CASE("a spectrum that falls far is followed down", "[product]") {
  Random random(753);
  const Matrix<double> left =
      random.matrix<double>(14, 9).householderQr().householderQ() * Matrix<double>::Identity(14, 9);
  const Matrix<double> right =
      random.matrix<double>(17, 9).householderQr().householderQ() * Matrix<double>::Identity(17, 9);
  const Vector<double> sigma =
      Vector<double>::NullaryExpr(9, [](Index i) { return std::pow(10.0, -1.2 * double(i)); });
  const Matrix<double> mixing = random.matrix<double>(9, 9) + 3 * Matrix<double>::Identity(9, 9);
  const Matrix<double> W2 = left * sigma.cwiseSqrt().asDiagonal() * mixing;
  const Matrix<double> W1 = mixing.inverse() * sigma.cwiseSqrt().asDiagonal() * right.transpose();
  for (Index r = 1; r < 9; ++r) {
    const auto made = compress_product(W2, W1, 1, keep(1), {.rank = r});
    CAPTURE(r);
    CHECK(std::sqrt(product_loss(W2, W1, 1, made)) ==
          Approx(sigma.tail(9 - r).norm()).epsilon(1e-3));
  }
  // A product of lower rank than the heads are wide, and inputs that say nothing, are exact.
  const Matrix<double> thin = random.matrix<double>(14, 3) * random.matrix<double>(3, 9);
  const auto exact = compress_product(thin, W1, 1, keep(1), {.rank = 3});
  CHECK(std::sqrt(product_loss(thin, W1, 1, exact)) <= 1e-10 * (thin * W1).norm());
  const auto blind = compress_product(W2, W1, 1, keep(1),
                                      calibration_of(Matrix<double>::Zero(17, 5)), {.rank = 2});
  CHECK(std::sqrt(product_loss(W2, W1, 1, blind)) == Approx(sigma.tail(7).norm()).epsilon(1e-3));
  const auto nothing = compress_product(Matrix<double>::Zero(14, 9), W1, 3, keep(0.4));
  CHECK(nothing.W2.isZero(0));
  CHECK(nothing.W1.allFinite());
}

TEMPLATE_TEST_CASE("budgets of a product", "[product]", float, double) {
  using T = TestType;
  Random random(754);
  const Index heads = 3;
  const Matrix<T> W2 = random.matrix<T>(10, heads * 8);
  const Matrix<T> W1 = random.matrix<T>(heads * 8, 14);
  const Matrix<T> X = correlated_inputs<T>(random, 14, 200);
  auto calibration = calibration_of(X);
  constexpr std::size_t one = sizeof(T) * 3 * (10 + 14);
  for (const double share : {0.125, 0.5, 0.6, 1.0}) {
    const auto made = compress_product(W2, W1, heads, keep(share), calibration);
    CHECK(made.bytes() == one * static_cast<std::size_t>(made.rank));
    CHECK(made.rank == static_cast<Index>(share * 8));
  }
  CHECK(compress_product(W2, W1, heads, bytes(std::int64_t(3 * one - 1)), calibration).rank == 2);
  CHECK(compress_product(W2, W1, heads, keep(9), calibration).W1 == W1);
  CHECK(compress_product(W2, W1, heads, keep(0.5), {.rank = 1}).rank == 1);
  CHECK_THROWS_WITH(compress_product(W2, W1, heads, bytes(std::int64_t(one - 1)), calibration),
                    Contains("rank 1 needs " + std::to_string(one)));
  CHECK_THROWS_WITH(compress_product(W2, W1, heads, keep(0.5), calibration, {.rank = 5}),
                    Contains("rank 5 needs " + std::to_string(5 * one)));
  CHECK_THROWS_WITH(compress_product(W2, W1, heads, error(1e-3), calibration, {.rank = 2}),
                    Contains("rank 2 of heads of width 8"));

  for (const bool shrunk : {false, true}) {
    calibration.shrinkage(shrunk ? 0.1 : 0);
    const Matrix<double> samples = X.template cast<double>();
    const double whole = product_tail(W2, W1, heads, 0, samples);
    std::vector<double> errors{1};
    for (Index r = 1; r <= 8; ++r)
      errors.push_back(
          std::sqrt(product_loss(W2, W1, heads,
                                 compress_product(W2, W1, heads, keep(1), calibration, {.rank = r}),
                                 samples) /
                    whole));
    for (const double wanted : {0.6, 0.3, 0.1, 0.03}) {
      const auto made = compress_product(W2, W1, heads, error(wanted), calibration);
      CAPTURE(shrunk, wanted, made.rank);
      CHECK(errors[static_cast<std::size_t>(made.rank)] <= wanted * (1 + 1e-5));
      CHECK(errors[static_cast<std::size_t>(made.rank - 1)] > wanted);
    }
  }
  CHECK(compress_product(W2, W1, heads, error(0), calibration).W2 == W2);
  const Matrix<T> thin = random.matrix<T>(10, 2) * Matrix<T>(W2.topRows(2));
  CHECK(compress_product(thin, W1, heads, error(0)).rank == 2);
}

TEST_CASE("a product depends neither on scale nor on threads", "[product]") {
  Random random(755);
  const Matrix<double> W2 = random.matrix<double>(30, 24);
  const Matrix<double> W1 = random.matrix<double>(24, 40);
  for (const Index samples : {7, 200}) {
    const Matrix<double> X = correlated_inputs<double>(random, 40, samples);
    const auto make = [&](double left, double right, double inputs) {
      const auto made = compress_product(Matrix<double>(left * W2), Matrix<double>(right * W1), 2,
                                         keep(0.5), calibration_of(Matrix<double>(inputs * X)));
      return Matrix<double>(made.W2.leftCols(6) * made.W1.topRows(6));
    };
    const Matrix<double> reference = make(1, 1, 1);
    for (const double scale : {0x1p-20, 0x1p20}) {
      CHECK(make(scale, 1, 1) == scale * reference);
      CHECK(make(1, scale, 1) == scale * reference);
      CHECK(make(1, 1, scale) == reference);
    }
    for (const double scale : {1e-6, 1e6}) {
      CHECK(make(scale, 1, 1).isApprox(scale * reference, 1e-7));
      CHECK(make(1, 1, scale).isApprox(reference, 1e-7));
    }
    set_num_threads(3);
    const Matrix<double> threaded = make(1, 1, 1);
    set_num_threads(1);
    CHECK(threaded == reference);
  }
}

TEST_CASE("few samples of a product's inputs are no trap", "[product]") {
  for (const Index samples : {4, 16, 64, 256}) {
    double chosen = 0;
    double without = 0;
    for (const std::uint64_t seed : {756U, 766U, 776U}) {
      Random random(seed);
      const Matrix<float> W2 = random.matrix<float>(32, 32);
      const Matrix<float> W1 = random.matrix<float>(32, 48);
      const Matrix<float> all = random.matrix<float>(48, 2000);
      const Matrix<double> judge = all.cast<double>();
      const auto seen = calibration_of(Matrix<float>(all.leftCols(samples)));
      chosen +=
          std::sqrt(product_loss(W2, W1, 2, compress_product(W2, W1, 2, keep(0.5), seen), judge));
      without += std::sqrt(product_loss(W2, W1, 2, compress_product(W2, W1, 2, keep(0.5)), judge));
    }
    CAPTURE(samples, chosen, without);
    CHECK(chosen <= 1.05 * without);
  }
}

TEST_CASE("a product that its monitor stops is complete", "[product]") {
  Random random(757);
  const Matrix<double> W2 = random.matrix<double>(9, 12);
  const Matrix<double> W1 = random.matrix<double>(12, 10);
  Index calls = 0;
  const auto made = compress_product(W2, W1, 3, keep(0.5), {.monitor = [&](const Progress& p) {
                                       CHECK(p.phase == "heads");
                                       CHECK(p.iterations == 3);
                                       return ++calls < 2;
                                     }});
  CHECK(calls == 2);
  CHECK(made.rank == 2);
  CHECK((made.W2.rightCols(2) * made.W1.bottomRows(2))
            .isApprox(W2.middleCols(8, 2) * W1.middleRows(8, 2), 1e-12));
  CHECK(product_loss(W2, W1, 3, made) >
        product_loss(W2, W1, 3, compress_product(W2, W1, 3, keep(0.5))));
}

TEST_CASE("what is no product of heads is refused", "[product]") {
  Random random(758);
  const Matrix<float> W2 = random.matrix<float>(5, 10);
  const Matrix<float> W1 = random.matrix<float>(10, 7);
  CHECK_THROWS_WITH(compress_product(W2, W1, 3, keep(0.5)),
                    Contains("10 rows") && Contains("3 heads") && Contains("1, 2, 5, 10 heads"));
  CHECK_THROWS_WITH(compress_product(W2, W1, 0, keep(0.5)), Contains("1, 2, 5, 10 heads"));
  CHECK_THROWS_WITH(compress_product(W2, W1, -2, keep(0.5)), Contains("-2 heads"));
  CHECK_THROWS_WITH(compress_product(W2, Matrix<float>(9, 7), 3, keep(0.5)),
                    Contains("5 x 10 and 9 x 7"));
  CHECK_THROWS_WITH(compress_product(Matrix<float>(0, 10), W1, 2, keep(0.5)), Contains("empty"));
  CHECK_THROWS_WITH(compress_product(W2, W1, 2, keep(0.5), Calibration<float>(8)),
                    Contains("8 inputs does not fit a 5 x 7"));
  CHECK_THROWS_WITH(compress_product(W2, W1, 2, keep(1), {.rank = 6}), Contains("width 5"));
  CHECK_THROWS_WITH(compress_product(W2, W1, 2, keep(1), {.rank = -1}), Contains("-1"));
  Matrix<float> broken = W1;
  broken(4, 6) = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(compress_product(W2, broken, 2, keep(0.5)),
                    Contains("first layer") && Contains("row 4, column 6"));
  broken = W2;
  broken(4, 6) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(compress_product(broken, W1, 2, keep(0.5)), Contains("second layer"));
}

}  // namespace pleat::test
