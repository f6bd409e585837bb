// Copies the address of the view, with what the address leaves to this browser written out.
export default function (component) {
  const { data, parentElement } = component
  const button = parentElement.querySelector("button")
  const said = parentElement.querySelector("[role=status]")
  if (!button || !said || !data) return
  if (data.stamp) history.replaceState(history.state, "", named("bundle"))

  // The address with those of the values that it lacks.
  function named(...names) {
    const url = new URL(location.href)
    for (const name of names) {
      const value = data.params[name]
      if (value && !url.searchParams.has(name)) url.searchParams.set(name, value)
    }
    return url
  }

  button.onclick = async () => {
    const url = named(...Object.keys(data.params))
    const isCopied = await copy(url.href)
    said.textContent = isCopied ? "Link copied" : "Copy this:"
    parentElement.querySelector("input")?.remove()
    if (!isCopied) shown(url.href)
    clearTimeout(button.timer)
    button.timer = setTimeout(() => {
      said.textContent = ""
      parentElement.querySelector("input")?.remove()
    }, isCopied ? 2000 : 30000)
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text) // only over https and on this machine
      return true
    } catch {
      const field = shown(text)
      let isDone = false
      try {
        isDone = document.execCommand("copy")
      } catch {
        isDone = false
      }
      field.remove()
      return isDone
    }
  }

  function shown(text) {
    const field = document.createElement("input")
    field.readOnly = true
    field.value = text
    field.setAttribute("aria-label", "Address of this view")
    said.after(field)
    field.select()
    return field
  }
}
