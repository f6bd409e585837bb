"""What is installed and what is cached: the facts behind ``csp doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from csp_engine.bundle import ENGINE_VERSION, SCHEMA
from csp_engine.cli.shown import progress_bars, write_json, write_lines, write_table
from csp_engine.errors import GET_NETWORKS, OF_NETWORKS, has_networks, no_networks
from csp_engine.words.vocabularies import SHIPPED

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "transformers",
    "faiss-cpu",
    "streamlit",
    "plotly",
    "numpy",
    "pandas",
    "pyarrow",
    "pillow",
)


def diagnose(encoder_specs: list[str]) -> dict[str, dict[str, Any]]:
    """Facts by section: engine, packages, accelerators, cached models, encoders, vocabularies."""
    return {
        "engine": {
            "version": ENGINE_VERSION,
            "bundle schema": SCHEMA,
            "python": platform.python_version(),
            "executable": sys.executable,
            "cores": os.cpu_count(),
            "free disk here": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB",
            "offline": "yes" if os.environ.get("HF_HUB_OFFLINE") else "no",
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "accelerators": _accelerators(),
        "cached models": _cached(),
        "encoders": {spec: _availability(spec) for spec in encoder_specs},
        "vocabularies": {name: str(path) for name, path in SHIPPED.items()},
    }


def try_promises(as_json: bool) -> bool:
    """Run the self-test, print its table, and say whether everything holds."""
    from csp_engine.cli.selftest import kinds, verdicts

    n, found = len(kinds()), []
    with progress_bars() as progress:
        for verdict in verdicts():
            found.append(verdict)
            progress("self-test", len(found), n)
    n_wrong = sum(verdict.holds is False for verdict in found)
    n_untried = sum(verdict.holds is None for verdict in found)
    if as_json:
        write_json({"cases": [asdict(verdict) for verdict in found], "wrong": n_wrong})
    else:
        words = {True: "holds", False: "WRONG", None: "not tried here"}
        write_table(
            ("area", "what", "verdict", "found"),
            [(v.area, v.title, words[v.holds], v.found) for v in found],
        )
        untried = f" {n_untried} could not be tried here." if n_untried else ""
        write_lines(["", f"{n - n_wrong - n_untried} of {n} hold.{untried}"])
    return not n_wrong


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        is_left_out = package.removesuffix("_torch") in OF_NETWORKS  # open_clip is called so
        get = GET_NETWORKS if is_left_out else "pip install -r requirements.txt"
        return f"missing; install with: {get}"


def _availability(spec: str) -> str:
    try:
        from csp_engine.encoders import encoder_availability

        return encoder_availability(spec)
    except ModuleNotFoundError as error:
        lacking = no_networks(error)
        if lacking is None:
            raise
        return f"missing: {lacking}"


def _accelerators() -> dict[str, str]:
    from csp_engine.networks.devices import accelerators

    return accelerators() if has_networks() else {}


def _cached() -> dict[str, str]:
    """Models in the hub and torch caches, with their sizes."""
    found: dict[str, str] = {}
    hub = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    for folder in sorted(hub.glob("models--*")):
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        name = folder.name.removeprefix("models--").replace("--", "/")
        found[name] = f"{size / 1e6:.0f} MB in {folder}"
    torch_home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    for file in sorted((torch_home / "hub" / "checkpoints").glob("*")):
        found[file.name] = f"{file.stat().st_size / 1e6:.0f} MB in {file.parent}"
    return found
