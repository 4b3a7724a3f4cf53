#!/bin/sh
# The renderer of a browser with a busy page. Usage: browser.sh WALKBENCH OUT
set -eu
here=$(cd "$(dirname "$0")" && pwd) walkbench=$1 out=$2
work=$(mktemp -d)
chromium --headless=new --no-sandbox --disable-gpu --no-first-run --user-data-dir="$work" \
    "file://$here/browser.html" >/dev/null 2>&1 &
browser=$!
stop() {
    kill $browser 2>/dev/null
    wait $browser 2>/dev/null || true
    rm -r "$work"
}
trap stop EXIT
# The page's renderer is the one with the most memory below the browser.
descendants() {
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do echo "$child"; descendants "$child"; done
}
largest() {
    for pid in $(descendants $browser | sort -u); do
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -- --type=renderer || continue
        rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || continue
        echo "${rss:-0} $pid"
    done | sort -n | tail -n 1
}
# Over 300 MB it has made its objects and arrays.
found=
for _ in $(seq 600); do
    found=$(largest)
    [ "${found%% *}" ] && [ "${found%% *}" -gt 300000 ] && break # kB
    sleep 0.2
done
sleep 5
"$walkbench" capture --pid "${found##* }" --out "$out" --name browser \
    --made "make/browser.sh: $(chromium --version | sed 's/ built.*//'), headless, the renderer of browser.html" \
    --description "Renderer of a browser: a script's heap, typed arrays and a long document, all changing"
