#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Times pleat against other libraries and prints the results as Markdown.
#
#   bench/run.sh                one core, all shapes and batches: most of an hour
#   bench/run.sh --quick        some of them: 5 minutes, and as much to build the first time
#   bench/run.sh --only small   layers of 8 x 8 to 128 x 128 alone: seconds, and a minute to build
#   bench/run.sh --only Csr     of the kernels, those with this in their names
#   bench/run.sh --threads 2    on so many cores; small layers are on one
#   bench/run.sh --arch avx512,fma3+avx2,sse2
#                               all of it for each instruction set in turn, in place of the
#                               machine's: Eigen and the loops are compiled for it, and the other
#                               libraries are kept to it where they can be; also
#                               avx512+vnni+bf16, avx512+vnni, avx2+vnni, where avx512 and
#                               fma3+avx2 have no dot products of bytes
#
# Raw results go to build/bench*.json, in the format of Google Benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."

threads=1
only=
archs=(native)
arguments=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help) exec sed -n '3,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$0" ;;
    --arch) IFS=, read -ra archs <<<"${2?--arch needs a value}" && shift ;;
    --threads) threads=${2?--threads needs a value} && arguments+=("$1" "$2") && shift ;;
    --only) only=${2?--only needs a value} && arguments+=("$1" "$2") && shift ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

cmake/install_dependencies.sh core benchmarks
mkdir -p build
# Eigen and the loops around the kernels get what the machine has, as the other libraries do; or
# all of them what --arch says.
declare -A flags=([native]=-march=native [avx512]=-march=x86-64-v4
  ['fma3+avx2']='-mavx2 -mfma -mf16c' [sse2]=)
declare -A needs=([avx512]='avx512f avx512cd avx512dq avx512bw avx512vl'
  ['fma3+avx2']='avx2 fma f16c')
flags+=(['avx512+vnni']=${flags[avx512]} ['avx512+vnni+bf16']=${flags[avx512]}
  ['avx2+vnni']=${flags['fma3+avx2']})
needs+=(['avx512+vnni']="${needs[avx512]} avx512_vnni"
  ['avx512+vnni+bf16']="${needs[avx512]} avx512_vnni avx512_bf16"
  ['avx2+vnni']="${needs['fma3+avx2']} avx_vnni|avx512_vnni")
# What keeps a library to an instruction set, or to the next above it that it has. Nothing keeps
# XNNPACK. What AVX-512 has besides changes no product in float, but those of oneDNN in int8 and
# bf16.
declare -A limits=([avx512]=DNNL_MAX_CPU_ISA=AVX512_CORE
  ['avx512+vnni']=DNNL_MAX_CPU_ISA=AVX512_CORE_VNNI
  ['avx512+vnni+bf16']=DNNL_MAX_CPU_ISA=AVX512_CORE_BF16
  ['fma3+avx2']='OPENBLAS_CORETYPE=Haswell BLIS_ARCH_TYPE=3 DNNL_MAX_CPU_ISA=AVX2
    LIBXSMM_TARGET=hsw'
  [sse2]='OPENBLAS_CORETYPE=Prescott BLIS_ARCH_TYPE=5 DNNL_MAX_CPU_ISA=SSE41
    LIBXSMM_TARGET=sse3')
limits+=(['avx2+vnni']=${limits['fma3+avx2']/ISA=AVX2/ISA=AVX2_VNNI})
declare -A limited=([avx512]='oneDNN to AVX-512 without VNNI'
  ['avx512+vnni']='oneDNN to AVX-512 with VNNI' ['avx512+vnni+bf16']='oneDNN to AVX-512 with bf16'
  ['avx2+vnni']='OpenBLAS to Haswell, BLIS to Haswell, oneDNN to AVX2 with VNNI, libxsmm to AVX2'
  ['fma3+avx2']='OpenBLAS to Haswell, BLIS to Haswell, oneDNN to AVX2, libxsmm to AVX2'
  [sse2]='OpenBLAS to SSE3, BLIS to SSSE3, oneDNN to SSE4.1, libxsmm to SSE3')
for arch in "${archs[@]}"; do
  if [[ -z ${flags[$arch]+known} ]]; then
    echo "--arch: \"$arch\" is none of native, avx512+vnni+bf16, avx512+vnni, avx512," \
      "avx2+vnni, fma3+avx2 and sse2"
    exit 1
  fi
done

programs=(bench_kernels bench_small)
case $only in
  '') ;;
  small) programs=(bench_small) ;;
  *) programs=(bench_kernels) ;;
esac
build() { # <directory> <flags>
  cmake -S . -B "$1" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O3 -DNDEBUG $2" \
    -DPLEAT_BUILD_BENCHMARKS=ON -DPLEAT_BUILD_TESTS=OFF -DPLEAT_BUILD_EXAMPLES=OFF &&
    cmake --build "$1" --target "${programs[@]}"
}
# These choose an older kernel for OpenBLAS, where they are set: not a fair peer.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
# The last cores: systems tend to use the first ones themselves. nproc obeys OMP_NUM_THREADS.
last=$(($(env -u OMP_NUM_THREADS nproc) - 1))
export OMP_NUM_THREADS=$threads
pinned() { # <cores> <command...>
  local first=$(($1 > last ? 0 : last - $1 + 1))
  shift
  if command -v taskset >/dev/null; then taskset -c $first-$last "$@"; else "$@"; fi
}

for arch in "${archs[@]}"; do
  directory=build/bench
  limit=()
  for feature in ${needs[$arch]-}; do
    if ! grep --quiet --extended-regexp --word-regexp "$feature" /proc/cpuinfo; then
      echo "Skipped $arch: this machine has no $feature"
      continue 2
    fi
  done
  if [[ $arch != native ]]; then
    directory+=-$arch
    read -ra limit -d '' <<<"PLEAT_FORCE_ARCH=$arch ${limits[$arch]-}" || true
    echo "Compiled for $arch: Eigen, and the loops around the kernels. Limited: the kernels" \
      "to $arch${limited[$arch]+, ${limited[$arch]}; not limited: XNNPACK}."
  fi
  build $directory "${flags[$arch]}" >$directory.log 2>&1 || { cat $directory.log; exit 1; }
  for program in "${programs[@]}"; do
    case $program in
      bench_small) pinned 1 $directory/bench/bench_small ;;
      bench_kernels)
        pinned "$threads" env "${limit[@]}" \
          $directory/bench/bench_kernels --out $directory.json "${arguments[@]}"
        ;;
    esac
    echo
  done
done
