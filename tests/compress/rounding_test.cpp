// SPDX-License-Identifier: MIT
// Calibrated rounding: the sweep and the descent on integers, exact packing, compress<Dense>.
#include "compress/rotation.hpp"
#include "compress/support.hpp"
#include "pleat/compress/cross_validate.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/permuted.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "pleat/compress/update.hpp"
#include "support/catch.hpp"
#include "support/flush_to_zero.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace pleat::test {
namespace {

using detail::Grid;

template <Real T>
using DenseOptions = typename Dense<T>::Options;
template <Real T>
using SemiStructuredOptions = typename SemiStructured<T>::Options;
template <Real T>
using OptionsOfLowRank = typename LowRank<T>::Options;

/// Whether every value is an integer of the grid times its scale.
bool lies_on(const Grid& grid, const Matrix<double>& Qt, const Matrix<double>& scales) {
  for (Index row = 0; row < Qt.cols(); ++row)
    for (Index i = 0; i < Qt.rows(); ++i) {
      const double scale = scales(i / grid.span, row);
      if (std::abs(scale * grid.number(Qt(i, row), scale) - Qt(i, row)) >
          1e-12 * std::abs(Qt(i, row)))
        return false;
    }
  return true;
}

/// The errors with uniform and with fitted levels, at the same share of the bytes.
template <template <Real> class Structure, class Options>
std::pair<double, double> errors_of_levels(Options options, Storage storage, const Matrix<float>& W,
                                           double share, const Calibration<float>& calibration) {
  options.storage = storage;
  const auto uniform = compress<Structure>(W, keep(share), calibration, options);
  options.levels = Levels::fitted;
  const auto fitted = compress<Structure>(W, keep(share), calibration, options);
  CHECK(double(fitted.bytes()) <= share * 4 * double(W.size()));
  CHECK(describe(fitted).find("_fitted") != std::string::npos);
  CHECK(describe(uniform).find("_fitted") == std::string::npos);
  return {relative_error(W, uniform, calibration), relative_error(W, fitted, calibration)};
}

}  // namespace

TEST_CASE("a sweep that rounds, or prunes and rounds, loses the sum of its squared errors",
          "[rounding]") {
  Random random(71);
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int3, Storage::int2,
                                Storage::int4_fitted, Storage::int2_fitted})
    for (const auto& [m, n] : {std::pair{1, 1}, {2, 3}, {3, 33}, {4, 130}, {3, 300}}) {
      INFO(m << " x " << n << ", " << to_string(storage));
      Matrix<double> H = gram_of(random, n, n / 2 + 2);
      const Matrix<double> Wt = random.matrix<double>(n, m);
      const auto factor = detail::inverse_factor(H);
      H.diagonal().array() += factor.damping;
      const Matrix<double> places = detail::column_sweep(Wt, factor, {{2, 4}})->values;
      const std::pair<detail::SweepRule, Grid> rules[] = {
          {{{1, 1}, nullptr, Grid::of(storage)}, Grid::of(storage)},
          {{{2, 4}, nullptr, Grid::of(storage, 2)}, Grid::of(storage, 2)},
          {{{1, 1}, &places, Grid::of(storage, 2)}, Grid::of(storage, 2)}};
      for (const auto& [rule, grid] : rules) {
        const auto swept = detail::column_sweep(Wt, factor, rule);
        CHECK(loss_of(H, Wt, swept->values) == Approx(swept->loss).epsilon(1e-9).margin(1e-14));
        CHECK(lies_on(grid, swept->values, swept->scales));
        if (rule.places != nullptr)
          CHECK((places.array() != 0 || swept->values.array() == 0).all());
      }
    }
}

TEST_CASE("scales of a sweep are those for the weights that errors have", "[rounding]") {
  Random random(78);
  for (const Storage storage : {Storage::int4, Storage::int3, Storage::int2}) {
    INFO(to_string(storage));
    Matrix<double> H = Matrix<double>::Zero(160, 160);
    for (Index i = 0; i < 160; ++i) H(i, i) = std::exp(random.uniform(-4, 4));
    const Matrix<double> Wt = random.matrix<double>(160, 7);
    const Matrix<double> nearest = Dense<double>(Wt.transpose(), storage).to_dense().transpose();
    // Columns are apart from each other: nothing is made up for.
    const auto swept =
        detail::column_sweep(Wt, detail::inverse_factor(H), {{1, 1}, nullptr, Grid::of(storage)});
    CHECK(loss_of(H, Wt, swept->values) < 0.8 * loss_of(H, Wt, nearest));
  }
}

TEST_CASE("the descent on integers and scales stays on its grid and never loses", "[rounding]") {
  Random random(72);
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int3, Storage::int2,
                                Storage::int4_fitted, Storage::int3_fitted})
    for (const Index n : {1, 3, 31, 200}) {
      INFO(n << " inputs, " << to_string(storage));
      const Grid grid = Grid::of(storage);
      const Matrix<double> H = gram_of(random, n, n + 3);
      const Matrix<double> Wt = random.matrix<double>(n, 5);
      auto swept = detail::column_sweep(Wt, detail::inverse_factor(H), {{1, 1}, nullptr, grid});
      detail::OnGrid Q{swept->values, swept->scales};
      double loss = loss_of(H, Wt, Q.values);
      for (int sweep = 0; sweep < 4; ++sweep) {
        const double next = detail::grid_descent(H, Wt, grid, Q, nullptr, 1);
        CHECK(next == Approx(loss_of(H, Wt, Q.values)).epsilon(1e-7).margin(1e-14));
        CHECK(next <= loss * (1 + 1e-9) + 1e-14);
        CHECK(lies_on(grid, Q.values, Q.scales));
        loss = next;
      }
      // Nothing is left to gain for a single integer.
      (void)detail::grid_descent(H, Wt, grid, Q, nullptr, 200, {}, 0);
      loss = loss_of(H, Wt, Q.values);
      for (Index i = 0; i < n; ++i)
        for (const int step : {-1, 1}) {
          Matrix<double> other = Q.values;
          const double scale = Q.scales(i / grid.span, 0);
          const int q = grid.numbers.nearest(other(i, 0) / scale) + step;
          if (q < grid.numbers.integers().least || q > grid.numbers.integers().most) continue;
          other(i, 0) = grid.numbers(q) * scale;
          CHECK(loss_of(H, Wt, other) >= loss * (1 - 1e-9) - 1e-14);
        }
    }
}

TEST_CASE("values on a grid are packed as they are", "[rounding]") {
  Random random(73);
  for (const auto& [storage, group, most] : {std::tuple{Storage::int8, 64, 127},
                                             {Storage::int4, 32, 7},
                                             {Storage::int3, 32, 3},
                                             {Storage::int2, 32, 1}}) {
    const Index m = 19;
    const Index n = 141;
    Matrix<float> scales(m, (n + group - 1) / group);
    for (Index j = 0; j < scales.cols(); ++j)
      for (Index i = 0; i < m; ++i)
        scales(i, j) = static_cast<float>(static_cast<Eigen::half>(
            static_cast<float>(random.uniform(0.01, 2) * (random.integer(0, 1) == 0 ? -1 : 1))));
    Matrix<float> values(m, n);
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < m; ++i)
        values(i, j) = static_cast<float>(random.integer(-most, most)) * scales(i, j / group);
    CHECK(Dense<float>(values, storage, scales).to_dense() == values);
    CHECK(Dense<float>(values, storage, scales).bytes() == Dense<float>(values, storage).bytes());

    // 2:4 of twice as many columns: stored values fill the same groups.
    Matrix<float> sparse = Matrix<float>::Zero(m, 2 * n);
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < m; ++i) sparse(i, 4 * (j / 2) + (i % 2) + 2 * (j % 2)) = values(i, j);
    sparse.col(2 * n - 1).setZero();
    const SemiStructured<float> op(sparse, storage, scales);
    CHECK(op.to_dense() == sparse);
    CHECK(SemiStructured<float>::from_parts(op.parts()).to_dense() == sparse);

    CHECK_THROWS_AS(Dense<float>(values, Storage::bf16, scales), std::invalid_argument);
    CHECK_THROWS_AS(Dense<float>(values, storage, Matrix<float>(scales.leftCols(1))),
                    std::invalid_argument);
    scales(3, 1) = 0;
    CHECK_THROWS_WITH(Dense<float>(values, storage, scales), Catch::Contains("row 3, group 1"));
    scales(3, 1) = std::numeric_limits<float>::infinity();
    CHECK_THROWS_AS(SemiStructured<float>(sparse, storage, scales), std::invalid_argument);
  }
}

TEST_CASE("calibrated rounding of a dense weight beats the nearest", "[rounding]") {
  Random random(74);
  const auto check = [&]<class T>(T) {
    for (const auto& [m, n] : {std::pair{1, 1}, {3, 2}, {5, 37}, {24, 128}, {7, 131}, {131, 7}})
      for (const Index samples : {1, 20, 400})
        for (const Storage storage :
             {Storage::int8, Storage::int4, Storage::int2, Storage::int3_fitted, Storage::bf16}) {
          INFO(m << " x " << n << ", " << samples << " samples, " << to_string(storage));
          const Matrix<T> W = random.matrix<T>(m, n);
          const auto calibration = exact_calibration(correlated_inputs<T>(random, n, samples));
          const auto op = compress<Dense>(W, keep(1000), calibration, {.storage = storage});
          const Dense<T> nearest(W, storage);
          CHECK(op.bytes() == nearest.bytes());
          CHECK(op.storage() == storage);
          const double error = relative_error(W, op, calibration);
          const double plain = relative_error(W, nearest, calibration);
          CHECK(error <= plain * (1 + 1e-6) + 1e-7);
          if (n >= 100 && storage != Storage::bf16) CHECK(error < 0.8 * plain);
          if (storage == Storage::bf16) CHECK(op.to_dense() == nearest.to_dense());
        }
  };
  check(float{});
  check(double{});
}

TEST_CASE("levels are fitted in the metric of the inputs, in every structure that rounds",
          "[rounding][slow]") {
  Random random(77);
  // What is heavily weighted has other numbers than the rest.
  Matrix<float> W = random.matrix<float>(48, 128);
  for (Index k = 0; k < 128; ++k)
    for (Index i = 0; i < 48; ++i) {
      const float w = W(i, k);
      W(i, k) = k % 4 == 0 ? std::copysign(0.3F + 0.05F * std::abs(w), w) : w * w * w;
    }
  Matrix<float> X = random.matrix<float>(128, 600);
  for (Index k = 0; k < 128; k += 4) X.row(k) *= 30;
  const auto calibration = exact_calibration(X);
  for (const Storage storage : {Storage::int4, Storage::int3, Storage::int2}) {
    CAPTURE(to_string(storage));
    const auto dense =
        errors_of_levels<Dense>(Dense<float>::Options(), storage, W, 0.2, calibration);
    CHECK(dense.second < (storage == Storage::int4 ? 0.9 : 1.02) * dense.first);
    const auto sparse = errors_of_levels<SemiStructured>(SemiStructured<float>::Options(), storage,
                                                         W, 0.3, calibration);
    CHECK(sparse.second < 1.02 * sparse.first);
    const auto low_rank =
        errors_of_levels<LowRank>(LowRank<float>::Options(), storage, W, 0.1, calibration);
    CHECK(low_rank.second < 1.05 * low_rank.first);
    const auto permuted = compress_permuted(W, keep(0.3), calibration,
                                            {.storage = storage, .levels = Levels::fitted});
    CHECK(describe(permuted).find("_fitted") != std::string::npos);
    CHECK(permuted.bytes() <= std::size_t(0.3 * 4 * 48 * 128));
  }
  // Named as a storage they are the same.
  CHECK(
      compress<Dense>(W, keep(1), calibration, {.storage = Storage::int3_fitted}).to_dense() ==
      compress<Dense>(W, keep(1), calibration, {.storage = Storage::int3, .levels = Levels::fitted})
          .to_dense());
  for (const Storage storage : {Storage::int8, Storage::bf16, Storage::f16, Storage::f32})
    CHECK_THROWS_WITH(compress<Dense>(W, keep(1), {.storage = storage, .levels = Levels::fitted}),
                      Catch::Contains("levels are fitted for int4, int3 and int2"));
  CHECK_THROWS_WITH(
      compress<LowRank>(W, keep(1), {.storage = Storage::int4, .levels = static_cast<Levels>(7)}),
      Catch::Contains("unknown levels"));
}

TEST_CASE("levels are closest where the metric is heavy", "[rounding]") {
  Random random(79);
  const Index n = 256;
  Matrix<double> Wt = random.matrix<double>(n, 40);
  Vector<double> metric = Vector<double>::Constant(n, 1e-3);
  for (Index k = 0; k < n; k += 2) {
    metric(k) = 1;
    Wt.row(k) = Wt.row(k).array().cube();
  }
  for (const Storage storage : {Storage::int4_fitted, Storage::int3_fitted, Storage::int2_fitted}) {
    CAPTURE(to_string(storage));
    const Grid grid = Grid::of(storage);
    const auto loss = [&](const Grid& fitted) {
      double sum = 0;
      for (Index row = 0; row < Wt.cols(); ++row)
        for (Index first = 0; first < n; first += grid.span) {
          Vector<double> values = Wt.col(row).segment(first, grid.span);
          const double scale = fitted.scale_for(values.data(), metric.data() + first, grid.span);
          for (Index i = 0; i < grid.span; ++i) {
            const double e = values(i) - scale * fitted.number(values(i), scale);
            sum += metric(first + i) * e * e;
          }
        }
      return sum;
    };
    const double weighted = loss(grid.fitted_to(Wt, false, metric));
    // Of few levels the steps end at one of several tables that are about as good.
    CHECK(weighted < (storage == Storage::int4_fitted ? 0.95 : 1.05) *
                         loss(grid.fitted_to(Wt, false, Vector<double>::Ones(n))));
    CHECK(weighted < 0.95 * loss(grid));
    CHECK(weighted < 0.95 * loss(Grid::of(storage == Storage::int4_fitted   ? Storage::int4
                                          : storage == Storage::int3_fitted ? Storage::int3
                                                                            : Storage::int2)));
    // Only what is not zero counts where it is sparse.
    Matrix<double> sparse = Wt;
    for (Index k = 1; k < n; k += 2) sparse.row(k).setZero();
    CHECK(grid.fitted_to(sparse, true, metric).numbers.levels() ==
          grid.fitted_to(sparse, true, Vector<double>::Ones(n)).numbers.levels());
  }
}

TEST_CASE("scales, threads and monitors of calibrated rounding", "[rounding]") {
  Random random(75);
  const Matrix<float> W = random.matrix<float>(40, 160);
  const Matrix<float> X = correlated_inputs<float>(random, 160, 90);
  const auto calibration = exact_calibration(X);
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int3}) {
    const Dense<float>::Options options{.storage = storage};
    const Matrix<float> expected = compress<Dense>(W, keep(1), calibration, options).to_dense();
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      CHECK(compress<Dense>(W, keep(1), calibration, options).to_dense() == expected);
    }
    set_num_threads(1);
    const double error = relative_error(W, Dense<float>(expected), calibration);
    for (const float factor : {1e-6F, 1e6F}) {
      const auto scaled = exact_calibration(X * factor);
      CHECK(relative_error(W, compress<Dense>(W, keep(1), scaled, options), calibration) ==
            Approx(error).epsilon(1e-2));
    }
    // A power of two scales the result and nothing else, where the scales of int4 reach.
    CHECK(compress<Dense>(Matrix<float>(W * 64), keep(1), calibration, options).to_dense() ==
          expected * 64);

    int calls = 0;
    (void)compress<Dense>(W, keep(1), calibration, {.storage = storage, .monitor = [&](auto) {
                                                      ++calls;
                                                      return true;
                                                    }});
    CHECK(calls > 4);
    const double plain = relative_error(W, Dense<float>(W, storage), calibration);
    for (int stop = 1; stop <= calls; ++stop) {
      int left = stop;
      const auto op =
          compress<Dense>(W, keep(1), calibration,
                          {.storage = storage, .monitor = [&](auto) { return --left > 0; }});
      CHECK(relative_error(W, op, calibration) <= plain * (1 + 1e-9));
    }
  }
}

TEST_CASE("weights of any size are rounded", "[rounding]") {
  Matrix<double> W = Matrix<double>::Ones(2, 40);
  const auto calibration = calibration_of(Matrix<double>::Ones(40, 3));
  for (const double largest : {4e5, 7e5, 1e7, 1e200})
    for (const Storage storage : {Storage::int4, Storage::int3, Storage::int2, Storage::int8,
                                  Storage::int4_fitted, Storage::int2_fitted}) {
      CAPTURE(largest, to_string(storage));
      W(1, 3) = largest;
      const auto op = compress<Dense>(W, keep(1), calibration, {.storage = storage});
      CHECK(op.to_dense().allFinite());
      CHECK(op.to_dense()(1, 3) == Approx(largest).epsilon(0.01));
    }
}

TEST_CASE("calibrated rounding is blind to the scale of the weight", "[rounding][slow]") {
  Random random(76);
  const auto check = [&]<class T>(T) {
    const Matrix<T> W = random.matrix<T>(12, 100);
    const auto calibration = calibration_of(correlated_inputs<T>(random, 100, 90));
    const bool is_float = std::is_same_v<T, float>;
    const auto errors = [&](const Matrix<T>& V, Storage storage) {
      return std::pair{
          relative_error(V, compress<Dense>(V, keep(1), calibration, {.storage = storage}),
                         calibration),
          relative_error(V,
                         compress<SemiStructured>(V, keep(1), calibration,
                                                  {.pattern = {2, 4}, .storage = storage}),
                         calibration)};
    };
    for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4,
                                  Storage::int2, Storage::int4_fitted}) {
      const auto [dense, sparse] = errors(W, storage);
      // Powers of two: how far the numbers of a float type lie apart is then the same.
      for (const int exponent : {-100, -26, -13, 17, 26, 100, is_float ? 110 : -400}) {
        INFO(to_string(storage) << " times 2^" << exponent);
        const auto scaled = errors(Matrix<T>(W * std::ldexp(T(1), exponent)), storage);
        // Levels are fitted by steps that a scale rounded otherwise may lead elsewhere.
        const double much = detail::has_fitted_levels(storage) ? 0.04 : 0.01;
        CHECK(scaled.first == Approx(dense).epsilon(much));
        CHECK(scaled.second == Approx(sparse).epsilon(much));
      }
    }
  };
  check(float{});
  check(double{});
}

TEST_CASE("what is compressed while subnormal floats are taken for 0 is a file for everyone",
          "[rounding]") {
  Random random(77);
  Matrix<float> W = random.matrix<float>(9, 100);
  W.row(3) *= 1e-37F;
  W.row(4) *= 1e-30F;
  const auto calibration = calibration_of(correlated_inputs<float>(random, 100, 90));
  for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4}) {
    INFO(to_string(storage));
    const auto plain = compress<Dense>(W, keep(1), calibration, {.storage = storage});
    std::optional<Dense<float>> flushed;
    std::optional<SemiStructured<float>> sparse;
    {
      const FlushToZero mode;
      flushed = compress<Dense>(W, keep(1), calibration, {.storage = storage});
      sparse = compress<SemiStructured>(W, keep(1), calibration,
                                        {.pattern = {2, 4}, .storage = storage});
      CHECK_NOTHROW(Dense<float>::from_parts(flushed->parts()));
      CHECK_NOTHROW(SemiStructured<float>::from_parts(sparse->parts()));
      CHECK_NOTHROW(Dense<float>::from_parts(plain.parts()));
    }
    const auto back = Dense<float>::from_parts(flushed->parts()).to_dense();
    CHECK(back == flushed->to_dense());
    CHECK(SemiStructured<float>::from_parts(sparse->parts()).to_dense() == sparse->to_dense());
    for (Index row = 0; row < W.rows(); ++row) {
      const auto error = [&](const Matrix<float>& V) {
        const Vector<double> difference = (V.row(row) - W.row(row)).transpose().cast<double>();
        return difference.norm() / W.row(row).cast<double>().norm();
      };
      INFO("row " << row);
      // In the row of tiny weights, on the way to its integers, small ones become 0.
      CHECK(error(back) <= 1.5 * error(plain.to_dense()) + (row == 3 ? 0.1 : 1e-6));
    }
  }
}

TEST_CASE("rotated inputs spread outliers before weights are rounded", "[rounding][rotation]") {
  Random random(78);
  const auto check = [&]<class T>(T) {
    Matrix<T> W = random.matrix<T>(24, 160);
    const Matrix<T> samples = correlated_inputs<T>(random, 160, 700);
    for (const Index j : {3, 40, 77, 141}) W.col(j) *= T(20);
    for (const double factor : {0.0, 0.05, 1.0}) {  // of what enters the outliers; 0: not known
      Matrix<T> X = samples;
      for (const Index j : {3, 40, 77, 141}) X.row(j) *= static_cast<T>(factor);
      const auto calibration = factor > 0 ? calibration_of(X) : Calibration<T>();
      const auto error = [&](bool rotate) {
        const auto op =
            compress<Dense>(W, keep(1), calibration, {.storage = Storage::int4, .rotate = rotate});
        CHECK(op.rotation().has_value() == rotate);
        return relative_error(W, op, calibration);
      };
      INFO("inputs times " << factor);
      CHECK(error(true) < 0.5 * error(false));
    }
  };
  check(float{});
  check(double{});
}

TEST_CASE("what is made in rotated inputs is the core of theirs, times the rotation",
          "[rounding][rotation]") {
  Random random(79);
  const auto check = [&]<class T>(T) {
    for (const auto& [m, n, block] :
         {std::tuple<Index, Index, Index>{1, 1, 1}, {3, 7, 4}, {9, 131, 128}, {131, 67, 64}}) {
      check_made_in_rotated_inputs<Dense, T>(DenseOptions<T>(), m, n, block);
      check_made_in_rotated_inputs<SemiStructured, T>(SemiStructuredOptions<T>{.pattern = {2, 4}},
                                                      m, n, block);
      check_made_in_rotated_inputs<LowRank, T>(OptionsOfLowRank<T>{.rank = 1}, m, n, block);
      INFO(m << " x " << n);
      const Matrix<T> W = random.matrix<T>(m, n);
      const auto H = Hadamard<T>::with_random_signs(n, block, 5);
      const Matrix<T> V = W * H.to_dense().transpose();
      const auto plain =
          compress<Dense>(W, keep(9), {.storage = Storage::int8, .rotate = true, .seed = 5});
      CHECK(plain.to_dense().isApprox(Dense<T>(V, Storage::int8).rotated(H).to_dense(), T(2e-2)));
    }
  };
  check(float{});
  check(double{});
}

TEST_CASE("any calibration is rotated, of any number of samples", "[rounding][rotation]") {
  Random random(80);
  const Index n = 70;
  const Matrix<float> W = random.matrix<float>(20, n);
  const Matrix<float> all = correlated_inputs<float>(random, n, 500);
  const Dense<float>::Options plain{.storage = Storage::int4};
  const Dense<float>::Options options{.storage = Storage::int4, .rotate = true, .seed = 9};
  const auto whole = calibration_of(all);
  // Of few samples at most a twentieth worse than without a calibration, of 30 a fifth better.
  const double blind = relative_error(W, compress<Dense>(W, keep(1), options), whole);
  const auto check = [&](const Calibration<float>& calibration) {
    const double rotated =
        relative_error(W, compress<Dense>(W, keep(1), calibration, options), whole);
    CAPTURE(rotated / blind);
    CHECK(rotated < (calibration.samples() < 30 ? 1.05 : 0.8) * blind);
  };
  for (const Index samples : {1, 2, 3, 30, 69, 70, 71, 500})
    for (const Folds folds : {Folds::one, Folds::two}) {
      CAPTURE(samples);
      Calibration<float> calibration(n, folds);
      calibration.add(all.leftCols(samples));
      check(calibration);
      calibration.row_weights(random.matrix<float>(20, 1).cwiseAbs() + Vector<float>::Ones(20));
      check(calibration);
      check(Calibration<float>::from_gram(calibration.gram(), samples));
      Calibration<float> pairs(n, folds);
      pairs.add(all.leftCols(samples), all.leftCols(samples) * 0.9F);
      // Of few samples, pairs are not believed: then the tenth between x and x' is lost as well.
      CHECK(relative_error(W, compress<Dense>(W, keep(1), pairs, options), pairs) <
            (samples < 30 ? 1.5 : 0.5) * blind);
      if (folds == Folds::two && samples > 2) {
        CHECK(cross_validate<Dense>(W, keep(1), calibration, options) <
              1.5 * cross_validate<Dense>(W, keep(1), calibration, plain));
      }
    }
  // Sums of samples that were let go say the same as the samples: but for fourth moments.
  const Calibration<float>& calibration = whole;
  const auto turned = detail::CalibrationAccess::rotated(calibration, [](const auto& A) {
    Matrix<double> result(A.rows(), A.cols());
    Hadamard<double>(n, 64).apply(Matrix<double>(A), result);
    return result;
  });
  Matrix<float> direct(n, 500);
  Hadamard<float>(n, 64).apply(all, direct);
  const auto expected = calibration_of(direct);
  CHECK(turned.samples() == 500);
  CHECK(turned.gram().isApprox(expected.gram(), 1e-5));
  CHECK(turned.gram() == turned.gram().transpose());
  CHECK(turned.mean().isApprox(expected.mean(), 1e-4));
  const auto folds = detail::CalibrationAccess::folds(turned);
  const auto others = detail::CalibrationAccess::folds(expected);
  for (const std::size_t k : {0U, 1U})
    CHECK((*folds)[k].gram().isApprox((*others)[k].gram(), 1e-5));
  const auto fourth = [](const auto& of) { return detail::CalibrationAccess::fourth(of); };
  const auto quartic = [](const auto& of) { return detail::CalibrationAccess::quartic(of); };
  CHECK(std::hypot(fourth(turned), quartic(turned)) ==
        Approx(std::hypot(fourth(expected), quartic(expected))).epsilon(1e-4));
  CHECK(fourth(turned) == Approx(fourth(expected)).epsilon(0.1));

  // The scale of samples, threads, and the seed.
  const Matrix<float> expected_op = compress<Dense>(W, keep(1), calibration, options).to_dense();
  for (const float factor : {1e-6F, 1e6F})
    CHECK(relative_error(W, compress<Dense>(W, keep(1), calibration_of(all * factor), options),
                         calibration) ==
          Approx(relative_error(W, Dense<float>(expected_op), calibration)).epsilon(0.01));
  set_num_threads(2);
  CHECK(compress<Dense>(W, keep(1), calibration, options).to_dense() == expected_op);
  set_num_threads(1);
  auto other = options;
  other.seed = 10;
  CHECK(compress<Dense>(W, keep(1), calibration, other).to_dense() != expected_op);
}

TEST_CASE("a rotation counts in budgets, and is refused where it is of no use",
          "[rounding][rotation]") {
  Random random(81);
  const Matrix<float> W = random.matrix<float>(12, 70);
  const auto calibration = calibration_of(correlated_inputs<float>(random, 70, 300));
  const auto least = static_cast<std::int64_t>(12 * (35 + 2 * 3) + 9);
  const Dense<float>::Options options{.storage = Storage::int4, .rotate = true};
  CHECK(compress<Dense>(W, bytes(least), options).bytes() == static_cast<std::size_t>(least));
  CHECK_THROWS_WITH(compress<Dense>(W, bytes(least - 1), options),
                    Catch::Contains("allows 500 bytes, but the matrix needs 501, rotated"));
  CHECK_THROWS_WITH(compress<Dense>(W, bytes(5), options), Catch::Contains("allows 5 bytes"));
  CHECK_THROWS_WITH(
      compress<SemiStructured>(W, keep(0.01), {.storage = Storage::int4, .rotate = true}),
      Catch::Contains(", rotated"));
  for (const double share : {0.05, 0.1, 0.2}) {
    const auto op = compress<LowRank>(W, keep(share), {.storage = Storage::int8, .rotate = true});
    CHECK(static_cast<double>(op.bytes()) <= share * 4 * 12 * 70);
    CHECK(op.V().rotation().has_value());
    CHECK(LowRank<float>::from_parts(op.parts()).to_dense() == op.to_dense());
    const auto all = static_cast<std::int64_t>(op.bytes());
    CHECK(recompress(op, bytes(all)).V().rotation().has_value());
    CHECK(recompress(op, bytes(all - 1)).bytes() < op.bytes());
    CHECK(op.parameters() ==
          "rank " + std::to_string(op.rank()) + ", stored as int8, rotated by blocks of 64");
  }
  for (const double most : {0.5, 0.2, 0.1}) {
    CHECK(relative_error(W,
                         compress<LowRank>(W, error(most), calibration,
                                           {.storage = Storage::int8, .rotate = true}),
                         calibration) <= most);
    CHECK(relative_error(W, compress<Dense>(W, error(most), calibration, options), calibration) <=
          most);
  }
  CHECK_THROWS_WITH(compress<Dense>(W, error(0.001), calibration, options),
                    Catch::Contains("error(0.001) cannot be met"));
  CHECK_THROWS_WITH(compress<Dense>(W, keep(1), {.rotate = true}),
                    Catch::Contains("compress<Dense>: rotate is for narrow storage, not f32"));
  CHECK_THROWS_WITH(compress<LowRank>(W, keep(1), {.rotate = true}),
                    Catch::Contains("compress<LowRank>: rotate is for narrow storage"));
  CHECK_THROWS_WITH(compress_permuted(W, keep(1), {}, {.storage = Storage::int4, .rotate = true}),
                    Catch::Contains("permuted or rotated"));
  CHECK_THROWS_WITH(
      compress<Dense>(Matrix<float>(W.cwiseAbs() * 0 + W.Ones(12, 70) * 3e38F), keep(1), options),
      Catch::Contains("the rotated weights"));
  // A stopped compression is what there was.
  const auto stopped = compress<Dense>(
      W, keep(1), calibration,
      {.storage = Storage::int4, .rotate = true, .monitor = [](auto) { return false; }});
  CHECK(relative_error(W, stopped, calibration) < 0.2);
}

}  // namespace pleat::test
