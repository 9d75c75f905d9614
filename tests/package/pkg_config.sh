#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pkg_config.sh <raw.sh> <sources> <directory> <prefix> <compiler and flags...>: raw.sh with the
# flags that pkg-config tells of the pleat installed at the prefix.
set -euo pipefail
raw=$1 sources=$2 directory=$3 prefix=$4
shift 4

export PKG_CONFIG_PATH=$prefix/share/pkgconfig
flags=$(pkg-config --cflags pleat)
# shellcheck disable=SC2086  # several flags, none with a space
"$raw" "$sources" "$directory" pkg_config "$@" $flags
