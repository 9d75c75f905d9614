// SPDX-License-Identifier: MIT
// What a layer sees: its home is on a shelf of solve/, this name of it stays.
#pragma once

#include "pleat/solve/metric/calibration.hpp"
