#!/usr/bin/env bash
# The gate in any CI: is this checkout slower than the revision that it will be merged into?
# usage: scripts/ci/gate.sh BASE_REVISION [COMMENT.md]     more options for `walkbench gate` in GATE_OPTIONS
#
# Needs git with the base revision in the clone, and a Rust toolchain. Ends with the gate's exit code: 0 pass,
# 1 regression, 2 it could not be asked, 3 or 4 it could not decide, 5 exact counts rose. What it found is printed, and
# written as Markdown to COMMENT.md (default target/gate-comment.md), with every raw round beside it as JSON.
set -uo pipefail
cd "$(dirname "$0")/../.."
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: scripts/ci/gate.sh BASE_REVISION [COMMENT.md]" >&2
    exit 2
fi
base="$1"
comment="${2:-target/gate-comment.md}"
rounds="${comment%.md}.json"
mkdir -p "$(dirname "$comment")" || exit 2
# What lies there, perhaps out of a cache, is another run's: nobody shall take it for this one's.
rm -f "$comment" "$rounds"
read -r -a options <<< "${GATE_OPTIONS:-}"

cargo build --release --locked || exit 2
walkbench="${CARGO_TARGET_DIR:-target}/release/walkbench"
"$walkbench" gate --baseline "$base" --format json "${options[@]}" > "$rounds"
code=$?
if [ -s "$rounds" ]; then
    # Decided once; shown from the recording, so that comment, log and exit code cannot disagree.
    "$walkbench" gate --replay "$rounds" --format markdown > "$comment"
    "$walkbench" gate --replay "$rounds"
else
    rm -f "$rounds"
fi
exit "$code"
