#!/bin/sh
# One worker of a pre-forking server, four forks deep in copy-on-write. Usage: prefork.sh WALKBENCH OUT
set -eu
here=$(dirname "$0") walkbench=$1 out=$2 python=/usr/bin/python3
log=$(mktemp)
$python "$here/prefork.py" >"$log" &
parent=$!
trap 'kill $parent 2>/dev/null; rm "$log"' EXIT
until grep -q ready "$log"; do sleep 0.2; done
"$walkbench" capture --pid "$(sed -n 's/ready //p' "$log")" --out "$out" --name prefork_worker \
    --made "make/prefork.sh: $($python --version), prefork.py, the first of four workers" \
    --description "Worker of a pre-forking server: most pages shared with its parent, those it served from its own"
