// Tables that sort and filter.
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
  return el("div", { class: columns.length > 8 ? "table wide" : "table", id },
    el("div", { class: "tools" }, el("label", {}, "Filter ", filter), count, more),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...heads)), body)));
}
