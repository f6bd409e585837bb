// Letter keys that press the buttons of the page: for hands that stay on the keyboard, and for those
// to whom arrow keys mean something else. They can be turned off (WCAG 2.1.4), and stay off in this
// browser. A key typed into a field, chosen in a list or pressed in an open box is left alone.
const KEPT = "csp-letter-keys"
const STEPS = { next: 1, previous: -1 }
const ARROWS = { ArrowRight: "next", ArrowLeft: "previous" }
const TURNED = "[role=slider], [role=tablist], [role=radiogroup], [role=grid], .map"
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

  // Steps and verdicts go by the neuron on the screen, see walk.js; all else presses its button.
  function act({ button, at }, isHeld) {
    const by = STEPS[button]
    if (by && data.walk.list) return step(by, isHeld)
    const press = () => {
      const found = document.querySelectorAll(`.st-key-${button} button`)[at]
      // A choice that is made already stays: to take it back is a click's work, not a slip's.
      if (found && !found.disabled && found.getAttribute("aria-checked") !== "true") found.click()
    }
    if (by || button === "random") press()
    else judge(press)
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return
    const path = event.composedPath()
    if (path.some((node) => node.matches?.(TAKEN)) || document.querySelector("[role=dialog]")) {
      return
    }
    const arrow = ARROWS[event.key]
    if (arrow && (event.shiftKey || path.some((node) => node.matches?.(TURNED)))) return
    const letter = isOn() && data.keys.find((each) => each.key === event.key.toLowerCase())
    const found = arrow ? { button: arrow, at: 0 } : letter
    if (!found || !document.querySelectorAll(`.st-key-${found.button} button`)[found.at]) return
    // Before Streamlit sees it: to Streamlit, R is "run again".
    event.preventDefault()
    event.stopImmediatePropagation()
    act(found, event.repeat)
  }

  function clicked(event) {
    const button = event.composedPath().find((node) => node.localName === "button")
    if (button?.closest(".st-key-verdict")) sending()
    const name = Object.keys(STEPS).find((each) => button?.closest(`.st-key-${each}`))
    if (!name || !event.isTrusted || !data.walk.list) return
    event.preventDefault()
    event.stopImmediatePropagation()
    step(STEPS[name], false)
  }

  const stop = walking(data.walk, parentElement.querySelector(".said"))
  window.addEventListener("keydown", pressed, true)
  window.addEventListener("click", clicked, true)
  return () => {
    stop()
    window.removeEventListener("keydown", pressed, true)
    window.removeEventListener("click", clicked, true)
  }
}
