// How the scores of the first labels change with gamma: a small line chart with names at the lines'
// ends and a rule at the gamma of now. Everything that comes from outside is set as text.
const SVG = "http://www.w3.org/2000/svg"
const NAME = 21
const BOX = { width: 380, height: 150, left: 34, right: 132, top: 10, bottom: 24 }

export default function (component) {
  const { data, parentElement } = component
  const svg = parentElement.querySelector("svg")
  if (!svg || !data) return
  const { width, height, left, right, top, bottom } = BOX
  const values = data.lines.flatMap((line) => line.scores)
  const pad = 0.06 * (Math.max(...values) - Math.min(...values)) || 0.05
  const low = Math.min(...values) - pad
  const high = Math.max(...values) + pad
  const x = (gamma) => left + (width - left - right) * gamma
  const y = (score) => top + ((height - top - bottom) * (high - score)) / (high - low)

  svg.setAttribute("viewBox", `0 0 ${width} ${height}`)
  svg.setAttribute("aria-label", data.words)
  const now = made("line", { class: "now", y1: top, y2: height - bottom })
  const mark = (gamma) => {
    now.setAttribute("x1", x(gamma))
    now.setAttribute("x2", x(gamma))
  }
  mark(data.gamma)
  globalThis.__cspPathsAt = mark // a step of the slider moves it before the page follows
  const drawn = [now]
  data.lines.forEach((line, k) => {
    const points = line.scores.map((score, g) => `${x(data.gammas[g])},${y(score)}`).join(" ")
    drawn.push(made("polyline", { class: k ? "line" : "line first", points }))
  })
  // Names stand at the ends of their lines, pushed apart where these meet.
  const order = data.lines.map((line, k) => [line.scores.at(-1), k]).sort((a, b) => b[0] - a[0])
  let at = top - 12
  const places = order.map(([score, k]) => [at = Math.max(at + 13, y(score) + 4), k])
  const excess = Math.max(0, at - (height - bottom + 8))
  const names = data.lines.map((line) => line.name)
  for (const [place, k] of places) {
    const attributes = { class: k ? "name" : "name first", x: width - right + 6, y: place - excess }
    const text = made("text", attributes, shortened(names, k))
    text.append(made("title", {}, names[k]))
    drawn.push(text)
  }
  for (const gamma of [0, 0.5, 1]) {
    const attributes = { class: "tick", x: x(gamma), y: height - 8, "text-anchor": "middle" }
    drawn.push(made("text", attributes, gamma ? String(gamma) : "γ = 0"))
  }
  for (const score of [low + pad, high - pad]) {
    const attributes = { class: "tick", x: left - 5, y: y(score) + 4, "text-anchor": "end" }
    drawn.push(made("text", attributes, score.toFixed(2).replace("-", "−")))
  }
  svg.replaceChildren(...drawn)
}

// A long name keeps what tells it from the others: its end, where another begins the same way.
function shortened(names, k) {
  const letters = Array.from(names[k])
  if (letters.length <= NAME) return names[k]
  const head = letters.slice(0, NAME - 1).join("")
  const isShared = names.some((other, at) => at !== k && other.startsWith(head.slice(0, NAME - 5)))
  return isShared ? `…${letters.slice(1 - NAME).join("")}` : `${head}…`
}

function made(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  if (text !== undefined) node.textContent = text
  return node
}
