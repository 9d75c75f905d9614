// SPDX-License-Identifier: MIT
// compress<SparseLowRank>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/sparse_low_rank.hpp"
