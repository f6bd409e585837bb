// Thumbnails come in packs: one request, many images. A pack is uint32 count, uint32 lengths
// (little-endian), then the WebP bodies. The last packs are kept as bytes; an image gets its address
// when it is to be shown. That is the image itself: an object URL would be made, and later read, by
// way of another process, which takes the browser a millisecond an image.
const PACKS = (globalThis.__cspPacks ??= new Map())
const PACKS_KEPT = 24
const AT_ONCE = 48 // about as many images as a window shows
const AHEAD = "400px 0px"

// The pack of a URL, see `unpack`.
function loadPack(url) {
  const held = PACKS.get(url)
  if (held) {
    PACKS.delete(url)
    PACKS.set(url, held)
    return held
  }
  const early = globalThis.__cspEarly?.get(url) // begun by the page itself, see early.js
  globalThis.__cspEarly?.delete(url)
  const loading = (early ?? fetch(url, { credentials: "same-origin" }))
    .then(async (response) => {
      if (!response.ok) throw new Error(await response.text())
      return response.arrayBuffer()
    })
    .then(unpack)
    .catch((error) => {
      PACKS.delete(url)
      throw error
    })
  PACKS.set(url, loading)
  for (const old of [...PACKS.keys()].slice(0, Math.max(0, PACKS.size - PACKS_KEPT))) {
    PACKS.delete(old)
  }
  return loading
}

const base64 = (bytes) => bytes.toBase64?.() ?? btoa(String.fromCharCode(...bytes))

// `urlOf(position)` is the address of an image.
function unpack(body) {
  const view = new DataView(body)
  const count = view.getUint32(0, true)
  const starts = [4 + 4 * count]
  for (let i = 0; i < count; i++) starts.push(starts[i] + view.getUint32(4 + 4 * i, true))
  const urls = new Map()
  const made = (i) => {
    const bytes = new Uint8Array(body, starts[i], starts[i + 1] - starts[i])
    return `data:image/webp;base64,${base64(bytes)}`
  }
  return {
    urlOf(i) {
      if (!(i >= 0 && i < count)) return ""
      if (!urls.has(i)) urls.set(i, made(i))
      return urls.get(i)
    },
  }
}

// Fill every <img data-at="pack:position"> under `root` as its pack arrives: the first of them at
// once, the others when they come near the window.
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function fillImages(root, packs, isCurrent) {
  const every = [...root.querySelectorAll("img[data-at]")]
  packs.forEach((url, at) => {
    const isOfPack = (image) => image.dataset.at.startsWith(`${at}:`)
    const first = every.slice(0, AT_ONCE).filter(isOfPack)
    const others = every.slice(AT_ONCE).filter(isOfPack)
    loadPack(url)
      .then((pack) => {
        const fill = (image) => {
          if (isCurrent()) image.src = pack.urlOf(Number(image.dataset.at.split(":")[1]))
        }
        first.forEach(fill)
        whenNear(others, fill)
      })
      .catch(() => {
        if (!isCurrent()) return
        for (const image of [...first, ...others]) {
          image.closest(".frame")?.classList.add("failed")
        }
      })
  })
}

function whenNear(images, act) {
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue
        watch.unobserve(entry.target)
        act(entry.target)
      }
    },
    // The page scrolls within a box of its own: there `scrollMargin` counts.
    { rootMargin: AHEAD, scrollMargin: AHEAD },
  )
  images.forEach((image) => watch.observe(image))
}

// What stands below a component may come up to it: see style.css.
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function filled(parentElement) {
  const place = parentElement.getRootNode().host?.closest("[class*=st-key-]")
  place?.setAttribute("data-filled", "")
}

function element(tag, className, text) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}

// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function picture(image, eager) {
  const frame = element("span", `frame ${image.kind ?? ""}`)
  const img = element("img")
  img.alt = image.alt
  img.dataset.at = image.at
  img.decoding = eager ? "sync" : "async"
  frame.append(img)
  return frame
}
