// SPDX-License-Identifier: MIT
// compress<SemiStructured>: masks by brute force, refits, metrics, shapes, and what callers may
// ask.
#include "pleat/compress/semi_structured.hpp"

#include "compress/support.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/solve/linear/random.hpp"
#include "support/catch.hpp"
#include "support/scenarios.hpp"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

template <Real T>
SemiStructured<T> pruned(const Matrix<T>& W, const Calibration<T>& calibration,
                         typename SemiStructured<T>::Options options = {}) {
  if (options.pattern == SparsePattern{0, 0}) options.pattern = {2, 4};
  return compress<SemiStructured>(W, keep(1000), calibration, options);
}

constexpr PruneCriterion criteria[] = {PruneCriterion::magnitude, PruneCriterion::wanda,
                                       PruneCriterion::nowag, PruneCriterion::sparsegpt,
                                       PruneCriterion::search};

/// The least sum of weighted squares that pruning can leave of one group, over all masks.
double least_of_all_masks(const Matrix<double>& W, const Vector<double>& weight, Index row,
                          Index first) {
  const Index width = std::min<Index>(4, W.cols() - first);
  double least = 1e300;
  for (unsigned mask = 0; mask < 16; ++mask) {
    double kept = 0;
    double loss = 0;
    for (Index k = 0; k < width; ++k) {
      if ((mask >> k & 1U) != 0) ++kept;
      else loss += W(row, first + k) * W(row, first + k) * weight(first + k);
    }
    if (kept <= 2) least = std::min(least, loss);
  }
  return least;
}

}  // namespace

TEST_CASE("diagonal criteria keep the best of all masks, by brute force", "[semi_structured]") {
  Random random(51);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 2}, {2, 3}, {3, 5}, {7, 31}, {12, 64}}) {
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> X = correlated_inputs<double>(random, n, 2 * n);
    const auto calibration = exact_calibration(X);
    Vector<double> d = X.rowwise().squaredNorm();
    d.array() += 1e-8 * d.mean();
    const std::pair<PruneCriterion, Vector<double>> cases[] = {
        {PruneCriterion::magnitude, Vector<double>::Ones(n)},
        {PruneCriterion::wanda, d},
        {PruneCriterion::nowag,
         d.cwiseQuotient(W.colwise().squaredNorm().transpose().cwiseMax(1e-300))}};
    for (const auto& [criterion, weight] : cases) {
      INFO(m << " x " << n << ", criterion " << static_cast<int>(criterion));
      const Matrix<double> kept =
          pruned(W, calibration, {.criterion = criterion, .refit = false}).to_dense();
      for (Index row = 0; row < m; ++row)
        for (Index first = 0; first < n; first += 4) {
          double loss = 0;
          for (Index k = first; k < std::min<Index>(first + 4, n); ++k) {
            const double lost = W(row, k) - kept(row, k);
            CHECK((lost == 0 || kept(row, k) == 0));
            loss += lost * lost * weight(k);
          }
          CHECK(loss == Approx(least_of_all_masks(W, weight, row, first)).margin(1e-12));
        }
    }
  }
}

TEST_CASE("a Gaussian matrix loses 0.1323 of its energy at 2:4", "[semi_structured]") {
  const Matrix<double> W = detail::Random(52).normal(1024, 1024);
  const double error = relative_error(W, compress<SemiStructured>(W, keep(1), {.pattern = {2, 4}}));
  CHECK(error * error == Approx(0.1323).epsilon(0.01));
}

TEST_CASE("better criteria leave smaller errors, and a refit never a larger one",
          "[semi_structured]") {
  Random random(53);
  const Matrix<double> W = random.matrix<double>(40, 96);
  for (const Index samples : {30, 400}) {
    const auto calibration = exact_calibration(correlated_inputs<double>(random, 96, samples));
    std::vector<double> refitted;
    for (const PruneCriterion criterion : criteria) {
      INFO("criterion " << static_cast<int>(criterion) << ", " << samples << " samples");
      const double plain = relative_error(
          W, pruned(W, calibration, {.criterion = criterion, .refit = false}), calibration);
      refitted.push_back(
          relative_error(W, pruned(W, calibration, {.criterion = criterion}), calibration));
      CHECK(refitted.back() <= plain * (1 + 1e-9));
    }
    CHECK(refitted[3] < refitted[1]);                // sparsegpt, wanda
    CHECK(refitted[4] <= refitted[3] * (1 + 1e-9));  // search, sparsegpt
    CHECK(relative_error(W, pruned(W, calibration), calibration) == refitted[4]);  // the default
  }
}

TEST_CASE("any shape, any calibration, both scalars", "[semi_structured]") {
  Random random(54);
  const auto check = [&]<class T>(T) {
    for (const auto& [m, n] :
         {std::pair{1, 1}, {1, 2}, {3, 3}, {2, 5}, {5, 4}, {17, 13}, {1, 131}, {131, 1}})
      for (const Index samples : {1, 5, 200})
        for (const Storage storage :
             {native_storage<T>, Storage::bf16, Storage::int8, Storage::int4}) {
          INFO(m << " x " << n << ", " << samples << " samples, " << to_string(storage));
          const Matrix<T> W = random.matrix<T>(m, n);
          const auto calibration = exact_calibration(correlated_inputs<T>(random, n, samples));
          const auto op = pruned(W, calibration, {.storage = storage});
          CHECK(op.rows() == m);
          CHECK(op.cols() == n);
          CHECK(op.storage() == storage);
          CHECK(op.to_dense().allFinite());
          const double error = relative_error(W, op, calibration);
          CHECK(error < 1);
          // Two columns or fewer are kept as they are.
          if (n <= 2 && storage == native_storage<T>) CHECK(error <= 1e-6);
          const auto nearest = pruned(W, calibration).stored_as(storage);
          CHECK(error <= relative_error(W, nearest, calibration) * (1 + 1e-6) + 1e-7);
        }
  };
  check(float{});
  check(double{});
}

TEST_CASE("inputs that were never seen, or only zeros", "[semi_structured]") {
  Random random(55);
  const Matrix<double> W = random.matrix<double>(6, 12);
  Matrix<double> X = random.matrix<double>(12, 40);
  X.topRows(4).setZero();
  const auto op = pruned(W, calibration_of(X));
  // Weights on dead inputs cost nothing to keep: the largest two of each row are there as they
  // were.
  const auto plain = pruned<double>(W, {}).to_dense();
  CHECK((op.to_dense().leftCols(4) - plain.leftCols(4)).norm() <= 1e-6);
  const auto zeros = calibration_of(Matrix<double>::Zero(12, 3));
  CHECK(pruned(W, zeros).to_dense() == plain);
  CHECK(pruned<double>(Matrix<double>::Zero(6, 12), calibration_of(X)).to_dense().isZero(0));
}

TEST_CASE("scales of the weights and of the inputs do not matter", "[semi_structured]") {
  Random random(56);
  const Matrix<double> W = random.matrix<double>(20, 43);
  const Matrix<double> X = correlated_inputs<double>(random, 43, 60);
  const Matrix<double> expected = pruned(W, calibration_of(X)).to_dense();
  for (const double factor : {1e-6, 1e6}) {
    CHECK((pruned(W, calibration_of(X * factor)).to_dense() - expected).norm() <= 1e-6 * W.norm());
    CHECK((pruned<double>(W * factor, calibration_of(X)).to_dense() / factor - expected).norm() <=
          1e-6 * W.norm());
  }
}

TEST_CASE("threads do not change a bit, and nor does another run", "[semi_structured]") {
  Random random(57);
  const Matrix<float> W = random.matrix<float>(reduced ? 21 : 67, 150);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 150, 100));
  for (const Storage storage : {Storage::f32, Storage::int8}) {
    const Matrix<float> expected = pruned(W, calibration, {.storage = storage}).to_dense();
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      CHECK(pruned(W, calibration, {.storage = storage}).to_dense() == expected);
    }
    set_num_threads(1);
  }
}

TEST_CASE("row weights and output metrics change nothing", "[semi_structured]") {
  Random random(58);
  const Matrix<double> W = random.matrix<double>(9, 24);
  auto calibration = calibration_of(correlated_inputs<double>(random, 24, 50));
  const Matrix<double> expected = pruned(W, calibration).to_dense();
  calibration.row_weights(Vector<double>::LinSpaced(9, 0, 5));
  CHECK(pruned(W, calibration).to_dense() == expected);
  calibration.output_metric(Matrix<double>::Constant(9, 9, 2));
  CHECK(pruned(W, calibration).to_dense() == expected);
}

TEST_CASE("a stopped compression returns the best so far", "[semi_structured]") {
  Random random(59);
  const Matrix<double> W = random.matrix<double>(16, 40);
  const auto calibration = exact_calibration(correlated_inputs<double>(random, 40, 100));
  int calls = 0;
  double loss = 1;
  (void)pruned(W, calibration, {.storage = Storage::int8, .monitor = [&](const Progress& progress) {
                                  ++calls;
                                  // Rounding begins anew, from the nearest integers.
                                  if (progress.phase != "round")
                                    CHECK(progress.loss <= loss + 1e-12);
                                  CHECK(progress.iteration >= 1);
                                  CHECK(progress.iteration <= progress.iterations);
                                  if (progress.phase != "round") loss = progress.loss;
                                  return true;
                                }});
  CHECK(calls > 10);
  const double wanda = relative_error(
      W, pruned(W, calibration, {.criterion = PruneCriterion::wanda, .refit = false}), calibration);
  for (int stop = 1; stop <= calls; stop += 5) {
    int left = stop;
    const auto op =
        pruned(W, calibration, {.monitor = [&](const Progress&) { return --left > 0; }});
    CHECK(relative_error(W, op, calibration) <= wanda * (1 + 1e-9));
  }
  // Which may miss the budget.
  const auto never = [](const Progress&) { return false; };
  CHECK_NOTHROW(compress<SemiStructured>(W, error(1e-9), calibration, {.monitor = never}));
  CHECK_NOTHROW(
      compress<Dense>(W, error(1e-9), calibration, {.storage = Storage::int4, .monitor = never}));
}

TEST_CASE("budgets of 2:4, and what no option means", "[semi_structured]") {
  Random random(60);
  const Matrix<float> W = random.matrix<float>(16, 64);
  CHECK(compress<SemiStructured>(W, keep(0.54)).bytes() == 16 * (4 * 32 + 8));
  CHECK_THROWS_WITH(compress<SemiStructured>(W, keep(0.53)),
                    Catch::Contains("2176") && Catch::Contains("SemiStructured"));
  CHECK(
      compress<SemiStructured>(W, bytes(16 * (36 + 8)), {}, {.storage = Storage::int8}).storage() ==
      Storage::int8);
  CHECK_THROWS_AS(compress<SemiStructured>(W, error(0.01)), std::invalid_argument);
  CHECK(relative_error(W, compress<SemiStructured>(W, error(0.9))) <= 0.9);
  using Options = SemiStructured<float>::Options;
  CHECK_THROWS_AS(compress<SemiStructured>(W, keep(1), Options{.sweeps = -1}),
                  std::invalid_argument);
  CHECK_THROWS_AS(
      compress<SemiStructured>(W, keep(1), Options{.criterion = static_cast<PruneCriterion>(9)}),
      std::invalid_argument);
  CHECK_THROWS_AS(compress<SemiStructured>(W, keep(1), Options{.storage = Storage::f64}),
                  std::invalid_argument);
}

TEST_CASE("2:4 pruning is that of numpy", "[golden]") {
  const Matrix<double> W = golden_weight();
  const auto calibration = golden_calibration();
  struct Expected {
    PruneCriterion criterion;
    double kept;      // with the weights as they were
    double refitted;  // by least squares, row by row
  };
  for (const auto& [criterion, kept, refitted] :
       {Expected{PruneCriterion::magnitude, 0.533972662456, 0.465187107300},
        Expected{PruneCriterion::wanda, 0.428185708559, 0.377986434203},
        Expected{PruneCriterion::sparsegpt, 0.401587439542, 0.374997528245}}) {
    CAPTURE(int(criterion));
    const auto error = [&, c = criterion](bool refit) {
      return relative_error(W, pruned(W, calibration, {.criterion = c, .refit = refit}),
                            calibration);
    };
    CHECK(error(false) == Approx(kept).epsilon(1e-7));
    CHECK(error(true) == Approx(refitted).epsilon(1e-7));
  }
  const auto nowag = pruned(W, calibration, {.criterion = PruneCriterion::nowag, .refit = false});
  CHECK(relative_error(W, nowag, calibration) == Approx(0.434215943382).epsilon(1e-7));
}

TEST_CASE("the pattern is what the target runs at full speed and the budget has room for",
          "[semi_structured]") {
  Random random(61);
  const Matrix<float> W = random.matrix<float>(8, 64);
  using Options = SemiStructured<float>::Options;
  const auto chosen = [&](const char* target, double share, Places places = Places::automatic) {
    const auto op =
        compress<SemiStructured>(W, keep(share), Options{.places = places, .target = target});
    CHECK(op.bytes() <= keep(share).max_bytes(8, 64, 4));
    return to_string(op.pattern()) + (op.places() == Places::masks ? " by masks" : "");
  };
  CHECK(chosen("sse2", 1) == "2:4");
  CHECK(chosen("fma3+avx2", 1) == "4:8");
  CHECK(chosen("neon64", 1) == "4:8");
  CHECK(chosen("avx512", 1) == "8:16");
  CHECK(chosen("avx512", 0.5625) == "8:16");
  CHECK(chosen("avx512", 0.56) == "8:16 by masks");
  CHECK(chosen("avx512", 0.53125) == "8:16 by masks");
  CHECK(chosen("avx512", 0.54, Places::codes) == "2:4");
  CHECK(chosen("avx512", 1, Places::masks) == "8:16 by masks");
  CHECK(chosen("fma3+avx2", 0.5469) == "4:8");
  CHECK(chosen("fma3+avx2", 0.54) == "4:8 by masks");
  CHECK_THROWS_AS(chosen("avx512", 0.53), std::invalid_argument);
  CHECK_THROWS_WITH(chosen("avx2", 1), Catch::Contains("fma3+avx2"));
  const Matrix<double> V = random.matrix<double>(8, 64);
  const auto doubles = [&](const char* target) {
    return compress<SemiStructured>(V, keep(1), SemiStructured<double>::Options{.target = target})
        .pattern();
  };
  CHECK(doubles("avx512") == SparsePattern{4, 8});
  CHECK(doubles("fma3+avx2") == SparsePattern{2, 4});
  // Values that meet rounded activations have kernels of their own.
  const auto narrow = [&](const char* target, Storage storage) {
    const auto op =
        compress<SemiStructured>(W, keep(1), Options{.target = target, .storage = storage});
    return to_string(op.pattern());
  };
  CHECK(narrow("avx512", Storage::int8) == "8:16");
  CHECK(narrow("avx512+vnni", Storage::int8) == "4:8");
  CHECK(narrow("avx512+vnni+bf16", Storage::int8) == "4:8");
  CHECK(narrow("avx2+vnni", Storage::int8) == "4:8");
  CHECK(narrow("avx512+vnni", Storage::bf16) == "8:16");
  CHECK(narrow("avx512+vnni+bf16", Storage::bf16) == "2:4");
  CHECK(narrow("avx512+vnni+bf16", Storage::int4) == "8:16");
  CHECK(narrow("neon64+dot+i8mm", Storage::f16) == "4:8");
  CHECK(chosen("avx512+vnni+bf16", 1) == "8:16");
  // By default for the kernels that are in force.
  const auto here = compress<SemiStructured>(W, keep(1)).pattern();
  CHECK(here.group == detail::full_speed_group(detail::resolved_target<float>({}), 4));

  const auto asked = compress<SemiStructured>(W, keep(0.3), Options{.pattern = {4, 16}});
  CHECK(asked.pattern() == SparsePattern{4, 16});
  CHECK(asked.bytes() == 8 * (4 * 16 + 8));
  for (const SparsePattern pattern : {SparsePattern{0, 4}, {4, 4}, {2, 5}, {16, 64}})
    CHECK_THROWS_AS(compress<SemiStructured>(W, keep(1), Options{.pattern = pattern}),
                    std::invalid_argument);
  CHECK_THROWS_AS(compress<SemiStructured>(W, keep(1), Options{.places = static_cast<Places>(7)}),
                  std::invalid_argument);
}

TEST_CASE("the wider the groups, the less is lost", "[semi_structured]") {
  Random random(62);
  const Matrix<float> W = random.matrix<float>(48, 96);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 96, 400));
  const auto seen = calibration_of(correlated_inputs<float>(random, 96, 400));
  for (const bool calibrated : {false, true}) {
    double before = 1;
    for (const Index group : {4, 8, 16, 32}) {
      CAPTURE(calibrated, group);
      const auto op =
          compress<SemiStructured>(W, keep(1), calibrated ? calibration : Calibration<float>(),
                                   {.pattern = {group / 2, group}});
      const double error = calibrated ? relative_error(W, op, calibration) : relative_error(W, op);
      CHECK(error < 0.99 * before);
      before = error;
    }
  }
}

TEST_CASE("N:M of any shape, storage and calibration keeps its pattern", "[semi_structured]") {
  Random random(63);
  for (const SparsePattern pattern :
       {SparsePattern{1, 4}, {3, 4}, {4, 8}, {3, 16}, {8, 16}, {16, 32}, {1, 32}})
    for (const auto& [m, n] : {std::pair<Index, Index>{1, 1}, {5, 7}, {17, 61}, {20, 96}}) {
      if (reduced && n == 96) continue;  // half of the time
      const Matrix<double> W = random.matrix<double>(m, n);
      const auto calibration = calibration_of(correlated_inputs<double>(random, n, 3 * n));
      const auto few = calibration_of(random.matrix<double>(n, 2));
      for (const Storage storage : {Storage::f64, Storage::bf16, Storage::int8, Storage::int4}) {
        CAPTURE(to_string(pattern), m, n, to_string(storage));
        const SemiStructured<double>::Options options{.pattern = pattern, .storage = storage};
        const auto plain = compress<SemiStructured>(W, keep(1000), options);
        const auto fitted = compress<SemiStructured>(W, keep(1000), calibration, options);
        CHECK(relative_error(W, fitted, calibration) <=
              relative_error(W, plain, calibration) * (1 + 1e-6));
        const auto rough = compress<SemiStructured>(W, keep(1000), few, options);
        for (const auto& op : {plain, fitted, rough}) {
          CHECK(op.pattern() == pattern);
          CHECK(op.storage() == storage);
          CHECK(op.to_dense().allFinite());
          CHECK(SemiStructured<double>(op.to_dense(), pattern).to_dense() == op.to_dense());
        }
      }
    }
}

}  // namespace pleat::test
