// Where pages were scrolled to: Back and Forward lead there again, and a link leads to the top. The
// page scrolls within a box of its own, which no browser remembers, and its content comes in parts:
// what is wanted is held until the page has come to rest, or somebody takes over.
const SCROLL =
  (globalThis.__cspScroll ??= { kept: new Map(), path: location.pathname, wanted: null })
const MOST_PLACES = 100
const REST_FRAMES = 20
const LONGEST_MS = 8000

const scrolled = () => document.querySelector("[data-testid=stMain]")

// Hold the page at a place, from when it begins to change.
function holdAt(wanted) {
  const box = scrolled()
  if (!box) return
  const height = box.scrollHeight
  const end = performance.now() + LONGEST_MS
  let rested = 0
  let isNew = false
  SCROLL.wanted = wanted
  const mine = (SCROLL.mine = {})
  const hold = () => {
    const now = scrolled()
    if (SCROLL.mine !== mine || SCROLL.wanted === null || !now) return
    const state = document.querySelector("[data-test-script-state]")?.dataset.testScriptState
    rested = state === "notRunning" ? rested + 1 : 0
    isNew ||= now.scrollHeight !== height || rested === REST_FRAMES
    if (isNew && now.scrollTop !== wanted) now.scrollTop = wanted
    const isThere = Math.abs(now.scrollTop - wanted) < 2 // pictures may be on their way still
    if ((isThere && rested > 2 * REST_FRAMES) || performance.now() > end) SCROLL.wanted = null
    else requestAnimationFrame(hold)
  }
  requestAnimationFrame(hold)
}

// deno-lint-ignore no-unused-vars -- for the script that follows in one component
function keepScroll() {
  // Somebody went on by the menu of pages.
  if (SCROLL.path !== location.pathname && SCROLL.wanted === null) holdAt(0)
  SCROLL.path = location.pathname

  function noted(event) {
    if (event.target !== scrolled() || SCROLL.wanted !== null) return
    SCROLL.kept.delete(location.href)
    SCROLL.kept.set(location.href, event.target.scrollTop)
    if (SCROLL.kept.size > MOST_PLACES) SCROLL.kept.delete(SCROLL.kept.keys().next().value)
  }
  function went(event) {
    if (!event.isTrusted) return // a link of our own, see navigate.js
    const isSame = SCROLL.path === location.pathname
    SCROLL.path = location.pathname
    const kept = SCROLL.kept.get(location.href) ?? (isSame ? null : 0)
    if (kept !== null) holdAt(kept)
  }
  const taken = () => (SCROLL.wanted = null)
  const by = ["wheel", "touchstart", "pointerdown", "keydown"]
  document.addEventListener("scroll", noted, { capture: true, passive: true })
  window.addEventListener("popstate", went)
  for (const name of by) window.addEventListener(name, taken, { capture: true, passive: true })
  return () => {
    document.removeEventListener("scroll", noted, { capture: true })
    window.removeEventListener("popstate", went)
    for (const name of by) window.removeEventListener(name, taken, { capture: true })
  }
}
