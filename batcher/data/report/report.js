"use strict";
// Draws the charts and filters the table. The data stand in the page; nothing is loaded.
(() => {
  const root = document.documentElement;
  const { config, charts } = JSON.parse(document.getElementById("charts").textContent);
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, config,
    ast: true, // expressions are interpreted: the page's policy forbids making code of text
    tooltip: { theme: "page" },
  };
  const drawn = [...document.querySelectorAll("[data-chart]")].map((place) =>
    vegaEmbed(place, charts[place.dataset.chart], options));
  Promise.all(drawn).then(
    () => { root.dataset.drawnAfter = Math.round(performance.now()); },
    (error) => { root.dataset.failed = String(error); console.error(error); });

  const search = document.getElementById("search");
  if (search === null) return;
  const count = document.getElementById("found");
  const rows = [...document.querySelectorAll(".lost tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
  const all = [...count.childNodes];
  const number = (value) => value.toLocaleString("en-US");
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.replaceChildren(...(words.length ? [`${number(shown)} of ${number(rows.length)} listed lines match.`] : all));
  });
})();
