#!/bin/sh
# A training loop of a machine-learning framework. Usage: training.sh WALKBENCH OUT PYTHON, a python with jax and numpy
set -eu
here=$(dirname "$0") walkbench=$1 out=$2 python=${3:-python3}
log=$(mktemp)
"$python" "$here/training.py" >"$log" 2>/dev/null &
pid=$!
trap 'kill $pid 2>/dev/null; rm "$log"' EXIT
until grep -q ready "$log"; do sleep 0.5; done
"$walkbench" capture --pid $pid --out "$out" --name training \
    --made "make/training.sh: $("$python" --version), $("$python" -c 'import jax, numpy; print("jax", jax.__version__ + ", numpy", numpy.__version__)'), training.py" \
    --description "Training loop of a machine-learning framework: large arrays and scratch buffers, a third of the memory in huge pages"
