#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check_tidy.sh <build>: runs clang-tidy over every header, the static tests, and the examples, with
# the flags that CMake wrote to <build>/compile_commands.json. Not over the makers' tables of the
# encoder, which are half a minute each and little but calls of what the headers have.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=clang-tidy-14
command -v "$tool" >/dev/null || { echo "$tool is not installed"; exit 1; }
build=$1
sources=("$build"/tests/package/alone/pleat_pleat_hpp.cpp tests/static/concepts.cpp)
for example in examples/*.cpp; do
  [[ $example == */makers_* ]] && continue
  if grep --fixed-strings --quiet "$PWD/$example" "$build/compile_commands.json"; then
    sources+=("$example")
  fi
done
# The build is g++'s, and has warnings and flags that clang does not know.
printf '%s\0' "${sources[@]}" |
  xargs -0 -n 1 -P "$(nproc)" "$tool" --quiet -p "$build" \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-unused-command-line-argument \
    --header-filter="$PWD/(include|examples)/"
