// A function for each kind of figure, and the frame around it.
function curves(f) {
  const rows = f.series.flatMap((s, i) => s.points.map((p) => ({ ...p, name: s.name, i, limit: s.is_limit })));
  const y = domain(rows.map((r) => r.y).concat(f.level ? [f.level[0]] : []), ends(rows), f.y.is_log);
  const xs = rows.map((r) => r.x);
  const x = domain(xs, [], f.x.is_log);
  const colour = (i) => (f.series[i].is_limit ? "currentColor" : PALETTE[i % PALETTE.length]);
  const symbol = (i) => (f.series[i].is_limit ? null : SYMBOLS[i % SYMBOLS.length]);
  const measured = rows.filter((r) => !r.limit);
  const limits = rows.filter((r) => r.limit);
  const says = (r) => `${r.name}\n${xName(f.x, r.x)}: ${number(r.y)}${r.lo !== null ? ` [${interval(r.lo, r.hi)}]` : ", no interval"}\n${r.note}`;
  const plot = Plot.plot({
    width: width(), height: 380, marginLeft: 56, marginRight: 44, marginBottom: 36, marginTop: 24,
    x: { type: f.x.is_log ? "log" : "linear", domain: x, axis: null },
    y: { type: f.y.is_log ? "log" : "linear", domain: y, axis: null },
    marks: [
      ...axis("x", f.x.is_log, x, width() - 100, f.x.ticks),
      ...axis("y", f.y.is_log, y),
      f.flips ? Plot.rectX([f.flips], { x1: (d) => d[0], x2: (d) => d[1], fill: "currentColor", fillOpacity: 0.1 }) : null,
      f.level ? Plot.ruleY([f.level[0]], { stroke: "currentColor", strokeDasharray: "6 4" }) : null,
      f.level ? Plot.text([f.level[1]], { x: x[1], y: f.level[0], text: (d) => d, dx: 4, textAnchor: "start", fill: "currentColor" }) : null,
      Plot.line(limits, { x: "x", y: "y", z: "i", stroke: "currentColor", strokeDasharray: "3 3" }),
      Plot.line(measured, { x: "x", y: "y", z: "i", stroke: (r) => colour(r.i), strokeWidth: 2 }),
      Plot.link(clip(measured, y), { x: "x", y1: "lo", y2: "hi", stroke: (r) => colour(r.i), marker: "none" }),
      // Hollow where fewer than six launches stand behind a point.
      Plot.dot(measured, {
        x: "x", y: "y", stroke: (r) => colour(r.i), fill: (r) => (r.is_sure ? colour(r.i) : "var(--back)"),
        symbol: (r) => symbol(r.i), r: 4, title: says,
      }),
      Plot.tip(measured, Plot.pointer({ x: "x", y: "y", title: says, fill: "var(--panel)", stroke: "var(--line)" })),
    ],
    symbol: { type: "identity" }, color: { type: "identity" },
  });
  const legend = f.series.length > 1 ? swatches(f.series.map((s) => s.name), colour, (i) => (symbol(i) ? D3_SYMBOLS[symbol(i)] : null)) : null;
  return [legend, el("p", { class: "note" }, `up: ${f.y.label}${f.y.is_log ? ", logarithmic" : ""}; across: ${f.x.label}${f.x.is_log ? ", logarithmic" : ""}`), plot];
}
const xName = (s, x) => {
  const tick = s.ticks.find((t) => t[0] === x);
  return tick ? `${tick[1]} ${s.label}` : `${short(x)} ${s.label}`;
};

function stages(f) {
  const legend = el("ul", { class: "swatches", "aria-label": "Legend" }, ...STAGES.map((s, i) => {
    const svg = d3.create("svg").attr("width", 14).attr("height", 14).attr("aria-hidden", "true");
    svg.append("rect").attr("width", 14).attr("height", 14).attr("fill", STAGE_COLOURS[i]);
    return el("li", {}, svg.node(), s);
  }));
  const panels = f.panels.map((p) => {
    const rows = p.bars.flatMap((b) => STAGES.map((stage, i) => ({ name: b.name, stage, i, y: b.parts[i] })));
    const wholes = p.bars.filter((b) => b.whole).map((b) => ({ name: b.name, ...b.whole }));
    const says = (r) => `${r.name}\n${r.stage}: ${number(r.y)} ${f.unit}`;
    return [el("h4", {}, p.title), Plot.plot({
      width: width(), height: 40 + 28 * p.bars.length, marginLeft: Math.min(150, width() / 3), marginRight: 16, marginTop: 8, marginBottom: 28,
      x: { label: null, grid: true, ticks: 5, tickFormat: short },
      y: { label: null, domain: p.bars.map((b) => b.name), tickSize: 0 },
      color: { type: "identity" },
      marks: [
        Plot.barX(rows, { x: "y", y: "name", fill: (r) => STAGE_COLOURS[r.i], title: says, insetTop: 3, insetBottom: 3 }),
        Plot.ruleY(wholes.filter((w) => w.lo !== null), { x1: "lo", x2: "hi", y: "name", stroke: "currentColor", strokeWidth: 2 }),
        Plot.dot(wholes, { x: "y", y: "name", r: 3, fill: "currentColor", title: (w) => `${w.name}: whole ${number(w.y)} [${interval(w.lo, w.hi)}] ${f.unit}` }),
        p.limit === null ? null : Plot.ruleX([p.limit], { stroke: "currentColor", strokeDasharray: "3 3" }),
      ],
    })];
  });
  return [legend, el("p", { class: "note" }, `across: ${f.unit}; point and line: the whole operation, measured by itself, with its interval; dashed: the decode limit`), ...panels.flat()];
}

function ranges(f) {
  const x = domain(f.rows.map((r) => r.y).concat([1]), ends(f.rows), true);
  const rows = f.rows.map((r, i) => ({ ...r, key: `${i}` }));
  const left = Math.min(f.is_bars ? 150 : 280, width() * 0.45);
  const fits = Math.floor(left / 6.4);
  // Names are cut where three lines do not hold them, and whole in the tip and in the table.
  const named = f.rows.map((r) => folded(r.name, fits, 3));
  const tall = Math.max(1, ...named.map((n) => n.length));
  const says = (r) => `${r.name}\n${ratio(r.y)}${r.lo !== null ? ` [${interval(r.lo, r.hi, ratio)}]` : ", no interval"}\n${r.note}`;
  const least = f.percent === null ? null : 1 + f.percent / 100;
  return [el("p", { class: "note" }, `across: ${f.x.label}, logarithmic${least ? `; grey: less than ${f.percent} % apart` : ""}`), Plot.plot({
    width: width(), height: 50 + (12 + 14 * tall) * rows.length, marginLeft: left, marginRight: 56, marginTop: 8, marginBottom: 32,
    x: { type: "log", domain: x, axis: null },
    y: { label: null, domain: rows.map((r) => r.key), tickFormat: (k) => named[Number(k)].join("\n"), tickSize: 0 },
    marks: [
      ...axis("x", true, x, width() - left - 56),
      least ? Plot.rectX([1], { x1: Math.max(x[0], 1 / least), x2: Math.min(x[1], least), fill: "currentColor", fillOpacity: 0.12 }) : null,
      Plot.ruleX([1], { stroke: "currentColor", strokeDasharray: "6 4" }),
      f.is_bars ? Plot.barX(rows, { x1: 1, x2: "y", y: "key", fill: (r) => (r.is_limit ? "#7a8290" : PALETTE[0]), fillOpacity: 0.55, insetTop: 4, insetBottom: 4, title: says }) : null,
      Plot.ruleY(clip(rows, x), { x1: "lo", x2: "hi", y: "key", stroke: PALETTE[0], strokeWidth: 2 }),
      Plot.dot(rows, { x: "y", y: "key", r: 4, stroke: (r) => (r.is_limit ? "#7a8290" : PALETTE[0]), fill: (r) => (r.is_sure ? PALETTE[0] : "var(--back)"), title: says }),
      Plot.text(rows, { x: x[1], y: "key", text: (r) => ratio(r.y), dx: 8, textAnchor: "start", fill: "currentColor" }),
      Plot.tip(rows, Plot.pointerY({ x: "y", y: "key", title: says, fill: "var(--panel)", stroke: "var(--line)" })),
    ],
    color: { type: "identity" },
  })];
}

let patterns = 0;
function grid(f) {
  const names = [...new Set(f.fields.map((x) => x.name).filter((n) => n !== null))].sort((a, b) => data.backends.indexOf(a) - data.backends.indexOf(b));
  const values = f.fields.map((x) => x.value).filter((v) => v !== null);
  const [lo, hi] = [Math.min(...values), Math.max(...values)];
  const share = (v) => (hi <= lo ? 0 : f.is_log ? Math.log(v / lo) / Math.log(hi / lo) : (v - lo) / (hi - lo));
  const fill = (x) => (x.value !== null ? d3.interpolateViridis(share(x.value)) : PALETTE[names.indexOf(x.name) % PALETTE.length]);
  const ink = (x) => inkOn(fill(x));
  const longest = Math.max(...f.rows.map((r) => r.length)) * 6.6 + 12;
  const left = Math.min(longest, width() * 0.42);
  const fits = Math.floor((left - 10) / 6.4);
  const cut = (s, n) => (s.length > n ? `${s.slice(0, Math.max(1, n - 1))}\u2026` : s);
  const space = (width() - left - 8) / f.columns.length;
  const upright = f.columns.some((c) => c.length * 6.6 > space);
  const top = upright ? Math.min(150, Math.max(...f.columns.map((c) => c.length)) * 6.6 + 14) : 28;
  const id = `hatch-${patterns++}`;
  const hatch = () => {
    const g = d3.create("svg:defs");
    const p = g.append("pattern").attr("id", id).attr("width", 7).attr("height", 7).attr("patternUnits", "userSpaceOnUse").attr("patternTransform", "rotate(45)");
    p.append("line").attr("x1", 0).attr("x2", 0).attr("y1", 0).attr("y2", 7).attr("stroke", "#fff").attr("stroke-width", 2.5).attr("stroke-opacity", 0.75);
    return g.node();
  };
  const hasRoom = (x) => Math.max(...x.text.split("\n").map((l) => l.length)) * 6 < space;
  // Names stand in all fields or in none: a map with gaps reads as if something were missing there.
  const fitting = !names.length ? f.fields.filter(hasRoom) : f.fields.every(hasRoom) ? f.fields : [];
  const tall = Math.max(1, ...fitting.map((x) => x.text.split("\n").length));
  const says = (x) => `${f.rows[x.row]}\n${f.columns[x.column]}: ${x.text}\n${x.note}`;
  const at = { x: (d) => d.column, y: (d) => d.row };
  const plot = Plot.plot({
    width: width(), height: top + 12 + (24 + 14 * (tall - 1)) * f.rows.length, marginLeft: left, marginTop: top, marginBottom: 8, marginRight: 8,
    x: { axis: null, domain: f.columns.map((_, i) => i), padding: 0.04 },
    y: { axis: null, domain: f.rows.map((_, i) => i), padding: 0.06 },
    color: { type: "identity" },
    marks: [
      hatch,
      Plot.axisX({ anchor: "top", tickSize: 0, tickRotate: upright ? -90 : 0, tickFormat: (i) => cut(f.columns[i], 22), label: null }),
      Plot.axisY({ anchor: "left", tickSize: 0, tickFormat: (i) => cut(f.rows[i], fits), label: null }),
      Plot.cell(f.fields, { ...at, fill, title: says }),
      Plot.cell(f.fields.filter((x) => x.is_hatched), { ...at, fill: `url(#${id})`, pointerEvents: "none" }),
      // Words on hatching have a ground of their own.
      Plot.text(fitting.filter((x) => x.is_hatched), { ...at, text: "text", lineHeight: 1.4, fill: ink, stroke: fill, strokeWidth: 6, pointerEvents: "none" }),
      Plot.text(fitting.filter((x) => !x.is_hatched), { ...at, text: "text", lineHeight: 1.4, fill: ink, pointerEvents: "none" }),
      Plot.tip(f.fields, Plot.pointer({ ...at, title: says, fill: "var(--panel)", stroke: "var(--line)" })),
    ],
  });
  const legend = names.length
    ? el("ul", { class: "swatches", "aria-label": "Legend" }, ...names.map((n, i) => {
        const svg = d3.create("svg").attr("width", 14).attr("height", 14).attr("aria-hidden", "true");
        svg.append("rect").attr("width", 14).attr("height", 14).attr("fill", PALETTE[i % PALETTE.length]);
        return el("li", {}, svg.node(), n);
      }))
    : el("p", { class: "note" }, `${number(lo)} (dark) to ${number(hi)} (light) ${f.unit}${f.is_log ? ", logarithmic" : ""}`);
  return [el("p", { class: "note" }, `down: ${f.y}; across: ${f.x}; an empty field was not measured`), legend, plot];
}

const KINDS = { curves, stages, ranges, grid };

/** The same figures as rows: for those who do not see a chart, and for exact values. */
function figureRows(f) {
  const v = (r) => ({ value: r.y, lo: r.lo, hi: r.hi, sure: r.is_sure });
  switch (f.kind) {
    case "curves": return f.series.flatMap((s) => s.points.map((p) => ({ name: s.name, at: xName(f.x, p.x), x: p.x, ...v(p), note: p.note })));
    case "stages": return f.panels.flatMap((p) => p.bars.flatMap((b) => STAGES.map((stage, i) => ({ name: b.name, at: `${p.title}: ${stage}`, value: b.parts[i], lo: null, hi: null, note: "" }))
      .concat(b.whole ? [{ name: b.name, at: `${p.title}: whole`, ...v(b.whole), note: "" }] : [])));
    case "ranges": return f.rows.map((r) => ({ name: r.name, at: "", ...v(r), note: r.note }));
    case "grid": return f.fields.map((x) => ({ name: f.rows[x.row], at: f.columns[x.column], value: x.value, text: x.text, lo: null, hi: null, note: x.note }));
  }
  return [];
}

function figure(f) {
  const parts = KINDS[f.kind](f).filter(Boolean);
  for (const svg of parts.filter((p) => p.tagName === "svg" || p.tagName === "FIGURE")) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${f.title}. ${f.place}. The figures are in the table below.`);
  }
  const details = el("details", {}, el("summary", {}, "The figures as a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    details.append(table(`t-${f.id}`, f.title, [
      { name: "what", text: (r) => r.name, long: true },
      { name: "where", text: (r) => r.at, key: (r) => r.x ?? r.at, long: true },
      { name: "value", numeric: true, text: (r) => (r.value === null ? r.text : number(r.value)), key: (r) => r.value ?? r.text },
      { name: "interval", numeric: true, text: (r) => interval(r.lo, r.hi), key: (r) => r.lo },
      { name: "of", text: (r) => r.note, long: true },
    ], figureRows(f)));
  });
  const left = f.left_out.length ? el("details", { class: "note" }, el("summary", {}, `${f.left_out.length} left out`), el("ul", {}, ...f.left_out.map((l) => el("li", {}, l)))) : null;
  return el("figure", { id: `f-${f.id}`, "data-kind": f.kind }, el("h3", {}, f.title),
    el("figcaption", {}, f.place), el("div", { class: "chart" }, ...parts), left, details);
}
