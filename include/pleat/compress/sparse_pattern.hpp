// SPDX-License-Identifier: MIT
// The patterns that weights are pruned to: their home is matrix/, this name of it stays.
#pragma once

#include "pleat/matrix/sparse_pattern.hpp"
