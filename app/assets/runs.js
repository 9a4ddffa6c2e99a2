// Enter on a cell of the runs grid opens its run; the view's query goes into the address without a step in the history.
(() => {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey) return;
    const row = event.target.closest?.(".runs-grid .ag-cell")?.closest(".ag-row");
    row?.querySelector("a[data-route]")?.click();
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    quantLensRuns: {
      keepAddress(search) {
        if (location.pathname === "/" && typeof search === "string" && search !== location.search) {
          history.replaceState(history.state, "", search || location.pathname);
        }
        return window.dash_clientside.no_update;
      },
    },
  });
})();
