"use strict"
/* Sorting and filtering of the tables, and arrow keys between neurons. Without it, pages still read. */

const order = new Intl.Collator(undefined, { numeric: true })

function sortBy(table, place, header) {
  const body = table.tBodies[0]
  const isNumber = header.classList.contains("number")
  const before = header.getAttribute("aria-sort")
  const goesDown = before ? before === "ascending" : isNumber
  const keyed = Array.from(
    body.rows,
    (row, at) => ({ row, at, key: row.cells[place].dataset.key ?? "" }),
  )
  keyed.sort((a, b) => {
    if (!a.key || !b.key) return (a.key ? 0 : 1) - (b.key ? 0 : 1) || a.at - b.at
    const way = isNumber ? Number(a.key) - Number(b.key) : order.compare(a.key, b.key)
    return (goesDown ? -way : way) || a.at - b.at
  })
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort")
  header.setAttribute("aria-sort", goesDown ? "descending" : "ascending")
  body.remove() /* so that nothing is laid out before all rows are in place */
  body.append(...keyed.map((each) => each.row))
  table.append(body)
}

function narrow(table, form, limit) {
  const text = form.elements.text.value.trim().toLowerCase()
  const isStrict = Boolean(form.elements.reliable?.checked)
  let kept = 0
  for (const row of table.tBodies[0].rows) {
    const isKept = (!text || row.dataset.text.includes(text)) &&
      (!isStrict || "reliable" in row.dataset)
    kept += isKept
    row.hidden = !isKept || kept > limit
  }
  const all = table.tBodies[0].rows.length
  const count = (n) => n.toLocaleString("en")
  const words = kept === all ? [] : [`${count(kept)} of ${count(all)} ${table.dataset.noun}`]
  if (kept > limit) words.push(`the first ${count(limit)} are shown`)
  form.querySelector("[role=status]").textContent = words.join("; ")
  document.querySelector(".more").hidden = kept <= limit
}

for (const table of document.querySelectorAll("table.sortable")) {
  const form = document.querySelector("form.filter")
  const step = Number(table.dataset.rows)
  let limit = step
  const redraw = () => narrow(table, form, limit)
  Array.from(table.tHead.rows[0].cells).forEach((header, place) => {
    header.querySelector("button")?.addEventListener("click", () => {
      sortBy(table, place, header)
      redraw()
    })
  })
  form.hidden = false
  form.addEventListener("submit", (event) => event.preventDefault())
  form.addEventListener("input", redraw)
  document.querySelector(".more").addEventListener("click", () => {
    limit += step
    redraw()
  })
  redraw()
}

document.addEventListener("keydown", (event) => {
  if (
    event.altKey || event.ctrlKey || event.metaKey || event.shiftKey ||
    event.target.closest("input, textarea, select, .scroll")
  ) return
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key]
  const link = way && document.querySelector(`a[rel=${way}]`)
  if (link) link.click()
})
