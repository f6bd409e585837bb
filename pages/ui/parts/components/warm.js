// Who puts the cursor into a box for words will soon ask something: the encoder loads meanwhile, the
// server gets ready what a first search reads, and the browser the scripts that its page needs and
// the slanted letters of labels that are not reliable.
const BOX = "[data-testid=stTextInput] input"
const LATER = "link[rel=prefetch][as=script]"

export default function (component) {
  const { data, parentElement } = component
  if (!data) return
  const warm = (event) => {
    if (!event.target.matches?.(BOX)) return
    document.removeEventListener("focusin", warm)
    if (data.url) fetch(data.url, { method: "POST", credentials: "same-origin" }).catch(() => {})
    for (const { href } of document.querySelectorAll(LATER)) {
      const link = Object.assign(document.createElement("link"), { rel: "modulepreload", href })
      link.crossOrigin = "anonymous"
      document.head.append(link)
    }
    const { fontFamily } = getComputedStyle(document.body)
    document.fonts.load(`italic 1em ${fontFamily}`).catch(() => {})
  }
  // Where the answer has a page of its own, the words go into its address at once: Streamlit would
  // have this page drawn first, only to be told by it where to go.
  const ask = (event) => {
    if (!data.search || event.key !== "Enter" || event.isComposing) return
    const { matches, value } = event.target
    if (!matches?.call(event.target, BOX) || !value.trim()) return
    event.preventDefault()
    event.stopPropagation()
    const link = document.createElement("a")
    link.href = `${data.search}&q=${encodeURIComponent(value)}`
    parentElement.append(link)
    link.click()
    link.remove()
  }
  document.addEventListener("focusin", warm)
  document.addEventListener("keydown", ask, true)
  return () => {
    document.removeEventListener("focusin", warm)
    document.removeEventListener("keydown", ask, true)
  }
}
