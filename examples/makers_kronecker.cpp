// SPDX-License-Identifier: MIT
// Monarch matrices, BLAST matrices and sums of Kronecker products.
#include "compress.hpp"

#include <pleat/compress/blast.hpp>
#include <pleat/compress/kronecker.hpp>
#include <pleat/compress/monarch.hpp>

namespace makers {

template Operator compress<pleat::Monarch>(const Eigen::MatrixXf&, const pleat::Budget&,
                                           const Calibration&, Choice);
template double cross_validate<pleat::Monarch>(const Eigen::MatrixXf&, const pleat::Budget&,
                                               const Calibration&, Choice);
template Operator compress<pleat::Blast>(const Eigen::MatrixXf&, const pleat::Budget&,
                                         const Calibration&, Choice);
template double cross_validate<pleat::Blast>(const Eigen::MatrixXf&, const pleat::Budget&,
                                             const Calibration&, Choice);
template Operator compress<pleat::Kronecker>(const Eigen::MatrixXf&, const pleat::Budget&,
                                             const Calibration&, Choice);
template double cross_validate<pleat::Kronecker>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                 const Calibration&, Choice);

}  // namespace makers
