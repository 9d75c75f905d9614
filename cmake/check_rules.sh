#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks the rules of the house that a grep can check, and names every line that breaks one.
set -eu
# The rule at the end of a pipe sets a variable; and a grep that finds nothing has not failed.
shopt -s lastpipe
cd "$(dirname "$0")/.."

failed=0
# rule <text>: what comes in on stdin breaks it.
rule() {
  local lines
  lines=$(cat)
  if [[ -n $lines ]]; then
    printf 'broken: %s\n%s\n\n' "$1" "$lines"
    failed=1
  fi
}
# Lines of headers that match; no match is not an error.
headers() { grep --recursive --line-number --include='*.hpp' -E "$@" || true; }

# What a room may include; dependencies point down.
declare -A below=(
  [kernel]='kernel'
  [core]='core|kernel/abi'
  [matrix]='matrix|kernel|core'
  [factor]='factor|matrix|core'
  [solve]='solve|factor|matrix|kernel|core'
  [compress]='compress|solve|factor|matrix|kernel|core'
  [io]='io|factor|matrix|core'
)
for path in include/pleat/*/; do
  room=$(basename "$path")
  if [[ -z ${below[$room]-} ]]; then
    echo "include/pleat/$room" | rule "the rooms are ${!below[*]}"
    continue
  fi
  headers '#include "' "$path" | grep -vE "#include \"pleat/(${below[$room]})[/.]" |
    rule "$room includes only $(tr '|' ' ' <<<"${below[$room]}")"
done

# The shelves of solve/, from the top; arrows run down there, too.
declare -A shelves_below=(
  [armor]='armor|sparse|metric|linear'
  [sparse_low_rank]='sparse_low_rank|sparse|low_rank|metric|linear'
  [sparse]='sparse|metric|linear'
  [low_rank]='low_rank|metric|linear'
  [selection]='selection|low_rank|metric|linear'
  [dictionary]='dictionary|sparse|metric|linear'
  [kronecker]='kronecker|low_rank|metric|linear'
  [metric]='metric|linear'
  [linear]='linear'
)
for path in include/pleat/solve/*; do
  shelf=$(basename "$path")
  if [[ -z ${shelves_below[$shelf]-} ]]; then
    echo "$path" | rule "solve/ holds nothing but its shelves: ${!shelves_below[*]}"
    continue
  fi
  headers '#include "pleat/solve/' "$path" |
    grep -vE "#include \"pleat/solve/(${shelves_below[$shelf]})/" |
    rule "solve/$shelf includes of solve/ only $(tr '|' ' ' <<<"${shelves_below[$shelf]}")"
done
while read -r folder; do
  count=0
  for header in "$folder"/*.hpp; do
    # A name that stays when its header has moved on holds nothing but the include of the new one.
    [[ ! -e $header ]] || ! grep --quiet '^namespace' "$header" || count=$((count + 1))
  done
  [[ $count -le 12 ]] || echo "$folder: $count headers"
done < <(find include -type d) | rule 'no folder holds more than a dozen headers'
headers '#include "pleat/[a-z]+/detail/' include/pleat |
  grep -vE "^include/pleat/([a-z]+)/.*#include \"pleat/\1/detail/" |
  rule 'a detail/ is included only from its own room'

headers '#include <' include/pleat/kernel | grep -vE '<cstddef>|<cstdint>|kernel/detail/.*<xsimd/' |
  rule 'kernel/ includes nothing but <cstddef> and <cstdint>, and in detail/ xsimd'
headers 'xsimd::|<xsimd' include/pleat | grep -v '^include/pleat/kernel/' |
  rule 'xsimd appears only in kernel/'
headers '<xsimd/' include/pleat | grep -v '^include/pleat/kernel/detail/simd/xsimd.hpp:' |
  rule 'xsimd is included in one place, which sees to macros'
headers '<Eigen/' include/pleat | grep -vE '<Eigen/Core>|^include/pleat/solve/' |
  rule 'decompositions appear only in solve/; elsewhere <Eigen/Core> is enough'
headers -i 'bdcsvd' include/pleat | rule 'nothing instantiates Eigen::BDCSVD'
headers 'nlohmann' include/pleat | grep -v '^include/pleat/io/' | rule 'JSON appears only in io/'
headers '#include .pleat/pleat\.hpp' include/pleat | rule 'no header includes pleat.hpp'
headers 'using namespace|\bget_(\w+)\(' include/pleat | grep -v 'get_if' |
  rule 'no using namespace, no get_'
# <windows.h> has macros min, max, small, near and far, and <complex.h> one of I.
limits='std::numeric_limits<[^()]*>::'
headers "(^|[^(])(\bstd::(min|max) *\(|$limits(min|max)\()|\.(min|max)\(" include/pleat |
  rule 'min and max are macros of some headers: (std::min)(a, b)'
headers '\b(I|small|near|far)\b' include/pleat | sed -E 's|//.*||; s/"[^"]*"//g' |
  grep -E '^[^:]*:[0-9]*:.*\b(I|small|near|far)\b' | grep -v 'simd/xsimd.hpp:[0-9]*:#undef I$' |
  rule 'I, small, near and far are macros of some headers, and no names'
grep -rhoE --include='*.hpp' '^ *#define \w+' include | awk '{ print $2 }' | sort -u |
  grep -vxE 'PLEAT_((KERNEL_)?ABI|VERSION_(MAJOR|MINOR|PATCH))' |
  rule 'the library defines five macros, and is told PLEAT_DISPATCH; it needs no other'
headers '<(iostream|cstdio|print)>|std::(cout|cerr|clog)' include/pleat |
  grep -v '^include/pleat/io/.*<cstdio>' | rule 'the library prints nothing'
headers '^ +mutable ' include/pleat | rule 'no mutable member: a const operator keeps no scratch'

while read -r header; do
  [[ $(head -n 3 "$header" | tail -n 2) == '// '* ]] || echo "$header"
done < <(find include -name '*.hpp') | rule 'the second line of a header says what lives there'
grep -rL --include='*.hpp' '^#pragma once$' include tests examples bench 2>/dev/null |
  rule 'a header says #pragma once'
grep -rl --include='*.hpp' '^namespace' include |
  xargs grep -L '^inline namespace PLEAT_ABI {$' |
  grep -vE 'pleat/core/abi\.hpp$|pleat/kernel/' |
  rule 'a header lives in the inline namespace PLEAT_ABI'
find include -name '*.hpp' -size +0 -exec wc -l {} + | awk '$1 > 400 && $2 != "total"' |
  rule 'no header is longer than 400 lines'

# All text of the project. Line 1, or line 2 after a shebang, is the license.
mapfile -t sources < <(find . \( -path ./build -o -path ./.git \) -prune -o -type f \
  \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cmake' -o -name '*.sh' -o -name '*.py' \
  -o -name CMakeLists.txt -o -path ./.ci/run \) -print)
for source in "${sources[@]}"; do
  head -n 2 "$source" | grep --quiet -E '^(//|#) SPDX-License-Identifier: MIT$' || echo "$source"
done | rule 'the first line (after a shebang) is the license'
{ grep -nP '[^\x00-\x7F]' "${sources[@]}" || true; } | rule 'plain ASCII'
# In C++, clang-format sees to it, and knows what cannot be broken.
{ grep -nE '^.{101,}$' "${sources[@]}" || true; } | grep -vE '^[^:]+\.[ch]pp:' |
  rule 'lines have at most 100 columns'
{ grep -nE '[[:space:]]+$' "${sources[@]}" || true; } | rule 'no spaces at the end of a line'

find . -mindepth 1 -maxdepth 1 -not -name '.*' -printf '%f\n' |
  grep -vxE 'include|tests|bench|examples|cmake|build|CMake(Lists\.txt|Presets\.json)|LICENSE' |
  grep -vxE '(README|CHANGELOG)\.md' |
  rule 'the top level holds nothing else'
exit "$failed"
