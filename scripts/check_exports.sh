#!/usr/bin/env bash
# Every format of `walkbench export`, read by its consumer's own code. Not part of .ci/run: it needs the network.
#   scripts/check_exports.sh [RESULTS [OLDER]]
# The program is built, or taken from $WALKBENCH. benchstat is taken from PATH, or from $BENCHSTAT:
#   go install golang.org/x/perf/cmd/benchstat@latest
# Where no module proxy is reached, two checkouts do: golang/perf and aclements/go-moremath beside each other. benchstat
# needs no other module; up to golang/perf 884df58 (February 2025) Go 1.18 builds it, Debian 12 has 1.19:
#   cd perf
#   printf 'module golang.org/x/perf\ngo 1.18\nrequire %s v0.0.0\nreplace %s => ../go-moremath\n' \
#       github.com/aclements/go-moremath{,} > go.mod
#   GOPROXY=off GOFLAGS=-mod=mod go build -o ../benchstat ./cmd/benchstat
set -euo pipefail
cd "$(dirname "$0")/.."
results="${1:-results/2026-11-30-intel-xeon-2vcpu}"
older="${2:-results/2026-11-30-intel-xeon-2vcpu-again}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
[ -n "${WALKBENCH:-}" ] || cargo build --release --locked --quiet
walkbench="${WALKBENCH:-${CARGO_TARGET_DIR:-target}/release/walkbench}"
for format in csv benchstat bencher github-action-benchmark markdown; do
    "$walkbench" export "$results" --to "$format" > "$work/$format"
done
cells="$("$walkbench" export "$results" --to csv | tail -n +2 | wc -l)"

echo "== csv: Python's csv module"
python3 - "$work/csv" << 'PY'
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1], newline=""), strict=True))
assert rows and all(None not in r and None not in r.values() for r in rows)
measured = [float(r["ns_per_page"]) for r in rows if r["ns_per_page"]]
print(f"{len(rows)} rows of {len(rows[0])} fields, {len(measured)} with a time")
PY

echo "== benchstat"
benchstat="${BENCHSTAT:-$(command -v benchstat || true)}"
if [ -n "$benchstat" ]; then
    # What it has to complain of it says on standard error, and goes on.
    benchstat() { "$benchstat" "$@" 2> "$work/complaints"; cat "$work/complaints" >&2; [ ! -s "$work/complaints" ]; }
    some='/workload:(dense_4k OR dense_2m) /request:snapshot /call_pages:512 /backend:(fixed_flags OR map_order)'
    echo "-- designs within a run"
    benchstat -col /backend -filter "$some" "$work/benchstat" | tee "$work/designs"
    echo "-- call sizes"
    sizes='/workload:dense_4k /size:16MiB /request:snapshot /backend:(fixed_flags OR map_order)'
    benchstat -col /backend -row /call_pages -filter "$sizes" "$work/benchstat" | tee "$work/sizes"
    echo "-- two runs"
    "$walkbench" export "$older" --to benchstat > "$work/older.txt"
    cp "$work/benchstat" "$work/newer.txt"
    (cd "$work" && benchstat -filter "$some" older.txt newer.txt) | tee "$work/runs"
    # Its own words for what it made of the text: the unit as time, intervals, and a test of both sides.
    for said in designs sizes runs; do
        for words in 'sec/page' 'n ± ' 'vs base' '(p='; do
            grep -qF "$words" "$work/$said" || { echo "benchstat did not print $words" >&2; exit 1; }
        done
    done
else
    echo "SKIPPED: no benchstat (see the head of this script)"
fi

cd "$work"
if command -v npm > /dev/null && npm install --silent --no-audit --no-fund --prefix . zod ajv markdown-it > npm.log 2>&1; then
    echo "== github-action-benchmark: the zod schema of its src/extract.ts (v1.22.0)"
    node -e '
        const { z } = require("zod");
        const entry = z.object({ name: z.coerce.string(), value: z.coerce.number(), range: z.coerce.string().optional(),
            unit: z.coerce.string(), extra: z.coerce.string().optional() });
        const entries = z.array(entry).parse(JSON.parse(require("fs").readFileSync("github-action-benchmark", "utf8")));
        console.log(entries.length + " entries, the first " + JSON.stringify(entries[0].name));'
    echo "== bencher: the JSON schema at https://bencher.dev/bmf.json"
    node -e '
        const Ajv = require("ajv");
        const number = { type: "number" };
        const schema = { type: "object", patternProperties: { ".+": { type: "object", patternProperties: { ".+": {
            type: "object", properties: { value: number, lower_value: number, upper_value: number }, required: ["value"] } } } } };
        const validate = new (Ajv.default ?? Ajv)().compile(schema);
        const metrics = JSON.parse(require("fs").readFileSync("bencher", "utf8"));
        if (!validate(metrics)) throw new Error(JSON.stringify(validate.errors));
        console.log(Object.keys(metrics).length + " benchmarks");'
    echo "== markdown: markdown-it, as GitHub reads it"
    node -e '
        const html = require("markdown-it")({ html: true, linkify: true }).render(require("fs").readFileSync("markdown", "utf8"));
        const rows = html.match(/<tr>[^]*?<\/tr>/g);
        const bad = rows.filter((r) => (r.match(/<t[hd]/g) ?? []).length !== 6);
        if (!rows.length || bad.length) throw new Error("rows without six fields: " + bad);
        console.log((html.match(/<table>/g) ?? []).length + " tables, " + rows.length + " rows");'
else
    echo "SKIPPED: github-action-benchmark, bencher and markdown: no npm, or no registry"
fi
echo "$cells lines of cells checked"
