// SPDX-License-Identifier: MIT
// compress<BlockDictionary>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/block_dictionary.hpp"
