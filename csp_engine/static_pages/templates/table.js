"use strict";
/* Sorting and filtering of the tables, and arrow keys between neurons. Without it, pages still read. */

const order = new Intl.Collator(undefined, { numeric: true });

function sortBy(table, place, header) {
  const body = table.tBodies[0];
  const isNumber = header.classList.contains("number");
  const before = header.getAttribute("aria-sort");
  const goesDown = before ? before === "ascending" : isNumber;
  const keyed = Array.from(body.rows, (row, at) => ({ row, at, key: row.cells[place].dataset.key ?? "" }));
  keyed.sort((a, b) => {
    if (!a.key || !b.key) return (a.key ? 0 : 1) - (b.key ? 0 : 1) || a.at - b.at;
    const way = isNumber ? Number(a.key) - Number(b.key) : order.compare(a.key, b.key);
    return (goesDown ? -way : way) || a.at - b.at;
  });
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", goesDown ? "descending" : "ascending");
  body.append(...keyed.map((each) => each.row));
}

function narrow(table, form) {
  const text = form.elements.text.value.trim().toLowerCase();
  const isStrict = Boolean(form.elements.reliable?.checked);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const isKept = (!text || row.dataset.text.includes(text)) && (!isStrict || "reliable" in row.dataset);
    row.hidden = !isKept;
    shown += isKept;
  }
  const all = table.tBodies[0].rows.length;
  form.querySelector("[role=status]").textContent =
    shown === all ? "" : `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} ${table.dataset.noun}`;
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, place) => {
    header.querySelector("button")?.addEventListener("click", () => sortBy(table, place, header));
  });
  const form = document.querySelector("form.filter");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => narrow(table, form));
  narrow(table, form);
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest("input, textarea, select, .scroll")) return;
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = way && document.querySelector(`a[rel=${way}]`);
  if (link) link.click();
});
