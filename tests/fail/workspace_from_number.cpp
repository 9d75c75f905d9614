// SPDX-License-Identifier: MIT
// A number is not a workspace: whoever wants two threads says of what kind.
// Expected: no matching (function|conversion)
#include "pleat/core/workspace.hpp"

int tasks();

int tasks() {
#ifdef PLEAT_SHOULD_FAIL
  return pleat::Workspace(2).max_tasks();
#else
  return pleat::Workspace(pleat::OpenMP{2}).max_tasks();
#endif
}
