// SPDX-License-Identifier: MIT
// What Options::rotate promises, of every maker that has it.
#pragma once

#include "compress/support.hpp"
#include "pleat/compress/budget.hpp"
#include "pleat/compress/compress.hpp"
#include "pleat/compress/cross_validate.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <string>
#include <utility>

namespace pleat::test {

/// What is made in rotated inputs, of which blocks have such a size, is the core of theirs times
/// the rotation, and in files as well.
template <template <Real> class Structure, Real T, class Options>
void check_made_in_rotated_inputs(Options options, Index m, Index n, Index block) {
  INFO(m << " x " << n);
  Random random(79);
  const Matrix<T> W = random.matrix<T>(m, n);
  const Matrix<T> X = correlated_inputs<T>(random, n, 3 * n);
  const auto H = Hadamard<T>::with_random_signs(n, block, 5);
  const Matrix<double> turn = H.to_dense().template cast<double>();
  const Matrix<T> V = (W.template cast<double>() * turn.transpose()).template cast<T>();
  const auto turned = exact_calibration((turn * X.template cast<double>()).template cast<T>());
  const auto whole = exact_calibration(X);
  options.storage = Storage::int4;
  options.seed = 5;
  const auto core = compress<Structure>(V, keep(9), turned, options);
  options.rotate = true;
  const auto op = compress<Structure>(W, keep(9), whole, options);
  CAPTURE(describe(op), describe(core));
  CHECK(op.bytes() == core.bytes() + H.bytes());
  CHECK(op.flops() == core.flops() + H.flops());
  CHECK(op.structure() == core.structure());
  CHECK(op.parameters() == core.parameters() + ", rotated by blocks of " + std::to_string(block));
  CHECK(relative_error(W, op, whole) ==
        Approx(relative_error(V, core, turned)).epsilon(0.02).margin(1e-3));
  CHECK(core.rotated(H).to_dense().isApprox(
      (core.to_dense().template cast<double>() * turn).template cast<T>(), T(1e-5)));
  const auto read = Structure<T>::from_parts(op.parts());
  CHECK(describe(read) == describe(op));
  CHECK(read.to_dense() == op.to_dense());

  options.storage = native_storage<T>;
  CHECK_THROWS_WITH(compress<Structure>(W, keep(9), whole, options),
                    Catch::Contains(">: rotate is for narrow storage, not f"));
}

/// The errors in int4 within such a share of the bytes, without and with it, of a weight with
/// outliers in four columns, whose inputs are as much smaller. Pairs of inputs and cross-validation
/// know it, too.
template <template <Real> class Structure, class Options>
std::pair<double, double> errors_of_rotation(Options options, double share) {
  Random random(78);
  Matrix<float> W = random.matrix<float>(24, 160);
  Matrix<float> X = correlated_inputs<float>(random, 160, 700);
  for (const Index j : {3, 40, 77, 141}) {
    W.col(j) *= 20;
    X.row(j) *= 0.05F;
  }
  const auto calibration = calibration_of(X);
  Calibration<float> pairs(160);
  pairs.add(X, Matrix<float>(X * 0.9F));
  options.storage = Storage::int4;
  const auto plain = compress<Structure>(W, keep(share), calibration, options);
  options.rotate = true;
  const auto rotated = compress<Structure>(W, keep(share), calibration, options);
  CAPTURE(describe(plain), describe(rotated));
  CHECK(describe(plain).find("rotated") == std::string::npos);
  CHECK(double(rotated.bytes()) <= share * 4 * 24 * 160);
  const double error = relative_error(W, rotated, calibration);
  const auto of_pairs = compress<Structure>(W, keep(share), pairs, options);
  CHECK(relative_error(W, of_pairs, pairs) < 1.1 * error);
  const double crossed = cross_validate<Structure>(W, keep(share), calibration, options);
  CHECK(crossed == Approx(error).epsilon(0.5));
  return {relative_error(W, plain, calibration), error};
}

}  // namespace pleat::test
