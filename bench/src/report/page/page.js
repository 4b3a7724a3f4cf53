"use strict";
// One page from the data in it. Everything from the data goes into the document as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const STAGES = ["prepare", "walk", "fault", "retry", "consume"];
  const PALETTE = ["#3b7dd8", "#d9730d", "#2e9e5b", "#c94f9c", "#8a63d2", "#1b9aaa", "#a8821a", "#d64541", "#7a8290"];
  const STAGE_COLOURS = [PALETTE[6], PALETTE[0], PALETTE[7], PALETTE[8], PALETTE[2]];
  const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "wye"];
  const VERDICTS = { differs: "differs", same: "same", unresolved: "not resolved", not_measured: "not measured" };
  const byId = (id) => document.getElementById(id);

  /** An element with attributes and children; strings become text. */
  function el(tag, attributes, ...children) {
    const e = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : value);
    }
    e.append(...children.filter((c) => c !== null && c !== undefined));
    return e;
  }

  function number(x) {
    if (x === null || x === undefined) return "-";
    const a = Math.abs(x);
    if (a >= 1e7) return x.toExponential(2);
    if (a >= 99.95) return x.toFixed(0);
    if (a >= 9.995) return x.toFixed(1);
    if (a >= 0.095 || a === 0) return x.toFixed(2);
    return x.toPrecision(2);
  }
  const ratio = (x) => (x >= 0.8 && x < 1.25 ? x.toFixed(3) : number(x));
  const interval = (lo, hi, f = number) => (lo === null || hi === null || lo === undefined ? "" : `${f(lo)} .. ${f(hi)}`);
  /** A tick's name, short. */
  function short(x) {
    const a = Math.abs(x);
    const cut = (y, unit) => `${+y.toPrecision(3)}${unit}`;
    if (a >= 1e9) return cut(x / 1e9, "G");
    if (a >= 1e6) return cut(x / 1e6, "M");
    if (a >= 1e4) return cut(x / 1e3, "k");
    if (a >= 1e-3 || a === 0) return cut(x, "");
    return x.toExponential(0);
  }

  // ---- the view, kept in the address

  const view = new URLSearchParams(location.hash.slice(1));
  function remember(name, value) {
    if (value === null || value === undefined || value === "") view.delete(name);
    else view.set(name, value);
    history.replaceState(null, "", `#${view}`);
  }

  // ---- tables that sort and filter

  const ROWS = 200;
  /** columns: {name, text(row), key(row), numeric, long}; `id` names the table in the address. */
  function table(id, caption, columns, rows) {
    const filter = el("input", { type: "search", id: `${id}-filter`, size: 24, value: view.get(`${id}.f`) || "" });
    const count = el("span", { role: "status" });
    const body = el("tbody");
    const more = el("button", { type: "button", hidden: true });
    let [sorted, direction] = (view.get(`${id}.s`) || "").split(":");
    sorted = sorted === "" || sorted === undefined ? -1 : Number(sorted);
    if (!(sorted >= 0 && sorted < columns.length)) sorted = -1;
    let shown = ROWS;
    const heads = columns.map((c, i) =>
      el("th", { scope: "col", class: c.numeric && "number" },
        el("button", { type: "button", onclick: () => sort(i) }, c.name)));
    const text = rows.map((r) => columns.map((c) => c.text(r)).join("\u0000").toLowerCase());
    function matching() {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      return rows.map((_, i) => i).filter((i) => words.every((w) => text[i].includes(w)));
    }
    function draw() {
      const all = matching();
      if (sorted >= 0) {
        const key = columns[sorted].key || columns[sorted].text;
        const sign = direction === "down" ? -1 : 1;
        // What has no figure comes last either way.
        const empty = (k) => k === null || k === undefined || k === "-";
        all.sort((i, j) => {
          const [a, b] = [key(rows[i]), key(rows[j])];
          if (empty(a) || empty(b)) return empty(a) - empty(b) || i - j;
          return sign * (a < b ? -1 : a > b ? 1 : 0) || i - j;
        });
      }
      heads.forEach((h, i) => {
        const is = i === sorted ? (direction === "down" ? "descending" : "ascending") : null;
        is ? h.setAttribute("aria-sort", is) : h.removeAttribute("aria-sort");
        h.firstChild.textContent = columns[i].name + (is ? (direction === "down" ? " \u25bc" : " \u25b2") : "");
      });
      body.replaceChildren(...all.slice(0, shown).map((i) =>
        el("tr", {}, ...columns.map((c) =>
          el("td", { class: [c.numeric && "number", c.long && "long", c.id && "id", c.verdict && c.verdict(rows[i])].filter(Boolean).join(" ") || null },
            c.link ? el("button", { type: "button", onclick: () => c.link(rows[i]) }, c.text(rows[i])) : c.text(rows[i]))))));
      count.textContent = `${Math.min(shown, all.length)} of ${all.length} rows`;
      more.hidden = all.length <= shown;
      more.textContent = `Show all ${all.length}`;
    }
    function sort(i) {
      direction = sorted === i && direction !== "down" ? "down" : "up";
      sorted = i;
      remember(`${id}.s`, `${i}:${direction}`);
      draw();
    }
    filter.addEventListener("input", () => { remember(`${id}.f`, filter.value); draw(); });
    more.addEventListener("click", () => { shown = Infinity; draw(); });
    draw();
    return el("div", { class: "table", id },
      el("div", { class: "tools" }, el("label", {}, "Filter ", filter), count, more),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
        el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...heads)), body)));
  }

  // ---- charts

  const width = () => Math.max(280, Math.min(900, byId("main").clientWidth - 36));
  /** Round numbers between two ends, as the SVG of the documents has them. */
  function rounds(isLog, [lo, hi]) {
    if (!isLog) return d3.ticks(lo, hi, 6);
    const decades = Math.log10(hi / lo);
    const steps = decades > 2.5 ? [1] : decades > 1.2 ? [1, 3] : decades > 0.6 ? [1, 2, 5]
      : decades > 0.25 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : [1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.3, 2.6, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 9.5];
    return d3.range(Math.floor(Math.log10(lo)), Math.ceil(Math.log10(hi)) + 1)
      .flatMap((d) => steps.map((k) => k * 10 ** d)).filter((v) => v >= lo && v <= hi);
  }

  /** An axis with its grid. Text is given by us: a logarithmic scale would leave out names that are no power of ten. */
  function axis(which, isLog, ends, room, ticks = []) {
    const named = ticks.length ? ticks : rounds(isLog, ends).map((v) => [v, short(v)]);
    const at = (v) => (isLog ? Math.log(v / ends[0]) / Math.log(ends[1] / ends[0]) : (v - ends[0]) / (ends[1] - ends[0]));
    const fit = which === "x" ? thin(named, at, room) : named;
    const values = fit.map((t) => t[0]);
    const text = (v) => (fit.find((t) => t[0] === v) || [0, short(v)])[1];
    const [grid, marks] = which === "x" ? [Plot.gridX, Plot.axisX] : [Plot.gridY, Plot.axisY];
    return [grid(values, { strokeOpacity: 0.12 }), marks(values, { text, label: null, tickSize: 4 })];
  }

  /** The ends of an axis: all values, and intervals as far as they are not many times wider than those. */
  function domain(values, ends, isLog) {
    let lo = Math.min(...values), hi = Math.max(...values);
    const [least, most] = isLog ? [lo / 8, hi * 8] : [lo - 2 * (hi - lo || hi), hi + 2 * (hi - lo || hi)];
    for (const e of ends) { lo = Math.min(lo, Math.max(e, least)); hi = Math.max(hi, Math.min(e, most)); }
    if (isLog) { const pad = Math.max(1.04, Math.pow(hi / lo, 0.05)); return [lo / pad, hi * pad]; }
    const pad = 0.05 * (hi - lo || Math.abs(hi) || 1);
    return [lo >= 0 ? 0 : lo - pad, hi + pad];
  }
  const ends = (rows) => rows.flatMap((r) => [r.lo, r.hi]).filter((x) => x !== null && x !== undefined);
  const clip = (rows, [lo, hi]) => rows.filter((r) => r.lo !== null && r.hi !== null && r.lo !== undefined)
    .map((r) => ({ ...r, lo: Math.max(lo, r.lo), hi: Math.min(hi, r.hi) }));

  /** Fewer ticks where names would run into each other. */
  function thin(ticks, at, room) {
    let end = -Infinity;
    return ticks.filter(([x, name]) => {
      const half = name.length * 3.6, px = at(x) * room;
      if (px - half <= end + 8) return false;
      end = px + half;
      return true;
    });
  }

  function swatches(names, colour, symbol) {
    return el("ul", { class: "swatches", "aria-label": "Legend" }, ...names.map((name, i) => {
      const svg = d3.create("svg").attr("width", 22).attr("height", 14).attr("aria-hidden", "true");
      const limit = symbol(i) === null;
      svg.append("line").attr("x1", 0).attr("x2", 22).attr("y1", 7).attr("y2", 7).attr("stroke", colour(i))
        .attr("stroke-width", 2).attr("stroke-dasharray", limit ? "3 3" : null);
      if (!limit) svg.append("path").attr("transform", "translate(11,7)").attr("fill", colour(i)).attr("d", d3.symbol(symbol(i), 50)());
      return el("li", {}, svg.node(), name);
    }));
  }
  const D3_SYMBOLS = { circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond, star: d3.symbolStar, wye: d3.symbolWye };

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
    // Names are cut where they do not fit, and whole in the tip and in the table.
    const name = (i) => { const n = f.rows[i].name; return n.length > fits ? `${n.slice(0, fits - 1)}\u2026` : n; };
    const says = (r) => `${r.name}\n${ratio(r.y)}${r.lo !== null ? ` [${interval(r.lo, r.hi, ratio)}]` : ", no interval"}\n${r.note}`;
    const least = f.percent === null ? null : 1 + f.percent / 100;
    return [el("p", { class: "note" }, `across: ${f.x.label}, logarithmic${least ? `; grey: less than ${f.percent} % apart` : ""}`), Plot.plot({
      width: width(), height: 50 + 26 * rows.length, marginLeft: left, marginRight: 56, marginTop: 8, marginBottom: 32,
      x: { type: "log", domain: x, axis: null },
      y: { label: null, domain: rows.map((r) => r.key), tickFormat: (k) => name(Number(k)), tickSize: 0 },
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
    const names = [...new Set(f.fields.map((x) => x.name).filter((n) => n !== null))].sort();
    const values = f.fields.map((x) => x.value).filter((v) => v !== null);
    const [lo, hi] = [Math.min(...values), Math.max(...values)];
    const share = (v) => (hi <= lo ? 0 : f.is_log ? Math.log(v / lo) / Math.log(hi / lo) : (v - lo) / (hi - lo));
    const fill = (x) => (x.value !== null ? d3.interpolateViridis(share(x.value)) : PALETTE[names.indexOf(x.name) % PALETTE.length]);
    const ink = (x) => (d3.lab(fill(x)).l > 60 ? "#000" : "#fff");
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
    const says = (x) => `${f.rows[x.row]}\n${f.columns[x.column]}: ${x.text}\n${x.note}`;
    const at = { x: (d) => d.column, y: (d) => d.row };
    const plot = Plot.plot({
      width: width(), height: top + 12 + 24 * f.rows.length, marginLeft: left, marginTop: top, marginBottom: 8, marginRight: 8,
      x: { axis: null, domain: f.columns.map((_, i) => i), padding: 0.04 },
      y: { axis: null, domain: f.rows.map((_, i) => i), padding: 0.06 },
      color: { type: "identity" },
      marks: [
        hatch,
        Plot.axisX({ anchor: "top", tickSize: 0, tickRotate: upright ? -90 : 0, tickFormat: (i) => cut(f.columns[i], 22), label: null }),
        Plot.axisY({ anchor: "left", tickSize: 0, tickFormat: (i) => cut(f.rows[i], fits), label: null }),
        Plot.cell(f.fields, { ...at, fill, title: says }),
        Plot.cell(f.fields.filter((x) => x.is_hatched), { ...at, fill: `url(#${id})`, pointerEvents: "none" }),
        Plot.text(f.fields.filter((x) => !x.is_hatched && x.text.length * 6 < space), { ...at, text: "text", fill: ink, pointerEvents: "none" }),
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

  // ---- a question

  function paragraphs(text) {
    return text.split(/\n\s*\n/).map((p) => el("p", {}, p));
  }

  function decisions() {
    return table("decisions", "What follows for an API, by rules that were fixed before measuring", [
      { name: "property", text: (d) => d.property.replaceAll("`", ""), long: true },
      { name: "recommendation", text: (d) => d.recommendation, long: true },
      { name: "figure", text: (d) => d.figure, long: true },
      { name: "how sure", text: (d) => d.how_sure, long: true },
      { name: "question", text: (d) => d.question, link: (d) => choose(d.question) },
    ], data.decisions);
  }

  function drawQuestion() {
    const id = view.get("q") || "decisions";
    const q = data.questions.find((x) => x.id === id);
    byId("question").value = q ? q.id : "decisions";
    for (const a of byId("questions").querySelectorAll("a")) {
      a.dataset.id === (q || (id === "runs" && data.runs) ? id : "decisions") ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
    }
    const article = byId("answer");
    if (id === "runs" && data.runs) {
      byId("question").value = "runs";
      article.replaceChildren(...drawRuns(data.runs));
      return;
    }
    if (!q) {
      article.replaceChildren(el("h2", {}, "Decisions"), decisions());
      return;
    }
    const list = el("dl", {});
    const row = (name, value) => value && list.append(el("dt", {}, name), el("dd", {}, value));
    row("figure", q.figure);
    row("how sure", `${VERDICTS[q.verdict]}, ${q.how_sure}`);
    row("break-even", q.flips);
    row("again", el("code", {}, q.command));
    article.replaceChildren(
      el("h2", {}, q.title),
      el("p", { class: `sentence ${q.verdict}`, id: "sentence" }, q.answer),
      list,
      el("details", {}, el("summary", {}, "The argument"), ...paragraphs(q.argument), el("ul", {}, ...q.threads.map((t) => el("li", {}, t)))),
      el("details", {}, el("summary", {}, "What the figure means, and what the model leaves out"), ...paragraphs(q.analysis)),
      ...q.figures.map(figure),
      el("h3", {}, "Comparisons"),
      table("points", "Every comparison of this question, everywhere it was measured", [
        { name: "comparison", text: (p) => p.finding, long: true },
        { name: "a / b", numeric: true, text: (p) => ratio(p.ratio), key: (p) => p.ratio },
        { name: "interval", numeric: true, text: (p) => interval(p.lo, p.hi, ratio), key: (p) => p.lo },
        { name: "verdict", text: (p) => VERDICTS[p.verdict], verdict: (p) => p.verdict },
        { name: "a is", numeric: true, text: (p) => number(p.av), key: (p) => p.av },
        { name: "b is", numeric: true, text: (p) => number(p.bv), key: (p) => p.bv },
        { name: "unit", text: (p) => p.unit },
        { name: "launches", numeric: true, text: (p) => (p.launches ? `${p.launches}` : "exact"), key: (p) => p.launches },
        { name: "a", text: (p) => p.a, id: true },
        { name: "b", text: (p) => p.b || "", id: true },
        { name: "marks", text: (p) => p.marks.join(", "), long: true },
      ], q.points));
  }

  /** Several runs side by side. */
  function drawRuns(runs) {
    const value = (v, f = ratio) => (v ? `${f(v.y)}${v.lo === null ? "" : ` [${interval(v.lo, v.hi, f)}]`}` : "-");
    const letters = runs.names.map((n) => n[0]);
    const list = el("dl", {}, ...runs.names.flatMap(([letter, about]) => [el("dt", {}, letter), el("dd", {}, about)]));
    return [
      el("h2", {}, "Runs side by side"), list,
      ...[runs.refused ? `Times are not compared: ${runs.refused}` : null, ...runs.notes].filter(Boolean).map((n) => el("p", { class: "note" }, n)),
      table("runs-answers", "What each run answers", [
        { name: "question", text: (a) => a.id, link: (a) => choose(a.id) },
        ...letters.map((l, i) => ({ name: l, text: (a) => a.said[i] })),
        { name: "together", text: (a) => a.agreement },
      ], runs.answers),
      runs.figure ? figure(runs.figure) : null,
      table("runs-cells", `Every cell: times ${runs.reference} in each run, and the ratio of that to ${letters[0]}'s`, [
        { name: "cell", text: (r) => r.id, id: true },
        ...letters.map((l, i) => ({ name: `x ${l}`, numeric: true, text: (r) => value(r.x[i], number), key: (r) => (r.x[i] ? r.x[i].y : null) })),
        ...letters.slice(1).map((l, i) => ({ name: `${l}/${letters[0]}`, numeric: true, text: (r) => value(r.ratios[i]), key: (r) => (r.ratios[i] ? r.ratios[i].y : null) })),
        ...(runs.refused ? [] : letters.slice(1).map((l, i) => ({ name: `ns/ns ${l}/${letters[0]}`, numeric: true, text: (r) => value(r.times[i]), key: (r) => (r.times[i] ? r.times[i].y : null) }))),
      ], runs.rows),
    ].filter(Boolean);
  }

  function choose(id) {
    remember("q", id === "decisions" ? "" : id);
    for (const key of [...view.keys()].filter((k) => k.startsWith("t-") || k.startsWith("points."))) view.delete(key);
    remember("q", id === "decisions" ? "" : id);
    drawQuestion();
    drawChoice();
    drawCells();
    window.scrollTo(0, 0);
    byId("main").focus({ preventScroll: true });
  }

  // ---- all cells

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
  const order = (c, names) => [...names].sort((a, b) => (c in AXES ? AXES[c](a) - AXES[c](b) : c === "backend" ? data.backends.indexOf(a) - data.backends.indexOf(b) : a < b ? -1 : a > b ? 1 : 0));
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
    ], all));
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

  // ---- once

  byId("machine").textContent = `${data.machine}; ${data.command}`;
  const entries = [{ id: "decisions", title: "Decisions", verdict: null },
    ...(data.runs ? [{ id: "runs", title: "Runs side by side", verdict: null }] : []), ...data.questions];
  byId("questions").append(...entries.map((q) => el("li", {},
    el("a", { href: `#q=${encodeURIComponent(q.id)}`, "data-id": q.id, onclick: (e) => { e.preventDefault(); choose(q.id); } },
      q.verdict ? q.id.replaceAll("_", " ") : q.title,
      q.verdict ? el("small", { class: q.verdict }, VERDICTS[q.verdict]) : null))));
  byId("question").append(...entries.map((q) => el("option", { value: q.id }, q.verdict ? `${q.id}: ${VERDICTS[q.verdict]}` : q.title)));
  byId("question").addEventListener("change", (e) => choose(e.target.value));
  byId("missing").append(...data.missing.map((m) => el("li", {}, m)));
  byId("facts").append(...data.facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  byId("choice").addEventListener("submit", (e) => e.preventDefault());
  function drawAll() {
    drawQuestion();
    drawChoice();
    drawCells();
  }
  drawAll();
  window.addEventListener("hashchange", () => {
    for (const key of [...view.keys()]) view.delete(key);
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) view.set(key, value);
    drawAll();
  });
  let drawn = width();
  window.addEventListener("resize", () => {
    if (width() === drawn) return;
    drawn = width();
    drawQuestion();
    drawCells();
  });
  document.documentElement.dataset.ready = "yes";
})();
