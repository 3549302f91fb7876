// SPDX-License-Identifier: MIT
// Sorts and searches the overview of compare.html. The table stands without it; nothing is fetched.
"use strict";
for (const table of document.querySelectorAll("table[data-overview]")) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  const value = (row, column) => row.cells[column].dataset.v;
  const order = (a, b, column, up) => {
    const x = value(a, column), y = value(b, column);
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // without a number: last, both ways
    const less = column === 0 ? x.localeCompare(y) : Number(x) - Number(y);
    return up ? less : -less;
  };
  const sort = (column) => {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    for (const body of table.tBodies) body.append(...[...body.rows].sort((a, b) => order(a, b, column, up)));
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(column));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(column); });
  });
  const words = (input) => input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text, wanted) => wanted.every((word) => text.includes(word));
  const inputs = [...document.querySelectorAll("input[data-filter]")];
  const count = document.querySelector("[data-count]");
  const show = () => {
    const [machines, operations] = inputs.map(words);
    const kept = heads.map((head, column) => column === 0 || fits(head.dataset.name.toLowerCase(), operations));
    let shown = 0;
    for (const row of rows) {
      row.hidden = !fits(row.cells[0].textContent.toLowerCase(), machines);
      shown += !row.hidden;
      kept.forEach((keep, column) => { row.cells[column].hidden = !keep; });
    }
    kept.forEach((keep, column) => { heads[column].hidden = !keep; });
    count.textContent = `${shown} of ${rows.length} records, ${kept.filter(Boolean).length - 1} of ${heads.length - 1} operations`;
  };
  inputs.forEach((input) => input.addEventListener("input", show));
}
