#!/bin/sh
# A cache server whose own allocator is full of values of many sizes. Usage: cache.sh WALKBENCH OUT
set -eu
here=$(dirname "$0") walkbench=$1 out=$2 port=7797
log=$(mktemp)
memcached -l 127.0.0.1 -p $port -m 256 -t 4 -u nobody &
server=$!
sleep 1
/usr/bin/python3 "$here/cache.py" $port >"$log" &
load=$!
trap 'kill $server $load 2>/dev/null; rm "$log"' EXIT
until grep -q ready "$log"; do sleep 0.5; done
"$walkbench" capture --pid $server --out "$out" --name cache \
    --made "make/cache.sh: $(memcached --version), -m 256 -t 4, 800,000 writes of log-normal sizes by cache.py, still running" \
    --description "Cache server with an allocator of its own: 256 MiB of slab pages of 1 MiB, full and being rewritten"
