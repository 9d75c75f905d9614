// SPDX-License-Identifier: MIT
// compress<SparseDictionary>, see structure/sparse_dictionary.hpp.
#pragma once

#include "pleat/compress/structure/sparse_dictionary.hpp"
