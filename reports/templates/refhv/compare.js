// SPDX-License-Identifier: MIT
// Sorts and searches the tables of compare.html. They stand without it; nothing is fetched.
"use strict";
const tables = [...document.querySelectorAll("table[data-overview]")];
const inputs = [...document.querySelectorAll("input[data-filter]")];
const heads = (table) => [...table.tHead.rows[0].cells];
const rows = (table) => [...table.tBodies[0].rows];

function sort(table, column) {
  const up = heads(table)[column].getAttribute("aria-sort") !== "ascending";
  heads(table).forEach((head) => head.removeAttribute("aria-sort"));
  heads(table)[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  const order = (a, b) => {
    const x = a.cells[column].dataset.v, y = b.cells[column].dataset.v;
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // without a number: last, both ways
    const less = column === 0 ? x.localeCompare(y) : Number(x) - Number(y);
    return up ? less : -less;
  };
  table.tBodies[0].append(...rows(table).sort(order));
}

function search() {
  const [machines, operations] = inputs.map((input) => input.value.toLowerCase().split(/\s+/).filter(Boolean));
  const fits = (text, wanted) => wanted.every((word) => text.toLowerCase().includes(word));
  const count = { records: [0, 0], operations: [0, 0] };
  const tell = (what, shown) => { count[what][0] += shown; count[what][1] += 1; return !shown; };
  for (const table of tables) {
    const hidden = heads(table).map((head, column) => column > 0 && tell("operations", fits(head.dataset.name, operations)));
    for (const row of rows(table)) {
      row.hidden = tell("records", fits(row.cells[0].textContent, machines));
      hidden.forEach((hide, column) => { row.cells[column].hidden = hide; });
    }
    hidden.forEach((hide, column) => { heads(table)[column].hidden = hide; });
  }
  document.querySelector("[data-count]").textContent =
    Object.entries(count).map(([what, [shown, all]]) => `${shown} of ${all} ${what}`).join(", ");
}

for (const table of tables) {
  heads(table).forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(table, column));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, column); });
  });
}
inputs.forEach((input) => input.addEventListener("input", search));
