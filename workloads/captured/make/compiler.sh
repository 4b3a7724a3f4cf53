#!/bin/sh
# A compiler in the middle of a large translation unit. Usage: compiler.sh WALKBENCH OUT
set -eu
walkbench=$1 out=$2
work=$(mktemp -d)
# Every header of the library, and a few thousand instantiations of its templates.
{
    echo '#include <bits/stdc++.h>'
    for i in $(seq 3000); do
        echo "struct T$i { int a[$i]; bool operator<(const T$i &o) const { return a[0] < o.a[0]; } };"
        echo "std::map<T$i, std::vector<T$i>> f$i(const T$i &t) { std::map<T$i, std::vector<T$i>> m; m[t].push_back(t); return m; }"
    done
} >"$work/unit.cc"
g++ -O2 -c "$work/unit.cc" -o "$work/unit.o" &
driver=$!
stop() {
    for child in $(cat /proc/$driver/task/*/children 2>/dev/null); do kill "$child"; done
    wait $driver 2>/dev/null || true
    rm -r "$work"
}
trap stop EXIT
cc1plus=
until [ "$cc1plus" ]; do
    for child in $(cat /proc/$driver/task/*/children); do
        grep -q cc1plus "/proc/$child/comm" && cc1plus=$child
    done
    sleep 0.1
done
# Over 500 MB it is well into the instantiations.
until [ "$(awk '/^VmRSS/ { print $2 }' "/proc/$cc1plus/status")" -gt 500000 ]; do sleep 0.1; done
"$walkbench" capture --pid "$cc1plus" --out "$out" --name compiler \
    --made "make/compiler.sh: $(g++ --version | head -1), -O2, 3,000 instantiations of std::map and std::vector, at 500 MB" \
    --description "Compiler in a large translation unit: a heap that only grows, in many mappings of the collector's"
