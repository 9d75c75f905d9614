// SPDX-License-Identifier: MIT
// compress<Cur>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/cur.hpp"
