// SPDX-License-Identifier: MIT
// The rows of the example that are shown only if all are asked for.
#include "methods.hpp"

#include <Eigen/Core>
#include <pleat/factor/blast.hpp>
#include <pleat/factor/kronecker.hpp>
#include <pleat/factor/monarch.hpp>
#include <pleat/factor/sparse_dictionary.hpp>
#include <pleat/matrix/block_sparse.hpp>
#include <pleat/matrix/semi_structured.hpp>

#include <vector>

namespace methods {
namespace {

/// What is left of a narrower encoder, as N:M at its usual size.
Operator semi_structured(const MatrixXf& W, const pleat::Budget&, const Calibration& calibration) {
  return makers::compress<pleat::SemiStructured>(W, pleat::keep(0.565), calibration, {});
}

}  // namespace

std::vector<Method> rare_methods() {
  constexpr bool rare = false;
  return {
      method<pleat::SparseDictionary>("SparseDictionary", {0.5}, rare),
      method<pleat::Blast>("Blast", {0.5, 0.25}, rare),
      method<pleat::Monarch>("Monarch", {0.5, 0.25}, rare),
      method<pleat::Kronecker>("Kronecker", {0.5, 0.25}, rare),
      method<pleat::BlockSparse>("BlockSparse", {0.5, 0.25}, rare),
      method<pleat::BlockSparse>("BlockSparse-int8", {0.135}, rare, {pleat::Storage::int8}),
      {"2:4+LowRank", {0.575}, rare, makers::semi_structured_and_low_rank, {}},
      {"Pairs", {0.5, 0.75, 0.25}, rare, {}, {}, false, makers::fewer_units},
      {"Pairs+SemiStructured", {0.5, 0.75}, rare, semi_structured, {}, false, makers::fewer_units},
  };
}

}  // namespace methods
