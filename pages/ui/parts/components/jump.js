// A box to go anywhere from: Ctrl-K or Cmd-K opens it, letters narrow it, Enter goes. On a phone the
// main pages stand in a bar at the bottom, with this box behind "More".
const WAIT_MS = 90
const REDRAWN_MS = 10_000

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".jump")
  const box = parentElement.querySelector("dialog")
  const field = parentElement.querySelector("input")
  const list = parentElement.querySelector("[role=listbox]")
  const said = parentElement.querySelector("[role=status]")
  const bar = parentElement.querySelector("nav")
  if (!root || !box || !field || !list || !said || !bar || !data) return
  // "marked" is where the keys went to, "isBehind" says that the rows are not yet those of the text.
  const state = { rows: [], at: 0, timer: 0, asked: null, marked: "", isBehind: false, goes: false }
  const isMac = navigator.platform.startsWith("Mac")
  root.querySelector("kbd").textContent = isMac ? "⌘K" : "Ctrl K"

  function opened(typed = "") {
    if (box.open) return
    field.value = typed
    box.showModal()
    field.focus()
    shown(pages(typed.toLowerCase()))
    if (typed) asks(0)
  }

  function pages(typed) {
    return data.pages
      .filter((page) => `${page.title} ${page.name}`.toLowerCase().includes(typed))
      .map((page) => ({ kind: "Page", title: page.title, note: "", href: page.path }))
  }

  function address(page, params) {
    const path = data.pages.concat(data.others).find((each) => each.name === page)?.path ?? "/"
    const parts = Object.entries(params).map(([key, value]) =>
      `${encodeURIComponent(key)}=${encodeURIComponent(value)}`
    )
    return `${path}?${parts.join("&")}`
  }

  async function ask() {
    const typed = field.value.trim()
    const own = pages(typed.toLowerCase())
    state.asked?.abort()
    if (!typed || !data.url) {
      shown(own)
      return
    }
    const asking = new AbortController()
    state.asked = asking
    try {
      const answer = await fetch(data.url + encodeURIComponent(typed), { signal: asking.signal })
      const rows = answer.ok ? await answer.json() : []
      const found = rows.map((row) => ({ ...row, href: address(row.page, row.params) }))
      const words = address("search", { ...data.search, q: typed })
      const search = { kind: "Search", title: `“${typed}”`, note: "", href: words }
      shown([...own.slice(0, 3), ...found, search])
    } catch (error) {
      if (error.name !== "AbortError") shown(own)
    }
  }

  function shown(rows) {
    state.rows = rows
    list.replaceChildren(...rows.map((row, at) => {
      const item = document.createElement("li")
      item.id = `jump-${at}`
      item.setAttribute("role", "option")
      for (const [kind, text] of [["kind", row.kind], ["title", row.title], ["note", row.note]]) {
        const part = document.createElement("span")
        part.className = kind
        part.dir = "auto"
        part.textContent = text
        item.append(part, " ")
      }
      item.onclick = () => went(at)
      item.onpointermove = () => marked(at)
      return item
    }))
    const n = rows.length
    said.textContent = n === 1 ? "1 place" : n ? `${n} places` : "Nothing here is called so."
    field.setAttribute("aria-expanded", String(n > 0))
    marked(Math.max(0, rows.findIndex((row) => row.href === state.marked)))
    const goes = state.goes
    state.isBehind = state.goes = false
    if (goes) went(state.at)
  }

  function marked(at) {
    state.at = at
    for (const [place, item] of [...list.children].entries()) {
      item.setAttribute("aria-selected", String(place === at))
      if (place === at) item.scrollIntoView({ block: "nearest" })
    }
    if (list.children.length) field.setAttribute("aria-activedescendant", `jump-${at}`)
    else field.removeAttribute("aria-activedescendant")
  }

  function went(at) {
    const row = state.rows[at]
    if (!row) return
    box.close()
    goTo(row.href)
  }

  function asks(wait) {
    clearTimeout(state.timer)
    state.isBehind = true
    state.timer = setTimeout(ask, wait)
  }

  field.oninput = () => {
    state.marked = ""
    state.goes = false
    asks(WAIT_MS)
  }
  // Keys stay in the box: the arrows turn no page behind it, and no letter is a command.
  box.onkeydown = (event) => {
    event.stopPropagation()
    const n = state.rows.length
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step && n) {
      event.preventDefault()
      marked((state.at + step + n) % n)
      state.marked = state.rows[state.at].href
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault()
      if (state.isBehind && !state.marked) state.goes = true // when the rows of the text are there
      else went(state.at)
    }
  }
  box.onclick = (event) => {
    if (event.target === box) box.close()
  }
  box.onclose = () => {
    clearTimeout(state.timer)
    state.marked = ""
    state.isBehind = state.goes = false
  }
  for (const button of parentElement.querySelectorAll(".open")) button.onclick = () => opened()

  bar.querySelectorAll("a").forEach((link) => link.remove())
  const more = bar.querySelector(".open")
  for (const page of data.pages.filter((each) => each.isMain)) {
    const link = document.createElement("a")
    link.href = page.path
    link.textContent = page.title
    if (page.path === location.pathname) link.setAttribute("aria-current", "page")
    more.before(link)
  }
  if (bar.querySelector("a[aria-current]")) more.removeAttribute("aria-current")
  else more.setAttribute("aria-current", "true")

  function pressed(event) {
    const isAsked = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey
    if (!isAsked || event.key.toLowerCase() !== "k") return
    event.preventDefault()
    event.stopImmediatePropagation()
    if (box.open) box.close()
    else opened()
  }

  // A page that is drawn while the box is open may draw the box anew: it opens as it was.
  if (box.open) asks(0)
  else if (performance.now() - (globalThis.cspJump?.left ?? -Infinity) < REDRAWN_MS) {
    opened(globalThis.cspJump.typed)
  }
  globalThis.cspJump = null

  window.addEventListener("keydown", pressed, true)
  return () => {
    window.removeEventListener("keydown", pressed, true)
    clearTimeout(state.timer)
    if (box.open) globalThis.cspJump = { typed: field.value, left: performance.now() }
  }
}
