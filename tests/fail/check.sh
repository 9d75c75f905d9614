#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh [--failure] <source> <compiler> <flags...>: the source must compile, which --failure
# leaves out; with PLEAT_SHOULD_FAIL defined it must not, nor with the flags of its line
# "// Flags: ..." if it has one, and what the compiler says must match its line
# "// Expected: <regular expression>". Of flags that is the first error: whatever else they lead to,
# the reason stands before it.
set -euo pipefail
success=1
if [[ $1 == --failure ]]; then
  success=
  shift
fi
source=$1
shift

expected=$(sed -n 's|^// Expected: ||p' "$source")
if [[ -z $expected ]]; then
  echo "$source has no line \"// Expected: ...\""
  exit 1
fi
if [[ -n $success ]] && ! "$@" -fsyntax-only "$source"; then
  echo "$source does not compile even without PLEAT_SHOULD_FAIL"
  exit 1
fi
read -r -a flags <<<"$(sed -n 's|^// Flags: ||p' "$source")"
if output=$("$@" -DPLEAT_SHOULD_FAIL "${flags[@]}" -fsyntax-only "$source" 2>&1); then
  echo "$source compiles, but must not"
  exit 1
fi
if [[ ${#flags[@]} -gt 0 ]]; then
  output=$(grep -m 1 'error:' <<<"$output")
fi
if ! grep --extended-regexp --quiet "$expected" <<<"$output"; then
  echo "$source fails as it should, but the compiler does not say \"$expected\":"
  echo "$output"
  exit 1
fi
