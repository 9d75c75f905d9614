// SPDX-License-Identifier: MIT
// Exact transforms: each against its definition, and what makes them worth their names.
#include "pleat/factor/transforms.hpp"

#include "support/catch.hpp"
#include "support/random.hpp"

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <numbers>
#include <stdexcept>
#include <string>

namespace pleat::test {
namespace {

constexpr std::array<Index, 16> transform_sizes{0,  1,  2,  3,  4,  5,  6,   7,
                                                15, 16, 36, 48, 64, 97, 100, 512};

/// cos(2 pi times a / b), reduced before the division.
double turn_cosine(Index a, Index b) {
  return static_cast<double>(
      std::cos(2 * std::numbers::pi_v<long double> * static_cast<long double>(a % b) /
               static_cast<long double>(b)));
}
double turn_sine(Index a, Index b) {
  return static_cast<double>(
      std::sin(2 * std::numbers::pi_v<long double> * static_cast<long double>(a % b) /
               static_cast<long double>(b)));
}

Matrix<double> dct_matrix(Index n) {
  return Matrix<double>::NullaryExpr(n, n, [n](Index r, Index i) {
    return std::sqrt((r == 0 ? 1.0 : 2.0) / static_cast<double>(n)) *
           turn_cosine((2 * i + 1) * r, 4 * n);
  });
}

/// Re 0, Re 1, Im 1, Re 2, ...
Matrix<double> real_dft_matrix(Index n) {
  return Matrix<double>::NullaryExpr(n, n, [n](Index row, Index i) {
    const Index f = (row + 1) / 2;
    const bool is_single = f == 0 || 2 * f == n;
    const double scale = std::sqrt((is_single ? 1.0 : 2.0) / static_cast<double>(n));
    return scale * (row == 0 || row % 2 == 1 ? turn_cosine(i * f, n) : -turn_sine(i * f, n));
  });
}

/// Level by level: sums of pairs, and after them differences.
Matrix<double> haar_matrix(Index n) {
  Matrix<double> W = Matrix<double>::Identity(n, n);
  for (Index size = n; size > 1; size /= 2) {
    const Matrix<double> rows = W.topRows(size);
    for (Index k = 0; k < size / 2; ++k) {
      W.row(k) = (rows.row(2 * k) + rows.row(2 * k + 1)) / std::sqrt(2.0);
      W.row(size / 2 + k) = (rows.row(2 * k) - rows.row(2 * k + 1)) / std::sqrt(2.0);
    }
  }
  return W;
}

template <class Derived>
auto circulant_matrix(const Eigen::MatrixBase<Derived>& c) {
  const Index n = c.size();
  Matrix<typename Derived::Scalar> W(n, n);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) W(i, j) = c((i - j + n) % n);
  return W;
}

/// The largest difference of two matrices of one shape.
double furthest(const Matrix<double>& A, const Matrix<double>& B) {
  if (A.rows() != B.rows() || A.cols() != B.cols()) return INFINITY;
  return A.size() == 0 ? 0 : (A - B).cwiseAbs().maxCoeff();
}

/// Checks an operator against the matrix that it is to be, by all that it does.
template <class Op>
void check_transform(const Op& op, const Matrix<double>& W, Random& random) {
  using T = typename Op::Scalar;
  const double most = std::same_as<T, double> ? 1e-13 : 4e-6;
  const Index n = W.rows();
  CHECK(op.rows() == n);
  CHECK(op.cols() == n);
  CHECK(furthest(op.to_dense().template cast<double>(), W) <= most);
  const Matrix<T> X = random.matrix<T>(n, 3);
  Matrix<T> Y(n, 3);
  op.apply(X, Y);
  CHECK(furthest(Y.template cast<double>(), W * X.template cast<double>()) <= 10 * most);
  op.apply_transpose(X, Y);
  CHECK(furthest(Y.template cast<double>(), W.transpose() * X.template cast<double>()) <=
        10 * most);
}

/// Of an operator that is orthogonal: the same, and its transpose is its inverse.
template <class Op>
void check_orthogonal(const Op& op, const Matrix<double>& W, Random& random) {
  using T = typename Op::Scalar;
  check_transform(op, W, random);
  const Matrix<T> X = random.matrix<T>(op.cols(), 3);
  Matrix<T> Y(op.rows(), 3);
  op.apply(X, Y);
  Matrix<T> back(op.cols(), 3);
  op.apply_transpose(Y, back);
  const double most = std::same_as<T, double> ? 1e-13 : 4e-6;
  CHECK(furthest(back.template cast<double>(), X.template cast<double>()) <= 10 * most);
}

}  // namespace

TEMPLATE_TEST_CASE("the cosine transform and its inverse", "[factor][transforms]", float, double) {
  using T = TestType;
  Random random(161);
  for (const Index n : transform_sizes) {
    CAPTURE(n);
    const Matrix<double> C = dct_matrix(n);
    check_orthogonal(dct<T>(n), C, random);
    check_orthogonal(inverse_dct<T>(n), C.transpose(), random);
  }
  // By hand: half of 10, and the root of 1 / 2 times sums of cosines of eighths of pi.
  const Vector<double> x{{1, 2, 4, 3}};
  const Vector<double> known{{5, -1.8477590650225735, -1, 0.7653668647301797}};
  Vector<double> y(4);
  dct<double>(4).apply(x, y);
  CHECK(furthest(y, known) <= 1e-14);
}

TEMPLATE_TEST_CASE("the Fourier transform of real numbers and its inverse", "[factor][transforms]",
                   float, double) {
  using T = TestType;
  Random random(162);
  for (const Index n : transform_sizes) {
    CAPTURE(n);
    const Matrix<double> F = real_dft_matrix(n);
    check_orthogonal(real_dft<T>(n), F, random);
    check_orthogonal(inverse_real_dft<T>(n), F.transpose(), random);
  }
  // The sum of exp(-2 pi i f k / 4) x_k is 10, -3 + i, 0.
  const Vector<double> x{{1, 2, 4, 3}};
  const Vector<double> known{{5, -3 / std::sqrt(2.0), 1 / std::sqrt(2.0), 0}};
  Vector<double> y(4);
  real_dft<double>(4).apply(x, y);
  CHECK(furthest(y, known) <= 1e-14);
}

TEST_CASE("transforms with divisors are fast", "[factor][transforms]") {
  // K = 16, J = 32: 2 n (K + J) values.
  const double flops = 4.0 * 512 * (16 + 32);
  const std::size_t values = std::size_t{2} * 512 * (16 + 32);
  CHECK(dct<float>(512).flops() == flops);
  CHECK(inverse_dct<float>(512).flops() == flops);
  CHECK(real_dft<float>(512).flops() == flops);
  CHECK(inverse_real_dft<float>(512).flops() == flops);
  CHECK(flops < 2.0 * 512 * 512 / 5);
  CHECK(dct<float>(512).bytes() == 4 * values + 2 * 512);
  CHECK(real_dft<float>(512).bytes() == 4 * values + 4 * 512);
  const auto fourier = dct<float>(512).operand<0>();
  CHECK(fourier.input_blocks() == 16);
  CHECK(fourier.output_classes() == 32);
  CHECK(fourier.block_rank() == 2);
  // A prime has none.
  CHECK(dct<float>(97).flops() == 2.0 * 97 * 98);
}

TEST_CASE("factors of transforms are right to the last bit, whatever the angle",
          "[factor][transforms]") {
  // Quarters of a turn are exact, and so are the sums that should vanish.
  const Matrix<double> F = real_dft<double>(16).to_dense();
  CHECK(F.row(0) == Vector<double>::Constant(16, 0.25).transpose());
  CHECK((F.row(15).cwiseAbs().array() == 0.25).all());
  CHECK(F(7, 1) == 0);  // cos of 4 / 16 of a turn
  CHECK(F(8, 2) == 0);  // sin of 8 / 16
  const auto monarch = dct<double>(4096).operand<0>();
  const Vector<double> L = monarch.left().values();
  const Vector<double> R = monarch.right().values();
  CHECK(R.cwiseAbs().maxCoeff() == 1);
  // w_{k, p, q} of class j = 5, row l = 33: r = 33 * 64 + 5, and block k = 7.
  const Index r = 33 * 64 + 5;
  const long double angle = std::numbers::pi_v<long double> *
                            static_cast<long double>(r * (4 * 7 + 1) % (4 * 4096)) / (2 * 4096);
  const long double scale = std::sqrt(2.0L / 4096);
  const Index at = (5 * 64 + 33) * 128 + 2 * 7;
  CHECK(L(at) == static_cast<double>(scale * std::cos(angle)));
  CHECK(L(at + 1) == static_cast<double>(-scale * std::sin(angle)));
}

TEMPLATE_TEST_CASE("the Haar transform", "[factor][transforms]", float, double) {
  using T = TestType;
  Random random(163);
  CHECK(haar<T>(0).rows() == 0);
  for (Index n = 1; n <= 1024; n *= 2) {
    CAPTURE(n);
    check_orthogonal(haar<T>(n), haar_matrix(n), random);
  }
  // Four levels of 512 values, four of 32, one of 2; and what stays.
  CHECK(haar<T>(512).flops() == 2 * (5 * 512 + (5 * 32 + 480) + (2 * 2 + 510)));
  CHECK(haar<T>(8).flops() == 2 * 4 * 8);
}

TEST_CASE("the Haar transform of more than 16 bits", "[factor][transforms]") {
  const Index n = Index{1} << 17;
  const auto op = haar<float>(n);
  const Vector<float> ones = Vector<float>::Ones(n);
  Vector<float> y(n);
  op.apply(ones, y);
  CHECK(y(0) == Approx(std::sqrt(double(n))).epsilon(1e-6));
  CHECK(y.tail(n - 1).cwiseAbs().maxCoeff() <= 1e-4F);
  CHECK(op.flops() < 2 * double(n) * (17.0 / 4 + 5.1));
}

TEMPLATE_TEST_CASE("circulant matrices of any size", "[factor][transforms]", float, double) {
  using T = TestType;
  Random random(164);
  for (const Index n : {0, 1, 2, 3, 7, 36, 64, 81, 97, 100, 257, 300, 314, 512, 1021}) {
    CAPTURE(n);
    const Matrix<T> c = random.matrix<T>(n, 1) / std::sqrt(static_cast<T>(n));
    const auto op = circulant(c.col(0));
    const Matrix<double> W = circulant_matrix(c.col(0)).template cast<double>();
    check_transform(op, W, random);
    CHECK(op.flops() <= 2.0 * double(n) * double(n));
    Vector<T> reversed = c.col(0);
    if (n > 1) reversed.tail(n - 1) = c.col(0).tail(n - 1).reverse();
    CHECK(furthest(circulant(reversed).to_dense().template cast<double>(), W.transpose()) <=
          (std::same_as<T, double> ? 1e-13 : 4e-6));
  }
}

TEST_CASE("circulant matrices take the form that is cheapest", "[factor][transforms]") {
  using Whole = Product<Monarch<float>, RowSparse<float>, Monarch<float>, Permutation<float>>;
  using Corner = Product<Monarch<float>, RowSparse<float>, Monarch<float>, RowSparse<float>>;
  const auto of = [](Index n) {
    return circulant(Vector<float>(Vector<float>::LinSpaced(n, 1, 2)));
  };
  CHECK(of(48).get_if<Dense<float>>() != nullptr);
  CHECK(of(512).get_if<Whole>() != nullptr);
  CHECK(of(512).flops() == 8.0 * 512 * (16 + 32) + 4.0 * 512);
  CHECK(of(1021).get_if<Corner>() != nullptr);
  CHECK(of(1021).flops() < 0.65 * 2 * 1021 * 1021);
}

TEST_CASE("transforms that there are not are refused", "[factor][transforms]") {
  using Catch::Contains;
  CHECK_THROWS_WITH(dct<float>(-1), Contains("dct: the size is -1"));
  CHECK_THROWS_WITH(inverse_dct<float>(-2), Contains("inverse_dct: the size is -2"));
  CHECK_THROWS_WITH(real_dft<float>(-1), Contains("real_dft: the size is -1"));
  CHECK_THROWS_WITH(inverse_real_dft<float>((Index{1} << 24) + 1), Contains("16777217"));
  CHECK_THROWS_WITH(haar<float>(-1), Contains("haar: the size is -1"));
  CHECK_THROWS_WITH(haar<float>(12), Contains("haar: the size is 12, not a power of two"));
  CHECK_THROWS_AS(haar<float>(12), std::invalid_argument);
  Vector<double> c = Vector<double>::Ones(5);
  c(3) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(circulant(c), Contains("row 3"));
}

}  // namespace pleat::test
