// SPDX-License-Identifier: MIT
// Operators compute in float or double; an operator on integers is refused by name.
// Expected: Real
#include "pleat/matrix/dense.hpp"

#ifdef PLEAT_SHOULD_FAIL
using Scalar = int;
#else
using Scalar = float;
#endif

pleat::Index rows(const pleat::Dense<Scalar>& op);

pleat::Index rows(const pleat::Dense<Scalar>& op) { return op.rows(); }
