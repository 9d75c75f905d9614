// SPDX-License-Identifier: MIT
// What every operator promises, asked of every operator: each test is one promise of
// LinearOperator.
#include "io/files.hpp"
#include "pleat/core/threads.hpp"
#include "pleat/io/operator_file.hpp"
#include "support/allocation_count.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/layout.hpp"
#include "support/operators.hpp"

#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <stdlib.h>
#include <string>
#include <thread>
#include <vector>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace pleat::test {
namespace {

constexpr Index most = reduced ? 65 : 200;
constexpr std::array<Index, 10> batches{0, 1, 2, 3, 5, 7, 16, 17, 64, most};

template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();

/// One operator of the list in one scenario, with inputs and what they must give.
template <Real T>
struct Trial {
  Scenario scenario;
  std::uint64_t seed;
  std::unique_ptr<const Subject<T>> subject;
  Matrix<T> X;  // inputs, and what apply_transpose puts out
  Matrix<T> Y;  // outputs, and what apply_transpose takes
  Reference<T> applied;
  Reference<T> added;  // to Y
  Reference<T> transposed;
};

/// Samples for a scenario: whole numbers where the operator's are, and an exact zero now and then.
template <Real T>
Matrix<T> samples(Random& random, Pattern pattern, Index rows, Index cols) {
  if (pattern == Pattern::integers || pattern == Pattern::identity || pattern == Pattern::zeros)
    return random.integers<T>(rows, cols, 2);
  Matrix<T> result = random.matrix<T>(rows, cols);
  for (Index j = 0; j < cols; ++j)
    for (Index i = 0; i < rows; ++i)
      if (random.integer(0, 9) == 0) result(i, j) = T(0);
  return result;
}

template <Real T, std::size_t N>
std::vector<Trial<T>> make_trials(const std::array<Scenario, N>& list) {
  std::vector<Trial<T>> result;
  std::uint64_t seed = 1000;
  for (const Scenario& s : list) {
    ++seed;
    if (reduced && s.resembles_others) continue;
    for (auto& subject : all_subjects<T>(s.rows, s.cols, s.pattern, seed)) {
      Random random(seed + 500);
      const Oracle<T>& oracle = subject->oracle;
      const auto X = samples<T>(random, s.pattern, s.cols, most);
      const auto Y = samples<T>(random, s.pattern, s.rows, most);
      Trial<T> trial{s, seed, nullptr, X, Y, {oracle, X}, {oracle, X, Y}, {oracle.transpose(), Y}};
      trial.subject = std::move(subject);
      if (trial.subject->exact &&
          (s.pattern == Pattern::integers || s.pattern == Pattern::identity ||
           s.pattern == Pattern::zeros)) {  // small whole numbers: nothing is ever rounded
        for (Reference<T>* r : {&trial.applied, &trial.added, &trial.transposed})
          r->bound.setZero();
      }
      result.push_back(std::move(trial));
    }
  }
  return result;
}

template <Real T>
const std::vector<Trial<T>>& trials() {
  static const std::vector<Trial<T>> all = make_trials<T>(scenarios);
  return all;
}

/// Calls `body(trial)` for every operator in every scenario.
template <Real T, class Body>
void for_each_trial(Body body) {
  for (const Trial<T>& trial : trials<T>()) {
    INFO(trial.subject->name << ", " << trial.scenario.name << ", seed " << trial.seed);
    body(trial);
  }
}

/// Columns of a reference.
template <class M>
M left(const M& matrix, Index batch) {
  return matrix.leftCols(batch);
}

}  // namespace

TEMPLATE_TEST_CASE("the operator has the shape it was made for", "[conformance]", float, double) {
  for_each_trial<TestType>([](const auto& trial) {
    CHECK(trial.subject->rows() == trial.scenario.rows);
    CHECK(trial.subject->cols() == trial.scenario.cols);
  });
}

TEMPLATE_TEST_CASE("apply is What X, and a NaN left in Y does not survive", "[conformance]", float,
                   double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    for (const Index batch : batches) {
      CAPTURE(batch);
      const auto exact = left(trial.applied.exact, batch);
      const auto bound = left(trial.applied.bound, batch);
      const Matrix<T> X = trial.X.leftCols(batch);
      Matrix<T> Y = Matrix<T>::Constant(op.rows(), batch, nan<T>);
      op.apply(X, Y);
      CHECK(beyond(Y, exact, bound) == "");

      Workspace workspace;
      Matrix<T> again = Matrix<T>::Constant(op.rows(), batch, std::numeric_limits<T>::infinity());
      op.apply(X, again, workspace);
      CHECK(difference(again, Y) == "");
    }
  });
}

TEMPLATE_TEST_CASE("apply_add is Y + What X", "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    for (const Index batch : batches) {
      CAPTURE(batch);
      const Matrix<T> X = trial.X.leftCols(batch);
      Matrix<T> Y = trial.Y.leftCols(batch);
      op.apply_add(X, Y);
      CHECK(beyond(Y, left(trial.added.exact, batch), left(trial.added.bound, batch)) == "");

      Workspace workspace;
      Matrix<T> again = trial.Y.leftCols(batch);
      op.apply_add(X, again, workspace);
      CHECK(difference(again, Y) == "");
    }
  });
}

TEMPLATE_TEST_CASE("apply_transpose is What^T Y, and a NaN left in X does not survive",
                   "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    for (const Index batch : batches) {
      CAPTURE(batch);
      const Matrix<T> Y = trial.Y.leftCols(batch);
      Matrix<T> X = Matrix<T>::Constant(op.cols(), batch, nan<T>);
      op.apply_transpose(Y, X);
      CHECK(beyond(X, left(trial.transposed.exact, batch), left(trial.transposed.bound, batch)) ==
            "");

      Workspace workspace;
      Matrix<T> again = Matrix<T>::Constant(op.cols(), batch, std::numeric_limits<T>::infinity());
      op.apply_transpose(Y, again, workspace);
      CHECK(difference(again, X) == "");
    }
  });
}

TEMPLATE_TEST_CASE(
    "memory with gaps between the columns is as good, and the gaps stay as they were",
    "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    for (const Index batch : {0, 1, 3, 17, 64}) {
      CAPTURE(batch);
      Strided<T> X(trial.X.leftCols(batch));
      Strided<T> Y(op.rows(), batch, nan<T>);
      Matrix<T> tight(op.rows(), batch);
      op.apply(Matrix<T>(X.view()), tight);
      op.apply(X.view(), Y.view());
      CHECK(difference(Y.view(), tight) == "");
      CHECK(Y.gaps_untouched());

      op.apply_add(Matrix<T>(X.view()), tight);
      op.apply_add(X.view(), Y.view());
      CHECK(difference(Y.view(), tight) == "");
      CHECK(Y.gaps_untouched());

      Strided<T> back(op.cols(), batch, nan<T>);
      Matrix<T> tight_back(op.cols(), batch);
      op.apply_transpose(tight, tight_back);
      op.apply_transpose(Y.view(), back.view());
      CHECK(difference(back.view(), tight_back) == "");
      CHECK(back.gaps_untouched());
      CHECK(difference(X.view(), left(trial.X, batch)) == "");
    }
  });
}

TEMPLATE_TEST_CASE("vectors, maps of raw pointers and blocks bind without a copy", "[conformance]",
                   float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    const Vector<T> x = trial.X.col(4);
    Vector<T> y = Vector<T>::Constant(op.rows(), nan<T>);
    op.apply(x, y);
    std::vector<T> raw(static_cast<std::size_t>(op.rows()), nan<T>);
    op.apply(Eigen::Map<const Matrix<T>>(x.data(), op.cols(), 1),
             Eigen::Map<Matrix<T>>(raw.data(), op.rows(), 1));
    CHECK(difference(Eigen::Map<Vector<T>>(raw.data(), op.rows()), y) == "");
    Matrix<T> Y = Matrix<T>::Zero(op.rows() + 2, 9);
    op.apply(trial.X.middleCols(4, 3), Y.block(1, 5, op.rows(), 3));
    CHECK(difference(Y.block(1, 5, op.rows(), 1), y) == "");
    CHECK(Y.row(0).isZero(0));
    CHECK(Y.row(op.rows() + 1).isZero(0));
    CHECK(Y.leftCols(5).isZero(0));
    CHECK(Y.rightCols(1).isZero(0));
  });
}

TEMPLATE_TEST_CASE("to_dense is What", "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    const Reference<T> columns(op.oracle, Matrix<T>::Identity(op.cols(), op.cols()));
    CHECK(beyond(op.to_dense(), columns.exact, columns.bound) == "");
  });
}

TEMPLATE_TEST_CASE("apply is linear", "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    constexpr Index batch = 9;
    // Powers of two, so that scaling rounds nothing.
    const Matrix<T> X = trial.X.leftCols(batch);
    const Matrix<T> Z = trial.X.rightCols(batch);
    Matrix<T> Y(op.rows(), batch);
    Matrix<T> scaled(op.rows(), batch);
    op.apply(X, Y);
    op.apply(Matrix<T>(X * T(-4)), scaled);
    // Scaling by a power of two commutes with rounding where nothing underflows.
    if (trial.scenario.pattern != Pattern::denormal && trial.scenario.pattern != Pattern::tiny)
      CHECK((scaled.array() == Y.array() * T(-4)).all());

    const Matrix<T> sum = X * T(2) + Z * T(-0.5);
    const WideMatrix<T> wide = X.template cast<Wide<T>>() * 2 - Z.template cast<Wide<T>>() / 2;
    op.apply(sum, Y);
    Matrix<T> parts(op.rows(), batch);
    op.apply(Matrix<T>(Z * T(-0.5)), parts);
    op.apply_add(Matrix<T>(X * T(2)), parts);
    const WideMatrix<T> exact = multiply(op.oracle.exact, wide);
    // Both sides round each product and sum, and the left side also the sum of the inputs.
    const WideMatrix<T> reach =
        X.template cast<Wide<T>>().cwiseAbs() * 2 + Z.template cast<Wide<T>>().cwiseAbs() / 2;
    const WideMatrix<T> bound =
        multiply(op.oracle.magnitude, reach) * gamma<T>(2 * op.oracle.terms + 4) +
        4 * op.oracle.lost.replicate(1, batch);
    CHECK(beyond(Y, exact, bound) == "");
    CHECK(beyond(parts, exact, bound) == "");
  });
}

TEMPLATE_TEST_CASE("apply_transpose is the adjoint of apply", "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    constexpr Index batch = 11;
    const Matrix<T> X = trial.X.leftCols(batch);
    const Matrix<T> Y = trial.Y.leftCols(batch);
    Matrix<T> forward(op.rows(), batch);
    Matrix<T> backward(op.cols(), batch);
    op.apply(X, forward);
    op.apply_transpose(Y, backward);
    for (Index j = 0; j < batch; ++j) {
      // <What x, y> and <x, What^T y>, each in the wider type.
      Wide<T> left_side = 0;
      Wide<T> right_side = 0;
      Wide<T> reach = 0;  // |y|^T |What| |x| as the two results bound it
      for (Index i = 0; i < op.rows(); ++i) {
        left_side += static_cast<Wide<T>>(forward(i, j)) * static_cast<Wide<T>>(Y(i, j));
        reach += trial.applied.bound(i, j) * std::abs(static_cast<Wide<T>>(Y(i, j)));
      }
      for (Index k = 0; k < op.cols(); ++k) {
        right_side += static_cast<Wide<T>>(backward(k, j)) * static_cast<Wide<T>>(X(k, j));
        reach += trial.transposed.bound(k, j) * std::abs(static_cast<Wide<T>>(X(k, j)));
      }
      CAPTURE(j, left_side, right_side, reach);
      CHECK(std::abs(left_side - right_side) <= reach);
    }
  });
}

TEMPLATE_TEST_CASE("a sample's result does not depend on its neighbours", "[conformance]", float,
                   double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    for (const Index batch : {Index{7}, Index{64}, most}) {
      CAPTURE(batch);
      const Matrix<T> X = trial.X.leftCols(batch);
      Matrix<T> Y(op.rows(), batch);
      Matrix<T> one_by_one(op.rows(), batch);
      op.apply(X, Y);
      for (Index j = 0; j < batch; ++j) op.apply(X.col(j), one_by_one.col(j));
      CHECK(difference(Y, one_by_one) == "");

      const Matrix<T> G = trial.Y.leftCols(batch);
      Matrix<T> back(op.cols(), batch);
      Matrix<T> back_one_by_one(op.cols(), batch);
      op.apply_transpose(G, back);
      for (Index j = 0; j < batch; ++j) op.apply_transpose(G.col(j), back_one_by_one.col(j));
      CHECK(difference(back, back_one_by_one) == "");
    }
  });
}

TEMPLATE_TEST_CASE("NaN and infinity reach the outputs they belong to, and no other sample",
                   "[conformance]", float, double) {
  using T = TestType;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    const Pattern pattern = trial.scenario.pattern;
    // A weight that is lost to underflow on the way cannot carry anything.
    if (pattern == Pattern::denormal || pattern == Pattern::tiny) return;
    constexpr std::array<T, 3> poisons{nan<T>, infinity, -infinity};
    constexpr Index batch = 17;
    const auto spoil = [&](Index size, const Matrix<T>& in, Matrix<T>& spoilt) {
      spoilt = in;
      for (std::size_t p = 0; p < poisons.size(); ++p)
        spoilt(size / 3, static_cast<Index>(5 * p + 2)) = poisons[p];
      return size / 3;
    };
    const auto check = [&](const WideMatrix<T>& weight, Index at, const Matrix<T>& clean,
                           const Matrix<T>& out) {
      for (Index j = 0; j < batch; ++j) {
        if (j % 5 != 2 || j > 12) {
          CHECK(difference(out.col(j), clean.col(j)) == "");
          continue;
        }
        CAPTURE(j);
        for (Index i = 0; i < out.rows(); ++i) {
          if (weight(i, at) == 0) continue;
          if (j == 2) CHECK(std::isnan(out(i, j)));
          else CHECK(!std::isfinite(out(i, j)));
        }
      }
    };
    Matrix<T> spoilt;
    Matrix<T> clean(op.rows(), batch);
    Matrix<T> out(op.rows(), batch);
    const Matrix<T> X = trial.X.leftCols(batch);
    const Index column = spoil(op.cols(), X, spoilt);
    op.apply(X, clean);
    op.apply(spoilt, out);
    check(op.oracle.exact, column, clean, out);

    Matrix<T> back_clean(op.cols(), batch);
    Matrix<T> back(op.cols(), batch);
    const Matrix<T> Y = trial.Y.leftCols(batch);
    const Index row = spoil(op.rows(), Y, spoilt);
    op.apply_transpose(Y, back_clean);
    op.apply_transpose(spoilt, back);
    check(op.oracle.exact.transpose(), row, back_clean, back);
  });
}

TEMPLATE_TEST_CASE("shapes that do not fit throw with both shapes, and leave the output as it was",
                   "[conformance]", float, double) {
  using T = TestType;
  struct Wrong {
    Index in, out, in_batch, out_batch;
  };
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    const auto refused = [&](Index in_rows, Index out_rows, auto call) {
      for (const Wrong& w :
           {Wrong{1, 0, 3, 3}, Wrong{-1, 0, 3, 3}, Wrong{0, 1, 3, 3}, Wrong{0, -1, 3, 3},
            Wrong{0, 0, 3, 2}, Wrong{0, 0, 0, 1}, Wrong{1, 0, 0, 0}, Wrong{0, 0, 1, 0}}) {
        const Matrix<T> in = Matrix<T>::Constant(in_rows + w.in, w.in_batch, T(2));
        Matrix<T> out = Matrix<T>::Constant(out_rows + w.out, w.out_batch, T(7));
        const std::string in_shape = std::to_string(in.rows()) + " x " + std::to_string(in.cols());
        const std::string out_shape =
            std::to_string(out.rows()) + " x " + std::to_string(out.cols());
        CAPTURE(in_shape, out_shape);
        std::string message;
        try {
          call(in, out);
        } catch (const std::invalid_argument& error) {
          message = error.what();
        }
        CHECK(message.find(in_shape) != std::string::npos);
        CHECK(message.find(out_shape) != std::string::npos);
        CHECK((out.array() == T(7)).all());
      }
    };
    Workspace w;
    refused(op.cols(), op.rows(), [&](const auto& in, auto& out) { op.apply(in, out); });
    refused(op.cols(), op.rows(), [&](const auto& in, auto& out) { op.apply(in, out, w); });
    refused(op.cols(), op.rows(), [&](const auto& in, auto& out) { op.apply_add(in, out); });
    refused(op.cols(), op.rows(), [&](const auto& in, auto& out) { op.apply_add(in, out, w); });
    refused(op.rows(), op.cols(), [&](const auto& in, auto& out) { op.apply_transpose(in, out); });
    refused(op.rows(), op.cols(),
            [&](const auto& in, auto& out) { op.apply_transpose(in, out, w); });
  });
}

TEMPLATE_TEST_CASE("arguments that overlap throw; blocks of rows of one matrix do not overlap",
                   "[conformance]", float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    constexpr Index batch = 3;
    const Index m = op.rows();
    const Index n = op.cols();
    const auto size = static_cast<std::size_t>((m + n) * batch);
    using Map = Eigen::Map<Matrix<T>>;
    // From the same place, and sharing the last element of the one and the first of the other.
    for (const Index offset : {Index{0}, n * batch - 1}) {
      std::vector<T> memory(size, T(3));
      const Map X(memory.data(), n, batch);
      Map Y(memory.data() + offset, m, batch);
      CHECK_THROWS_AS(op.apply(X, Y), std::invalid_argument);
      CHECK_THROWS_AS(op.apply_add(X, Y), std::invalid_argument);
      CHECK_THROWS_AS(op.apply_transpose(Y, Map(X)), std::invalid_argument);
      CHECK(memory == std::vector<T>(size, T(3)));
    }
    // Next to each other.
    {
      std::vector<T> memory(size, T(3));
      const Map X(memory.data(), n, batch);
      CHECK_NOTHROW(op.apply(X, Map(memory.data() + n * batch, m, batch)));
    }
    Matrix<T> both(n + m, batch);
    both.topRows(n) = trial.X.leftCols(batch);
    both.bottomRows(m).setConstant(nan<T>);
    Matrix<T> Y(m, batch);
    op.apply(trial.X.leftCols(batch), Y);
    op.apply(both.topRows(n), both.bottomRows(m));
    CHECK(difference(both.bottomRows(m), Y) == "");
    CHECK(difference(both.topRows(n), left(trial.X, batch)) == "");
  });
}

TEMPLATE_TEST_CASE("bytes and flops are those of the definition", "[conformance]", float, double) {
  for_each_trial<TestType>([](const auto& trial) {
    CHECK(trial.subject->bytes() == trial.subject->expected_bytes);
    CHECK(trial.subject->flops() == trial.subject->expected_flops);
  });
}

TEMPLATE_TEST_CASE("describe is one line with structure, shape, scalar and bytes", "[conformance]",
                   float, double) {
  for_each_trial<TestType>([](const auto& trial) {
    const auto& op = *trial.subject;
    const std::string line = op.describe();
    CAPTURE(line);
    const std::string shape = std::to_string(op.rows()) + " x " + std::to_string(op.cols());
    CHECK(line.find('\n') == std::string::npos);
    CHECK(line.rfind(op.structure() + ' ' + shape, 0) == 0);
    CHECK(line.find(std::same_as<TestType, float> ? "f32" : "f64") != std::string::npos);
    CHECK(line.find(", " + std::to_string(op.expected_bytes) + " bytes, ") != std::string::npos);
    CHECK(line.rfind(" % of dense") == line.size() - std::string(" % of dense").size());
  });
}

TEMPLATE_TEST_CASE("copies, and what was moved from and to, compute the same", "[conformance]",
                   float, double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    constexpr Index batch = 5;
    Matrix<T> expected(trial.subject->rows(), batch);
    trial.subject->apply(trial.X.leftCols(batch), expected);
    const auto same = [&](const Subject<T>& other) {
      REQUIRE(other.rows() == expected.rows());
      Matrix<T> Y = Matrix<T>::Constant(expected.rows(), batch, nan<T>);
      other.apply(trial.X.leftCols(batch), Y);
      CHECK(difference(Y, expected) == "");
      CHECK(other.bytes() == trial.subject->bytes());
      CHECK(other.describe() == trial.subject->describe());
    };
    same(*trial.subject->copied());
    const auto moved = trial.subject->moved();
    same(*moved[0]);
    same(*moved[1]);
  });
}

TEMPLATE_TEST_CASE("AnyOperator computes what it holds, to the bit", "[conformance]", float,
                   double) {
  using T = TestType;
  for_each_trial<T>([](const Trial<T>& trial) {
    constexpr Index batch = 5;
    const Subject<T>& op = *trial.subject;
    const AnyOperator<T> any = op.any();
    CHECK(any.structure() == op.structure());
    CHECK(any.bytes() == op.bytes());
    CHECK(any.flops() == op.flops());
    CHECK(describe(any) == op.describe());
    CHECK(difference(any.to_dense(), op.to_dense()) == "");
    Matrix<T> Y(op.rows(), batch);
    Matrix<T> Z(op.rows(), batch);
    op.apply(trial.X.leftCols(batch), Y);
    any.apply(trial.X.leftCols(batch), Z);
    CHECK(difference(Y, Z) == "");
  });
}

TEMPLATE_TEST_CASE("operators without rows or columns are empty sums", "[conformance]", float,
                   double) {
  using T = TestType;
  for (const Trial<T>& trial : make_trials<T>(empty_scenarios)) {
    INFO(trial.subject->name << ", " << trial.scenario.name);
    const Subject<T>& op = *trial.subject;
    for (const Index batch : batches) {
      CAPTURE(batch);
      Matrix<T> Y = Matrix<T>::Constant(op.rows(), batch, nan<T>);
      op.apply(trial.X.leftCols(batch), Y);
      CHECK((Y.array() == T(0)).all());
      Y.setConstant(T(5));
      op.apply_add(trial.X.leftCols(batch), Y);
      CHECK((Y.array() == T(5)).all());
      Matrix<T> X = Matrix<T>::Constant(op.cols(), batch, nan<T>);
      op.apply_transpose(Y, X);
      CHECK((X.array() == T(0)).all());
    }
    CHECK(op.bytes() == op.expected_bytes);
    CHECK(op.flops() == op.expected_flops);
    CHECK(op.to_dense().rows() == trial.scenario.rows);
    CHECK(op.to_dense().cols() == trial.scenario.cols);
    CHECK(op.describe().find('\n') == std::string::npos);
  }
}

// -------------------------------------------------------------------------------------------------
// Threads and memory.

namespace {

/// Large enough, with so many samples, that every brick with loops over rows and columns is worth
/// seven tasks, also one with 8 entries a row.
constexpr Index large_batch = 288;

template <Real T>
const std::vector<std::unique_ptr<const Subject<T>>>& large_subjects() {
  static const auto all = all_subjects<T>(163, 131, Pattern::uniform, 77);
  return all;
}

template <Real T>
struct Results {
  Results(const Subject<T>& op, const Matrix<T>& X, const Matrix<T>& Y)
      : applied(Matrix<T>::Constant(op.rows(), X.cols(), nan<T>)),
        added(Y),
        transposed(Matrix<T>::Constant(op.cols(), Y.cols(), nan<T>)) {}
  Results(const Subject<T>& op, const Matrix<T>& X, const Matrix<T>& Y, Workspace& workspace)
      : Results(op, X, Y) {
    op.apply(X, applied, workspace);
    op.apply_add(X, added, workspace);
    op.apply_transpose(Y, transposed, workspace);
  }

  /// Empty where all bits agree.
  [[nodiscard]] std::string differ(const Results& other) const {
    return difference(applied, other.applied) + difference(added, other.added) +
           difference(transposed, other.transposed);
  }

  Matrix<T> applied;
  Matrix<T> added;
  Matrix<T> transposed;
};

}  // namespace

#ifdef PLEAT_TEST_REDUCED
constexpr int numbers_of_tasks[] = {2, 7};
#else
constexpr int numbers_of_tasks[] = {1, 2, 3, 7};
#endif

TEMPLATE_TEST_CASE("the result is bit-identical for any number of tasks and any executor",
                   "[conformance][concurrency]", float, double) {
  using T = TestType;
  Random random(31);
  const Matrix<T> X = random.matrix<T>(131, large_batch);
  const Matrix<T> Y = random.matrix<T>(163, large_batch);
  for (const auto& subject : large_subjects<T>()) {
    INFO(subject->name);
    Workspace serial;
    const Results<T> expected(*subject, X, Y, serial);
    for (const int tasks : numbers_of_tasks) {
      CAPTURE(tasks);
      int seen = 1;
      Workspace threads(Threads{&seen}, tasks);
      CHECK(expected.differ(Results<T>(*subject, X, Y, threads)) == "");
      CHECK(seen == tasks);
      seen = 1;
      Workspace backwards(Backwards{&seen}, tasks);
      CHECK(expected.differ(Results<T>(*subject, X, Y, backwards)) == "");
      CHECK(seen == tasks);
    }
  }
}

TEMPLATE_TEST_CASE("the result is bit-identical for any number of OpenMP threads",
                   "[conformance][openmp]", float, double) {
  using T = TestType;
  Random random(32);
  const Matrix<T> X = random.matrix<T>(131, large_batch);
  const Matrix<T> Y = random.matrix<T>(163, large_batch);
  for (const auto& subject : large_subjects<T>()) {
    INFO(subject->name);
    Workspace serial;
    const Results<T> expected(*subject, X, Y, serial);
    for (const int threads : numbers_of_tasks) {
      CAPTURE(threads);
      Workspace openmp(OpenMP{threads});
      CHECK(expected.differ(Results<T>(*subject, X, Y, openmp)) == "");
      set_num_threads(threads);
      Results<T> of_default(*subject, X, Y);
      subject->apply(X, of_default.applied);
      subject->apply_add(X, of_default.added);
      subject->apply_transpose(Y, of_default.transposed);
      set_num_threads(1);
      CHECK(expected.differ(of_default) == "");
    }
  }
}

TEMPLATE_TEST_CASE("many threads may apply one operator at once", "[conformance][concurrency]",
                   float, double) {
  using T = TestType;
  Random random(33);
  for (const auto& subject : all_subjects<T>(67, 53, Pattern::uniform, 34)) {
    INFO(subject->name);
    const Subject<T>& op = *subject;
    const Matrix<T> X = random.matrix<T>(op.cols(), 70);
    const Matrix<T> Y = random.matrix<T>(op.rows(), 70);
    Workspace serial;
    const Results<T> expected(op, X, Y, serial);
    std::atomic<int> different{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        Workspace own;
        for (int repeat = 0; repeat < 3; ++repeat) {
          if (!expected.differ(Results<T>(op, X, Y, own)).empty()) ++different;
          Results<T> short_form(op, X, Y);
          op.apply(X, short_form.applied);
          op.apply_add(X, short_form.added);
          op.apply_transpose(Y, short_form.transposed);
          if (!expected.differ(short_form).empty()) ++different;
          if (op.bytes() != op.expected_bytes || op.copied()->rows() != op.rows()) ++different;
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(different == 0);
  }
}

TEMPLATE_TEST_CASE("apply allocates nothing after its first call with a batch",
                   "[conformance][allocation]", float, double) {
  using T = TestType;
  const std::string reason = why_not_counted();
  if (!reason.empty()) {
    WARN(reason);
    return;
  }
  const auto check = [](const Subject<T>& op, const Matrix<T>& X, const Matrix<T>& Y,
                        auto workspace) {
    Matrix<T> out(op.rows(), X.cols());
    Matrix<T> back(op.cols(), Y.cols());
    const auto second = [](auto call) {
      call();
      const std::size_t before = allocation_count();
      call();
      return allocation_count() - before;
    };
    // A fresh workspace each, so that no call profits from the memory of another.
    Workspace a = workspace();
    Workspace b = workspace();
    Workspace c = workspace();
    CHECK(second([&] { op.apply(X, out, a); }) == 0);
    CHECK(second([&] { op.apply_add(X, out, b); }) == 0);
    CHECK(second([&] { op.apply_transpose(Y, back, c); }) == 0);
    CHECK(second([&] { op.apply(X, out); }) == 0);
    CHECK(second([&] { op.apply_add(X, out); }) == 0);
    CHECK(second([&] { op.apply_transpose(Y, back); }) == 0);
  };
  for_each_trial<T>([&](const Trial<T>& trial) {
    for (const Index batch : batches) {
      CAPTURE(batch);
      check(*trial.subject, trial.X.leftCols(batch), trial.Y.leftCols(batch),
            [] { return Workspace(); });
    }
  });
  Random random(35);
  for (const auto& subject : large_subjects<T>()) {
    INFO(subject->name << ", in tasks");
    int seen = 1;
    check(*subject, random.matrix<T>(131, large_batch), random.matrix<T>(163, large_batch),
          [&] { return Workspace(Backwards{&seen}, 3); });
    CHECK(seen == 3);
  }
}

TEMPLATE_TEST_CASE("after reserve, no apply of up to so many samples allocates",
                   "[conformance][allocation]", float, double) {
  using T = TestType;
  const std::string reason = why_not_counted();
  if (!reason.empty()) {
    WARN(reason);
    return;
  }
  int reserved = 0;
  const auto check = [&](const Subject<T>& op, Index batch, Workspace workspace) {
    if (!op.reserve(workspace, batch)) return;
    ++reserved;
    const Matrix<T> X = Matrix<T>::Ones(op.cols(), batch);
    const Matrix<T> Y = Matrix<T>::Ones(op.rows(), batch);
    Matrix<T> out = Y;
    Matrix<T> back = X;
    const std::size_t before = allocation_count();
    for (Index samples = 1; samples <= batch; samples += 1 + samples / 3) {
      op.apply_transpose(Y.leftCols(samples), back.leftCols(samples), workspace);
      op.apply(X.leftCols(samples), out.leftCols(samples), workspace);
      op.apply_add(X.leftCols(samples), out.leftCols(samples), workspace);
    }
    op.apply(X, out, workspace);
    const std::size_t after = allocation_count();
    CAPTURE(op.describe(), batch);
    CHECK(after == before);
    const std::size_t held = workspace.bytes();
    (void)op.reserve(workspace, batch);
    CHECK(workspace.bytes() == held);
    CHECK_THROWS_AS(op.reserve(workspace, -1), std::invalid_argument);
  };
  for_each_trial<T>([&](const Trial<T>& trial) {
    const SubjectOf<AnyOperator<T>> any(trial.subject->any(), *trial.subject);
    for (const Index batch : {Index{0}, Index{1}, Index{64}}) {
      check(*trial.subject, batch, Workspace());
      check(any, batch, Workspace());
    }
  });
  for (const auto& subject : large_subjects<T>()) {
    INFO(subject->name << ", in tasks");
    int seen = 1;
    check(*subject, large_batch, Workspace(Backwards{&seen}, 3));
  }
  CHECK(reserved > 100);
}

// -------------------------------------------------------------------------------------------------
// Files.

TEMPLATE_TEST_CASE("an operator that is saved and loaded computes the same, to the bit",
                   "[conformance][io]", float, double) {
  using T = TestType;
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory / "op.safetensors";
  int saved = 0;
  for_each_trial<T>([&](const Trial<T>& trial) {
    const Subject<T>& op = *trial.subject;
    bool has_parts = true;
    try {
      (void)op.any().parts();
    } catch (const std::invalid_argument&) {
      has_parts = false;  // a user's own type is in it, and that one has none
    }
    if (!has_parts) {
      CHECK_THROWS_AS(save(path, op.any()), std::invalid_argument);
      CHECK(!std::filesystem::exists(path));
      return;
    }
    ++saved;
    save(path, op.any());
    const AnyOperator<T> loaded = load<T>(path);
    CHECK(loaded.structure() == op.structure());
    CHECK(describe(loaded) == op.describe());
    REQUIRE(loaded.rows() == op.rows());
    REQUIRE(loaded.cols() == op.cols());
    for (const Index batch : {Index{1}, Index{17}, Index{64}}) {
      const Matrix<T> X = trial.X.leftCols(batch);
      const Matrix<T> Y = trial.Y.leftCols(batch);
      Workspace workspace;
      loaded.reserve(workspace, batch);
      const std::size_t held = workspace.bytes();
      CHECK(Results<T>(SubjectOf<AnyOperator<T>>(loaded, op), X, Y, workspace)
                .differ(Results<T>(op, X, Y, workspace)) == "");
      CHECK(workspace.bytes() == held);
      CHECK(Results<T>(op, X, Y, workspace)
                .differ(Results<T>(SubjectOf<AnyOperator<T>>(loaded, op), X, Y, workspace)) == "");
    }
    std::filesystem::remove(path);
  });
  CHECK(saved > 0);
}

TEST_CASE("rounded activations: near native ones, each sample by itself, and kept in files",
          "[conformance][activations]") {
  int rounded = 0;
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory / "op.safetensors";
  const auto check = [&](const auto& op, const Oracle<float>& oracle, Activations activations) {
    const auto rounding = op.with_activations(activations);
    CHECK(detail::rounds_activations(rounding));
    CHECK(describe(rounding).find("activations as " + std::string(to_string(activations))) !=
          std::string::npos);
    const AnyOperator<float> any(rounding);
    const auto subject = [&](const AnyOperator<float>& held) {
      return SubjectOf<AnyOperator<float>>("", {held, oracle, held.bytes(), held.flops()});
    };
    Random random(41);
    const Index batch = 64;
    const Matrix<float> X = random.matrix<float>(op.cols(), batch);
    const Matrix<float> base = random.matrix<float>(op.rows(), batch);
    Workspace serial;
    const Results<float> results(subject(any), X, base, serial);
    // Of the sums of magnitudes: two roundings at most lie on the way of a value.
    const double share = activations == Activations::int16 ? 1e-4 : 0.02;
    const WideMatrix<float> wide = X.cast<Wide<float>>();
    const WideMatrix<float> exact = oracle.exact * wide;
    const auto limit = share * (oracle.magnitude * wide.cwiseAbs()).norm();
    CHECK((results.applied.cast<Wide<float>>() - exact).norm() <= limit);
    CHECK((results.added.cast<Wide<float>>() - base.cast<Wide<float>>() - exact).norm() <= limit);
    for (const Index j : {Index{0}, Index{5}, batch - 1}) {
      Matrix<float> alone(op.rows(), 1);
      any.apply(X.col(j), alone, serial);
      CHECK(difference(alone, Matrix<float>(results.applied.col(j))) == "");
    }
    int seen = 1;
    Workspace several(Backwards{&seen}, 3);
    CHECK(results.differ(Results<float>(subject(any), X, base, several)) == "");
    save(path, any);
    const AnyOperator<float> loaded = load<float>(path);
    CHECK(describe(loaded) == describe(any));
    CHECK(results.differ(Results<float>(subject(loaded), X, base, serial)) == "");
    ++rounded;
  };
  const auto check_entry = [&](const auto& entry) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<Index, Index>>{{1, 1}, {17, 5}, {33, 70}, {64, 150}}) {
      Source<float> source(Pattern::uniform, 6);
      const auto specimen = entry.make(source, rows, cols);
      if constexpr (requires { specimen.op.meets(Activations::int8); })
        for (const Activations activations :
             {Activations::int16, Activations::int8, Activations::bf16}) {
          CAPTURE(entry.name, rows, cols, to_string(activations));
          if (specimen.op.meets(activations)) check(specimen.op, specimen.oracle, activations);
          else CHECK_THROWS_AS(specimen.op.with_activations(activations), std::invalid_argument);
        }
    }
  };
  std::apply([&](const auto&... entries) { (check_entry(entries), ...); }, operator_list<float>());
  CHECK(rounded > 60);
}

TEST_CASE("the counter of allocations counts them all", "[allocation]") {
  const std::string reason = why_not_counted();
  if (!reason.empty()) {
    WARN(reason);
    return;
  }
  const auto counted = [](auto allocate, auto release) {
    const std::size_t before = allocation_count();
    void* volatile memory = allocate();  // volatile: or the compiler leaves the pair out
    const std::size_t calls = allocation_count() - before;
    release(memory);
    return calls;
  };
  const auto free = [](void* memory) { std::free(memory); };
  CHECK(counted([] { return std::malloc(100); }, free) == 1);
  CHECK(counted([] { return std::calloc(100, 1); }, free) == 1);
  CHECK(counted([] { return std::realloc(nullptr, 100); }, free) == 1);
  CHECK(counted([] { return std::aligned_alloc(64, 128); }, free) == 1);
  CHECK(counted(
            [] {
              void* memory = nullptr;
              return posix_memalign(&memory, 64, 128) == 0 ? memory : nullptr;
            },
            free) == 1);
#ifdef __GLIBC__
  CHECK(counted([] { return memalign(64, 128); }, free) == 1);
#endif
  CHECK(counted([] { return ::operator new(100); },
                [](void* memory) { ::operator delete(memory); }) == 1);
  CHECK(counted([] { return ::operator new[](100); },
                [](void* memory) { ::operator delete[](memory); }) == 1);
  constexpr std::align_val_t alignment{64};
  CHECK(counted([&] { return ::operator new(100, alignment); },
                [&](void* memory) { ::operator delete(memory, alignment); }) == 1);
}

}  // namespace pleat::test
