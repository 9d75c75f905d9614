// SPDX-License-Identifier: MIT
// Narrow storage: to what values are rounded, what they cost, and which files are refused.
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/random.hpp"
#include "support/scenarios.hpp"
#include "support/tolerance.hpp"

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

using Catch::Matchers::Contains;

constexpr std::array narrow_storages{
    Storage::bf16, Storage::f16,         Storage::int8,        Storage::int4,       Storage::int3,
    Storage::int2, Storage::int4_fitted, Storage::int3_fitted, Storage::int2_fitted};
/// One for each format of the kernels.
constexpr std::array storages_of_formats{Storage::bf16, Storage::f16, Storage::int8, Storage::int4,
                                         Storage::int4_fitted};

template <Real T>
Matrix<T> stored(const Matrix<T>& W, Storage storage) {
  return Dense<T>(W, storage).to_dense();
}

/// Normally distributed.
Vector<double> gaussian(Random& random, Index count) {
  return Vector<double>::NullaryExpr(count, [&](Index) {
    const double angle = random.uniform(0, 6.283185307179586);
    return std::sqrt(-2 * std::log(1 - random.uniform(0, 1))) * std::cos(angle);
  });
}

/// The sum of w e^2 that a scale leaves of a group.
double loss_of(Storage storage, double scale, const Vector<double>& values,
               const Vector<double>& weights) {
  const detail::GroupScale group{scale, detail::Numbers(storage)};
  return (values.unaryExpr([&](double v) { return v - scale * group.round(v); }).array().square() *
          weights.array())
      .sum();
}

/// The values whose scale is sought, and the scale that is best of 800, and of the two that take
/// the largest value to an end of the range.
double least_loss(Storage storage, const Vector<double>& values, const Vector<double>& weights) {
  const auto [least, most] = detail::integers_of(storage);
  const double largest = values.cwiseAbs().maxCoeff();
  double best = std::numeric_limits<double>::max();
  for (int i = 1; i <= 400; ++i)
    for (const double sign : {1.0, -1.0})
      best = std::min(best, loss_of(storage, sign * 0.0035 * i * largest / least, values, weights));
  for (const int end : {least, most})
    for (const double sign : {1.0, -1.0})
      best = std::min(best, loss_of(storage, sign * largest / end, values, weights));
  return best;
}

constexpr std::array few_bits{Storage::int4, Storage::int3, Storage::int2};
constexpr std::array fitted_storages{Storage::int4_fitted, Storage::int3_fitted,
                                     Storage::int2_fitted};

}  // namespace

TEMPLATE_TEST_CASE("values go to the nearest of the storage", "[matrix][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(81);
  const Matrix<T> W = random.matrix<T>(19, 150);
  const auto bf16 = stored<T>(W, Storage::bf16);
  const auto f16 = stored<T>(W, Storage::f16);
  const auto int8 = stored<T>(W, Storage::int8);
  const auto int4 = stored<T>(W, Storage::int4);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index k = 0; k < W.cols(); ++k) {
      CAPTURE(i, k, W(i, k));
      const auto w = static_cast<float>(W(i, k));
      CHECK(bf16(i, k) == T(static_cast<float>(Eigen::bfloat16(w))));
      CHECK(f16(i, k) == T(static_cast<float>(Eigen::half(w))));
      const Index first = k / 64 * 64;
      const T largest =
          W.row(i).segment(first, std::min<Index>(64, W.cols() - first)).cwiseAbs().maxCoeff();
      CHECK(std::abs(int8(i, k) - W(i, k)) <= largest / T(253.9));
      const Index begin = k / 32 * 32;
      const T most =
          W.row(i).segment(begin, std::min<Index>(32, W.cols() - begin)).cwiseAbs().maxCoeff();
      CHECK(std::abs(int4(i, k) - W(i, k)) <= most / T(4));
    }
  // Uniform numbers: a step of 1/127 or about 1/8, 1/4 or 1/2 of the largest.
  CHECK((int8 - W).norm() / W.norm() < 0.005);
  CHECK((int4 - W).norm() / W.norm() < 0.08);
  CHECK((stored<T>(W, Storage::int3) - W).norm() / W.norm() < 0.15);
  CHECK((stored<T>(W, Storage::int2) - W).norm() / W.norm() < 0.32);
}

TEMPLATE_TEST_CASE("what a storage holds it gives back", "[matrix][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(82);
  for (const Storage storage : narrow_storages)
    for (const Index cols : {0, 1, 2, 7, 31, 32, 33, 64, 65, 129}) {
      CAPTURE(to_string(storage), cols);
      Matrix<T> W = random.matrix<T>(17, cols);
      Dense<T> op(W, storage);
      W = op.to_dense();
      if (!detail::has_fitted_levels(storage)) {  // other levels may fit these as well
        CHECK(stored<T>(W, storage) == W);
        op = Dense<T>(W, storage);
      }
      CHECK(op.storage() == storage);
      CHECK(op.bytes() == matrix_bytes(storage, 17, static_cast<std::size_t>(cols)));
      CHECK(Dense<T>::from_parts(op.parts()).to_dense() == W);
      CHECK(Dense<T>::from_parts(op.parts()).storage() == storage);
    }
}

TEST_CASE("scales are the best that there are, within a percent", "[matrix][storage]") {
  Random random(88);
  for (const Storage storage : few_bits) {
    CAPTURE(to_string(storage));
    const int most = detail::integers_of(storage).most;
    double searched = 0;
    double plain = 0;
    double best = 0;
    double weighted = 0;
    double best_weighted = 0;
    double unweighted = 0;
    for (int group = 0; group < 120; ++group) {
      const Index count = group % 4 == 3 ? random.integer(1, 31) : 32;
      Vector<double> values = gaussian(random, count);
      if (group % 4 == 2) values = values.array().cube() / 5;  // heavy tails
      const Vector<double> ones = Vector<double>::Ones(count);
      const double scale = detail::group_scale(storage, values.data(), count).scale;
      const double loss = loss_of(storage, scale, values, ones);
      CHECK(scale == double(static_cast<float>(static_cast<Eigen::half>(scale))));
      CHECK(loss <= 1.25 * least_loss(storage, values, ones) + 1e-6 * values.squaredNorm());
      best += least_loss(storage, values, ones);
      searched += loss;
      plain += loss_of(storage, values.cwiseAbs().maxCoeff() / most, values, ones);

      const Vector<double> weights = gaussian(random, count).array().exp();
      const double other = detail::group_scale(storage, values.data(), count, weights.data()).scale;
      weighted += loss_of(storage, other, values, weights);
      best_weighted += least_loss(storage, values, weights);
      unweighted += loss_of(storage, scale, values, weights);
      // Weights count in proportion, however large.
      const Vector<double> huge = weights * 0x1p900;
      CHECK(detail::group_scale(storage, values.data(), count, huge.data()).scale == other);
    }
    CHECK(searched <= 1.01 * best);
    CHECK(searched <= (storage == Storage::int2 ? 0.35 : 0.75) * plain);
    CHECK(weighted <= 1.02 * best_weighted);
    CHECK(weighted <= 0.95 * unweighted);
  }
}

TEST_CASE("weights without a meaning are those of no weights", "[matrix][storage]") {
  Random random(89);
  const Vector<double> values = gaussian(random, 32);
  for (const Storage storage : few_bits)
    for (const double weight : {0.0, 1.0, 1e-320, 1e300, std::numeric_limits<double>::infinity()}) {
      CAPTURE(to_string(storage), weight);
      const Vector<double> weights = Vector<double>::Constant(32, weight);
      CHECK(detail::group_scale(storage, values.data(), 32, weights.data()).scale ==
            detail::group_scale(storage, values.data(), 32).scale);
    }
  CHECK(detail::group_scale(Storage::int2, values.data(), 0).scale == 1);
}

TEMPLATE_TEST_CASE("integers times a scale stay what they are", "[matrix][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(90);
  for (const Storage storage : few_bits) {
    const auto [least, most] = detail::integers_of(storage);
    // All f16 numbers, of groups whose largest integer is any of the range: beside a 1, so that
    // small ones are stored as they are, down to the smallest.
    Matrix<T> W(60, 32 * 16);
    for (Index i = 0; i < W.rows(); ++i)
      for (Index g = 0; g < 16; ++g) {
        const auto bits = static_cast<std::uint16_t>(
            (g < 8 ? random.integer(1, 0x2000) : random.integer(1, 0x4000)) | random.integer(0, 1)
                                                                                  << 15);
        const T scale = T(static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(bits)));
        const int end = static_cast<int>(random.integer(least, most));
        for (Index k = 0; k < 32; ++k)
          W(i, 32 * g + k) = scale * T(random.integer(std::max(least, -std::abs(end)),
                                                      std::min(most, std::abs(end))));
      }
    W(0, 0) = T(1);
    W.row(0).segment(1, 31).setZero();
    CAPTURE(to_string(storage));
    CHECK(stored<T>(W, storage) == W);
  }
}

TEST_CASE("fitted levels leave less of the error than integers do", "[matrix][storage]") {
  Random random(91);
  for (const bool heavy : {false, true}) {
    Matrix<double> W(48, 512);
    for (Index i = 0; i < W.rows(); ++i) {
      W.row(i) = gaussian(random, W.cols()).transpose();
      if (heavy)  // Student's t of five degrees of freedom
        for (Index k = 0; k < W.cols(); ++k)
          W(i, k) /= std::sqrt(gaussian(random, 5).squaredNorm() / 5);
    }
    const auto loss = [&](Storage storage) {
      return (stored<double>(W, storage) - W).squaredNorm() / W.squaredNorm();
    };
    const auto gain = [&](std::size_t i) { return loss(fitted_storages[i]) / loss(few_bits[i]); };
    CAPTURE(heavy, gain(0), gain(1), gain(2));
    CHECK(gain(0) < (heavy ? 0.8 : 0.9));
    CHECK(gain(1) < (heavy ? 0.85 : 0.93));
    CHECK(gain(2) < 0.95);
  }
}

TEST_CASE("levels are fitted to what there is, and 0 stays 0", "[matrix][storage]") {
  Random random(92);
  for (const Storage storage : fitted_storages) {
    CAPTURE(to_string(storage));
    // Of three numbers and 0, which every storage has room for, nothing is lost.
    const int least = detail::integers_of(storage).least;
    Matrix<float> W(20, 96);
    for (Index i = 0; i < W.rows(); ++i)
      for (Index k = 0; k < W.cols(); ++k)
        W(i, k) =
            std::array{0.0F, -1.0F, -0.25F, 0.625F}[static_cast<std::size_t>(random.integer(0, 3))];
    CHECK((stored<float>(W, storage) - W).cwiseAbs().maxCoeff() <= 0.02F);
    CHECK(((W.array() == 0) == (stored<float>(W, storage).array() == 0)).all());
    CHECK(stored<float>(Matrix<float>::Zero(17, 40), storage).isZero(0));

    const Dense<float> op(W, storage);
    const Tensor levels = op.parts().tensor("weight_levels");
    CHECK(levels.type == DataType::i8);
    CHECK(levels.shape == std::vector<std::int64_t>{-2 * least});
    CHECK(std::to_integer<int>(levels.data[static_cast<std::size_t>(-least)]) == 0);
    CHECK(op.parts().attributes.at("storage") == to_string(storage));

    const auto refused = [&](const Parts& parts) {
      CHECK_THROWS_AS(Dense<float>::from_parts(parts), std::invalid_argument);
    };
    Parts parts = op.parts();
    parts.tensors.erase("weight_levels");
    refused(parts);
    parts = op.parts();
    parts.tensors.at("weight_levels").type = DataType::u8;
    refused(parts);
    parts = op.parts();
    parts.tensors.at("weight_levels").shape = {-2 * least, 1};
    refused(parts);
    parts = op.parts();
    parts.tensors.at("weight_levels").data.pop_back();
    refused(parts);
    // One that is no level, those that do not ascend, and a 0 that is none.
    for (const auto& [at, level] : {std::pair{0, 0x80}, {-2 * least - 1, 0xff}, {-least, 1}}) {
      parts = op.parts();
      parts.tensors.at("weight_levels").data[static_cast<std::size_t>(at)] =
          static_cast<std::byte>(level);
      refused(parts);
    }
    parts = op.parts();  // integers have none, and mean something else
    parts.attributes["storage"] = to_string(least == -8   ? Storage::int4
                                            : least == -4 ? Storage::int3
                                                          : Storage::int2);
    CHECK(Dense<float>::from_parts(parts).to_dense() != op.to_dense());
  }
}

TEST_CASE("values on given levels are packed as they are", "[matrix][storage]") {
  Random random(93);
  detail::Numbers::Levels levels{};
  for (int q = -8; q < 8; ++q)
    levels[static_cast<std::size_t>(q + 8)] = static_cast<std::int8_t>(q * std::abs(q) * 127 / 64);
  Matrix<float> scales(9, 3);
  for (Index i = 0; i < scales.size(); ++i)
    scales(i) = static_cast<float>(static_cast<Eigen::half>(
        static_cast<float>(random.uniform(0.01, 2) * (random.integer(0, 1) == 0 ? -1 : 1))));
  Matrix<float> W(9, 70);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index k = 0; k < W.cols(); ++k)
      W(i, k) = static_cast<float>(levels[static_cast<std::size_t>(random.integer(0, 15))]) / 128 *
                scales(i, k / 32);
  CHECK(Dense<float>(W, Storage::int4_fitted, scales, 0, levels).to_dense() == W);
  CHECK(Dense<float>(W * 0x1p20F, Storage::int4_fitted, scales, 20, levels).to_dense() ==
        W * 0x1p20F);
  Matrix<float> sparse = Matrix<float>::Zero(9, 140);
  for (Index i = 0; i < W.rows(); ++i)
    for (Index k = 0; k < W.cols(); ++k) sparse(i, 4 * (k / 2) + (i % 2) + 2 * (k % 2)) = W(i, k);
  const auto refused = [&](const detail::Numbers::Levels& wrong) {
    CHECK_THROWS_AS(Dense<float>(W, Storage::int4_fitted, scales, 0, wrong), std::invalid_argument);
  };
  refused({});  // none are given
  detail::Numbers::Levels wrong = levels;
  wrong[8] = 1;
  refused(wrong);
  wrong = levels;
  std::swap(wrong[2], wrong[3]);
  refused(wrong);
  wrong = levels;
  wrong[0] = -128;
  refused(wrong);
  CHECK(
      SemiStructured<float>(sparse, {2, 4}, Storage::int4_fitted, scales, 0, Places::codes, levels)
          .to_dense() == sparse);
}

TEST_CASE("bytes of a row are values and scales", "[matrix][storage]") {
  CHECK(row_bytes(Storage::f32, 100) == 400);
  CHECK(row_bytes(Storage::f64, 100) == 800);
  CHECK(row_bytes(Storage::bf16, 100) == 200);
  CHECK(row_bytes(Storage::f16, 100) == 200);
  CHECK(row_bytes(Storage::int8, 128) == 128 + 2 * 4);
  CHECK(row_bytes(Storage::int8, 129) == 129 + 3 * 4);
  CHECK(row_bytes(Storage::int4, 64) == 32 + 2 * 2);
  CHECK(row_bytes(Storage::int4, 65) == 33 + 3 * 2);
  CHECK(row_bytes(Storage::int3, 64) == 24 + 2 * 2);
  CHECK(row_bytes(Storage::int3, 65) == 25 + 3 * 2);
  CHECK(row_bytes(Storage::int3, 67) == 26 + 3 * 2);
  CHECK(row_bytes(Storage::int2, 64) == 16 + 2 * 2);
  CHECK(row_bytes(Storage::int2, 65) == 17 + 3 * 2);
  CHECK(row_bytes(Storage::int2, 0) == 0);
  CHECK(row_bytes(Storage::int3, 0) == 0);
  CHECK(row_bytes(Storage::int3_fitted, 67) == row_bytes(Storage::int3, 67));
  CHECK(matrix_bytes(Storage::int8, 7, 129) == 7 * row_bytes(Storage::int8, 129));
  CHECK(matrix_bytes(Storage::int4_fitted, 7, 65) == 7 * row_bytes(Storage::int4, 65) + 16);
  CHECK(matrix_bytes(Storage::int3_fitted, 7, 65) == 7 * row_bytes(Storage::int3, 65) + 8);
  CHECK(matrix_bytes(Storage::int2_fitted, 7, 65) == 7 * row_bytes(Storage::int2, 65) + 4);
}

TEST_CASE("the integers of a row lie one after another in a file, the lowest bit first",
          "[matrix][storage]") {
  const auto check = [](Storage storage, const std::vector<int>& integers,
                        const std::vector<int>& bytes) {
    CAPTURE(to_string(storage));
    Matrix<float> W(2, static_cast<Index>(integers.size()));
    for (Index k = 0; k < W.cols(); ++k) {
      W(0, k) = 0.5F * static_cast<float>(integers[static_cast<std::size_t>(k)]);
      W(1, k) = 0;
    }
    const Parts parts = Dense<float>(W, storage, Matrix<float>::Constant(2, 1, 0.5F)).parts();
    CHECK(parts.attributes.at("storage") == to_string(storage));
    CHECK(parts.attributes.at("cols") == std::to_string(W.cols()));
    const Tensor& weight = parts.tensor("weight");
    CHECK(weight.type == DataType::u8);
    CHECK(weight.shape == std::vector<std::int64_t>{2, static_cast<std::int64_t>(bytes.size())});
    CHECK(parts.tensor("weight_scales").type == DataType::f16);
    for (std::size_t i = 0; i < bytes.size(); ++i)
      CHECK(std::to_integer<int>(weight.data[i]) == bytes[i]);
    CHECK(Dense<float>::from_parts(parts).to_dense() == W);
  };
  check(Storage::int4, {-8, 7, 0, 1, -1}, {0xf0, 0x98, 0x07});
  // 4 added: 7, 0, 2, 5, 3, 5.
  check(Storage::int3, {3, -4, -2, 1, -1, 1}, {0x87, 0xba, 0x02});
  check(Storage::int2, {1, -2, 0, -1, 1}, {0x63, 0x03});
}

TEMPLATE_TEST_CASE("every 16-bit number is widened as it is", "[matrix][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  for (const bool is_half : {false, true}) {
    Matrix<T> W(256, 256);
    for (Index i = 0; i < 65536; ++i) {
      const auto bits = static_cast<std::uint16_t>(i);
      const float value = is_half
                              ? static_cast<float>(Eigen::numext::bit_cast<Eigen::half>(bits))
                              : static_cast<float>(Eigen::numext::bit_cast<Eigen::bfloat16>(bits));
      W(i / 256, i % 256) = T(value);
    }
    // A column at a time, so that no infinity meets another's 0: through the kernel of few samples.
    const Matrix<T> finite = W.unaryExpr([](T w) { return is_finite(w) ? w : T(0); });
    const Dense<T> op(finite, is_half ? Storage::f16 : Storage::bf16);
    CHECK(op.to_dense() == finite);
    for (const Index batch : {1, 40}) {
      Matrix<T> Y(256, batch);
      for (Index k = 0; k < 256; ++k) {
        Matrix<T> X = Matrix<T>::Zero(256, batch);
        X.row(k).setOnes();
        op.apply(X, Y);
        CHECK(Y == finite.col(k).replicate(1, batch));
      }
    }
    const Dense<T> special(W, is_half ? Storage::f16 : Storage::bf16);
    Vector<T> y(256);
    special.apply(Vector<T>(Vector<T>::Ones(256)), y);
    for (Index i = 0; i < 256; ++i) {
      const bool has_nan = (W.row(i).array() != W.row(i).array()).any();
      const T sum = W.row(i).sum();
      CAPTURE(i, sum);
      if (has_nan || std::isnan(sum)) CHECK(std::isnan(y(i)));
      else if (std::isinf(sum)) CHECK(y(i) == sum);
      else CHECK(std::isfinite(y(i)));
    }
  }
}

TEST_CASE("what a storage cannot hold is refused by name and place", "[matrix][storage]") {
  Matrix<float> W = Matrix<float>::Ones(3, 40);
  W(1, 36) = std::numeric_limits<float>::infinity();
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int3, Storage::int2})
    CHECK_THROWS_WITH(Dense<float>(W, storage), Contains("row 1, column 36"));
  CHECK(Dense<float>(W, Storage::f16).to_dense() == W);
  W(1, 36) = std::numeric_limits<float>::max();  // no number of bf16 is near
  CHECK_THROWS_WITH(Dense<float>(W, Storage::bf16), Contains("row 1, column 36"));
  // 2:4: the column of the matrix, not that among the stored ones.
  Matrix<float> sparse = Matrix<float>::Zero(3, 80);
  sparse(2, 74) = std::numeric_limits<float>::quiet_NaN();
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int3, Storage::int2})
    CHECK_THROWS_WITH(SemiStructured<float>(sparse, storage), Contains("row 2, column 74"));
  CHECK_THROWS_WITH(SemiStructured<float>(sparse, Storage::int8, Matrix<float>::Ones(3, 1)),
                    Contains("row 2, column 74"));
  W(1, 36) = 1e30F;
  CHECK(Dense<float>(W, Storage::int8).to_dense()(1, 36) == Approx(1e30F));
  CHECK(Dense<float>(W, Storage::bf16).to_dense()(1, 36) == Approx(1e30F).epsilon(0.005));
  W(1, 36) = std::numeric_limits<float>::quiet_NaN();
  for (const Storage storage : {Storage::int8, Storage::int4, Storage::int3, Storage::int2})
    CHECK_THROWS_WITH(Dense<float>(W, storage), Contains("row 1, column 36"));
  CHECK(std::isnan(Dense<float>(W, Storage::f16).to_dense()(1, 36)));
  CHECK_THROWS_WITH(Dense<double>(Matrix<double>::Ones(2, 2), Storage::f32), Contains("f32"));
  CHECK_THROWS_WITH(Dense<float>(W, Storage::f64), Contains("f64"));
  for (const int none : {11, 17, 255})
    CHECK_THROWS_AS(Dense<float>(W, static_cast<Storage>(none)), std::invalid_argument);
}

TEST_CASE("a double is rounded once", "[matrix][storage]") {
  // Beside a 1, so that the storage has the numbers that it has by itself.
  const auto check = [](Storage storage, double value, double expected) {
    CAPTURE(to_string(storage), value);
    for (const double sign : {1.0, -1.0})
      CHECK(stored<double>(Eigen::RowVector2d(1, sign * value), storage) ==
            Eigen::RowVector2d(1, sign * expected));
  };
  check(Storage::f16, 1 + 0x1p-11 + 0x1p-40, 1.0009765625);
  check(Storage::f16, 1 + 0x1p-11, 1);
  check(Storage::f16, 1 + 3 * 0x1p-11 - 0x1p-40, 1.0009765625);
  check(Storage::f16, 65519.999999, 65504);
  check(Storage::f16, 0x1p-25 + 0x1p-60, 0x1p-24);
  check(Storage::f16, 0x1p-25, 0);
  check(Storage::f16, 5 * 0x1p-25 + 0x1p-60, 3 * 0x1p-24);
  check(Storage::bf16, 1 + 0x1p-8 + 0x1p-40, 1.0078125);
  check(Storage::bf16, 1 + 0x1p-8, 1);
  check(Storage::bf16, 0x1p-134 + 0x1p-170, 0x1p-133);
  check(Storage::bf16, 5 * 0x1p-134 + 0x1p-170, 3 * 0x1p-133);
  check(Storage::f16, 65520, 65536);
}

TEST_CASE("values far apart in size, and groups of zeros, have scales", "[matrix][storage]") {
  Matrix<float> W = Matrix<float>::Zero(2, 130);
  W(0, 0) = std::numeric_limits<float>::denorm_min();
  W(1, 70) = std::numeric_limits<float>::max();
  const Matrix<float> back = stored<float>(W, Storage::int8);
  CHECK(back(0, 0) == W(0, 0));
  CHECK(back(1, 70) == Approx(W(1, 70)));
  CHECK(back.row(0).tail(129).isZero(0));
  W(1, 70) = 1e-9F;  // less than the smallest number, and scale, in f16
  for (const Storage storage : narrow_storages)
    CHECK(stored<float>(W, storage)(1, 70) == Approx(1e-9F).epsilon(0.005));
}

TEST_CASE("parts of narrow storage that do not fit are refused", "[matrix][storage]") {
  const auto refused = [](const Parts& parts) {
    CHECK_THROWS_AS(Dense<float>::from_parts(parts), std::invalid_argument);
  };
  Random random(83);
  const Matrix<float> W = random.matrix<float>(5, 33);
  for (const Storage storage : narrow_storages) {
    CAPTURE(to_string(storage));
    const Parts good = Dense<float>(W, storage).parts();
    CHECK_NOTHROW(Dense<float>::from_parts(good));
    for (const char* name : {"f32", "int5", "", "INT8"}) {
      Parts parts = good;
      parts.attributes["storage"] = name;
      refused(parts);
    }
    Parts parts = good;
    parts.tensors.at("weight").shape[0] = 6;
    refused(parts);
    parts = good;
    parts.tensors.at("weight").shape[1] += 1;
    refused(parts);
    parts = good;
    parts.tensors.at("weight").shape = {165};
    refused(parts);
    parts = good;
    parts.tensors.at("weight").data.pop_back();
    refused(parts);
    parts = good;
    parts.tensors.at("weight").type = DataType::f64;
    refused(parts);
    if (storage == Storage::bf16 || storage == Storage::f16) continue;
    parts = good;
    parts.tensors.erase("weight_scales");
    refused(parts);
    parts = good;
    parts.tensors.at("weight_scales").shape[1] += 1;
    refused(parts);
    for (const float scale :
         {0.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      Matrix<float> scales = good.tensor("weight_scales").matrix<float>();
      scales(4, 0) = scale;
      parts = good;
      parts.tensors["weight_scales"] = storage == Storage::int8
                                           ? Tensor::of(scales)
                                           : Tensor::of(scales.cast<Eigen::half>().eval());
      refused(parts);
    }
  }
  Parts parts;
  // What would do with as many bytes, or not; of one column less, the last value is not 0.
  for (const auto& [storage, same, fewer, more] : {std::tuple{Storage::int4, "34", "32", "35"},
                                                   {Storage::int3, "34", "32", "35"},
                                                   {Storage::int2, "36", "32", "37"}}) {
    CAPTURE(to_string(storage));
    parts = Dense<float>(Matrix<float>(W.cwiseAbs()), storage, Matrix<float>::Ones(5, 2)).parts();
    parts.attributes["cols"] = same;
    CHECK_NOTHROW(Dense<float>::from_parts(parts));
    for (const char* cols : {fewer, more, "-1", "x", "281474976710657", "9223372036854775807",
                             "9223372036854775808"}) {
      parts.attributes["cols"] = cols;
      refused(parts);
    }
    // Bits past the last column of the last row, and of another.
    for (const Index row : {4, 1}) {
      parts = Dense<float>(W, storage).parts();
      const auto width = static_cast<Index>(parts.tensor("weight").shape[1]);
      CHECK_NOTHROW(Dense<float>::from_parts(parts));
      parts.tensors.at("weight").data[static_cast<std::size_t>((row + 1) * width - 1)] |=
          std::byte{0x80};
      refused(parts);
    }
  }
  // Without a row, no data tell that there cannot be so many columns.
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (const Storage storage : narrow_storages) {
    CAPTURE(to_string(storage));
    parts = Dense<float>(Matrix<float>(0, 33), storage).parts();
    CHECK_NOTHROW(Dense<float>::from_parts(parts));
    const bool is_packed = detail::has_few_bits(storage);
    parts.tensors.at("weight").shape[1] = is_packed ? most / 2 + 1 : most;
    if (is_packed) parts.attributes["cols"] = std::to_string(most);
    refused(parts);
  }
}

TEMPLATE_TEST_CASE("2:4 in narrow storage keeps its pattern, and comes back", "[matrix][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(84);
  for (const Storage storage : narrow_storages)
    for (const Index cols : {1, 2, 6, 63, 64, 130, 257}) {
      CAPTURE(to_string(storage), cols);
      Matrix<T> W = random.matrix<T>(18, cols);
      for (Index i = 0; i < W.rows(); ++i)
        for (Index k = 0; k < cols; ++k)
          if ((k + i) % 4 >= 2) W(i, k) = T(0);
      const SemiStructured<T> exact(W);
      const SemiStructured<T> op(W, storage);
      CHECK(op.storage() == storage);
      CHECK(op.bytes() < exact.bytes() + 18 * 4 + level_bytes(storage));
      const Matrix<T> dense = op.to_dense();
      CHECK((W.array() == T(0) && dense.array() != T(0)).count() == 0);
      const int bits = detail::integer_bits(storage);
      CHECK((dense - W).norm() <= (bits == 2 ? T(0.35) : bits == 3 ? T(0.2) : T(0.1)) * W.norm());
      CHECK(SemiStructured<T>::from_parts(op.parts()).to_dense() == dense);
      CHECK(SemiStructured<T>::from_parts(op.parts()).storage() == storage);
      CHECK(op.stored_as(native_storage<T>).to_dense() == dense);
      CHECK(op.stored_as(storage).to_dense() == dense);
      CHECK(exact.stored_as(storage).to_dense() == dense);
    }
  CHECK_THROWS_AS(SemiStructured<T>().stored_as(native_storage<T> == Storage::f32 ? Storage::f64
                                                                                  : Storage::f32),
                  std::invalid_argument);
  Matrix<T> W = Matrix<T>::Zero(2, 5);
  W(1, 4) = T(2);
  const Parts good = SemiStructured<T>(W, Storage::int8).parts();
  for (const char* cols : {"4", "9", "-1"}) {
    Parts parts = good;
    parts.attributes["cols"] = cols;
    CHECK_THROWS_AS(SemiStructured<T>::from_parts(parts), std::invalid_argument);
  }
  Parts parts = good;
  parts.tensors.at("values").data[7] = std::byte{1};  // the second of row 1 in the last group
  parts.tensors.at("codes").data[1] = std::byte{0xd4};
  CHECK_THROWS_WITH(SemiStructured<T>::from_parts(parts), Contains("past column"));
}

TEMPLATE_TEST_CASE("2:4 with fewer codes than its shape has is refused in any storage",
                   "[matrix][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(87);
  Matrix<T> W = random.matrix<T>(3, 9);
  for (Index k = 0; k < W.cols(); ++k)
    if (k % 4 >= 2) W.col(k).setZero();
  for (const Storage storage : {native_storage<T>, Storage::bf16, Storage::f16, Storage::int8,
                                Storage::int4, Storage::int3, Storage::int2}) {
    CAPTURE(to_string(storage));
    const Parts good = SemiStructured<T>(W, storage).parts();
    CHECK_NOTHROW(SemiStructured<T>::from_parts(good));
    Parts parts = good;
    parts.tensors.at("codes").data.pop_back();
    CHECK_THROWS_AS(SemiStructured<T>::from_parts(parts), std::invalid_argument);
    parts.tensors.at("codes").data.clear();
    CHECK_THROWS_AS(SemiStructured<T>::from_parts(parts), std::invalid_argument);
    parts = good;
    parts.tensors.at("codes").data.push_back(std::byte{0});
    CHECK_THROWS_AS(SemiStructured<T>::from_parts(parts), std::invalid_argument);
  }
}

TEMPLATE_TEST_CASE("what is stored is applied, around blocks of columns, rows and samples",
                   "[matrix][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(86);
  for (const Index cols : {0, 1, 8, 31, 65, 511, 513, 1023, 1024, 1025, 1100})
    for (const Index rows : {1, 16, 33, 47}) {
      if (reduced && rows == 33) continue;
      const Matrix<T> W = random.matrix<T>(rows, cols);
      const Matrix<T> X = random.matrix<T>(cols, 200);
      const Matrix<T> base = random.matrix<T>(rows, 200);
      for (const Storage storage : storages_of_formats) {
        const Dense<T> op(W, storage);
        const WideMatrix<T> values = op.to_dense().template cast<Wide<T>>();
        const WideMatrix<T> wide = X.template cast<Wide<T>>();
        const WideMatrix<T> product = values * wide;
        const WideMatrix<T> sum = product + base.template cast<Wide<T>>();
        const auto rounding = gamma<T>(static_cast<double>(cols) + 3);
        const WideMatrix<T> bound = rounding * (values.cwiseAbs() * wide.cwiseAbs() +
                                                base.cwiseAbs().template cast<Wide<T>>());
        for (const Index batch : {1, 4, 5, 7, 8, 9, 13, 25, 200}) {
          CAPTURE(to_string(storage), rows, cols, batch);
          Matrix<T> Y = Matrix<T>::Constant(rows, batch, std::numeric_limits<T>::quiet_NaN());
          op.apply(X.leftCols(batch), Y);
          CHECK(beyond<Matrix<T>>(Y, product.leftCols(batch), bound.leftCols(batch)) == "");
          Y = base.leftCols(batch);
          op.apply_add(X.leftCols(batch), Y);
          CHECK(beyond<Matrix<T>>(Y, sum.leftCols(batch), bound.leftCols(batch)) == "");
        }
      }
    }
}

TEMPLATE_TEST_CASE("several tasks have scratch of their own, whatever the sizes",
                   "[matrix][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(85);
  int most = 0;
  const Matrix<T> W = random.matrix<T>(150, 1003);
  for (const Storage storage : storages_of_formats)
    for (const Index batch : {1, 3, 5, 7, 33}) {
      CAPTURE(to_string(storage), batch);
      const Dense<T> op(W, storage);
      const Matrix<T> X = random.matrix<T>(1003, batch);
      Matrix<T> Y(150, batch);
      Matrix<T> split(150, batch);
      Workspace serial;
      Workspace several(Backwards{&most}, 5);
      op.apply(X, Y, serial);
      op.apply(X, split, several);
      CHECK(split == Y);
      Matrix<T> back(1003, batch);
      Matrix<T> split_back(1003, batch);
      op.apply_transpose(Y, back, serial);
      op.apply_transpose(Y, split_back, several);
      CHECK(split_back == back);
    }
}

namespace {

template <class Op>
bool rounds_activations(const Op& op) {
  if constexpr (requires { op.activations(); }) return op.activations() != Activations::native;
  return false;
}

/// That a brick is the product of its core and H in all that it says and does.
template <class Op>
void check_rotated(const Op& core, Index block) {
  using T = typename Op::Scalar;
  const Index m = core.rows();
  const Index n = core.cols();
  CAPTURE(core.structure(), m, n, block, to_string(core.storage()));
  const auto H = Hadamard<T>::with_random_signs(n, block, 3);
  const Op op = core.rotated(H);
  CHECK(!core.rotation().has_value());
  CHECK(difference(op.rotation()->to_dense(), H.to_dense()) == "");
  CHECK(op.bytes() == core.bytes() + H.bytes());
  CHECK(op.flops() == core.flops() + H.flops());
  CHECK(op.parameters() == core.parameters() + ", rotated by blocks of " + std::to_string(block));
  const WideMatrix<T> wide = core.to_dense().template cast<Wide<T>>();
  const WideMatrix<T> turn = H.to_dense().template cast<Wide<T>>();
  const WideMatrix<T> exact = wide * turn;
  const WideMatrix<T> sizes = wide.cwiseAbs() * turn.cwiseAbs();
  const auto rounding = gamma<T>(static_cast<double>(n) + 2 * std::log2(block) + 8);
  CHECK(beyond<Matrix<T>>(op.to_dense(), exact, rounding * sizes) == "");

  Random random(88);
  for (const Index batch : {0, 1, 3, 64, 150}) {
    CAPTURE(batch);
    const Matrix<T> X = random.matrix<T>(n, batch);
    const Matrix<T> base = random.matrix<T>(m, batch);
    const WideMatrix<T> product = exact * X.template cast<Wide<T>>();
    const WideMatrix<T> bound = rounding * (sizes * X.cwiseAbs().template cast<Wide<T>>() +
                                            base.cwiseAbs().template cast<Wide<T>>());
    Matrix<T> Y = Matrix<T>::Constant(m, batch, std::numeric_limits<T>::quiet_NaN());
    op.apply(X, Y);
    if constexpr (requires { op.activations(); }) REQUIRE(op.activations() == core.activations());
    if (!rounds_activations(core)) CHECK(beyond<Matrix<T>>(Y, product, bound) == "");
    if (batch <= 64) {  // a tile, whose every bit is that of the core
      Matrix<T> turned(n, batch);
      Matrix<T> same(m, batch);
      H.apply(X, turned);
      core.apply(turned, same);
      CHECK(difference(Y, same) == "");
    }
    if (rounds_activations(core)) continue;
    Matrix<T> sum = base;
    op.apply_add(X, sum);
    CHECK(beyond<Matrix<T>>(sum, product + base.template cast<Wide<T>>(), bound) == "");
    Matrix<T> back = Matrix<T>::Constant(n, batch, std::numeric_limits<T>::quiet_NaN());
    op.apply_transpose(base, back);
    const auto in = base.template cast<Wide<T>>();
    CHECK(beyond<Matrix<T>>(back, exact.transpose() * in,
                            gamma<T>(static_cast<double>(m) + 2 * std::log2(block) + 8) *
                                (sizes.transpose() * in.cwiseAbs())) == "");
  }
  const Op read = Op::from_parts(op.parts());
  CHECK(read.bytes() == op.bytes());
  CHECK(difference(read.to_dense(), op.to_dense()) == "");

  CHECK_THROWS_WITH(op.rotated(H), Contains("not rotated again"));
  CHECK_THROWS_WITH(core.rotated(Hadamard<T>(n + 1)),
                    Contains("cannot be rotated by one of size " + std::to_string(n + 1)));
  Parts parts = op.parts();
  parts.children["rotation"] = Hadamard<T>(n + 1).parts();
  CHECK_THROWS_WITH(Op::from_parts(parts), Contains("cannot be rotated"));
  parts.children["rotation"].attributes["block"] = "3";
  CHECK_THROWS_AS(Op::from_parts(parts), std::invalid_argument);
  if constexpr (requires { op.stored_as(Storage::bf16); }) {
    const Op other = op.stored_as(Storage::bf16);
    CHECK(other.rotation().has_value());
    CHECK(difference(other.to_dense(), core.stored_as(Storage::bf16).rotated(H).to_dense()) == "");
    const Op native = core.stored_as(native_storage<T>);
    if constexpr (std::same_as<Op, KroneckerSparse<T>>) {
      const Op wider = op.stored_as(native_storage<T>);
      CHECK(difference(wider.to_dense(), native.rotated(H).to_dense()) == "");
    } else {
      CHECK_THROWS_WITH(op.stored_as(native_storage<T>), Contains("narrow storage"));
      CHECK_THROWS_WITH(native.rotated(H), Contains("rotation is for narrow storage"));
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("a rotated brick is its core times the rotation", "[matrix][storage][rotation]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(87);
  for (const auto& [m, n, block] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                    {5, 1, 128},
                                    {1, 7, 4},
                                    {33, 131, 128},
                                    {17, 1100, 64}}) {
    Matrix<T> W = random.matrix<T>(m, n);
    for (const Storage storage : narrow_storages) check_rotated(Dense<T>(W, storage), block);
    check_rotated(Dense<T>((W * T(1e-30)).eval(), Storage::int8), block);
    check_rotated(Dense<T>(W, Storage::int4).with_activations(Activations::automatic), block);
    const KroneckerPattern pattern{2, (m + 1) / 2, (n + 1) / 2, 1};
    Matrix<T> blocks = W;
    for (Index i = 0; i < m; ++i)
      for (Index k = 0; k < n; ++k) {
        if (i / pattern.b != k / pattern.c) blocks(i, k) = T(0);
        if ((k + i) % 8 >= 3) W(i, k) = T(0);
      }
    check_rotated(KroneckerSparse<T>(blocks, pattern, Storage::int4), block);
    check_rotated(SemiStructured<T>(W, {3, 8}, Storage::int8, Places::masks), block);
  }
  const Hadamard<T> H(9);
  CHECK_THROWS_WITH(Dense<T>(Matrix<T>(Matrix<T>::Ones(4, 9))).rotated(H),
                    Contains("Dense: a rotation is for narrow storage, not " +
                             std::string(to_string(native_storage<T>))));
  Parts parts = Dense<T>(Matrix<T>(Matrix<T>::Ones(4, 9)), Storage::int4).rotated(H).parts();
  CHECK(parts.children.at("rotation").structure == "Hadamard");
}

}  // namespace pleat::test
