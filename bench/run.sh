#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Times pleat against other libraries and prints the results as Markdown.
#
#   bench/run.sh                one core, all shapes and batches: most of an hour
#   bench/run.sh --quick        some of them: under 3 minutes, and as much to build the first time
#   bench/run.sh --threads 2    on so many cores
#   bench/run.sh --only Csr     of the kernels, those with this in their names
#
# Raw results go to build/bench.json, in the format of Google Benchmark.
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
  cmake --build $build --target bench_kernels
}
build >build/bench.log 2>&1 || { cat build/bench.log; exit 1; }

threads=1
for ((i = 1; i < $#; ++i)); do
  if [[ ${!i} == --threads ]]; then
    next=$((i + 1))
    threads=${!next}
  fi
done
# These choose an older kernel for OpenBLAS, where they are set: not a fair peer.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OMP_NUM_THREADS=$threads
run=($build/bench/bench_kernels --out build/bench.json "$@")
# The last cores: systems tend to use the first ones themselves.
last=$(($(nproc) - 1))
first=$((last >= threads ? last - threads + 1 : 0))
if command -v taskset >/dev/null; then exec taskset -c $first-$last "${run[@]}"; fi
exec "${run[@]}"
