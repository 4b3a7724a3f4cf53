// A question, the decisions, several runs side by side, and answers in a kernel's proportions.
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
  const special = { runs: data.runs && drawRuns, calibrated: data.calibrated && drawCalibrated };
  byId("question").value = q ? q.id : "decisions";
  for (const a of byId("questions").querySelectorAll("a")) {
    a.dataset.id === (q || special[id] ? id : "decisions") ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  }
  const article = byId("answer");
  if (special[id]) {
    byId("question").value = id;
    article.replaceChildren(...special[id](data[id]));
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
  row("calibrated", q.calibrated);
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
      { name: "marks", text: (p) => p.marks.join(", "), long: true },
      { name: "a", text: (p) => p.a, id: true },
      { name: "b", text: (p) => p.b || "", id: true },
    ], q.points),
    marks());
}

/** What the words in a column of marks mean. */
function marks() {
  return data.marks.length === 0 ? "" : el("details", { class: "note" }, el("summary", {}, "What the marks mean"),
    el("dl", {}, ...data.marks.flatMap(([mark, words]) => [el("dt", {}, mark), el("dd", {}, words)])));
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
    // The runs are named above: once is enough.
    runs.figure ? figure({ ...runs.figure, place: `${letters.join(", ")}: the runs above` }) : null,
    table("runs-cells", `Every cell: times ${runs.reference} in each run, and the ratio of that to ${letters[0]}'s`, [
      { name: "cell", text: (r) => r.id, id: true },
      ...letters.map((l, i) => ({ name: `x ${l}`, numeric: true, text: (r) => value(r.x[i], number), key: (r) => (r.x[i] ? r.x[i].y : null) })),
      ...letters.slice(1).map((l, i) => ({ name: `${l}/${letters[0]}`, numeric: true, text: (r) => value(r.ratios[i]), key: (r) => (r.ratios[i] ? r.ratios[i].y : null) })),
      ...(runs.refused ? [] : letters.slice(1).map((l, i) => ({ name: `ns/ns ${l}/${letters[0]}`, numeric: true, text: (r) => value(r.times[i]), key: (r) => (r.times[i] ? r.times[i].y : null) }))),
    ], runs.rows),
  ].filter(Boolean);
}

/** Measured and calibrated figures, each column saying which it has. */
function drawCalibrated(c) {
  const ends = ([middle, lo, hi]) => `${number(middle)} [${interval(lo, hi)}]`;
  const price = (name) => ({ name, numeric: true, text: (p) => ends(p[name]), key: (p) => p[name][0] });
  const figure = (name) => ({ name: `a / b ${name}`, numeric: true, text: (r) => `${ratio(r[name].y)} [${interval(r[name].lo, r[name].hi, ratio)}]`, key: (r) => r[name].y });
  const verdict = (name) => ({ name: `verdict ${name}`, text: (r) => VERDICTS[r[name].verdict], verdict: (r) => r[name].verdict });
  const side = (s, name) => ({ name: `${s} ${name}`, numeric: true, text: (r) => number(r[name][s]), key: (r) => r[name][s] });
  return [
    el("h2", {}, "In the kernel's proportions"),
    el("p", { class: "sentence" }, c.summary),
    el("dl", {}, ...c.about.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    table("calibrated-points", "Comparisons as measured, and calibrated: with the kernel's prices in the model's place; ns a page", [
      { name: "question", text: (r) => r.question, link: (r) => choose(r.question) },
      { name: "comparison", text: (r) => r.comparison, long: true },
      figure("measured"), figure("calibrated"), verdict("measured"), verdict("calibrated"),
      { name: "what changes", text: (r) => r.changes, long: true },
      side("a", "measured"), side("a", "calibrated"), side("b", "measured"), side("b", "calibrated"),
      { name: "a is", text: (r) => r.place, id: true },
    ], c.compared),
    table("calibrated-prices", "What an entry or a fault costs the kernel and the model, ns", [
      { name: "price", text: (p) => p.what, long: true },
      price("kernel"), price("model"), price("added"),
      { name: "the same cell beside the kernel / here", numeric: true, text: (p) => number(p.drift), key: (p) => p.drift },
      { name: "from", text: (p) => p.from, id: true },
    ], c.prices),
    c.churn ? el("p", { class: "note" }, c.churn) : null,
    el("ul", {}, ...c.others.map(([name, why]) => el("li", {}, `${name}: ${why}`))),
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
