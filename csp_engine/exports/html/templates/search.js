"use strict"
/* The search box of a published site. Its index comes in scripts, for pages that open from disk may not fetch. */

const LABELS_AT_ONCE = 20
const NEURONS_AT_ONCE = 12
const LONGEST_WORD = 40

const form = document.querySelector("#search")
const list = document.querySelector("#found")
const more = document.querySelector("#more")
const said = form.querySelector("[role=status]")
const waiting = new Map()
const kept = new Map()
let index
let asked = 0

globalThis.cspIndex = (held) => {
  index = held
}
globalThis.cspShard = (number, labels) => kept.set(number, labels)

function script(path) {
  if (!waiting.has(path)) {
    waiting.set(
      path,
      new Promise((done, failed) => {
        const element = document.createElement("script")
        element.src = path
        element.addEventListener("load", done)
        element.addEventListener("error", () => {
          waiting.delete(path)
          failed(new Error(path))
        })
        document.head.append(element)
      }),
    )
  }
  return waiting.get(path)
}

function wordsOf(text) {
  const words = text.toLowerCase().split(/[^\p{L}\p{N}\p{M}]+/u).filter(Boolean)
  return words.map((word) => Array.from(word).slice(0, LONGEST_WORD).join(""))
}

function bucketsOf(word) {
  return index.buckets.filter(([start, isWord]) =>
    start.startsWith(word) || (!isWord && word.startsWith(start))
  )
}

/* Labels with words that begin as all of these do, shard by shard, from the word with the fewest. */
async function* labelsOf(words) {
  const count = (buckets) => buckets.reduce((sum, bucket) => sum + bucket[2], 0)
  const choices = words.map(bucketsOf).sort((a, b) => count(a) - count(b))
  const seen = new Set()
  for (const [, , , first, n] of choices[0]) {
    for (let number = first; number < first + n; number++) {
      await script(`search/${number}.js`)
      for (const label of kept.get(number)) {
        const own = wordsOf(label[0])
        if (
          !seen.has(label[0]) && words.every((word) => own.some((each) => each.startsWith(word)))
        ) {
          seen.add(label[0])
          yield label
        }
      }
    }
  }
}

function element(name, text, kind) {
  const made = document.createElement(name)
  if (text !== undefined) made.textContent = text
  if (kind) made.className = kind
  return made
}

const number = (n) => n.toLocaleString("en")

/* Layer after layer, the neurons that a label names, reliable ones first in each. */
function places(groups, first, last) {
  const rows = []
  let at = 0
  for (const [folder, good, others] of groups) {
    const [path, name] = index.folders[folder]
    const line = element("span", undefined, "which")
    line.append(element("bdi", name, "quiet"), " ")
    const units = [...good, ...others]
    for (let k = Math.max(0, first - at); k < Math.min(units.length, last - at); k++) {
      const link = element("a", units[k], k < good.length ? "" : "unclear")
      link.href = `${path}/${units[k]}.html`
      link.setAttribute("aria-label", `Neuron ${name}/${units[k]}`)
      line.append(link, " ")
    }
    if (line.querySelector("a")) rows.push(line)
    at += units.length
  }
  return rows
}

function row([text, nReliable, nNeurons, groups]) {
  const item = element("li")
  const neurons = nNeurons === 1 ? "1 neuron" : `${number(nNeurons)} neurons`
  item.append(
    element("bdi", text, "label clamp"),
    element("span", `${neurons}, reliable for ${number(nReliable)}`, "quiet"),
    ...places(groups, 0, NEURONS_AT_ONCE),
  )
  const n = groups.reduce((sum, [, good, others]) => sum + good.length + others.length, 0)
  if (n > NEURONS_AT_ONCE) {
    const rest = element("button", `${number(n - NEURONS_AT_ONCE)} more`, "more")
    rest.type = "button"
    rest.addEventListener("click", () => rest.replaceWith(...places(groups, NEURONS_AT_ONCE, n)))
    item.append(rest)
  }
  if (nNeurons > n) {
    item.append(
      element("span", `and ${number(nNeurons - n)} more, which no link leads to`, "quiet"),
    )
  }
  return item
}

async function search() {
  const turn = ++asked
  const words = wordsOf(form.elements.text.value)
  more.hidden = true
  if (!words.length) {
    list.replaceChildren()
    said.textContent = ""
    return
  }
  try {
    if (!index) said.textContent = "Reading the index …"
    await script("search/index.js")
    if (turn !== asked) return
    const found = labelsOf(words)
    let shown = 0
    const step = async () => {
      const rows = []
      let next = await found.next()
      while (!next.done) {
        rows.push(row(next.value))
        if (rows.length === LABELS_AT_ONCE) break
        next = await found.next()
      }
      if (turn !== asked) return
      if (shown) list.append(...rows)
      else list.replaceChildren(...rows)
      shown += rows.length
      more.hidden = next.done
      const labels = shown === 1 ? "1 label" : `${number(shown)} labels`
      said.textContent = !next.done
        ? `The first ${labels}`
        : shown
        ? labels
        : `None of ${number(index.nLabels)} labels has words that begin so`
    }
    more.onclick = () => step().catch(() => complain(turn))
    await step()
  } catch {
    complain(turn)
  }
}

function complain(turn) {
  if (turn === asked) said.textContent = "A part of the index cannot be read; try again"
}

form.hidden = false
form.addEventListener("submit", (event) => event.preventDefault())
form.addEventListener("input", search)
search()
