// The pictures of the neuron that an address names are fetched while the browser still loads
// Streamlit's scripts, and the server makes the beginning of its page meanwhile.
if (/\/neuron\/?$/.test(location.pathname) && /[?&]unit=/.test(location.search)) {
  const same = { credentials: "same-origin" }
  const early = (globalThis.__cspEarly = new Map())
  fetch(`${globalThis.__streamlit.BACKEND_BASE_URL}csp/first${location.search}`, same)
    .then((answer) => (answer.ok ? answer.json() : []))
    .then((packs) => packs.forEach((url) => early.set(url, fetch(url, same))))
    .catch(() => {}) // the page itself will ask
}
