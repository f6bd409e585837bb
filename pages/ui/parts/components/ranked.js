// Labels that move with the slider of gamma: each step shows its list at once, fetched ahead for
// those beside it, and the page follows with the same. What the server draws late, for a step
// before the last, gives way to what the slider shows.
const RANKED = (globalThis.__cspRanked ??= { kept: new Map(), data: null, stop: () => {} })
const MOST_LISTS = 64
const TWO_AHEAD = [1, 2, -1]

const shownGamma = () => {
  const input = document.querySelector(".st-key-_gamma input[type=range]")
  return input ? Number(Number(input.value).toFixed(2)) : null
}
const addressOf = (gamma) =>
  `${RANKED.data.route}?${new URLSearchParams({ ...RANKED.data.asked, gamma })}`

function load(gamma) {
  const url = addressOf(gamma)
  const held = RANKED.kept.get(url)
  if (held) return held
  const loading = fetch(url, { credentials: "same-origin" })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.status))))
    .catch(() => {
      RANKED.kept.delete(url)
      return null
    })
  RANKED.kept.set(url, loading)
  if (RANKED.kept.size > MOST_LISTS) RANKED.kept.delete(RANKED.kept.keys().next().value)
  return loading
}

// Of "neuron method gamma", what is before the gamma.
const whose = (of) => of.slice(0, of.lastIndexOf(" "))

async function follow(by) {
  const gamma = shownGamma()
  const { data } = RANKED
  if (gamma === null || !data) return
  const list = await load(gamma)
  const drawn = document.querySelector("[data-ranked-of]")
  if (!list || !drawn || RANKED.data !== data || shownGamma() !== gamma) return
  // The page may have come to another neuron or method, whose slider is about to be heard of.
  if (drawn.dataset.rankedOf !== list.of && whose(drawn.dataset.rankedOf) === whose(list.of)) {
    drawn.outerHTML = list.body
    globalThis.__cspPathsAt?.(gamma)
  }
  if (by) beside(gamma, by)
}

// In the direction of the last step first; one after another, so that nothing else waits for long.
async function beside(gamma, by) {
  for (const steps of TWO_AHEAD) {
    const next = Number((gamma + steps * by * RANKED.data.step).toFixed(2))
    if (next >= 0 && next <= 1) await load(next)
  }
}

export default function ({ data }) {
  RANKED.stop() // called anew with new data, before what the last call gave back
  const place = document.querySelector(".st-key-_gamma")
  if (!data || !place) return
  RANKED.data = data
  let last = shownGamma()
  const watch = new MutationObserver(() => {
    const gamma = shownGamma()
    if (gamma === last || gamma === null) return
    const by = gamma < last ? -1 : 1
    last = gamma
    follow(by)
  })
  watch.observe(place, { subtree: true, attributeFilter: ["value", "aria-valuetext"] })
  const near = () => beside(shownGamma(), -1)
  place.addEventListener("focusin", near)
  place.addEventListener("pointerenter", near)
  if (data.gamma !== last) follow(0)
  return RANKED.stop = () => {
    watch.disconnect()
    place.removeEventListener("focusin", near)
    place.removeEventListener("pointerenter", near)
  }
}
