#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# eigens.sh <sources> <directory> <compiler and flags...>: an operator goes from one translation
# unit to another if both include the same Eigen; if one aligns memory differently, they must not
# link.
set -euo pipefail
sources=$1 directory=$2
shift 2

mkdir -p "$directory"
"$@" -c "$sources/giver.cpp" -o "$directory/giver.o"
"$@" -c "$sources/taker.cpp" -o "$directory/taker.o"
"$@" -DEIGEN_MAX_ALIGN_BYTES=128 -c "$sources/taker.cpp" -o "$directory/other.o"
"$@" "$directory/giver.o" "$directory/taker.o" -o "$directory/program"
"$directory/program"
if output=$("$@" "$directory/giver.o" "$directory/other.o" -o "$directory/program" 2>&1); then
  echo "two Eigens that differ in alignment link"
  exit 1
fi
grep 'size_of_theirs' <<<"$output"
