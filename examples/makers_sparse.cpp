// SPDX-License-Identifier: MIT
// Sparse weights, alone and beside others.
#include "compress.hpp"

#include <pleat/compress/armor.hpp>
#include <pleat/compress/compensate.hpp>
#include <pleat/compress/semi_structured.hpp>

namespace makers {

template Operator compress<pleat::SemiStructured>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                  const Calibration&, Choice);
template double cross_validate<pleat::SemiStructured>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                      const Calibration&, Choice);
template Operator compress<pleat::Armor>(const Eigen::MatrixXf&, const pleat::Budget&,
                                         const Calibration&, Choice);
template double cross_validate<pleat::Armor>(const Eigen::MatrixXf&, const pleat::Budget&,
                                             const Calibration&, Choice);

Operator semi_structured_and_low_rank(const Eigen::MatrixXf& W, const pleat::Budget& budget,
                                      const Calibration& calibration) {
  const auto sparse =
      pleat::compress<pleat::SemiStructured>(W, pleat::keep(1), calibration, {.pattern = {2, 4}});
  return pleat::compensate(sparse, W, budget, calibration);
}

}  // namespace makers
