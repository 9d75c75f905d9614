// SPDX-License-Identifier: MIT
// compress<Cur>: columns and rows of the weight itself, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/cur.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/low_rank/low_rank_shrinkage.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"
#include "pleat/solve/low_rank/rank_within.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/selection/cur_solver.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<Cur>: C and R are columns and rows of W as they are, to the bit in native storage, and
/// U minimises || P^(1/2) (W - C U R) X ||_F given them, in the shrunk metric of the calibration
/// (see `Calibration::shrinkage`): U = C^+ W R^+, pseudoinverses in the metric.
///
/// Columns and rows are those that pivoted QR takes in the leading singular vectors of P^(1/2) W X
/// (Q-DEIM), or the ones of the largest leverage, weighted by how much each input is used and each
/// output matters; see `detail::CurSolver`. An input that is always 0 is chosen last. The error of
/// c columns and r rows is at most (|| V_J^-1 || + || U_I^-1 ||) times the largest singular value
/// that is left out, with V_J and U_I the c x c and r x r parts of the singular vectors (Sorensen
/// and Embree 2016), and never less than that of `LowRank`.
///
/// Sizes: c and r as `Options` give them. One that is not given is the largest that the budget
/// allows, both are equal and at most min(m, n) where none is given; for `error`, the smallest
/// found by bisection. All columns and all rows are exact but for rounding: that of U costs about
/// epsilon times the ratio of the largest singular value to the last that is kept, so that no error
/// in T is much below the root of its epsilon where singular values fall as far. Cost: products of
/// m n min(m, n), an eigendecomposition of the smaller side, randomized above 1024, and 2 (m + n)
/// c^2 flops; some ten times for `error`.
///
/// Source: M. Mahoney and P. Drineas, PNAS 2009; D. Sorensen and M. Embree, "A DEIM induced CUR
/// factorization", SIAM J. Sci. Comput. 2016.
template <Real T>
struct Compressor<Cur<T>> {
  using Options = typename Cur<T>::Options;

  static Cur<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                    const Calibration<T>& calibration, const Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    check(W, budget, options);
    const std::size_t limit = budget.max_bytes(m, n, sizeof(T));
    const Index most = options.columns > 0 ? (options.rows > 0 ? 1 : m)
                       : options.rows > 0  ? n
                                           : (std::min)(m, n);
    const auto columns = [&](Index k) { return options.columns > 0 ? options.columns : k; };
    const auto rows = [&](Index k) { return options.rows > 0 ? options.rows : k; };
    Index fits = 1;
    for (Index above = most + 1; fits + 1 < above;) {
      const Index middle = fits + (above - fits) / 2;
      const std::size_t size =
          Cur<T>::stored_bytes(m, n, columns(middle), rows(middle), options.storage);
      (size <= limit ? fits : above) = middle;
    }

    detail::StopMonitor stop(options.monitor);
    const double scale = detail::power_of_two_below(static_cast<double>(W.cwiseAbs().maxCoeff()));
    const Matrix<double> weight = W.template cast<double>() / scale;
    const auto steady = detail::steadied(calibration);
    const Calibration<T>& seen = steady ? *steady : calibration;
    const Index likely = budget.bounds_error() ? ((std::min)(m, n) + 3) / 4
                                               : (std::min)({columns(fits), rows(fits), m, n});
    detail::CurSolver<> solver(weight, seen,
                               detail::low_rank_shrinkage(weight, seen, likely, stop.monitor()),
                               {SvdMethod::automatic, 0, 6, options.seed, stop.monitor()});
    Index made = 0;
    const auto make = [&](Index k) {
      if (const Monitor monitor = stop.monitor())
        (void)monitor({"columns and rows", ++made, made, 1});
      return packed(W, scale, solver, columns(k), rows(k), options);
    };
    if (!budget.bounds_error()) return make(fits);

    const auto measure = [&](const Cur<T>& op) { return relative_error(W, op, calibration); };
    const auto allowed = [&](Index k) {
      return detail::allowed_error<T>(budget.max_error(), k, (std::min)(m, n), options.storage);
    };
    // No fewer can do than singular vectors would: from there up until it is enough, then down.
    Index few = 0;
    Index enough = (std::min)(most, detail::error_rank(solver.spectrum(), budget.max_error()));
    Cur<T> best = make(enough);
    double reached = measure(best);
    while (reached > allowed(enough) && enough < most && !stop.stopped()) {
      few = enough;
      enough = (std::min)(most, enough + std::max<Index>(1, enough / 2));
      best = make(enough);
      reached = measure(best);
    }
    detail::require(reached <= allowed(enough) || stop.stopped(), [&] {
      return "compress<Cur>: " + budget.text() + " cannot be met: with " + best.parameters() +
             " the relative error is " + detail::scientific(reached);
    });
    while (enough - few > 1 && !stop.stopped()) {
      const Index middle = few + (enough - few) / 2;
      Cur<T> smaller = make(middle);
      if (measure(smaller) <= allowed(middle)) {
        best = smaller;
        enough = middle;
      } else {
        few = middle;
      }
    }
    return best;
  }

 private:
  static Cur<T> packed(const ConstMatrixRef<T>& W, double scale, detail::CurSolver<>& solver,
                       Index c, Index r, const Options& options) {
    auto [columns, rows] = solver.choose(c, r, options.selection);
    const Dense<T> C(Matrix<T>(W(Eigen::all, columns)), options.storage);
    const Dense<T> R(Matrix<T>(W(rows, Eigen::all)), options.storage);
    const auto rounded = [&](const Matrix<double>& U) {
      return Matrix<T>((U / scale).template cast<T>());
    };
    const Matrix<double> U = solver.middle(
        C.to_dense().template cast<double>() / scale, R.to_dense().template cast<double>() / scale,
        [&](const Matrix<double>& exact) {
          return Matrix<double>(rounded(exact).template cast<double>() * scale);
        });
    return Cur<T>(C, Dense<T>(rounded(U)), R, std::move(columns), std::move(rows));
  }

  static void check(const ConstMatrixRef<T>& W, const Budget& budget, const Options& options) {
    const Index m = W.rows();
    const Index n = W.cols();
    detail::require(
        options.columns >= 0 && options.columns <= n && options.rows >= 0 && options.rows <= m,
        [&] {
          return "compress<Cur>: a " + detail::shape_text(m, n) + " matrix does not have " +
                 std::to_string(options.columns) + " columns and " + std::to_string(options.rows) +
                 " rows to choose";
        });
    detail::require(options.selection <= CurSelection::leverage,
                    [] { return std::string("compress<Cur>: unknown selection"); });
    (void)detail::require_storage<T>(options.storage);
    const Index c = std::max<Index>(1, options.columns);
    const Index r = std::max<Index>(1, options.rows);
    detail::require_budget(
        "Cur", m, n, budget, sizeof(T), Cur<T>::stored_bytes(m, n, c, r, options.storage),
        (std::to_string(c) + " columns and " + std::to_string(r) + " rows").c_str());
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
