// SPDX-License-Identifier: MIT
// compress<SemiStructured>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/semi_structured.hpp"
