// SPDX-License-Identifier: MIT
// An operator taken apart for nothing is a mistake, and a warning wherever warnings are errors.
// Expected: nodiscard
#include "pleat/matrix/dense.hpp"

#pragma GCC diagnostic error "-Wunused-result"

pleat::Index rows(const pleat::Dense<float>& op);

pleat::Index rows(const pleat::Dense<float>& op) {
#ifdef PLEAT_SHOULD_FAIL
  op.to_dense();
#endif
  return op.rows();
}
