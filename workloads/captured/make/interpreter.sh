#!/bin/sh
# CPython with many small objects, as a user without privileges (the capture too), so without frame numbers.
# Usage: interpreter.sh WALKBENCH OUT
set -eu
here=$(dirname "$0") walkbench=$1 out=$2 python=/usr/bin/python3
log=$(mktemp)
$python "$here/objects.py" >"$log" &
pid=$!
trap 'kill $pid 2>/dev/null; rm "$log"' EXIT
until grep -q ready "$log"; do sleep 0.2; done
sleep 2
"$walkbench" capture --pid $pid --out "$out" --name interpreter \
    --made "make/interpreter.sh: $($python --version), objects.py, captured without privileges" \
    --description "Interpreter with small objects of which a third was freed at random"
