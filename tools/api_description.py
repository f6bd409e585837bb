"""Write docs/openapi.json, what the HTTP API says of itself, for programs that read it.

Run by ``make docs``; a test compares the file with the API.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from csp_engine.http.api.app import api_of
from pages.ui.routes import ours

DESCRIPTION_PATH = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def description() -> dict[str, Any]:
    """The description, for a server that runs under no path."""
    return {**api_of(ours.desk()).openapi(), "servers": [{"url": "/csp/api/v1"}]}


def render() -> str:
    """The same as the file holds it."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DESCRIPTION_PATH.write_text(render(), "utf-8")
