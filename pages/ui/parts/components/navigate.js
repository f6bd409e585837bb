// One step of the browser's history, then the view of that address.
//
// Streamlit's own page switch makes two steps when the query changes too: first the new query below
// the old page, then the new page. A link within one page changes no address at all. So the address
// is set here, and Streamlit is told what it is told when somebody presses Back or Forward: to show
// what the address says. While it does, it replaces the address instead of adding steps.
// deno-lint-ignore no-unused-vars -- for the scripts that follow in one component
function goTo(href) {
  const url = new URL(href, location.href)
  if (url.href !== location.href) history.pushState({}, "", url)
  window.dispatchEvent(new PopStateEvent("popstate", { state: {} }))
}
