"""The server: Streamlit's own, with our routes and headers around the pages.

Run it with ``csp serve BUNDLE``, or ``streamlit run app.py`` with the environment variable
``CSP_BUNDLES`` naming bundles or folders of them. Little is imported here, so that it answers soon;
``pages/ui/shell/loading.py`` imports the rest. The pages start in ``pages/ui/main.py``: its folder
has no ``pages/`` beside it, so a deep link as the first request runs the whole app.
"""

import sys
from functools import partial
from pathlib import Path

import streamlit as st
from starlette.routing import Router

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from csp_engine.garbage import left_lying  # noqa: E402

with left_lying():
    from pages.ui.shell import access, loading, server


def ours() -> Router:
    """All our own routes, and with them what the pages import."""
    with left_lying(), loading.one_thread():
        import faiss  # noqa: F401
        import pyarrow.parquet

        pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # its own keeps what is free
        from pages.ui.routes import ours
    return Router(ours.routes())


late = loading.Late(ours)
access.hold_token()
app = st.App(
    ROOT / "pages" / "ui" / "main.py",
    routes=server.routes(late),
    middleware=server.middleware(),
    lifespan=partial(server.lifespan, late=late),
    on_script_error=server.on_script_error,
)
