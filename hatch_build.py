"""What a wheel holds besides the engine: the pages, and all that they and the engine read.

It goes to ``csp_engine/_app``, see ``csp_engine/files.py``. An editable install finds it in the
repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KINDS = ("app.py", ".streamlit/config.toml", "docs/*.md", "assets/**/*", "pages/**/*")


class AppFiles(BuildHookInterface):
    """Adds the files of ``KINDS``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatch before it packs a wheel."""
        if version == "editable":
            return
        root = Path(self.root)
        found = (path for kind in KINDS for path in sorted(root.glob(kind)) if path.is_file())
        build_data["force_include"].update(
            {
                str(path): f"csp_engine/_app/{path.relative_to(root).as_posix()}"
                for path in found
                if path.suffix != ".pyc"
            }
        )
