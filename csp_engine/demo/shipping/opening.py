"""Opening the demo that comes with the project: quick checks, and nothing heavy is imported.

``demo.json`` in its folder is the record, see ``csp_engine.demo.shipping.packing``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.errors import BundleError, MissingModelError
from csp_engine.files import IS_CHECKOUT, ROOT
from csp_engine.hashing import sha256_json

SHIPPED = ROOT / "assets" / "demo"
"""Where the demo of this project lies."""

RECORD = "demo.json"
BUNDLE = "dermoscopy.csp"
CASES = "cases.csv.gz"
FORMAT = 1
REMEDY = (
    "restore it from the repository, or make it again with: csp demo build"
    if IS_CHECKOUT
    else "install csp-neuron-browser again"
)


def read_record(folder: Path = SHIPPED) -> dict[str, Any]:
    """The record of a shipped demo.

    Raises:
        MissingModelError: if there is no demo.
        BundleError: if the record is damaged or of another format.
    """
    path = folder / RECORD
    if not path.is_file():
        raise MissingModelError(f"There is no demo in {folder} ({RECORD} is missing); {REMEDY}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        stated = record.pop("self_sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise BundleError(f"{path} is cut off or not JSON; {REMEDY}.") from None
    if stated != sha256_json(record):
        raise BundleError(f"{path} was altered (its own hash does not match); {REMEDY}.")
    if record["format"] != FORMAT:
        raise BundleError(
            f"{path} has format {record['format']}, and this version reads {FORMAT}; "
            "install the version that wrote it, or run: csp demo build"
        )
    return record


def require_shipped(folder: Path = SHIPPED) -> Path:
    """The bundle of a shipped demo, after a look at the size of every file beside it.

    Raises:
        MissingModelError: if there is no demo, or one of its files is gone.
        BundleError: if a file is cut off, or the bundle cannot be opened.
    """
    for name, entry in read_record(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise MissingModelError(f"{path} is missing; {REMEDY}.")
        if path.stat().st_size != entry["bytes"]:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes instead of {entry['bytes']}; {REMEDY}."
            )
    Bundle.open(folder / BUNDLE)
    return folder / BUNDLE
