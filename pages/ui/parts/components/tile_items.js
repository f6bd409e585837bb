// The tiles of a grid, not on the page yet; their images load meanwhile.
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function tileItems(data) {
  const list = element("ul")
  list.append(
    ...data.tiles.map((tile) => {
      const item = element("li", tile.images.length > 1 ? "pair" : "single")
      const button = element("button")
      button.type = "button"
      button.setAttribute("aria-label", `${tile.name}. Enlarge.`)
      const row = element("span", "row")
      for (const image of tile.images) {
        const cell = element("span", "cell")
        cell.append(picture(image), element("span", "tag", image.tag))
        row.append(cell)
      }
      button.append(row)
      if (tile.note) button.append(element("span", "note", tile.note))
      item.append(button)
      return item
    }),
  )
  fillImages(list, data.packs, () => true)
  return [...list.children]
}
