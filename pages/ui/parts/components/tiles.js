// A grid of tiles, each one image or an exemplar beside its contrast image, with a lightbox.
const TILES_SHOWN = new WeakMap()

export default function tiles(component) {
  const { parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".tiles")
  const box = parentElement.querySelector("dialog")
  if (!root || !box || !component.data) return
  const data = globalThis.__cspWalk?.tilesFor?.(component.data) ?? component.data
  const state = TILES_SHOWN.get(parentElement) ?? { token: 0, at: 0 }
  TILES_SHOWN.set(parentElement, state)
  // A step to another neuron draws its tiles here, made ready before.
  if (data.of) {
    globalThis.__cspTiles = ({ tiles: next, items }) => {
      if (parentElement.isConnected) tiles({ ...component, data: next, items })
    }
  }
  if (state.signature === data.signature) return
  state.signature = data.signature
  const token = (state.token += 1)
  const isCurrent = () => state.token === token

  root.style.setProperty("--tile", `${data.tile}px`)
  root.setAttribute("aria-label", data.label)
  root.replaceChildren(...(component.items ?? tileItems(data)))
  filled(parentElement)
  root.onclick = (event) => {
    const item = event.target.closest("li")
    if (item && event.target.closest("button")) open([...root.children].indexOf(item))
  }
  fillMaps(root)

  // Maps lie over the images of the same place in the packs; the first may take seconds.
  function fillMaps(within) {
    const said = parentElement.querySelector(".said")
    said.hidden = true
    if (!data.maps?.length) return
    said.textContent = "Working out where the neuron looks…"
    said.hidden = false
    const loading = data.maps.map((url, at) =>
      loadPack(url).then((pack) => {
        if (!isCurrent()) return
        for (const image of within.querySelectorAll(`img[data-at^="${at}:"]`)) {
          const map = element("img", "map")
          map.alt = ""
          map.src = pack.urlOf(Number(image.dataset.at.split(":")[1]))
          image.after(map)
        }
      })
    )
    Promise.all(loading).then(
      () => isCurrent() && (said.hidden = true),
      (error) => isCurrent() && (said.textContent = error.message),
    )
  }

  function open(at) {
    state.at = Math.min(Math.max(at, 0), data.tiles.length - 1)
    const tile = data.tiles[state.at]
    const title = element("h2", "", tile.name)
    title.id = "csp-box-title"
    const close = element("button", "close", "Close")
    close.type = "button"
    close.onclick = () => box.close()
    const head = element("div", "head")
    head.append(title, close)
    const row = element("div", "large")
    for (const image of tile.images) {
      const figure = element("figure")
      const caption = element("figcaption")
      caption.append(element("strong", "", image.title))
      const list = element("dl")
      for (const [name, value] of image.facts) {
        list.append(element("dt", "", name), element("dd", "", value))
      }
      const search = element("button", "search", "Search with this image")
      search.type = "button"
      search.onclick = () => {
        box.close()
        setTriggerValue("searched", image.image)
      }
      caption.append(list, search)
      figure.append(picture(image, true), caption)
      row.append(figure)
    }
    const back = element("button", "", "Previous")
    const on = element("button", "", "Next")
    back.type = on.type = "button"
    back.disabled = state.at === 0
    on.disabled = state.at === data.tiles.length - 1
    back.onclick = () => open(state.at - 1)
    on.onclick = () => open(state.at + 1)
    const foot = element("div", "foot")
    foot.append(back, element("span", "", `${state.at + 1} of ${data.tiles.length}`), on)
    box.replaceChildren(head, row, foot)
    box.classList.remove("wide")
    box.setAttribute("aria-labelledby", "csp-box-title")
    fillImages(box, data.packs, isCurrent)
    fillMaps(box)
    tile.images.forEach((image, place) => fillWhole(row.children[place], image.image))
    if (!box.open) box.showModal()
  }

  // The image itself in place of its thumbnail, where the server has it and may show it.
  async function fillWhole(figure, number) {
    if (!data.originals) return
    const response = await fetch(`${data.originals}/${number}`, { credentials: "same-origin" })
      .catch(() => null)
    if (!figure.isConnected) return
    if (response?.status !== 200) {
      const only = "Only this thumbnail is at hand here, not the image itself."
      figure.querySelector("dl").after(element("p", "only", only))
      return
    }
    const whole = element("img")
    whole.alt = figure.querySelector("img").alt
    whole.src = URL.createObjectURL(await response.blob())
    await whole.decode().catch(() => {})
    const img = figure.querySelector(".frame img")
    if (whole.naturalWidth && figure.isConnected && img) {
      img.replaceWith(whole)
      figure.classList.add("whole")
      if (whole.naturalWidth > 440) box.classList.add("wide")
      figure.style.setProperty("--own", `${whole.naturalWidth}px`)
    }
    // Decoded, it is shown without its address; a large file is not kept beside it.
    setTimeout(() => URL.revokeObjectURL(whole.src), 60_000)
  }

  // Keys stay in the box, so that the arrows do not turn the page behind it as well.
  box.onkeydown = (event) => {
    event.stopPropagation()
    if (event.key === "ArrowLeft") open(state.at - 1)
    else if (event.key === "ArrowRight") open(state.at + 1)
  }
  box.onclick = (event) => {
    if (event.target === box) box.close()
  }
  box.onclose = () => root.querySelectorAll("button")[state.at]?.focus()
  return () => TILES_SHOWN.delete(parentElement)
}
