// SPDX-License-Identifier: MIT
// The other file of the consumer; what it returns crosses the border between the two.
#include "other.hpp"

#include <pleat/pleat.hpp>

pleat::AnyOperator<float> twice(const pleat::AnyOperator<float>& op) { return pleat::Sum(op, op); }
