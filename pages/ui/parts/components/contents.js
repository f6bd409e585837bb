// The headings of a long page, read when the list is opened: which there are hangs on the bundle.
export default function (component) {
  const box = component.parentElement.querySelector("details")
  const list = component.parentElement.querySelector("ol")
  if (!box || !list) return

  function way(head) {
    const item = document.createElement("li"), button = document.createElement("button")
    const told = head.cloneNode(true)
    told.querySelectorAll(".csp-quiet").forEach((each) => each.remove())
    button.type = "button"
    button.dir = "auto"
    button.textContent = told.textContent.trim()
    button.onclick = () => {
      box.open = false
      head.tabIndex = -1
      head.style.scrollMarginTop = "4.5rem" // below the header
      head.scrollIntoView({ block: "start" })
      head.focus({ preventScroll: true })
    }
    item.append(button)
    return item
  }

  box.ontoggle = () => {
    if (!box.open) return
    const heads = document.querySelectorAll("[data-testid=stMain] h2")
    list.replaceChildren(...[...heads].filter((head) => head.offsetParent).map(way))
    list.querySelector("button")?.focus()
  }
  box.onkeydown = (event) => {
    if (event.key !== "Escape" || !box.open) return
    box.open = false
    box.querySelector("summary").focus()
  }
  const outside = (event) => {
    if (!event.composedPath().includes(box)) box.open = false
  }
  document.addEventListener("pointerdown", outside)
  return () => document.removeEventListener("pointerdown", outside)
}
