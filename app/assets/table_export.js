// data-export-table="id" saves an HTML table as CSV; a cell says its exact value in data-exact.
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-export-table]");
  const table = button && document.getElementById(button.dataset.exportTable);
  if (!table) return;
  const exact = (cell) => cell.dataset.exact ?? cell.querySelector("[data-exact]")?.dataset.exact ?? cell.textContent;
  const quoted = (text) => {
    const safe = /^[=+@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [...table.rows].map((row) => [...row.cells].map((cell) => quoted(exact(cell).trim())).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
  link.download = `${table.id}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
