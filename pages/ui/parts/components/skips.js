// Ways past the header and the menu of pages: the first things that keys reach, seen only then.
const SKIPS = "csp-skips"

// What lies in an element, or in the tree of a component in it.
function withinOf(selector, wanted) {
  const found = document.querySelector(`${selector} ${wanted}`)
  if (found) return found
  for (const each of document.querySelectorAll(`${selector} *`)) {
    const inner = each.shadowRoot?.querySelector(wanted)
    if (inner) return inner
  }
  return null
}

const WAYS = [
  ["Skip to the page", () => document.querySelector("[data-testid=stMain] h1")],
  [
    "Skip to the verdict",
    () => withinOf(".st-key-judging", ":is(input, button):not(:disabled)"),
  ],
  ["Skip to Copy link", () => withinOf(".st-key-share", "button")],
]

// deno-lint-ignore no-unused-vars -- for the script that follows in one component
function drawSkips() {
  if (document.querySelector(`.${SKIPS}`)) return
  const nav = document.createElement("nav")
  nav.className = SKIPS
  nav.setAttribute("aria-label", "Shortcuts")
  for (const [text, target] of WAYS) {
    const button = document.createElement("button")
    button.type = "button"
    button.textContent = text
    button.onclick = () => {
      const to = target()
      if (!to) return
      if (to.localName === "h1") to.tabIndex = -1
      to.focus()
    }
    nav.append(button)
  }
  nav.addEventListener("focusin", () => {
    WAYS.forEach(([, target], at) => nav.children[at].hidden = !target())
  })
  document.body.prepend(nav)
}
