#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umbrella.sh <include> <compiler> <flags...>: pleat.hpp includes every header of the library.
set -euo pipefail
include=$1
shift

included=$("$@" -std=c++20 -I"$include" -x c++ -M - <<<'#include "pleat/pleat.hpp"')
failed=0
while read -r header; do
  if ! grep --fixed-strings --quiet "pleat/$header" <<<"$included"; then
    echo "pleat.hpp does not include pleat/$header"
    failed=1
  fi
done < <(cd "$include/pleat" && find . -name '*.hpp' | sed 's|^\./||')
exit "$failed"
