// Steps to neurons that show at once: what the page begins with is fetched ahead for those beside
// this one, and drawn as soon as a step names it. The page itself follows when the walker rests or
// touches anything else; until then whatever still belongs to the neuron before is faded and out of
// reach. A verdict waits for the page, and steps wait for the verdict.
//
// All parts show what the address names, so that a late answer of the server cannot overwrite them.
const WALK = (globalThis.__cspWalk ??= {
  kept: new Map(), // pieces by the address that names them, or the promise of them
  shown: "", // the key of the address whose pieces are on the page
  drawn: "", // the neuron that the server has drawn last, and the key of its address
  drawnKey: "",
  todo: Promise.resolve(), // steps, one after another
  waiting: 0,
})
const MOST_KEPT = 48
const REST_MS = 700
const FADED = ["judging", "ranked", "near", "list", "unit"]
const OUT_OF_REACH = ["judging", "ranked"]

// An address as a key: the browser adds the bundle by itself, and the order does not matter.
function keyOf(params) {
  const held = [...new URLSearchParams(params)].filter(([name]) =>
    name !== "bundle" && name !== "v"
  )
  return JSON.stringify(held.sort())
}
const here = () => keyOf(location.search)
const part = (name) => document.querySelector(`[data-part="${name}"]`)

const SENT_MS = 3000

// Whether the server works, or is about to: a verdict is on its way until it has been answered.
function isRunning() {
  const state = document.querySelector("[data-test-script-state]")?.dataset.testScriptState
  const { sent } = WALK
  if (state !== "notRunning") {
    if (sent) sent.isSeen = true
    return true
  }
  if (!sent) return false
  const isLate = performance.now() - sent.at > SENT_MS
  if (sent.isSeen || sent.revision !== revision() || isLate) WALK.sent = null
  return Boolean(WALK.sent)
}

const revision = () => document.querySelector("[data-judged-of]")?.dataset.revision
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function sending() {
  WALK.sent = { at: performance.now(), revision: revision(), isSeen: false }
}

// The neuron that the address names.
function current() {
  const key = here()
  if (key === WALK.drawnKey) return WALK.drawn
  const params = new URLSearchParams(location.search)
  const named = ["model", "layer", "unit"].map((name) => params.get(name))
  return WALK.kept.get(key)?.of ?? (named.every(Boolean) ? named.join("/") : WALK.drawn)
}

// Whether all that the server draws belongs to the neuron on the screen.
function isFollowed() {
  const judged = document.querySelector("[data-judged-of]")
  return (
    !isRunning() && WALK.drawn === current() && (!judged || judged.dataset.judgedOf === current())
  )
}

// What the server has drawn: where its address is still that of the browser, it is all there is.
function heard(data) {
  if (WALK.data?.route !== data.route) WALK.kept.clear()
  const key = keyOf(data.address)
  Object.assign(WALK, { drawn: data.of, drawnKey: key })
  keep(key, { ...WALK.kept.get(key), of: data.of })
  if (key !== here() && WALK.data?.route === data.route) return reveal()
  WALK.data = data
  WALK.place = 0
  WALK.shown = key
  reveal()
  if (data.list) ahead(1)
}

function keep(key, piece) {
  WALK.kept.delete(key)
  WALK.kept.set(key, piece)
  for (const old of [...WALK.kept.keys()].slice(0, Math.max(0, WALK.kept.size - MOST_KEPT))) {
    if (WALK.kept.get(old).of !== WALK.drawn) WALK.kept.delete(old)
  }
}

// The neuron some steps on, and the address of its page; null where the list is not known so far.
function neighbour(by) {
  const { list } = WALK.data ?? {}
  if (!list) return null
  const at = WALK.place + by
  if (list.n) {
    const unit = (((list.at + at) % list.n) + list.n) % list.n
    return addressOf(list.model, list.layer, unit)
  }
  const found = at > 0 ? list.after[at - 1] : at < 0 ? list.before[-at - 1] : null
  return found ? addressOf(...found) : null
}

function addressOf(model, layer, unit) {
  const url = new URL(location.href)
  const named = { bundle: WALK.data.bundle, model, layer, unit, v: WALK.data.version }
  for (const [name, value] of Object.entries(named)) url.searchParams.set(name, value)
  return url
}

function load(url) {
  const key = keyOf(url.search)
  const held = WALK.kept.get(key)
  if (held?.parts || held?.loading) return held.loading ?? held
  const loading = fetch(WALK.data.route + url.search, { credentials: "same-origin" })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.status))))
    .then(async (piece) => {
      if (piece.tiles) {
        piece.items = tileItems(piece.tiles)
        await Promise.allSettled(piece.tiles.packs.map(loadPack))
        const first = piece.items.flatMap((item) => [...item.querySelectorAll("img")]).slice(0, 24)
        await Promise.allSettled(first.filter((image) => image.src).map((image) => image.decode()))
      }
      keep(key, piece)
      return piece
    })
    .catch(() => {
      WALK.kept.delete(key)
      return null
    })
  keep(key, { ...held, loading })
  return loading
}

// The next in the direction of the walk first, then one more, then the one behind.
function ahead(by) {
  const urls = [by, 2 * by, -by].map(neighbour).filter(Boolean)
  urls.reduce((before, url) => before.then(() => load(url)), Promise.resolve())
}

// Steps that come while others wait: held keys drop them, presses do not.
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function step(by, isHeld) {
  if (isHeld && WALK.waiting) return
  WALK.waiting += 1
  const act = () => toNeighbour(by, isHeld)
  WALK.todo = WALK.todo.then(act).catch(() => {}).finally(() => (WALK.waiting -= 1))
}

async function toNeighbour(by, isHeld) {
  if (!neighbour(by)) await followed() // the list goes on further than it was told
  const url = neighbour(by)
  if (!url) return
  const held = WALK.kept.get(keyOf(url.search))
  const piece = held?.parts ? held : await load(url)
  while (WALK.judging) await WALK.judging
  if (!piece?.tiles || !globalThis.__cspTiles) return goTo(url.href)
  if (isHeld) history.replaceState({}, "", url) // one step back leads to where the key went down
  else history.pushState({}, "", url)
  WALK.place += by
  show(piece)
  WALK.last = performance.now()
  rest(REST_MS)
  ahead(by)
  await new Promise((done) => requestAnimationFrame(done)) // a held key leaves time to paint
}

// Draw the pieces of the neuron that the address names, wherever others are.
function show(piece) {
  WALK.shown = here()
  fill(piece)
  if (piece.tiles) globalThis.__cspTiles?.(piece)
  if (WALK.said && piece.said) WALK.said.textContent = piece.said
  reveal()
}

// What the server drew is kept before it is replaced: it will not draw the same a second time.
function fill(piece) {
  const own = WALK.kept.get(WALK.drawnKey)
  for (const [name, body] of Object.entries(piece.parts ?? {})) {
    const drawn = part(name)
    if (!drawn || drawn.dataset.of === piece.of) continue
    if (own && own.of === drawn.dataset.of) (own.parts ??= {})[name] ??= drawn.outerHTML
    drawn.outerHTML = body
  }
  if (own && WALK.tiles?.of === own.of) own.tiles ??= WALK.tiles
}

// Fade what is not of the neuron on the screen yet, and watch for it to come.
function reveal() {
  const isBehind = WALK.drawn !== current()
  document.documentElement.toggleAttribute("data-csp-ahead", isBehind)
  for (const name of FADED) {
    const element = document.querySelector(`.st-key-${name}`)
    if (!element) continue
    element.classList.toggle("csp-behind", isBehind)
    if (OUT_OF_REACH.includes(name)) element.inert = isBehind
  }
  if (!isBehind) return watcher.disconnect()
  watcher.observe(document.querySelector("[data-testid=stMain]") ?? document.body, {
    childList: true,
    subtree: true,
  })
}

const watcher = (WALK.watcher ??= new MutationObserver(() => WALK.redraw()))
// A late answer has drawn another neuron than the address names.
WALK.redraw = () => {
  const piece = WALK.kept.get(here())
  if (piece) fill(piece)
}

// Of tiles that the server sends late: those that belong on the page. For the grid's own script.
WALK.tilesFor = (data) => {
  if (!data.of) return data
  WALK.tiles = data
  if (current() === data.of) return data
  return WALK.kept.get(here())?.tiles ?? data
}

// Have the server draw what the address names, after a while without steps.
function rest(milliseconds) {
  clearTimeout(WALK.timer)
  WALK.timer = setTimeout(follow, milliseconds)
}

// Never while the server works: what was pressed just now (a verdict, the end of a note) would be
// dropped for it, because Streamlit lets a newer request end the run of an older one.
function follow() {
  if (isRunning()) return rest(30)
  clearTimeout(WALK.timer)
  WALK.timer = 0
  if (WALK.drawn !== current()) goTo(location.href)
}

// Resolves when the whole page is that of the neuron on the screen, or after ten seconds.
async function followed() {
  const end = performance.now() + 10_000
  while (!isFollowed() && performance.now() < end) {
    const isIdle = !isRunning() && WALK.drawn !== current()
    if (isIdle) follow()
    await new Promise((done) => setTimeout(done, isIdle ? 150 : 20))
  }
  return isFollowed()
}

// Press a verdict for the neuron that is on the screen now, once the page has come to it; steps wait.
// Where the page has turned by other means meanwhile, it is dropped: it was meant for another neuron.
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function judge(press) {
  const of = current()
  if (isFollowed() && !WALK.judging) return press()
  const before = WALK.judging ?? Promise.resolve()
  const mine = before.then(async () => {
    if (current() === of && (await followed()) && current() === of) press()
    else if (WALK.said) WALK.said.textContent = "No verdict given: the page had turned."
  }).finally(() => WALK.judging === mine && (WALK.judging = null))
  WALK.judging = mine
}

// Who moves the pointer or presses another key is about to touch the page.
function touched(event) {
  if (!WALK.timer) return
  const since = performance.now() - (WALK.last ?? 0)
  rest(event.type === "pointermove" ? Math.max(0, 250 - since) : 0)
}

function wentBack() {
  const piece = WALK.kept.get(here())
  WALK.place = placeOf(current())
  if (piece?.parts && here() !== WALK.shown) show(piece)
  else reveal()
}

// How many steps from where the server has drawn the list.
function placeOf(of) {
  const { list } = WALK.data ?? {}
  if (!list) return 0
  if (list.n) return Number(of.split("/").at(-1)) - list.at || 0
  const at = (names) => names.findIndex((name) => name.join("/") === of) + 1
  return at(list.after) || -at(list.before) || 0
}

// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function walking(data, said) {
  WALK.said = said
  heard(data)
  window.addEventListener("pointermove", touched, { passive: true })
  window.addEventListener("pointerdown", touched, true)
  window.addEventListener("popstate", wentBack)
  return () => {
    window.removeEventListener("pointermove", touched)
    window.removeEventListener("pointerdown", touched, true)
    window.removeEventListener("popstate", wentBack)
    document.documentElement.removeAttribute("data-csp-ahead")
  }
}
