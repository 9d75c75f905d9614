#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds and tests everything: g++ and clang, sanitizers, packages, style. Installs what is missing.
#
#   tests/run.sh            all of it, with every compiler and sanitizer: one test each
#   tests/run.sh --quick    one compiler, no sanitizers
#   tests/run.sh -R io      what follows is for ctest
set -euo pipefail
cd "$(dirname "$0")/.."

all=ON
if [[ ${1-} == --quick ]]; then
  all=OFF
  shift
fi

cmake/install_dependencies.sh core tests

processors=$(nproc)
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$processors}
export CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-$processors}
export CTEST_OUTPUT_ON_FAILURE=1

cmake --preset dev -DPLEAT_TEST_CONFIGURATIONS=$all -DPLEAT_TEST_UNITY=$all
cmake --build --preset dev
exec ctest --preset dev "$@"
