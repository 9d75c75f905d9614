// SPDX-License-Identifier: MIT
// Methods on one small matrix against numbers that plain numpy programs of them computed.
#include "compress/support.hpp"
#include "pleat/compress/detail/armor_search.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "support/catch.hpp"

#include <vector>

namespace pleat::test {

TEST_CASE("2:4 pruning is that of numpy", "[golden]") {
  const Matrix<double> W = golden_weight();
  const auto calibration = golden_calibration();
  struct Expected {
    PruneCriterion criterion;
    double pruned;
    double refitted;  // by least squares, row by row
  };
  for (const auto& [criterion, pruned, refitted] :
       {Expected{PruneCriterion::magnitude, 0.533972662456, 0.465187107300},
        Expected{PruneCriterion::wanda, 0.428185708559, 0.377986434203},
        Expected{PruneCriterion::sparsegpt, 0.401587439542, 0.374997528245}}) {
    CAPTURE(int(criterion));
    const auto error = [&, c = criterion](bool refit) {
      return relative_error(
          W, compress<SemiStructured>(W, keep(1), calibration, {.criterion = c, .refit = refit}),
          calibration);
    };
    CHECK(error(false) == Approx(pruned).epsilon(1e-7));
    CHECK(error(true) == Approx(refitted).epsilon(1e-7));
  }
  const auto nowag = compress<SemiStructured>(W, keep(1), calibration,
                                              {.criterion = PruneCriterion::nowag, .refit = false});
  CHECK(relative_error(W, nowag, calibration) == Approx(0.434215943382).epsilon(1e-7));
}

TEST_CASE("the steps of ARMOR are those of numpy, in both metrics", "[golden]") {
  const Matrix<double> W = golden_weight();
  const Matrix<double> G = golden_calibration().gram();
  const Vector<double> d = G.diagonal();
  using detail::BlockDiagonal;
  const auto steps = [](auto&& solver, const std::vector<double>& expected) {
    std::vector<double> losses{solver.loss()};
    solver.improve_a();
    losses.push_back(solver.loss());
    solver.improve_b();
    solver.carry_metric();
    solver.carry_values();
    losses.push_back(solver.loss());
    solver.improve_groups();
    losses.push_back(solver.loss());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(losses[i] == Approx(expected[i]).epsilon(1e-7));
    }
  };
  const auto start = [&](const Matrix<double>& Wt) {
    return detail::ArmorFactors{
        BlockDiagonal(12, 4), detail::prune_by(d.cwiseSqrt().asDiagonal() * Wt.cwiseAbs(), Wt, {}),
        BlockDiagonal(16, 4)};
  };
  const detail::NoWag normal(W.transpose());
  steps(detail::ArmorSolver(normal.Wt, detail::InputMetric::diagonal(d), start(normal.Wt)),
        {0.158823795043, 0.139446218834, 0.110957624111, 0.094599892892});
  steps(detail::ArmorSolver(W.transpose(), detail::InputMetric::full(G), start(W.transpose())),
        {0.183343001014, 0.140173898901, 0.099092519079, 0.068532380638});
}

}  // namespace pleat::test
