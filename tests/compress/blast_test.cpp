// SPDX-License-Identifier: MIT
// compress<Blast>: its steps of least squares, and what budgets give.
#include "pleat/compress/blast.hpp"

#include "compress/support.hpp"
#include "pleat/compress/cross_validate.hpp"
#include "pleat/compress/low_rank.hpp"
#include "support/catch.hpp"

#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using BlastOptions = Blast<double>::Options;

using Catch::Matchers::Contains;
using detail::BlastFactors;
using detail::BlastShape;

/// Of that shape, whatever it takes.
template <Real T>
Blast<T> blast_of(const Matrix<T>& W, const BlastShape& shape,
                  const Calibration<T>& calibration = {}, Index iterations = 0) {
  return compress<Blast>(W, keep(1000), calibration,
                         typename Blast<T>::Options{.row_blocks = shape.row_blocks,
                                                    .column_blocks = shape.column_blocks,
                                                    .rank = shape.rank,
                                                    .iterations = iterations});
}

/// The matrix of such factors, block by block.
Matrix<double> blast_dense(const BlastFactors& factors, const BlastShape& shape) {
  const Index m = factors.U.rows();
  const Index n = factors.V.rows();
  Matrix<double> W(m, n);
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      const auto s =
          factors.s[std::size_t(i / shape.height(m))].col(j / shape.width(n)).transpose();
      W(i, j) = factors.U.row(i).cwiseProduct(s).dot(factors.V.row(j));
    }
  return W;
}

BlastFactors random_blast(Random& random, Index m, Index n, const BlastShape& shape) {
  BlastFactors factors;
  factors.U = random.matrix<double>(m, shape.rank);
  factors.V = random.matrix<double>(n, shape.rank);
  for (Index i = 0; i < shape.row_blocks; ++i)
    factors.s.push_back(random.matrix<double>(shape.rank, shape.column_blocks));
  return factors;
}

/// The least of || (W - What) S ||^2 over some of the numbers of the factors, in which What is
/// linear: by QR of all that they can do. They are left there.
double blast_least(const Matrix<double>& W, const Matrix<double>& S, BlastFactors& factors,
                   const BlastShape& shape, const std::vector<double*>& unknowns) {
  for (double* const unknown : unknowns) *unknown = 0;
  const Matrix<double> fixed = (W - blast_dense(factors, shape)) * S;
  Matrix<double> design(fixed.size(), Index(unknowns.size()));
  for (std::size_t k = 0; k < unknowns.size(); ++k) {
    *unknowns[k] = 1;
    const Matrix<double> column = fixed - (W - blast_dense(factors, shape)) * S;
    design.col(Index(k)) = Eigen::Map<const Vector<double>>(column.data(), column.size());
    *unknowns[k] = 0;
  }
  const Eigen::Map<const Vector<double>> b(fixed.data(), fixed.size());
  const Vector<double> x = design.completeOrthogonalDecomposition().solve(b);
  for (std::size_t k = 0; k < unknowns.size(); ++k) *unknowns[k] = x(Index(k));
  return (b - design * x).squaredNorm();
}

/// Pointers to the entries of rows of a matrix.
void blast_add(std::vector<double*>& unknowns, Matrix<double>& A, Index first, Index count) {
  for (Index i = first; i < first + count; ++i)
    for (Index k = 0; k < A.cols(); ++k) unknowns.push_back(&A(i, k));
}

}  // namespace

TEST_CASE("Blast: every step is the least over its factor", "[blast]") {
  Random random(331);
  for (const auto& [m, n, blocks] : {std::tuple{9, 10, BlastShape{3, 2, 2}},
                                     {11, 7, BlastShape{2, 3, 3}},
                                     {6, 13, BlastShape{4, 4, 2}},
                                     {5, 6, BlastShape{1, 1, 2}}}) {
    const BlastShape shape = blocks;  // clang before 16 lets no lambda see the name above
    const Matrix<double> W = random.matrix<double>(m, n);
    const BlastFactors begin = random_blast(random, m, n, shape);
    for (const Index samples : {0, 4, 40}) {  // none, fewer than inputs, and enough
      INFO(m << " x " << n << ", " << samples << " samples");
      const Matrix<double> S = samples == 0 ? Matrix<double>(Matrix<double>::Identity(n, n))
                                            : random.matrix<double>(n, samples);
      const Matrix<double> G = samples == 0 ? Matrix<double>() : Matrix<double>(S * S.transpose());
      const auto loss = [&](const BlastFactors& factors) {
        return ((W - blast_dense(factors, shape)) * S).squaredNorm();
      };
      const auto agrees = [&](double found, double least, double before) {
        CHECK(found <= before * (1 + 1e-12));
        CHECK(std::abs(found - least) <= 1e-7 * before);
      };
      detail::BlastSolver<> solver(W, G, shape, {});
      solver.start(begin);
      CHECK(solver.loss() == Approx(loss(begin)).epsilon(1e-10));

      BlastFactors own = begin;
      std::vector<double*> unknowns;
      blast_add(unknowns, own.U, 0, m);
      solver.fit_left();
      CHECK(solver.loss() == Approx(loss(solver.factors())).epsilon(1e-8).margin(1e-12));
      agrees(solver.loss(), blast_least(W, S, own, shape, unknowns), loss(begin));

      solver.start(begin);
      own = begin;
      unknowns.clear();
      for (Matrix<double>& s : own.s) blast_add(unknowns, s, 0, shape.rank);
      solver.fit_coupling();
      CHECK(solver.loss() == Approx(loss(solver.factors())).epsilon(1e-8).margin(1e-12));
      agrees(solver.loss(), blast_least(W, S, own, shape, unknowns), loss(begin));

      // Columns of blocks one after the other.
      solver.start(begin);
      own = begin;
      double least = 0;
      const Index q = shape.width(n);
      for (Index first = 0; first < n; first += q) {
        unknowns.clear();
        blast_add(unknowns, own.V, first, std::min(q, n - first));
        least = blast_least(W, S, own, shape, unknowns);
      }
      solver.fit_right();
      CHECK(solver.loss() == Approx(loss(solver.factors())).epsilon(1e-8).margin(1e-12));
      agrees(solver.loss(), least, loss(begin));

      // A sweep is U and s from where they were, and then V.
      solver.start(begin);
      solver.fit_left();
      solver.fit_coupling();
      solver.fit_right();
      const double in_turns = solver.loss();
      solver.start(begin);
      solver.run(1);
      CHECK(solver.loss() == Approx(in_turns).epsilon(1e-6).margin(1e-9 * loss(begin)));
      // What is normalised is the same matrix.
      const Matrix<double> before = blast_dense(solver.factors(), shape);
      solver.normalise();
      CHECK((blast_dense(solver.factors(), shape) - before).norm() <= 1e-12 * before.norm());
      CHECK(solver.factors().V.topRows(q).colwise().norm().isOnes(1e-12));
    }
  }
}

TEST_CASE("Blast: never further than low rank of the same rank", "[blast]") {
  Random random(332);
  for (const auto& [m, n, shape] : {std::tuple{60, 40, BlastShape{4, 4, 7}},
                                    {30, 47, BlastShape{5, 3, 4}},
                                    {80, 24, BlastShape{8, 2, 6}},
                                    {40, 40, BlastShape{1, 1, 9}}})
    for (const Index samples : {0, 1, 15, 200}) {
      INFO(m << " x " << n << ", " << samples << " samples");
      const Matrix<double> W = random.matrix<double>(m, n);
      Calibration<double> calibration;
      if (samples > 0)
        calibration = exact_calibration(correlated_inputs<double>(random, n, samples));
      const double low = relative_error(
          W, compress<LowRank>(W, keep(1000), calibration, {.rank = shape.rank}), calibration);
      double reported = 2;
      bool monotone = true;
      const auto op = compress<Blast>(W, keep(1000), calibration,
                                      BlastOptions{.row_blocks = shape.row_blocks,
                                                   .column_blocks = shape.column_blocks,
                                                   .rank = shape.rank,
                                                   .monitor = [&](const Progress& progress) {
                                                     if (progress.phase != "sweeps") return true;
                                                     monotone =
                                                         monotone && progress.loss <= reported;
                                                     reported = progress.loss;
                                                     return true;
                                                   }});
      CHECK(monotone);
      CHECK(op.row_blocks() == shape.row_blocks);
      CHECK(op.column_blocks() == shape.column_blocks);
      CHECK(op.rank() == shape.rank);
      CHECK(op.bytes() ==
            8 * std::size_t(shape.rank * (m + n + shape.row_blocks * shape.column_blocks)));
      const double error = relative_error(W, op, calibration);
      CHECK(reported ==
            Approx(error).epsilon(1e-6).margin(1e-4));  // as what was not seen counts 1e-8
      CHECK(error <= low * (1 + 1e-9) + 1e-6);
      // One block is low rank; of noise, more are closer.
      if (shape.row_blocks == 1) CHECK(error == Approx(low).epsilon(1e-6).margin(1e-6));
      else if (samples == 0) CHECK(error < 0.97 * low);
      double before = low * (1 + 1e-9) + 1e-6;
      for (const Index iterations : {1, 2, 30}) {
        const double now =
            relative_error(W, blast_of(W, shape, calibration, iterations), calibration);
        CHECK(now <= before);
        before = now * (1 + 1e-9) + 1e-6;
      }
      if (samples == 0) continue;
      // And the calibration serves what it is for.
      const auto trusted = calibration_of(correlated_inputs<double>(random, n, 8 * n));
      CHECK(relative_error(W, blast_of(W, shape, trusted), trusted) <=
            relative_error(W, blast_of(W, shape), trusted));
    }
}

TEST_CASE("Blast: what is one is found", "[blast]") {
  Random random(333);
  for (const auto& [m, n, shape] : {std::tuple{64, 64, BlastShape{4, 4, 5}},
                                    {60, 45, BlastShape{3, 5, 4}},
                                    {31, 50, BlastShape{4, 2, 3}}}) {
    INFO(m << " x " << n);
    const BlastFactors truth = random_blast(random, m, n, shape);
    const Matrix<double> W = blast_dense(truth, shape);
    BlastFactors begin = truth;
    for (Matrix<double>* const part : {&begin.U, &begin.V}) {
      const Matrix<double> noise = random.matrix<double>(part->rows(), part->cols());
      *part += 0.1 * noise;
    }
    for (Matrix<double>& s : begin.s) {
      const Matrix<double> noise = random.matrix<double>(s.rows(), s.cols());
      s += 0.1 * noise;
    }
    const Matrix<double> X = correlated_inputs<double>(random, n, 3 * n);
    for (const bool calibrated : {false, true}) {
      Matrix<double> G;
      if (calibrated) G = X * X.transpose();
      detail::BlastSolver<> solver(W, G, shape, {});
      solver.start(begin);
      for (int more = 0; more < 40 && solver.loss() > 1e-6 * solver.whole(); ++more) solver.run(20);
      CHECK(std::sqrt(solver.loss() / solver.whole()) <= 1e-3);
    }
  }
  // Low rank is one with any blocks, all ranks are the weight itself, and a budget finds both.
  const Matrix<double> U = random.matrix<double>(60, 5);
  const Matrix<double> V = random.matrix<double>(5, 50);
  const Matrix<double> low = U * V;
  CHECK(relative_error(low, blast_of<double>(low, {4, 5, 5})) <= 1e-13);
  CHECK(relative_error(low, blast_of<double>(low, {1, 1, 5})) <= 1e-13);
  CHECK(relative_error(low, compress<Blast>(low, bytes(8 * 5 * (110 + 64)))) <= 1e-13);
  // Where a steep spectrum needs no blocks, low rank of the same bytes is taken, if it is closer.
  const Matrix<double> left = random.matrix<double>(60, 50);
  const Matrix<double> right = random.matrix<double>(50, 50);
  Vector<double> sizes(50);
  for (Index e = 0; e < 50; ++e) sizes(e) = std::pow(0.4, double(e));
  const Matrix<double> steep = left * sizes.asDiagonal() * right;
  for (const double share : {0.2, 0.4}) {
    const auto limit = static_cast<std::size_t>(share * 8 * 60 * 50);
    const Index rank = detail::blast_rank<double>(60, 50, limit, {1, 1, 0});
    const double flat = relative_error(steep, compress<LowRank>(steep, keep(10), {.rank = rank}));
    CHECK(relative_error(steep, compress<Blast>(steep, keep(share))) <= flat * (1 + 1e-9) + 1e-14);
  }
  const Matrix<double> W = random.matrix<double>(24, 31);
  CHECK(relative_error(W, blast_of<double>(W, {4, 5, 24})) <= 1e-14);
  CHECK(relative_error(W, compress<Blast>(W, keep(10))) <= 1e-14);
}

TEST_CASE("Blast: inputs that are dead, unseen or few", "[blast]") {
  Random random(334);
  const Matrix<double> W = random.matrix<double>(24, 30);
  const BlastShape shape{3, 3, 4};
  const double plain = relative_error(W, blast_of(W, shape));
  Matrix<double> X = random.matrix<double>(30, 80);
  X.middleRows(10, 10).setZero();  // all of the second column of blocks
  for (const bool exact : {true, false}) {
    const auto calibration = exact ? exact_calibration(X) : calibration_of(X);
    const auto op = blast_of(W, shape, calibration);
    CHECK(op.to_dense().allFinite());
    CHECK(relative_error(W, op, calibration) < relative_error(W, blast_of(W, shape), calibration));
    // What nobody sees is fitted as far as that costs nothing.
    CHECK((W - op.to_dense()).middleCols(10, 10).norm() <= 0.95 * W.middleCols(10, 10).norm());
  }
  const Matrix<double> x = random.matrix<double>(30, 1);
  const auto one = exact_calibration(x);
  const auto op = blast_of(W, shape, one);
  CHECK(relative_error(W, op, one) <= 1e-6);
  CHECK(relative_error(W, op) <= 1.1 * plain);
  const auto blind = calibration_of(Matrix<double>::Zero(30, 4));
  CHECK(blast_of(W, shape, blind).to_dense() == blast_of(W, shape).to_dense());
  const Matrix<double> zero = Matrix<double>::Zero(9, 10);
  CHECK(blast_of<double>(zero, {2, 3, 2}).to_dense() == zero);
  CHECK(
      blast_of<double>(zero, {2, 3, 2}, calibration_of(Matrix<double>(X.topRows(10)))).to_dense() ==
      zero);
}

TEST_CASE("Blast: weights of rows", "[blast]") {
  Random random(335);
  const Matrix<double> W = random.matrix<double>(40, 24);
  Vector<double> weights = Vector<double>::Ones(40);
  weights.head(20).setConstant(100);
  const Matrix<double> X = correlated_inputs<double>(random, 24, 70);
  for (const bool calibrated : {false, true}) {
    Calibration<double> weighted = calibrated ? exact_calibration(X) : Calibration<double>(24);
    const BlastShape shape{4, 2, 5};
    const auto without = blast_of(W, shape, weighted);
    weighted.row_weights(weights);
    const auto op = blast_of(W, shape, weighted);
    CHECK(relative_error(W, op, weighted) < relative_error(W, without, weighted));
    Calibration<double> metric = calibrated ? exact_calibration(X) : Calibration<double>(24);
    metric.output_metric(Matrix<double>(weights.asDiagonal()));
    CHECK(relative_error(W, blast_of(W, shape, metric), weighted) ==
          Approx(relative_error(W, op, weighted)).epsilon(1e-6));
    Vector<double> half = weights;
    half.head(20).setZero();
    weighted.row_weights(half);
    const auto rest = blast_of(W, shape, weighted);
    CHECK(relative_error(W, rest, weighted) < relative_error(W, without, weighted));
    CHECK(rest.to_dense().allFinite());
  }
}

TEST_CASE("Blast: blind to scale, the same for any number of threads", "[blast]") {
  Random random(336);
  const Matrix<double> W = random.matrix<double>(72, 60);
  const Matrix<double> X = correlated_inputs<double>(random, 60, 150);
  const auto run = [&](double of_W, double of_X) {
    const Matrix<double> scaled = of_W * W;
    return Matrix<double>(
        compress<Blast>(scaled, keep(0.4), calibration_of(of_X * X), BlastOptions{.iterations = 3})
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

TEST_CASE("Blast: every shape within every budget", "[blast]") {
  Random random(337);
  for (const auto& [m, n] : {std::pair{1, 1},
                             {1, 40},
                             {40, 1},
                             {2, 3},
                             {13, 17},
                             {120, 131},
                             {8, 130},
                             {130, 8},
                             {96, 128}}) {
    const Matrix<float> W = random.matrix<float>(m, n);
    Calibration<float> calibration(n);
    calibration.add(correlated_inputs<float>(random, n, 5));  // fewer samples than inputs
    double before = 2;
    for (const double share : {0.1, 0.25, 0.5, 1.0, 4.0}) {
      INFO(m << " x " << n << ", " << share);
      const Blast<float>::Options quick{.iterations = 2};
      try {
        const auto op = compress<Blast>(W, keep(share), calibration, quick);
        CHECK(op.bytes() <= std::size_t(share * 4 * m * n + 1e-9));
        CHECK(op.bytes() ==
              detail::blast_bytes<float>(m, n, {op.row_blocks(), op.column_blocks(), op.rank()}));
        const double plain = relative_error(W, compress<Blast>(W, keep(share), quick));
        CHECK(plain <= before * 1.02 + 1e-6);
        before = plain;
        CHECK(relative_error(W, op, calibration) <= 1);
        if (share == 4.0) CHECK(plain <= 1e-6);
      } catch (const std::invalid_argument& refusal) {
        // Only what is too small for any shape; and the message has the smallest that is not.
        const std::string text = refusal.what();
        const auto smallest = std::stoll(text.substr(text.rfind(' ') + 1));
        CHECK(smallest == 4 * (m + n + 1));
        CHECK(double(smallest) > share * 4 * m * n);
        CHECK(compress<Blast>(W, bytes(smallest), calibration, quick).bytes() ==
              std::size_t(smallest));
        CHECK_THROWS_AS(compress<Blast>(W, bytes(smallest - 1), calibration, quick),
                        std::invalid_argument);
      }
    }
  }
  // Blocks past the last row and column.
  const Matrix<double> odd = random.matrix<double>(5, 7);
  for (const BlastShape& shape : {BlastShape{4, 5, 2}, BlastShape{5, 7, 3}, BlastShape{3, 6, 5}}) {
    const auto op = blast_of(odd, shape);
    CHECK(op.row_blocks() == shape.row_blocks);
    CHECK(op.column_blocks() == shape.column_blocks);
    CHECK(relative_error(odd, op) <=
          relative_error(odd, compress<LowRank>(odd, keep(99), {.rank = shape.rank})) + 1e-12);
    const auto seen = calibration_of(correlated_inputs<double>(random, 7, 4));
    CHECK(blast_of(odd, shape, seen).to_dense().allFinite());
  }
  const Matrix<float> layer = random.matrix<float>(257, 512);
  const auto op = compress<Blast>(layer, keep(0.5));
  CHECK(double(op.bytes()) <= 0.5 * 4 * 257 * 512);
  CHECK(op.rank() % 4 == 0);
  CHECK(relative_error(layer, op) <
        0.98 * relative_error(layer, compress<LowRank>(layer, keep(0.5))));
}

TEST_CASE("Blast: the smallest found that reaches an error", "[blast]") {
  Random random(338);
  const Matrix<float> W = random.matrix<float>(48, 32);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 32, 100));
  std::size_t before = 4 * 48 * 32 * 4;
  for (const double target : {1e-5, 0.4, 0.8}) {
    const auto op = compress<Blast>(W, error(target));
    CHECK(relative_error(W, op) <= target);
    CHECK(op.bytes() < before);
    before = op.bytes();
    const auto seen = compress<Blast>(W, error(target), calibration);
    CHECK(relative_error(W, seen, calibration) <= target);
  }
  CHECK_THROWS_WITH(compress<Blast>(W, error(1e-3), Blast<float>::Options{.rank = 1}),
                    Contains("error(0.001) cannot be met") && Contains("rank 1"));
}

TEST_CASE("Blast: hyperparameters that were given are kept", "[blast]") {
  Random random(339);
  const Matrix<double> W = random.matrix<double>(60, 48);
  const auto with = [&](BlastOptions options, double share = 0.6) {
    options.iterations = 1;
    return compress<Blast>(W, keep(share), options);
  };
  CHECK(with({.row_blocks = 7}).row_blocks() == 7);
  CHECK(with({.column_blocks = 11}).column_blocks() == 11);
  CHECK(with({.rank = 5}).rank() == 5);
  const auto both = with({.row_blocks = 3, .rank = 4});
  CHECK(both.row_blocks() == 3);
  CHECK(both.rank() == 4);
  CHECK(compress<Blast>(W, error(0.5), BlastOptions{.row_blocks = 6}).row_blocks() == 6);
  CHECK_THROWS_WITH(with({.row_blocks = -1}),
                    Contains("60 x 48") && Contains("between 1 and 60 rows of blocks, not -1"));
  CHECK_THROWS_WITH(with({.row_blocks = 61}), Contains("between 1 and 60 rows of blocks, not 61"));
  CHECK_THROWS_WITH(with({.column_blocks = 49}),
                    Contains("between 1 and 48 columns of blocks, not 49"));
  CHECK_THROWS_WITH(with({.rank = 49}), Contains("60 x 48 matrix has no rank 49"));
  CHECK_THROWS_WITH(with({.rank = -1}), Contains("no rank -1"));
  CHECK_THROWS_WITH(compress<Blast>(W, keep(1), BlastOptions{.iterations = -1}),
                    Contains("iterations must not be negative, but are -1"));
  CHECK_THROWS_AS(compress<Blast>(W, keep(1), BlastOptions{.storage = Storage::f32}),
                  std::invalid_argument);
  // 8 r (m + n + b1 b2) bytes.
  CHECK_THROWS_WITH(with({.row_blocks = 8, .column_blocks = 8, .rank = 12}),
                    Contains("keep(0.6)") && Contains("needs 16512"));
}

TEST_CASE("Blast: in narrow storage, factors make good what others lost", "[blast]") {
  Random random(340);
  const BlastShape shape{4, 3, 12};
  const Matrix<double> noise = random.matrix<double>(96, 80);
  const Matrix<double> W = blast_dense(random_blast(random, 96, 80, shape), shape) + 0.1 * noise;
  const auto calibration = calibration_of(correlated_inputs<double>(random, 80, 300));
  for (const bool calibrated : {false, true}) {
    const Calibration<double> seen = calibrated ? calibration : Calibration<double>();
    BlastOptions options{.row_blocks = 4, .column_blocks = 3, .rank = 12};
    const auto plain = compress<Blast>(W, keep(10), seen, options);
    const double error = relative_error(W, plain, seen);
    for (const auto& [storage, gain] : {std::pair{Storage::bf16, 1.0001},
                                        {Storage::f16, 1.0001},
                                        {Storage::int8, 1.0001},
                                        {Storage::int4, 0.99}}) {
      CAPTURE(to_string(storage), error, calibrated);
      options.storage = storage;
      const auto op = compress<Blast>(W, keep(10), seen, options);
      CHECK(op.left().storage() == storage);
      CHECK(op.right().storage() == storage);
      CHECK(op.bytes() == detail::blast_bytes<double>(96, 80, shape, storage));
      const double narrow = relative_error(W, op, seen);
      // Closer than all factors rounded by themselves.
      const Blast<double> rounded(
          plain.left().stored_as(storage),
          plain.coupling().stored_as(Blast<double>::coupling_storage(storage)),
          plain.right().stored_as(storage));
      CHECK(narrow <= gain * relative_error(W, rounded, seen));
      CHECK(narrow <= error + (storage == Storage::int4 ? 0.1 : 0.01));
    }
  }
  for (const Storage storage : {Storage::bf16, Storage::int8, Storage::int4}) {
    CAPTURE(to_string(storage));
    const auto op = compress<Blast>(W, keep(0.1), calibration,
                                    BlastOptions{.iterations = 2, .storage = storage});
    CHECK(double(op.bytes()) <= 0.1 * double(W.size()) * 8);
    CHECK(op.right().storage() == storage);
  }
}

TEST_CASE("Blast: a stop returns the best so far", "[blast]") {
  Random random(341);
  const Matrix<double> W = random.matrix<double>(100, 64);
  const auto calibration = exact_calibration(correlated_inputs<double>(random, 64, 100));
  double before = 2;
  for (const Index stop : {1, 3, 8, 14}) {
    Index calls = 0;
    const auto op = compress<Blast>(
        W, keep(0.3), calibration,
        BlastOptions{.row_blocks = 4, .column_blocks = 4, .monitor = [&](const Progress& progress) {
                       CHECK(progress.iteration <= progress.iterations);
                       return ++calls < stop;
                     }});
    CHECK(calls <= stop);
    CHECK(op.bytes() <= std::size_t(0.3 * 8 * 6400));
    const double error = relative_error(W, op, calibration);
    CHECK(error <= before * (1 + 1e-9));
    before = error;
  }
  Index calls = 0;
  const auto op =
      compress<Blast>(W, error(0.01), calibration,
                      BlastOptions{.monitor = [&](const Progress&) { return ++calls < 2; }});
  CHECK(calls == 2);
  CHECK(op.rows() == 100);
}

TEST_CASE("Blast: pairs of samples, and folds", "[blast]") {
  Random random(342);
  const Matrix<double> W = random.matrix<double>(40, 32);
  const Matrix<double> X = correlated_inputs<double>(random, 32, 400);
  const Matrix<double> noise = random.matrix<double>(32, 400);
  const Matrix<double> moved = 0.8 * X + 0.1 * noise;
  Calibration<double> pairs(32);
  pairs.add(X, moved);
  const BlastOptions options{.row_blocks = 4, .column_blocks = 4, .rank = 8};
  const auto op = compress<Blast>(W, keep(10), pairs, options);
  const auto deaf = compress<Blast>(W, keep(10), calibration_of(X), options);
  CHECK(relative_error(W, op, pairs) < relative_error(W, deaf, pairs));
  const double unseen = cross_validate<Blast>(W, keep(10), calibration_of(X), options);
  CHECK(unseen < 1);
  CHECK(unseen >= 0.9 * relative_error(W, deaf, calibration_of(X)));
}

}  // namespace pleat::test
