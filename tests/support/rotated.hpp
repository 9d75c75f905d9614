// SPDX-License-Identifier: MIT
// That a structure is its core times a rotation of the inputs in all that it says and does.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "support/catch.hpp"

#include <stdexcept>
#include <string>

namespace pleat::test {

/// What it computes, to the last bit that can be asked of it, is in the conformance suite.
template <class Op>
void check_rotated(const Op& core) {
  using T = typename Op::Scalar;
  const Index n = core.cols();
  const auto H = Hadamard<T>::with_random_signs(n, 4, 3);
  const Op op = core.rotated(H);
  CAPTURE(describe(core), describe(op));
  CHECK(op.bytes() == core.bytes() + H.bytes());
  CHECK(op.flops() == core.flops() + H.flops());
  CHECK(op.structure() == core.structure());
  CHECK(op.parameters() == core.parameters() + ", rotated by blocks of 4");
  const Matrix<T> expected = core.to_dense() * H.to_dense();
  const T close = 32 * Eigen::NumTraits<T>::epsilon() * (1 + core.to_dense().norm());
  CHECK((op.to_dense() - expected).norm() <= close);
  Matrix<T> back(n, core.rows());
  op.apply_transpose(Matrix<T>(Matrix<T>::Identity(core.rows(), core.rows())), back);
  CHECK((back.transpose() - expected).norm() <= close);

  const Op read = Op::from_parts(op.parts());
  CHECK(describe(read) == describe(op));
  CHECK(read.to_dense() == op.to_dense());
  CHECK(describe(op.with_activations(Activations::automatic)) ==
        describe(core.with_activations(Activations::automatic).rotated(H)));

  CHECK_THROWS_WITH(op.rotated(H), Catch::Contains("not rotated again"));
  CHECK_THROWS_WITH(core.rotated(Hadamard<T>(n + 1)), Catch::Contains("cannot be rotated"));
}

}  // namespace pleat::test
