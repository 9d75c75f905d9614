// SPDX-License-Identifier: MIT
// Narrow weights times rounded activations: exact sums, one result for any batch, the bound on the
// error, the largest numbers, and what is not finite.
#include "pleat/kernel/active.hpp"
#include "pleat/kernel/cpu.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Combination = std::pair<Storage, Activations>;
constexpr std::array combinations{Combination{Storage::int8, Activations::int8},
                                  Combination{Storage::int8, Activations::int16},
                                  Combination{Storage::int4, Activations::int8},
                                  Combination{Storage::int3_fitted, Activations::int8},
                                  Combination{Storage::int4_fitted, Activations::int8},
                                  Combination{Storage::bf16, Activations::bf16}};

double most(Activations activations) { return activations == Activations::int16 ? 32767 : 127; }

/// Samples as the kernels round them, in plain loops; `line` activations share a scale.
Matrix<double> rounded(const Matrix<float>& X, Activations activations, Index line = 64) {
  Matrix<double> result(X.rows(), X.cols());
  for (Index j = 0; j < X.cols(); ++j)
    for (Index first = 0; first < X.rows(); first += line) {
      const auto group = X.col(j).segment(first, std::min<Index>(line, X.rows() - first));
      const float largest = group.cwiseAbs().maxCoeff();
      const auto limit = static_cast<float>(most(activations));
      const float inverse = largest > 0 ? limit / largest : 0.0F;
      for (Index k = 0; k < group.size(); ++k)
        result(first + k, j) =
            activations == Activations::bf16
                ? double(static_cast<float>(detail::nearest<Eigen::bfloat16>(group(k))))
                : std::nearbyint(group(k) * inverse) * double(largest / limit);
    }
  return result;
}

/// How far each output may be from that of activations as they are; see `Dense::with_activations`.
Matrix<double> bound(const Matrix<float>& W, const Matrix<float>& X, Activations activations,
                     Index line = 64) {
  Matrix<double> result = Matrix<double>::Zero(W.rows(), X.cols());
  const Matrix<double> magnitude = W.cast<double>().cwiseAbs();
  if (activations == Activations::bf16)
    return std::ldexp(1.0, -8) * magnitude * X.cast<double>().cwiseAbs();
  for (Index j = 0; j < X.cols(); ++j)
    for (Index first = 0; first < X.rows(); first += line) {
      const Index count = std::min<Index>(line, X.rows() - first);
      const double step = X.col(j).segment(first, count).cwiseAbs().maxCoeff() / most(activations);
      result.col(j) += step / 2 * magnitude.middleCols(first, count).rowwise().sum();
    }
  return result;
}

/// Kept values, and the activations that they meet.
struct Kept {
  Storage storage;
  SparsePattern pattern;
  Activations activations;
};
/// With a kernel of their own on some instruction sets, and as dense matrices.
constexpr std::array kept_combinations{Kept{Storage::int8, {2, 4}, Activations::int8},
                                       Kept{Storage::int8, {4, 8}, Activations::int8},
                                       Kept{Storage::bf16, {2, 4}, Activations::bf16},
                                       Kept{Storage::int8, {8, 16}, Activations::int8},
                                       Kept{Storage::int8, {2, 4}, Activations::int16},
                                       Kept{Storage::int4, {1, 8}, Activations::int8},
                                       Kept{Storage::int4_fitted, {16, 32}, Activations::int8},
                                       Kept{Storage::bf16, {3, 8}, Activations::bf16},
                                       Kept{Storage::int8, {6, 32}, Activations::int8},
                                       Kept{Storage::int8, {8, 32}, Activations::int8},
                                       Kept{Storage::int8, {3, 8}, Activations::int8},
                                       Kept{Storage::int8, {5, 16}, Activations::int8},
                                       Kept{Storage::int8, {17, 32}, Activations::int8},
                                       Kept{Storage::int8, {2, 32}, Activations::int8},
                                       Kept{Storage::int8, {1, 32}, Activations::int8}};

/// Whether what is kept meets its activations by a kernel of its own.
bool is_met_as_kept(const Kept& kept) {
  const auto& table = kernel::active<float>();
  return kernel::sparse_dot(table.dots, table.picks, detail::format_of(kept.storage),
                            detail::kernel_pattern(kept.pattern),
                            detail::kernel_activations(kept.activations)) ==
         kernel::SparseDot::kept;
}

/// Weights whose activations share a scale.
struct WeightsOfLine {
  Index first;
  Matrix<double> stored;  // of the columns from `first` on; what other lines have is 0
};

/// The lines of a matrix, of which `W` has no zero where a value is kept, if a group may be of two
/// lines: there the n-th value of a group is its n-th that is not zero.
std::vector<WeightsOfLine> lines_of(const Kept& kept, const Matrix<float>& W,
                                    const Matrix<double>& stored) {
  std::vector<WeightsOfLine> result;
  const auto [N, M] = kept.pattern;
  const bool is_kept = is_met_as_kept(kept);
  if (!is_kept ||
      kernel::has_half_steps(detail::format_of(kept.storage), detail::kernel_pattern({N, M}))) {
    const Index line = is_kept ? 128 : 64;
    for (Index first = 0; first < W.cols(); first += line)
      result.push_back({first, stored.middleCols(first, std::min(line, W.cols() - first))});
    return result;
  }
  const Index values = (W.cols() + M - 1) / M * N;
  for (Index begin = 0; begin < values; begin += 64) {
    const Index first = begin / N * M;
    const Index past = std::min(((std::min(begin + 64, values) - 1) / N + 1) * M, W.cols());
    Matrix<double> own = stored.middleCols(first, past - first);
    for (Index i = 0; i < W.rows(); ++i)
      for (Index group = first; group < past; group += M) {
        Index value = group / M * N;
        for (Index k = group; k < std::min(group + M, past); ++k) {
          if (value < begin || value >= begin + 64) own(i, k - first) = 0;
          if (W(i, k) != 0) ++value;
        }
      }
    result.push_back({first, own});
  }
  return result;
}
/// The product of these with rounded samples, and how far it may be from that with samples as they
/// are.
std::pair<Matrix<double>, Matrix<double>> product_and_bound(const std::vector<WeightsOfLine>& lines,
                                                            const Matrix<float>& X,
                                                            Activations activations, Index rows) {
  Matrix<double> product = Matrix<double>::Zero(rows, X.cols());
  Matrix<double> allowed = Matrix<double>::Zero(rows, X.cols());
  for (const WeightsOfLine& line : lines) {
    const Matrix<float> own = X.middleRows(line.first, line.stored.cols());
    product += line.stored * rounded(own, activations, line.stored.cols());
    allowed += bound(line.stored.cast<float>(), own, activations, line.stored.cols());
  }
  return {product, allowed};
}

/// Random values at random places of every group: now and then fewer than the pattern has, where
/// no group is of two lines.
Matrix<float> with_pattern(Random& random, Index rows, Index cols, SparsePattern pattern) {
  Matrix<float> W = random.matrix<float>(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index first = 0; first < cols; first += pattern.group) {
      const Index width = std::min<Index>(pattern.group, cols - first);
      const Vector<float> order = random.matrix<float>(width, 1);
      const bool is_short = 64 % pattern.kept == 0 && (i + first / pattern.group) % 5 == 4;
      const Index kept = pattern.kept - (is_short ? 1 : 0);
      for (Index k = 0; k < width; ++k)
        if ((order.array() < order(k)).count() >= kept) W(i, first + k) = 0;
    }
  return W;
}

}  // namespace

TEST_CASE("rounded activations: the product of what was rounded, for any shape", "[narrow_dot]") {
  Random random(1);
  for (const auto& [rows, cols] : std::vector<std::pair<Index, Index>>{
           {1, 1}, {16, 64}, {15, 3}, {37, 5}, {130, 65}, {33, 129}, {48, 511}, {200, 200}})
    for (const auto& [storage, activations] : combinations) {
      const Matrix<float> W = random.matrix<float>(rows, cols);
      const Dense<float> op = Dense<float>(W, storage).with_activations(activations);
      REQUIRE(op.activations() == activations);
      const Matrix<double> stored = op.to_dense().cast<double>();
      for (const Index batch : {1, 2, 3, 4, 7, 8, 9, 14, 19, 64, 103}) {
        if (reduced && (batch > 20 || rows * cols > 10000)) continue;
        CAPTURE(rows, cols, to_string(storage), to_string(activations), batch);
        const Matrix<float> X = random.matrix<float>(cols, batch);
        const Matrix<double> expected = stored * rounded(X, activations);
        Matrix<float> Y =
            Matrix<float>::Constant(rows, batch, std::numeric_limits<float>::quiet_NaN());
        op.apply(X, Y);
        CHECK((Y.cast<double>() - expected).norm() <= 1e-6 * expected.norm());
        const Matrix<double> exact = stored * X.cast<double>();
        const Matrix<double> allowed = 1.001 * bound(op.to_dense(), X, activations) +
                                       1e-6 * (stored.cwiseAbs() * X.cast<double>().cwiseAbs());
        CHECK(((Y.cast<double>() - exact).cwiseAbs().array() <= allowed.array()).all());

        Matrix<float> alone(rows, batch);
        for (Index j = 0; j < batch; ++j) op.apply(X.col(j), alone.col(j));
        CHECK(alone == Y);
        const Matrix<float> before = random.matrix<float>(rows, batch);
        Matrix<float> sum = before;
        op.apply_add(X, sum);
        CHECK((sum - before - Y).norm() <= 1e-5F * (1 + before.norm() + Y.norm()));
      }
    }
}

TEST_CASE("rounded activations: threads change no bit", "[narrow_dot]") {
  Random random(2);
  const Matrix<float> X = random.matrix<float>(300, 70);
  const Matrix<float> W = random.matrix<float>(611, 300);
  for (const auto& [storage, activations] : combinations) {
    const Dense<float> op = Dense<float>(W, storage).with_activations(activations);
    Matrix<float> serial(611, 70);
    Matrix<float> split(611, 70);
    op.apply(X, serial);
    Workspace workspace([](Index tasks, const auto& task) {
      for (Index i = tasks; i > 0; --i) task(i - 1);
    });
    op.apply(X, split, workspace);
    CHECK(serial == split);
  }
}

TEST_CASE("rounded activations: the largest numbers do not overflow", "[narrow_dot]") {
  for (const auto& [storage, activations] : combinations)
    for (const float sign : {1.0F, -1.0F})
      for (const Index cols : {64, 256}) {
        // int4 has one number more below zero than above.
        const Matrix<float> W = Matrix<float>::Constant(33, cols, sign);
        const Dense<float> op = Dense<float>(W, storage).with_activations(activations);
        for (const float x : {1.0F, -1.0F}) {
          const Matrix<float> X = Matrix<float>::Constant(cols, 9, x);
          Matrix<float> Y(33, 9);
          op.apply(X, Y);
          CAPTURE(to_string(storage), to_string(activations), sign, x, cols);
          const float w = op.to_dense()(0, 0);  // a level times a scale in f16 is not quite 1
          CHECK(std::abs(w - sign) < 1e-4F);
          CHECK((Y.array() / (w * x * static_cast<float>(cols)) - 1).abs().maxCoeff() < 1e-5F);
        }
      }
}

TEST_CASE("rounded activations: what is not finite reaches every output of its sample",
          "[narrow_dot]") {
  Random random(3);
  for (const auto& [storage, activations] : combinations) {
    const Dense<float> op =
        Dense<float>(random.matrix<float>(45, 150), storage).with_activations(activations);
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()})
      for (const Index at : {0, 70, 149}) {
        Matrix<float> X = random.matrix<float>(150, 6);
        Matrix<float> expected(45, 6);
        op.apply(X, expected);
        X(at, 2) = bad;
        Matrix<float> Y(45, 6);
        op.apply(X, Y);
        CAPTURE(to_string(storage), to_string(activations), bad, at);
        for (Index j = 0; j < 6; ++j)
          for (Index i = 0; i < 45; ++i)
            if (j == 2) CHECK_FALSE(is_finite(Y(i, j)));
            else CHECK(Y(i, j) == expected(i, j));
        if (activations != Activations::bf16) CHECK(std::isnan(Y(0, 2)));
      }
    // Numbers too small for a scale are 0, and the largest that there are stay numbers.
    Matrix<float> X = Matrix<float>::Constant(150, 2, 1e-38F);
    Matrix<float> Y(45, 2);
    op.apply(X, Y);
    CHECK(Y.cwiseAbs().maxCoeff() < 1e-35F);
    const Dense<float> small =
        Dense<float>(Matrix<float>::Constant(3, 150, 4e-3F), storage).with_activations(activations);
    X.setConstant(3e38F);
    Matrix<float> big(3, 2);
    small.apply(X, big);
    CHECK(is_finite(big(0, 0)));
    CHECK(big(0, 0) > 1e38F);
  }
}

TEST_CASE("rounded activations: what does not fit is refused, what is automatic is known",
          "[narrow_dot]") {
  Random random(4);
  const Matrix<float> W = random.matrix<float>(96, 96);
  for (const Storage storage : {Storage::f32, Storage::bf16, Storage::f16, Storage::int8,
                                Storage::int4, Storage::int4_fitted})
    for (const Activations activations :
         {Activations::int16, Activations::int8, Activations::bf16}) {
      const Dense<float> op(W, storage);
      CHECK(op.activations() == Activations::native);
      const bool meets = std::find(combinations.begin(), combinations.end(),
                                   Combination{storage, activations}) != combinations.end();
      CAPTURE(to_string(storage), to_string(activations));
      if (meets) {
        CHECK(op.with_activations(activations).parameters().find(to_string(activations)) !=
              std::string::npos);
        CHECK(
            op.with_activations(activations).with_activations(Activations::native).activations() ==
            Activations::native);
      } else {
        CHECK_THROWS_WITH(op.with_activations(activations), Catch::Contains("do not meet"));
      }
      if (storage != Storage::f32)
        CHECK_THROWS_AS(Dense<double>(W.cast<double>(), storage).with_activations(activations),
                        std::invalid_argument);
      CHECK_THROWS_AS(op.with_activations(static_cast<Activations>(9)), std::invalid_argument);
    }
  CHECK(Dense<double>(W.cast<double>(), Storage::int8)
            .with_activations(Activations::automatic)
            .activations() == Activations::native);

  using kernel::automatic_activations;
  using kernel::DotProducts;
  using Kernel = kernel::Activations;
  const auto for_large = [](DotProducts dots, kernel::Format format) {
    return automatic_activations(dots, format, 512, 512);
  };
  CHECK(for_large(DotProducts::none, kernel::Format::int8) == Kernel::native);
  CHECK(for_large(DotProducts::int16, kernel::Format::int8) == Kernel::int16);
  CHECK(for_large(DotProducts::int16, kernel::Format::int4) == Kernel::int8);
  CHECK(for_large(DotProducts::int16, kernel::Format::levels) == Kernel::int8);
  CHECK(for_large(DotProducts::none, kernel::Format::levels) == Kernel::native);
  CHECK(for_large(DotProducts::int16, kernel::Format::bf16) == Kernel::native);
  CHECK(for_large(DotProducts::int8, kernel::Format::int8) == Kernel::int8);
  CHECK(for_large(DotProducts::int8, kernel::Format::bf16) == Kernel::native);
  CHECK(for_large(DotProducts::int8_bf16, kernel::Format::bf16) == Kernel::bf16);
  CHECK(for_large(DotProducts::int8_bf16, kernel::Format::f16) == Kernel::native);
  CHECK(automatic_activations(DotProducts::int8_bf16, kernel::Format::int8, 8, 8) ==
        Kernel::native);
}

TEST_CASE("rounded activations of bf16: automatic where this machine is fast with them",
          "[narrow_dot]") {
  using kernel::DotProducts;
  for (const DotProducts dots : {DotProducts::none, DotProducts::int16, DotProducts::int8})
    for (const bool intel : {false, true}) CHECK(kernel::worthwhile(dots, intel) == dots);
  CHECK(kernel::worthwhile(DotProducts::int8_bf16, false) == DotProducts::int8_bf16);
  CHECK(kernel::worthwhile(DotProducts::int8_bf16, true) == DotProducts::int8);
  const bool has_products = kernel::active<float>().dots == DotProducts::int8_bf16;
  const Activations expected =
      has_products && !kernel::is_intel() ? Activations::bf16 : Activations::native;
  const Matrix<float> W = Random(7).matrix<float>(64, 128);
  const Matrix<float> sparse = Matrix<float>::NullaryExpr(
      64, 128, [&](Index i, Index j) { return j % 4 < 2 ? W(i, j) : 0.0F; });
  CHECK(Dense<float>(W, Storage::bf16).with_activations(Activations::automatic).activations() ==
        expected);
  CHECK(SemiStructured<float>(sparse, Storage::bf16)
            .with_activations(Activations::automatic)
            .activations() == expected);
}

TEST_CASE("rounded activations: kept by files, and doubles take them as they are", "[narrow_dot]") {
  Random random(5);
  const Matrix<float> W = random.matrix<float>(40, 130);
  const Matrix<float> X = random.matrix<float>(130, 5);
  for (const auto& [storage, activations] : combinations) {
    const Dense<float> op = Dense<float>(W, storage).with_activations(activations);
    Parts parts = op.parts();
    const Dense<float> loaded = Dense<float>::from_parts(parts);
    CHECK(loaded.activations() == activations);
    Matrix<float> expected(40, 5);
    Matrix<float> Y(40, 5);
    op.apply(X, expected);
    loaded.apply(X, Y);
    CHECK(Y == expected);
    CHECK(Dense<double>::from_parts(parts).activations() == Activations::native);
    parts.attributes["activations"] = "int7";
    CHECK_THROWS_WITH(Dense<float>::from_parts(parts), Catch::Contains("int7"));
    parts.attributes["activations"] = storage == Storage::bf16 ? "int8" : "bf16";
    CHECK_THROWS_AS(Dense<float>::from_parts(parts), std::invalid_argument);
    parts.attributes.erase("activations");
    CHECK(Dense<float>::from_parts(parts).activations() == Activations::native);
  }
}

TEST_CASE("rounded activations: blocks of a Kronecker-sparse matrix", "[narrow_dot]") {
  Random random(6);
  for (const KroneckerPattern pattern : {KroneckerPattern{3, 40, 70, 1}, {2, 5, 66, 3}})
    for (const auto& [storage, activations] : combinations) {
      const Index rows = pattern.a * pattern.b * pattern.d - 1;
      const Index cols = pattern.a * pattern.c * pattern.d;
      Vector<float> values = random.matrix<float>(pattern.a * pattern.b * pattern.c * pattern.d, 1);
      const KroneckerSparse<float> whole(rows + 1, cols, pattern, values);
      const KroneckerSparse<float> op = whole.stored_as(storage).with_activations(activations);
      const KroneckerSparse<float> native = op.with_activations(Activations::native);
      CHECK(op.activations() == activations);
      for (const Index batch : {1, 3, 64}) {
        const Matrix<float> X = random.matrix<float>(cols, batch);
        Matrix<float> Y(rows + 1, batch);
        Matrix<float> expected(rows + 1, batch);
        op.apply(X, Y);
        native.apply(X, expected);
        CAPTURE(to_string(storage), to_string(activations), batch, pattern.d);
        CHECK((Y - expected).norm() <=
              (activations == Activations::int16 ? 1e-4F : 0.01F) * expected.norm());
        CHECK(Y != expected);
      }
    }
}

TEST_CASE("rounded activations of N:M: the product of what was rounded, for any shape",
          "[narrow_dot]") {
  Random random(7);
  for (const auto& [rows, cols] : std::vector<std::pair<Index, Index>>{
           {1, 1}, {16, 128}, {37, 5}, {130, 65}, {33, 129}, {48, 523}, {200, 300}})
    for (const Kept& kept : kept_combinations)
      for (const float scale : {1.0F, 1e-30F}) {  // which a power of two makes up for
        const auto& [storage, pattern, activations] = kept;
        const Matrix<float> W = scale * with_pattern(random, rows, cols, pattern);
        const SemiStructured<float> native(W, pattern, storage);
        const SemiStructured<float> op = native.with_activations(activations);
        REQUIRE(op.activations() == activations);
        REQUIRE(native.activations() == Activations::native);
        const Matrix<double> stored = op.to_dense().cast<double>();
        const std::vector<WeightsOfLine> lines = lines_of(kept, W, stored);
        for (const Index batch : {1, 2, 3, 4, 5, 6, 7, 8, 9, 64, 103}) {
          if (scale < 1 && batch % 9 != 1) continue;
          if (reduced && (batch > 20 || rows * cols > 10000)) continue;
          CAPTURE(rows, cols, to_string(storage), to_string(pattern), scale, batch);
          const Matrix<float> X = random.matrix<float>(cols, batch);
          const auto [expected, apart] = product_and_bound(lines, X, activations, rows);
          Matrix<float> Y =
              Matrix<float>::Constant(rows, batch, std::numeric_limits<float>::quiet_NaN());
          op.apply(X, Y);
          CHECK((Y.cast<double>() - expected).norm() <= 1e-6 * expected.norm());
          const Matrix<double> exact = stored * X.cast<double>();
          const Matrix<double> allowed =
              1.001 * apart + 1e-6 * (stored.cwiseAbs() * X.cast<double>().cwiseAbs());
          CHECK(((Y.cast<double>() - exact).cwiseAbs().array() <= allowed.array()).all());

          Matrix<float> alone(rows, batch);
          for (Index j = 0; j < batch; ++j) op.apply(X.col(j), alone.col(j));
          CHECK(alone == Y);
          const Matrix<float> before = scale * random.matrix<float>(rows, batch);
          Matrix<float> sum = before;
          op.apply_add(X, sum);
          CHECK((sum - before - Y).norm() <= 1e-5F * (scale + before.norm() + Y.norm()));
        }
        Matrix<float> none(rows, 0);
        op.apply(Matrix<float>(cols, 0), none);
      }
}

TEST_CASE("rounded activations of N:M: without a kernel of its own it is a dense matrix",
          "[narrow_dot]") {
  Random random(11);
  for (const auto& [storage, pattern, activations] :
       {Kept{Storage::int8, {8, 16}, Activations::int16},
        {Storage::int8, {1, 4}, Activations::int16},
        {Storage::int3, {2, 8}, Activations::int8}}) {
    CAPTURE(to_string(storage), to_string(pattern));
    const SemiStructured<float> op(with_pattern(random, 50, 260, pattern), pattern, storage);
    const Matrix<float> X = random.matrix<float>(260, 9);
    const auto product = [&](const auto& of) {
      Matrix<float> Y(50, 9);
      of.apply(X, Y);
      return Y;
    };
    const SemiStructured<float> rounding = op.with_activations(activations);
    CHECK(rounding.bytes() == op.bytes());
    CHECK(rounding.to_dense() == op.to_dense());
    const Matrix<float> expected =
        (op.to_dense().cast<double>() * rounded(X, activations)).cast<float>();
    CHECK((product(rounding) - expected).norm() <= 1e-6F * expected.norm());
    // Rotated before or after, and native again.
    const auto H = Hadamard<float>::with_random_signs(260, 128, 7);
    CHECK(product(op.rotated(H).with_activations(activations)) == product(rounding.rotated(H)));
    Matrix<float> turned(260, 9);
    H.apply(X, turned);
    Matrix<float> Y(50, 9);
    rounding.apply(turned, Y);
    CHECK((product(rounding.rotated(H)) - Y).norm() <= 1e-6F * Y.norm());
    CHECK(product(rounding.with_activations(Activations::native)) == product(op));
    CHECK(product(SemiStructured<float>::from_parts(rounding.parts())) == product(rounding));
  }
}

TEST_CASE("rounded activations of N:M: threads change no bit, nor the transpose", "[narrow_dot]") {
  Random random(8);
  const Matrix<float> X = random.matrix<float>(300, 70);
  for (const auto& [storage, pattern, activations] : kept_combinations) {
    const Matrix<float> W = with_pattern(random, 611, 300, pattern);
    const SemiStructured<float> op =
        SemiStructured<float>(W, pattern, storage).with_activations(activations);
    Matrix<float> serial(611, 70);
    Matrix<float> split(611, 70);
    op.apply(X, serial);
    Workspace workspace([](Index tasks, const auto& task) {
      for (Index i = tasks; i > 0; --i) task(i - 1);
    });
    op.reserve(workspace, 70);
    const std::size_t reserved = workspace.bytes();
    op.apply(X, split, workspace);
    CHECK(workspace.bytes() == reserved);
    CHECK(serial == split);
    CHECK(op.stored_as(storage).activations() == Activations::native);
    const SemiStructured<float> native = op.with_activations(Activations::native);
    Matrix<float> exact(611, 70);
    native.apply(X, exact);
    CHECK(exact != serial);
    Matrix<float> transposed(300, 70);
    Matrix<float> same(300, 70);
    op.apply_transpose(exact, transposed);
    native.apply_transpose(exact, same);
    CHECK(transposed == same);
  }
}

TEST_CASE("rounded activations of N:M: the largest numbers, and what is no number",
          "[narrow_dot]") {
  Random random(9);
  for (const Kept& kept : kept_combinations) {
    const auto& [storage, pattern, activations] = kept;
    CAPTURE(to_string(storage), to_string(pattern));
    for (const Index cols : {128, 512}) {
      const Matrix<float> ones =
          with_pattern(random, 33, cols, pattern).cwiseAbs().cwiseMin(1e-30F) / 1e-30F;
      for (const float sign : {1.0F, -1.0F})
        for (const float x : {1.0F, -1.0F, 1e36F}) {
          const SemiStructured<float> op =
              SemiStructured<float>((sign * ones).eval(), pattern, storage)
                  .with_activations(activations);
          Matrix<float> Y(33, 9);
          op.apply(Matrix<float>::Constant(cols, 9, x).eval(), Y);
          const Matrix<float> expected = (sign * ones.rowwise().sum()).replicate(1, 9) * x;
          CHECK((Y - expected).cwiseAbs().maxCoeff() <= 4e-3F * expected.cwiseAbs().maxCoeff());
          if (x != 1e36F) CHECK((Y / x - expected / x).cwiseAbs().maxCoeff() < 2e-2F);
        }
    }
    const SemiStructured<float> native(with_pattern(random, 45, 150, pattern), pattern, storage);
    const SemiStructured<float> op = native.with_activations(activations);
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()})
      for (const Index at : {0, 70, 149}) {
        Matrix<float> X = random.matrix<float>(150, 6);
        Matrix<float> expected(45, 6);
        Matrix<float> plain(45, 6);
        Matrix<float> Y(45, 6);
        op.apply(X, expected);
        X(at, 2) = bad;
        op.apply(X, Y);
        native.apply(X, plain);  // bf16 reaches the rows that keep the column
        CAPTURE(bad, at);
        for (Index j = 0; j < 6; ++j)
          for (Index i = 0; i < 45; ++i)
            if (j != 2) CHECK(Y(i, j) == expected(i, j));
            else if (activations == Activations::bf16 && is_met_as_kept(kept))
              CHECK(is_finite(Y(i, j)) == is_finite(plain(i, j)));
            else if (activations == Activations::bf16)  // a dense matrix has every column
              CHECK((is_finite(plain(i, j)) || !is_finite(Y(i, j))));
            else CHECK(std::isnan(Y(i, j)));
      }
    Matrix<float> Y(45, 2);
    op.apply(Matrix<float>::Constant(150, 2, 1e-38F).eval(), Y);
    CHECK(Y.cwiseAbs().maxCoeff() < 1e-35F);
  }
}

TEST_CASE("rounded activations of N:M: what does not fit is refused, files keep what does",
          "[narrow_dot]") {
  Random random(10);
  const Matrix<float> X = random.matrix<float>(130, 5);
  for (const SparsePattern pattern : {SparsePattern{2, 4}, {4, 8}, {1, 4}, {3, 8}, {8, 16}})
    for (const Storage storage : {Storage::f32, Storage::bf16, Storage::f16, Storage::int8,
                                  Storage::int4, Storage::int3_fitted})
      for (const Activations activations :
           {Activations::int16, Activations::int8, Activations::bf16}) {
        const SemiStructured<float> op(with_pattern(random, 40, 130, pattern), pattern, storage);
        const bool meets =
            activations == Activations::bf16 ? storage == Storage::bf16
            : storage == Storage::int8 && activations == Activations::int8
                ? true
                : pattern.kept != 3 &&
                      (storage == Storage::int8 ||
                       (activations == Activations::int8 && detail::has_few_bits(storage)));
        CAPTURE(to_string(storage), to_string(pattern), to_string(activations));
        CHECK(op.meets(activations) == meets);
        CHECK_THROWS_AS(op.with_activations(static_cast<Activations>(9)), std::invalid_argument);
        if (storage == Storage::f32) {
          CHECK_THROWS_WITH(op.with_activations(activations), Catch::Contains("do not meet"));
          continue;
        }
        Parts parts = op.parts();
        parts.attributes["activations"] = to_string(activations);
        if (!meets) {
          CHECK_THROWS_WITH(op.with_activations(activations), Catch::Contains("do not meet"));
          CHECK_THROWS_AS(SemiStructured<float>::from_parts(parts), std::invalid_argument);
          CHECK_THROWS_AS(SemiStructured<double>::from_parts(parts), std::invalid_argument);
          continue;
        }
        const SemiStructured<float> rounding = op.with_activations(activations);
        CHECK(rounding.parameters().find("activations as") != std::string::npos);
        CHECK(rounding.parts().attributes.at("activations") == to_string(activations));
        CHECK(rounding.bytes() == op.bytes());
        const auto loaded = SemiStructured<float>::from_parts(rounding.parts());
        CHECK(loaded.activations() == activations);
        Matrix<float> expected(40, 5);
        Matrix<float> Y(40, 5);
        rounding.apply(X, expected);
        loaded.apply(X, Y);
        CHECK(Y == expected);
        const auto wide = SemiStructured<double>::from_parts(parts);
        CHECK(wide.activations() == Activations::native);
        CHECK_THROWS_AS(wide.with_activations(activations), std::invalid_argument);
        CHECK(wide.with_activations(Activations::automatic).activations() == Activations::native);
      }

  using kernel::DotProducts;
  using kernel::Format;
  using Kernel = kernel::Activations;
  const auto for_large = [](DotProducts dots, std::size_t picks, Format format, std::size_t kept,
                            std::size_t group) {
    return kernel::automatic_sparse_activations(dots, picks, format, {kept, group}, 512, 512);
  };
  CHECK(for_large(DotProducts::none, 256, Format::int8, 2, 4) == Kernel::native);
  CHECK(for_large(DotProducts::int16, 256, Format::int8, 2, 4) == Kernel::int16);
  CHECK(for_large(DotProducts::int8, 16, Format::int8, 2, 4) == Kernel::int8);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int8, 4, 8) == Kernel::int8);
  CHECK(for_large(DotProducts::int8, 16, Format::int8, 16, 32) == Kernel::int8);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int8, 6, 16) == Kernel::int8);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int8, 6, 32) == Kernel::int8);
  CHECK(for_large(DotProducts::int8, 16, Format::int8, 6, 32) == Kernel::native);
  CHECK(for_large(DotProducts::int16, 256, Format::int8, 6, 32) == Kernel::native);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int8, 4, 32) == Kernel::int8);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int8, 3, 32) == Kernel::int8);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int8, 1, 32) == Kernel::native);
  CHECK(for_large(DotProducts::int8, 16, Format::int8, 1, 4) == Kernel::int8);
  CHECK(for_large(DotProducts::int16, 256, Format::int8, 1, 4) == Kernel::native);
  CHECK(for_large(DotProducts::int16, 256, Format::int4, 1, 4) == Kernel::int8);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::int4, 2, 4) == Kernel::int8);
  CHECK(for_large(DotProducts::int16, 256, Format::levels, 8, 16) == Kernel::int8);
  CHECK(for_large(DotProducts::int8, 16, Format::bf16, 2, 4) == Kernel::native);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::bf16, 2, 4) == Kernel::bf16);
  CHECK(for_large(DotProducts::int8_bf16, 64, Format::bf16, 4, 8) == Kernel::native);
  const auto has_dot = [](DotProducts dots, std::size_t picks, std::size_t kept, std::size_t group,
                          Kernel activations) {
    return kernel::has_semi_structured_dot(dots, picks, Format::int8, {kept, group}, activations);
  };
  CHECK_FALSE(has_dot(DotProducts::int16, 256, 2, 4, Kernel::int8));
  CHECK(has_dot(DotProducts::int8, 16, 4, 8, Kernel::int8));
  CHECK(has_dot(DotProducts::int8, 16, 8, 16, Kernel::int8));
  CHECK_FALSE(has_dot(DotProducts::int8, 16, 6, 16, Kernel::int8));
  CHECK(has_dot(DotProducts::int8, 32, 6, 16, Kernel::int8));
  CHECK(has_dot(DotProducts::int8_bf16, 64, 6, 32, Kernel::int8));
  CHECK_FALSE(has_dot(DotProducts::int8_bf16, 64, 1, 32, Kernel::int8));
  CHECK_FALSE(has_dot(DotProducts::int8, 16, 2, 4, Kernel::int16));
  CHECK(kernel::picked_window({1, 16}) == 64);
  CHECK(kernel::picked_window({2, 8}) == 16);
  CHECK(kernel::picked_window({5, 8}) == 16);
  CHECK(kernel::picked_window({12, 32}) == 32);
  CHECK(kernel::has_dense_scales(Format::int8, {64, 128}));
  CHECK(kernel::has_dense_scales(Format::int4, {16, 32}));
  CHECK_FALSE(kernel::has_dense_scales(Format::int8, {3, 8}));
  CHECK(kernel::has_dense_scales(Format::bf16, {3, 8}));
  CHECK(kernel::automatic_sparse_activations(DotProducts::int8_bf16, 64, Format::int8, {2, 4}, 8,
                                             8) == Kernel::native);
}

}  // namespace pleat::test
