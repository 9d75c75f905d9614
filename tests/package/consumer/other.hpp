// SPDX-License-Identifier: MIT
// What the other file of the consumer does: an operator goes in, and comes out again.
#pragma once

#include <pleat/core/any_operator.hpp>

pleat::AnyOperator<float> twice(const pleat::AnyOperator<float>& op);
