// SPDX-License-Identifier: MIT
// compress<BlockSparse> in narrow storage: what fits a budget, and calibrated rounding.
#include "compress/support.hpp"
#include "pleat/compress/block_sparse.hpp"
#include "pleat/compress/dense.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

constexpr Storage rounding_storages[] = {Storage::bf16, Storage::f16,  Storage::int8,
                                         Storage::int4, Storage::int3, Storage::int2};

template <Real T>
typename BlockSparse<T>::Options stored_blocks(Index r, Index c, Storage storage,
                                               Levels levels = Levels::uniform) {
  return {.block_rows = r, .block_cols = c, .storage = storage, .levels = levels};
}

/// Bytes of so many whole blocks with values as they are.
template <Real T>
std::int64_t native_bytes(const BlockSparse<T>& op) {
  return std::int64_t(op.stored_as(native_storage<T>).bytes());
}

}  // namespace

TEMPLATE_TEST_CASE("BlockSparse in narrow storage: budgets and shapes are kept",
                   "[block_sparse][rounding]", float, double) {
  using T = TestType;
  Random random(651);
  for (const auto& [m, n] : {std::pair{1, 1}, {1, 40}, {40, 1}, {37, 41}, {20, 64}}) {
    const Matrix<T> W = random.matrix<T>(m, n);
    const auto seen = calibration_of(correlated_inputs<T>(random, n, n / 2 + 3));
    for (const auto& [r, c] : {std::pair{16, 16}, {16, 1}, {5, 3}, {1, 1}, {100, 100}})
      for (const Storage storage : rounding_storages)
        for (const auto& calibration : {Calibration<T>(), seen})
          for (const double share : {0.5, 0.2, 0.1}) {
            CAPTURE(m, n, r, c, to_string(storage), share, calibration.samples());
            const auto options = stored_blocks<T>(r, c, storage);
            const std::size_t dense = std::size_t(m * n) * sizeof(T);
            const std::size_t least = 4 * std::size_t((m + r - 1) / r);
            if (double(least) > share * double(dense)) {
              CHECK_THROWS_WITH(compress<BlockSparse>(W, keep(share), calibration, options),
                                Contains("a matrix without blocks needs " + std::to_string(least)));
              continue;
            }
            const auto op = compress<BlockSparse>(W, keep(share), calibration, options);
            CHECK(op.storage() == storage);
            CHECK(op.block_rows() == r);
            CHECK(op.block_cols() == c);
            CHECK(double(op.bytes()) <= share * double(dense));
            // One block more, with scales of its own, would not have fitted.
            const auto rows = std::size_t(std::min(r, m));
            const auto cols = std::size_t(std::min(c, n));
            const std::size_t block = rows * row_bytes(storage, cols) + rows + 2;
            if (op.blocks() < op.kept().size())
              CHECK(double(op.bytes() + block) > share * double(dense));
          }
    for (const Storage storage : rounding_storages) {
      const auto all = compress<BlockSparse>(W, keep(99), stored_blocks<T>(4, 4, storage));
      CHECK(all.kept().all());
      CHECK(all.to_dense() == BlockSparse<T>(W, 4, 4, storage).to_dense());
    }
  }
}

TEMPLATE_TEST_CASE("BlockSparse: rounding in a calibration is never worse than to the nearest",
                   "[block_sparse][rounding]", float, double) {
  using T = TestType;
  Random random(652);
  int compared = 0;
  for (const auto& [m, n, r, c] :
       {std::tuple{48, 64, 16, 8}, {40, 150, 8, 5}, {33, 70, 100, 1}, {16, 96, 1, 16}}) {
    const Matrix<T> W = random.matrix<T>(m, n);
    const Matrix<T> X = correlated_inputs<T>(random, n, 2 * n);
    for (const auto& calibration : {exact_calibration(X), calibration_of(X)})
      for (const Storage storage : rounding_storages)
        for (const Levels levels : {Levels::uniform, Levels::fitted}) {
          if (levels == Levels::fitted &&
              level_bytes(detail::has_few_bits(storage) ? detail::with_levels(storage, levels)
                                                        : storage) == 0)
            continue;
          CAPTURE(m, n, r, c, to_string(storage), levels == Levels::fitted);
          const auto op = compress<BlockSparse>(W, keep(sizeof(T) == 4 ? 0.15 : 0.07), calibration,
                                                stored_blocks<T>(r, c, storage, levels));
          const auto native = compress<BlockSparse>(W, bytes(native_bytes(op)), calibration,
                                                    stored_blocks<T>(r, c, native_storage<T>));
          // The share of the budget that says how far a calibration is shrunk may differ.
          if (native.kept() != op.kept()) continue;
          ++compared;
          const BlockSparse<T> nearest = native.stored_as(op.storage());
          const double error = relative_error(W, op, calibration);
          CHECK(error <= relative_error(W, nearest, calibration));
          CHECK(error >= relative_error(W, native, calibration) * (1 - 1e-4));
          if (!detail::has_few_bits(storage)) continue;
          const double lost =
              std::pow(error, 2) - std::pow(relative_error(W, native, calibration), 2);
          const double plain = std::pow(relative_error(W, nearest, calibration), 2) -
                               std::pow(relative_error(W, native, calibration), 2);
          CHECK(lost < 0.7 * plain);
        }
  }
  CHECK(compared >= 40);  // of 72
}

TEST_CASE("BlockSparse: what rounding adds is the loss in the metric of kept columns",
          "[block_sparse][rounding]") {
  Random random(653);
  const Matrix<double> W = random.matrix<double>(24, 60);
  const Matrix<double> X = random.matrix<double>(60, 200);
  Matrix<double> H = X * X.transpose() / 200;
  const detail::BlockGrid blocks{24, 60, 8, 5};
  Matrix<bool> kept(3, 12);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 12; ++j) kept(i, j) = (i + j) % 3 != 0 || i == 2;
  kept.row(1) = kept.row(0);
  const Matrix<double> S =
      detail::kept_blocks(W, kept, blocks) + detail::block_refit(W, H, blocks, kept);
  const auto all = detail::alike_rows(kept, blocks);
  REQUIRE(all.size() == 2);
  CHECK(all[0].rows.size() + all[1].rows.size() == 24);
  for (const Storage storage :
       {Storage::int8, Storage::int4, Storage::int2, Storage::int3_fitted}) {
    CAPTURE(to_string(storage));
    const detail::Grid grid = detail::fitted_to_blocks(detail::Grid::of(storage), S, H, all);
    const auto found = detail::round_blocks(S, H, all, grid);
    REQUIRE(found);
    CHECK(detail::kept_blocks(found->values, kept, blocks) == found->values);
    const auto loss = [&](const Matrix<double>& E) { return (E * H).cwiseProduct(E).sum(); };
    CHECK(loss(W - found->values) == Approx(loss(W - S) + loss(S - found->values)).epsilon(1e-6));
    const BlockSparse<double> nearest(S, 8, 5, kept, storage);
    CHECK(loss(S - found->values) < loss(S - nearest.to_dense()));
    for (const detail::AlikeRows& alike : all)
      for (const Index row : alike.rows)
        for (std::size_t k = 0; k < alike.columns.size(); ++k) {
          const double value = found->values(row, alike.columns[k]);
          const double scale = found->scales(row, Index(k) / grid.span);
          CHECK(scale * grid.number(value, scale) == Approx(value).margin(1e-12));
        }
    CHECK_FALSE(detail::round_blocks(S, H, all, grid, [](double, double) { return false; }));
  }
}

TEST_CASE("BlockSparse: all blocks rounded are near what Dense is", "[block_sparse][rounding]") {
  Random random(654);
  const Matrix<float> W = random.matrix<float>(40, 96);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 96, 300));
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int2}) {
    CAPTURE(to_string(storage));
    const auto op =
        compress<BlockSparse>(W, keep(1), calibration, stored_blocks<float>(16, 16, storage));
    CHECK(op.kept().all());
    const Dense<float> dense = compress<Dense>(W, keep(1), calibration, {.storage = storage});
    CHECK(op.to_dense() == dense.to_dense());
  }
}

TEST_CASE("BlockSparse: the smallest within an error, in narrow storage",
          "[block_sparse][rounding]") {
  Random random(655);
  const Matrix<float> W = random.matrix<float>(64, 48);
  const auto seen = calibration_of(correlated_inputs<float>(random, 48, 300));
  for (const auto& calibration : {Calibration<float>(), seen})
    for (const double wanted : {0.05, 0.3, 0.8}) {
      CAPTURE(wanted, calibration.samples());
      const auto op = compress<BlockSparse>(W, error(wanted), calibration,
                                            stored_blocks<float>(8, 8, Storage::int8));
      CHECK(relative_error(W, op, calibration) <= wanted);
      const auto native = compress<BlockSparse>(W, error(wanted), calibration,
                                                stored_blocks<float>(8, 8, Storage::f32));
      CHECK(2 * op.bytes() < native.bytes());
    }
  CHECK_THROWS_WITH(
      compress<BlockSparse>(W, error(1e-3), stored_blocks<float>(8, 8, Storage::int2)),
      Contains("cannot be met"));
}

TEMPLATE_TEST_CASE("BlockSparse in narrow storage: blind to scale, and to threads",
                   "[block_sparse][rounding]", float, double) {
  using T = TestType;
  Random random(656);
  const Matrix<T> W = random.matrix<T>(48, 80);
  const Matrix<T> X = correlated_inputs<T>(random, 80, 190);
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::f16}) {
    CAPTURE(to_string(storage));
    const auto made = [&](T weights, T samples) {
      return compress<BlockSparse>(Matrix<T>(W * weights), keep(0.1),
                                   calibration_of(Matrix<T>(X * samples)),
                                   stored_blocks<T>(8, 8, storage));
    };
    const auto op = made(1, 1);
    for (const T power : {T(0x1p-20), T(0x1p20)}) CHECK(made(1, power).to_dense() == op.to_dense());
    for (const T power : {T(0x1p-40), T(0x1p40)}) {
      CHECK(made(power, 1).kept() == op.kept());
      CHECK((made(power, 1).to_dense() / power - op.to_dense()).norm() <= 1e-2 * W.norm());
    }
    set_num_threads(3);
    const auto three = made(1, 1);
    set_num_threads(1);
    CHECK(three.to_dense() == op.to_dense());
  }
}

TEST_CASE("BlockSparse in narrow storage: a monitor may stop it at any time",
          "[block_sparse][rounding]") {
  Random random(657);
  const Matrix<double> W = random.matrix<double>(96, 48);
  const auto calibration = calibration_of(correlated_inputs<double>(random, 48, 100));
  for (const double share : {0.05, 1.0}) {
    auto options = stored_blocks<double>(8, 8, Storage::int4, Levels::fitted);
    int calls = 0;
    std::set<std::string> phases;
    options.monitor = [&](const Progress& progress) {
      ++calls;
      phases.insert(std::string(progress.phase));
      return true;
    };
    (void)compress<BlockSparse>(W, keep(share), calibration, options);
    CHECK(phases.contains("round"));
    const int all = calls;
    REQUIRE(all > 2);
    for (int stop = 1; stop <= all; ++stop) {
      calls = 0;
      options.monitor = [&](const Progress&) { return ++calls < stop; };
      const auto op = compress<BlockSparse>(W, keep(share), calibration, options);
      CHECK(calls == stop);
      CHECK(op.storage() == Storage::int4_fitted);
      CHECK(double(op.bytes()) <= 96 * 48 * sizeof(double) * share);
      CHECK(op.to_dense().allFinite());
    }
  }
}

TEST_CASE("BlockSparse in narrow storage: calibrations of few samples, and of none that matter",
          "[block_sparse][rounding]") {
  Random random(658);
  const Matrix<float> W = random.matrix<float>(32, 4096);
  Matrix<float> X = random.matrix<float>(4096, 40);
  X.topRows(1024) *= 30;
  const auto calibration = calibration_of(X);
  const auto op = compress<BlockSparse>(W, keep(0.1), calibration,
                                        BlockSparse<float>::Options{.storage = Storage::int8});
  CHECK(op.kept().leftCols(64).all());
  const auto whole = compress<BlockSparse>(W, keep(1), calibration,
                                           BlockSparse<float>::Options{.storage = Storage::int8});
  CHECK(whole.to_dense() == BlockSparse<float>(W, 16, 16, Storage::int8).to_dense());
  const Matrix<double> V = random.matrix<double>(24, 40);
  Matrix<double> dead = random.matrix<double>(40, 30);
  dead.topRows(16).setZero();
  const std::vector<Matrix<double>> inputs{dead, Matrix<double>::Zero(40, 5),
                                           random.matrix<double>(40, 2)};
  for (const Matrix<double>& samples : inputs)
    for (const double share : {0.05, 1.0}) {
      const auto made = compress<BlockSparse>(V, keep(share), calibration_of(samples),
                                              stored_blocks<double>(8, 8, Storage::int4));
      CHECK(made.to_dense().allFinite());
      CHECK(made.to_dense().norm() <= 10 * V.norm());
    }
}

TEST_CASE("BlockSparse in narrow storage: refusals", "[block_sparse][rounding]") {
  const Matrix<float> W = Matrix<float>::Ones(20, 30);
  CHECK_THROWS_WITH(compress<BlockSparse>(W, keep(0.5), stored_blocks<float>(16, 16, Storage::f64)),
                    Contains("cannot store f64"));
  CHECK_THROWS_AS(compress<BlockSparse>(
                      W, keep(0.5), stored_blocks<float>(16, 16, Storage::int8, Levels::fitted)),
                  std::invalid_argument);
  // A table of levels is part of the smallest.
  CHECK_THROWS_WITH(compress<BlockSparse>(
                        W, bytes(23), stored_blocks<float>(16, 16, Storage::int4, Levels::fitted)),
                    Contains("a matrix without blocks needs 24"));
  CHECK_NOTHROW(compress<BlockSparse>(W, bytes(24),
                                      stored_blocks<float>(16, 16, Storage::int4, Levels::fitted)));
}

}  // namespace pleat::test
