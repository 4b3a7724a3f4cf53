#!/usr/bin/env bash
# Instructions per 4 KiB page of one API call, counted by callgrind, beside those of the kernel's own hmm_range_fault.
# usage: scripts/instructions.sh [-c CASE[,CASE...]] [-k COUNT.json] [BACKEND...]
#        (default: all cases below; the recorded count of results/; map_order, that kernel's generation; `all` is every
#        design but the controls)
#
# Each case runs with 2 and with 6 rounds, and counted is what runs inside of the call (`one_case`'s `counted`); the
# difference over four rounds leaves what is done once out. COUNT.json is what `scripts/kernel/run.sh WORKDIR count` says:
# Linux on x86-64 under exact counting, without mitigations. A page of a huge page is 1/512 of it. `/ snapshot` is in units
# of snapshot_4k, where that is among the cases: of the model's in the model, of the kernel's in the kernel.
set -euo pipefail
cd "$(dirname "$0")/.."
cases=
kernel=results/2026-12-01-kernel-counts/count.json
while getopts c:k: option; do
    case "$option" in
    c) cases=",$OPTARG," ;;
    k) kernel=$OPTARG ;;
    *) sed -n '3,5s/^# *//p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[[ -r "$kernel" ]] || { echo "instructions.sh: $kernel: cannot be read; scripts/kernel/run.sh WORKDIR count makes one" >&2; exit 2; }
command -v valgrind > /dev/null || { echo "instructions.sh: valgrind is not installed: nothing counted" >&2; exit 2; }
cargo build --release --locked --quiet -p workloads --example one_case
bin="${CARGO_TARGET_DIR:-target}/release/examples/one_case"
pages=4096
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
count() { # count BACKEND CASE ROUNDS -> instructions
    valgrind --tool=callgrind --callgrind-out-file="$tmp/out" --collect-atstart=no --toggle-collect='*one_case::counted*' \
        "$bin" "$@" > "$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
    sed -n 's/^summary: //p; s/^totals: //p' "$tmp/out" | head -n 1
}
per_page() { # per_page BACKEND CASE
    local two six
    two=$(count "$1" "$2" 2); six=$(count "$1" "$2" 6)
    echo "$two $six" | awk -v p=$pages '{ printf "%.2f", ($2 - $1) / 4 / p }'
}
# A line a row that has a figure: source/shape/stage/pages a call/churn, then the median. The keys of a row come in the
# order of the alphabet, a line each.
awk -F'[:,]' '{ gsub(/[ "]/, "") }
    /^call_pages:/ { calls = $2 == "null" ? "all" : $2 }
    /^churn:/ { churn = $2 }
    /^ns_per_page:/ { median = "" }
    /^median:/ { median = $2 }
    /^shape:/ { shape = $2 }
    /^source:/ { source = $2 }
    /^stage:/ && median != "" { print source "/" shape "/" $2 "/" calls "/" churn, median }' "$kernel" > "$tmp/kernel"
kernel_of() { awk -v row="$1" '$1 == row { printf "%.2f", $2 }' "$tmp/kernel"; }
ratio() { # ratio A B -> A / B, if there are both
    [[ -n "$1" && -n "$2" ]] || { echo -; return; }
    echo "$1 $2" | awk '{ printf ($1 / $2 < 10) ? "%.2f" : "%.0f", $1 / $2 }'
}
[ "${1:-}" != all ] || mapfile -t all_designs < <("$bin" designs)
[ "${1:-}" != all ] || set -- "${all_designs[@]}"
line='%-20s %-22s %10s %10s %14s %12s %12s\n'
printf "$line" backend case model kernel kernel/model model/snap kernel/snap
for backend in "${@:-map_order}"; do
    snapshot='' kernel_snapshot=''
    while read -r case row; do
        [[ -z "$cases" || "$cases" == *",$case,"* ]] || continue
        model=$(per_page "$backend" "$case") kernel=$(kernel_of "$row")
        [[ "$case" != snapshot_4k ]] || snapshot=$model kernel_snapshot=$kernel
        printf "$line" "$backend" "$case" "$model" "${kernel:--}" "$(ratio "$kernel" "$model")" \
            "$(ratio "$model" "$snapshot")" "$(ratio "$kernel" "$kernel_snapshot")"
    done << 'CASES'
snapshot_4k hmm_range_fault/dense_4k/snapshot/all/none
snapshot_zero hmm_range_fault/zero_page/snapshot/all/none
snapshot_empty_tables hmm_range_fault/empty_tables/snapshot/all/none
snapshot_hole hmm_range_fault/absent_4k/snapshot/all/none
snapshot_thp hmm_range_fault/dense_2m/snapshot/all/none
snapshot_hugetlb hmm_range_fault/hugetlb_2m/snapshot/all/none
write_4k hmm_range_fault_write/dense_4k/fault/all/none
read_absent hmm_range_fault_read/absent_4k/fault/all/none
write_absent hmm_range_fault_write/absent_4k/fault/all/none
write_zero hmm_range_fault_write/zero_page/fault/all/none
write_cow hmm_range_fault_write/after_fork/fault/all/none
write_cow_reuse hmm_range_fault_write/child_gone/fault/all/none
read_thp_absent hmm_range_fault_read/absent_2m/fault/all/none
write_thp_absent hmm_range_fault_write/absent_2m/fault/all/none
zap_4k dont_need/dense_4k/zap/all/none
zap_thp dont_need/dense_2m/zap/all/none
CASES
done
