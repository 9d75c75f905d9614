#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# raw.sh <sources> <directory> <name> <compiler and flags...>: compiles the consumer by hand, and
# runs it.
set -euo pipefail
sources=$1
program=$2/$3
shift 3

"$@" "$sources"/*.cpp -o "$program"
"$program"
