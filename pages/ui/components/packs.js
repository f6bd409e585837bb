// Thumbnails come in packs: one request, many images. A pack is uint32 count, uint32 lengths
// (little-endian), then the WebP bodies. Object URLs of the last packs are kept, older ones revoked.
const PACKS = (globalThis.__cspPacks ??= new Map())
const PACKS_KEPT = 24

function loadPack(url) {
  const held = PACKS.get(url)
  if (held) {
    PACKS.delete(url)
    PACKS.set(url, held)
    return held
  }
  const loading = fetch(url, { credentials: "same-origin" })
    .then(response => {
      if (!response.ok) throw new Error(`thumbnails: ${response.status}`)
      return response.arrayBuffer()
    })
    .then(body => {
      const view = new DataView(body)
      const count = view.getUint32(0, true)
      let at = 4 + 4 * count
      return Array.from({ length: count }, (_, i) => {
        const size = view.getUint32(4 + 4 * i, true)
        const image = new Blob([new Uint8Array(body, at, size)], { type: "image/webp" })
        at += size
        return URL.createObjectURL(image)
      })
    })
    .catch(error => {
      PACKS.delete(url)
      throw error
    })
  PACKS.set(url, loading)
  for (const old of [...PACKS.keys()].slice(0, Math.max(0, PACKS.size - PACKS_KEPT))) {
    PACKS.get(old).then(urls => urls.forEach(u => URL.revokeObjectURL(u))).catch(() => {})
    PACKS.delete(old)
  }
  return loading
}

// Fill every <img data-at="pack:position"> under `root` from the packs, as they arrive.
function fillImages(root, packs, isCurrent) {
  packs.forEach((url, pack) => {
    const images = [...root.querySelectorAll(`img[data-at^="${pack}:"]`)]
    loadPack(url)
      .then(urls => {
        if (!isCurrent()) return
        for (const image of images) image.src = urls[Number(image.dataset.at.split(":")[1])] ?? ""
      })
      .catch(() => {
        if (isCurrent()) images.forEach(image => image.closest(".frame")?.classList.add("failed"))
      })
  })
}

function prefetch(packs) {
  const later = globalThis.requestIdleCallback ?? (run => setTimeout(run, 200))
  later(() => packs.forEach(url => loadPack(url).catch(() => {})))
}

function element(tag, className, text) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}

function picture(image, eager) {
  const frame = element("span", `frame ${image.kind ?? ""}`)
  const img = element("img")
  img.alt = image.alt
  img.dataset.at = image.at
  img.decoding = eager ? "sync" : "async"
  frame.append(img)
  return frame
}
