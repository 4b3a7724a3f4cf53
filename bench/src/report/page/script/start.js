// Once, at the end.
byId("machine").textContent = `${data.machine}; ${data.command}`;
const entries = [{ id: "decisions", title: "Decisions", verdict: null },
  ...(data.runs ? [{ id: "runs", title: "Runs side by side", verdict: null }] : []),
  ...(data.calibrated ? [{ id: "calibrated", title: "In the kernel's proportions", verdict: null }] : []), ...data.questions];
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
