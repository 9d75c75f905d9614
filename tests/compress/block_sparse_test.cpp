// SPDX-License-Identifier: MIT
// compress<BlockSparse>: which blocks are kept, what becomes of them, and what budgets give.
#include "pleat/compress/block_sparse.hpp"

#include "compress/support.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

template <Real T>
typename BlockSparse<T>::Options blocks_of(Index r, Index c) {
  return {.block_rows = r, .block_cols = c};
}

/// A positive definite metric, and its inverse.
struct BlockMetric {
  Matrix<double> H;
  Matrix<double> P;

  BlockMetric(Random& random, Index n) : H(gram_of(random, n, 2 * n)) {
    H.diagonal().array() += 1e-3 * H.diagonal().mean();
    P = H.inverse();
  }
};

/// tr(E H E^T).
double block_loss(const Matrix<double>& E, const Matrix<double>& H) {
  return (E * H).cwiseProduct(E).sum();
}

/// The least loss of W on some of its columns, by normal equations.
double least_block_loss(const Matrix<double>& W, const Matrix<double>& H,
                        const std::vector<Index>& kept) {
  Matrix<double> E = W;
  if (!kept.empty()) {
    const Matrix<double> WH = W * H;
    const Matrix<double> block = H(kept, kept);
    const Matrix<double> right = WH(Eigen::all, kept);
    E(Eigen::all, kept) -= block.ldlt().solve(right.transpose()).transpose();
  }
  return block_loss(E, H);
}

std::vector<Index> columns_without(Index n, Index first, Index width) {
  std::vector<Index> columns;
  for (Index k = 0; k < n; ++k)
    if (k < first || k >= first + width) columns.push_back(k);
  return columns;
}

}  // namespace

TEST_CASE("BlockSparse: the cost of a block from another program", "[block_sparse]") {
  const Matrix<double> W = Matrix<double>::NullaryExpr(24, 30, [](Index i, Index j) {
    return std::sin(1 + double(i) + 2 * double(j) + 0.1 * double(i * j)) + 0.01 * double(i - j);
  });
  const Matrix<double> C = Matrix<double>::NullaryExpr(30, 30, [](Index i, Index j) {
    return std::pow(0.5, std::abs(double(i - j))) + (i == j ? 0.1 : 0);
  });
  const detail::BlockGrid grid{24, 30, 24, 6};
  const Matrix<double> scores = detail::surgery_scores(W, Matrix<double>(C.inverse()), grid);
  REQUIRE(scores.rows() == 1);
  REQUIRE(scores.cols() == 5);
  CHECK(std::sqrt(scores(0, 1)) == Approx(6.221053425598).epsilon(1e-11));
  // Of the maker, which may give up one of the five: the least of their costs.
  const auto calibration = Calibration<double>::from_gram(C, 100).shrinkage(0);
  const auto op = compress<BlockSparse>(W, bytes(24 * 24 * 8 + 4 * 2 + 4), calibration,
                                        blocks_of<double>(24, 6));
  CHECK(op.blocks() == 4);
  const Matrix<double> E = W - op.to_dense();
  CHECK(block_loss(E, C) == Approx(scores.minCoeff()).epsilon(1e-6));
}

TEST_CASE("BlockSparse: a cost is what the refit then loses", "[block_sparse]") {
  Random random(611);
  for (const auto& [m, n, r, c] : {std::tuple{12, 20, 4, 5}, {7, 23, 3, 4}, {5, 9, 5, 1}}) {
    CAPTURE(m, n, r, c);
    const BlockMetric metric(random, n);
    const Matrix<double> W = random.matrix<double>(m, n);
    const detail::BlockGrid grid{m, n, r, c};
    const Matrix<double> scores = detail::surgery_scores(W, metric.P, grid);
    const Matrix<double> alone = detail::block_scores(W, metric.H, grid);
    for (Index i = 0; i < grid.tall(); ++i)
      for (Index j = 0; j < grid.wide(); ++j) {
        const Matrix<double> rows = W.middleRows(grid.top(i), grid.height(i));
        const auto kept = columns_without(n, grid.left(j), grid.width(j));
        CHECK(scores(i, j) == Approx(least_block_loss(rows, metric.H, kept)).epsilon(1e-6));
        Matrix<double> E = Matrix<double>::Zero(rows.rows(), n);
        E.middleCols(grid.left(j), grid.width(j)) = rows.middleCols(grid.left(j), grid.width(j));
        CHECK(alone(i, j) == Approx(block_loss(E, metric.H)).epsilon(1e-9));
      }
  }
}

TEST_CASE("BlockSparse: paths give up the cheapest block each time", "[block_sparse]") {
  Random random(612);
  for (const auto& [r, n, c] : {std::tuple{4, 26, 3}, {3, 24, 4}, {1, 13, 1}, {6, 10, 16}}) {
    CAPTURE(r, n, c);
    const BlockMetric metric(random, n);
    const Matrix<double> W = random.matrix<double>(r, n);
    const detail::BlockGrid grid{r, n, r, c};
    const auto path = detail::removal_path(metric.P, W, grid);
    REQUIRE(Index(path.size()) == grid.wide());
    std::set<Index> left;
    for (Index j = 0; j < grid.wide(); ++j) left.insert(j);
    const auto loss_with = [&](const std::set<Index>& blocks) {
      std::vector<Index> kept;
      for (const Index j : blocks)
        for (Index k = 0; k < grid.width(j); ++k) kept.push_back(grid.left(j) + k);
      return least_block_loss(W, metric.H, kept);
    };
    double lost = 0;
    for (const auto& [column, cost] : path) {
      REQUIRE(left.contains(column));
      for (const Index j : left) {
        std::set<Index> others = left;
        others.erase(j);
        const double density = (loss_with(others) - lost) / double(grid.width(j));
        CHECK(cost / double(grid.width(column)) <= density * (1 + 1e-5) + 1e-9 * W.squaredNorm());
      }
      left.erase(column);
      lost += cost;
      CHECK(lost == Approx(loss_with(left)).epsilon(1e-5));  // costs add up to the refit's loss
    }
  }
}

TEST_CASE("BlockSparse: the refit satisfies its normal equations", "[block_sparse]") {
  Random random(613);
  for (const auto& [m, n, r, c] : {std::tuple{20, 30, 8, 4}, {13, 17, 5, 3}, {6, 12, 1, 1}}) {
    CAPTURE(m, n, r, c);
    const BlockMetric metric(random, n);
    const Matrix<double> W = random.matrix<double>(m, n);
    const detail::BlockGrid grid{m, n, r, c};
    Matrix<bool> kept(grid.tall(), grid.wide());
    for (Index i = 0; i < kept.rows(); ++i)
      for (Index j = 0; j < kept.cols(); ++j) kept(i, j) = random.integer(0, 2) > 0;
    const Matrix<double> D = detail::block_refit(W, metric.H, grid, kept);
    const Matrix<double> S = detail::kept_blocks(W, kept, grid);
    CHECK((detail::kept_blocks(D, kept, grid) - D).norm() == 0);
    const Matrix<double> gradient = (W - S - D) * metric.H;
    const double size = (W * metric.H).norm();
    CHECK(detail::kept_blocks(gradient, kept, grid).norm() <= 1e-9 * size);
    CHECK(block_loss(W - S - D, metric.H) <= block_loss(W - S, metric.H));
  }
}

TEMPLATE_TEST_CASE("BlockSparse: budgets, shapes and hyperparameters are kept", "[block_sparse]",
                   float, double) {
  using T = TestType;
  Random random(614);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 40}, {40, 1}, {37, 41}, {64, 20}, {20, 64}}) {
    const Matrix<T> W = random.matrix<T>(m, n);
    const auto seen = calibration_of(correlated_inputs<T>(random, n, n / 2 + 3));
    for (const auto& [r, c] : {std::pair{16, 16}, {16, 1}, {8, 8}, {5, 3}, {1, 1}, {100, 100}})
      for (const auto& calibration : {Calibration<T>(), seen})
        for (const double share : {0.9, 0.5, 0.2}) {
          CAPTURE(m, n, r, c, share, calibration.samples());
          const auto options = blocks_of<T>(r, c);
          const std::size_t dense = std::size_t(m * n) * sizeof(T);
          const std::size_t least = 4 * std::size_t((m + r - 1) / r);
          if (double(least) > share * double(dense)) {
            CHECK_THROWS_WITH(compress<BlockSparse>(W, keep(share), calibration, options),
                              Contains("a matrix without blocks needs " + std::to_string(least)));
            continue;
          }
          const auto op = compress<BlockSparse>(W, keep(share), calibration, options);
          CHECK(op.block_rows() == r);
          CHECK(op.block_cols() == c);
          CHECK(double(op.bytes()) <= share * double(dense));
          // One block more would not have fitted.
          const std::size_t block = std::size_t(std::min(r, m) * std::min(c, n)) * sizeof(T) + 2;
          CHECK(double(op.bytes() + block) > share * double(dense));
          const auto bounded =
              compress<BlockSparse>(W, bytes(std::int64_t(op.bytes())), calibration, options);
          CHECK(bounded.bytes() <= op.bytes());
        }
    const auto all = compress<BlockSparse>(W, keep(9), seen, blocks_of<T>(4, 4));
    CHECK(all.to_dense() == W);
    CHECK(compress<BlockSparse>(W, error(0), seen, blocks_of<T>(4, 4)).to_dense() == W);
  }
}

TEST_CASE("BlockSparse: without a calibration the largest blocks are kept as they are",
          "[block_sparse]") {
  Random random(615);
  const Matrix<double> W = random.matrix<double>(32, 48);
  const auto op = compress<BlockSparse>(W, keep(0.5), blocks_of<double>(8, 8));
  CHECK(op.blocks() == 11);  // of 24: 12 of 512 bytes would leave none for where they are
  std::vector<double> squares;
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 6; ++j) squares.push_back(W.block(8 * i, 8 * j, 8, 8).squaredNorm());
  std::sort(squares.rbegin(), squares.rend());
  double lost = 0;
  for (std::size_t k = 11; k < 24; ++k) lost += squares[k];
  CHECK((W - op.to_dense()).squaredNorm() == Approx(lost).epsilon(1e-12));
  const Matrix<double> What = op.to_dense();
  CHECK(What.cwiseProduct(W - What).norm() == 0);
  // Of equal blocks the first.
  const auto first = compress<BlockSparse>(Matrix<double>(Matrix<double>::Ones(16, 16)),
                                           bytes(8 * (64 + 1) + 64), blocks_of<double>(4, 4));
  CHECK(first.blocks() == 4);
  CHECK(first.kept().leftCols(1).all());
}

TEMPLATE_TEST_CASE("BlockSparse: a calibration helps, and never harms", "[block_sparse]", float,
                   double) {
  using T = TestType;
  Random random(616);
  for (const auto& [m, n, samples] :
       {std::tuple{48, 64, 400}, {64, 48, 60}, {33, 47, 20}, {32, 64, 1}, {96, 32, 8}}) {
    const Matrix<T> W = random.matrix<T>(m, n);
    const auto calibration = calibration_of(correlated_inputs<T>(random, n, samples));
    for (const auto& [r, c] : {std::pair{16, 16}, {16, 1}, {8, 8}, {5, 3}})
      for (const double share : {0.7, 0.4}) {
        CAPTURE(m, n, samples, r, c, share);
        const auto plain = compress<BlockSparse>(W, keep(share), blocks_of<T>(r, c));
        const auto op = compress<BlockSparse>(W, keep(share), calibration, blocks_of<T>(r, c));
        const double before = relative_error(W, plain, calibration);
        CHECK(relative_error(W, op, calibration) <= before);
        if (samples == 400) CHECK(relative_error(W, op, calibration) < 0.7 * before);
      }
  }
}

TEST_CASE("BlockSparse: the maker's values are the optimum on their places", "[block_sparse]") {
  Random random(617);
  const Matrix<double> W = random.matrix<double>(40, 36);
  const Matrix<double> X = random.matrix<double>(36, 200);
  const Matrix<double> H = X * X.transpose();
  const auto op =
      compress<BlockSparse>(W, keep(0.5), exact_calibration(X), blocks_of<double>(8, 4));
  const detail::BlockGrid grid{40, 36, 8, 4};
  const Matrix<bool> kept = op.kept();
  double least = 0;
  for (Index i = 0; i < grid.tall(); ++i)
    least += least_block_loss(W.middleRows(8 * i, 8), H, detail::kept_columns(kept, grid, i));
  CHECK(block_loss(W - op.to_dense(), H) == Approx(least).epsilon(1e-6));
  // Better than the largest blocks, refitted, too.
  const Matrix<bool> largest = compress<BlockSparse>(W, keep(0.5), blocks_of<double>(8, 4)).kept();
  double other = 0;
  for (Index i = 0; i < grid.tall(); ++i)
    other += least_block_loss(W.middleRows(8 * i, 8), H, detail::kept_columns(largest, grid, i));
  CHECK(least < other);
}

TEST_CASE("BlockSparse: a block-sparse weight is found again", "[block_sparse]") {
  Random random(618);
  Matrix<bool> kept(4, 5);
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 5; ++j) kept(i, j) = (i + 2 * j) % 3 == 0;
  const Matrix<double> W =
      BlockSparse<double>(random.matrix<double>(30, 37), 8, 8, kept).to_dense();
  const auto calibration = calibration_of(correlated_inputs<double>(random, 37, 100));
  const BlockSparse<double> exact(W, 8, 8);
  for (const auto& seen : {Calibration<double>(), calibration}) {
    const auto op =
        compress<BlockSparse>(W, bytes(std::int64_t(exact.bytes())), seen, blocks_of<double>(8, 8));
    CHECK(op.kept() == kept);
    CHECK(relative_error(W, op) <= 1e-14);
    const auto small = compress<BlockSparse>(W, error(1e-9), seen, blocks_of<double>(8, 8));
    CHECK(small.blocks() == exact.blocks());
  }
}

TEST_CASE("BlockSparse: the smallest within an error", "[block_sparse]") {
  Random random(619);
  const Matrix<float> W = random.matrix<float>(64, 48);
  const auto seen = calibration_of(correlated_inputs<float>(random, 48, 300));
  for (const auto& calibration : {Calibration<float>(), seen})
    for (const double wanted : {0.05, 0.3, 0.8}) {
      CAPTURE(wanted, calibration.samples());
      const auto op = compress<BlockSparse>(W, error(wanted), calibration, blocks_of<float>(8, 8));
      CHECK(relative_error(W, op, calibration) <= wanted);
      if (op.blocks() == 0) continue;
      const std::size_t block = 64 * sizeof(float) + 2;
      const auto smaller = compress<BlockSparse>(W, bytes(std::int64_t(op.bytes() - block)),
                                                 calibration, blocks_of<float>(8, 8));
      CHECK(relative_error(W, smaller, calibration) > 0.97 * wanted);
    }
}

TEST_CASE("BlockSparse: singular and empty calibrations", "[block_sparse]") {
  Random random(620);
  const Matrix<double> W = random.matrix<double>(24, 40);
  Matrix<double> dead = random.matrix<double>(40, 30);
  dead.topRows(16).setZero();
  Matrix<double> one = Matrix<double>::Zero(40, 1);
  one(3, 0) = 2;
  const std::vector<Matrix<double>> inputs{dead, one, Matrix<double>::Zero(40, 5),
                                           random.matrix<double>(40, 2)};
  for (const Matrix<double>& X : inputs)
    for (const bool exact : {false, true}) {
      const auto calibration = exact ? exact_calibration(X) : calibration_of(X);
      const auto op = compress<BlockSparse>(W, keep(0.6), calibration, blocks_of<double>(8, 8));
      CAPTURE(X.cols(), exact);
      CHECK(op.to_dense().allFinite());
      CHECK(op.to_dense().norm() <= 10 * W.norm());
      const auto plain = compress<BlockSparse>(W, keep(0.6), blocks_of<double>(8, 8));
      CHECK(relative_error(W, op, calibration) <= relative_error(W, plain, calibration));
    }
  // Inputs that are never seen are given up first: 24 of 40 alive, and enough for those.
  const auto op =
      compress<BlockSparse>(W, keep(0.62), exact_calibration(dead), blocks_of<double>(8, 8));
  CHECK(relative_error(W, op, exact_calibration(dead)) <= 1e-6);
  const Matrix<double> nothing = Matrix<double>::Zero(24, 40);
  CHECK(compress<BlockSparse>(nothing, keep(0.3), calibration_of(dead)).to_dense() == nothing);
}

TEMPLATE_TEST_CASE("BlockSparse: blind to scale", "[block_sparse]", float, double) {
  using T = TestType;
  Random random(621);
  const Matrix<T> W = random.matrix<T>(48, 40);
  const Matrix<T> X = correlated_inputs<T>(random, 40, 90);
  const auto made = [&](T weights, T samples) {
    return compress<BlockSparse>(Matrix<T>(W * weights), keep(0.5),
                                 calibration_of(Matrix<T>(X * samples)), blocks_of<T>(8, 8));
  };
  const auto op = made(1, 1);
  for (const T power : {T(0x1p-20), T(0x1p20)}) {
    CHECK(made(power, 1).to_dense() == Matrix<T>(op.to_dense() * power));
    CHECK(made(1, power).to_dense() == op.to_dense());
  }
  for (const T factor : {T(1e-6), T(1e6)}) {
    CHECK(made(factor, 1).kept() == op.kept());
    CHECK((made(factor, 1).to_dense() / factor - op.to_dense()).norm() <= 1e-4 * W.norm());
    CHECK(made(1, factor).kept() == op.kept());
    CHECK((made(1, factor).to_dense() - op.to_dense()).norm() <= 1e-4 * W.norm());
  }
}

TEST_CASE("BlockSparse: weights of rows say whose blocks are kept", "[block_sparse]") {
  Random random(622);
  const Matrix<double> W = random.matrix<double>(32, 32);
  auto calibration = calibration_of(correlated_inputs<double>(random, 32, 100));
  Vector<double> weights = Vector<double>::Ones(32);
  weights.head(8).setConstant(1e4);
  calibration.row_weights(weights);
  const auto op = compress<BlockSparse>(W, keep(0.4), calibration, blocks_of<double>(8, 8));
  CHECK(op.kept().row(0).all());
  CHECK((op.to_dense().topRows(8) - W.topRows(8)).norm() == 0);
}

TEST_CASE("BlockSparse: the same for any number of threads", "[block_sparse]") {
  Random random(623);
  const Matrix<float> W = random.matrix<float>(80, 64);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 64, 150));
  const auto made = [&] {
    return compress<BlockSparse>(W, keep(0.5), calibration, blocks_of<float>(16, 8)).to_dense();
  };
  const Matrix<float> one = made();
  set_num_threads(3);
  const Matrix<float> three = made();
  set_num_threads(1);
  CHECK(three == one);
}

TEST_CASE("BlockSparse: refusals change nothing and say what would fit", "[block_sparse]") {
  const Matrix<float> W = Matrix<float>::Ones(20, 30);
  CHECK_THROWS_WITH(compress<BlockSparse>(W, keep(0.5), blocks_of<float>(0, 16)),
                    Contains("blocks have at least 1 row and 1 column, not 0 x 16"));
  CHECK_THROWS_WITH(compress<BlockSparse>(W, keep(0.5), blocks_of<float>(16, -2)),
                    Contains("not 16 x -2"));
  CHECK_THROWS_WITH(
      compress<BlockSparse>(W, keep(0.5), BlockSparse<float>::Options{.storage = Storage::f64}),
      Contains("cannot store f64"));
  CHECK_THROWS_WITH(compress<BlockSparse>(W, bytes(7)),
                    Contains("bytes(7) of a 20 x 30 matrix allows 7 bytes, but a matrix without "
                             "blocks needs 8"));
  CHECK_NOTHROW(compress<BlockSparse>(W, bytes(8)));
}

TEST_CASE("BlockSparse: a monitor may stop it at any time", "[block_sparse]") {
  Random random(624);
  const Matrix<double> W = random.matrix<double>(96, 48);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 48, 100));
  const auto plain = compress<BlockSparse>(W, keep(0.5), blocks_of<double>(8, 8));
  int calls = 0;
  std::set<std::string> phases;
  auto options = blocks_of<double>(8, 8);
  options.monitor = [&](const Progress& progress) {
    ++calls;
    phases.insert(std::string(progress.phase));
    return true;
  };
  const auto whole = compress<BlockSparse>(W, keep(0.5), calibration, options);
  CHECK(phases == std::set<std::string>{"blocks", "refit", "shrinkage"});
  const int all = calls;
  REQUIRE(all > 5);
  for (int stop = 1; stop <= all; ++stop) {
    calls = 0;
    options.monitor = [&](const Progress&) { return ++calls < stop; };
    const auto op = compress<BlockSparse>(W, keep(0.5), calibration, options);
    CHECK(calls == stop);
    CHECK(op.bytes() <= 96 * 48 * sizeof(double) / 2);
    CHECK(relative_error(W, op, calibration) <= relative_error(W, plain, calibration));
  }
  calls = 0;
  options.monitor = [&](const Progress&) { return ++calls < 3; };
  CHECK_NOTHROW(compress<BlockSparse>(W, error(0.01), calibration, options));
}

TEST_CASE("BlockSparse: a wide layer of few samples", "[block_sparse]") {
  Random random(625);
  const Matrix<float> W = random.matrix<float>(32, 4096);
  Matrix<float> X = random.matrix<float>(4096, 40);
  X.topRows(1024) *= 30;
  const auto calibration = calibration_of(X);
  const auto op = compress<BlockSparse>(W, keep(0.4), calibration);
  const auto plain = compress<BlockSparse>(W, keep(0.4));
  CHECK(op.kept().leftCols(64).all());
  CHECK(relative_error(W, op, calibration) < 0.2 * relative_error(W, plain, calibration));
}

}  // namespace pleat::test
