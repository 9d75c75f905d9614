#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh [--update] <program> <level> <table> <stored>: counts the instructions of each case of
# the program and compares them with those stored for the level; with --update, stores them.
#
# More than 5 % more is a loss. More than 5 % fewer fails as well: until the smaller number is
# stored, a later loss of what was gained would go unseen.
set -euo pipefail
export LC_ALL=C

update=
if [[ $1 == --update ]]; then
  update=yes
  shift
fi
program=$1 level=$2 table=$3 stored=$4

if [[ $level == avx2 ]] && ! grep --quiet --word-regexp avx2 /proc/cpuinfo; then
  echo "Skipped: this CPU has no AVX2"
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! valgrind --tool=callgrind --callgrind-out-file="$work/out" "$program" "$table" \
  >"$work/log" 2>&1; then
  cat "$work/log"
  exit 1
fi
# One file for each count, out.1 and so on; the last, out, is of what the program does at its end.
for file in "$work"/out.*; do
  sed -nE -e 's/^desc: Trigger: Client Request: //p' -e 's/^(summary|totals): //p' "$file" |
    awk -v level="$level" 'NR <= 2 { line = line " " $1 } END { print level line }'
done >"$work/counted"

if [[ -n $update ]]; then
  {
    echo "# Instructions of one apply: level, case, instructions. The compiler is the file's name."
    echo "# Written by the target update_instructions, compared by check.sh."
    awk -v level="$level" '!/^#/ && $1 != level' "$stored" | sort --version-sort - "$work/counted"
  } >"$work/updated"
  cp "$work/updated" "$stored"
  echo "Stored $(wc -l <"$work/counted") numbers for $level in $stored"
  exit 0
fi

if ! awk -v level="$level" '
  /^#/ { next }
  FILENAME == ARGV[1] { if ($1 == level) before[$2] = $3; next }
  { now[$2] = $3 }
  END {
    for (name in now) {
      if (!(name in before)) {
        print name ": " now[name] " instructions, but nothing is stored"; failed = 1; continue
      }
      change = 100 * (now[name] / before[name] - 1)
      verdict = change > 5 ? " MORE" : change < -5 ? " fewer: store the new number" : ""
      if (verdict != "") failed = 1
      printf "%-30s %10d, stored %10d, %+6.1f %%%s\n",
        name, now[name], before[name], change, verdict
    }
    for (name in before)
      if (!(name in now)) { print name ": stored, but not counted"; failed = 1 }
    exit failed
  }' "$stored" "$work/counted" >"$work/report"; then
  sort --version-sort "$work/report"
  echo
  echo "If that is how it should be, store the new numbers, and say in the commit why they differ:"
  echo "  cmake --build --preset dev --target update_instructions"
  exit 1
fi
sort --version-sort "$work/report"
