// SPDX-License-Identifier: MIT
// Takes an operator from another translation unit.
#include <pleat/matrix/diagonal.hpp>

Eigen::Index size_of_theirs(const pleat::Diagonal<float>& op) { return op.rows(); }
