// SPDX-License-Identifier: MIT
// compress<LowRank>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/low_rank.hpp"
