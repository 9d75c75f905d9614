// SPDX-License-Identifier: MIT
// Weights of which whole blocks are kept, and dictionaries of all columns.
#include "compress.hpp"

#include <pleat/compress/block_sparse.hpp>
#include <pleat/compress/sparse_dictionary.hpp>

namespace makers {

template Operator compress<pleat::BlockSparse>(const Eigen::MatrixXf&, const pleat::Budget&,
                                               const Calibration&, Choice);
template double cross_validate<pleat::BlockSparse>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                   const Calibration&, Choice);
template Operator compress<pleat::SparseDictionary>(const Eigen::MatrixXf&, const pleat::Budget&,
                                                    const Calibration&, Choice);
template double cross_validate<pleat::SparseDictionary>(const Eigen::MatrixXf&,
                                                        const pleat::Budget&, const Calibration&,
                                                        Choice);

}  // namespace makers
