// SPDX-License-Identifier: MIT
// compress<Monarch>, by the name that programs include.
#pragma once

#include "pleat/compress/structure/monarch.hpp"
