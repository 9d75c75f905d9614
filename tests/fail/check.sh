#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh <source> <compiler> <flags...>: the source must compile; with PLEAT_SHOULD_FAIL defined
# it must not, and what the compiler says must match its line "// Expected: <regular expression>".
set -euo pipefail
source=$1
shift

expected=$(sed -n 's|^// Expected: ||p' "$source")
if [[ -z $expected ]]; then
  echo "$source has no line \"// Expected: ...\""
  exit 1
fi
if ! "$@" -fsyntax-only "$source"; then
  echo "$source does not compile even without PLEAT_SHOULD_FAIL"
  exit 1
fi
if output=$("$@" -fsyntax-only -DPLEAT_SHOULD_FAIL "$source" 2>&1); then
  echo "$source compiles, but must not"
  exit 1
fi
if ! grep --extended-regexp --quiet "$expected" <<<"$output"; then
  echo "$source fails as it should, but the compiler does not say \"$expected\":"
  echo "$output"
  exit 1
fi
