// SPDX-License-Identifier: MIT
// A workspace belongs to one thread: it moves, but is not copied.
// Expected: deleted
#include "pleat/core/workspace.hpp"

#include <utility>

pleat::Workspace another(pleat::Workspace& workspace);

pleat::Workspace another(pleat::Workspace& workspace) {
#ifdef PLEAT_SHOULD_FAIL
  return workspace;
#else
  return std::move(workspace);
#endif
}
