// Enter on a cell of the runs grid opens its run.
document.addEventListener("keydown", (event) => {
  const cell = event.key === "Enter" && !event.ctrlKey && event.target.closest?.(".runs-grid .ag-cell");
  cell?.closest(".ag-row")?.querySelector("a[data-route]")?.click();
});
