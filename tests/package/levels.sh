#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# levels.sh <project> <directory> <generator> <compiler>: pleat::dispatch has the kernels that the
# compiler's flags leave a use for, whatever they were when the directory was configured before.
set -euo pipefail
project=$1 directory=$2 generator=$3 compiler=$4

[[ $(uname -m) == x86_64 ]] || { echo "Skipped: these are levels of x86-64"; exit 0; }

failures=0
check() { # <flags> <all of them, ON or OFF> <the sources of tables of kernels>
  cmake -S "$project" -B "$directory" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_CXX_FLAGS="$1" -DPLEAT_DISPATCH_ALL="$2" -DPLEAT_BUILD_TESTS=OFF \
    -DPLEAT_BUILD_EXAMPLES=OFF -DPLEAT_BUILD_BENCHMARKS=OFF >"$directory.log" ||
    { cat "$directory.log"; exit 1; }
  local levels
  levels=$(sed -nE 's/^PLEAT_LEVEL\((\w+)\)$/\1/p' "$directory/kernels_select.cpp" | xargs)
  if [[ $levels != "$3" ]]; then
    echo "With \"$1\", all $2, there are \"$levels\", not \"$3\""
    failures=1
  fi
}
rm -rf "$directory"
check "" OFF "baseline fma3_avx2 avx512"
check -mavx2 OFF "baseline fma3_avx2 avx512" # it takes FMA, too
check -march=x86-64-v3 OFF "fma3_avx2 avx512"
check -march=x86-64-v4 OFF avx512
check -march=x86-64-v4 ON "baseline fma3_avx2 avx512"
check -mno-avx OFF "baseline fma3_avx2 avx512"
exit $failures
