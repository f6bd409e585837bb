"""A demo made around the networks of a finished one, which take most of a build to train."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from csp_engine.demo.shipping.opening import read_record
from csp_engine.demo.shipping.parts import PARTS, World
from csp_engine.errors import BundleError, InputError
from csp_engine.hashing import sha256_file


def adopt_parts(world: World, demo: Path) -> None:
    """Copy networks, captioner and planted units of a finished demo into a work folder.

    The work folder keeps what it has made already.

    Raises:
        InputError: if the demo was made with other settings.
        MissingModelError: if there is no demo.
        BundleError: if a file of it is missing or altered.
    """
    record = read_record(demo)
    settings = world.record["settings"]
    other = [
        f"{name} {value!r}"
        for name, value in record["settings"].items()
        if settings.get(name) != value
    ]
    if other or len(settings) != len(record["settings"]):
        raise InputError(
            f"The demo in {demo} was made with {other[0] if other else 'fewer settings'}, which "
            "this build does not have; choose another folder with --parts, or leave it out."
        )
    for part in PARTS:
        files = [name for name in record["files"] if name.split("/")[0] == part]
        for name in files:
            path = demo / name
            if not path.is_file() or sha256_file(path) != record["files"][name]["sha256"]:
                raise BundleError(
                    f"{path} is missing or altered; restore it, or leave --parts out."
                )
        world.make(part, partial(_copy, demo, part, files))


def _copy(demo: Path, part: str, files: list[str], target: Path) -> None:
    for name in files:
        place = target / Path(name).relative_to(part) if name != part else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo / name, place)
