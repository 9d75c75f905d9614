// SPDX-License-Identifier: MIT
// compress<BlockSparse>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/block_sparse.hpp"
