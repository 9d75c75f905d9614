// SPDX-License-Identifier: MIT
// Options::activations: what makers do with it, and what they refuse.
#include "compress/support.hpp"
#include "pleat/pleat.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <stdexcept>
#include <string>

namespace pleat::test {
namespace {

/// Rounded activations are close to native ones, and each is what describe says.
template <template <Real> class Structure, class Options>
void check_activations(Options options, const Matrix<float>& W, const Matrix<float>& X) {
  for (const Storage storage : {Storage::int8, Storage::int4}) {
    options.storage = storage;
    options.activations = Activations::native;
    const auto native = compress<Structure>(W, pleat::keep(0.6), options);
    options.activations = Activations::int8;
    const auto rounded = compress<Structure>(W, pleat::keep(0.6), options);
    options.activations = Activations::automatic;
    const auto automatic = compress<Structure>(W, pleat::keep(0.6), options);
    options.activations = Activations::bf16;
    CAPTURE(describe(rounded));
    CHECK_THROWS_WITH(compress<Structure>(W, pleat::keep(0.6), options),
                      Catch::Contains("do not meet"));
    CHECK(describe(rounded).find("activations as int8") != std::string::npos);
    CHECK(describe(native).find("activations") == std::string::npos);
    const Matrix<float> stored = native.to_dense();
    CHECK((rounded.to_dense() - stored).norm() <= 1e-5F * stored.norm());
    CHECK((AnyOperator<float>(Sum(rounded, automatic)).to_dense() - 2 * stored).norm() <=
          1e-5F * stored.norm());
    CHECK(relative_error(W, rounded) == Approx(relative_error(W, native)).margin(1e-6));
    Matrix<float> Y(W.rows(), X.cols());
    Matrix<float> expected(W.rows(), X.cols());
    native.apply(X, expected);
    for (const auto* const op : {&rounded, &automatic}) {
      op->apply(X, Y);
      CHECK((Y - expected).norm() <= 0.04F * expected.norm());
    }
    rounded.apply(X, Y);
    CHECK(Y != expected);
    CHECK(apply_error(W, rounded, X) != apply_error(W, native, X));
  }
  options.storage = Storage::f32;
  options.activations = Activations::int8;
  CHECK_THROWS_WITH(compress<Structure>(W, pleat::keep(1.5), options), Catch::Contains("f32"));
}

}  // namespace

TEST_CASE("activations: every maker gives its narrow parts what was asked for",
          "[activations][slow]") {
  Random random(61);
  const Matrix<float> W = random.matrix<float>(96, 80);
  const Matrix<float> X = random.matrix<float>(80, 5);
  check_activations<Dense>(Dense<float>::Options(), W, X);
  check_activations<LowRank>(LowRank<float>::Options(), W, X);
  check_activations<Monarch>(Monarch<float>::Options(), W, X);
  check_activations<Kronecker>(Kronecker<float>::Options(), W, X);
  check_activations<Blast>(Blast<float>::Options(), W, X);
  SparseLowRank<float>::Options of_pattern;  // which activations have a say in where it is open
  of_pattern.pattern = {4, 8};
  check_activations<SparseLowRank>(of_pattern, W, X);
  check_activations<BlockDictionary>(BlockDictionary<float>::Options(), W, X);
  check_activations<SparseDictionary>(SparseDictionary<float>::Options(), W, X);
  check_activations<Cur>(Cur<float>::Options(), W, X);
}

TEST_CASE("activations: N:M, where the pattern has a kernel", "[activations]") {
  Random random(62);
  const Matrix<float> W = random.matrix<float>(96, 80);
  using Options = SemiStructured<float>::Options;
  const auto made = [&](SparsePattern pattern, Storage storage, Activations activations) {
    return compress<SemiStructured>(
        W, pleat::keep(1),
        Options{.pattern = pattern, .storage = storage, .activations = activations});
  };
  CHECK(made({2, 4}, Storage::int8, Activations::int8).activations() == Activations::int8);
  CHECK(made({4, 8}, Storage::int8, Activations::int8).activations() == Activations::int8);
  CHECK(made({2, 4}, Storage::bf16, Activations::bf16).activations() == Activations::bf16);
  CHECK(made({8, 16}, Storage::int8, Activations::int8).activations() == Activations::int8);
  const auto& table = kernel::active<float>();
  const bool picks = kernel::has_semi_structured_dot(table.dots, table.picks, kernel::Format::int8,
                                                     {3, 8}, kernel::Activations::int8);
  CHECK(made({3, 8}, Storage::int8, Activations::automatic).activations() ==
        (picks ? Activations::int8 : Activations::native));
  CHECK(made({3, 8}, Storage::int8, Activations::int8).activations() == Activations::int8);
  CHECK(made({3, 8}, Storage::int4, Activations::automatic).activations() == Activations::native);
  // What does not meet is refused before any work is done; what is open becomes what meets.
  bool worked = false;
  const Monitor monitor = [&](const Progress&) { return worked = true; };
  CHECK_THROWS_WITH(compress<SemiStructured>(W, pleat::keep(1),
                                             Options{.pattern = {3, 8},
                                                     .storage = Storage::int8,
                                                     .activations = Activations::int16,
                                                     .monitor = monitor}),
                    Catch::Contains("a power of two would have to be kept"));
  CHECK_FALSE(worked);
  CHECK_THROWS_WITH(made({0, 0}, Storage::int4, Activations::int16),
                    Catch::Contains("do not meet"));
  const auto chosen = [&](const char* target, Activations activations) {
    return compress<SemiStructured>(
               W, pleat::keep(1),
               Options{.target = target, .storage = Storage::int8, .activations = activations})
        .pattern();
  };
  CHECK(chosen("avx512+vnni", Activations::automatic) == SparsePattern{4, 8});
  CHECK(chosen("avx512+vnni", Activations::native) == SparsePattern{8, 16});
  CHECK(chosen("avx512", Activations::automatic) == SparsePattern{8, 16});
  CHECK(chosen("avx512", Activations::int8) == SparsePattern{8, 16});
  CHECK_THROWS_AS(made({2, 4}, Storage::int8, Activations::bf16), std::invalid_argument);
  const auto armor = compress<Armor>(
      W, pleat::keep(1),
      Armor<float>::Options{
          .pattern = {2, 4}, .storage = Storage::int8, .activations = Activations::int8});
  CHECK(armor.S().activations() == Activations::int8);
  CHECK(describe(armor).find("activations as int8") != std::string::npos);
}

}  // namespace pleat::test
