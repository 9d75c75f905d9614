#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# lookup.sh <include> <source> <directory> <compiler> <flags...>: compiles lookup.cpp with the names
# of all functions of the library, and runs it.
set -euo pipefail
include=$1 source=$2 directory=$3
shift 3

mkdir -p "$directory"
# Functions of namespaces begin at the first column; their names stand before the first bracket that
# follows a name.
grep -rhE --include='*.hpp' --exclude-dir=kernel '^[a-z\[][^(]*[ &*]([a-z_0-9]+)\(' "$include" |
  grep -vE '^(static_assert|namespace|using|requires|friend|return|if|for)\b' |
  sed -E 's/^[^(]*[ &*]([a-z_0-9]+)\(.*/\1/' | sort -u |
  grep -vxE 'requires|decltype|operator|sizeof' |
  sed 's/.*/PLEAT_TEST_NAME(&)/' >"$directory/names.inc"
if [[ $(wc -l <"$directory/names.inc") -lt 100 ]]; then
  echo "only $(wc -l <"$directory/names.inc") functions found in $include/pleat"
  exit 1
fi
"$@" -I"$directory" "$source" -o "$directory/lookup"
"$directory/lookup"
