#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# light_headers.sh [--time] <include> <compiler> <flags...>: no header that only applies and loads
# may see a decomposition of Eigen's, directly or not. With --time, prints what the heaviest costs,
# for people.
set -euo pipefail
time=
if [[ $1 == --time ]]; then
  time=1
  shift
fi
include=$1
shift

# compile <header> <what to do with it>
compile() {
  "${compiler[@]}" -std=c++20 -I"$include" -x c++ "${@:2}" - <<<"#include \"$1\""
}
compiler=("$@")

failed=0
seen=0
for header in $(cd "$include" && echo pleat/{core,kernel,matrix,factor,io}/*.hpp); do
  seen=$((seen + 1))
  dependencies=$(compile "$header" -M)
  if heavy=$(grep -oE 'Eigen/src/(SVD|Eigenvalues|QR|Cholesky|LU|Householder|Jacobi)/[A-Za-z]*' \
    <<<"$dependencies"); then
    echo "$header includes decompositions:" $heavy
    failed=1
  fi
done
if [[ $seen -lt 10 ]]; then
  echo "only $seen headers seen in $include/pleat"
  failed=1
fi

[[ -n $time ]] || exit "$failed"
TIMEFORMAT='%U s of CPU'
for header in pleat/factor/structures.hpp pleat/io/operator_file.hpp; do
  printf '%s: ' "$header"
  time compile "$header" -O3 -c -o /dev/null
done 2>&1
exit "$failed"
