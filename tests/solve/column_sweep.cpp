// SPDX-License-Identifier: MIT
// The sweep, the refit and the descent of sparse weights against plain loops and their identities.
#include "pleat/solve/sparse/column_sweep.hpp"

#include "compress/support.hpp"
#include "pleat/solve/metric/wide_metric.hpp"
#include "pleat/solve/sparse/group_descent.hpp"
#include "pleat/solve/sparse/masked_refit.hpp"
#include "support/catch.hpp"

#include <Eigen/Cholesky>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

namespace pleat::test {
namespace {

/// H and a little of the identity, so that every minimiser is unique.
Matrix<double> regular(const Matrix<double>& H) {
  Matrix<double> result = H;
  result.diagonal().array() += 1e-6 * (H.trace() / double(H.rows()) + 1e-300);
  return result;
}

/// The largest number of nonzeros in a group of a row.
Index fullest_group(const Matrix<double>& St, Index group) {
  Index most = 0;
  for (Index row = 0; row < St.cols(); ++row)
    for (Index first = 0; first < St.rows(); first += group)
      most = std::max<Index>(
          most,
          (St.col(row).segment(first, std::min(group, St.rows() - first)).array() != 0).count());
  return most;
}

}  // namespace

TEST_CASE("the largest are marked, of equal ones the first, and as many whatever they are",
          "[column_sweep]") {
  Random random(80);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Index count : {1, 4, 5, 16, 31, 32, 33, 40})
    for (const Index kept : {Index{0}, Index{1}, count / 2, count, count + 1})
      for (int kind = 0; kind < 3; ++kind) {  // all different, many ties, and some that are NaN
        CAPTURE(count, kept, kind);
        Vector<double> scores = random.matrix<double>(count, 1);
        if (kind > 0) scores = (2 * scores).array().round();
        const auto marks = std::make_unique<bool[]>(std::size_t(count));
        if (kind == 2) scores(count / 2) = scores(0) = nan;
        detail::mark_largest(scores.data(), count, kept, marks.get());
        const Index marked = std::count(marks.get(), marks.get() + count, true);
        CHECK(marked == std::min(kept, count));
        if (kind == 2) continue;
        std::vector<Index> order(static_cast<std::size_t>(count));
        std::iota(order.begin(), order.end(), Index{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](Index a, Index b) { return scores(a) > scores(b); });
        for (Index i = 0; i < count; ++i)
          CHECK(marks[std::size_t(order[std::size_t(i)])] == (i < kept));
      }
}

TEST_CASE("the factor of an inverse Gram matrix", "[column_sweep]") {
  Random random(41);
  for (const Index n : {1, 2, 3, 5, 48, 49, 97, 211}) {
    for (const Index samples : {Index{1}, n / 2 + 1, 3 * n}) {
      INFO(n << " inputs, " << samples << " samples");
      Matrix<double> H = gram_of(random, n, samples);
      const auto factor = detail::inverse_factor(H);
      REQUIRE_FALSE(factor.diagonal);
      CHECK(factor.U.isUpperTriangular(0));
      CHECK(factor.damping == Approx(0.01 * H.trace() / double(n)));
      H.diagonal().array() += factor.damping;
      CHECK((factor.U * H * factor.U.transpose() - Matrix<double>::Identity(n, n)).norm() <= 1e-9);
    }
  }
}

TEST_CASE("what is no Gram matrix still has a factor", "[column_sweep]") {
  CHECK(detail::inverse_factor(Matrix<double>::Zero(5, 5)).U.isIdentity());
  Matrix<double> indefinite = Matrix<double>::Constant(4, 4, 3);
  indefinite.diagonal().setOnes();
  const auto factor = detail::inverse_factor(indefinite);
  CHECK(factor.diagonal);
  CHECK(factor.U.isDiagonal());
  CHECK(factor.U.diagonal().minCoeff() > 0);
}

TEST_CASE("the loss of a sweep is the sum of its squared errors", "[column_sweep]") {
  Random random(42);
  for (const auto& [m, n] : {std::pair{1, 1}, {3, 2}, {2, 3}, {7, 5}, {13, 127}, {5, 257}})
    for (const Index samples : {n / 3 + 1, 2 * n}) {
      for (const auto& [kept, group] : {std::pair{2, 4}, {1, 4}, {4, 8}, {3, 7}}) {
        INFO(m << " x " << n << ", " << samples << " samples, " << kept << ':' << group);
        Matrix<double> H = gram_of(random, n, samples);
        const Matrix<double> Wt = random.matrix<double>(n, m);
        const auto factor = detail::inverse_factor(H);
        const auto swept = detail::column_sweep(Wt, factor, {{kept, group}});
        REQUIRE(swept);
        H.diagonal().array() += factor.damping;
        CHECK(loss_of(H, Wt, swept->values) == Approx(swept->loss).epsilon(1e-9).margin(1e-12));
        CHECK(fullest_group(swept->values, group) <= kept);
      }
    }
}

TEST_CASE("a sweep in batches is the sweep column by column", "[column_sweep]") {
  Random random(43);
  const Index n = 301;
  const Matrix<double> H = gram_of(random, n, 400);
  const Matrix<double> Wt = random.matrix<double>(n, 9);
  const auto factor = detail::inverse_factor(H);
  Matrix<double> plain = Wt;
  for (Index row = 0; row < plain.cols(); ++row)
    for (Index first = 0; first < n; first += 4) {
      std::vector<std::pair<double, Index>> order;
      const Index last = std::min<Index>(first + 4, n);
      for (Index i = first; i < last; ++i)
        order.emplace_back(-std::abs(plain(i, row)) / factor.U(i, i), i);
      std::sort(order.begin(), order.end());
      for (Index i = first; i < last; ++i) {
        if (i == order[0].second || (order.size() > 1 && i == order[1].second)) continue;
        const double e = plain(i, row) / factor.U(i, i);
        plain.col(row).tail(n - i) -= e * factor.U.row(i).tail(n - i).transpose();
        plain(i, row) = 0;
      }
    }
  CHECK((detail::column_sweep(Wt, factor, {{2, 4}})->values - plain).norm() <= 1e-10 * Wt.norm());
}

TEST_CASE("with a diagonal Gram matrix and no damping the sweep is Wanda", "[column_sweep]") {
  Random random(44);
  const Index n = 131;
  const Matrix<double> Wt = random.matrix<double>(n, 17);
  Vector<double> d(n);
  for (Index i = 0; i < n; ++i) d(i) = random.uniform(0.1, 3);
  const auto swept =
      detail::column_sweep(Wt, detail::inverse_factor(Matrix<double>(d.asDiagonal()), 0), {{2, 4}});
  for (Index row = 0; row < Wt.cols(); ++row)
    for (Index first = 0; first < n; first += 4) {
      const Index width = std::min<Index>(4, n - first);
      for (Index i = first; i < first + width; ++i) {
        Index better = 0;
        for (Index k = first; k < first + width; ++k)
          better += std::abs(Wt(k, row)) * std::sqrt(d(k)) > std::abs(Wt(i, row)) * std::sqrt(d(i));
        CHECK(swept->values(i, row) == (better < 2 ? Wt(i, row) : 0));
      }
    }
}

TEST_CASE("the refit solves the normal equations of every row", "[column_sweep]") {
  Random random(45);
  for (const Index n : {1, 2, 3, 5, 61, 130})
    for (const Index samples : {n / 2 + 1, 3 * n}) {
      INFO(n << " inputs, " << samples << " samples");
      const Matrix<double> H = gram_of(random, n, samples);
      const Matrix<double> G = regular(H);
      const Matrix<double> Wt = random.matrix<double>(n, 6);
      const Matrix<double> start =
          detail::column_sweep(Wt, detail::inverse_factor(H), {{2, 4}})->values;
      Matrix<double> exact = start;
      detail::refit_exactly(G, Wt, exact);
      Matrix<double> iterated = start;
      detail::refit_iteratively(G, Wt, iterated, 400, {}, 1e-9);
      const double before = loss_of(G, Wt, start);
      const double after = loss_of(G, Wt, exact);
      CHECK(after <= before * (1 + 1e-12));
      CHECK(loss_of(G, Wt, iterated) <= before * (1 + 1e-12));
      CHECK(loss_of(G, Wt, iterated) == Approx(after).epsilon(1e-2).margin(1e-12));
      const Matrix<double> gradient = G * (Wt - exact);
      for (Index row = 0; row < Wt.cols(); ++row)
        for (Index i = 0; i < n; ++i) {
          if (start(i, row) == 0) CHECK(exact(i, row) == 0);
          else CHECK(std::abs(gradient(i, row)) <= 1e-8 * G.diagonal().maxCoeff() * Wt.norm());
        }
    }
}

TEST_CASE("one step of the descent is the best of six least-squares problems", "[column_sweep]") {
  Random random(46);
  for (const Index n : {1, 2, 3, 4, 5, 31, 133}) {
    INFO(n << " inputs");
    const Matrix<double> G = regular(gram_of(random, n, 2 * n));
    const Matrix<double> Wt = random.matrix<double>(n, 5);
    Matrix<double> plain = detail::column_sweep(Wt, detail::inverse_factor(G), {{2, 4}})->values;
    Matrix<double> S = plain;
    const double before = loss_of(G, Wt, S);
    const double after = detail::group_descent(G, Wt, S, {}, 1);
    for (Index row = 0; row < Wt.cols(); ++row)
      for (Index first = 0; first < n; first += 4) {
        const Index width = std::min<Index>(4, n - first);
        Matrix<double> best;
        double least = 1e300;
        for (Index k = 0; k < width; ++k)
          for (Index l = std::min(k + 1, width - 1); l < width; ++l) {
            Vector<double> trial = plain.col(row);
            trial.segment(first, width).setZero();
            const Vector<double> z = G * (Wt.col(row) - trial);
            Matrix<double> block(2, 2);
            block << G(first + k, first + k), G(first + k, first + l), G(first + k, first + l),
                G(first + l, first + l);
            if (k == l) block << G(first, first), 0, 0, 1;
            const Vector<double> v =
                block.ldlt().solve(Eigen::Vector2d(z(first + k), k == l ? 0 : z(first + l)));
            trial(first + k) = v(0);
            if (k != l) trial(first + l) = v(1);
            const double loss = loss_of(G, Wt.col(row), trial);
            if (loss < least) {
              least = loss;
              best = trial;
            }
          }
        plain.col(row) = best;
      }
    CHECK((S - plain).norm() <= 1e-7 * Wt.norm());
    CHECK(after <= before + 1e-25 * Wt.squaredNorm() * G.diagonal().maxCoeff());
    CHECK(after == Approx(loss_of(G, Wt, S)).epsilon(1e-8).margin(1e-12));
  }
}

TEST_CASE("swaps end where no swap gains, and mostly at the best of all places", "[column_sweep]") {
  Random random(49);
  for (const SparsePattern pattern : {SparsePattern{2, 4}, {1, 4}, {4, 8}, {2, 8}, {5, 8}}) {
    int best_of_all = 0;
    constexpr int trials = 60;
    for (int trial = 0; trial < trials; ++trial) {
      CAPTURE(to_string(pattern), trial);
      const Index n = pattern.group;
      const Matrix<double> H = regular(gram_of(random, n, 2 * n));
      const Vector<double> w = random.matrix<double>(n, 1);
      // What is lost with the places that a set of bits says, and the best values there.
      const auto lost = [&](unsigned bits) {
        std::vector<Index> places;
        for (Index k = 0; k < n; ++k)
          if ((bits >> k & 1U) != 0) places.push_back(k);
        const Matrix<double> block = H(places, places);
        const Vector<double> h = (H * w)(places);
        return w.dot(H * w) - h.dot(Vector<double>(block.ldlt().solve(h)));
      };
      Vector<double> s = w;
      for (Index k = pattern.kept; k < n; ++k) s(k) = 0;
      const Vector<double> z = H * (w - s);
      Vector<double> change(n);
      detail::SwapChoice<>(H, 0, n, pattern.kept).improve(z.data(), s.data(), change.data());
      s += change;
      unsigned reached = 0;
      for (Index k = 0; k < n; ++k)
        if (s(k) != 0) reached |= 1U << k;
      CHECK(std::popcount(reached) == pattern.kept);
      const double loss = (w - s).dot(H * (w - s));
      CHECK(loss == Approx(lost(reached)).epsilon(1e-9));
      double least = loss;
      for (unsigned bits = 0; bits < 1U << n; ++bits) {
        if (std::popcount(bits) != pattern.kept) continue;
        const double other = lost(bits);
        least = (std::min)(least, other);
        if (std::popcount(bits ^ reached) == 2) CHECK(loss <= other * (1 + 1e-9));
      }
      if (loss <= least * (1 + 1e-9)) ++best_of_all;
    }
    CAPTURE(to_string(pattern), best_of_all);
    CHECK(best_of_all >= (pattern == SparsePattern{2, 4} ? trials - 2 : trials / 2));
  }
}

TEST_CASE("sweeps over wider groups never increase the loss either", "[column_sweep]") {
  Random random(50);
  for (const SparsePattern pattern : {SparsePattern{4, 8}, {8, 16}, {3, 16}, {16, 32}, {1, 32}})
    for (const Index n : {1, 5, 40, 150}) {
      CAPTURE(to_string(pattern), n);
      const Matrix<double> G = regular(gram_of(random, n, n + 1));
      const Matrix<double> Wt = random.matrix<double>(n, 12);
      Matrix<double> S = detail::column_sweep(Wt, detail::inverse_factor(G), {pattern})->values;
      double loss = loss_of(G, Wt, S);
      for (int sweep = 0; sweep < 3; ++sweep) {
        const double next = detail::group_descent(G, Wt, S, pattern, 1);
        CHECK(next <= loss * (1 + 1e-12) + 1e-25 * Wt.squaredNorm() * G.diagonal().maxCoeff());
        CHECK(next == Approx(loss_of(G, Wt, S)).epsilon(1e-7).margin(1e-12));
        loss = next;
      }
      CHECK(fullest_group(S, pattern.group) <= pattern.kept);
    }
}

TEST_CASE("sweeps of the descent never increase the loss, and keep the pattern", "[column_sweep]") {
  Random random(47);
  for (const Index samples : {20, 500}) {
    const Index n = 150;
    const Matrix<double> G = regular(gram_of(random, n, samples));
    const Matrix<double> Wt = random.matrix<double>(n, 20);
    Matrix<double> S = detail::column_sweep(Wt, detail::inverse_factor(G), {{2, 4}})->values;
    double loss = loss_of(G, Wt, S);
    for (int sweep = 0; sweep < 6; ++sweep) {
      const double next = detail::group_descent(G, Wt, S, {}, 1);
      CHECK(next <= loss * (1 + 1e-12));
      loss = next;
    }
    CHECK(fullest_group(S, 4) <= 2);
  }
}

TEST_CASE("blocks in the metric of a wide layer are the sweep in all of it", "[column_sweep]") {
  Random random(57);
  for (const auto& [n, m, rank] : {std::array<Index, 3>{300, 5, 7}, {257, 3, 1}, {100, 4, 20}}) {
    CAPTURE(n, m, rank);
    const Matrix<double> Wt = random.matrix<double>(n, m);
    const Matrix<double> X = random.matrix<double>(n, rank);
    const Vector<double> D = random.matrix<double>(n, 1).array().exp().matrix();
    const detail::WideMetric metric(D, X);
    Matrix<double> H = X * X.transpose();
    H.diagonal() += D;
    CHECK((metric.diagonal() - H.diagonal()).norm() <= 1e-12 * H.norm());
    CHECK(metric.loss(Wt) == Approx(loss_of(H, Wt, Matrix<double>::Zero(n, m))).epsilon(1e-12));
    const auto sweep = [](const Matrix<double>& block, const Matrix<double>& wanted) {
      return detail::column_sweep(wanted, detail::inverse_factor(block, 0),
                                  detail::SweepRule{{2, 4}})
          ->values;
    };
    const Matrix<double> expected = sweep(H, Wt);
    CHECK((metric.in_blocks(Wt, 4, sweep) - expected).norm() <= 1e-9 * expected.norm());
  }
}

TEST_CASE("few samples of independent inputs say nothing, of correlated ones a lot",
          "[column_sweep]") {
  Random random(58);
  const Index n = 800;
  const auto deviation = [&](const detail::WideMetric<>& metric) {
    return (metric.diagonal().array() / metric.diagonal().mean() - 1).abs().maxCoeff();
  };
  const auto blind = detail::WideMetric<>::of_samples(random.matrix<double>(n, 24));
  CHECK(deviation(blind) < 0.5);
  const Matrix<double> mixing = random.matrix<double>(n, 3);
  const auto common = detail::WideMetric<>::of_samples(mixing * random.matrix<double>(3, 24));
  CHECK(common.rank() == 24);
  // What lies in the directions of all samples counts far more than what does not.
  const Matrix<double> seen = mixing / mixing.norm();
  const Matrix<double> other = random.matrix<double>(n, 3);
  CHECK(common.loss(seen) > 50 * common.loss(other / other.norm()));
  for (const Matrix<double>& X :
       {Matrix<double>(Matrix<double>::Zero(n, 5)), random.matrix<double>(n, 1)}) {
    const auto metric = detail::WideMetric<>::of_samples(X);
    CHECK(metric.rank() == 0);
    CHECK(deviation(metric) < 1e-6);
  }
}

}  // namespace pleat::test
