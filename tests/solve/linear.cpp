// SPDX-License-Identifier: MIT
// The linear algebra of the makers: Gram matrices in stripes, the leading eigenpairs of one, and
// systems by Cholesky factors in blocks.
#include "pleat/core/threads.hpp"
#include "pleat/solve/linear/cholesky_solver.hpp"
#include "pleat/solve/linear/definite_root.hpp"
#include "pleat/solve/linear/leading_eigenpairs.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <cmath>
#include <limits>

namespace pleat::test {

TEST_CASE("a Gram matrix is symmetric to the bit, whatever its stripes and threads", "[linear]") {
  Random random(71);
  for (const Index rows : {0, 1, 17, 255, 256, 257, 600})
    for (const Index cols : {1, 40}) {
      CAPTURE(rows, cols);
      const Matrix<double> A = random.matrix<double>(rows, cols);
      const Matrix<double> K = detail::outer_gram(A);
      CHECK(K == K.transpose());
      CHECK((K - A * A.transpose()).norm() <= 1e-14 * K.norm() * double(cols + 1));
      const Matrix<double> transposed = A.transpose();
      CHECK(detail::outer_gram(transposed.transpose()) == K);
      set_num_threads(2);
      const Matrix<double> same = detail::outer_gram(A);
      set_num_threads(1);
      CHECK(same == K);
    }
}

TEST_CASE("leading eigenvectors are orthonormal, wherever the iteration is stopped", "[linear]") {
  Random random(72);
  const Index size = 300;
  const Matrix<double> Q = detail::orthonormal(random.matrix<double>(size, size));
  REQUIRE(Q.cols() == size);
  // From even to one that falls by ten orders of magnitude.
  for (const double slope : {0.0, 0.01, 0.08}) {
    const Vector<double> values =
        Vector<double>::LinSpaced(size, 0, double(size - 1)).unaryExpr([slope](double i) {
          return std::exp(-slope * i);
        });
    const Matrix<double> K = detail::outer_gram(Q * values.cwiseSqrt().asDiagonal());
    double before = 1;
    for (const Index stop : {1, 2, 3, 9}) {
      CAPTURE(slope, stop);
      const auto pairs = detail::randomized_eigenpairs(
          K, 20, 10, 6, 5, [stop](Index iteration, double) { return iteration < stop; });
      REQUIRE(pairs.vectors.cols() == 20);
      const Matrix<double> gram = pairs.vectors.transpose() * pairs.vectors;
      CHECK((gram - Matrix<double>::Identity(20, 20)).norm() < 1e-12);
      // What the subspace misses of the best one, which every iteration lessens.
      const double missed = 1 - pairs.values.sum() / values.head(20).sum();
      CHECK(missed >= -1e-12);
      CHECK(missed <= before + 1e-12);
      before = missed;
    }
    // Seven products, each of which lessens it by the squared ratio of eigenvalues 31 and 20.
    CHECK(before < std::exp(-slope * 11 * 2 * 7));
  }
}

TEST_CASE("a matrix has no more leading eigenpairs than its rank", "[linear]") {
  Random random(73);
  const Matrix<double> K = detail::outer_gram(random.matrix<double>(270, 7));
  const auto pairs =
      detail::randomized_eigenpairs(K, 20, 10, 6, 5, [](Index, double) { return true; });
  const auto kept = detail::numerically_positive(pairs, 20, K.trace());
  REQUIRE(kept.vectors.cols() == 7);
  const Matrix<double> rest =
      K - kept.vectors * kept.values.asDiagonal() * kept.vectors.transpose();
  CHECK(rest.norm() <= 1e-12 * K.norm());
  const Matrix<double> nothing = Matrix<double>::Zero(30, 30);
  CHECK(detail::randomized_eigenpairs(nothing, 4, 4, 2, 5, [](Index, double) {
          return true;
        }).values.size() == 0);
}

TEMPLATE_TEST_CASE("a system is solved by its factor in blocks", "[linear]", float, double) {
  using T = TestType;
  Random random(74);
  for (const Index size : {0, 1, 2, 64, 127, 128, 129, 257, 300, 2049}) {
    const Matrix<double> X = random.matrix<double>(size, 40);
    Matrix<double> A = X * X.transpose() / 40;
    A.diagonal().array() += 0.1;
    detail::CholeskySolver<T> solver;
    Matrix<double> lower = A.triangularView<Eigen::Lower>();
    REQUIRE(solver.factor(lower));  // which reads no more
    set_num_threads(2);
    detail::CholeskySolver<T> on_two;
    REQUIRE(on_two.factor(A));
    set_num_threads(1);
    for (const Index batch : {0, 1, 3, 64}) {
      CAPTURE(size, batch);
      const Matrix<T> B = random.matrix<T>(size, batch);
      Matrix<T> solution = B;
      solver.solve_in_place(solution);
      const double eps = double(std::numeric_limits<T>::epsilon());
      CHECK((A * solution.template cast<double>() - B.template cast<double>()).norm() <=
            100 * eps * A.norm() * double(solution.norm()));
      set_num_threads(2);
      Matrix<T> same = B;
      on_two.solve_in_place(same);
      set_num_threads(1);
      CHECK(same == solution);
    }
  }
}

TEST_CASE("what is not positive definite has no such factor", "[linear]") {
  for (const Index size : {1, 130, 300})
    for (const Index at : {Index{0}, size / 2, size - 1})
      for (const double pivot : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
        CAPTURE(size, at, pivot);
        Matrix<double> A = Matrix<double>::Identity(size, size);
        A(at, at) = pivot;
        detail::CholeskySolver<> solver;
        CHECK(!solver.factor(A));
        CHECK(solver.factor(Matrix<double>::Identity(size, size)));  // which can be tried again
        Matrix<double> B = Matrix<double>::Constant(size, 1, 2.0);
        solver.solve_in_place(B);
        CHECK((B.array() == 2.0).all());
      }
}

TEST_CASE("systems of a Gram matrix that may be singular", "[linear]") {
  Random random(115);
  for (const Index n : {1, 9, 200}) {
    const Matrix<double> A = random.matrix<double>(n, n);
    const Matrix<double> G = A * A.transpose() + Matrix<double>::Identity(n, n);
    const Matrix<double> B = random.matrix<double>(n, 5);
    CHECK((G * detail::DefiniteSolver<>(G).solve(B) - B).norm() <= 1e-5 * B.norm());
  }
  // Of rank 60, with inputs of very different sizes and one that is dead: what lies in the range
  // comes back, for each input in its own size.
  Matrix<double> X = random.matrix<double>(150, 60);
  X.row(2) *= 1e-5;
  X.row(7) *= 1e5;
  X.row(4).setZero();
  const Matrix<double> G = X * X.transpose();
  const Matrix<double> solved = detail::DefiniteSolver<>(G).solve(X);
  CHECK(solved.row(4).isZero(0));
  const Matrix<double> back = G * solved;
  for (Index i = 0; i < 150; ++i)
    CHECK((back - X).row(i).norm() <= 1e-5 * (X.row(i).norm() + 1e-300));
  // Not semidefinite, as no sum of squares is but by rounding.
  Matrix<double> bad = Matrix<double>::Constant(3, 3, -0.9);
  bad.diagonal().setOnes();
  const Matrix<double> inverse = detail::definite_root(bad).inverse;
  CHECK(detail::DefiniteSolver<>(bad).solve(Matrix<double>::Identity(3, 3)) == inverse);
  CHECK(detail::DefiniteSolver<>(Matrix<double>::Zero(3, 3))
            .solve(Matrix<double>::Ones(3, 2))
            .isZero(0));
}

}  // namespace pleat::test
