// A map of neurons: points from one cached request, drawn by WebGL, coloured by one byte each.
// Drag moves, wheel or pinch zooms, hovering shows a card, a click opens the neuron, a lasso sends
// its polygon. The table below the map, and the one it links to, hold the same neurons.
const MAPS = new WeakMap()
const POINTS = (globalThis.__cspPoints ??= new Map())
const CARDS = (globalThis.__cspMapCards ??= new Map())
const MISSING = 255
const MAX_CORNERS = 40

const VERTEX = `
attribute vec2 place; attribute float value; attribute float inside;
uniform vec2 scale; uniform vec2 shift; uniform mediump float size; uniform float here;
uniform float grown; uniform float least; uniform float most;
attribute float id;
varying float v; varying float dim; varying float ring;
void main() {
  v = value; dim = inside; ring = abs(id - here) < 0.5 ? 1.0 : 0.0;
  gl_Position = vec4(place * scale + shift, 0.0, 1.0);
  float larger = value > 0.999 ? 1.0 : 1.0 + grown * value * value;
  gl_PointSize = size * max(larger, ring > 0.5 ? 2.4 : 1.0);
  if (value < least || value >= most) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
}`
const FRAGMENT = `
precision mediump float;
uniform sampler2D colours; uniform vec3 ink; uniform float size;
varying float v; varying float dim; varying float ring;
void main() {
  float r = length(gl_PointCoord - 0.5) * 2.0;
  float edge = 1.0 / max(size, 2.0);
  float alpha = 1.0 - smoothstep(1.0 - 2.0 * edge, 1.0, r);
  vec4 colour = texture2D(colours, vec2((v * 255.0 + 0.5) / 256.0, 0.5));
  if (ring > 0.5 && r > 0.62) colour = vec4(ink, 1.0);
  if (alpha <= 0.0) discard;
  float a = alpha * colour.a * (dim > 0.5 || ring > 0.5 ? 1.0 : 0.10);
  gl_FragColor = vec4(colour.rgb * a, a);
}`

// uint32 count, then per point uint16 x, uint16 y (0..65535, y upwards), uint16 place, uint32 unit.
function loadPoints(url) {
  if (!POINTS.has(url)) {
    POINTS.clear()
    POINTS.set(
      url,
      fetch(url, { credentials: "same-origin" })
        .then((answer) => {
          if (!answer.ok) throw new Error(`points: ${answer.status}`)
          return answer.arrayBuffer()
        })
        .then((body) => {
          const n = new DataView(body).getUint32(0, true)
          return {
            n,
            unit: new Uint32Array(body, 4, n),
            xy: new Uint16Array(body, 4 + 4 * n, 2 * n),
            place: new Uint16Array(body, 4 + 8 * n, n),
          }
        })
        .catch((error) => {
          POINTS.delete(url)
          throw error
        }),
    )
  }
  return POINTS.get(url)
}

// Buckets of a 256 x 256 grid, so that the nearest point is found without looking at all.
function grid(xy, n) {
  const start = new Uint32Array(65537)
  const cell = (i) => (xy[2 * i] >> 8) * 256 + (xy[2 * i + 1] >> 8)
  for (let i = 0; i < n; i++) start[cell(i) + 1] += 1
  for (let c = 0; c < 65536; c++) start[c + 1] += start[c]
  const next = start.slice(), member = new Uint32Array(n)
  for (let i = 0; i < n; i++) member[next[cell(i)]++] = i
  return { start, member }
}

function insideOf(xy, n, area) {
  const inside = new Uint8Array(n).fill(255)
  if (!area.length) return inside
  const corners = area.length / 2
  for (let i = 0; i < n; i++) {
    const x = xy[2 * i], y = xy[2 * i + 1]
    let is = false
    for (let a = 0, b = corners - 1; a < corners; b = a++) {
      const ax = area[2 * a], ay = area[2 * a + 1], bx = area[2 * b], by = area[2 * b + 1]
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) is = !is
    }
    if (!is) inside[i] = 0
  }
  return inside
}

// Fewer corners of nearly the same outline: drop those whose triangle is smallest.
function simplified(path) {
  const kept = path.slice()
  const triangle = (i) => {
    const [a, b, c] = [-1, 0, 1].map((d) => kept[(i + d + kept.length) % kept.length])
    return Math.abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]))
  }
  while (kept.length > MAX_CORNERS) {
    let least = 0
    for (let i = 1; i < kept.length; i++) if (triangle(i) < triangle(least)) least = i
    kept.splice(least, 1)
  }
  return kept
}

function node(tag, className, text) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}

function shader(gl, kind, source) {
  const made = gl.createShader(kind)
  gl.shaderSource(made, source)
  gl.compileShader(made)
  return made
}

class NeuronMap {
  constructor(root) {
    this.root = root
    this.canvas = root.querySelector(".points")
    this.drawn = root.querySelector(".drawn")
    this.card = root.querySelector(".card")
    this.legend = root.parentElement.querySelector(".legend")
    this.gl = this.canvas.getContext("webgl", { antialias: false, premultipliedAlpha: true })
    this.view = { x: 0.5, y: 0.5, zoom: 1 }
    this.pointers = new Map()
    this.area = []
    if (!this.gl) return
    const gl = this.gl, program = gl.createProgram()
    gl.attachShader(program, shader(gl, gl.VERTEX_SHADER, VERTEX))
    gl.attachShader(program, shader(gl, gl.FRAGMENT_SHADER, FRAGMENT))
    gl.linkProgram(program)
    gl.useProgram(program)
    gl.enable(gl.BLEND)
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA)
    this.at = (name) => gl.getUniformLocation(program, name)
    this.attribute = (name) => gl.getAttribLocation(program, name)
    this.texture = gl.createTexture()
    this.tools()
    this.listen()
    this.watch = new ResizeObserver(() => this.draw())
    this.watch.observe(root)
    root.addEventListener("transitionend", (event) => {
      if (event.target === root && event.propertyName === "color") this.paint()
    })
  }

  buffer(name, values, size, type, normalised) {
    const gl = this.gl
    this.buffers ??= {}
    this.buffers[name] ??= gl.createBuffer()
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name])
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW)
    gl.enableVertexAttribArray(this.attribute(name))
    gl.vertexAttribPointer(this.attribute(name), size, type, normalised, 0, 0)
  }

  show(data, send) {
    this.send = send
    const before = this.data
    this.data = data
    this.canvas.setAttribute("aria-label", data.label)
    if (!this.gl) {
      this.root.querySelector(".empty").textContent = data.noWebgl
      return
    }
    const fresh = before?.points !== data.points
    loadPoints(data.points).then((points) => {
      if (this.data !== data) return
      const gl = this.gl
      if (fresh || this.points !== points) {
        this.points = points
        this.grid = grid(points.xy, points.n)
        this.buffer("place", points.xy, 2, gl.UNSIGNED_SHORT, true)
        this.buffer("id", Float32Array.from({ length: points.n }, (_, i) => i), 1, gl.FLOAT, false)
        const extent = (axis) => {
          let low = 65535, high = 0
          for (let i = axis; i < 2 * points.n; i += 2) {
            if (points.xy[i] < low) low = points.xy[i]
            if (points.xy[i] > high) high = points.xy[i]
          }
          return Math.max(0.05, (high - low) / 65535)
        }
        this.box = [extent(0), extent(1)]
        if (fresh) this.view = { x: 0.5, y: 0.5, zoom: 1 }
      }
      const values = Uint8Array.from(atob(data.values), (c) => c.charCodeAt(0))
      this.buffer("value", values, 1, gl.UNSIGNED_BYTE, true)
      this.setArea(data.area)
      this.here = data.here
        ? points.unit.findIndex((u, i) => u === data.here[1] && points.place[i] === data.here[0])
        : -1
      this.paint()
      this.root.dataset.ready = String(points.n)
    }).catch(() => {
      this.root.querySelector(".empty").textContent =
        "The map could not be loaded; reload the page."
    })
  }

  setArea(area) {
    this.area = area
    this.buffer(
      "inside",
      insideOf(this.points.xy, this.points.n, area),
      1,
      this.gl.UNSIGNED_BYTE,
      true,
    )
    this.list.hidden = this.clear.hidden = !area.length
  }

  isDark() {
    const [r, g, b] = getComputedStyle(this.root).backgroundColor.match(/[\d.]+/g).map(Number)
    return r + g + b < 384
  }

  // Colours and legend for the theme of the moment.
  paint() {
    if (!this.points) return
    const gl = this.gl, theme = this.isDark() ? "dark" : "light"
    const { colours, missing } = this.data.palette[theme]
    const bytes = new Uint8Array(1024)
    const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16))
    const isRamp = this.data.legend.kind === "ramp"
    for (let v = 0; v < 255; v++) {
      let colour
      if (isRamp) {
        const t = (v / 254) * (colours.length - 1), i = Math.min(Math.floor(t), colours.length - 2)
        const [a, b] = [rgb(colours[i]), rgb(colours[i + 1])]
        colour = a.map((x, c) => x + (b[c] - x) * (t - i))
      } else colour = rgb(colours[v % colours.length])
      bytes.set([...colour, 225], 4 * v)
    }
    bytes.set([...rgb(missing), 150], 4 * MISSING)
    gl.bindTexture(gl.TEXTURE_2D, this.texture)
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, bytes)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE)
    this.ink = this.isDark() ? [0.92, 0.95, 0.94] : [0.06, 0.09, 0.08]

    const { legend } = this.data
    const parts = [node("p", "name", legend.title)]
    const list = node("ul")
    const entry = (colour, text) => {
      const item = node("li"), dot = node("span", "dot"), name = node("span", "", text)
      dot.style.background = colour
      name.dir = "auto"
      item.append(dot, name)
      list.append(item)
    }
    if (isRamp) {
      const ramp = node("div", "ramp"), ends = node("div", "ends")
      ramp.style.background = `linear-gradient(to right, ${colours.join(",")})`
      ends.append(node("span", "", legend.low), node("span", "", legend.high))
      parts.push(ramp, ends)
    } else legend.names.forEach((text, i) => entry(colours[i % colours.length], text))
    if (legend.missing) entry(missing, legend.missing)
    this.legend.replaceChildren(...parts, list)
    this.draw()
  }

  // Pixels (of CSS) to map coordinates 0..1 and back.
  frame() {
    const { clientWidth: w, clientHeight: h } = this.root
    const [bw, bh] = this.box ?? [1, 1]
    const span = Math.min((w * 0.94) / bw, (h * 0.88) / bh) * this.view.zoom
    return {
      w,
      h,
      span,
      toMap: (px, py) => [this.view.x + (px - w / 2) / span, this.view.y - (py - h / 2) / span],
      toPixel: (x, y) => [w / 2 + (x - this.view.x) * span, h / 2 - (y - this.view.y) * span],
    }
  }

  draw() {
    if (this.waiting || !this.points) return
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0
      const gl = this.gl, { w, h, span } = this.frame(), dpr = globalThis.devicePixelRatio || 1
      for (const canvas of [this.canvas, this.drawn]) {
        const [cw, ch] = [Math.round(w * dpr), Math.round(h * dpr)]
        if (canvas.width !== cw || canvas.height !== ch) {
          Object.assign(canvas, { width: cw, height: ch })
        }
      }
      gl.viewport(0, 0, this.canvas.width, this.canvas.height)
      gl.clearColor(0, 0, 0, 0)
      gl.clear(gl.COLOR_BUFFER_BIT)
      const crowd = Math.sqrt((w * h) / Math.max(1, this.points.n))
      this.size = Math.min(11, Math.max(2.4, 0.36 * crowd) * Math.pow(this.view.zoom, 0.45))
      gl.uniform2f(this.at("scale"), (2 * span) / w, (2 * span) / h)
      gl.uniform2f(this.at("shift"), (-2 * span * this.view.x) / w, (-2 * span * this.view.y) / h)
      gl.uniform1f(this.at("size"), this.size * dpr)
      gl.uniform1f(this.at("here"), this.here ?? -1)
      gl.uniform3f(this.at("ink"), ...this.ink)
      gl.uniform1f(this.at("grown"), this.data.grows ? 2.2 : 0)
      // What has no value lies below all else.
      for (const [least, most] of [[0.999, 2], [-1, 0.5], [0.5, 0.999]]) {
        gl.uniform1f(this.at("least"), least)
        gl.uniform1f(this.at("most"), most)
        gl.drawArrays(gl.POINTS, 0, this.points.n)
      }
      this.outline(dpr)
    })
  }

  // The lasso, being drawn or done.
  outline(dpr) {
    const pen = this.drawn.getContext("2d"), { toPixel } = this.frame()
    pen.setTransform(dpr, 0, 0, dpr, 0, 0)
    pen.clearRect(0, 0, this.drawn.width, this.drawn.height)
    this.write(pen)
    const corners = this.path ?? []
    if (!this.path) {
      for (let i = 0; i < this.area.length; i += 2) {
        corners.push([this.area[i] / 65535, this.area[i + 1] / 65535])
      }
    }
    if (corners.length < 2) return
    pen.beginPath()
    corners.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](...toPixel(x, y)))
    pen.closePath()
    pen.strokeStyle = getComputedStyle(this.root).getPropertyValue("--st-primary-color") ||
      "#0f766e"
    pen.lineWidth = 1.5
    pen.setLineDash([5, 4])
    pen.stroke()
  }

  // Names of families where their neurons lie, the largest first; none over another.
  write(pen) {
    const { toPixel, w, h } = this.frame(), style = getComputedStyle(this.root), taken = []
    pen.font = `600 12px ${style.fontFamily}`
    pen.textAlign = "center"
    pen.textBaseline = "middle"
    pen.lineJoin = "round"
    pen.setLineDash([])
    for (const [at, [name, gx, gy]] of this.data.names.entries()) {
      const text = name.length > 28 ? `${name.slice(0, 27)}…` : name
      const half = pen.measureText(text).width / 2 + 6
      const [px, place] = toPixel(gx / 65535, gy / 65535)
      const py = at === 0 && this.data.grows ? place - 14 : place // the answer stays in sight
      if (px < 0 || px > w || py < 0 || py > h) continue
      const x = Math.min(Math.max(px, half), w - half), y = Math.min(Math.max(py, 12), h - 12)
      if (
        taken.some((other) =>
          Math.abs(other.x - x) < other.half + half && Math.abs(other.y - y) < 18
        )
      ) {
        continue
      }
      taken.push({ x, y, half })
      pen.lineWidth = 4
      pen.strokeStyle = style.backgroundColor
      pen.strokeText(text, x, y)
      pen.fillStyle = style.color
      pen.fillText(text, x, y)
    }
  }

  // The point nearest to another in the direction of an arrow, within 45 degrees of it.
  beside(i, [dx, dy]) {
    const { xy, n } = this.points
    let best = -1, least = Infinity
    for (let j = 0; j < n; j++) {
      const x = xy[2 * j] - xy[2 * i], y = xy[2 * j + 1] - xy[2 * i + 1]
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx)
      if (along <= 0 || across > along) continue
      if (along + across < least) {
        least = along + across
        best = j
      }
    }
    return best
  }

  // The point nearest to the middle of what is shown.
  middle() {
    const { xy, n } = this.points, [x, y] = [this.view.x * 65535, this.view.y * 65535]
    let best = -1, least = Infinity
    for (let j = 0; j < n; j++) {
      const far = Math.hypot(xy[2 * j] - x, xy[2 * j + 1] - y)
      if (far < least) {
        least = far
        best = j
      }
    }
    return best
  }

  // Chooses a point by keys: it stays in sight and has its card.
  choose(i) {
    if (i < 0) return
    const { xy } = this.points, { toPixel, w, h } = this.frame()
    const [px, py] = toPixel(xy[2 * i] / 65535, xy[2 * i + 1] / 65535)
    if (px < 20 || px > w - 20 || py < 20 || py > h - 20) this.move(w / 2 - px, h / 2 - py)
    this.chosen = i
    this.hover(i, true)
  }

  nearest(px, py) {
    const { toMap, span } = this.frame(), { xy } = this.points
    const [x, y] = toMap(px, py).map((v) => v * 65535)
    const reach = ((this.size / 2 + 5) / span) * 65535
    const cell = (v) => Math.min(255, Math.max(0, Math.floor(v) >> 8))
    let best = -1, least = reach * reach
    for (let cx = cell(x - reach); cx <= cell(x + reach); cx++) {
      for (let cy = cell(y - reach); cy <= cell(y + reach); cy++) {
        const c = cx * 256 + cy
        for (let m = this.grid.start[c]; m < this.grid.start[c + 1]; m++) {
          const i = this.grid.member[m], dx = xy[2 * i] - x, dy = xy[2 * i + 1] - y
          if (dx * dx + dy * dy < least) {
            least = dx * dx + dy * dy
            best = i
          }
        }
      }
    }
    return best
  }

  zoom(factor, px, py) {
    const { w, h, toMap } = this.frame(), [x, y] = toMap(px ?? w / 2, py ?? h / 2)
    const zoom = Math.min(400, Math.max(0.5, this.view.zoom * factor))
    const by = this.view.zoom / zoom
    this.view = { x: x + (this.view.x - x) * by, y: y + (this.view.y - y) * by, zoom }
    this.hide()
    this.draw()
  }

  move(dx, dy) {
    const { span } = this.frame()
    this.view.x -= dx / span
    this.view.y += dy / span
    this.hide()
    this.draw()
  }

  tools() {
    const bar = this.root.querySelector(".tools")
    const button = (text, label, act) => {
      const made = node("button", "", text)
      made.type = "button"
      made.setAttribute("aria-label", label)
      made.onclick = act
      bar.append(made)
      return made
    }
    const lasso = button("Lasso", "Draw around neurons to list them", () => {
      const isOn = this.root.classList.toggle("lasso")
      lasso.setAttribute("aria-pressed", String(isOn))
    })
    lasso.setAttribute("aria-pressed", "false")
    this.lasso = lasso
    button("+", "Closer", () => this.zoom(1.5))
    button("−", "Farther", () => this.zoom(1 / 1.5))
    button("Whole map", "Show the whole map", () => {
      this.view = { x: 0.5, y: 0.5, zoom: 1 }
      this.hide()
      this.draw()
    })
    this.clear = button("Clear selection", "List no neurons", () => this.send("area", []))
    // The map fills the screen, so that nobody would see that a list has come.
    this.list = button("See the list", "Go to the list of neurons in the selection", () => {
      document.querySelector("#selection")?.scrollIntoView({ block: "start" })
    })
    this.list.hidden = this.clear.hidden = true
  }

  listen() {
    const { canvas } = this
    const place = (event) => {
      const box = this.root.getBoundingClientRect()
      return [event.clientX - box.left, event.clientY - box.top]
    }
    canvas.onpointerdown = (event) => {
      if (!this.points) return
      canvas.setPointerCapture(event.pointerId)
      this.pointers.set(event.pointerId, place(event))
      this.moved = 0
      if (this.root.classList.contains("lasso") || event.shiftKey) {
        this.path = [this.frame().toMap(...place(event))]
        this.hide()
      }
    }
    canvas.onpointermove = (event) => {
      if (!this.points) return
      const [px, py] = place(event), held = this.pointers.get(event.pointerId)
      if (!held) {
        const i = event.pointerType === "touch" ? -1 : this.nearest(px, py)
        this.root.classList.toggle("pointing", i >= 0)
        if (i !== this.shown) this.hover(i)
        return
      }
      this.moved += Math.abs(px - held[0]) + Math.abs(py - held[1])
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1]
        const span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1
        this.zoom(span([px, py]) / span(held), (px + other[0]) / 2, (py + other[1]) / 2)
      } else if (this.path) {
        this.path.push(this.frame().toMap(px, py))
        this.draw()
      } else if (this.moved > 3) this.move(px - held[0], py - held[1])
      this.pointers.set(event.pointerId, [px, py])
    }
    canvas.onpointerup = (event) => {
      const isOne = this.pointers.size === 1
      this.pointers.delete(event.pointerId)
      if (this.path) {
        const corners = simplified(this.path).map((pair) =>
          pair.map((v) => Math.round(Math.min(1, Math.max(0, v)) * 65535))
        )
        this.path = undefined
        if (corners.length > 2 && this.moved > 20) {
          this.setArea(corners.flat())
          this.send("area", this.area)
          this.root.classList.remove("lasso")
          this.lasso.setAttribute("aria-pressed", "false")
        }
        this.draw()
        return
      }
      if (!isOne || this.moved > 6) return
      const i = this.nearest(...place(event))
      if (i < 0) this.hide()
      else if (event.pointerType === "touch") this.hover(i, true)
      else this.open(i)
    }
    canvas.onpointercancel = (event) => {
      this.pointers.delete(event.pointerId)
      this.path = undefined
    }
    canvas.onpointerleave = () => {
      if (!this.card.classList.contains("held")) this.hide()
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault()
      this.zoom(Math.exp(-event.deltaY * 0.0016), ...place(event))
    }, { passive: false })
    canvas.onkeydown = (event) => {
      const step = {
        ArrowLeft: [60, 0],
        ArrowRight: [-60, 0],
        ArrowUp: [0, 60],
        ArrowDown: [0, -60],
      }
      const way = {
        ArrowLeft: [-1, 0],
        ArrowRight: [1, 0],
        ArrowUp: [0, 1],
        ArrowDown: [0, -1],
      }
      const isChosen = this.points && this.chosen >= 0 && this.shown === this.chosen
      if (event.key === "Enter" && this.points) {
        if (isChosen) this.open(this.chosen)
        else this.choose(this.middle())
      } else if (step[event.key] && isChosen) this.choose(this.beside(this.chosen, way[event.key]))
      else if (step[event.key]) this.move(...step[event.key])
      else if (event.key === "+" || event.key === "=") this.zoom(1.3)
      else if (event.key === "-") this.zoom(1 / 1.3)
      else if (event.key === "Escape") this.hide()
      else return
      event.preventDefault()
      event.stopPropagation()
    }
  }

  open(i) {
    this.send("picked", [this.points.place[i], this.points.unit[i]])
  }

  hide() {
    this.shown = -1
    this.card.hidden = true
    this.card.classList.remove("held")
  }

  hover(i, isHeld) {
    this.hide()
    this.shown = i
    if (i < 0) return
    const neuron = `${this.points.place[i]}-${this.points.unit[i]}`
    const url = `${this.data.cards}${neuron}`
    clearTimeout(this.soon)
    this.soon = setTimeout(() => {
      if (!CARDS.has(url)) {
        if (CARDS.size > 500) CARDS.clear()
        CARDS.set(
          url,
          fetch(url, { credentials: "same-origin" }).then((a) => {
            if (!a.ok) throw new Error(`card: ${a.status}`)
            return a.json()
          }).catch((error) => {
            CARDS.delete(url)
            throw error
          }),
        )
      }
      CARDS.get(url).then((about) => {
        if (this.shown === i) this.fill(i, about, `${this.data.strips}${neuron}`, isHeld)
      }).catch(() => {})
    }, CARDS.has(url) || isHeld ? 0 : 70)
  }

  fill(i, about, strip, isHeld) {
    const title = node("span", about.isReliable ? "title" : "title unreliable", about.title)
    title.dir = "auto"
    const parts = [title]
    if (about.nImages) {
      const image = node("img")
      image.alt = `Strongest exemplars of ${about.id}`
      image.src = strip
      parts.push(image)
    }
    parts.push(node("span", "id", about.id), node("span", "facts", about.facts))
    if (isHeld) {
      const link = node("a", "", "Open this neuron")
      link.href = about.href
      link.onclick = (event) => {
        event.preventDefault()
        this.open(i)
      }
      parts.push(link)
    }
    this.card.replaceChildren(...parts)
    this.card.classList.toggle("held", Boolean(isHeld))
    this.card.hidden = false
    const { toPixel, w, h } = this.frame(), { xy } = this.points
    const [x, y] = toPixel(xy[2 * i] / 65535, xy[2 * i + 1] / 65535)
    const { offsetWidth: cw, offsetHeight: ch } = this.card
    const left = x + 14 + cw < w ? x + 14 : x - cw - 14
    this.card.style.left = `${Math.min(Math.max(4, left), Math.max(4, w - cw - 4))}px`
    this.card.style.top = `${Math.min(Math.max(4, y - ch / 2), Math.max(4, h - ch - 4))}px`
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".map")
  if (!root || !data) return
  let map = MAPS.get(root)
  if (!map) MAPS.set(root, map = new NeuronMap(root))
  map.send = setTriggerValue
  if (map.signature !== data.signature) {
    map.signature = data.signature
    map.show(data, setTriggerValue)
  }
}
