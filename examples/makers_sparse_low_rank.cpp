// SPDX-License-Identifier: MIT
// Sparse weights and low rank, sought together.
#include "compress.hpp"

#include <pleat/compress/sparse_low_rank.hpp>

namespace makers {

template Operator compress<pleat::SparseLowRank>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                 const Calibration&, Choice);
template double cross_validate<pleat::SparseLowRank>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                     const Calibration&, Choice);

}  // namespace makers
