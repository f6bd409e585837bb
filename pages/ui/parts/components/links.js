// Plain clicks on links to our own pages, wherever they are drawn, stay within this session; all
// other clicks (a new tab, a download, another place) are the browser's.
const MENU_CLOSER = "[data-testid=stSidebarCollapseButton] button"

// Which neuron or layer an address names; a link to another one begins at the top, as one to another
// page does, and a link that changes what is shown of this one stays where it is.
function neuronOf({ search }) {
  const params = new URLSearchParams(search)
  return ["bundle", "model", "layer", "unit"].map((name) => params.get(name)).join("/")
}

export default function ({ data }) {
  if (!data) return
  drawSkips()
  const stop = keepScroll()

  function clicked(event) {
    if (event.defaultPrevented || event.button !== 0) return
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    // Links of components lie in shadow trees, so the target of the event is not the link.
    const link = event.composedPath().find((node) => node.localName === "a" && node.href)
    if (!link || link.hasAttribute("download") || !["", "_self"].includes(link.target)) return
    const url = new URL(link.href)
    if (url.origin !== location.origin || url.hash || !data.paths.includes(url.pathname)) return
    const isInPage = link.getRootNode() !== document || link.closest("[data-testid=stMain]")
    // The menu of pages makes one step by itself, except to the page it is on: there it would leave
    // the query as it is instead of starting afresh.
    if (!isInPage && (url.pathname !== location.pathname || !location.search)) return
    event.preventDefault()
    event.stopPropagation()
    const isElsewhere = url.pathname !== location.pathname || neuronOf(url) !== neuronOf(location)
    goTo(link.href)
    if (isElsewhere) holdAt(0)
    if (!isInPage) document.querySelector(MENU_CLOSER)?.click() // on a phone it covers the page
  }

  window.addEventListener("click", clicked, true)
  return () => {
    stop()
    window.removeEventListener("click", clicked, true)
  }
}
