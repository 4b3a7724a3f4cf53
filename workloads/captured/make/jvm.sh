#!/bin/sh
# A JVM with transparent huge pages, captured while its collector works. Usage: jvm.sh WALKBENCH OUT
set -eu
here=$(dirname "$0") walkbench=$1 out=$2
work=$(mktemp -d)
javac -d "$work" "$here/Churn.java"
java -Xms512m -Xmx512m -XX:+UseTransparentHugePages -cp "$work" Churn >"$work/log" &
jvm=$!
trap 'kill $jvm 2>/dev/null; rm -r "$work"' EXIT
until grep -q ready "$work/log"; do sleep 0.2; done
"$walkbench" capture --pid $jvm --out "$out" --name jvm_thp \
    --made "make/jvm.sh: OpenJDK $(java -version 2>&1 | sed -n 's/.*version "\(.*\)".*/\1/p'), -Xms512m -Xmx512m -XX:+UseTransparentHugePages Churn" \
    --description "JVM with a 512 MiB heap in transparent huge pages, two threads churning, G1 at work"
