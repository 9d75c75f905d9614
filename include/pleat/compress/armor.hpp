// SPDX-License-Identifier: MIT
// compress<Armor>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/armor.hpp"
