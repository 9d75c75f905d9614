// SPDX-License-Identifier: MIT
// N:M patterns: masks, energies, errors, and column orders that keep more.
#include "pleat/compress/prune.hpp"

#include "compress/support.hpp"
#include "pleat/compress/permuted.hpp"
#include "pleat/solve/linear/random.hpp"
#include "support/catch.hpp"

#include <utility>

namespace pleat::test {

TEST_CASE("a Gaussian matrix loses 0.1032 of its energy at 4:8, and 0.3825 at 1:4", "[prune]") {
  const Matrix<double> W = detail::Random(81).normal(512, 1024);
  for (const auto& [pattern, expected] : {std::pair{SparsePattern{4, 8}, 0.1032},
                                          {SparsePattern{1, 4}, 0.3825},
                                          {SparsePattern{2, 4}, 0.1323}}) {
    const auto op = prune(W, pattern);
    const double error = relative_error(W, op);
    CHECK(error * error == Approx(expected).epsilon(0.01));
    CHECK(op.nonzeros() == W.size() / pattern.group * pattern.kept);
    CHECK((prune_mask(W, pattern).array() == (op.to_dense().array() != 0)).all());
  }
}

TEST_CASE("patterns of any size are kept, calibrated or not", "[prune]") {
  Random random(82);
  for (const auto& [m, n] : {std::pair{1, 1}, {2, 3}, {5, 7}, {12, 40}, {3, 131}}) {
    const Matrix<float> W = random.matrix<float>(m, n);
    Calibration<float> calibration(n);
    calibration.add(correlated_inputs<float>(random, n, 2 * n));
    calibration.shrinkage(0);
    for (const SparsePattern pattern :
         {SparsePattern{1, 1}, {1, 4}, {3, 4}, {4, 8}, {2, 7}, {60, 120}, {5, 1000}}) {
      INFO(m << " x " << n << ", " << pattern.kept << ':' << pattern.group);
      const auto op = prune(W, pattern, calibration);
      const Matrix<float> kept = op.to_dense();
      for (Index row = 0; row < m; ++row)
        for (Index first = 0; first < n; first += pattern.group)
          CHECK((kept.row(row).segment(first, std::min(pattern.group, n - first)).array() != 0)
                    .count() <= pattern.kept);
      if (pattern.kept == pattern.group) CHECK(relative_error(W, op) <= 1e-6);
      for (const PruneCriterion criterion : {PruneCriterion::wanda, PruneCriterion::sparsegpt})
        CHECK(relative_error(W, op, calibration) <=
              relative_error(W, prune(W, pattern, calibration, {.criterion = criterion}),
                             calibration) *
                      (1 + 1e-4) +
                  1e-6);
    }
  }
}

TEST_CASE("patterns that are none", "[prune]") {
  const Matrix<float> W = Matrix<float>::Ones(2, 8);
  CHECK_THROWS_WITH(prune(W, {3, 2}), Catch::Contains("3 of 2"));
  CHECK_THROWS_AS(prune(W, {0, 4}), std::invalid_argument);
  CHECK_THROWS_AS(prune(W, {-1, 4}), std::invalid_argument);
  CHECK_THROWS_AS(prune(W, {1, 0}), std::invalid_argument);
  CHECK_THROWS_AS(prune(Matrix<float>(0, 4), {2, 4}), std::invalid_argument);
  CHECK_THROWS_AS(prune(W, {2, 4}, Calibration<float>(7)), std::invalid_argument);
}

TEST_CASE("an order of the columns never costs anything, and gains where groups are unfair",
          "[prune]") {
  Random random(83);
  for (const auto& [m, n] : {std::pair{1, 1}, {3, 5}, {20, 64}, {9, 37}}) {
    INFO(m << " x " << n);
    // Strong columns side by side: as given, half of them would be lost.
    Matrix<double> W = random.matrix<double>(m, n);
    W.leftCols(n / 2) *= 10;
    const auto plain = compress<SemiStructured>(W, keep(1000), {.pattern = {2, 4}});
    const auto ordered = compress_permuted(W, keep(1000), {}, {.pattern = {2, 4}});
    CHECK(relative_error(W, ordered) <= relative_error(W, plain));
    if (n > 8) CHECK(relative_error(W, ordered) < 0.5 * relative_error(W, plain));
    CHECK(compress_permuted(W, keep(1000), {}, {.pattern = {2, 4}}).to_dense() ==
          ordered.to_dense());

    Calibration<double> calibration(n);
    calibration.add(correlated_inputs<double>(random, n, 3 * n));
    CHECK(relative_error(W, compress_permuted(W, keep(1000), calibration, {.pattern = {2, 4}}),
                         calibration) <=
          relative_error(W,
                         compress<SemiStructured>(W, keep(1000), calibration, {.pattern = {2, 4}}),
                         calibration));
  }
  const Matrix<double> W = random.matrix<double>(4, 8);
  CHECK_THROWS_AS(compress_permuted(W, bytes(4 * (4 * 8 + 1)), {}, {.pattern = {2, 4}}),
                  std::invalid_argument);
  CHECK(compress_permuted(W, bytes(4 * (4 * 8 + 1) + 16), {}, {.pattern = {2, 4}}).bytes() ==
        4 * (4 * 8 + 1) + 16);
  CHECK_THROWS_AS(compress_permuted(W, error(1e-3), {}, {.pattern = {2, 4}}),
                  std::invalid_argument);
  int calls = 0;
  const Monitor count = [&](const Progress&) { return ++calls < 2; };
  CHECK_THROWS_AS(compress_permuted(W, bytes(40), {}, {.pattern = {2, 4}, .monitor = count}),
                  std::invalid_argument);
  CHECK(calls == 0);  // before any work
  CHECK_NOTHROW(compress_permuted(W, error(1e-9), calibration_of(random.matrix<double>(8, 30)),
                                  {.monitor = count}));
  CHECK(calls <= 2);
}

}  // namespace pleat::test
