// SPDX-License-Identifier: MIT
// Layers after layers that are compressed already: calibrations of pairs of inputs.
#include "compress/layer_before.hpp"
#include "compress/support.hpp"
#include "pleat/compress/compensate.hpp"
#include "pleat/compress/cross_validate.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/pairs.hpp"
#include "pleat/compress/permuted.hpp"
#include "pleat/compress/product.hpp"
#include "pleat/compress/prune.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "pleat/compress/shared.hpp"
#include "pleat/compress/update.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

/// The weights that suit pairs, by their definition: for a > 0 the normal equations; else the least
/// of all least squares in units of the roots of the mean squares of the compressed inputs.
[[nodiscard]] Matrix<double> suiting_weights(const Matrix<double>& W, const Matrix<double>& X,
                                             const Matrix<double>& compressed, double a) {
  const Vector<double> d = compressed.rowwise().squaredNorm();
  const Matrix<double> target = W * (X - compressed);
  if (a > 0) {
    Matrix<double> G = (1 - a) * compressed * compressed.transpose();
    for (Index j = 0; j < d.size(); ++j) G(j, j) = d(j) > 0 ? d(j) : 1;
    const Matrix<double> right = (1 - a) * compressed * target.transpose();
    return W + G.fullPivLu().solve(right).transpose();
  }
  const Vector<double> inverse =
      d.unaryExpr([](double square) { return square > 0 ? 1 / std::sqrt(square) : 0.0; });
  Eigen::JacobiSVD<Matrix<double>> svd(inverse.asDiagonal() * compressed,
                                       Eigen::ComputeThinU | Eigen::ComputeThinV);
  Vector<double> values = svd.singularValues();
  const double largest = values.size() > 0 ? values(0) : 0;
  for (double& value : values) value = value > 1e-5 * largest ? 1 / value : 0;
  return W + target * svd.matrixV() * values.asDiagonal() * svd.matrixU().transpose() *
                 inverse.asDiagonal();
}

/// || What X' - W X || / || W X ||, outputs weighted.
[[nodiscard]] double pairs_error(const Matrix<double>& W, const Matrix<double>& What,
                                 const Matrix<double>& X, const Matrix<double>& compressed,
                                 const Matrix<double>& root) {
  return (root * (What * compressed - W * X)).norm() / (root * W * X).norm();
}

template <Real T>
constexpr double rounding = sizeof(T) == 4 ? 2e-5 : 1e-8;

}  // namespace

TEMPLATE_TEST_CASE("weights are fitted to make of compressed inputs what they made of the original",
                   "[propagation]", float, double) {
  using T = TestType;
  Random random(2101);
  struct Shape {
    Index m, n, samples;
  };
  for (const auto& [m, n, samples] :
       {Shape{1, 1, 1}, Shape{1, 1, 9}, Shape{1, 7, 3}, Shape{7, 1, 5}, Shape{5, 13, 4},
        Shape{13, 5, 40}, Shape{11, 17, 60}, Shape{3, 31, 200}, Shape{67, 12, 700}})
    for (const double a : {0.0, 0.1, 0.7}) {
      CAPTURE(m, n, samples, a);
      const Matrix<T> W = random.matrix<T>(m, n);
      const Matrix<T> X = random.matrix<T>(n, samples);
      Matrix<T> compressed = random.matrix<T>(n, samples);
      compressed = X + T(0.3) * compressed;
      if (n > 4) compressed.row(3).setZero();
      const auto calibration = calibration_of_pairs<T>(X, compressed).shrinkage(a);
      const Matrix<double> exact =
          suiting_weights(W.template cast<double>(), X.template cast<double>(),
                          compressed.template cast<double>(), a);
      const Matrix<double> made =
          compress<Dense>(W, keep(1), calibration).to_dense().template cast<double>();
      CHECK((made - exact).norm() <= rounding<T> * exact.norm());
      // An input that is never seen any more keeps its weights.
      if (n > 4) CHECK(made.col(3) == W.col(3).template cast<double>());
    }
}

TEMPLATE_TEST_CASE("errors with pairs are of what comes out of compressed inputs", "[propagation]",
                   float, double) {
  using T = TestType;
  Random random(2102);
  const Index m = 70;
  const Index n = 24;
  for (const Index samples : {1, 7, 24, 25, 300})
    for (const int weights : {0, 1, 2}) {
      CAPTURE(samples, weights);
      const Matrix<T> W = random.matrix<T>(m, n);
      const Matrix<T> What = random.matrix<T>(m, n);
      const Matrix<T> X = correlated_inputs<T>(random, n, samples);
      const Matrix<T> noise = random.matrix<T>(n, samples);
      const Matrix<T> compressed = X + noise;
      auto calibration = calibration_of_pairs<T>(X, compressed);
      Matrix<double> root = Matrix<double>::Identity(m, m);
      if (weights == 1) {
        const Vector<double> w = random.matrix<double>(m, 1).cwiseAbs();
        calibration.row_weights(w);
        root = w.cwiseSqrt().asDiagonal();
      }
      if (weights == 2) {
        const Matrix<double> R = random.matrix<double>(m, m);
        root = R.transpose();
        calibration.output_metric(R * R.transpose());
      }
      const double exact =
          pairs_error(W.template cast<double>(), What.template cast<double>(),
                      X.template cast<double>(), compressed.template cast<double>(), root);
      CHECK(relative_error(W, Dense<T>(What), calibration) ==
            Approx(exact).epsilon(sizeof(T) == 4 ? 1e-4 : 1e-9));
      CHECK(calibration.gram().isApprox(calibration_of(compressed).gram(), 1e-14));
      CHECK(calibration.mean().isApprox(calibration_of(compressed).mean(), 1e-14));
      CHECK(calibration.paired());
    }
}

TEMPLATE_TEST_CASE("pairs that do not differ are samples, bit for bit", "[propagation]", float,
                   double) {
  using T = TestType;
  Random random(2103);
  const Index n = 40;
  const Matrix<T> W = random.matrix<T>(24, n);
  for (const Index samples : {1, 30, 41, 300}) {
    CAPTURE(samples);
    const Matrix<T> X = correlated_inputs<T>(random, n, samples);
    const auto plain = calibration_of(X);
    const auto pairs = calibration_of_pairs<T>(X, X);
    const auto check = [&](const auto& make) {
      const auto one = make(plain);
      const auto other = make(pairs);
      CHECK(one.to_dense() == other.to_dense());
      CHECK(relative_error(W, one, plain) == relative_error(W, other, pairs));
    };
    check([&](const auto& c) { return compress<LowRank>(W, keep(0.5), c); });
    check([&](const auto& c) { return compress<LowRank>(W, error(0.2), c); });
    check([&](const auto& c) { return compress<LowRank>(W, error(0), c); });
    check([&](const auto& c) { return compress<SemiStructured>(W, keep(0.6), c); });
    check([&](const auto& c) {
      return compress<Dense>(W, keep(0.5), c, {.storage = Storage::int4});
    });
    check([&](const auto& c) { return prune(W, {2, 5}, c); });
    if (samples > 1)
      CHECK(cross_validate<LowRank>(W, keep(0.5), pairs) ==
            cross_validate<LowRank>(W, keep(0.5), plain));
  }
}

TEMPLATE_TEST_CASE("what is fitted to pairs is closer than what is fitted to either input",
                   "[propagation]", float, double) {
  using T = TestType;
  Random random(2104);
  const Index n = 48;
  const LayerBefore<T> before(random, n);
  const Matrix<T> W = random.matrix<T>(32, n);
  for (const Index samples : {40, 150, 1000}) {
    CAPTURE(samples);
    const auto seen = before.inputs(random, samples);
    const Matrix<T>& X = seen.first;
    const Matrix<T>& compressed = seen.second;
    const auto [more, more_compressed] = before.inputs(random, 3000);
    const auto pairs = calibration_of_pairs<T>(X, compressed);
    const auto fresh = calibration_of_pairs<T>(more, more_compressed);
    const auto check = [&](const char* what, const auto& make) {
      CAPTURE(what);
      const auto fitted = make(pairs);
      for (const auto* judge : {&pairs, &fresh}) {
        CAPTURE(judge == &fresh);
        const double error = relative_error(W, fitted, *judge);
        const double to_original = relative_error(W, make(calibration_of(X)), *judge);
        const double to_compressed = relative_error(W, make(calibration_of(compressed)), *judge);
        INFO(error << " " << to_original << " " << to_compressed);
        CHECK(error < (samples > 100 ? 0.9 : 1.0) * (std::min)(to_original, to_compressed));
      }
    };
    check("Dense", [&](const auto& c) { return compress<Dense>(W, keep(1), c); });
    check("LowRank", [&](const auto& c) { return compress<LowRank>(W, keep(0.6), c); });
    check("SemiStructured",
          [&](const auto& c) { return compress<SemiStructured>(W, keep(0.6), c); });
    check("prune", [&](const auto& c) { return prune(W, {3, 5}, c); });
    check("permuted", [&](const auto& c) { return compress_permuted(W, keep(0.7), c); });
    check("compensate", [&](const auto& c) {
      return compensate(compress<LowRank>(W, keep(0.3), calibration_of(X)), W, 4, c);
    });
    check("shared", [&](const auto& c) {
      return compress_shared<LowRank>({W.topRows(12).eval(), W.bottomRows(20).eval()}, keep(0.6), c)
          .op;
    });
    // What the makers' own metric is best for is least in the error of pairs, too.
    const double expected = cross_validate<LowRank>(W, keep(0.6), pairs);
    const double unseen = relative_error(W, compress<LowRank>(W, keep(0.6), pairs), fresh);
    CHECK(expected == Approx(unseen).epsilon(samples > 100 ? 0.15 : 0.3));
  }
}

TEST_CASE("what few samples say of a difference by chance is not fitted", "[propagation]") {
  Random random(2116);
  const Index n = 64;
  const Matrix<double> W = random.matrix<double>(40, n);
  const Matrix<double> mixing = random.matrix<double>(n, n);
  const auto inputs = [&](Index samples) {
    const Matrix<double> X = mixing * random.matrix<double>(n, samples);
    const Matrix<double> noise = random.matrix<double>(n, samples);
    const Matrix<double> compressed = X + noise;
    return std::pair(X, compressed);
  };
  const auto more = inputs(4000);
  const auto fresh = calibration_of_pairs<double>(more.first, more.second);
  const double kept = relative_error(W, Dense<double>(W), fresh);
  for (const Index samples : {1, 2, 8, 30, 60, 70, 200, 2000}) {
    CAPTURE(samples);
    const auto seen = inputs(samples);
    const auto pairs = calibration_of_pairs<double>(seen.first, seen.second);
    const double fitted = relative_error(W, compress<Dense>(W, keep(1), pairs), fresh);
    CHECK(fitted <= 1.02 * kept);
    if (samples == 2000) CHECK(fitted < 0.97 * kept);
  }
}

TEST_CASE("without folds, pairs are fitted by the closed form", "[propagation]") {
  Random random(2117);
  for (const Index samples : {3, 11, 12, 60}) {
    const Index n = 11;
    const Matrix<double> W = random.matrix<double>(5, n);
    const Matrix<double> X = random.matrix<double>(n, samples);
    const Matrix<double> noise = random.matrix<double>(n, samples);
    const Matrix<double> compressed = X + 0.3 * noise;
    Calibration<double> pairs(n, Folds::one);
    pairs.add(X, compressed);
    const double a = detail::closed_form_shrinkage(calibration_of(compressed));
    CHECK(a > 0);
    const Matrix<double> exact = suiting_weights(W, X, compressed, a);
    const Matrix<double> made = compress<Dense>(W, keep(1), pairs).to_dense();
    CHECK((made - exact).norm() <= 1e-8 * exact.norm());
    CHECK_THROWS_AS(cross_validate<LowRank>(W, keep(1), pairs), std::invalid_argument);
  }
}

TEMPLATE_TEST_CASE("a linear distortion of the inputs is undone", "[propagation]", float, double) {
  using T = TestType;
  Random random(2105);
  const Index n = 12;
  const Matrix<T> W = random.matrix<T>(9, n);
  const Matrix<T> X = random.matrix<T>(n, 900);
  Matrix<T> A = random.matrix<T>(n, n);
  A = Matrix<T>::Identity(n, n) + T(0.2) * A;
  const Matrix<T> compressed = A * X;
  const Matrix<double> exact = W.template cast<double>() * A.template cast<double>().inverse();
  for (const bool set : {false, true}) {
    auto calibration = calibration_of_pairs<T>(X, compressed);
    if (set) calibration.shrinkage(0);
    const Matrix<double> made =
        compress<Dense>(W, keep(1), calibration).to_dense().template cast<double>();
    CHECK((made - exact).norm() <= (sizeof(T) == 4 ? 1e-5 : 1e-11) * exact.norm());
    const auto low_rank = compress<LowRank>(W, error(1e-5), calibration);
    CHECK(relative_error(W, low_rank, calibration) <= 1e-5);
  }
}

TEST_CASE("with pairs, low rank is the optimum of its rank", "[propagation]") {
  Random random(2106);
  const Index n = 20;
  for (const Index samples : {9, 60}) {
    const Matrix<double> W = random.matrix<double>(15, n);
    const Matrix<double> X = random.matrix<double>(n, samples);
    const Matrix<double> noise = random.matrix<double>(n, samples);
    const Matrix<double> compressed = X + 0.4 * noise;
    const auto calibration = calibration_of_pairs<double>(X, compressed).shrinkage(0);
    const Index rank = 4;
    const auto op = compress<LowRank>(W, keep(1), calibration, {.rank = rank});
    // Of all Y = What X' of a rank, by projection of W X to the rows of X', and its singular
    // values.
    Eigen::JacobiSVD<Matrix<double>> rows(compressed, Eigen::ComputeThinV);
    const Matrix<double> target = W * X;
    const Matrix<double> inside = target * rows.matrixV();
    const double least = std::sqrt(
        target.squaredNorm() - inside.squaredNorm() +
        singular_values(inside)
            .tail(inside.rows() - rank >= 0 ? (std::min)(inside.rows(), inside.cols()) - rank : 0)
            .squaredNorm());
    CHECK(relative_error(W, op, calibration) == Approx(least / target.norm()).epsilon(1e-9));
  }
}

TEMPLATE_TEST_CASE("scales of weights and of pairs do not matter", "[propagation]", float, double) {
  using T = TestType;
  Random random(2107);
  const Index n = 24;
  const LayerBefore<T> before(random, n);
  const Matrix<T> W = random.matrix<T>(16, n);
  for (const Index samples : {20, 200}) {
    const auto seen = before.inputs(random, samples);
    const Matrix<T>& X = seen.first;
    const Matrix<T>& compressed = seen.second;
    const auto pairs = calibration_of_pairs<T>(X, compressed);
    const Matrix<T> dense = compress<LowRank>(W, keep(0.5), pairs).to_dense();
    const double error = relative_error(W, Dense<T>(dense), pairs);
    const auto scaled = [&](T factor) {
      return calibration_of_pairs<T>(factor * X, factor * compressed);
    };
    for (const T factor : {T(0x1p-20), T(0x1p30)}) {
      CHECK(compress<LowRank>(factor * W, keep(0.5), pairs).to_dense() == factor * dense);
      CHECK(compress<LowRank>(W, keep(0.5), scaled(factor)).to_dense() == dense);
      CHECK(relative_error(factor * W, Dense<T>(factor * dense), scaled(factor)) == error);
    }
    for (const T factor : {T(1e-6), T(1e6)}) {
      const double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-10;
      CHECK(compress<LowRank>(factor * W, keep(0.5), scaled(factor))
                .to_dense()
                .isApprox(factor * dense, static_cast<T>(tolerance)));
    }
  }
}

TEST_CASE("pairs of any kind are legal", "[propagation]") {
  Random random(2108);
  const Index n = 10;
  const Matrix<double> W = random.matrix<double>(6, n);
  const Matrix<double> X = random.matrix<double>(n, 50);
  const Matrix<double> nothing = Matrix<double>::Zero(n, 50);
  SECTION("of which nothing is left") {
    for (const Index samples : {5, 50}) {
      const auto pairs =
          calibration_of_pairs<double>(X.leftCols(samples), nothing.leftCols(samples));
      CHECK(compress<Dense>(W, keep(1), pairs).to_dense() == W);
      CHECK(relative_error(W, Dense<double>(W), pairs) == Approx(1));
      CHECK(relative_error(W, compress<LowRank>(W, keep(0.9), pairs), pairs) == Approx(1));
      CHECK(cross_validate<LowRank>(W, keep(0.9), pairs) == Approx(1));
      CHECK(compress<LowRank>(W, error(1.01), pairs).rank() == 1);
    }
  }
  SECTION("that were nothing") {
    for (const Index samples : {5, 50}) {
      const auto pairs =
          calibration_of_pairs<double>(nothing.leftCols(samples), X.leftCols(samples)).shrinkage(0);
      const auto op = compress<Dense>(W, keep(1), pairs);
      CHECK((op.to_dense() * X.leftCols(samples)).norm() <= 1e-9 * W.norm() * X.norm());
      CHECK(std::isfinite(op.to_dense().sum()));
    }
  }
  SECTION("both") {
    for (const Index samples : {5, 50}) {
      const auto pairs =
          calibration_of_pairs<double>(nothing.leftCols(samples), nothing.leftCols(samples));
      CHECK(relative_error(W, compress<LowRank>(W, keep(0.9), pairs), pairs) == 0);
    }
  }
  SECTION("of one direction") {
    Matrix<double> compressed = Matrix<double>::Zero(n, 50);
    compressed.row(2) = X.row(2);
    compressed.row(7) = X.row(2);
    for (const Index samples : {5, 50})
      for (const bool set : {false, true}) {
        auto pairs =
            calibration_of_pairs<double>(X.leftCols(samples), compressed.leftCols(samples));
        if (set) pairs.shrinkage(0);
        const Matrix<double> made = compress<Dense>(W, keep(1), pairs).to_dense();
        for (Index j = 0; j < n; ++j)
          if (j != 2 && j != 7) CHECK(made.col(j) == W.col(j));
        // Nothing in the direction that is never seen.
        CHECK((made - W).col(2).isApprox((made - W).col(7), 1e-6));
      }
  }
  SECTION("equal ones that were different") {
    for (const Index wide : {10, 200}) {
      const Matrix<double> weight = random.matrix<double>(6, wide);
      const Matrix<double> half = random.matrix<double>(wide, 20);
      Matrix<double> compressed(wide, 40);
      compressed << half, half;
      const Matrix<double> originals = random.matrix<double>(wide, 40);
      const auto pairs = calibration_of_pairs<double>(originals, compressed).shrinkage(0);
      const Matrix<double> made = compress<Dense>(weight, keep(1), pairs).to_dense();
      const Matrix<double> exact = suiting_weights(weight, originals, compressed, 0);
      CHECK((made - exact).norm() <= 1e-7 * exact.norm());
    }
  }
  SECTION("a single one") {
    const auto pairs = calibration_of_pairs<double>(X.leftCols(1), X.middleCols(1, 1));
    CHECK(compress<Dense>(W, keep(1), pairs).to_dense() == W);
  }
}

TEST_CASE("how pairs are cut into calls does not change a bit", "[propagation]") {
  Random random(2109);
  const Index n = 23;
  const LayerBefore<float> before(random, n);
  const Matrix<float> W = random.matrix<float>(9, n);
  for (const Index samples : {19, 300}) {
    const auto [X, compressed] = before.inputs(random, samples);
    const auto whole = calibration_of_pairs<float>(X, compressed);
    Calibration<float> pieces(n);
    for (Index first = 0; first < X.cols();) {
      const Index count = std::min(X.cols() - first, random.integer(0, 60));
      pieces.add(X.middleCols(first, count), compressed.middleCols(first, count));
      first += count;
    }
    CHECK(pieces.gram() == whole.gram());
    const auto op = compress<LowRank>(W, keep(0.5), whole);
    CHECK(compress<LowRank>(W, keep(0.5), pieces).to_dense() == op.to_dense());
    CHECK(relative_error(W, op, pieces) == relative_error(W, op, whole));
    CHECK(cross_validate<LowRank>(W, keep(0.5), pieces) ==
          cross_validate<LowRank>(W, keep(0.5), whole));
    set_num_threads(2);
    CHECK(compress<LowRank>(W, keep(0.5), pieces).to_dense() == op.to_dense());
    set_num_threads(1);
  }
}

TEST_CASE("pairs merge as if they had been added", "[propagation]") {
  Random random(2110);
  const Index n = 12;
  const LayerBefore<double> before(random, n);
  const Matrix<double> W = random.matrix<double>(7, n);
  for (const Index left : {0, 5, 12, 100})
    for (const Index right : {0, 4, 12, 96}) {
      CAPTURE(left, right);
      const auto [X, compressed] = before.inputs(random, left + right);
      auto a = calibration_of_pairs<double>(X.leftCols(left), compressed.leftCols(left));
      a.merge(calibration_of_pairs<double>(X.rightCols(right), compressed.rightCols(right)));
      const auto both = calibration_of_pairs<double>(X, compressed);
      CHECK(a.samples() == left + right);
      CHECK(a.paired() == (left + right > 0));
      if (left + right == 0) continue;
      CHECK(relative_error(W, Dense<double>(W), a) ==
            Approx(relative_error(W, Dense<double>(W), both)).epsilon(1e-9));
      a.shrinkage(0.05);
      const Matrix<double> made = compress<Dense>(W, keep(1), a).to_dense();
      const Matrix<double> exact = suiting_weights(W, X, compressed, 0.05);
      CHECK((made - exact).norm() <= 1e-9 * exact.norm());
    }
  const auto [X, compressed] = before.inputs(random, 60);
  auto self = calibration_of_pairs<double>(X.leftCols(5), compressed.leftCols(5));
  const auto& same = self;
  self.merge(same);
  CHECK(self.samples() == 10);
  CHECK(
      relative_error(W, Dense<double>(W), self) ==
      Approx(relative_error(W, Dense<double>(W),
                            calibration_of_pairs<double>(X.leftCols(5), compressed.leftCols(5)))));
  // Folds go together as those of samples do: what is expected does not depend on how.
  auto merged = calibration_of_pairs<double>(X.leftCols(24), compressed.leftCols(24));
  merged.merge(calibration_of_pairs<double>(X.rightCols(36), compressed.rightCols(36)));
  CHECK(cross_validate<LowRank>(W, keep(0.9), merged) ==
        Approx(cross_validate<LowRank>(W, keep(0.9), calibration_of_pairs<double>(X, compressed)))
            .epsilon(0.3));
}

TEMPLATE_TEST_CASE("cross-validation with pairs fits one fold and judges by the other",
                   "[propagation]", float, double) {
  using T = TestType;
  Random random(2111);
  const Index n = 40;
  const Index m = 9;
  const LayerBefore<T> before(random, n);
  for (const Index samples : {2, 17, 40, 41, 300}) {
    CAPTURE(samples);
    const Matrix<T> W = random.matrix<T>(m, n);
    const auto [X, compressed] = before.inputs(random, samples);
    const Vector<double> weights = random.matrix<double>(m, 1).cwiseAbs();
    const auto calibration =
        calibration_of_pairs<T>(X, compressed).shrinkage(0.1).row_weights(weights);
    const Index block = std::max<Index>(1, (std::min)(n, samples) / 8);
    std::vector<Index> places[2];
    for (Index t = 0; t < samples; ++t) places[t / block % 2].push_back(t);
    double loss = 0;
    double total = 0;
    for (const int k : {0, 1}) {
      const auto fit =
          calibration_of_pairs<T>(X(Eigen::all, places[k]), compressed(Eigen::all, places[k]))
              .shrinkage(0.1)
              .row_weights(weights);
      const Matrix<double> What =
          compress<LowRank>(W, keep(0.5), fit, {.seed = 3}).to_dense().template cast<double>();
      const Matrix<double> seen = X(Eigen::all, places[1 - k]).template cast<double>();
      const Matrix<double> made = compressed(Eigen::all, places[1 - k]).template cast<double>();
      const Matrix<double> wanted = W.template cast<double>() * seen;
      const auto root = weights.cwiseSqrt().eval();
      loss += (root.asDiagonal() * (What * made - wanted)).squaredNorm();
      total += (root.asDiagonal() * wanted).squaredNorm();
    }
    CHECK(cross_validate<LowRank>(W, keep(0.5), calibration, {.seed = 3}) ==
          Approx(std::sqrt(loss / total)).epsilon(sizeof(T) == 4 ? 1e-3 : 1e-7));
  }
}

TEMPLATE_TEST_CASE("budgets of error are of the whole error of pairs", "[propagation]", float,
                   double) {
  using T = TestType;
  Random random(2112);
  const Index n = 36;
  const LayerBefore<T> before(random, n);
  const Matrix<T> W = random.matrix<T>(24, n);
  for (const Index samples : {30, 60, 800}) {
    CAPTURE(samples);
    const auto [X, compressed] = before.inputs(random, samples);
    for (const bool set : {false, true}) {
      auto pairs = calibration_of_pairs<T>(X, compressed);
      if (set) pairs.shrinkage(0.2);
      auto exact = pairs;
      exact.shrinkage(0);
      const double least = relative_error(W, compress<Dense>(W, keep(1), exact), pairs);
      CAPTURE(set, least);
      Index last = n;
      for (const double more : {0.02, 0.1, 0.3}) {
        const double wanted = std::sqrt(least * least + more * more);
        const auto op = compress<LowRank>(W, error(wanted), pairs);
        CHECK(relative_error(W, op, pairs) <= wanted);
        CHECK(op.rank() <= last);
        last = op.rank();
        const auto repaired =
            compensate(compress<LowRank>(W, keep(0.1), pairs), W, error(wanted), pairs);
        CHECK(relative_error(W, repaired, pairs) <= wanted);
        const auto rounded = compress<Dense>(W, error(wanted), pairs, {.storage = Storage::int8});
        CHECK(relative_error(W, rounded, pairs) <= wanted);
      }
      CHECK(last < 12);
      if (least > 1e-3) {
        CHECK_THROWS_WITH(compress<LowRank>(W, error(0.9 * least), pairs),
                          Catch::Contains("no weights have a relative error below"));
        CHECK_THROWS_WITH(compress<LowRank>(W, error(0), pairs), Catch::Contains("error(0)"));
      }
      CHECK_THROWS_WITH(compress<SemiStructured>(W, error(std::sqrt(least * least + 1e-8)), pairs,
                                                 {.pattern = {1, 4}}),
                        Catch::Contains("cannot be met") && Catch::Contains("pairs of inputs"));
    }
  }
}

TEST_CASE("a monitor stops what is made of pairs", "[propagation]") {
  Random random(2113);
  const Index n = 20;
  const LayerBefore<double> before(random, n);
  const Matrix<double> W = random.matrix<double>(10, n);
  const auto [X, compressed] = before.inputs(random, 100);
  const auto pairs = calibration_of_pairs<double>(X, compressed);
  Index told = 0;
  const Monitor once = [&](const Progress&) { return ++told > 1; };
  const auto stopped = compress<LowRank>(W, error(1e-3), pairs, {.monitor = once});
  CHECK(told == 1);
  CHECK(stopped.rows() == 10);
  told = 0;
  CHECK(compress<SemiStructured>(W, keep(1), pairs, {.monitor = once}).rows() == 10);
  CHECK(told == 1);
}

TEST_CASE("pairs and samples do not mix", "[propagation]") {
  Random random(2114);
  const Matrix<double> X = random.matrix<double>(5, 8);
  const Matrix<double> Y = random.matrix<double>(5, 8);
  auto pairs = calibration_of_pairs<double>(X, Y);
  auto plain = calibration_of(X);
  CHECK_THROWS_WITH(pairs.add(X), Catch::Contains("pairs"));
  CHECK_THROWS_WITH(plain.add(X, Y), Catch::Contains("without a pair"));
  CHECK_THROWS_WITH(pairs.merge(plain), Catch::Contains("pairs"));
  CHECK_THROWS_WITH(plain.merge(pairs), Catch::Contains("pairs"));
  auto given = Calibration<double>::from_gram(X * X.transpose(), 8);
  CHECK_THROWS_AS(given.add(X, Y), std::invalid_argument);
  CHECK_THROWS_WITH(pairs.add(X, Matrix<double>(random.matrix<double>(5, 7))),
                    Catch::Contains("5 x 8") && Catch::Contains("5 x 7"));
  CHECK_THROWS_WITH(pairs.add(Matrix<double>(random.matrix<double>(4, 8)), X),
                    Catch::Contains("4 x 8") && Catch::Contains("5 x 8"));
  const Matrix<double> narrow = random.matrix<double>(4, 8);
  CHECK_THROWS_AS(pairs.add(narrow, narrow), std::invalid_argument);
  Matrix<double> broken = X;
  broken(2, 3) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(pairs.add(broken, X), Catch::Contains("row 2, column 3"));
  CHECK_THROWS_WITH(pairs.add(X, broken), Catch::Contains("row 2, column 3"));
  broken(2, 3) = 1.1e150;
  CHECK_THROWS_AS(pairs.add(broken, X), std::invalid_argument);
  CHECK_THROWS_AS(pairs.add(X, broken), std::invalid_argument);
  // Nothing has changed.
  CHECK(pairs.samples() == 8);
  CHECK(plain.samples() == 8);
  CHECK_FALSE(plain.paired());
  CHECK(pairs.gram() == calibration_of(Y).gram());
  const Matrix<double> W = random.matrix<double>(3, 5);
  CHECK(relative_error(W, Dense<double>(W), pairs) ==
        relative_error(W, Dense<double>(W), calibration_of_pairs<double>(X, Y)));
  // What is empty goes with either.
  Calibration<double> empty(5);
  empty.add(Matrix<double>(5, 0), Matrix<double>(5, 0));
  CHECK_FALSE(empty.paired());
  empty.add(X);
  Calibration<double> other(5);
  other.merge(pairs);
  CHECK(other.paired());
  other.merge(Calibration<double>(5));
  CHECK(other.samples() == 8);
  CHECK(relative_error(W, Dense<double>(W), other) == relative_error(W, Dense<double>(W), pairs));
  // What was moved from has none.
  const Calibration<double> moved = std::move(other);
  CHECK(moved.paired());
  CHECK_FALSE(other.paired());  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("makers that can do nothing with pairs say so", "[propagation]") {
  Random random(2115);
  const Index n = 8;
  const Matrix<double> X = random.matrix<double>(n, 30);
  const Matrix<double> Y = random.matrix<double>(n, 30);
  const auto pairs = calibration_of_pairs<double>(X, Y);
  const Matrix<double> W = random.matrix<double>(n, n);
  const Vector<double> b = random.matrix<double>(n, 1);
  CHECK_THROWS_WITH(compress_pair(W, b, W, pairs, keep(0.5)),
                    Catch::Contains("compress_pair") && Catch::Contains("not of pairs"));
  CHECK_THROWS_WITH(compress_gated_pair(W, b, W, b, W, pairs, keep(0.5)),
                    Catch::Contains("compress_gated_pair") && Catch::Contains("not of pairs"));
  CHECK_THROWS_WITH(compress_product(W, W, 2, keep(0.5), pairs),
                    Catch::Contains("compress_product") && Catch::Contains("not of pairs"));
  CHECK_THROWS_WITH(recompress(compress<LowRank>(W, keep(1)), keep(0.5), pairs),
                    Catch::Contains("recompress") && Catch::Contains("not of pairs"));
  CHECK_THROWS_WITH(shared_error_bound({W, W}, 2, pairs),
                    Catch::Contains("shared_error_bound") && Catch::Contains("not of pairs"));
  CHECK_THROWS_WITH(shared_groups({W, W}, 2, 0.5, pairs),
                    Catch::Contains("shared_groups") && Catch::Contains("not of pairs"));
  // The others see to shapes as ever.
  const Matrix<double> other = random.matrix<double>(n, n + 1);
  CHECK_THROWS_AS(compress<LowRank>(other, keep(1), pairs), std::invalid_argument);
  CHECK_THROWS_AS(prune(other, {2, 4}, pairs), std::invalid_argument);
  CHECK_THROWS_AS(compress_permuted(other, keep(1), pairs), std::invalid_argument);
  CHECK_THROWS_AS(compensate(Dense<double>(other), other, 1, pairs), std::invalid_argument);
  CHECK_THROWS_AS(compensate(Dense<double>(other), W, 1, pairs), std::invalid_argument);
  CHECK_THROWS_AS(compress<LowRank>(W, bytes(1), pairs), std::invalid_argument);
}

}  // namespace pleat::test
