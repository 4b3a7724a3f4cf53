"use strict";
// Stands at the end of a page in a test: uses the page as a reader does and writes down what is there.
(() => {
  const result = { errors: window.recorded, questions: {}, seen: [] };
  const count = (within, selector) => within.querySelectorAll(selector).length;
  const marks = (figure) => {
    const of = (name, child) => count(figure, `svg g[aria-label="${name}"] > ${child}`);
    return {
      kind: figure.dataset.kind, dots: of("dot", "*"), bars: of("bar", "rect"), fields: of("cell", "rect"),
      lines: of("line", "path"), intervals: of("link", "path"), titles: count(figure, "svg title"),
      named: count(figure, 'svg[role="img"][aria-label]'),
    };
  };
  const rows = (id) => count(document.getElementById(id), "tbody tr");
  const fire = (element, type) => element.dispatchEvent(new Event(type, { bubbles: true }));
  try {
    const parameters = new URLSearchParams(location.hash.slice(1));
    if (parameters.get("q") === "runs") {
      result.seen = {
        question: document.querySelector("#answer h2").textContent,
        answers: rows("runs-answers"), cells: rows("runs-cells"),
        figure: marks(document.getElementById("f-runs-1")),
        current: document.querySelector("#questions a[aria-current]").dataset.id,
      };
    } else if (parameters.has("only")) {
      // A link that somebody kept.
      result.seen = {
        question: document.querySelector("#answer h2").textContent,
        metric: document.getElementById("choice-metric").value,
        filter: document.getElementById("points-filter").value,
        rows: rows("points"),
        backends: [...document.querySelectorAll("#choice-backend input:checked")].map((x) => x.value),
      };
    } else {
      for (const link of [...document.querySelectorAll("#questions a")]) {
        link.click();
        const figures = {};
        for (const figure of document.querySelectorAll("#answer figure")) figures[figure.id.slice(2)] = marks(figure);
        result.questions[link.dataset.id] = { figures, text: document.getElementById("answer").textContent.slice(0, 4000) };
      }
      document.querySelector('#questions a[data-id="call_size"]').click();
      const chart = document.getElementById("cells-chart");
      const all = document.getElementById("all");
      const before = { dots: marks(chart).dots, rows: rows("all") };
      const box = document.querySelector('#choice-backend input[value="sticky_flags"]');
      box.checked = false;
      fire(box, "change");
      const without = { dots: marks(chart).dots, rows: rows("all") };
      const metric = document.getElementById("choice-metric");
      metric.value = "x";
      fire(metric, "change");
      const distance = { dots: marks(chart).dots, caption: chart.querySelector("figcaption").textContent };
      const filter = document.getElementById("all-filter");
      filter.value = "fixed_flags";
      fire(filter, "input");
      const filtered = rows("all");
      const head = [...document.querySelectorAll("#all th button")].find((b) => b.textContent.startsWith("ns a page"));
      head.click();
      head.click();
      const values = [...document.querySelectorAll("#all tbody tr")].map((tr) => {
        const i = [...document.querySelectorAll("#all th")].findIndex((th) => th.hasAttribute("aria-sort"));
        return Number(tr.children[i].textContent);
      });
      // The table of a chart, for those who do not see it.
      const details = document.querySelector("#f-call_size-1 > details:last-child");
      details.open = true;
      result.use = {
        before, without, distance, filtered, values, had: Boolean(all), hash: location.hash,
        sort: document.querySelector("#all th[aria-sort]").getAttribute("aria-sort"),
      };
      document.querySelector('#questions a[data-id="decisions"]').click();
      result.decisions = rows("decisions");
      result.missing = document.getElementById("missing").textContent;
      result.facts = document.getElementById("facts").textContent;
      result.machine = document.getElementById("machine").textContent;
    }
    result.inner = window.innerWidth;
    result.hit = Boolean(window.hit);
    result.foreign = count(document, "main img, main iframe, main object, main embed, body > img");
    result.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  } catch (e) {
    result.errors.push(`driver: ${e.stack || e}`);
  }
  const pre = document.createElement("pre");
  pre.id = "browser-result";
  pre.textContent = encodeURIComponent(JSON.stringify(result));
  document.body.append(pre);
  // Within a frame: to the one that looks at it.
  if (window.parent !== window) window.parent.postMessage(pre.textContent, "*");
})();
