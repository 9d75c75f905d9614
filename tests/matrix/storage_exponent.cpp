// SPDX-License-Identifier: MIT
// Narrow storage of weights far from 1: as good as of any, and independent of the processor's mode.
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/flush_to_zero.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace pleat::test {
namespace {

constexpr std::array storages_with_exponent{Storage::bf16, Storage::f16,  Storage::int8,
                                            Storage::int4, Storage::int3, Storage::int2};

/// At most two in four columns.
template <Real T>
Matrix<T> two_of_four(Matrix<T> W) {
  for (Index i = 0; i < W.rows(); ++i)
    for (Index k = 0; k < W.cols(); ++k)
      if ((k + i) % 4 >= 2) W(i, k) = T(0);
  return W;
}

template <class Op, Real T>
double error_of(const Matrix<T>& W, Storage storage, double factor) {
  const Matrix<T> scaled = (W.template cast<double>() * factor).template cast<T>();
  const Matrix<double> difference =
      (Op(scaled, storage).to_dense().template cast<double>() - scaled.template cast<double>()) /
      factor;
  return difference.norm() / W.template cast<double>().norm();
}

/// The stored numbers, without the power of two.
template <class Op>
std::map<std::string, std::vector<std::byte>> stored_in(const Op& op) {
  std::map<std::string, std::vector<std::byte>> result;
  for (const auto& [name, tensor] : op.parts().tensors) result[name] = tensor.data;
  return result;
}

template <class Op, Real T>
void check_blind(const Matrix<T>& W) {
  const bool is_float = std::is_same_v<T, float>;
  for (const Storage storage : storages_with_exponent) {
    CAPTURE(to_string(storage));
    const double error = error_of<Op>(W, storage, 1);
    // How far the numbers of a float type are apart depends on where between two powers of two.
    const double like = storage == Storage::bf16 || storage == Storage::f16 ? 0.25 : 0.02;
    CHECK(Op(W, storage).exponent() == 0);
    CHECK(!Op(W, storage).parts().attributes.contains("exponent"));
    for (const double factor : {1e-30, 1e-20, 1e-8, 1e-7, 1e-4, 7e4, 1e8, 1e30})
      CHECK(error_of<Op>(W, storage, factor) == Approx(error).epsilon(like));
    if (!is_float)
      for (const double factor : {1e-300, 1e-200, 1e-50, 1e50, 1e200, 1e300})
        CHECK(error_of<Op>(W, storage, factor) == Approx(error).epsilon(like));
    // A power of two changes nothing but the exponent.
    const auto scaled = [&](int exponent) {
      return Op(Matrix<T>(W * std::ldexp(T(1), exponent)), storage);
    };
    const int far = is_float ? 105 : 900;
    const auto stored = stored_in(scaled(-far));
    CHECK(stored_in(scaled(-far + 1)) == stored);
    if (storage == Storage::f16 || detail::has_few_bits(storage) || !is_float)
      CHECK(stored_in(scaled(far)) == stored);
    CHECK(scaled(-far).exponent() + 1 == scaled(-far + 1).exponent());
    CHECK(scaled(-far + 1).to_dense() == T(2) * scaled(-far).to_dense());
  }
}

/// Y = W X, Y += W X and X = W^T Y against the values stored, for several batches; and the same
/// bits for all of them, in any number of parts.
template <class Op, Real T>
void check_applied(const Op& op, double unit, Random& random) {
  REQUIRE(op.exponent() != 0);
  int most = 0;
  Workspace several(Backwards{&most}, 3);
  const WideMatrix<T> values = op.to_dense().template cast<Wide<T>>();
  const Matrix<T> X = random.matrix<T>(op.cols(), 150);
  const Matrix<T> base = random.matrix<T>(op.rows(), 150) * T(unit);
  const WideMatrix<T> product = values * X.template cast<Wide<T>>();
  const WideMatrix<T> sum = product + base.template cast<Wide<T>>();
  const auto rounding = gamma<T>(static_cast<double>(op.cols()) + 5);
  const WideMatrix<T> bound =
      rounding * (values.cwiseAbs() * X.cwiseAbs().template cast<Wide<T>>() +
                  base.cwiseAbs().template cast<Wide<T>>());
  const WideMatrix<T> back = values.transpose() * base.template cast<Wide<T>>();
  const WideMatrix<T> back_bound =
      gamma<T>(static_cast<double>(op.rows()) + 5) *
      (values.transpose().cwiseAbs() * base.cwiseAbs().template cast<Wide<T>>());
  Matrix<T> all(op.rows(), 150);
  op.apply(X, all);
  Matrix<T> all_added = base;
  op.apply_add(X, all_added);
  for (const Index batch : {1, 2, 5, 9, 33, 64, 65, 150}) {
    CAPTURE(batch);
    Matrix<T> Y = Matrix<T>::Constant(op.rows(), batch, std::numeric_limits<T>::quiet_NaN());
    op.apply(X.leftCols(batch), Y);
    CHECK(beyond<Matrix<T>>(Y, product.leftCols(batch), bound.leftCols(batch)) == "");
    CHECK(Y == all.leftCols(batch));
    Y.setConstant(std::numeric_limits<T>::quiet_NaN());
    op.apply(X.leftCols(batch), Y, several);
    CHECK(Y == all.leftCols(batch));
    Y = base.leftCols(batch);
    op.apply_add(X.leftCols(batch), Y, several);
    CHECK(beyond<Matrix<T>>(Y, sum.leftCols(batch), bound.leftCols(batch)) == "");
    CHECK(Y == all_added.leftCols(batch));
    Matrix<T> Z(op.cols(), batch);
    op.apply_transpose(base.leftCols(batch), Z);
    CHECK(beyond<Matrix<T>>(Z, back.leftCols(batch), back_bound.leftCols(batch)) == "");
    Matrix<T> Z_several(op.cols(), batch);
    op.apply_transpose(base.leftCols(batch), Z_several, several);
    CHECK(Z_several == Z);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("rounding is blind to the scale of a matrix", "[matrix][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(91);
  check_blind<Dense<T>>(random.matrix<T>(17, 133));
  check_blind<SemiStructured<T>>(two_of_four(random.matrix<T>(17, 133)));
}

TEMPLATE_TEST_CASE("matrices far from 1 are applied as they are stored", "[matrix][storage]",
                   PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(92);
  for (const auto& [rows, cols] : {std::pair{1, 1}, {33, 70}, {50, 1030}})
    for (const Storage storage : {Storage::f16, Storage::int4, Storage::int2})
      for (const double unit : {1e-8, 1e-3, 1e8}) {
        CAPTURE(to_string(storage), rows, cols, unit);
        Matrix<T> W = random.matrix<T>(rows, cols) * T(unit);
        W(0, 0) = T(unit);
        check_applied<Dense<T>, T>(Dense<T>(W, storage), unit, random);
        check_applied<SemiStructured<T>, T>(SemiStructured<T>(two_of_four(W), storage), unit,
                                            random);
      }
}

TEMPLATE_TEST_CASE("exponents come back, and those that no number has are refused",
                   "[matrix][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  Random random(93);
  const Matrix<T> W = two_of_four<T>(random.matrix<T>(5, 70) * T(1e-9));
  const int most = std::numeric_limits<T>::max_exponent - 1;
  const auto check = [&]<class Op>(const Op& op) {
    const Parts parts = op.parts();
    CHECK(parts.attributes.at("exponent") == std::to_string(op.exponent()));
    const Op back = Op::from_parts(parts);
    CHECK(back.exponent() == op.exponent());
    CHECK(back.to_dense() == op.to_dense());
    CHECK(back.parts().attributes == parts.attributes);
    for (const std::string text : {"", "x", "01", "1.5", "-1023", "9999999999", "1024"}) {
      Parts wrong = parts;
      wrong.attributes["exponent"] = text;
      CHECK_THROWS_AS(Op::from_parts(wrong), std::invalid_argument);
    }
    Parts other = parts;
    other.attributes["exponent"] = std::to_string(most + 1);
    CHECK_THROWS_AS(Op::from_parts(other), std::invalid_argument);
    other.attributes["exponent"] = "-1022";  // of a double; a float has no such number, and 0
    CHECK(Op::from_parts(other).to_dense().cwiseAbs().maxCoeff() <= T(1e-30));
  };
  for (const Storage storage : {Storage::f16, Storage::int4, Storage::int3, Storage::int2}) {
    check(Dense<T>(W, storage));
    check(SemiStructured<T>(W, storage));
    // Without an exponent in the file, it is 0.
    Parts parts = Dense<T>(W, storage).parts();
    parts.attributes.erase("exponent");
    CHECK(Dense<T>::from_parts(parts).exponent() == 0);
  }
  const Matrix<float> scales = Matrix<float>::Ones(5, 3);
  CHECK(Dense<T>(W, Storage::int4, scales, -30).exponent() == -30);
  CHECK(Dense<T>(Matrix<T>::Constant(5, 70, T(-0x1p-28)), Storage::int4, scales, -30)
            .to_dense()
            .isConstant(T(-0x1p-28), T(0)));
  CHECK_THROWS_AS(Dense<T>(W, Storage::int4, scales, most + 1), std::invalid_argument);
  CHECK_THROWS_AS(Dense<T>(W, Storage::int4, scales, -most), std::invalid_argument);
}

TEMPLATE_TEST_CASE("what is stored does not depend on how the processor takes subnormal floats",
                   "[matrix][storage]", PLEAT_TEST_SCALARS) {
  using T = TestType;
  {
    const FlushToZero mode;
    REQUIRE(FlushToZero::works());
  }
  Random random(94);
  const auto check = [&]<class Op>(const Matrix<T>& W, Storage storage, Op) {
    const Op op(W, storage);
    const Matrix<T> dense = op.to_dense();
    const Matrix<T> X = random.matrix<T>(W.cols(), 70);
    Matrix<T> expected(W.rows(), 70);
    op.apply(X, expected);
    Matrix<T> few(W.rows(), 2);
    Matrix<T> many(W.rows(), 70);
    std::map<std::string, std::vector<std::byte>> stored;
    std::map<std::string, std::vector<std::byte>> reread;
    {
      const FlushToZero mode;
      const Op made(W, storage);
      stored = stored_in(made);
      const Op read = Op::from_parts(made.parts());
      reread = stored_in(read);
      read.apply(X.leftCols(2), few);
      read.apply(X, many);
    }
    CHECK(stored == stored_in(op));
    CHECK(reread == stored);
    // All but what is too small to be a float then: int8 has scales of those.
    const T least = T(std::numeric_limits<float>::min() * 1000);
    CHECK((many - expected).cwiseAbs().maxCoeff() <= least);
    CHECK((few - expected.leftCols(2)).cwiseAbs().maxCoeff() <= least);
    CHECK(dense == op.to_dense());
  };
  for (const Storage storage : storages_with_exponent)
    for (const double unit : {1e-38, 1e-37, 1e-7, 1e-5}) {
      CAPTURE(to_string(storage), unit);
      Matrix<T> W = two_of_four(random.matrix<T>(19, 140));
      W.row(3) *= T(unit);
      check(W, storage, Dense<T>());
      check(W, storage, SemiStructured<T>());
      W *= T(unit);
      check(W, storage, Dense<T>());
    }
}

}  // namespace pleat::test
