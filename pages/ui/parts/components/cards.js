// A list of neurons: each a real link, so it can be copied or opened in a new tab.
const CARDS_SHOWN = new WeakMap()

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".cards")
  if (!root || !data) return
  const state = CARDS_SHOWN.get(parentElement) ?? { token: 0 }
  CARDS_SHOWN.set(parentElement, state)
  if (state.signature === data.signature) return
  state.signature = data.signature
  const token = (state.token += 1)

  root.setAttribute("aria-label", data.label)
  root.classList.toggle("compact", Boolean(data.compact))
  root.replaceChildren(
    ...data.cards.map((card) => {
      const item = element("li")
      const link = element("a")
      link.href = card.href
      const head = element("span", "head")
      const title = element("span", card.isReliable ? "title" : "title unreliable", card.title)
      title.dir = "auto"
      head.append(title)
      if (card.mark) head.append(element("span", card.isMarked ? "mark strong" : "mark", card.mark))
      head.append(element("span", "score", card.score))
      const strip = element("span", "strip")
      for (const image of card.images) strip.append(picture(image))
      const foot = element("span", "foot")
      foot.append(element("span", "id", card.id), element("span", "rank", card.note))
      link.append(head, strip, foot)
      // In one breath: six pictures would stand between the label and the next neuron.
      const said = [card.title, card.mark, card.score, card.id, card.note]
      link.setAttribute("aria-label", said.filter(Boolean).join(", "))
      item.append(link)
      return item
    }),
  )
  filled(parentElement)
  fillImages(root, data.packs, () => state.token === token)
  return () => CARDS_SHOWN.delete(parentElement)
}
