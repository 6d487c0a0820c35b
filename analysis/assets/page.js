"use strict";
// A click or Enter on a column's button sorts its table: numbers by their data-value, then text by the alphabet, then
// cells without a value, which stay last whichever way the others go.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex;
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    };
    const missing = (value) => value === "–" || Number.isNaN(value);
    const order = (a, b) => {
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      return typeof a === "number" ? a - b : a.localeCompare(b);
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    const there = rows.filter(([value]) => !missing(value)).sort(([a], [b]) => order(a, b) * (ascending ? 1 : -1));
    const sorted = [...there, ...rows.filter(([value]) => missing(value))];
    body.append(...sorted.map(([, row]) => row));
  });
}
