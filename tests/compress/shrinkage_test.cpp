// SPDX-License-Identifier: MIT
// Makers fit to all inputs, of which a calibration has seen some: what they made is judged by the
// exact second moment of the inputs, not by the samples.
#include "compress/support.hpp"
#include "pleat/compress/block_dictionary.hpp"
#include "pleat/compress/compensate.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/permuted.hpp"
#include "pleat/compress/prune.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "pleat/core/any_operator.hpp"
#include "pleat/core/threads.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

template <Real T>
struct Maker {
  std::string name;
  std::function<AnyOperator<T>(const Matrix<T>&, const Calibration<T>&)> make;
};

template <Real T>
std::vector<Maker<T>> makers() {
  return {
      {"SemiStructured",
       [](const auto& W, const auto& c) {
         return compress<SemiStructured>(W, keep(1), c, {.pattern = {2, 4}});
       }},
      {"8:16",
       [](const auto& W, const auto& c) {
         return compress<SemiStructured>(W, keep(1), c, {.pattern = {8, 16}});
       }},
      {"SemiStructured by Wanda",
       [](const auto& W, const auto& c) {
         return compress<SemiStructured>(W, keep(1), c,
                                         {.criterion = PruneCriterion::wanda, .pattern = {2, 4}});
       }},
      {"prune 1:4",
       [](const auto& W, const auto& c) { return prune(W, {.kept = 1, .group = 4}, c); }},
      {"permuted",
       [](const auto& W, const auto& c) {
         return compress_permuted(W, keep(1), c, {.pattern = {2, 4}});
       }},
      {"int4",
       [](const auto& W, const auto& c) {
         return compress<Dense>(W, keep(1), c, {.storage = Storage::int4});
       }},
      {"LowRank", [](const auto& W, const auto& c) { return compress<LowRank>(W, keep(0.5), c); }},
      {"BlockDictionary",
       [](const auto& W, const auto& c) { return compress<BlockDictionary>(W, keep(0.6), c); }},
      {"2:4 and low rank",
       [](const auto& W, const auto& c) {
         return compensate(compress<SemiStructured>(W, keep(1), c, {.pattern = {2, 4}}), W, 4, c);
       }},
  };
}

/// What the layer sees for ever: inputs A z with white z.
template <Real T>
Calibration<T> all_inputs(const Matrix<T>& A) {
  const Matrix<double> wide = A.template cast<double>();
  return Calibration<T>::from_gram(wide * wide.transpose(), 1);
}

/// A spectrum that falls, and a weight as they are: some of it of low rank.
Matrix<float> mixing(Random& random, Index n) {
  Matrix<float> A = random.matrix<float>(n, n);
  for (Index j = 0; j < n; ++j) A.col(j) *= static_cast<float>(std::pow(1.0 + double(j), -0.6));
  return A;
}
Matrix<float> weight(Random& random, Index m, Index n) {
  Matrix<float> W = random.matrix<float>(m, n);
  const Matrix<float> U = random.matrix<float>(m, n / 8);
  W += U * random.matrix<float>(n / 8, n);
  return W;
}

}  // namespace

TEST_CASE("few white samples are no worse than none", "[shrinkage][slow]") {
  for (const auto& [name, make] : makers<float>())
    for (const Index samples : {8, 16, 32, 64, 256}) {
      // The mean of some layers: chance moves one of so few weights by some per cent.
      double without = 0;
      double with = 0;
      for (const std::uint64_t seed : {601U, 611U, 621U}) {
        Random random(seed);
        const Matrix<float> W = random.matrix<float>(32, 64);
        without += relative_error(W, make(W, {}));
        with += relative_error(W, make(W, calibration_of(random.matrix<float>(64, samples))));
      }
      CAPTURE(name, samples, with, without);
      // Eight samples say little of mean squares, and one weight of four is all that hangs on them.
      const double most = name.ends_with("low rank") || name == "LowRank" ? 1.05
                          : name == "prune 1:4" && samples == 8           ? 1.04
                                                                          : 1.02;
      CHECK(with <= most * without);
    }
}

TEST_CASE("as many samples as kept weights are no trap", "[shrinkage]") {
  Random random(602);
  const Matrix<float> W = random.matrix<float>(64, 256);
  const double without =
      relative_error(W, compress<SemiStructured>(W, keep(1), {.pattern = {2, 4}}));
  auto calibration = calibration_of(random.matrix<float>(256, 128));
  CHECK(relative_error(W, compress<SemiStructured>(W, keep(1), calibration, {.pattern = {2, 4}})) <=
        1.02 * without);
  Calibration<float> one(256, Folds::one);
  one.merge(calibration);
  CHECK(relative_error(W, compress<SemiStructured>(W, keep(1), one, {.pattern = {2, 4}})) <=
        1.02 * without);
  // They were one.
  calibration.shrinkage(0);
  const auto trapped = compress<SemiStructured>(W, keep(1), calibration, {.pattern = {2, 4}});
  CHECK(relative_error(W, trapped) > 3 * without);
  CHECK(relative_error(W, trapped, calibration) < 0.01);
}

// Against what is best for all layers and samples of a kind: of a single draw the best is luck.
TEST_CASE("what a calibration chooses is about the best that could be set", "[shrinkage][slow]") {
  const std::vector<double> set{0.0, 0.01, 0.1, 0.4};
  for (const auto& [name, make] : makers<float>()) {
    double above = 0;
    for (const Index samples : {16, 64, 256}) {
      double chosen = 0;
      Vector<double> with = Vector<double>::Zero(static_cast<Index>(set.size()));
      for (const std::uint64_t seed : {603U, 613U, 623U, 633U}) {
        Random random(seed);
        const Matrix<float> A = mixing(random, 64);
        const Matrix<float> W = weight(random, 32, 64);
        const auto judge = all_inputs(A);
        auto calibration = calibration_of(Matrix<float>(A * random.matrix<float>(64, samples)));
        chosen += relative_error(W, make(W, calibration), judge);
        for (std::size_t i = 0; i < set.size(); ++i)
          with(static_cast<Index>(i)) +=
              relative_error(W, make(W, calibration.shrinkage(set[i])), judge);
      }
      CAPTURE(name, samples, chosen, with);
      CHECK(chosen <= 1.08 * with.minCoeff());
      above += chosen / with.minCoeff() - 1;
    }
    CAPTURE(name);
    CHECK(above / 3 <= 0.05);
  }
}

TEMPLATE_TEST_CASE("shrinkage 0 is the Gram matrix as it is", "[shrinkage]", float, double) {
  using T = TestType;
  Random random(604);
  const Matrix<T> W = random.matrix<T>(10, 24);
  const auto seen = calibration_of(correlated_inputs<T>(random, 24, 60)).shrinkage(0);
  auto alone = Calibration<T>::from_gram(seen.gram(), 60).shrinkage(0);
  Matrix<double> H = detail::scaled_gram(seen);
  H.diagonal().array() += 1e-8 * H.diagonal().mean();
  const Matrix<double> Wt = W.transpose().template cast<double>();
  CHECK(compress<SemiStructured>(W, keep(1), seen, {.pattern = {2, 4}}).to_dense() ==
        Matrix<T>(detail::prune(H, Wt, {}, {}).transpose().template cast<T>()));
  for (const auto& [name, make] : makers<T>()) {
    CAPTURE(name);
    CHECK(make(W, seen).to_dense() == make(W, alone).to_dense());
  }
}

TEST_CASE("a shrunk fit depends on samples, not on their scale, threads, or calls", "[shrinkage]") {
  Random random(605);
  const Matrix<double> W = random.matrix<double>(20, 40);
  for (const Index samples : {12, 40, 130}) {
    const Matrix<double> X = correlated_inputs<double>(random, 40, samples);
    Calibration<double> pieces(40);
    for (Index t = 0; t < samples; t += 7)
      pieces.add(X.middleCols(t, (std::min)(Index{7}, samples - t)));
    for (const auto& [name, make] : makers<double>()) {
      CAPTURE(name, samples);
      const Matrix<double> result = make(W, calibration_of(X)).to_dense();
      CHECK(make(W, pieces).to_dense() == result);
      for (const double scale : {0x1p-20, 0x1p20})
        CHECK(make(W, calibration_of(Matrix<double>(scale * X))).to_dense() == result);
      set_num_threads(3);
      const Matrix<double> threaded = make(W, calibration_of(X)).to_dense();
      set_num_threads(1);
      CHECK(threaded == result);
    }
  }
}

TEST_CASE("inputs that are always zero stay free", "[shrinkage]") {
  Random random(606);
  const Index n = 32;
  for (const Index samples : {10, 200}) {
    Matrix<double> X = correlated_inputs<double>(random, n, samples);
    X.row(6).setZero();
    X.row(21).setZero();
    const auto calibration = calibration_of(X);
    const Matrix<double> W = random.matrix<double>(16, n);
    Matrix<double> other = W;
    other.col(6) *= -3;
    other.col(21).setZero();
    // Low rank sees nothing of them, and pruning finds room for them at no cost.
    const Matrix<double> U = compress<LowRank>(W, keep(0.5), calibration).to_dense();
    const Matrix<double> V = compress<LowRank>(other, keep(0.5), calibration).to_dense();
    for (Index j = 0; j < n; ++j)
      if (j != 6 && j != 21) CHECK(U.col(j).isApprox(V.col(j), 1e-9));
    const auto pruned = [&](const Matrix<double>& weights) {
      return relative_error(
          weights, compress<SemiStructured>(weights, keep(1), calibration, {.pattern = {2, 4}}),
          calibration);
    };
    CHECK(pruned(W) <= 1.02 * pruned(other));
  }
}

TEST_CASE("low rank is the same from held samples and from their Gram matrix", "[shrinkage]") {
  Random random(607);
  for (const auto& shape : {std::pair<Index, Index>{9, 40}, {40, 40}, {60, 30}}) {
    const Index m = shape.first;
    const Index n = shape.second;
    const Matrix<double> W = random.matrix<double>(m, n);
    const Matrix<double> X = correlated_inputs<double>(random, n, 20);
    auto held = calibration_of(X).shrinkage(0.3);
    auto gram = Calibration<double>::from_gram(held.gram(), 20).shrinkage(0.3);
    const auto compare = [&] {
      CAPTURE(m, n, held.row_weights().size(), held.output_metric().size());
      const auto op = compress<LowRank>(W, keep(10), held, {.rank = 5});
      CHECK(op.to_dense().isApprox(compress<LowRank>(W, keep(10), gram, {.rank = 5}).to_dense(),
                                   1e-8));
      for (const Storage storage : {Storage::f64, Storage::int8}) {
        const auto fixed = [&](const Calibration<double>& calibration) {
          return compensate(op, W, 3, calibration, {.storage = storage}).to_dense();
        };
        CHECK(fixed(held).isApprox(fixed(gram), 1e-3));
      }
    };
    compare();
    const Vector<double> weights = random.matrix<double>(m, 1).cwiseAbs();
    held.row_weights(weights);
    gram.row_weights(weights);
    compare();
    const Matrix<double> root = random.matrix<double>(m, m);
    held.output_metric(root * root.transpose());
    gram.output_metric(root * root.transpose());
    compare();
    // And it is the optimum of the metric that it says.
    Matrix<double> G = 0.7 * X * X.transpose();
    G.diagonal() = (X * X.transpose()).diagonal();
    const Matrix<double> S = detail::square_root(G);
    held.row_weights(Vector<double>::Ones(m));
    const auto op = compress<LowRank>(W, keep(10), held, {.rank = 5});
    const auto tail = singular_values(Matrix<double>(W * S));
    CHECK(((W - op.to_dense()) * S).norm() ==
          Approx(tail.tail(tail.size() - 5).norm()).epsilon(1e-6));
  }
}

TEST_CASE("an error that is asked for is that of the samples, and rank enough for it",
          "[shrinkage]") {
  Random random(608);
  const Matrix<double> W = random.matrix<double>(24, 40);
  const Matrix<double> A = mixing(random, 40).cast<double>();
  const auto calibration = calibration_of(Matrix<double>(A * random.matrix<double>(40, 60)));
  const auto op = compress<LowRank>(W, error(0.2), calibration);
  CHECK(relative_error(W, op, calibration) <= 0.2);
  const auto less = compress<LowRank>(W, keep(10), calibration, {.rank = op.rank() - 1});
  CHECK(relative_error(W, less, calibration) > 0.2 * 0.98);
  const auto sparse = compress<SemiStructured>(W, keep(1), calibration, {.pattern = {2, 4}});
  const auto repaired = compensate(sparse, W, error(0.1), calibration);
  CHECK(relative_error(W, repaired, calibration) <= 0.1);
}

}  // namespace pleat::test
