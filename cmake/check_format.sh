#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks that all C++ is laid out as clang-format 14 does it; with --fix, lays it out so.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=clang-format-14
command -v "$tool" >/dev/null || { echo "$tool is not installed"; exit 1; }
mode=(--dry-run -Werror)
[[ ${1-} != --fix ]] || mode=(-i)
directories=(include tests examples)
[[ ! -d bench ]] || directories+=(bench)
find "${directories[@]}" \( -name '*.hpp' -o -name '*.cpp' \) -print0 |
  xargs -0 "$tool" "${mode[@]}"
