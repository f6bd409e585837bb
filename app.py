"""The server: Streamlit's own, with our routes and headers around the pages.

Run it with ``csp serve BUNDLE``, or ``streamlit run app.py`` with the environment variable
``CSP_BUNDLES`` naming bundles or folders of them. The pages start in ``pages/ui/main.py``: its
folder has no ``pages/`` beside it, so a deep link as the first request runs the whole app.
"""

import os
import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from csp_engine.garbage import left_lying  # noqa: E402

# Read once, when libraries of arithmetic load. A page asks for products so small that a second
# thread would only wait for them, in a loop that keeps a core busy: half of what a click cost. What
# this process starts (encoders, builds) decides for itself.
CHOSEN = os.environ.get("OMP_NUM_THREADS")
os.environ.setdefault("OMP_NUM_THREADS", "1")
with left_lying():
    import faiss  # noqa: F401
    import pyarrow.parquet  # noqa: F401  else whoever comes first waits for it

    from pages.ui.neuron import ahead, ranked
    from pages.ui.shell import access, server

if CHOSEN is None:
    del os.environ["OMP_NUM_THREADS"]

access.hold_token()
app = st.App(
    ROOT / "pages" / "ui" / "main.py",
    routes=[*server.routes(), ahead.route(), ranked.route()],
    middleware=server.middleware(),
    lifespan=server.lifespan,
    on_script_error=server.on_script_error,
)
