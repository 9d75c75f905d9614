#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umbrella.sh <include> <compiler> <flags...>: pleat.hpp includes every header of the library, and
# compiles no factorization before one is called for.
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

if "$@" --version | grep --quiet 'Free Software Foundation'; then
  # All functions that are no templates, called or not, and what they instantiate.
  object=$(mktemp)
  trap 'rm -f "$object"' EXIT
  "$@" -std=c++20 -I"$include" -fkeep-inline-functions -x c++ -c -o "$object" - \
    <<<'#include "pleat/pleat.hpp"'
  makers='LDLT|LLT|HouseholderQR|SelfAdjointEigenSolver|gebp_kernel|triangular_solve_matrix'
  heavy=$(nm -C "$object" | grep -oE "Eigen::(internal::)?($makers)\b" | sort -u || true)
  if [[ -n $heavy ]]; then
    echo "pleat.hpp alone instantiates:" $heavy
    failed=1
  fi
fi
exit "$failed"
