#!/bin/sh
# A backend of a database with shared buffers, under load. Usage, as root: database.sh WALKBENCH OUT
set -eu
walkbench=$1 out=$2 port=7798
bin=$(pg_config --bindir 2>/dev/null || ls -d /usr/lib/postgresql/*/bin | tail -1)
# The server refuses to run as root.
as="setpriv --reuid 65534 --regid 65534 --clear-groups"
work=$(mktemp -d)
chmod 777 "$work"
$as "$bin/initdb" -D "$work/data" -U bench >/dev/null
$as "$bin/postgres" -D "$work/data" -p $port -k "$work" -c listen_addresses= -c shared_buffers=256MB -c huge_pages=off \
    >"$work/log" 2>&1 &
server=$!
stop() {
    kill -INT $server 2>/dev/null
    wait $server 2>/dev/null || true
    rm -r "$work"
}
trap stop EXIT
until $as "$bin/pg_isready" -q -h "$work" -p $port; do sleep 0.2; done
$as pgbench -i -q -s 20 -h "$work" -p $port -U bench postgres >"$work/fill" 2>&1
$as pgbench -n -c 4 -T 60 -h "$work" -p $port -U bench postgres >"$work/load" 2>&1 &
load=$!
sleep 20
backend=$(for pid in $(cat /proc/$server/task/*/children); do
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q 'bench postgres' && echo "$pid"
done | head -1)
"$walkbench" capture --pid "$backend" --out "$out" --name database \
    --made "make/database.sh: $("$bin/postgres" --version), shared_buffers=256MB, a backend after 20 s of pgbench -s 20 -c 4" \
    --description "Backend of a database: a share of 256 MiB of shared buffers mapped page by page as it was needed"
kill $load 2>/dev/null || true
