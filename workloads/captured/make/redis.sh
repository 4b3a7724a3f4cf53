#!/bin/sh
# A key-value store during a background save: about 173,000 values of 1 KiB (400,000 random writes to 200,000 keys), the
# save's child alive, 20,000 random writes more meanwhile. Usage: redis.sh WALKBENCH OUT
set -eu
walkbench=$1 out=$2 port=7799
cli() { redis-cli -p $port "$@" >/dev/null; }
work=$(mktemp -d)
redis-server --port $port --bind 127.0.0.1 --save '' --dir "$work" >/dev/null &
server=$!
# The save's child outlives its parent, so it goes first.
stop() {
    for child in $(cat /proc/$server/task/*/children 2>/dev/null); do kill -KILL "$child"; done
    kill -KILL $server 2>/dev/null
    rm -r "$work"
}
trap stop EXIT
until cli ping 2>/dev/null; do sleep 0.1; done
redis-benchmark -p $port -q -t set -n 400000 -r 200000 -d 1024 -c 20 -P 16 >/dev/null
# 100 microseconds a key: the save lasts 20 s, so that the writes and the capture fall into it.
cli config set rdb-key-save-delay 100
cli bgsave
redis-benchmark -p $port -q -t set -n 20000 -r 200000 -d 1024 -c 20 -P 16 >/dev/null
"$walkbench" capture --pid $server --out "$out" --name kv_bgsave \
    --made "make/redis.sh: redis-server $(redis-server --version | sed 's/.*v=\([0-9.]*\).*/\1/'), redis-benchmark -t set, BGSAVE, redis-benchmark -t set -n 20000" \
    --description "Key-value store, parent of a running background save, after a tenth of as many writes as keys"
redis-cli -p $port info persistence | grep -q rdb_bgsave_in_progress:1 || { echo "the save ended too early" >&2; exit 1; }
