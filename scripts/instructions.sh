#!/usr/bin/env bash
# Instructions per 4 KiB page of one API call, counted by callgrind, beside those of the kernel's own hmm_range_fault.
# usage: scripts/instructions.sh [-c CASE[,CASE...]] [BACKEND...]
#        (default: all cases below; map_order, that kernel's generation; `all` is every design but the controls)
#
# Each case runs with 2 and with 6 rounds; the difference over four rounds leaves building and start-up out. Where the
# tables must be put back between rounds, that alone is counted too and taken off. A read of a zero page counts as a
# write in neither column: cases are those of the kernel's table (Linux 6.12, x86-64, without mitigations, exact
# counting; a page of THP is 1/512 of a leaf), and write_4k, a write wish for every page where all are writable.
set -euo pipefail
cd "$(dirname "$0")/.."
cases=
while getopts c: option; do
    case "$option" in
    c) cases=",$OPTARG," ;;
    *) sed -n '3,4s/^# *//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
command -v valgrind > /dev/null || { echo "instructions.sh: valgrind is not installed: nothing counted" >&2; exit 2; }
cargo build --release --locked --quiet -p workloads --example one_case
bin="${CARGO_TARGET_DIR:-target}/release/examples/one_case"
pages=4096
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
count() { # count BACKEND CASE ROUNDS -> instructions
    valgrind --tool=callgrind --callgrind-out-file="$tmp/out" "$bin" "$@" > "$tmp/log" 2>&1 ||
        { cat "$tmp/log" >&2; exit 1; }
    sed -n 's/^summary: //p; s/^totals: //p' "$tmp/out" | head -n 1
}
per_page() { # per_page BACKEND CASE
    local two six
    two=$(count "$1" "$2" 2); six=$(count "$1" "$2" 6)
    echo "$two $six" | awk -v p=$pages '{ printf "%.2f", ($2 - $1) / 4 / p }'
}
[ "${1:-}" != all ] || mapfile -t all_designs < <("$bin" designs)
[ "${1:-}" != all ] || set -- "${all_designs[@]}"
printf '%-20s %-16s %10s %10s\n' backend case model kernel
for backend in "${@:-map_order}"; do
    while read -r case kernel; do
        [[ -z "$cases" || "$cases" == *",$case,"* ]] || continue
        all=$(per_page "$backend" "$case")
        case "$case" in
        *absent* | *cow*) all=$(echo "$all $(per_page "$backend" "${case}_reset")" | awk '{ printf "%.2f", $1 - $2 }') ;;
        esac
        printf '%-20s %-16s %10s %10s\n' "$backend" "$case" "$all" "$kernel"
    done << 'CASES'
snapshot_4k 70
write_4k -
snapshot_zero 79
snapshot_thp 7.4
read_absent 588
write_absent 1940
write_cow 4093
CASES
done
