// SPDX-License-Identifier: MIT
// compress<LowRank> against the theory: Eckart and Young in any metric, by every route.
#include "pleat/compress/low_rank.hpp"

#include "compress/support.hpp"
#include "support/catch.hpp"

#include <Eigen/SVD>

#include <cmath>
#include <limits>

namespace pleat::test {
namespace {

using LowRankOptions = LowRank<double>::Options;

/// Relative tail of the spectrum of A: the smallest relative error that a rank can have.
double optimum(const Matrix<double>& A, Index rank) {
  const Vector<double> sigma = singular_values(A);
  return sigma.size() <= rank
             ? 0
             : std::sqrt(sigma.tail(sigma.size() - rank).squaredNorm() / sigma.squaredNorm());
}

/// Any rank of any matrix, whatever the budget.
LowRank<double> of_rank(const Matrix<double>& W, Index rank,
                        const Calibration<double>& calibration = {},
                        SvdMethod svd = SvdMethod::exact) {
  return compress<LowRank>(W, keep(1000), calibration, LowRankOptions{.rank = rank, .svd = svd});
}

}  // namespace

TEST_CASE("plain low rank attains the tail of the singular values", "[low_rank]") {
  Random random(21);
  for (const auto& [m, n] :
       {std::pair{1, 1}, {1, 7}, {7, 1}, {2, 2}, {31, 31}, {48, 20}, {20, 48}, {67, 61}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    double previous = 2;
    for (const Index rank : {1, 2, 5, 17, 20, 31}) {
      if (rank > std::min(m, n)) break;
      INFO(m << " x " << n << ", rank " << rank);
      const auto op = of_rank(W, rank);
      CHECK(op.rank() == rank);
      const double error = relative_error(W, op);
      CHECK(error == Approx(optimum(W, rank)).epsilon(1e-10).margin(1e-13));
      CHECK(error <= previous);  // no rank is worse than a smaller one
      previous = error;
      // The spectral error is the first singular value that was left out.
      if (rank < std::min(m, n))
        CHECK(singular_values(W - op.to_dense())(0) ==
              Approx(singular_values(W)(rank)).epsilon(1e-9));
      // Truncating again changes nothing.
      const auto again = of_rank(op.to_dense(), rank);
      CHECK((again.to_dense() - op.to_dense()).norm() <= 1e-12 * W.norm());
    }
  }
}

TEST_CASE("calibrated low rank attains the tail of W S by every route", "[low_rank]") {
  Random random(22);
  for (const auto& [m, n] : {std::pair{40, 56}, {56, 40}, {37, 37}, {3, 50}, {50, 3}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    for (const Index samples : {2, 20, 36, 100}) {  // from far fewer than inputs to enough
      const Matrix<double> X = correlated_inputs<double>(random, n, samples);
      const Calibration<double> streamed = exact_calibration(X);
      const auto from_gram = Calibration<double>::from_gram(streamed.gram(), samples).shrinkage(0);
      for (const Index rank : {1, 3, 12}) {
        if (rank > std::min(m, n)) break;
        INFO(m << " x " << n << ", " << samples << " samples, rank " << rank);
        const double best = optimum(W * X, rank);
        // Route X or, with samples to spare, E or S.
        const auto op = of_rank(W, rank, streamed);
        const double loss = ((W - op.to_dense()) * X).norm() / (W * X).norm();
        CHECK(loss == Approx(best).epsilon(1e-9).margin(1e-11));
        CHECK(relative_error(W, op, streamed) == Approx(loss).epsilon(1e-7).margin(2e-8));
        // Route E where m <= n, else S: the same matrix.
        const auto other = of_rank(W, rank, from_gram);
        CHECK(((W - other.to_dense()) * X).norm() / (W * X).norm() ==
              Approx(best).epsilon(1e-7).margin(1e-7));
        if (rank <= samples) CHECK((op.to_dense() - other.to_dense()).norm() <= 1e-6 * W.norm());
      }
    }
  }
}

TEST_CASE("routes E, S and X give one matrix", "[low_rank]") {
  Random random(23);
  const Index m = 30;
  const Index n = 24;
  const Matrix<double> W = random.matrix<double>(m, n);
  const Matrix<double> X = correlated_inputs<double>(random, n, 20);
  const auto held = exact_calibration(X);  // X: 20 held samples
  const auto gram = Calibration<double>::from_gram(held.gram(), 20).shrinkage(0);  // S: n < m
  auto weighted = gram;
  weighted.row_weights(Vector<double>::Ones(m));  // E: m x m, through P = I
  const Matrix<double> by_samples = of_rank(W, 6, held).to_dense();
  CHECK((of_rank(W, 6, gram).to_dense() - by_samples).norm() <= 1e-9 * W.norm());
  CHECK((of_rank(W, 6, weighted).to_dense() - by_samples).norm() <= 1e-9 * W.norm());
  // And the transposed shape, where a Gram matrix takes route E.
  const Matrix<double> Wt = W.transpose();
  const Matrix<double> Xt = correlated_inputs<double>(random, m, 21);
  const auto held_t = exact_calibration(Xt);
  const auto gram_t = Calibration<double>::from_gram(held_t.gram(), 21).shrinkage(0);
  CHECK((of_rank(Wt, 6, held_t).to_dense() - of_rank(Wt, 6, gram_t).to_dense()).norm() <=
        1e-9 * W.norm());
}

TEST_CASE("the whitening of the papers, where it exists, gives the same matrix", "[low_rank]") {
  Random random(24);
  const Matrix<double> W = random.matrix<double>(26, 18);
  const Matrix<double> X = random.matrix<double>(18, 90);
  const Index rank = 7;
  // SVD-LLM: truncate W S, S the Cholesky factor of X X^T, and multiply by the inverse of S.
  const Matrix<double> S = Eigen::LLT<Matrix<double>>(X * X.transpose()).matrixL();
  const Eigen::JacobiSVD<Matrix<double>> svd(W * S, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Matrix<double> truncated = svd.matrixU().leftCols(rank) *
                                   svd.singularValues().head(rank).asDiagonal() *
                                   svd.matrixV().leftCols(rank).transpose();
  const Matrix<double> paper = truncated * S.inverse();
  const auto op = of_rank(W, rank, exact_calibration(X));
  CHECK((op.to_dense() - paper).norm() <= 1e-10 * W.norm());
  // Their closed-form update of the left factor under the same Gram matrix is a no-op.
  const Matrix<double> V = op.V().to_dense();
  const Matrix<double> G = X * X.transpose();
  const Matrix<double> refitted = W * G * V.transpose() * (V * G * V.transpose()).inverse();
  CHECK((refitted - op.U().to_dense()).norm() <= 1e-9 * refitted.norm());
  // And no other rank-7 matrix tried is better in the metric.
  const double loss = ((W - op.to_dense()) * X).norm();
  CHECK(loss <= ((W - of_rank(W, rank).to_dense()) * X).norm());
  for (int trial = 0; trial < 20; ++trial) {
    const Matrix<double> U = op.U().to_dense() + 1e-3 * random.matrix<double>(26, rank);
    const Matrix<double> B = V + 1e-3 * random.matrix<double>(rank, 18);
    CHECK(((W - U * B) * X).norm() > loss);
  }
}

TEST_CASE("CorDA is the metric of the squared Gram matrix", "[low_rank]") {
  Random random(30);
  for (const auto& [m, n] : {std::pair{21, 28}, {28, 21}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> X = random.matrix<double>(n, 100);
    const Matrix<double> G = X * X.transpose();
    const Index rank = 5;
    // CorDA (Yang et al. 2024): the leading left singular vectors of W G, and G taken out again.
    const Eigen::JacobiSVD<Matrix<double>> svd(W * G, Eigen::ComputeThinU);
    const Matrix<double> U = svd.matrixU().leftCols(rank);
    const Matrix<double> corda = U * (U.transpose() * W);
    const auto op = of_rank(W, rank, Calibration<double>::from_gram(G * G, 100).shrinkage(0));
    CHECK((op.to_dense() - corda).norm() <= 1e-9 * W.norm());
    // It is not the optimum for the activations.
    CHECK(((W - corda) * X).norm() >
          ((W - of_rank(W, rank, exact_calibration(X)).to_dense()) * X).norm());
  }
}

TEST_CASE("weighted outputs: Fisher-weighted SVD and the two-sided metric", "[low_rank]") {
  Random random(25);
  for (const auto& [m, n] : {std::pair{22, 30}, {30, 22}}) {
    INFO(m << " x " << n);
    const Matrix<double> W = random.matrix<double>(m, n);
    Vector<double> weights(m);
    for (Index i = 0; i < m; ++i) weights(i) = random.uniform(0.1, 5);
    const Vector<double> root = weights.cwiseSqrt();
    const Index rank = 6;

    Calibration<double> fisher(n);
    fisher.row_weights(weights);
    const auto op = of_rank(W, rank, fisher);
    // Scale rows, truncate, scale back: the definition of FWSVD.
    const Matrix<double> scaled = root.asDiagonal() * W;
    const Matrix<double> definition =
        root.cwiseInverse().asDiagonal() * of_rank(scaled, rank).to_dense();
    CHECK((op.to_dense() - definition).norm() <= 1e-10 * W.norm());
    CHECK(relative_error(W, op, fisher) == Approx(optimum(scaled, rank)).epsilon(1e-9));

    const Matrix<double> X = correlated_inputs<double>(random, n, 3 * n);
    Calibration<double> both = exact_calibration(X);
    both.row_weights(weights);
    Calibration<double> full = exact_calibration(X);
    full.output_metric(Matrix<double>(weights.asDiagonal()));
    CHECK(relative_error(W, of_rank(W, rank, both), both) ==
          Approx(optimum(scaled * X, rank)).epsilon(1e-9));
    CHECK((of_rank(W, rank, both).to_dense() - of_rank(W, rank, full).to_dense()).norm() <=
          1e-9 * W.norm());

    const Matrix<double> B = random.matrix<double>(m, m);
    const Matrix<double> P = B * B.transpose();
    full.output_metric(P);
    const Eigen::SelfAdjointEigenSolver<Matrix<double>> solver(P);
    const Matrix<double> sqrt_p = solver.operatorSqrt();
    const auto two_sided = of_rank(W, rank, full);
    CHECK((sqrt_p * (W - two_sided.to_dense()) * X).norm() / (sqrt_p * W * X).norm() ==
          Approx(optimum(sqrt_p * W * X, rank)).epsilon(1e-8));

    // Outputs that do not count are still approximated, as well as the row space allows.
    weights.head(m / 2).setZero();
    Calibration<double> half(n);
    half.row_weights(weights);
    const auto some = of_rank(W, rank, half);
    CHECK(relative_error(W, some, half) ==
          Approx(optimum(Matrix<double>(W.bottomRows(m - m / 2).array().colwise() *
                                        weights.tail(m - m / 2).cwiseSqrt().array()),
                         rank))
              .epsilon(1e-9));
    CHECK((W - some.to_dense()).topRows(m / 2).norm() < W.topRows(m / 2).norm());
  }
}

TEST_CASE("the result does not depend on the scale of W or of the samples", "[low_rank]") {
  Random random(26);
  for (const auto& [m, n] : {std::pair{24, 30}, {30, 24}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    for (const Index samples : {10, 80}) {
      const Matrix<double> X = correlated_inputs<double>(random, n, samples);
      const Matrix<double> reference = of_rank(W, 5, calibration_of(X)).to_dense();
      for (const double scale : {1e-12, 1e-6, 1e6, 1e12, 1e100, 1e-100}) {
        INFO(m << " x " << n << ", " << samples << " samples, scale " << scale);
        CHECK((of_rank(W, 5, calibration_of(scale * X)).to_dense() - reference).norm() <=
              1e-8 * W.norm());
        CHECK((of_rank(scale * W, 5, calibration_of(X)).to_dense() / scale - reference).norm() <=
              1e-8 * W.norm());
      }
    }
  }
}

TEST_CASE("degenerate matrices and calibrations", "[low_rank]") {
  Random random(27);
  SECTION("a zero matrix is a zero operator with error 0") {
    const Matrix<double> zero = Matrix<double>::Zero(9, 14);
    for (const auto& calibration :
         {Calibration<double>(), calibration_of(random.matrix<double>(14, 4)),
          calibration_of(random.matrix<double>(14, 40))}) {
      const auto op = of_rank(zero, 3, calibration);
      CHECK(op.to_dense() == zero);
      CHECK(relative_error(zero, op, calibration) == 0);
    }
  }
  SECTION("a matrix of low rank is recovered") {
    const Matrix<double> W = random.matrix<double>(40, 4) * random.matrix<double>(4, 33);
    CHECK(relative_error(W, of_rank(W, 4)) <= 1e-12);
    CHECK(relative_error(W, of_rank(W, 10)) <= 1e-12);
    CHECK(relative_error(W, of_rank(W, 4, {}, SvdMethod::randomized)) <= 1e-12);
    CHECK(relative_error(W, of_rank(W, 10, {}, SvdMethod::randomized)) <= 1e-12);
    const auto calibration = calibration_of(correlated_inputs<double>(random, 33, 90));
    CHECK(relative_error(W, of_rank(W, 4, calibration), calibration) <= 1e-12);
  }
  SECTION("samples that were all zero count as none") {
    const Matrix<double> W = random.matrix<double>(12, 10);
    const auto blind = calibration_of(Matrix<double>::Zero(10, 7));
    CHECK((of_rank(W, 3, blind).to_dense() - of_rank(W, 3).to_dense()).norm() <= 1e-12 * W.norm());
    const auto many = calibration_of(Matrix<double>::Zero(10, 70));
    CHECK((of_rank(W, 3, many).to_dense() - of_rank(W, 3).to_dense()).norm() <= 1e-12 * W.norm());
  }
  SECTION("what the samples do not determine goes to the plain residual") {
    const Matrix<double> W = random.matrix<double>(20, 25);
    const Matrix<double> X = random.matrix<double>(25, 4);
    const auto op = of_rank(W, 12, exact_calibration(X));
    CHECK(((W - op.to_dense()) * X).norm() <= 1e-10 * (W * X).norm());
    // Four directions are taken by the samples; the other eight are the best for what is left of W.
    const Eigen::JacobiSVD<Matrix<double>> svd(W * X, Eigen::ComputeThinU);
    const Matrix<double> rest = W - svd.matrixU() * (svd.matrixU().transpose() * W);
    CHECK((W - op.to_dense()).norm() == Approx(rest.norm() * optimum(rest, 8)).epsilon(1e-9));
  }
  SECTION("extreme magnitudes") {
    const Matrix<double> W = random.matrix<double>(15, 11);
    for (const double scale : {1e-300, 1e-150, 1e150, 1e300}) {
      INFO("scale " << scale);
      CHECK(relative_error(Matrix<double>(scale * W), of_rank(scale * W, 4)) ==
            Approx(optimum(W, 4)).epsilon(1e-9));
    }
    const Matrix<float> tiny = Matrix<float>::Constant(6, 5, 1e-42F);  // denormal
    CHECK(relative_error(
              tiny, compress<LowRank>(tiny, keep(4), LowRank<float>::Options{.rank = 1})) <= 1e-2);
  }
}

TEST_CASE("a matrix of zeros, or of none that inputs reach, has factors by every method",
          "[low_rank]") {
  Random random(301);
  const auto never = [](const Progress&) { return false; };
  for (const SvdMethod svd : {SvdMethod::automatic, SvdMethod::exact, SvdMethod::randomized})
    for (const Index size : {1, 20}) {
      const Matrix<float> zero = Matrix<float>::Zero(size, size);
      for (const Monitor& monitor : {Monitor{}, Monitor{never}}) {
        const auto op = compress<LowRank>(zero, keep(2),
                                          LowRank<float>::Options{.svd = svd, .monitor = monitor});
        CHECK(op.to_dense() == zero);
      }
    }
  const Matrix<double> W = random.matrix<double>(30, 20);
  Matrix<double> X = Matrix<double>::Zero(20, 40);
  X.row(3) = random.matrix<double>(1, 40);
  Matrix<double> dead = W;
  dead.col(3).setZero();
  for (const SvdMethod svd : {SvdMethod::exact, SvdMethod::randomized})
    for (const Index samples : {5, 40}) {  // nothing that the metric sees: the plain optimum
      const auto op = of_rank(dead, 4, calibration_of(X.leftCols(samples)), svd);
      CHECK(relative_error(dead, op) == Approx(optimum(dead, 4)).epsilon(0.05));
    }
  // Large enough for the randomized method to be the default.
  const Matrix<float> large = Matrix<float>::Zero(1100, 1030);
  CHECK(compress<LowRank>(large, keep(0.01)).to_dense().isZero(0));
  CHECK_NOTHROW(
      compress<LowRank>(W, keep(1),
                        LowRankOptions{.rank = 3,
                                       .svd = SvdMethod::randomized,
                                       .oversampling = (std::numeric_limits<Index>::max)()}));
}

TEST_CASE("singular values far below the largest are found too", "[low_rank]") {
  Random random(302);
  const auto orthogonal = [&](Index rows, Index cols) {
    const Matrix<double> A = random.matrix<double>(rows, cols);
    return Matrix<double>(Eigen::JacobiSVD<Matrix<double>>(A, Eigen::ComputeThinU).matrixU());
  };
  for (const auto& [m, n] : {std::pair{40, 30}, {30, 40}}) {
    Vector<double> sigma(30);
    for (Index i = 0; i < 30; ++i) sigma(i) = std::pow(10, -double(i) / 2.5);  // down to 2.5e-12
    const Matrix<double> W = orthogonal(m, 30) * sigma.asDiagonal() * orthogonal(n, 30).transpose();
    const Matrix<double> X = random.matrix<double>(n, 200);
    for (const Index rank : {5, 15, 20, 25, 30}) {
      CAPTURE(m, n, rank);
      const double tail = rank < 30 ? sigma.tail(30 - rank).norm() / sigma.norm() : 0;
      CHECK(relative_error(W, of_rank(W, rank)) <= 1.01 * tail + 1e-15);
      const auto op = of_rank(W, rank, exact_calibration(X));
      const double loss = ((W - op.to_dense()) * X).norm() / (W * X).norm();
      CHECK(loss <= 1.01 * optimum(W * X, rank) + 1e-15);
    }
    CHECK(relative_error(W, compress<LowRank>(W, error(1e-13))) <= 1e-13);
  }
  // What only few directions of the inputs see, and those little.
  Vector<double> size(20);
  for (Index i = 0; i < 20; ++i) size(i) = std::pow(10, -double(i) / 2);
  const Matrix<double> X = size.asDiagonal() * random.matrix<double>(20, 500);
  const Matrix<double> W = random.matrix<double>(60, 20);
  for (const Index rank : {10, 15, 18, 19}) {
    CAPTURE(rank);
    const auto op = of_rank(W, rank, exact_calibration(X));
    const double loss = ((W - op.to_dense()) * X).norm() / (W * X).norm();
    CHECK(loss <= 1.01 * optimum(W * X, rank) + 1e-15);
  }
}

TEST_CASE("factors keep their accuracy at any scale of W, in narrow storage too", "[low_rank]") {
  Random random(303);
  const Matrix<float> W = random.matrix<float>(64, 96);
  for (const Storage storage :
       {Storage::f32, Storage::bf16, Storage::f16, Storage::int8, Storage::int4}) {
    const auto error_at = [&](float scale) {
      const Matrix<float> scaled = W * scale;
      return relative_error(
          scaled, compress<LowRank>(scaled, keep(2),
                                    LowRank<float>::Options{.rank = 32, .storage = storage}));
    };
    CAPTURE(to_string(storage));
    const double at_one = error_at(1);
    for (const float scale : {1e-6F, 1e-5F, 1e5F, 1e6F})
      CHECK(error_at(scale) == Approx(at_one).epsilon(0.01));
  }
  for (const auto& [m, n] : {std::pair{50, 10}, {10, 50}}) {
    const Matrix<float> huge = 1e38F * random.matrix<float>(m, n);
    CHECK(relative_error(huge, compress<LowRank>(huge, keep(1))) < 1);
    const auto op = compress<LowRank>(huge, keep(2), LowRank<float>::Options{.rank = 10});
    CHECK(relative_error(huge, op) < 1e-6);
    // Of rank 1, with a singular value that float does not hold.
    const Matrix<float> flat = Matrix<float>::Constant(m, n, 3e38F);
    CHECK(relative_error(flat, compress<LowRank>(flat, keep(1))) < 1e-6);
  }
}

TEST_CASE("randomized SVD stays near the optimum and never beats it", "[low_rank]") {
  Random random(28);
  const Index size = 160;
  // A flat spectrum, which is the hardest, and a decaying one.
  for (const double decay : {0.0, 0.7}) {
    Matrix<double> W = random.matrix<double>(size, size);
    for (Index j = 0; j < size; ++j) W.col(j) *= std::pow(1.0 + double(j), -decay);
    const double best = optimum(W, 20);
    const Vector<double> sigma = singular_values(W);
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      INFO("decay " << decay << ", seed " << seed);
      const auto error = [&](Index oversampling, Index iterations) {
        return relative_error(W, compress<LowRank>(W, keep(10), {},
                                                   LowRankOptions{.rank = 20,
                                                                  .svd = SvdMethod::randomized,
                                                                  .oversampling = oversampling,
                                                                  .power_iterations = iterations,
                                                                  .seed = seed}));
      };
      const double careful = error(20, 4);
      CHECK(careful >= best * (1 - 1e-12));
      CHECK(careful <= 1.01 * best);
      // The bound of Halko, Martinsson and Tropp holds in expectation for a range finder without
      // power iterations; one product with the Gram matrix only improves on it.
      const double quick = error(5, 0);
      CHECK(quick >= careful * (1 - 1e-9));
      CHECK(quick <= std::sqrt(1 + 20.0 / 4) * best);
    }
  }
}

TEST_CASE("the randomized result is that of the seed", "[low_rank]") {
  Random random(29);
  const Matrix<float> W = random.matrix<float>(90, 70);
  const auto run = [&](std::uint64_t seed) {
    return compress<LowRank>(W, keep(0.3),
                             LowRank<float>::Options{
                                 .svd = SvdMethod::randomized, .power_iterations = 1, .seed = seed})
        .to_dense();
  };
  CHECK(run(1) == run(1));
  CHECK(run(1) != run(2));
}

}  // namespace pleat::test
