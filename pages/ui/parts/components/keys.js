// Letter keys that press the buttons of the page: for hands that stay on the keyboard, and for those
// to whom arrow keys mean something else. They can be turned off (WCAG 2.1.4), and stay off in this
// browser. A key typed into a field, chosen in a list or pressed in an open box is left alone.
const KEPT = "csp-letter-keys"
const TAKEN =
  "input, textarea, select, dialog, [contenteditable=true], [role=dialog], [role=listbox], [role=combobox]"

export default function (component) {
  const { data, parentElement } = component
  const words = parentElement.querySelector(".words")
  const toggle = parentElement.querySelector("button")
  if (!words || !toggle || !data) return

  const parts = data.words.flatMap(({ cap, name }) => {
    const drawn = document.createElement("kbd")
    drawn.textContent = cap
    return [drawn, ` ${name} `]
  })
  words.replaceChildren(...parts)

  function isOn() {
    try {
      return localStorage.getItem(KEPT) !== "off"
    } catch {
      return true // a browser that keeps nothing
    }
  }

  function draw() {
    toggle.textContent = isOn() ? "letter keys on" : "letter keys off"
    toggle.classList.toggle("on", isOn())
    words.classList.toggle("off", !isOn())
  }

  toggle.onclick = () => {
    try {
      localStorage.setItem(KEPT, isOn() ? "off" : "on")
    } catch {
      // as above
    }
    draw()
  }
  draw()

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !isOn()) return
    const found = data.keys.find((each) => each.key === event.key.toLowerCase())
    if (!found || event.composedPath().some((node) => node.matches?.(TAKEN))) return
    if (document.querySelector("[role=dialog]")) return
    const button = document.querySelectorAll(`.st-key-${found.button} button`)[found.at]
    if (!button) return
    // Before Streamlit sees it: to Streamlit, R is "run again".
    event.preventDefault()
    event.stopImmediatePropagation()
    // A choice that is made already stays: to take it back is a click's work, not a slip's.
    const isChosen = button.getAttribute("aria-checked") === "true"
    if (!button.disabled && !isChosen) button.click()
  }

  window.addEventListener("keydown", pressed, true)
  return () => window.removeEventListener("keydown", pressed, true)
}
