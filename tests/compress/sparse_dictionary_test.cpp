// SPDX-License-Identifier: MIT
// compress<SparseDictionary>: codes of every row over one dictionary.
#include "pleat/compress/sparse_dictionary.hpp"

#include "compress/rotation.hpp"
#include "compress/support.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/shared.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;
using Solver = DictionarySolver;

/// Rows with codes of s in every so many of k orthonormal atoms, with values of about 1 to 2.
struct PlantedCodes {
  Matrix<double> C;
  Matrix<double> D;
};
PlantedCodes planted_codes(Random& random, Index m, Index k, Index n, SparsePattern pattern) {
  const Matrix<double> square = random.matrix<double>(n, n);
  const Matrix<double> atoms = detail::orthonormal(square).leftCols(k).transpose();
  Matrix<double> C = Matrix<double>::Zero(m, k);
  for (Index i = 0; i < m; ++i)
    for (Index first = 0; first < k; first += pattern.group)
      for (Index e = 0; e < pattern.kept; ++e) {
        const auto at = static_cast<Index>(random.uniform(0, double(pattern.group)));
        const double size = random.uniform(1, 2);
        const double sign = random.uniform(-1, 1);
        C(i, first + (std::min)(at, pattern.group - 1)) = sign < 0 ? -size : size;
      }
  return {C, atoms};
}

/// In every row of C at most so many entries of every group.
template <Real T>
bool has_codes(const SparseDictionary<T>& op, SparsePattern pattern) {
  const Matrix<T> C = op.codes().to_dense();
  for (Index i = 0; i < C.rows(); ++i)
    for (Index first = 0; first < C.cols(); first += pattern.group) {
      const Index width = (std::min)(pattern.group, C.cols() - first);
      if ((C.row(i).segment(first, width).array() != T(0)).count() > pattern.kept) return false;
    }
  return true;
}

}  // namespace

TEMPLATE_TEST_CASE("a sparse dictionary keeps to its bytes, for any shape", "[sparse_dictionary]",
                   float, double) {
  using T = TestType;
  Random random(931);
  for (const auto& [m, n] :
       {std::pair<Index, Index>{1, 1}, {1, 9}, {9, 1}, {2, 3}, {31, 17}, {17, 31}, {64, 48}}) {
    const Matrix<T> W = random.matrix<T>(m, n);
    const Matrix<T> X = correlated_inputs<T>(random, n, 2 * n + 3);
    for (const double share : {0.3, 0.6, 1.0, 1.5}) {
      INFO(m << " x " << n << ", " << share);
      const auto limit = static_cast<std::size_t>(share * double(m * n) * sizeof(T));
      for (const Solver solver : {Solver::compot, Solver::rocket, Solver::ksvd}) {
        try {
          const auto op = compress<SparseDictionary>(W, keep(share), calibration_of(X),
                                                     {.solver = solver, .target = "avx512"});
          CHECK(op.bytes() <= limit);
          CHECK(op.rows() == m);
          CHECK(op.cols() == n);
          CHECK(op.nonzeros() <= op.atoms());
          CHECK(is_finite(relative_error(W, op)));
        } catch (const std::invalid_argument& error) {
          // One atom and one entry a row do not fit.
          CHECK(static_cast<std::size_t>(m) * (sizeof(T) + 1) +
                    static_cast<std::size_t>(n) * sizeof(T) >
                limit);
          CHECK_THAT(error.what(), Contains("its smallest dictionary needs"));
        }
      }
    }
  }
}

TEST_CASE("what a sparse dictionary is told is what it has", "[sparse_dictionary]") {
  Random random(932);
  const Matrix<float> W = random.matrix<float>(40, 36);
  const auto of = [&](const SparseDictionary<float>::Options& options) {
    return compress<SparseDictionary>(W, keep(2), options);
  };
  const auto free = of({.atoms = 20, .nonzeros = 7});
  CHECK(free.atoms() == 20);
  CHECK(free.nonzeros() == 7);
  CHECK(free.codes().get_if<RowSparse<float>>() != nullptr);
  const auto groups = of({.atoms = 21, .pattern = {3, 8}});
  CHECK(groups.atoms() == 21);
  CHECK(groups.codes().get_if<SemiStructured<float>>()->pattern() == SparsePattern{3, 8});
  CHECK(has_codes(groups, {3, 8}));
  // As many atoms as a group has places are no free positions.
  CHECK(of({.atoms = 16, .pattern = {8, 16}}).codes().get_if<SemiStructured<float>>() != nullptr);
  CHECK(of({.atoms = 50, .nonzeros = 5, .solver = Solver::ksvd, .iterations = 2}).atoms() == 50);
  // As many as fit: one more would not.
  const auto open = compress<SparseDictionary>(W, keep(0.6), {.pattern = {4, 8}});
  const auto bytes = [](Index k) {
    const Index codes = (std::min)((4 * ((k + 7) / 8) * 3 + 7) / 8, (k + 7) / 8);
    return static_cast<std::size_t>(40 * (16 * ((k + 7) / 8) + codes) + 4 * 36 * k);
  };
  CHECK(open.bytes() == bytes(open.atoms()));
  CHECK(bytes(open.atoms() + 1) > static_cast<std::size_t>(0.6 * 4 * 40 * 36));
  // By the target's group where nothing is said.
  for (const auto& [target, group] :
       {std::pair<const char*, Index>{"avx512", 16}, {"fma3+avx2", 8}, {"sse2", 4}}) {
    const auto op = compress<SparseDictionary>(W, keep(0.6), {.target = target});
    const auto* const codes = op.codes().get_if<SemiStructured<float>>();
    REQUIRE(codes != nullptr);
    CHECK(codes->pattern().group == group);
  }
}

TEST_CASE("codes that were planted are found", "[sparse_dictionary]") {
  Random random(933);
  const auto planted = planted_codes(random, 300, 8, 20, {1, 4});
  const Matrix<double> W = planted.C * planted.D;
  // Any turn of the eight directions spans W, but only one makes its codes sparse.
  const auto op =
      compress<SparseDictionary>(W, keep(2), {.atoms = 8, .nonzeros = 2, .iterations = 200});
  const auto one_shot =
      compress<SparseDictionary>(W, keep(2), {.atoms = 8, .nonzeros = 2, .solver = Solver::rocket});
  CHECK(relative_error(W, op) <= 0.6 * relative_error(W, one_shot));
  const auto ksvd = compress<SparseDictionary>(
      W, keep(2), {.atoms = 8, .nonzeros = 2, .solver = Solver::ksvd, .iterations = 40});
  CHECK(relative_error(W, ksvd) <= 0.6 * relative_error(W, one_shot));
}

TEST_CASE("solvers come closer in the order of their cost", "[sparse_dictionary]") {
  Random random(934);
  for (const double noise : {1.0, 0.3}) {
    const Matrix<double> left = random.matrix<double>(128, 10);
    const Matrix<double> right = random.matrix<double>(10, 96);
    const Matrix<double> rest = random.matrix<double>(128, 96);
    const Matrix<double> W = noise * rest + (noise < 1 ? 1.0 : 0.0) * left * right;
    const Matrix<double> X = correlated_inputs<double>(random, 96, 600);
    const auto calibration = exact_calibration(X);
    for (const double share : {0.6, 0.8}) {
      INFO("noise " << noise << ", " << share);
      const auto k = static_cast<Index>(share * 128 * 96 / (96 + 64));
      const auto error_of = [&](const SparseDictionary<double>::Options& options) {
        return relative_error(W, compress<SparseDictionary>(W, keep(2), calibration, options),
                              calibration);
      };
      const auto rank = static_cast<Index>(share * 128 * 96 / (96 + 128));
      const double svd = relative_error(
          W, compress<LowRank>(W, keep(2), calibration, {.rank = rank}), calibration);
      const double rocket = error_of({.atoms = k, .nonzeros = k / 2, .solver = Solver::rocket});
      const double compot = error_of({.atoms = k, .nonzeros = k / 2});
      CHECK(rocket < svd);
      CHECK(compot < rocket);
      CHECK(error_of({.atoms = k, .pattern = {8, 16}}) < rocket);
      if (share > 0.7) continue;  // one is slow enough
      const double ksvd =
          error_of({.atoms = k, .nonzeros = k / 2, .solver = Solver::ksvd, .iterations = 25});
      CHECK(ksvd < rocket);
      CHECK(ksvd <= 1.02 * compot);
    }
  }
}

TEST_CASE("a dictionary of which each row uses all is the low rank", "[sparse_dictionary]") {
  Random random(935);
  const Matrix<double> W = random.matrix<double>(30, 22);
  const Matrix<double> X = correlated_inputs<double>(random, 22, 100);
  const auto calibration = calibration_of(X);
  const auto low = compress<LowRank>(W, keep(2), calibration, {.rank = 9});
  for (const Solver solver : {Solver::compot, Solver::rocket}) {
    const auto op = compress<SparseDictionary>(W, keep(2), calibration,
                                               {.atoms = 9, .nonzeros = 9, .solver = solver});
    CHECK((op.to_dense() - low.to_dense()).norm() <= 1e-9 * W.norm());
  }
}

TEST_CASE("no step of the dictionary solver raises its loss", "[sparse_dictionary]") {
  Random random(936);
  for (const SparsePattern pattern : {SparsePattern{2, 4}, {3, 8}, {8, 16}, {9, 21}}) {
    const Index k = pattern.group == 21 ? 21 : 22;
    const Matrix<double> Wt = random.matrix<double>(32, 50);
    const Matrix<double> G = gram_of(random, 32, 90);
    const auto root = detail::MetricRoot<>::for_fitting(Calibration<double>::from_gram(G, 90), 0);
    detail::SparseDictionarySolver<> solver(Wt, root, 0);
    double before = std::numeric_limits<double>::infinity();
    for (const Index iterations : {0, 1, 2, 5, 20}) {
      const double loss =
          solver.energy() - solver.orthonormal_codes(k, pattern, iterations).squaredNorm();
      CHECK(loss <= before * (1 + 1e-12));
      before = loss;
    }
    detail::CodedDictionary found;
    found.Ct = solver.orthonormal_codes(k, pattern, 20);
    found.D = solver.best_dictionary(found.Ct);
    // At the best dictionary for these codes W - C D is orthogonal to them, in any metric.
    const Matrix<double> left = found.Ct * (Wt - found.D.transpose() * found.Ct).transpose();
    CHECK(left.norm() <= 1e-8 * (found.Ct * Wt.transpose()).norm());
    CHECK(solver.loss(found) <= before * (1 + 1e-9));
    before = solver.loss(found);
    std::vector<double> losses;
    solver.settle(found, pattern, 6, [&](double, double loss) {
      losses.push_back(loss);
      return true;
    });
    CHECK(std::is_sorted(losses.rbegin(), losses.rend()));
    CHECK(solver.loss(found) < before);
  }
}

TEMPLATE_TEST_CASE("dictionaries of any calibration, blind to scale", "[sparse_dictionary]", float,
                   double) {
  using T = TestType;
  Random random(937);
  const Matrix<T> W = random.matrix<T>(33, 26);
  for (const Index samples : {1, 7, 26, 120}) {
    INFO(samples << " samples");
    Matrix<T> X = correlated_inputs<T>(random, 26, samples);
    X.row(3).setZero();
    if (samples > 1) X.row(4) = X.row(6);
    for (const Solver solver : {Solver::compot, Solver::rocket, Solver::ksvd}) {
      const auto of = [&](const Matrix<T>& weight, const Matrix<T>& inputs) {
        return compress<SparseDictionary>(weight, keep(0.6), calibration_of(inputs),
                                          {.solver = solver, .iterations = 5})
            .to_dense();
      };
      const Matrix<T> What = of(W, X);
      CHECK((What - W).norm() < W.norm());
      CHECK(of(W * T(1024), X * T(0.0625)) == What * T(1024));
      const Matrix<T> other = of(W, X * T(1e6));
      CHECK((other - What).norm() <= (sizeof(T) == 4 ? 0.2 : 1e-6) * W.norm());
    }
  }
  const auto zero = compress<SparseDictionary>(Matrix<T>::Zero(12, 9).eval(), keep(1));
  CHECK(zero.to_dense().norm() == 0);
}

TEST_CASE("dictionaries with outputs that count differently", "[sparse_dictionary]") {
  Random random(938);
  const Matrix<double> W = random.matrix<double>(40, 24);
  Vector<double> weights = Vector<double>::Constant(40, 1e-4);
  weights.head(20).setOnes();
  weights(39) = 0;
  Calibration<double> calibration(24);
  calibration.row_weights(weights);
  const auto plain = compress<SparseDictionary>(W, keep(0.5), {.pattern = {8, 16}});
  const auto weighted = compress<SparseDictionary>(W, keep(0.5), calibration, {.pattern = {8, 16}});
  const auto top = [&](const auto& op) {
    return (op.to_dense() - W).topRows(20).norm() / W.topRows(20).norm();
  };
  CHECK(top(weighted) < 0.9 * top(plain));
  CHECK(is_finite(relative_error(W, weighted)));
}

TEST_CASE("a dictionary within an error", "[sparse_dictionary]") {
  Random random(939);
  const Matrix<float> W = random.matrix<float>(48, 40);
  const Matrix<float> X = correlated_inputs<float>(random, 40, 200);
  const auto calibration = calibration_of(X);
  std::size_t before = 0;
  for (const double e : {0.5, 0.2, 0.05, 1e-3}) {
    const auto op = compress<SparseDictionary>(W, error(e), calibration, {.iterations = 5});
    CHECK(relative_error(W, op, calibration) <= e);
    CHECK(op.bytes() >= before);
    before = op.bytes();
  }
  CHECK_THROWS_WITH(
      compress<SparseDictionary>(W, error(1e-3), calibration, {.atoms = 8, .pattern = {2, 4}}),
      Contains("cannot be met"));
}

TEST_CASE("narrow dictionaries", "[sparse_dictionary]") {
  Random random(940);
  const Matrix<float> W = random.matrix<float>(64, 64);
  const Matrix<float> X = correlated_inputs<float>(random, 64, 300);
  const auto calibration = calibration_of(X);
  const SparseDictionary<float>::Options options{.atoms = 32, .pattern = {8, 16}};
  const double plain =
      relative_error(W, compress<SparseDictionary>(W, keep(1), calibration, options), calibration);
  for (const auto& [storage, most] :
       {std::pair{Storage::bf16, 1.01}, {Storage::f16, 1.005}, {Storage::int8, 1.03}}) {
    auto narrow = options;
    narrow.storage = storage;
    const auto op = compress<SparseDictionary>(W, keep(1), calibration, narrow);
    CHECK(op.dictionary().storage() == storage);
    CHECK(op.codes().get_if<SemiStructured<float>>()->storage() == storage);
    CHECK(relative_error(W, op, calibration) <= most * plain);
  }
}

TEST_CASE("dictionaries of rotated inputs", "[sparse_dictionary][rotation]") {
  using Options = SparseDictionary<float>::Options;
  for (const auto& [m, n, block] :
       {std::tuple<Index, Index, Index>{1, 1, 1}, {3, 7, 4}, {9, 131, 128}})
    check_made_in_rotated_inputs<SparseDictionary, float>(
        Options{.atoms = std::min<Index>(m, 5), .pattern = {2, 4}}, m, n, block);
  const auto [plain, rotated] = errors_of_rotation<SparseDictionary>(Options{}, 0.1);
  CAPTURE(plain, rotated);
  CHECK(rotated < 0.8 * plain);
}

TEST_CASE("dictionaries are the same for any number of threads, and stop when told",
          "[sparse_dictionary]") {
  Random random(941);
  const Matrix<float> W = random.matrix<float>(130, 70);
  const Matrix<float> X = correlated_inputs<float>(random, 70, 200);
  const auto of = [&](Monitor monitor) {
    return compress<SparseDictionary>(W, keep(0.5), calibration_of(X),
                                      {.monitor = std::move(monitor)});
  };
  const Matrix<float> What = of({}).to_dense();
  set_num_threads(3);
  const Matrix<float> threads = of({}).to_dense();
  set_num_threads(1);
  CHECK(threads == What);
  std::vector<std::string> phases;
  CHECK(of([&](const Progress& progress) {
          phases.emplace_back(progress.phase);
          return true;
        }).to_dense() == What);
  for (const char* const phase : {"shrinkage", "sizes", "compot", "codes and atoms"})
    CHECK(std::find(phases.begin(), phases.end(), phase) != phases.end());
  for (const std::size_t calls : {0U, 3U, 20U}) {
    std::size_t count = 0;
    const auto op = of([&](const Progress&) { return count++ < calls; });
    CHECK(count <= calls + 1);
    CHECK(op.bytes() <= 130 * 70 * 2);
    CHECK((op.to_dense() - W).norm() < W.norm());
  }
}

TEST_CASE("one dictionary for matrices with the same inputs", "[sparse_dictionary]") {
  Random random(942);
  const Matrix<double> space = random.matrix<double>(10, 32);
  const Matrix<double> mixing = random.matrix<double>(60, 10);
  const Matrix<double> rest = random.matrix<double>(60, 32);
  const Matrix<double> all = mixing * space + 0.1 * rest;
  const auto shared = compress_shared<SparseDictionary>(
      {Matrix<double>(all.topRows(32)), Matrix<double>(all.bottomRows(28))}, keep(0.4));
  CHECK(shared.first_rows == std::vector<Index>{0, 32});
  CHECK(shared.op.to_dense() == compress<SparseDictionary>(all, keep(0.4)).to_dense());
}

TEST_CASE("what no sparse dictionary can be", "[sparse_dictionary]") {
  const Matrix<float> W = Matrix<float>::Random(12, 10);
  const auto refuses = [&](const SparseDictionary<float>::Options& options, const char* what) {
    CHECK_THROWS_WITH(compress<SparseDictionary>(W, keep(2), options), Contains(what));
  };
  refuses({.atoms = -1}, "there are no 0 nonzeros among -1 atoms");
  refuses({.atoms = 4, .nonzeros = 5}, "there are no 5 nonzeros among 4 atoms");
  refuses({.atoms = 11}, "at most 10 orthonormal atoms, not 11; ksvd takes any number");
  refuses({.nonzeros = 11}, "at most 10 orthonormal atoms");
  refuses({.nonzeros = 2, .pattern = {2, 4}}, "give one");
  refuses({.solver = Solver::ksvd, .pattern = {2, 4}}, "give nonzeros, not a pattern");
  refuses({.solver = static_cast<Solver>(9)}, "unknown solver");
  refuses({.iterations = -2}, "iterations must not be negative");
  refuses({.pattern = {4, 4}}, "1 to 3 can be kept, not 4");
  refuses({.pattern = {2, 5}}, "4, 8, 16 or 32 columns, not 5");
  refuses({.nonzeros = 2, .storage = Storage::int8}, "give a pattern, or native storage");
  refuses({.target = "z80"}, "z80");
  CHECK_THROWS_WITH(compress<SparseDictionary>(W, keep(0.2), {.atoms = 8, .pattern = {2, 4}}),
                    Contains("its smallest dictionary needs"));
}

}  // namespace pleat::test
