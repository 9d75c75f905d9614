// SPDX-License-Identifier: MIT
// compress<Blast>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/blast.hpp"
