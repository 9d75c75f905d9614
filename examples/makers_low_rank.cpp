// SPDX-License-Identifier: MIT
// Dense weights, low rank, and dictionaries of blocks of columns.
#include "compress.hpp"

#include <pleat/compress/block_dictionary.hpp>
#include <pleat/compress/dense.hpp>
#include <pleat/compress/low_rank.hpp>

namespace makers {

template Operator compress<pleat::Dense>(const Eigen::MatrixXf&, const pleat::Budget&,
                                         const Calibration&, Choice);
template double cross_validate<pleat::Dense>(const Eigen::MatrixXf&, const pleat::Budget&,
                                             const Calibration&, Choice);
template Operator compress<pleat::LowRank>(const Eigen::MatrixXf&, const pleat::Budget&,
                                           const Calibration&, Choice);
template double cross_validate<pleat::LowRank>(const Eigen::MatrixXf&, const pleat::Budget&,
                                               const Calibration&, Choice);
template Operator compress<pleat::BlockDictionary>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                   const Calibration&, Choice);
template double cross_validate<pleat::BlockDictionary>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                       const Calibration&, Choice);
Operator low_rank_plain(const Eigen::MatrixXf& W, const pleat::Budget& budget, const Calibration&) {
  return pleat::compress<pleat::LowRank>(W, budget);
}

}  // namespace makers
