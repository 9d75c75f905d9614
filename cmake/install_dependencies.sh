#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# install_dependencies.sh <group>...: installs the Debian packages of the groups that are missing.
# Groups: core (to use pleat), tests, all_tests (what tests/run.sh --all needs beyond those),
# examples, benchmarks.
set -euo pipefail

# <package>, or <package>:<command> where the command is as good, whoever installed it.
core=(cmake:cmake ninja-build:ninja g++:g++ libeigen3-dev libxsimd-dev nlohmann-json3-dev)
tests=(catch2 ccache:ccache clang-14:clang++-14 clang-format-14:clang-format-14 libomp-14-dev
  pkg-config:pkg-config)
all_tests=(clang-tidy-14:clang-tidy-14 g++-aarch64-linux-gnu:aarch64-linux-gnu-g++
  libclang-rt-14-dev libcli11-dev qemu-user:qemu-aarch64 valgrind)
examples=(ca-certificates libcli11-dev npm:npm)
benchmarks=(libbenchmark-dev libblis-dev libdnnl-dev libopenblas-dev libpthreadpool-dev
  libxnnpack-dev libxsmm-dev)

missing=()
for group in "$@"; do
  declare -n packages=$group
  for entry in "${packages[@]}"; do
    package=${entry%%:*}
    if [[ $entry == *:* ]] && command -v "${entry#*:}" >/dev/null; then continue; fi
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $state == installed ]] || missing+=("$package")
  done
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "This is not Debian, so nothing was installed. What pleat needs is in these packages there:"
  echo "  ${missing[*]}"
  echo "Going on; if one of them is not here under another name, a later step will say so."
  exit 0
fi
as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing packages, and neither root nor sudo to install them. As root, run:"
    echo "  apt-get install ${missing[*]}"
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --no-install-recommends "${missing[@]}" >>"$log" 2>&1
}
# A fresh machine has no list of packages, or an old one: fetch it only if it is needed.
if ! install && ! { "${as_root[@]}" apt-get update >>"$log" 2>&1 && install; }; then
  tail -n 15 "$log"
  echo "Could not install: ${missing[*]}"
  exit 1
fi
