"""Simulated photographs with exact masks in a folder of the user's: ``csp demo draw``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from PIL import Image

from csp_engine.bundle import translated_os_errors
from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.cases import draw_cases
from csp_engine.demo.simulator.photographs import write_tables
from csp_engine.demo.workers import workers
from csp_engine.errors import InputError
from csp_engine.files import write_whole
from csp_engine.hashing import sha256_json
from csp_engine.types import Progress, silent

RECORD = "drawing.json"
PART = ".part"
"""Ending of the folder in which an unfinished drawing lies, beside the finished one's place."""

_SHARES = "shares"


def draw(
    out: Path,
    scenario: str,
    n: int,
    seed: int,
    *,
    with_masks: bool = False,
    progress: Progress = silent,
) -> bool:
    """Draw photographs of a scenario into a new folder, whole or not at all.

    Writes ``images/NUMBER.png``; ``cases.csv`` with every control; ``probe.csv`` with what a bundle
    is built from (see ``probe_table``); with masks ``masks/NUMBER/NAME.png``, white where the thing
    is, for each thing that a photograph shows; and ``drawing.json`` with the settings. All of it
    lies in ``OUT.part`` until the last photograph is there; drawn again, it goes on from there.

    Returns:
        Whether anything was left to do: False if ``out`` already holds just this.

    Raises:
        InputError: if the scenario does not exist, the place is taken or cannot be written, or
            another process is drawing there.
    """
    cases = draw_cases(scenario, n, seed)
    settings = {
        "scenario": scenario,
        "count": n,
        "seed": seed,
        "masks": with_masks,
        "render": render.VERSION,
        "cases": sha256_json(cases.to_json()),
    }
    with translated_os_errors(out):
        if _settings(out) == settings:
            return False
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"{out} is not empty; choose another folder.")
        part = out.with_name(out.name + PART)
        part.mkdir(parents=True, exist_ok=True)
        lock = FileLock(part / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"Another process is drawing in {part}; wait for it, or choose another folder."
            ) from None
        try:
            _begin(part, settings)
            _fill(part, cases, with_masks, progress)
            part.rename(out)
            (out / ".lock").unlink()
        finally:
            lock.release()
    return True


def _settings(folder: Path) -> Any:
    try:
        return json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _begin(part: Path, settings: Mapping[str, Any]) -> None:
    """Take up an unfinished drawing, or start one."""
    if _settings(part) != settings:
        if any(path.name != ".lock" for path in part.iterdir()):
            raise InputError(
                f"{part} holds something else, or a drawing that was begun with other settings; "
                "delete it, or choose another folder."
            )
        write_whole(part / RECORD, json.dumps(settings, indent=1) + "\n")
    for name in ("images", _SHARES):
        (part / name).mkdir(exist_ok=True)


def _fill(part: Path, cases: pd.DataFrame, with_masks: bool, progress: Progress) -> None:
    """Every photograph that is missing, then the tables."""
    homes = {number: part / _SHARES / f"{number:05d}.json" for number in range(len(cases))}
    jobs = [(i, case) for i, case in enumerate(cases.to_dict("records")) if not homes[i].exists()]
    write = partial(_draw_one, folder=str(part), with_masks=with_masks)
    n_done = len(cases) - len(jobs)
    progress("photographs", n_done, len(cases))
    with workers(len(jobs)) as run:
        for _ in run(write, jobs):
            n_done += 1
            progress("photographs", n_done, len(cases))
    shares = [json.loads(home.read_text("utf-8")) for home in homes.values()]
    write_tables(part, cases, pd.DataFrame(shares))
    shutil.rmtree(part / _SHARES)


def _draw_one(job: tuple[int, Mapping[str, Any]], folder: str, with_masks: bool) -> None:
    """One photograph with its masks; the file of shares comes last and says that it is whole."""
    (number, case), part = job, Path(folder)
    photograph = render.render(case)
    photograph.image().save(part / f"images/{number:05d}.png", compress_level=1)
    if with_masks:
        home = part / f"masks/{number:05d}"
        home.mkdir(parents=True, exist_ok=True)
        for name, mask_hw in photograph.masks.items():
            if mask_hw.any():
                Image.fromarray(mask_hw).save(home / f"{name}.png")
    write_whole(part / _SHARES / f"{number:05d}.json", json.dumps(photograph.shares()))
