"""A build of the command line that is over in seconds, for those who start it as processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.worlds import toys

N_IMAGES = 28


def world(folder: Path) -> Path:
    """Images and what else the build needs, in a folder."""
    toys.draw_images(folder / "images", N_IMAGES)
    toys.words(folder)
    (folder / "preprocessing.json").write_text(json.dumps(toys.PREPROCESSING))
    return folder


def arguments(world: Path, out: Path) -> list[str]:
    """A build of the command line that is over in seconds."""
    return [
        *(str(world / "images"), "-m", "python:tests.worlds.toys:network", "-l", "first"),
        *("--preprocessing", str(world / "preprocessing.json"), "--influence-images", "0"),
        *("-e", "python:tests.worlds.killing:SlowEncoder", "-v", str(world / "words.txt")),
        *("--exemplars", "6", "--set", "n_score=4", "--set", "n_partners=2", "--set", "n_null=30"),
        *("--set", "methods=csp", "--batch-size", "4", "-o", str(out)),
    ]


def options(world: Path, out: Path) -> dict[str, Any]:
    """The same as the command hears them."""
    import typer.main

    from csp_engine.cli import app

    build = typer.main.get_command(app).commands["build"]
    return build.make_context("build", arguments(world, out)).params
