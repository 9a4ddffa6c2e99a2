// Enter on a cell of the runs grid opens its run; the view's query goes into the address without a step in the history.
// Rows are given to the grid only where they differ, and not in the instant of a click: it sets its ticks anew with each
// of them, to what Dash knew before, and would lose one that has just been made (dash-ag-grid 35).
(() => {
  const CLICK_MS = 200; // until Dash knows of a tick
  let clicked = -CLICK_MS;

  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".runs-grid")) clicked = performance.now();
  }, true);

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey) return;
    const row = event.target.closest?.(".runs-grid .ag-cell")?.closest(".ag-row");
    row?.querySelector("a[data-route]")?.click();
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    quantLensRuns: {
      async showRows(found, shown) {
        const { no_update } = window.dash_clientside;
        if (!found) return [no_update, no_update];
        const { rows, ticked } = found;
        const wait = clicked + CLICK_MS - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        return [JSON.stringify(rows) === JSON.stringify(shown) ? no_update : rows, ticked ?? no_update];
      },
      keepAddress(search) {
        if (location.pathname === "/" && typeof search === "string" && search !== location.search) {
          history.replaceState(history.state, "", search || location.pathname);
        }
        return window.dash_clientside.no_update;
      },
    },
  });
})();
