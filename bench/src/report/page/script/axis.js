// What charts share: room, ends, ticks, legends.
const width = () => Math.max(280, Math.min(900, byId("main").clientWidth - 36));
/** Round numbers between two ends, as the SVG of the documents has them. */
function rounds(isLog, [lo, hi]) {
  if (!isLog) return d3.ticks(lo, hi, 6);
  const decades = d3.range(Math.floor(Math.log10(lo)), Math.ceil(Math.log10(hi)) + 1);
  const steps = [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5], [1, 1.5, 2, 3, 4, 5, 6, 8],
    [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8],
    [1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.3, 2.6, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 9.5]];
  const of = (s) => decades.flatMap((d) => s.map((k) => k * 10 ** d)).filter((v) => v >= lo && v <= hi);
  // The coarsest that has four.
  return of(steps.find((s) => of(s).length >= 4) || steps[steps.length - 1]);
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
  if (isLog) {
    // A curve that is flat still has a height, and a tick above and below it.
    const flat = Math.sqrt(Math.max(1, 1.3 / (hi / lo))), pad = Math.pow(flat * flat * hi / lo, 0.05);
    return [lo / flat / pad, hi * flat * pad];
  }
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

/** Words in so many lines of so many letters; what does not fit them is cut, and seen to be. */
function folded(text, letters, most) {
  const lines = [];
  for (const word of text.split(" ")) {
    const last = lines.length - 1;
    if (last >= 0 && lines[last].length + 1 + word.length <= letters) lines[last] += ` ${word}`;
    else lines.push(word);
  }
  const kept = lines.slice(0, most);
  if (lines.length > most) kept[most - 1] += ` ${lines.slice(most).join(" ")}`;
  return kept.map((l) => (l.length > letters ? `${l.slice(0, Math.max(1, letters - 1))}\u2026` : l));
}

/** Black or white, whichever is read more easily on this (the contrast of WCAG). */
function inkOn(colour) {
  const linear = (c) => (c <= 10.31 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const { r, g, b } = d3.rgb(colour);
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) > 0.179 ? "#000" : "#fff";
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
