// SPDX-License-Identifier: MIT
// The other file of the consumer; what it returns crosses the border between the two.
#if defined(CONSUMER_NEEDS_HOST_EIGEN) && !defined(HOST_EIGEN)
#error "the host's target Eigen3::Eigen is not the one that pleat uses"
#endif

#include "other.hpp"

#ifdef CONSUMER_INCLUDES_ALL_ONCE
#include <pleat/core/compose.hpp>
#else
#include <pleat/pleat.hpp>
#endif

pleat::AnyOperator<float> twice(const pleat::AnyOperator<float>& op) { return pleat::Sum(op, op); }
