// The data, the document and the address. Everything from the data goes into the document as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const STAGES = ["prepare", "walk", "fault", "retry", "consume"];
const PALETTE = ["#638aff", "#ef6b13", "#31a876", "#ab3597", "#7343de", "#06a2c6", "#a35f00", "#ad4459", "#7a8290"];
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
const interval = (lo, hi, f = number) => (lo === null || hi === null || lo === undefined ? "" : `${f(lo)}..${f(hi)}`);
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

const view = new URLSearchParams(location.hash.slice(1));
function remember(name, value) {
  if (value === null || value === undefined || value === "") view.delete(name);
  else view.set(name, value);
  history.replaceState(null, "", `#${view}`);
}
