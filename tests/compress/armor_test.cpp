// SPDX-License-Identifier: MIT
// compress<Armor> as users meet it: never worse than 2:4, within its budget, in any shape.
#include "pleat/compress/armor.hpp"

#include "compress/real_layers.hpp"
#include "compress/rotation.hpp"
#include "compress/support.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <array>
#include <cmath>
#include <string>

namespace pleat::test {
namespace {

using ArmorOptions = Armor<float>::Options;

Calibration<float> random_calibration(Random& random, Index inputs, Index samples) {
  Calibration<float> calibration(inputs);
  calibration.add(correlated_inputs<float>(random, inputs, samples));
  return calibration.shrinkage(0);  // what is compared are fits of these samples
}

/// The matrix that ARMOR starts from.
SemiStructured<float> pruned(const Matrix<float>& W, const Calibration<float>& calibration,
                             SparsePattern pattern = {2, 4}) {
  return compress<SemiStructured>(W, keep(1000), calibration, {.pattern = pattern});
}

std::string message_of(const Matrix<float>& W, const Budget& budget, const ArmorOptions& options) {
  try {
    (void)compress<Armor>(W, budget, options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("ARMOR of any shape is never worse than compress<SemiStructured>", "[armor]") {
  Random random(921);
  for (const auto& [m, n] : {std::pair<Index, Index>{1, 1},
                             {1, 9},
                             {9, 1},
                             {2, 3},
                             {7, 13},
                             {31, 37},
                             {40, 6},
                             {6, 40},
                             {48, 64}}) {
    const Matrix<float> W = random.matrix<float>(m, n);
    for (const Index samples : {Index{0}, Index{3}, 3 * n}) {
      INFO(m << " x " << n << ", " << samples << " samples");
      const auto calibration =
          samples > 0 ? random_calibration(random, n, samples) : Calibration<float>();
      for (const Index block : {1, 3, 8}) {
        const SparsePattern pattern = block == 3 ? SparsePattern{8, 16} : SparsePattern{2, 4};
        const auto op = compress<Armor>(W, keep(1000), calibration,
                                        ArmorOptions{.block_rows = std::min(block, m),
                                                     .block_cols = std::min(block + 1, n),
                                                     .rounds = 3,
                                                     .pattern = pattern});
        CHECK(op.S().pattern() == pattern);
        CHECK(op.block_rows() == std::min(block, m));
        CHECK(op.block_cols() == std::min(block + 1, n));
        CHECK(relative_error(W, op, calibration) <=
              relative_error(W, pruned(W, calibration, pattern), calibration) * 1.00001 + 1e-5);
      }
      // Nothing is chosen: the largest blocks there are.
      const auto op = compress<Armor>(W, keep(1000), calibration, ArmorOptions{.rounds = 1});
      CHECK(op.block_rows() == m);
      CHECK(op.block_cols() == n);
    }
  }
}

TEST_CASE("ARMOR beats its 2:4 by far where inputs are correlated", "[armor]") {
  Random random(922);
  const Matrix<float> W = random.matrix<float>(64, 96);
  const auto calibration = random_calibration(random, 96, 400);
  const auto swept = compress<SemiStructured>(
      W, keep(1), calibration,
      {.criterion = PruneCriterion::sparsegpt, .refit = false, .pattern = {2, 4}});
  const double before = relative_error(W, swept, calibration);
  const auto op = compress<Armor>(W, keep(0.65), calibration);
  CHECK(op.bytes() <= keep(0.65).max_bytes(64, 96, 4));
  CHECK(relative_error(W, op, calibration) < 0.8 * before);
  // What the proxy does not see, it cannot make small.
  const auto proxy =
      compress<Armor>(W, keep(0.65), calibration, ArmorOptions{.objective = ArmorObjective::proxy});
  CHECK(relative_error(W, op, calibration) < relative_error(W, proxy, calibration));
  // More rounds are not worse.
  CHECK(relative_error(W, compress<Armor>(W, keep(0.65), calibration, ArmorOptions{.rounds = 24}),
                       calibration) <=
        relative_error(W, compress<Armor>(W, keep(0.65), calibration, ArmorOptions{.rounds = 2}),
                       calibration));
}

TEST_CASE("ARMOR takes the largest blocks that the budget allows", "[armor]") {
  Random random(923);
  const Matrix<float> W = random.matrix<float>(96, 160);
  for (const double share : {0.56, 0.6, 0.75, 1.5}) {
    INFO(share);
    const auto op = compress<Armor>(W, keep(share), ArmorOptions{.rounds = 1});
    const std::size_t limit = keep(share).max_bytes(96, 160, 4);
    CHECK(op.bytes() <= limit);
    const bool multiple = op.block_rows() >= 16;
    if (multiple) CHECK((op.block_rows() % 16 == 0 || op.block_rows() == 96));
    // One step more of A would not fit.
    if (op.block_rows() < 96)
      CHECK(op.bytes() + static_cast<std::size_t>(4 * 96 * (multiple ? 17 : 2)) > limit);
  }
}

TEST_CASE("ARMOR within an error takes small blocks", "[armor]") {
  Random random(924);
  const Matrix<float> W = random.matrix<float>(40, 48);
  const auto small = compress<Armor>(W, error(0.33), ArmorOptions{.rounds = 2});
  const auto large = compress<Armor>(W, error(0.2), ArmorOptions{.rounds = 2});
  CHECK(relative_error(W, small) <= 0.33);
  CHECK(relative_error(W, large) <= 0.2);
  CHECK(small.bytes() < large.bytes());
}

TEST_CASE("ARMOR is blind to scales, and the same for any number of threads", "[armor]") {
  Random random(925);
  const Matrix<float> W = random.matrix<float>(45, 70);
  const Matrix<float> X = correlated_inputs<float>(random, 70, 200);
  const auto run = [&](float of_weights, float of_inputs) {
    Calibration<float> calibration(70);
    calibration.add(Matrix<float>(of_inputs * X));
    return compress<Armor>(Matrix<float>(of_weights * W), keep(0.7), calibration,
                           ArmorOptions{.rounds = 4})
        .to_dense();
  };
  const Matrix<float> expected = run(1, 1);
  CHECK(run(0x1p20F, 0x1p-10F) == expected * 0x1p20F);
  Calibration<float> calibration(70);
  calibration.add(X);
  const double reached = relative_error(W, Dense<float>(expected), calibration);
  for (const float scale : {1e-6F, 1e6F}) {
    CHECK(relative_error(W, Dense<float>(run(1, scale)), calibration) ==
          Approx(reached).epsilon(0.02));
    CHECK(relative_error(W, Dense<float>(run(scale, 1) / scale), calibration) ==
          Approx(reached).epsilon(0.02));
  }
  for (const int threads : {2, 3}) {
    set_num_threads(threads);
    CHECK(run(1, 1) == expected);
  }
  set_num_threads(1);
}

TEST_CASE("ARMOR's core in narrow storage", "[armor]") {
  Random random(926);
  const Matrix<float> W = random.matrix<float>(64, 128);
  const auto calibration = random_calibration(random, 128, 500);
  const auto with = [&](Storage storage) {
    return compress<Armor>(
        W, keep(1), calibration,
        ArmorOptions{
            .block_rows = 8, .block_cols = 8, .rounds = 4, .pattern = {4, 8}, .storage = storage});
  };
  const auto full = with(Storage::f32);
  const double error = relative_error(W, full, calibration);
  const auto int8 = with(Storage::int8);
  CHECK(int8.S().storage() == Storage::int8);
  CHECK(int8.bytes() < full.bytes() / 2);
  CHECK(relative_error(W, int8, calibration) <= 1.05 * error);
  // Later columns, then A and B, make up for a part of the rounding.
  const auto int4 = with(Storage::int4);
  const Armor<float> nearest(full.A(), full.S().stored_as(Storage::int4), full.B());
  const double lost = relative_error(W, nearest, calibration) - error;
  CHECK(relative_error(W, int4, calibration) - error < 0.5 * lost);
}

TEST_CASE("ARMOR in rotated inputs", "[armor][rotation]") {
  for (const auto& [m, n, block] : {std::array<Index, 3>{1, 1, 1}, {3, 7, 4}, {9, 131, 128}})
    check_made_in_rotated_inputs<Armor, float>(
        ArmorOptions{.block_rows = 1, .block_cols = 1, .rounds = 1, .pattern = {2, 4}}, m, n,
        block);
  const auto [plain, rotated] =
      errors_of_rotation<Armor>(ArmorOptions{.rounds = 4, .pattern = {2, 4}}, 0.2);
  CAPTURE(plain, rotated);
  CHECK(rotated < 0.8 * plain);

  // Nor is it worse there than the matrix that it starts from there.
  Random random(927);
  const Matrix<float> W = random.matrix<float>(31, 70);
  const auto calibration = random_calibration(random, 70, 210);
  const auto start = compress<SemiStructured>(
      W, keep(1), calibration, {.pattern = {4, 8}, .storage = Storage::int4, .rotate = true});
  const ArmorOptions options{.block_rows = 1,
                             .block_cols = 1,
                             .rounds = 1,
                             .pattern = {4, 8},
                             .storage = Storage::int4,
                             .rotate = true};
  const auto op = compress<Armor>(W, keep(2), calibration, options);
  CHECK(relative_error(W, op, calibration) <= relative_error(W, start, calibration) * (1 + 1e-6));
  const double reached = relative_error(W, op, calibration);
  const double most = 1.02 * reached;
  CHECK(relative_error(W, compress<Armor>(W, error(most), calibration, options), calibration) <=
        most);
}

TEST_CASE("wrappers are no worse than none in any storage", "[armor]") {
  Random random(928);
  for (const auto& [m, n, block] : {std::array<Index, 3>{31, 70, 1}, {64, 64, 4}}) {
    const Matrix<float> W = random.matrix<float>(m, n);
    const auto calibration = random_calibration(random, n, 3 * n);
    for (const Storage storage : {Storage::bf16, Storage::f16, Storage::int8, Storage::int4}) {
      const SparsePattern pattern = block == 1 ? SparsePattern{4, 8} : SparsePattern{8, 16};
      CAPTURE(m, n, int(storage));
      const auto plain = compress<SemiStructured>(
          W, keep(1), calibration,
          SemiStructured<float>::Options{.pattern = pattern, .storage = storage});
      const auto op = compress<Armor>(W, keep(2), calibration,
                                      ArmorOptions{.block_rows = block,
                                                   .block_cols = block,
                                                   .rounds = 1,
                                                   .pattern = pattern,
                                                   .storage = storage});
      CHECK(op.S().storage() == storage);
      CHECK(relative_error(W, op, calibration) <= relative_error(W, plain, calibration));
    }
  }
}

namespace {

/// Inputs that leave directions free, as `kind` says, of which there are 7.
Matrix<float> degenerate_inputs(Random& random, Index n, int kind) {
  Matrix<float> X = random.matrix<float>(n, 4 * n);
  switch (kind) {
    case 0:  // groups of four that are one
      for (Index i = 0; i < n; ++i) X.row(i) = X.row(i - i % 4).eval();
      return X;
    case 1:
      for (Index i = 0; i < n; ++i) X.row(i) = X.row(i - i % 2).eval();
      return X;
    case 2:  // the same far from each other
      for (Index i = 0; i < n; ++i) X.row(i) = X.row(i % (n / 4)).eval();
      return X;
    case 3: return X.leftCols(n / 4);
    case 4: X.topRows(n / 2).setZero(); return X;
    case 5: return random.matrix<float>(n, n / 8) * random.matrix<float>(n / 8, 4 * n);
    default:  // some next to nothing
      for (Index i = 0; i < n; ++i) X.row(i) *= std::pow(10.0F, float(-6 * i) / float(n));
      return X;
  }
}

/// || (W - What) X || / || W X ||
double error_on(const Matrix<float>& W, const Matrix<float>& What, const Matrix<float>& X) {
  const Matrix<double> input = X.cast<double>();
  return ((W - What).cast<double>() * input).norm() / (W.cast<double>() * input).norm();
}

}  // namespace

TEST_CASE("where inputs leave directions free, ARMOR is as tame as its 2:4, and never worse",
          "[armor]") {
  Random random(931);
  for (const auto& [m, n] : {std::pair<Index, Index>{16, 64}, {48, 32}})
    for (int kind = 0; kind < 7; ++kind) {
      const Matrix<float> W = random.matrix<float>(m, n);
      const Matrix<float> X = degenerate_inputs(random, n, kind);
      const float size = X.norm() / std::sqrt(float(X.size()));
      const Matrix<float> near = X + 1e-3F * size * random.matrix<float>(n, X.cols());
      const auto calibration = calibration_of(X);
      const Matrix<float> plain = pruned(W, calibration).to_dense();
      for (const double share : {0.65, 1.0, 1.5}) {
        CAPTURE(m, n, kind, share);
        const Matrix<float> What = compress<Armor>(W, keep(share), calibration,
                                                   ArmorOptions{.rounds = 6, .pattern = {2, 4}})
                                       .to_dense();
        CHECK(error_on(W, What, X) <= error_on(W, plain, X) * 1.000001 + 1e-7);
        CHECK(error_on(W, What, near) <= 1.5 * error_on(W, plain, near) + 1e-6);
        CHECK(What.cwiseAbs().maxCoeff() <=
              8 * std::max(W.cwiseAbs().maxCoeff(), plain.cwiseAbs().maxCoeff()));
      }
    }
}

TEST_CASE("where inputs leave directions free, wrappers are no worse than none in any storage",
          "[armor]") {
  Random random(932);
  for (int kind = 0; kind < 7; ++kind)
    for (const Storage storage :
         {Storage::f32, Storage::bf16, Storage::f16, Storage::int8, Storage::int4}) {
      const SparsePattern pattern = kind % 2 == 0 ? SparsePattern{2, 4} : SparsePattern{8, 16};
      CAPTURE(kind, int(storage), to_string(pattern));
      const Matrix<float> W = random.matrix<float>(24, 32);
      const Matrix<float> X = degenerate_inputs(random, 32, kind);
      const auto calibration = calibration_of(X);
      const Matrix<float> plain =
          compress<SemiStructured>(
              W, keep(1), calibration,
              SemiStructured<float>::Options{.pattern = pattern, .storage = storage})
              .to_dense();
      const Matrix<float> What =
          compress<Armor>(W, keep(1), calibration,
                          ArmorOptions{.rounds = 4, .pattern = pattern, .storage = storage})
              .to_dense();
      CHECK(error_on(W, What, X) <= error_on(W, plain, X) * 1.000001 + 1e-7);
      CHECK(What.cwiseAbs().maxCoeff() <=
            8 * std::max(W.cwiseAbs().maxCoeff(), plain.cwiseAbs().maxCoeff()));
    }
}

TEST_CASE("outputs of ARMOR count by their weights", "[armor]") {
  Random random(927);
  const Matrix<double> W = random.matrix<double>(24, 32);
  Vector<double> weights = Vector<double>::Ones(24);
  weights.head(8).setConstant(100);
  weights(20) = 0;
  auto calibration = Calibration<double>::from_gram(Matrix<double>::Identity(32, 32), 32);
  const Armor<double>::Options options{.block_rows = 8, .block_cols = 8, .rounds = 4};
  const auto plain = compress<Armor>(W, keep(2), calibration, options);
  calibration.row_weights(weights);
  const auto weighted = compress<Armor>(W, keep(2), calibration, options);
  CHECK(relative_error(W, weighted, calibration) < relative_error(W, plain, calibration));
  const Matrix<double> metric = weights.asDiagonal();
  calibration.output_metric(metric);
  CHECK(compress<Armor>(W, keep(2), calibration, options).to_dense() == weighted.to_dense());
}

TEST_CASE("what is easy for ARMOR", "[armor]") {
  Random random(928);
  SECTION("zeros") {
    const Matrix<float> zero = Matrix<float>::Zero(9, 12);
    const auto calibration = random_calibration(random, 12, 40);
    CHECK(compress<Armor>(zero, keep(2), calibration).to_dense() == zero);
    CHECK(compress<Armor>(zero, keep(2), ArmorOptions{.objective = ArmorObjective::proxy})
              .to_dense() == zero);
  }
  SECTION("2:4 already") {
    const Matrix<float> W = pruned(random.matrix<float>(12, 16), {}).to_dense();
    const auto calibration = random_calibration(random, 16, 40);
    CHECK(relative_error(W, compress<Armor>(W, keep(2), calibration), calibration) <= 1e-6);
  }
  SECTION("samples that were all zero count as none") {
    const Matrix<float> W = random.matrix<float>(12, 16);
    Calibration<float> blind(16);
    blind.add(Matrix<float>::Zero(16, 5));
    CHECK(compress<Armor>(W, keep(2), blind).to_dense() == compress<Armor>(W, keep(2)).to_dense());
  }
}

TEST_CASE("a stopped ARMOR is the best so far", "[armor]") {
  Random random(929);
  const Matrix<float> W = random.matrix<float>(32, 64);
  const auto calibration = random_calibration(random, 64, 200);
  // After so many reports: while the 2:4 is sought, and in the rounds.
  Index reports = 0;
  Index pruning = 0;
  const auto run = [&](Index stop, double& told) {
    reports = 0;
    return compress<Armor>(W, keep(0.7), calibration,
                           ArmorOptions{.rounds = 8, .monitor = [&](const Progress& progress) {
                                          if (progress.phase == "round")
                                            CHECK(progress.iterations == 8);
                                          else if (progress.phase != "descent")
                                            pruning = reports + 1;
                                          CHECK(progress.loss <= told);
                                          told = progress.loss;
                                          return ++reports < stop;
                                        }});
  };
  double first = 1;
  (void)run(1000000, first);
  CHECK(reports > pruning);
  double previous = 2;
  for (const Index stop :
       {Index{1}, Index{2}, pruning / 2, pruning, pruning + 1, pruning + 2, pruning + 6}) {
    double told = 1;
    const auto op = run(stop, told);
    const double reached = relative_error(W, op, calibration);
    CHECK(reached <= told * 1.0001);
    CHECK(reached <= previous * 1.000001);
    previous = reached;
  }
}

TEST_CASE("a core of wider groups loses less, its places are masks where nothing else was said",
          "[armor]") {
  Random random(935);
  const Matrix<float> W = random.matrix<float>(64, 96);
  const auto calibration = random_calibration(random, 96, 400);
  double before = 1;
  for (const SparsePattern pattern : {SparsePattern{2, 4}, {4, 8}, {8, 16}}) {
    const auto op =
        compress<Armor>(W, keep(0.65), calibration, ArmorOptions{.rounds = 6, .pattern = pattern});
    CHECK(op.bytes() <= keep(0.65).max_bytes(64, 96, 4));
    CHECK(op.S().pattern() == pattern);
    CHECK(op.S().places() == (pattern.group == 4 ? Places::codes : Places::masks));
    const double error = relative_error(W, op, calibration);
    CHECK(error < 0.97 * before);
    before = error;
  }
  const auto by_target = [&](const char* target) {
    return compress<Armor>(W, keep(0.65), calibration, ArmorOptions{.rounds = 1, .target = target})
        .S()
        .pattern();
  };
  CHECK(by_target("sse2") == SparsePattern{2, 4});
  CHECK(by_target("avx512") == SparsePattern{8, 16});
  CHECK(compress<Armor>(W, keep(0.65), calibration,
                        ArmorOptions{.rounds = 1, .pattern = {8, 16}, .places = Places::codes})
            .S()
            .places() == Places::codes);
}

TEST_CASE("what ARMOR cannot do throws, and says why", "[armor]") {
  using Catch::Contains;
  Random random(930);
  const Matrix<float> W = random.matrix<float>(12, 16);
  CHECK_THAT(message_of(W, keep(0.5), {}),
             Contains("keep(0.5) of a 12 x 16 matrix allows 384 bytes") &&
                 Contains("blocks of 1 and 1 needs 520"));
  CHECK_THAT(message_of(W, keep(0.7), ArmorOptions{.block_rows = 12}),
             Contains("blocks of 12 and 1"));
  CHECK_THAT(message_of(W, keep(9), ArmorOptions{.block_rows = -1}), Contains("blocks of -1"));
  CHECK_THAT(message_of(W, keep(9), ArmorOptions{.block_cols = 17}),
             Contains("12 x 16 matrix has no blocks of 0 and 17"));
  CHECK_THAT(message_of(W, keep(9), ArmorOptions{.objective = ArmorObjective(7)}),
             Contains("objective"));
  CHECK_THAT(message_of(W, keep(9), ArmorOptions{.rounds = -2}), Contains("-2"));
  CHECK_THAT(message_of(W, keep(9), ArmorOptions{.storage = Storage::f64}), Contains("f64"));
  CHECK_THAT(message_of(W, error(0.01), ArmorOptions{.block_rows = 1, .block_cols = 1}),
             Contains("error(0.01) cannot be met: with blocks of 1 and 1"));
}

TEST_CASE("ARMOR on two layers of a sentence encoder", "[armor][real][slow]") {
  const auto layers = RealLayers::open();
  if (!layers) return;
  struct Layer {
    const char* name;
    double error;       // of 2:4 and a low rank of the same size
    double best_known;  // of numpy's ARMOR of eight prunings
    Index rounds;       // half of what is taken by default and less, to save time
  };
  for (const auto& [name, expected, best_known, rounds] :
       {Layer{"layer0.attn_out", .255, .230, 10}, Layer{"layer0.residual_dense", .119, .118, 3}}) {
    INFO(name);
    const Matrix<float> W = layers->weights(name);
    const auto calibration = layers->fitted(name);
    const auto held_out = layers->held_out(name);
    const auto op = compress<Armor>(W, keep(0.575), calibration, ArmorOptions{.rounds = rounds});
    CHECK(relative_error(W, op, calibration) < best_known);
    CHECK(relative_error(W, op, held_out) < expected);
  }
  // Where 2:4 is good already, and one round is all there is; a part of the rows, to save time.
  const Matrix<float> W = layers->weights("layer0.ffn1").topRows(64);
  const auto calibration = layers->fitted("layer0.ffn1");
  const auto op = compress<Armor>(W, keep(0.575), calibration, ArmorOptions{.rounds = 1});
  CHECK(relative_error(W, op, calibration) <=
        relative_error(W, pruned(W, calibration), calibration));
}

}  // namespace pleat::test
