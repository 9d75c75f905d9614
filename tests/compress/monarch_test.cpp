// SPDX-License-Identifier: MIT
// compress<Monarch>: the projection, its calibrated sweeps, and what budgets give.
#include "pleat/compress/monarch.hpp"

#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using MonarchOptions = Monarch<double>::Options;

using Catch::Matchers::Contains;

/// Of that shape, whatever it takes.
template <Real T>
Monarch<T> monarch_of(const Matrix<T>& W, Index K, Index J, Index t,
                      const Calibration<T>& calibration = {}, Index iterations = 8) {
  return compress<Monarch>(
      W, keep(1000), calibration,
      typename Monarch<T>::Options{
          .input_blocks = K, .output_classes = J, .block_rank = t, .iterations = iterations});
}

/// The rows of class j, in block k of the columns.
Matrix<double> monarch_slice(const Matrix<double>& W, Index K, Index J, Index k, Index j) {
  const Index p = (W.cols() + K - 1) / K;
  const Index first = std::min(W.cols(), k * p);
  const Index rows = (W.rows() - j + J - 1) / J;
  return W(Eigen::seqN(j, rows, J), Eigen::seqN(first, std::min(p, W.cols() - first)));
}

/// What the best Monarch matrix loses of W, slice by slice.
double monarch_tail(const Matrix<double>& W, Index K, Index J, Index t) {
  double sum = 0;
  for (Index k = 0; k < K; ++k)
    for (Index j = 0; j < J; ++j) {
      const Matrix<double> slice = monarch_slice(W, K, J, k, j);
      if (slice.size() == 0) continue;
      const Vector<double> sigma = singular_values(slice);
      if (sigma.size() > t) sum += sigma.tail(sigma.size() - t).squaredNorm();
    }
  return std::sqrt(sum);
}

/// A Monarch matrix with random factors.
Matrix<double> random_monarch(Random& random, Index m, Index n, Index K, Index J, Index t) {
  const Index q = (m + J - 1) / J;
  const Index p = (n + K - 1) / K;
  Matrix<double> W = Matrix<double>::Zero(q * J, p * K);
  for (Index k = 0; k < K; ++k)
    for (Index j = 0; j < J; ++j) {
      const Matrix<double> L = random.matrix<double>(q, t);
      const Matrix<double> R = random.matrix<double>(t, p);
      W(Eigen::seqN(j, q, J), Eigen::seqN(k * p, p)) = L * R;
    }
  return W.topLeftCorner(m, n);
}

Matrix<double> monarch_golden(Index m, Index n) {
  return Matrix<double>::NullaryExpr(m, n, [](Index i, Index j) {
    return std::sin(1 + double(i) + 2 * double(j) + 0.1 * double(i * j)) + 0.01 * double(i - j);
  });
}

Matrix<double> monarch_hadamard(Index levels) {
  Matrix<double> H = Matrix<double>::Ones(1, 1);
  for (Index l = 0; l < levels; ++l) {
    Matrix<double> next(2 * H.rows(), 2 * H.rows());
    next << H, H, H, -H;
    H = next;
  }
  return H;
}

Matrix<double> monarch_kronecker(const Matrix<double>& A, const Matrix<double>& B) {
  Matrix<double> W(A.rows() * B.rows(), A.cols() * B.cols());
  for (Index i = 0; i < A.rows(); ++i)
    for (Index j = 0; j < A.cols(); ++j)
      W.block(i * B.rows(), j * B.cols(), B.rows(), B.cols()) = A(i, j) * B;
  return W;
}

}  // namespace

TEST_CASE("Monarch: numbers from another program", "[monarch]") {
  const Matrix<double> W = monarch_golden(24, 30);
  CHECK(W.norm() == Approx(19.606862759910).epsilon(1e-12));
  for (const auto& [K, J, t, golden] : {std::tuple{5, 4, 1, 13.461970268093},
                                        {5, 4, 2, 7.283565731371},
                                        {2, 2, 3, 10.262975548222},
                                        {6, 8, 1, 11.219405202912}}) {
    INFO(K << " blocks, " << J << " classes, rank " << t);
    const auto op = monarch_of<double>(W, K, J, t);
    CHECK(relative_error(W, op) * W.norm() == Approx(golden).epsilon(1e-9));
    CHECK((W - op.to_dense()).norm() == Approx(golden).epsilon(1e-9));
  }
  // Where the metric is block-diagonal there is a closed form, too.
  Matrix<double> C = Matrix<double>::Zero(30, 30);
  for (Index i = 0; i < 30; ++i)
    for (Index j = 0; j < 30; ++j)
      if (i / 6 == j / 6) C(i, j) = std::pow(0.5, std::abs(double(i - j))) + (i == j ? 0.1 : 0);
  const auto calibration = Calibration<double>::from_gram(C, 100).shrinkage(0);
  for (const Index iterations : {0, 8}) {
    const auto op = monarch_of<double>(W, 5, 4, 1, calibration, iterations);
    const Matrix<double> E = W - op.to_dense();
    CHECK(std::sqrt((E * C * E.transpose()).trace()) == Approx(10.957115175190).epsilon(1e-9));
  }
}

TEST_CASE("Monarch: the optimum of every shape", "[monarch]") {
  Random random(301);
  for (const auto& [m, n, K, J, t] : {std::tuple{24, 30, 5, 4, 2},
                                      {30, 24, 3, 2, 4},
                                      {120, 131, 4, 8, 3},  // a prime
                                      {131, 120, 7, 5, 2},
                                      {257, 512, 8, 4, 2},
                                      {64, 40, 1, 4, 5},
                                      {40, 64, 4, 1, 5},
                                      {33, 5, 4, 3, 2},  // the fourth block has no column
                                      {7, 9, 9, 7, 1},
                                      {1, 19, 3, 1, 1},
                                      {19, 1, 1, 3, 1},
                                      {1, 1, 1, 1, 1}}) {
    INFO(m << " x " << n << ", " << K << " blocks, " << J << " classes, rank " << t);
    const Matrix<double> W = random.matrix<double>(m, n);
    const auto op = monarch_of<double>(W, K, J, t);
    CHECK(op.input_blocks() == K);
    CHECK(op.output_classes() == J);
    CHECK(op.block_rank() == t);
    CHECK(op.bytes() == 8 * std::size_t(t * (J * n + K * m)));
    const Matrix<double> What = op.to_dense();
    const double lost = (W - What).norm();
    CHECK(lost == Approx(monarch_tail(W, K, J, t)).epsilon(1e-9).margin(1e-13));
    CHECK(std::abs((W - What).cwiseProduct(What).sum()) <= 1e-12 * W.squaredNorm());
    // It is what it is of itself.
    CHECK(relative_error(What, monarch_of<double>(What, K, J, t)) <= 1e-13);
    // The factors share the size of their product.
    const double left = op.left().values().cwiseAbs().maxCoeff();
    const double right = op.right().values().cwiseAbs().maxCoeff();
    CHECK(left <= 8 * right);
    CHECK(right <= 8 * left);
    const Matrix<float> rounded = W.cast<float>();
    CHECK(relative_error(rounded, monarch_of<float>(rounded, K, J, t)) ==
          Approx(lost / W.norm()).epsilon(1e-5).margin(1e-6));
  }
}

TEST_CASE("Monarch: members are found again", "[monarch]") {
  Random random(302);
  for (const auto& [m, n, K, J, t] : {std::tuple{64, 64, 8, 8, 1},
                                      {96, 60, 5, 4, 3},
                                      {48, 80, 8, 6, 2},
                                      {31, 45, 4, 5, 4},
                                      {50, 21, 5, 16, 2},
                                      {200, 150, 2, 3, 9}}) {
    INFO(m << " x " << n << ", " << K << " blocks, " << J << " classes, rank " << t);
    const Matrix<double> W = random_monarch(random, m, n, K, J, t);
    CHECK(relative_error(W, monarch_of<double>(W, K, J, t)) <= 1e-13);
    CHECK(relative_error(W, monarch_of<double>(W, K, J, t + 1)) <= 1e-13);
    const auto calibration = calibration_of(correlated_inputs<double>(random, n, 2 * n));
    CHECK(relative_error(W, monarch_of<double>(W, K, J, t, calibration), calibration) <= 1e-12);
    // A slice whose last singular value is far below the first is found as well.
    const Matrix<double> L = random.matrix<double>(m, 2);
    const Matrix<double> R = random.matrix<double>(2, n);
    const Matrix<double> steep = L.col(0) * R.row(0) + 1e-9 * L.col(1) * R.row(1);
    CHECK(relative_error(steep, monarch_of<double>(steep, K, J, 2)) <= 1e-13);
  }
}

TEST_CASE("Monarch: transforms that it is exact for", "[monarch]") {
  Random random(303);
  for (const auto& [levels, K] : {std::pair{4, 4}, {6, 16}, {6, 2}, {8, 16}}) {
    const Matrix<double> H = monarch_hadamard(levels);
    CHECK(relative_error(H, monarch_of<double>(H, K, H.rows() / K, 1)) <= 1e-13);
  }
  Matrix<double> sum = Matrix<double>::Zero(30, 28);
  for (int r = 0; r < 2; ++r) {
    const Matrix<double> A = random.matrix<double>(6, 4);
    const Matrix<double> B = random.matrix<double>(5, 7);
    sum += monarch_kronecker(A, B);
  }
  CHECK(relative_error(sum, monarch_of<double>(sum, 4, 5, 2)) <= 1e-13);
  CHECK(relative_error(sum, monarch_of<double>(sum, 4, 5, 1)) > 0.1);
  const Matrix<double> one = Matrix<double>::Identity(24, 24);
  CHECK(relative_error(one, monarch_of<double>(one, 4, 6, 1)) <= 1e-14);
  const Matrix<double> U = random.matrix<double>(40, 3);
  const Matrix<double> V = random.matrix<double>(3, 34);
  const Matrix<double> low = U * V;
  CHECK(relative_error(low, monarch_of<double>(low, 5, 3, 3)) <= 1e-13);
  CHECK(relative_error(low, monarch_of<double>(low, 1, 1, 3)) <= 1e-13);
  // The real part of the Fourier transform, its columns in the order of the digit transpose.
  const Index n = 60;
  const Index K = 6;
  Matrix<double> F(n, n);
  for (Index k = 0; k < K; ++k)
    for (Index i = 0; i < n / K; ++i)
      for (Index row = 0; row < n; ++row)
        F(row, k * (n / K) + i) =
            std::cos(2 * std::numbers::pi * double(row * (i * K + k) % n) / double(n));
  CHECK(relative_error(F, monarch_of<double>(F, K, n / K, 2)) <= 1e-13);
  CHECK(relative_error(F, monarch_of<double>(F, K, n / K, 1)) > 0.4);
}

TEST_CASE("Monarch: cosine and Hartley transforms, in the order that they are exact in",
          "[monarch]") {
  const Index n = 64;
  const Index K = 8;
  // Column (k, i) is i K + k: of the inputs, or of their even ones and then the odd ones backwards.
  const auto digits = [&](Index column) { return column % (n / K) * K + column / (n / K); };
  const auto makhoul = [&](Index x) { return 2 * x < n ? 2 * x : 2 * (n - 1 - x) + 1; };
  const auto cosine = [&](Index r, Index i) {
    return std::sqrt((r == 0 ? 1.0 : 2.0) / double(n)) *
           std::cos(2 * std::numbers::pi * double((2 * i + 1) * r % (4 * n)) / double(4 * n));
  };
  const Matrix<double> ordered = Matrix<double>::NullaryExpr(
      n, n, [&](Index r, Index column) { return cosine(r, makhoul(digits(column))); });
  CHECK(relative_error(ordered, monarch_of<double>(ordered, K, n / K, 2)) <= 1e-13);
  CHECK(relative_error(ordered, monarch_of<double>(ordered, K, n / K, 1)) > 0.4);
  // Numbers of another program: in the order of the digits alone it takes block rank 4.
  const Matrix<double> plain = Matrix<double>::NullaryExpr(
      n, n, [&](Index r, Index column) { return cosine(r, digits(column)); });
  for (const auto& [t, lost] : {std::pair{1, 0.78}, {2, 0.45}, {3, 0.32}})
    CHECK(std::abs(relative_error(plain, monarch_of<double>(plain, K, n / K, t)) - lost) <= 0.005);
  CHECK(relative_error(plain, monarch_of<double>(plain, K, n / K, 4)) <= 1e-13);

  const Matrix<double> hartley = Matrix<double>::NullaryExpr(n, n, [&](Index r, Index column) {
    const double angle = 2 * std::numbers::pi * double(r * digits(column) % n) / double(n);
    return (std::cos(angle) + std::sin(angle)) / std::sqrt(double(n));
  });
  CHECK(relative_error(hartley, monarch_of<double>(hartley, K, n / K, 2)) <= 1e-13);
  CHECK(relative_error(hartley, monarch_of<double>(hartley, K, n / K, 1)) > 0.4);
}

TEST_CASE("Monarch: one block and one class are low rank", "[monarch]") {
  Random random(304);
  const Matrix<double> W = random.matrix<double>(40, 30);
  const auto calibration = exact_calibration(correlated_inputs<double>(random, 30, 90));
  const auto options = LowRank<double>::Options{.rank = 6};
  CHECK(relative_error(W, monarch_of<double>(W, 1, 1, 6)) ==
        Approx(relative_error(W, compress<LowRank>(W, keep(9), options))).epsilon(1e-9));
  CHECK(relative_error(W, monarch_of<double>(W, 1, 1, 6, calibration), calibration) ==
        Approx(relative_error(W, compress<LowRank>(W, keep(9), calibration, options), calibration))
            .epsilon(1e-7));
  const Matrix<double> tall = random.matrix<double>(90, 30);
  CHECK(relative_error(tall, monarch_of<double>(tall, 1, 1, 6, calibration), calibration) ==
        Approx(relative_error(tall, compress<LowRank>(tall, keep(9), calibration, options),
                              calibration))
            .epsilon(1e-7));
}

TEST_CASE("Monarch: sweeps, as another program would do them", "[monarch]") {
  Random random(305);
  // Not bound to names at once: clang before 16 lets no lambda see such names.
  for (const auto& sizes :
       {std::array<Index, 5>{48, 40, 5, 4, 2}, {30, 43, 4, 3, 3}, {64, 20, 2, 4, 2}}) {
    const Index m = sizes[0];
    const Index n = sizes[1];
    const Index K = sizes[2];
    const Index J = sizes[3];
    const Index t = sizes[4];
    INFO(m << " x " << n);
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> X = random.matrix<double>(n, 2 * n);
    const Matrix<double> G = X * X.transpose();
    const Index p = (n + K - 1) / K;
    const auto width = [&](Index k) { return std::min<Index>(p, n - k * p); };
    double loss = 0;
    for (Index j = 0; j < J; ++j) {
      const Matrix<double> Wj = W(Eigen::seqN(j, (m - j + J - 1) / J, J), Eigen::all);
      std::vector<Matrix<double>> L{static_cast<std::size_t>(K)};
      std::vector<Matrix<double>> R{static_cast<std::size_t>(K)};
      const auto made = [&](Index without) {
        Matrix<double> sum = Matrix<double>::Zero(Wj.rows(), n);
        for (Index k = 0; k < K; ++k)
          if (k != without) sum.middleCols(k * p, width(k)) = L[std::size_t(k)] * R[std::size_t(k)];
        return sum;
      };
      const auto take = [&](Index k, const Matrix<double>& T) {
        const Matrix<double> S = G.block(k * p, k * p, width(k), width(k)).llt().matrixL();
        const Eigen::JacobiSVD<Matrix<double>> svd(T * S,
                                                   Eigen::ComputeThinU | Eigen::ComputeThinV);
        L[std::size_t(k)] = svd.matrixU().leftCols(t) * svd.singularValues().head(t).asDiagonal();
        R[std::size_t(k)] = S.triangularView<Eigen::Lower>()
                                .transpose()
                                .solve(svd.matrixV().leftCols(t))
                                .transpose();
      };
      for (Index k = 0; k < K; ++k) take(k, Wj.middleCols(k * p, width(k)));
      for (int sweep = 0; sweep < 3; ++sweep) {
        for (Index k = 0; k < K; ++k) {
          const Matrix<double> rest = (Wj - made(k)) * G.middleCols(k * p, width(k));
          const Matrix<double> inverse = G.block(k * p, k * p, width(k), width(k)).inverse();
          take(k, rest * inverse);
        }
        Matrix<double> D = Matrix<double>::Zero(K * t, n);
        for (Index k = 0; k < K; ++k) D.block(k * t, k * p, t, width(k)) = R[std::size_t(k)];
        const Matrix<double> all =
            Wj * G * D.transpose() * Matrix<double>(D * G * D.transpose()).inverse();
        for (Index k = 0; k < K; ++k) L[std::size_t(k)] = all.middleCols(k * t, t);
      }
      const Matrix<double> E = Wj - made(-1);
      loss += (E * G * E.transpose()).trace();
    }
    const auto calibration = Calibration<double>::from_gram(G, 2 * n).shrinkage(0);
    const auto op = monarch_of<double>(W, K, J, t, calibration, 3);
    CHECK(relative_error(W, op, calibration) ==
          Approx(std::sqrt(loss / (W * G * W.transpose()).trace())).epsilon(1e-6));
  }
}

TEST_CASE("Monarch: the loss falls from sweep to sweep, and is below the plain one", "[monarch]") {
  Random random(306);
  for (const auto& [m, n] : {std::pair{60, 40}, {30, 47}, {80, 24}})
    for (const Index samples : {1, 15, 200}) {  // fewer than inputs, and enough
      INFO(m << " x " << n << ", " << samples << " samples");
      const Matrix<double> W = random.matrix<double>(m, n);
      const auto calibration = exact_calibration(correlated_inputs<double>(random, n, samples));
      double reported = 2;
      bool monotone = true;
      const auto op = compress<Monarch>(
          W, keep(2), calibration,
          MonarchOptions{.input_blocks = 4,
                         .output_classes = 3,
                         .block_rank = 2,
                         .monitor = [&](const Progress& progress) {
                           monotone = monotone && progress.loss <= reported * (1 + 1e-12);
                           reported = progress.loss;
                           return true;
                         }});
      CHECK(monotone);
      CHECK(reported == Approx(relative_error(W, op, calibration)).epsilon(1e-6).margin(1e-7));
      const double plain = relative_error(W, monarch_of<double>(W, 4, 3, 2), calibration);
      double before = plain * (1 + 1e-9);
      for (const Index iterations : {0, 1, 2, 8}) {
        const double error =
            relative_error(W, monarch_of<double>(W, 4, 3, 2, calibration, iterations), calibration);
        CHECK(error <= before + 1e-12);
        before = error * (1 + 1e-9);
      }
      if (samples == 200) CHECK(before < 0.95 * plain);
      // What is shrunk is still closer on these samples than what did not see them.
      auto trusted = calibration_of(correlated_inputs<double>(random, n, 8 * n));
      CHECK(relative_error(W, monarch_of<double>(W, 4, 3, 2, trusted), trusted) <=
            relative_error(W, monarch_of<double>(W, 4, 3, 2), trusted));
    }
}

TEST_CASE("Monarch: what a calibration does not see stays that of the weight", "[monarch]") {
  Random random(307);
  const Matrix<double> W = random.matrix<double>(24, 30);
  Matrix<double> X = random.matrix<double>(30, 80);
  X.middleRows(10, 10).setZero();  // the second of three blocks
  const auto plain = monarch_of<double>(W, 3, 4, 2);
  for (const bool exact : {true, false}) {
    const auto calibration = exact ? exact_calibration(X) : calibration_of(X);
    const auto op = monarch_of<double>(W, 3, 4, 2, calibration);
    CHECK((op.to_dense() - plain.to_dense()).middleCols(10, 10).norm() <= 1e-6 * W.norm());
    CHECK(relative_error(W, op, calibration) < relative_error(W, plain, calibration));
  }
  // One sample takes one of the ranks; the others go to what is left.
  const Matrix<double> x = random.matrix<double>(30, 1);
  const auto one = exact_calibration(x);
  const auto op = monarch_of<double>(W, 3, 4, 3, one);
  CHECK(relative_error(W, op, one) <= 1e-7);
  CHECK(relative_error(W, op) <= relative_error(W, plain) * 1.001);
  // Samples of nothing but zeros say nothing.
  const auto blind = calibration_of(Matrix<double>::Zero(30, 4));
  CHECK(monarch_of<double>(W, 3, 4, 2, blind).to_dense() == plain.to_dense());
  const Matrix<double> zero = Matrix<double>::Zero(9, 10);
  CHECK(monarch_of<double>(zero, 2, 3, 2).to_dense() == zero);
  CHECK(
      monarch_of<double>(zero, 2, 3, 2, calibration_of(Matrix<double>(X.topRows(10)))).to_dense() ==
      zero);
}

TEST_CASE("Monarch: weights of rows", "[monarch]") {
  Random random(308);
  const Matrix<double> W = random.matrix<double>(40, 24);
  Vector<double> weights = Vector<double>::Ones(40);
  weights.head(20).setConstant(100);
  const Matrix<double> X = correlated_inputs<double>(random, 24, 70);
  for (const bool calibrated : {false, true}) {
    Calibration<double> weighted = calibrated ? exact_calibration(X) : Calibration<double>(24);
    const auto without = monarch_of<double>(W, 4, 2, 3, weighted);
    weighted.row_weights(weights);
    const auto op = monarch_of<double>(W, 4, 2, 3, weighted);
    CHECK(relative_error(W, op, weighted) < relative_error(W, without, weighted));
    if (!calibrated) {
      const Matrix<double> scaled = weights.cwiseSqrt().asDiagonal() * W;
      CHECK(relative_error(W, op, weighted) * scaled.norm() ==
            Approx(monarch_tail(scaled, 4, 2, 3)).epsilon(1e-9));
    }
    // An output metric counts by its diagonal.
    Calibration<double> metric = calibrated ? exact_calibration(X) : Calibration<double>(24);
    metric.output_metric(Matrix<double>(weights.asDiagonal()));
    CHECK(monarch_of<double>(W, 4, 2, 3, metric).to_dense() == op.to_dense());
    Vector<double> half = weights;
    half.head(20).setZero();
    weighted.row_weights(half);
    const auto rest = monarch_of<double>(W, 4, 2, 3, weighted);
    CHECK(relative_error(W, rest, weighted) < relative_error(W, without, weighted));
    CHECK(rest.to_dense().allFinite());
  }
}

TEST_CASE("Monarch: blind to scale, the same for any number of threads", "[monarch]") {
  Random random(309);
  const Matrix<double> W = random.matrix<double>(72, 60);
  const Matrix<double> X = correlated_inputs<double>(random, 60, 150);
  const auto run = [&](double of_W, double of_X) {
    const Matrix<double> scaled = of_W * W;
    return Matrix<double>(compress<Monarch>(scaled, keep(0.4), calibration_of(of_X * X),
                                            MonarchOptions{.iterations = 3})
                              .to_dense() /
                          of_W);
  };
  const Matrix<double> reference = run(1, 1);
  CHECK(run(0x1p-21, 1) == reference);  // powers of two: to the bit
  CHECK(run(0x1p20, 1) == reference);
  CHECK(run(1, 0x1p-20) == reference);
  const auto error = [&](const Matrix<double>& A) { return ((W - A) * X).norm() / (W * X).norm(); };
  for (const double scale : {1e-6, 1e6}) {
    CHECK(error(run(scale, 1)) == Approx(error(reference)).epsilon(1e-6));
    CHECK(error(run(1, scale)) == Approx(error(reference)).epsilon(1e-6));
  }
  set_num_threads(3);
  CHECK(run(1, 1) == reference);
  set_num_threads(1);
}

TEST_CASE("Monarch: large slices by the randomized method", "[monarch]") {
  Random random(310);
  const Index n = 600;
  // Singular values that fall by a tenth each, so that the tail is known.
  const Matrix<double> U = random.matrix<double>(n, 24);
  const Matrix<double> V = random.matrix<double>(24, n);
  Vector<double> sizes(24);
  for (Index r = 0; r < 24; ++r) sizes(r) = std::pow(0.7, double(r));
  const Matrix<double> W = U * sizes.asDiagonal() * V;
  const auto op = monarch_of<double>(W, 1, 1, 12);
  const Eigen::HouseholderQR<Matrix<double>> left(U);
  const Eigen::HouseholderQR<Matrix<double>> right(V.transpose());
  const Matrix<double> Ru = left.matrixQR().topRows(24).triangularView<Eigen::Upper>();
  const Matrix<double> Rv = right.matrixQR().topRows(24).triangularView<Eigen::Upper>();
  const Matrix<double> core = Ru * sizes.asDiagonal() * Rv.transpose();
  const Vector<double> sigma = singular_values(core);
  CHECK((W - op.to_dense()).norm() == Approx(sigma.tail(12).norm()).epsilon(1e-6));
}

TEST_CASE("Monarch: spectra say what shapes lose", "[monarch]") {
  Random random(311);
  const Matrix<double> W = random.matrix<double>(60, 44);
  const Matrix<double> none;
  detail::MonarchSpectra<> plain(W, none, 7);
  const Matrix<double> X = random.matrix<double>(44, 90);
  const Matrix<double> G = X * X.transpose();
  detail::MonarchSpectra<> calibrated(W, G, 7);
  for (const auto& [K, J, t] : {std::tuple{4, 6, 2}, {3, 7, 1}, {1, 1, 9}, {11, 2, 3}}) {
    INFO(K << " blocks, " << J << " classes, rank " << t);
    const double tail = monarch_tail(W, K, J, t);
    CHECK(plain.loss({K, J, t}) == Approx(tail * tail).epsilon(1e-9));
    double sum = 0;
    const Index p = (44 + K - 1) / K;
    for (Index k = 0; k < K; ++k) {
      const Index width = std::min<Index>(p, 44 - k * p);
      const Matrix<double> S = G.block(k * p, k * p, width, width).llt().matrixL();
      const double lost = monarch_tail(W.middleCols(k * p, width) * S, 1, J, t);
      sum += lost * lost;
    }
    CHECK(calibrated.loss({K, J, t}) == Approx(sum).epsilon(1e-6));
  }
  // A sample of many slices, and of large ones.
  const Matrix<double> large = random.matrix<double>(400, 300);
  detail::MonarchSpectra<> sampled(large, none, 7);
  for (const auto& [K, J, t] : {std::tuple{2, 2, 20}, {16, 20, 2}, {1, 1, 40}}) {
    const double tail = monarch_tail(large, K, J, t);
    CHECK(sampled.loss({K, J, t}) == Approx(tail * tail).epsilon(0.06));
  }
}

TEST_CASE("Monarch: the budget finds the shape that a weight has", "[monarch]") {
  Random random(312);
  const Matrix<double> H = monarch_hadamard(6);
  const auto op = compress<Monarch>(H, keep(0.25));
  CHECK(relative_error(H, op) <= 1e-13);
  CHECK(op.bytes() <= std::size_t(0.25 * 8 * 64 * 64));
  for (const auto& [m, n, K, J, t] :
       {std::tuple{64, 64, 8, 8, 1}, {96, 60, 5, 4, 2}, {48, 80, 8, 6, 2}}) {
    INFO(m << " x " << n);
    const Matrix<double> W = random_monarch(random, m, n, K, J, t);
    const auto calibration = calibration_of(correlated_inputs<double>(random, n, 2 * n));
    const auto needed = std::int64_t(8 * t * (J * n + K * m));
    const auto found = compress<Monarch>(W, bytes(needed));
    CHECK(found.input_blocks() == K);
    CHECK(found.output_classes() == J);
    CHECK(relative_error(W, found) <= 1e-13);
    CHECK(relative_error(W, compress<Monarch>(W, bytes(needed), calibration), calibration) <=
          1e-10);
    // And no more bytes than that for an error next to nothing.
    const auto smallest = compress<Monarch>(W, error(1e-9));
    CHECK(std::int64_t(smallest.bytes()) <= needed + needed / 20);
    CHECK(relative_error(W, smallest) <= 1e-9);
  }
  // And with a calibration it is no further than low rank of as many bytes, which is tried.
  const Matrix<double> noise = random.matrix<double>(60, 48);
  const auto seen = calibration_of(correlated_inputs<double>(random, 48, 300));
  for (const double share : {0.2, 0.5})
    CHECK(relative_error(noise, compress<Monarch>(noise, keep(share), seen), seen) <=
          1.02 * relative_error(noise, compress<LowRank>(noise, keep(share), seen), seen));
  // Low rank is among the shapes: without a grid it is not left behind.
  const Matrix<double> U = random.matrix<double>(60, 5);
  const Matrix<double> V = random.matrix<double>(5, 50);
  const Matrix<double> low = U * V;
  const auto flat = compress<Monarch>(low, bytes(8 * 5 * 110));
  CHECK(relative_error(low, flat) <= 1e-13);
  CHECK(flat.input_blocks() == 1);
  CHECK(flat.output_classes() == 1);
}

TEST_CASE("Monarch: every shape within every budget", "[monarch]") {
  Random random(313);
  for (const auto& [m, n] : {std::pair{1, 1},
                             {1, 40},
                             {40, 1},
                             {2, 3},
                             {13, 17},
                             {101, 53},
                             {8, 130},
                             {130, 8},
                             {96, 128}}) {
    const Matrix<float> W = random.matrix<float>(m, n);
    Calibration<float> calibration(n);
    calibration.add(correlated_inputs<float>(random, n, 5));  // fewer samples than inputs
    double before = 2;
    for (const double share : {0.1, 0.25, 0.5, 1.0, 4.0}) {
      INFO(m << " x " << n << ", " << share);
      const Monarch<float>::Options quick{.iterations = 2};
      try {
        const auto op = compress<Monarch>(W, keep(share), calibration, quick);
        CHECK(op.bytes() <= std::size_t(share * 4 * m * n + 1e-9));
        CHECK(op.bytes() == detail::monarch_bytes<float>(
                                m, n, {op.input_blocks(), op.output_classes(), op.block_rank()}));
        const double plain = relative_error(W, compress<Monarch>(W, keep(share), quick));
        CHECK(plain <= before * 1.02 + 1e-6);
        before = plain;
        CHECK(relative_error(W, op, calibration) <= 1);
        if (share == 4.0) CHECK(plain <= 1e-6);
      } catch (const std::invalid_argument& refusal) {
        // Only what is too small for any shape; and the message has the smallest that is not.
        const std::string text = refusal.what();
        const auto smallest = std::stoll(text.substr(text.rfind(' ') + 1));
        CHECK(smallest == 4 * (m + n));
        CHECK(double(smallest) > share * 4 * m * n);
        CHECK(compress<Monarch>(W, bytes(smallest), calibration, quick).bytes() ==
              std::size_t(smallest));
        CHECK_THROWS_AS(compress<Monarch>(W, bytes(smallest - 1), calibration, quick),
                        std::invalid_argument);
      }
    }
  }
}

TEST_CASE("Monarch: the smallest found that reaches an error", "[monarch]") {
  Random random(314);
  const Matrix<float> W = random.matrix<float>(96, 32);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 32, 100));
  std::size_t before = 4 * 96 * 32 * 2;
  for (const double target : {1e-5, 0.4, 0.8}) {
    const auto op = compress<Monarch>(W, error(target));
    CHECK(relative_error(W, op) <= target);
    CHECK(op.bytes() < before);
    before = op.bytes();
    const auto seen = compress<Monarch>(W, error(target), calibration);
    CHECK(relative_error(W, seen, calibration) <= target);
  }
  // All ranks hold the weight itself.
  CHECK(relative_error(W, compress<Monarch>(W, error(0))) == 0);
  CHECK_THROWS_WITH(
      compress<Monarch>(W, error(1e-3),
                        Monarch<float>::Options{.block_rank = 1, .storage = Storage::int4}),
      Contains("error(0.001) cannot be met") && Contains("block rank 1"));
}

TEST_CASE("Monarch: hyperparameters that were given are kept", "[monarch]") {
  Random random(315);
  const Matrix<double> W = random.matrix<double>(60, 48);
  const auto with = [&](MonarchOptions options, double share = 0.6) {
    options.iterations = 1;
    return compress<Monarch>(W, keep(share), options);
  };
  CHECK(with({.input_blocks = 7}).input_blocks() == 7);
  CHECK(with({.output_classes = 11}).output_classes() == 11);
  CHECK(with({.block_rank = 2}).block_rank() == 2);
  const auto both = with({.input_blocks = 3, .block_rank = 4});
  CHECK(both.input_blocks() == 3);
  CHECK(both.block_rank() == 4);
  CHECK(with({.input_blocks = 1}).input_blocks() == 1);
  CHECK(compress<Monarch>(W, error(0.5), MonarchOptions{.input_blocks = 6}).input_blocks() == 6);
  CHECK_THROWS_WITH(with({.input_blocks = -1}),
                    Contains("60 x 48") && Contains("between 1 and 48 input blocks, not -1"));
  CHECK_THROWS_WITH(with({.input_blocks = 49}), Contains("between 1 and 48 input blocks, not 49"));
  CHECK_THROWS_WITH(with({.output_classes = 61}),
                    Contains("between 1 and 60 output classes, not 61"));
  CHECK_THROWS_WITH(with({.output_classes = -2}), Contains("output classes, not -2"));
  CHECK_THROWS_WITH(with({.block_rank = 49}), Contains("60 x 48 have no rank 49"));
  CHECK_THROWS_WITH(with({.block_rank = -1}), Contains("no rank -1"));
  CHECK_THROWS_WITH(with({.input_blocks = 6, .output_classes = 12, .block_rank = 6}),
                    Contains("slices of 5 x 8 have no rank 6"));
  CHECK_THROWS_WITH(compress<Monarch>(W, keep(1), MonarchOptions{.iterations = -1}),
                    Contains("iterations must not be negative, but are -1"));
  CHECK_THROWS_AS(compress<Monarch>(W, keep(1), MonarchOptions{.storage = Storage::f32}),
                  std::invalid_argument);
  // 8 t (J n + K m) bytes.
  CHECK_THROWS_WITH(with({.input_blocks = 8, .output_classes = 8, .block_rank = 3}),
                    Contains("keep(0.6)") && Contains("needs 20736"));
}

TEST_CASE("Monarch: in narrow storage, one factor makes good what the other lost", "[monarch]") {
  Random random(316);
  const Matrix<double> noise = random.matrix<double>(96, 80);
  const Matrix<double> W = random_monarch(random, 96, 80, 4, 3, 5) + 0.1 * noise;
  const auto calibration = calibration_of(correlated_inputs<double>(random, 80, 300));
  for (const bool calibrated : {false, true}) {
    const Calibration<double> seen = calibrated ? calibration : Calibration<double>();
    MonarchOptions options{.input_blocks = 4, .output_classes = 3, .block_rank = 5};
    const auto plain = compress<Monarch>(W, keep(10), seen, options);
    const double error = relative_error(W, plain, seen);
    for (const auto& [storage, gain] : {std::pair{Storage::bf16, 1.0001},
                                        {Storage::f16, 1.0001},
                                        {Storage::int8, 0.999},
                                        {Storage::int4, 0.98}}) {
      CAPTURE(to_string(storage), error, calibrated);
      options.storage = storage;
      const auto op = compress<Monarch>(W, keep(10), seen, options);
      CHECK(op.left().storage() == storage);
      CHECK(op.right().storage() == storage);
      CHECK(op.bytes() == detail::monarch_bytes<double>(96, 80, {4, 3, 5}, storage));
      CHECK_THAT(op.parameters(), Contains("stored as " + std::string(to_string(storage))));
      const double narrow = relative_error(W, op, seen);
      // Closer than both factors rounded by themselves.
      const Monarch<double> rounded(plain.left().stored_as(storage),
                                    plain.right().stored_as(storage));
      CHECK(narrow <= gain * relative_error(W, rounded, seen));
      CHECK(narrow <= error + (storage == Storage::int4 ? 0.1 : 0.01));
    }
  }
  for (const Storage storage : {Storage::bf16, Storage::int8, Storage::int4})
    for (const double share : {0.25, 0.06}) {
      CAPTURE(to_string(storage), share);
      const auto op = compress<Monarch>(W, keep(share), calibration,
                                        MonarchOptions{.iterations = 2, .storage = storage});
      CHECK(double(op.bytes()) <= share * double(W.size()) * 8);
      CHECK(op.right().storage() == storage);
    }
}

TEST_CASE("Monarch: few samples of many inputs change nothing", "[monarch]") {
  Random random(317);
  const Matrix<float> W = random.matrix<float>(12, 4100);
  const auto few = calibration_of(random.matrix<float>(4100, 9));
  CHECK(monarch_of<float>(W, 10, 3, 1, few).to_dense() ==
        monarch_of<float>(W, 10, 3, 1).to_dense());
}

TEST_CASE("Monarch: a stop returns the best so far", "[monarch]") {
  Random random(318);
  const Matrix<double> W = random.matrix<double>(100, 64);
  const auto calibration = exact_calibration(correlated_inputs<double>(random, 64, 100));
  double before = 2;
  for (const Index stop : {1, 40, 44}) {
    Index calls = 0;
    const auto op = compress<Monarch>(W, keep(0.3), calibration,
                                      MonarchOptions{.monitor = [&](const Progress& progress) {
                                        CHECK(progress.iteration <= progress.iterations);
                                        return ++calls < stop;
                                      }});
    CHECK(calls <= stop);
    CHECK(op.bytes() <= std::size_t(0.3 * 8 * 6400));
    const double error = relative_error(W, op, calibration);
    CHECK(error <= before);
    before = error;
  }
  Index calls = 0;
  const auto op =
      compress<Monarch>(W, error(0.01), calibration,
                        MonarchOptions{.monitor = [&](const Progress&) { return ++calls < 2; }});
  CHECK(calls == 2);
  CHECK(op.rows() == 100);
}

TEST_CASE("Monarch: the root and the inverse of a Gram matrix that may be singular", "[monarch]") {
  Random random(319);
  const Matrix<double> A = random.matrix<double>(9, 9);
  const Matrix<double> full = A * A.transpose() + Matrix<double>::Identity(9, 9);
  const auto regular = detail::definite_root(full);
  CHECK((regular.root * regular.root.transpose() - full).norm() <= 1e-7 * full.norm());
  CHECK((regular.inverse * full - Matrix<double>::Identity(9, 9)).norm() <= 1e-6);
  // Of rank 4, with inputs of very different sizes and one that is dead.
  Matrix<double> X = random.matrix<double>(9, 4);
  X.row(2) *= 1e-5;
  X.row(7) *= 1e5;
  X.row(4).setZero();
  const Matrix<double> G = X * X.transpose();
  const auto singular = detail::definite_root(G);
  CHECK((singular.root * singular.root.transpose() - G).norm() <= 1e-7 * G.norm());
  CHECK(singular.inverse.row(4).isZero(0));
  CHECK(singular.inverse.col(4).isZero(0));
  // What lies in its range comes back; for each input in its own size.
  const Matrix<double> back = G * singular.inverse * X;
  for (Index i = 0; i < 9; ++i)
    CHECK((back - X).row(i).norm() <= 1e-6 * (X.row(i).norm() + 1e-300));
  // Not semidefinite, as no sum of squares is but by rounding.
  Matrix<double> bad = Matrix<double>::Constant(3, 3, -0.9);
  bad.diagonal().setOnes();
  CHECK(detail::definite_root(bad).inverse.allFinite());
  CHECK(detail::definite_root(Matrix<double>::Zero(3, 3)).inverse.isZero(0));
  const auto empty = detail::definite_root(Matrix<double>(0, 0));
  CHECK(empty.root.size() == 0);
  CHECK(empty.inverse.size() == 0);
}

}  // namespace pleat::test
