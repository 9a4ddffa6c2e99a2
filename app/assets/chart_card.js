// Charts: the figure of the present colour scheme, the table beside it, and the buttons of every chart card.
(() => {
  const charts = new Map();
  const idOf = (part, chart) => JSON.stringify({ chart, part });
  const cardOf = (chart) => document.getElementById(idOf("chart-card", chart));

  // Plain elements, made when they are asked for: a component a cell would keep a page with long tables busy for minutes.
  function fillTable(card, { columns, rows }) {
    const rounded = (value) => Number(value.toPrecision(5));
    const written = (value) => (value && Math.abs(value) < 1e-3 ? rounded(value).toExponential() : String(rounded(value)));
    const short = (value) => written(value).replaceAll("-", "\u2212");
    const cell = (tag) => (value, index) => {
      const made = document.createElement(tag);
      made.textContent = typeof value === "number" ? short(value) : value ?? "–";
      if (typeof value === "number") made.title = String(value);
      if (index) made.className = "num";
      return made;
    };
    const part = (tag, lines, cellTag) => {
      const made = document.createElement(tag);
      for (const line of lines) {
        const row = made.appendChild(document.createElement("tr"));
        row.append(...line.map(cell(cellTag)));
      }
      return made;
    };
    const table = document.createElement("table");
    table.className = "data-table";
    table.append(part("thead", [columns], "th"), part("tbody", rows, "td"));
    card.querySelector(".chart-table").replaceChildren(table);
  }

  // The card decides how high a chart is, not the figure: it may be enlarged. For a chart with more rows than its card
  // was made for, the card grows.
  function fitted(figure, card) {
    const body = card?.querySelector(".chart-body");
    if (!figure || !body) return figure;
    body.dataset.least ??= String(parseFloat(body.style.minHeight) || 0);
    const least = Number(body.dataset.least);
    body.style.minHeight = `${Math.max(least, figure.layout.height ?? 0)}px`;
    return { ...figure, layout: { ...figure.layout, height: undefined } };
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    quantLensCharts: {
      draw(data, scheme) {
        const unchanged = window.dash_clientside.no_update;
        const chart = dash_clientside.callback_context.outputs_list[0].id.chart;
        if (!data) return [unchanged, unchanged];
        charts.set(chart, data);
        const figure = fitted(data[scheme === "dark" ? "dark" : "light"], cardOf(chart));
        cardOf(chart)?.classList.toggle("waiting", !figure && !data.nothing);
        cardOf(chart)?.classList.toggle("nothing", !figure && Boolean(data.nothing));
        const note = cardOf(chart)?.querySelector(".chart-note");
        if (note) note.textContent = figure ? data.note : "";
        if (note) cardOf(chart).dataset.filename = data.filename;
        if (cardOf(chart)?.classList.contains("as-table")) fillTable(cardOf(chart), data.table);
        return [figure || unchanged, data.nothing || data.sentence || unchanged];
      },
    },
  });

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function csvOf({ columns, rows }) {
    const quoted = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      // A text that a spreadsheet would take for a formula is kept a text.
      const safe = typeof value === "string" && /^[=+@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [columns, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n");
  }

  const actions = {
    table(card, data, button) {
      const shown = card.classList.toggle("as-table");
      button.setAttribute("aria-pressed", String(shown));
      if (shown) fillTable(card, data.table);
    },
    enlarge(card, data, button) {
      const large = card.classList.toggle("enlarged");
      button.setAttribute("aria-pressed", String(large));
      document.body.classList.toggle("has-enlarged", large);
      window.dispatchEvent(new Event("resize"));
      button.focus();
    },
    png: (card, data) => picture(card, data, "png"),
    svg: (card, data) => picture(card, data, "svg"),
    csv: (card, data) => save(`${data.filename}.csv`, "text/csv", csvOf(data.table)),
    json: (card, data) => save(`${data.filename}.json`, "application/json", JSON.stringify(data.table, null, 2)),
  };

  function picture(card, data, format) {
    const plot = card.querySelector(".js-plotly-plot");
    const { width, height } = plot.getBoundingClientRect();
    Plotly.downloadImage(plot, { format, width, height, scale: format === "png" ? 2 : 1, filename: data.filename });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-chart-action]");
    const card = button && cardOf(button.dataset.chart);
    const data = card && charts.get(button.dataset.chart);
    if (data) actions[button.dataset.chartAction](card, data, button);
  });
  document.addEventListener("keydown", (event) => {
    const card = event.key === "Escape" && document.querySelector(".chart-card.enlarged");
    if (card) card.querySelector('[data-chart-action="enlarge"]').click();
  });
})();
