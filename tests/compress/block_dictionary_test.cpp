// SPDX-License-Identifier: MIT
// compress<BlockDictionary>: what sparse codes over dictionaries must be, and what budgets give.
#include "pleat/compress/block_dictionary.hpp"

#include "compress/rotation.hpp"
#include "compress/support.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using DictionaryOptions = BlockDictionary<double>::Options;

using Catch::Matchers::Contains;
/// Of that shape, whatever it takes.
BlockDictionary<double> of_shape(const Matrix<double>& W, Index block, Index atoms, Index nonzeros,
                                 const Calibration<double>& calibration = {},
                                 Index iterations = 6) {
  return compress<BlockDictionary>(
      W, keep(1000), calibration,
      DictionaryOptions{
          .block = block, .atoms = atoms, .nonzeros = nonzeros, .iterations = iterations});
}

/// Rows that are sparse in dictionaries of their own, one for each block.
Matrix<double> planted(Random& random, Index m, Index blocks, Index b, Index k, Index s) {
  Matrix<double> W(m, blocks * b);
  for (Index j = 0; j < blocks; ++j) {
    const Matrix<double> D = random.matrix<double>(k, b);
    Matrix<double> C = Matrix<double>::Zero(m, k);
    for (Index i = 0; i < m; ++i)
      for (Index e = 0; e < s; ++e) C(i, random.integer(0, int(k) - 1)) = random.uniform(0.5, 2);
    W.middleCols(j * b, b) = C * D;
  }
  return W;
}

}  // namespace

TEST_CASE("BlockDictionary: exactly s entries in every row of every block", "[block_dictionary]") {
  Random random(61);
  const Matrix<double> W = random.matrix<double>(30, 23);
  for (const auto& [b, k, s] : {std::tuple{8, 12, 3}, {5, 5, 5}, {23, 5, 2}, {1, 2, 1}}) {
    INFO("blocks of " << b << ", " << s << " of " << k);
    const auto op = of_shape(W, b, k, s);
    CHECK(op.block() == b);
    CHECK(op.atoms() == k);
    CHECK(op.nonzeros() == s);
    const Index blocks = (23 + b - 1) / b;
    CHECK(op.blocks() == blocks);
    const Matrix<double> C = op.codes().to_dense();
    bool exact = true;
    for (Index i = 0; i < C.rows(); ++i)
      for (Index j = 0; j < blocks; ++j) {
        const auto nonzeros = (C.row(i).segment(j * k, k).array() != 0).count();
        // A column of width 1 has no use for a second atom; no other block here has a narrow end.
        exact = exact && (nonzeros == s || (nonzeros < s && (j + 1) * b > 23));
      }
    CHECK(exact);
    CHECK(op.bytes() ==
          RowSparse<double>::stored_bytes(30, blocks * k, blocks * s) + 8 * std::size_t(k) * 23);
    CHECK(op.codes().get_if<RowSparse<double>>() != nullptr);
  }
}

TEST_CASE("BlockDictionary: codes of 4, 8, 16 or 32 atoms are N:M", "[block_dictionary]") {
  Random random(161);
  const Matrix<double> W = random.matrix<double>(30, 21);
  for (const auto& [b, k, s] :
       {std::tuple{3, 4, 2}, {8, 8, 3}, {8, 16, 3}, {8, 16, 4}, {16, 32, 6}, {16, 32, 15}}) {
    INFO("blocks of " << b << ", " << s << " of " << k);
    const auto op = of_shape(W, b, k, s);
    CHECK(op.block() == b);
    CHECK(op.atoms() == k);
    CHECK(op.nonzeros() == s);
    const auto* const codes = op.codes().get_if<SemiStructured<double>>();
    REQUIRE(codes != nullptr);
    CHECK(codes->pattern() == SparsePattern{s, k});
    // Stored as what takes fewer bytes.
    const Index blocks = (21 + b - 1) / b;
    const Index code_bits = k == 4 ? 2 : k == 8 ? 3 : k == 16 ? 4 : 5;
    const Index bits = std::min(blocks * k, blocks * s * code_bits);
    CHECK(op.bytes() == std::size_t(30 * (8 * blocks * s + (bits + 7) / 8) + 8 * k * 21));
    CHECK(relative_error(W, op) < 1);
    // All of the atoms, or any other number of them, are not.
    CHECK(of_shape(W, b, k, k).codes().get_if<RowSparse<double>>() != nullptr);
    CHECK(of_shape(W, b, k - 1, s).codes().get_if<RowSparse<double>>() != nullptr);
  }
}

TEST_CASE("BlockDictionary: what is preferred, and for which machine", "[block_dictionary]") {
  Random random(162);
  const Matrix<float> W = random.matrix<float>(160, 64);
  const auto atoms = [&](Prefer prefer, std::string target, double share = 0.5) {
    return compress<BlockDictionary>(
               W, keep(share),
               BlockDictionary<float>::Options{
                   .iterations = 1, .prefer = prefer, .target = std::move(target)})
        .atoms();
  };
  // What every machine is told is the same on all of them; what a machine is fast with is not.
  const Index closest = atoms(Prefer::error, "avx512");
  for (const char* const target : {"fma3+avx2", "neon64", "sse2"})
    CHECK(atoms(Prefer::error, target) == closest);
  CHECK(atoms(Prefer::speed, "fma3+avx2") == 8);
  CHECK(atoms(Prefer::speed, "neon64") <= 16);
  const Index wide = atoms(Prefer::speed, "avx512");
  CHECK((wide == 8 || wide == 16 || wide == 32));
  // Where nothing that is fast fits, the budget still is met.
  CHECK(atoms(Prefer::speed, "fma3+avx2", 0.06) > 0);
  CHECK_THROWS_WITH(atoms(Prefer::speed, "avx1024"), Contains("avx1024") && Contains("neon64"));
}

TEST_CASE("BlockDictionary: as many atoms and entries as columns lose nothing",
          "[block_dictionary]") {
  Random random(62);
  for (const auto& [m, n] : {std::pair{40, 24}, {5, 24}, {1, 7}, {7, 1}, {1, 1}, {31, 29}}) {
    INFO(m << " x " << n);
    const Matrix<double> W = random.matrix<double>(m, n);
    const Index b = std::min(n, 8);
    // Directions come from squares: those of fewer rows than columns are only so exact.
    CHECK(relative_error(W, of_shape(W, b, b, b)) <= (m < b ? 1e-7 : 1e-12));
    const auto calibration = calibration_of(correlated_inputs<double>(random, n, 3 * n));
    CHECK(relative_error(W, of_shape(W, b, b, b, calibration), calibration) <= 1e-7);
  }
}

TEST_CASE("BlockDictionary: with s = k each block is its best approximation of rank k",
          "[block_dictionary]") {
  Random random(63);
  const Index m = 40;
  const Index n = 22;
  const Index b = 9;  // blocks of 9, 9 and 4
  const Index k = 3;
  const Matrix<double> W = random.matrix<double>(m, n);
  const Matrix<double> X = correlated_inputs<double>(random, n, 60);
  const Matrix<double> plain = W - of_shape(W, b, k, k).to_dense();
  // By itself, which is without rounds over all blocks.
  const Matrix<double> alone = W - of_shape(W, b, k, k, exact_calibration(X), 0).to_dense();
  for (Index first = 0; first < n; first += b) {
    const Index width = std::min(b, n - first);
    const auto tail = [&](const Matrix<double>& A) {
      const Vector<double> sigma = singular_values(A);
      return sigma.tail(sigma.size() - k).norm();
    };
    CHECK(plain.middleCols(first, width).norm() ==
          Approx(tail(W.middleCols(first, width))).epsilon(1e-10));
    CHECK((alone.middleCols(first, width) * X.middleRows(first, width)).norm() ==
          Approx(tail(W.middleCols(first, width) * X.middleRows(first, width))).epsilon(1e-6));
  }
}

TEST_CASE("BlockDictionary: the loss falls from round to round", "[block_dictionary]") {
  Random random(64);
  const Matrix<double> W = random.matrix<double>(120, 40);
  for (const Index samples : {15, 200}) {  // fewer than inputs, and enough
    const auto calibration = exact_calibration(correlated_inputs<double>(random, 40, samples));
    double reported = 2;
    bool monotone = true;
    const auto op = compress<BlockDictionary>(
        W, keep(2), calibration,
        DictionaryOptions{
            .block = 10, .atoms = 16, .nonzeros = 3, .monitor = [&](const Progress& progress) {
              monotone = monotone && progress.loss <= reported;
              reported = progress.loss;
              return true;
            }});
    CHECK(monotone);
    CHECK(reported == Approx(relative_error(W, op, calibration)).epsilon(1e-6).margin(1e-6));
    // More rounds are no worse, by themselves or together, and neither are more entries.
    double before = 2;
    for (const Index iterations : {0, 1, 2, 6}) {
      const double error =
          relative_error(W, of_shape(W, 10, 16, 3, calibration, iterations), calibration);
      if (iterations > 0) CHECK(error <= before);
      before = error;
    }
    CHECK(relative_error(W, of_shape(W, 10, 16, 5, calibration), calibration) < before);
    // The rounds over all blocks, which see the correlations between them, are worth having.
    CHECK(before < relative_error(W, of_shape(W, 10, 16, 3), calibration));
  }
}

TEST_CASE("BlockDictionary: steps for a block alone never raise its loss", "[block_dictionary]") {
  Random random(65);
  const Matrix<double> W = random.matrix<double>(90, 12);
  double before = 2;
  for (Index iterations = 0; iterations < 12; ++iterations) {
    const double error = relative_error(W, of_shape(W, 12, 20, 3, {}, iterations));
    CHECK(error <= before * (1 + 1e-12));
    before = error;
  }
}

TEST_CASE("BlockDictionary: planted codes are found where low rank is lost", "[block_dictionary]") {
  Random random(66);
  const Matrix<double> W = planted(random, 400, 2, 16, 24, 2);
  const double error = relative_error(W, of_shape(W, 16, 24, 2, {}, 20));
  CHECK(error <= 0.25);
  const Eigen::JacobiSVD<Matrix<double>> svd(W);
  const Vector<double> sigma = svd.singularValues();
  CHECK(sigma.tail(sigma.size() - 4).norm() / sigma.norm() > 0.7);  // the same values a row
}

TEST_CASE("BlockDictionary: codes are at least those of orthogonal least squares",
          "[block_dictionary]") {
  Random random(67);
  const Index k = 9;
  const Index s = 3;
  const Matrix<double> B = random.matrix<double>(6, k);
  const Matrix<double> A = B.transpose() * B;
  const Matrix<double> w = random.matrix<double>(6, 20);
  const Matrix<double> P = B.transpose() * w;
  detail::SparseCodes codes(s, 20);
  detail::improve_codes(A, P, codes);
  for (Index i = 0; i < 20; ++i) {
    // One by one, the atom with which least squares leaves the least.
    std::vector<Index> taken;
    double left = w.col(i).squaredNorm();
    for (Index e = 0; e < s; ++e) {
      Index best = 0;
      double least = 1e300;
      for (Index l = 0; l < k; ++l) {
        Matrix<double> chosen(6, e + 1);
        for (Index j = 0; j < e; ++j) chosen.col(j) = B.col(taken[std::size_t(j)]);
        chosen.col(e) = B.col(l);
        const Matrix<double> gram =
            chosen.transpose() * chosen + 1e-13 * Matrix<double>::Identity(e + 1, e + 1);
        const Vector<double> right = chosen.transpose() * w.col(i);
        const double loss = w.col(i).squaredNorm() - right.dot(gram.llt().solve(right));
        if (loss < least) {
          least = loss;
          best = l;
        }
      }
      taken.push_back(best);
      left = least;
    }
    Vector<double> c = Vector<double>::Zero(k);
    for (Index e = 0; e < s; ++e) c(codes.atoms(e, i)) = codes.values(e, i);
    CHECK((w.col(i) - B * c).squaredNorm() <= left * (1 + 1e-9) + 1e-12);
    // And no exchange of one atom for another gains anything.
    const auto loss_of = [&](const std::vector<Index>& support) {
      Matrix<double> chosen(6, s);
      for (Index j = 0; j < s; ++j) chosen.col(j) = B.col(support[std::size_t(j)]);
      const Matrix<double> gram = chosen.transpose() * chosen;
      const Vector<double> right = chosen.transpose() * w.col(i);
      return w.col(i).squaredNorm() - right.dot(gram.ldlt().solve(right));
    };
    std::vector<Index> support;
    for (Index e = 0; e < s; ++e) support.push_back(codes.atoms(e, i));
    const double reached = (w.col(i) - B * c).squaredNorm();
    CHECK(reached == Approx(loss_of(support)).epsilon(1e-9));
    for (Index e = 0; e < s; ++e)
      for (Index l = 0; l < k; ++l) {
        if (std::find(support.begin(), support.end(), l) != support.end()) continue;
        std::vector<Index> other = support;
        other[std::size_t(e)] = l;
        CHECK(loss_of(other) >= reached * (1 - 1e-6));
      }
  }
  // A better support than that is kept: of three atoms that make up a row exactly.
  Vector<double> row = B.col(1) + 2 * B.col(4) - B.col(7);
  Matrix<double> p = B.transpose() * row;
  detail::SparseCodes known(s, 1);
  known.atoms << 1, 4, 7;
  known.values << 1, 1, 1;
  detail::improve_codes(A, p, known);
  CHECK((row - known.times(B).col(0)).norm() <= 1e-9 * row.norm());
}

TEST_CASE("BlockDictionary: blind to scale, the same for any number of threads",
          "[block_dictionary][slow]") {
  Random random(68);
  const Matrix<double> W = random.matrix<double>(200, 30);  // rows enough for some tasks
  const Matrix<double> X = correlated_inputs<double>(random, 30, 70);
  const auto run = [&](double of_W, double of_X, bool exact = false) {
    const Matrix<double> scaled = of_W * W;
    const auto calibration = exact ? exact_calibration(of_X * X) : calibration_of(of_X * X);
    return Matrix<double>(compress<BlockDictionary>(scaled, keep(0.5), calibration,
                                                    DictionaryOptions{.iterations = 3})
                              .to_dense() /
                          of_W);
  };
  const Matrix<double> reference = run(1, 1);
  CHECK(run(0x1p-20, 1) == reference);  // powers of two: to the bit
  CHECK(run(0x1p20, 1) == reference);
  CHECK(run(1, 0x1p-20) == reference);
  const auto error = [&](const Matrix<double>& A) { return ((W - A) * X).norm() / (W * X).norm(); };
  // By rounding, another support may be as good, in the metric that is fitted.
  const double exact = error(run(1, 1, true));
  for (const double scale : {1e-6, 1e6}) {
    CHECK(error(run(scale, 1, true)) == Approx(exact).epsilon(0.02));
    CHECK(error(run(1, scale, true)) == Approx(exact).epsilon(0.02));
  }
  set_num_threads(3);
  CHECK(run(1, 1) == reference);
  set_num_threads(1);
}

TEST_CASE("BlockDictionary: every shape within every budget", "[block_dictionary]") {
  Random random(69);
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
    for (const double share : {0.25, 0.5, 1.0, 4.0}) {
      INFO(m << " x " << n << ", " << share);
      const BlockDictionary<float>::Options quick{.iterations = 2};
      try {
        const auto op = compress<BlockDictionary>(W, keep(share), calibration, quick);
        CHECK(op.bytes() <= std::size_t(share * 4 * m * n));
        const double error = relative_error(W, op, calibration);
        CHECK(error <= 1);
        if (share == 1.0) before = error;
        if (share == 4.0) CHECK(error <= before * 1.05 + 1e-5);
      } catch (const std::invalid_argument& refusal) {
        // Only what is too small for any shape; and the message has the smallest that is not.
        const std::string text = refusal.what();
        const auto smallest = std::stoll(text.substr(text.rfind(' ') + 1));
        CHECK(double(smallest) > share * 4 * m * n);
        CHECK(compress<BlockDictionary>(W, bytes(smallest), calibration, quick).bytes() ==
              std::size_t(smallest));
        CHECK_THROWS_AS(compress<BlockDictionary>(W, bytes(smallest - 1), calibration, quick),
                        std::invalid_argument);
      }
    }
  }
}

TEST_CASE("BlockDictionary: the smallest found that reaches an error", "[block_dictionary]") {
  Random random(70);
  const Matrix<float> W = random.matrix<float>(96, 32);
  const BlockDictionary<float>::Options quick{.iterations = 1};
  std::size_t before = 4 * 96 * 32 * 2;
  for (const double target : {1e-5, 0.4}) {
    const auto op = compress<BlockDictionary>(W, error(target), quick);
    CHECK(relative_error(W, op) <= target);
    CHECK(op.bytes() < before);
    before = op.bytes();
  }
  CHECK_THROWS_WITH(compress<BlockDictionary>(W, error(1e-12), quick), Contains("cannot be met"));
}

TEST_CASE("BlockDictionary: weights of rows, and of none", "[block_dictionary]") {
  Random random(71);
  const Matrix<double> W = random.matrix<double>(80, 16);
  Vector<double> weights = Vector<double>::Ones(80);
  weights.head(40).setConstant(100);
  Calibration<double> weighted(16);
  weighted.row_weights(weights);
  const auto plain = of_shape(W, 16, 12, 2);
  const auto op = of_shape(W, 16, 12, 2, weighted);
  CHECK(relative_error(W, op, weighted) < relative_error(W, plain, weighted));
  // An output metric counts by its diagonal.
  Calibration<double> metric(16);
  metric.output_metric(Matrix<double>(weights.asDiagonal()));
  CHECK(of_shape(W, 16, 12, 2, metric).to_dense() == op.to_dense());
  weights.head(40).setZero();
  Calibration<double> half(16);
  half.row_weights(weights);
  CHECK(relative_error(W, of_shape(W, 16, 12, 2, half), half) < 1);
  // Zeros, and samples of nothing but zeros.
  const Matrix<double> zero = Matrix<double>::Zero(9, 10);
  CHECK(of_shape(zero, 4, 6, 2).to_dense() == zero);
  const auto blind = calibration_of(Matrix<double>::Zero(16, 4));
  CHECK(of_shape(W, 16, 12, 2, blind).to_dense() == plain.to_dense());
}

TEST_CASE("BlockDictionary: hyperparameters that were given are kept", "[block_dictionary]") {
  Random random(72);
  const Matrix<double> W = random.matrix<double>(200, 48);
  const auto with = [&](DictionaryOptions options, double share = 0.6) {
    options.iterations = 1;
    return compress<BlockDictionary>(W, keep(share), options);
  };
  CHECK(with({.block = 12}).block() == 12);
  CHECK(with({.atoms = 10}).atoms() == 10);
  CHECK(with({.nonzeros = 3}).nonzeros() == 3);
  const auto both = with({.block = 24, .nonzeros = 5});
  CHECK(both.block() == 24);
  CHECK(both.nonzeros() == 5);
  CHECK_THROWS_WITH(with({.block = -1}), Contains("between 1 and 48 columns, not -1"));
  CHECK_THROWS_WITH(with({.block = 49}), Contains("between 1 and 48 columns, not 49"));
  CHECK_THROWS_WITH(with({.atoms = 4, .nonzeros = 5}), Contains("5 nonzeros among 4 atoms"));
  CHECK_THROWS_AS(with({.atoms = -1}), std::invalid_argument);
  CHECK_THROWS_AS(with({.nonzeros = -1}), std::invalid_argument);
  CHECK_THROWS_WITH(compress<BlockDictionary>(W, keep(1), DictionaryOptions{.iterations = -1}),
                    Contains("iterations"));
  CHECK_THROWS_WITH(with({.block = 8, .atoms = 16, .nonzeros = 8}, 0.5), Contains("needs"));
}

TEST_CASE("BlockDictionary: in narrow storage, codes make good what dictionaries lost",
          "[block_dictionary]") {
  Random random(71);
  const Matrix<double> W = planted(random, 60, 3, 12, 16, 3) + 0.1 * random.matrix<double>(60, 36);
  const Matrix<double> X = correlated_inputs<double>(random, 36, 200);
  const auto calibration = calibration_of(X);
  DictionaryOptions options{.block = 12, .atoms = 16, .nonzeros = 4, .iterations = 4};
  const auto plain = compress<BlockDictionary>(W, keep(10), calibration, options);
  const double error = relative_error(W, plain, calibration);
  for (const auto& [storage, most] : {std::pair{Storage::bf16, 1.02},
                                      {Storage::f16, 1.01},
                                      {Storage::int8, 1.05},
                                      {Storage::int4, 2.8}}) {
    CAPTURE(to_string(storage), error);
    options.storage = storage;
    const auto op = compress<BlockDictionary>(W, keep(10), calibration, options);
    CHECK(op.dictionaries().storage() == storage);
    CHECK(op.codes().get_if<SemiStructured<double>>()->storage() == storage);
    CHECK(op.bytes() == detail::dictionary_bytes<double>(60, 36, {12, 16, 4}, storage));
    CHECK(op.parameters() ==
          "blocks of 12, 4 of 16 atoms a row, stored as " + std::string(to_string(storage)));
    const double narrow = relative_error(W, op, calibration);
    CHECK(narrow <= most * error);
    // No further than both factors rounded by themselves; in int4, where that costs, closer.
    const BlockDictionary<double> rounded(
        plain.codes().get_if<SemiStructured<double>>()->stored_as(storage),
        plain.dictionaries().stored_as(storage));
    const double apart = relative_error(W, rounded, calibration);
    CHECK(narrow <= (storage == Storage::int4 ? 0.95 : 1.01) * apart);
  }
  for (const Storage storage : {Storage::int8, Storage::int4})
    for (const double share : {0.25, 0.12}) {
      CAPTURE(to_string(storage), share);
      const auto op = compress<BlockDictionary>(
          W, keep(share), calibration, DictionaryOptions{.iterations = 2, .storage = storage});
      CHECK(double(op.bytes()) <= share * double(W.size()) * 8);
      CHECK(op.dictionaries().storage() == storage);
    }
  const auto refuses = [&](Index atoms, Index nonzeros) {
    CHECK_THROWS_WITH(
        compress<BlockDictionary>(
            W, keep(10), calibration,
            DictionaryOptions{.atoms = atoms, .nonzeros = nonzeros, .storage = Storage::int8}),
        Contains("of 4, 8, 16 or 32 atoms"));
  };
  refuses(12, 3);
  refuses(8, 8);
  refuses(0, 40);
}

TEST_CASE("BlockDictionary: in rotated inputs", "[block_dictionary][rotation]") {
  using Options = BlockDictionary<float>::Options;
  for (const auto& [m, n, block] :
       {std::tuple<Index, Index, Index>{1, 1, 1}, {3, 7, 4}, {9, 131, 128}})
    check_made_in_rotated_inputs<BlockDictionary, float>(
        Options{.block = std::min<Index>(n, 6), .atoms = 4, .nonzeros = 2, .iterations = 2}, m, n,
        block);
  const auto [plain, rotated] = errors_of_rotation<BlockDictionary>(Options{.iterations = 4}, 0.1);
  CAPTURE(plain, rotated);
  CHECK(rotated < 0.8 * plain);
}

TEST_CASE("BlockDictionary: a stop returns the best so far", "[block_dictionary]") {
  Random random(73);
  const Matrix<double> W = random.matrix<double>(100, 64);
  const auto calibration = exact_calibration(correlated_inputs<double>(random, 64, 100));
  double before = 2;
  for (const Index stop : {1, 12, 40}) {
    Index calls = 0;
    const auto op = compress<BlockDictionary>(
        W, keep(0.5), calibration, DictionaryOptions{.monitor = [&](const Progress& progress) {
          CHECK(progress.iteration <= progress.iterations);
          return ++calls < stop;
        }});
    CHECK(calls == stop);
    const double error = relative_error(W, op, calibration);
    CHECK(error <= before);
    before = error;
  }
}

}  // namespace pleat::test
