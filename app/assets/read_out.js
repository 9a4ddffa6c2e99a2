// The line under a chart that tells the numbers under the pointer, without asking the server. The figure says which
// numbers (layout.meta.readOut); with a flat chart in focus, arrow keys move over its grid.
(() => {
  const LINE = ".chart-card:has(.read-out)";
  const MINUS = "\u2212";

  function written(value, signed) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const size = Math.abs(value);
    const text = size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
    return (signed && value > 0 ? `+${text}` : text).replaceAll("-", MINUS);
  }

  function tell(card, point) {
    const line = card.querySelector(".read-out");
    const readings = card.querySelector(".js-plotly-plot")?.layout?.meta?.readOut;
    if (!readings || !Array.isArray(point.customdata)) return;
    const said = ({ of, word }) => !word || point.customdata[of];
    const parts = readings.filter(said).map(({ of, words, unit, signed, word }) => {
      const value = of === "x" ? point.x : of === "y" ? point.y : point.customdata[of];
      const part = document.createElement("span");
      if (word) return Object.assign(part, { textContent: value });
      const number = document.createElement("b");
      number.textContent = written(value, signed);
      part.append(words.startsWith("from ") ? "" : `${words} `, number, unit ? ` ${unit}` : "");
      if (words.startsWith("from ")) part.append(` ${words}`);
      return part;
    });
    const head = Object.assign(document.createElement("span"), { textContent: "At the cursor" });
    line.replaceChildren(head, ...parts.flatMap((part) => [" ", part])); // read aloud, numbers must not run together
  }

  // Plotly forgets listeners when it draws anew: they are set whenever the pointer, or the focus, comes.
  function listen(card) {
    const plot = card.querySelector(".js-plotly-plot");
    if (!plot?.on) return null;
    plot.removeAllListeners("plotly_hover");
    plot.on("plotly_hover", ({ points }) => tell(card, points[0]));
    return plot;
  }
  document.addEventListener("pointerover", (event) => {
    const card = event.target.closest?.(LINE);
    if (card && !card.contains(event.relatedTarget)) listen(card);
  });

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  document.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const body = step && event.target.closest?.(".chart-body[tabindex]");
    const card = body?.closest(LINE);
    const plot = card && event.target === body && listen(card);
    const grid = plot?.data?.[0];
    if (!grid?.customdata || grid.type === "surface") return; // a surface turns: cameras.js
    event.preventDefault();
    const middle = (axis) => axis.indexOf(0) < 0 ? Math.floor(axis.length / 2) : axis.indexOf(0);
    const at = (body.dataset.at || `${middle(grid.x)},${middle(grid.y)}`).split(",").map(Number);
    const column = Math.min(Math.max(at[0] + step[0], 0), grid.x.length - 1);
    const row = Math.min(Math.max(at[1] + step[1], 0), grid.y.length - 1);
    body.dataset.at = `${column},${row}`;
    // The grid's own point: by a place alone the nearest marker would answer. It draws the box, but makes no event.
    Plotly.Fx.hover(plot, [{ curveNumber: 0, xval: grid.x[column], yval: grid.y[row] }], "xy");
    tell(card, { x: grid.x[column], y: grid.y[row], customdata: grid.customdata[row][column] });
  });
})();
