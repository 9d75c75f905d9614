#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and runs the tests. Installs what is missing.
#
#   tests/run.sh            every suite, with one compiler: nine to thirteen minutes on two cores
#   tests/run.sh --quick    the same
#   tests/run.sh --all      every compiler, sanitizer and check, one test each: an hour on two
#                           cores, and up to 7 GB of memory
#   tests/run.sh -R io      what follows is for ctest
set -euo pipefail
cd "$(dirname "$0")/.."

preset=quick
case ${1-} in
  --quick) shift ;;
  --all) preset=dev && shift ;;
  -h | --help) exec sed -n '3,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$0" ;;
esac

groups=(core tests)
[[ $preset == quick ]] || groups+=(all_tests)
cmake/install_dependencies.sh "${groups[@]}"

processors=$(nproc)
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$processors}
export CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-$processors}
export CTEST_OUTPUT_ON_FAILURE=1

case $preset in
  quick)
    # With Eigen's templates clang takes half to two thirds of the time of g++, which serves where
    # there is no clang.
    compiler=()
    command -v clang++-14 >/dev/null || compiler=(-DCMAKE_CXX_COMPILER=g++)
    cmake --preset quick "${compiler[@]}"
    cmake --build --preset quick
    cat <<'END'

Left out, and part of tests/run.sh --all:
  other compilers and flags: g++, the address, undefined-behaviour and thread sanitizers with
    fuzzing, -march=native, -ffast-math, aarch64 in an emulator, and conformance with its
    kernels compiled into the test (here they are those of pleat::dispatch)
  some shapes and samples of the conformance suite and of the kernels, doubles where a brick is
    tested alone, and the longest cases of makers and kernels, tagged [slow]
  whether what must not compile does when the fault is taken out
  clang-tidy, every header alone and what the heaviest cost, instruction counts, a program without a
    build system at -O3 -march=native or by pkg-config or FetchContent, one with targets, macros or
    functions of its own that have names of pleat's or of what it needs, and whether benchmarks and
    the larger example compile

END
    ;;
  dev)
    cmake --preset dev -DPLEAT_TEST_CONFIGURATIONS=ON
    cmake --build --preset dev
    ;;
esac
exec ctest --preset $preset "$@"
