// SPDX-License-Identifier: MIT
// Weights of which whole blocks are kept.
#include "compress.hpp"

#include <pleat/compress/block_sparse.hpp>

namespace makers {

template Operator compress<pleat::BlockSparse>(const Eigen::MatrixXf&, const pleat::Budget&,
                                               const Calibration&, Choice);
template double cross_validate<pleat::BlockSparse>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                   const Calibration&, Choice);

}  // namespace makers
