// Who puts the cursor into a box for words will soon ask something: the encoder loads meanwhile, and the
// server gets ready what a first search reads.
const BOX = "[data-testid=stTextInput] input"

export default function (component) {
  const { data } = component
  if (!data) return
  const warm = (event) => {
    if (!event.target.matches?.(BOX)) return
    document.removeEventListener("focusin", warm)
    fetch(data.url, { method: "POST", credentials: "same-origin" }).catch(() => {})
  }
  document.addEventListener("focusin", warm)
  return () => document.removeEventListener("focusin", warm)
}
