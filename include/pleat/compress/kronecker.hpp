// SPDX-License-Identifier: MIT
// compress<Kronecker>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/kronecker.hpp"
