#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Times pleat against the dense libraries on one core and prints Markdown. --quick: under 3 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake/install_dependencies.sh core benchmarks
build=build/bench
mkdir -p build
# Eigen and the loops around the kernels get what the machine has, as the other libraries do.
build() {
  cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=None \
    -DCMAKE_CXX_FLAGS="-O3 -DNDEBUG -march=native" -DPLEAT_BUILD_BENCHMARKS=ON \
    -DPLEAT_BUILD_TESTS=OFF -DPLEAT_BUILD_EXAMPLES=OFF
  cmake --build $build
}
build >build/bench.log 2>&1 || { cat build/bench.log; exit 1; }

# These choose an older kernel for OpenBLAS, where they are set: not a fair peer.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OMP_NUM_THREADS=1
core=$(($(nproc) - 1))
if command -v taskset >/dev/null; then exec taskset -c $core $build/bench/bench_kernels "$@"; fi
exec $build/bench/bench_kernels "$@"
