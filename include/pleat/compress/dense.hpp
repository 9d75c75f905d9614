// SPDX-License-Identifier: MIT
// compress<Dense>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/dense.hpp"
