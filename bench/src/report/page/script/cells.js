// All cells: what is chosen of them, as a chart and as a table.
const cells = data.cells;
const COORDINATES = ["workload", "size", "request", "call_pages", "churn", "walkers", "backend"];
const NAMES = { workload: "Workload", size: "Size", request: "Request", call_pages: "Pages a call", churn: "Churn", walkers: "Walkers", backend: "Backends" };
const coordinate = (c, i) => cells.coordinates[c].names[cells.coordinates[c].at[i]];
const column = (name) => (i) => cells.columns[name] ? cells.columns[name][i] : null;
const METRICS = [
  { id: "ns", name: "whole operation, ns a page", get: column("ns"), lo: column("ns_lo"), hi: column("ns_hi"), log: true },
  { id: "x", name: "times the decode limit", get: column("x"), lo: column("x_lo"), hi: column("x_hi"), log: true },
  ...STAGES.map((s) => ({ id: s, name: `${s}, ns a page`, get: column(s) })),
  ...["p50", "p99", "p999", "max"].map((p) => ({ id: p, name: `${p.replace("p999", "p99.9")} of single operations, ns`, get: column(p), log: true })),
  { id: "events", name: "events a second meanwhile", get: column("events"), log: true },
  { id: "vain", name: "pages walked in vain, a page", get: column("vain") },
  ...Object.keys(cells.counts).map((c) => ({ id: `count_${c}`, name: `count: ${c}`, get: (i) => cells.counts[c][i] })),
];
const bytes = (name) => {
  const m = /^(\d+)(KiB|MiB|GiB|TiB)?$/.exec(name);
  return m ? Number(m[1]) * 1024 ** ["", "KiB", "MiB", "GiB", "TiB"].indexOf(m[2] || "") : NaN;
};
const AXES = { call_pages: (n) => Number(n), size: bytes, walkers: (n) => Number(n) };
const order = (c, names) => {
  const all = c === "backend" ? data.backends : cells.coordinates[c].names;
  return [...names].sort((a, b) => all.indexOf(a) - all.indexOf(b));
};
const metric = () => METRICS.find((m) => m.id === view.get("m")) || METRICS[0];
const along = () => (["call_pages", "size", "walkers", "backend"].includes(view.get("x")) ? view.get("x") : "call_pages");

/** Indices of the cells of the chosen question. */
function ofQuestion() {
  const q = data.questions.find((x) => x.id === view.get("q"));
  return q && q.cells.length ? q.cells : cells.coordinates.backend.at.map((_, i) => i);
}
/** Where the chosen question's answer comes from is what is shown first. */
function first() {
  const q = data.questions.find((x) => x.id === view.get("q"));
  return q && q.headline >= 0 ? q.headline : cells.start;
}
/** The chosen backends: at first all but the harness's own. */
function shown(here) {
  if (view.get("c.backend") !== null) return new Set(view.get("c.backend").split(","));
  return new Set(here.map((i) => coordinate("backend", i)).filter((b) => !data.controls.includes(b)));
}
const wanted = (c) => view.get(`c.${c}`) ?? (c === "backend" || c === along() ? "*" : coordinate(c, first()));
function chosen() {
  const backends = shown(ofQuestion());
  return ofQuestion().filter((i) => COORDINATES.every((c) => {
    if (c === "backend") return backends.has(coordinate(c, i));
    const w = wanted(c);
    return w === "*" || coordinate(c, i) === w;
  }));
}

function drawChoice() {
  const here = ofQuestion();
  const select = (label, id, options, value, change) => el("label", {}, label,
    el("select", { id, onchange: (e) => { change(e.target.value); drawChoice(); drawCells(); byId(id).focus(); } },
      ...options.map(([v, name]) => el("option", { value: v, selected: v === value }, name))));
  const parts = [
    select("Metric", "choice-metric", METRICS.map((m) => [m.id, m.name]), metric().id, (v) => remember("m", v)),
    select("Along", "choice-along", [["call_pages", "pages a call"], ["size", "size"], ["walkers", "walkers"], ["backend", "backends"]], along(), (v) => { remember("x", v); remember(`c.${v}`, null); }),
  ];
  for (const c of COORDINATES.filter((c) => c !== "backend")) {
    const names = order(c, new Set(here.map((i) => coordinate(c, i))));
    parts.push(select(NAMES[c], `choice-${c}`, [["*", "all"], ...names.map((n) => [n, n])], wanted(c), (v) => remember(`c.${c}`, v)));
  }
  const names = order("backend", new Set(here.map((i) => coordinate("backend", i))));
  const on = shown(here);
  parts.push(el("fieldset", { id: "choice-backend" }, el("legend", {}, NAMES.backend), ...names.map((n) =>
    el("label", {}, el("input", {
      type: "checkbox", name: "backend", value: n, checked: on.has(n),
      onchange: () => {
        const kept = [...byId("choice-backend").querySelectorAll("input:checked")].map((x) => x.value);
        view.set("c.backend", kept.join(","));
        remember("x", view.get("x"));
        drawCells();
      },
    }), n))));
  byId("choice").replaceChildren(...parts);
}

const SERIES = 18;
function drawCells() {
  const [all, m, x] = [chosen(), metric(), along()];
  const some = all.filter((i) => m.get(i) !== null && m.get(i) !== undefined && !(m.log && m.get(i) <= 0));
  const chart = byId("cells-chart");
  const left = all.length - some.length;
  if (!some.length) {
    chart.replaceChildren(el("p", { class: "note", role: "status" }, "None of the chosen cells has this metric."));
  } else {
    const varies = COORDINATES.filter((c) => c !== x && new Set(some.map((i) => coordinate(c, i))).size > 1);
    const told = varies.length ? varies : ["backend"].filter((c) => c !== x);
    const name = (i) => told.map((c) => coordinate(c, i)).reverse().join(", ");
    const value = (i) => ({ y: m.get(i), lo: m.lo ? m.lo(i) ?? null : null, hi: m.hi ? m.hi(i) ?? null : null, is_sure: (column("launches")(i) || 0) >= 6 });
    const id = (i) => COORDINATES.slice(1).reduce((s, c, k) => s + (k ? "/" : "@") + coordinate(c, i), coordinate("workload", i));
    const place = COORDINATES.filter((c) => c !== x && !told.includes(c)).map((c) => coordinate(c, some[0])).join(", ");
    let f;
    if (x === "backend") {
      f = { kind: "bars", rows: some.map((i) => ({ name: [coordinate("backend", i), ...told.map((c) => coordinate(c, i))].join(", "), ...value(i), note: id(i) })) };
    } else {
      const series = new Map();
      for (const i of some) {
        if (!series.has(name(i))) series.set(name(i), { name: name(i), is_limit: false, points: [], backend: coordinate("backend", i) });
        series.get(name(i)).points.push({ x: AXES[x](coordinate(x, i)), ...value(i), note: id(i) });
      }
      const list = [...series.values()].sort((a, b) => data.backends.indexOf(a.backend) - data.backends.indexOf(b.backend));
      for (const s of list) s.points.sort((a, b) => a.x - b.x);
      const ticks = order(x, new Set(some.map((i) => coordinate(x, i)))).map((n) => [AXES[x](n), n]);
      const log = m.log ? true : some.every((i) => m.get(i) > 0);
      f = {
        kind: "curves", series: list.slice(0, SERIES), level: null, flips: null,
        x: { label: NAMES[x].toLowerCase(), is_log: ticks.length > 1 && ticks[ticks.length - 1][0] / ticks[0][0] >= 8, ticks },
        y: { label: m.name, is_log: log, ticks: [] },
      };
      // Where all share their tables, they share what those allow.
      const limit = new Map(told.join() === "backend" && m.id === "ns" ? some.map((i) => [AXES[x](coordinate(x, i)), column("decode")(i)]) : []);
      const points = [...limit].filter(([, y]) => y > 0).sort((a, b) => a[0] - b[0]);
      if (points.length) f.series.push({ name: "decode limit", is_limit: true, points: points.map(([at, y]) => ({ x: at, y, lo: null, hi: null, note: "" })) });
      if (list.length > SERIES) f.more = list.length - SERIES;
    }
    const drawn = f.kind === "bars" ? bars(f, m) : curves(f);
    const svg = drawn.find((d) => d && (d.tagName === "svg" || d.tagName === "FIGURE"));
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${m.name} of the chosen cells; the figures are in the table below`);
    chart.replaceChildren(el("figure", {}, el("figcaption", {}, [m.name, place].filter(Boolean).join("; ")), el("div", { class: "chart" }, ...drawn.filter(Boolean)),
      f.more ? el("p", { class: "note" }, `${f.more} more curves are not drawn: narrow the choice.`) : "",
      left ? el("p", { class: "note" }, `${left} of the chosen cells have no such figure.`) : ""));
  }
  byId("cells-table").replaceChildren(table("all", "The chosen cells", [
    ...COORDINATES.map((c) => ({ name: c === "backend" ? "backend" : NAMES[c].toLowerCase(), text: (i) => coordinate(c, i), key: (i) => (c in AXES ? AXES[c](coordinate(c, i)) : coordinate(c, i)) })),
    ...(m.id === "ns" ? [] : [{ name: m.name, numeric: true, text: (i) => number(m.get(i)), key: (i) => m.get(i) }]),
    { name: "ns a page", numeric: true, text: (i) => number(METRICS[0].get(i)), key: (i) => METRICS[0].get(i) },
    { name: "interval", numeric: true, text: (i) => interval(METRICS[0].lo(i), METRICS[0].hi(i)), key: (i) => METRICS[0].lo(i) },
    { name: "x decode", numeric: true, text: (i) => number(METRICS[1].get(i)), key: (i) => METRICS[1].get(i) },
    { name: "p99, ns", numeric: true, text: (i) => number(column("p99")(i)), key: (i) => column("p99")(i) },
    { name: "launches", numeric: true, text: (i) => `${column("launches")(i) || 0}`, key: (i) => column("launches")(i) },
    { name: "marks", text: (i) => cells.marks[i] || "", long: true },
    { name: "error", text: (i) => cells.errors[i] || "", long: true },
  ], all), marks());
}

function bars(f, m) {
  const isLog = m.log || f.rows.every((r) => r.y > 0);
  const x = domain(f.rows.map((r) => r.y), ends(f.rows), isLog);
  const rows = f.rows.map((r, i) => ({ ...r, key: `${i}` }));
  const left = Math.min(300, width() * 0.45);
  const fits = Math.floor(left / 6.4);
  const says = (r) => `${r.name}\n${number(r.y)}${r.lo !== null ? ` [${interval(r.lo, r.hi)}]` : ""}\n${r.note}`;
  return [Plot.plot({
    width: width(), height: 50 + 24 * rows.length, marginLeft: left, marginRight: 24, marginTop: 8, marginBottom: 32,
    x: { type: isLog ? "log" : "linear", domain: x, axis: null },
    y: { label: null, domain: rows.map((r) => r.key), tickSize: 0, tickFormat: (k) => { const n = rows[Number(k)].name; return n.length > fits ? `${n.slice(0, fits - 1)}\u2026` : n; } },
    marks: [
      ...axis("x", isLog, x, width() - left - 24),
      Plot.ruleY(clip(rows, x), { x1: "lo", x2: "hi", y: "key", stroke: PALETTE[0], strokeWidth: 2 }),
      Plot.dot(rows, { x: "y", y: "key", r: 4, stroke: PALETTE[0], fill: (r) => (r.is_sure ? PALETTE[0] : "var(--back)"), title: says }),
      Plot.tip(rows, Plot.pointerY({ x: "y", y: "key", title: says, fill: "var(--panel)", stroke: "var(--line)" })),
    ],
    color: { type: "identity" },
  })];
}
