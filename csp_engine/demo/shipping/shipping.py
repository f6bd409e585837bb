"""The demo as it ships: what a finished work folder leaves behind, and whether it is still that.

``demo.json`` in the shipped folder is the record: the settings everything follows from, the hash of
every file, hashes over the decoded pixels of the probe photographs, and the figures measured when
it was made. Files of the bundle are recorded by its own manifest.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from csp_engine.bundle import (
    Bundle,
    copy_slim,
    translated_os_errors,
    verify,
)
from csp_engine.demo.shipping.bundling import held_out_cases
from csp_engine.demo.shipping.opening import BUNDLE, FORMAT, REMEDY, SHIPPED, read_record
from csp_engine.demo.shipping.opening import RECORD as DEMO
from csp_engine.demo.shipping.parts import BUNDLE as MADE_BUNDLE
from csp_engine.demo.shipping.parts import RECORD, VERSION, Plan, World
from csp_engine.demo.shipping.world import planted_memory, probe_cases
from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.photographs import probe_table
from csp_engine.demo.training import classifiers, planted
from csp_engine.demo.training.training import workers
from csp_engine.errors import CspError, InputError
from csp_engine.hashing import sha256_file, sha256_json
from csp_engine.probe.images import perceptual_hash
from csp_engine.types import Progress, silent

CASES = "cases.csv.gz"
MAX_BYTES = 60_000_000
"""All demo assets together must not be larger."""

PARTS = (
    "encoder",
    "captioner",
    "planted",
    *(f"{name}.safetensors" for name in classifiers.MODELS),
)
"""Files and folders of the work folder that are shipped as they are."""

PIXEL_BLOCK = 100
"""Photographs under one hash in ``demo.json``."""

LIBRARIES = ("numpy", "pandas", "pillow", "torch", "open_clip_torch", "transformers")

WEIGHTS_MAY_DIFFER = 1e-3
"""Training is taken for the same if no tensor differs by more than this share of its length."""

ROUNDING = 1e-5
"""The same for the stored values of planted units, which nothing is trained for."""

FIGURE_TOLERANCES = {"accuracy": 0.05, "zero-shot AUROC": 0.02}
"""Or else if no figure differs by more: accuracies on 1,000 photographs, mean zero-shot AUROCs."""


# --- shipping ------------------------------------------------------------------------------------


def require_place(target: Path) -> None:
    """Refuse a place that ``ship`` could not use, before there is anything to ship.

    Raises:
        InputError: if it holds something else, or cannot be written.
    """
    temporary, before = _beside(target)
    with translated_os_errors(target):
        _recover(target, before)
        if target.exists() and not (target.is_dir() and _is_replaceable(target)):
            raise InputError(
                f"{target} is not empty and holds no demo; choose another folder with --out."
            )
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        temporary.rmdir()


def ship(world: World, target: Path = SHIPPED, progress: Progress = silent) -> Path:
    """Put a finished demo where it ships from, whole or not at all.

    Args:
        world: a finished work folder.
        target: replaced if it holds an older demo.
        progress: called with what is being checked.

    Raises:
        InputError: if the world is not finished, the demo would be larger than ``MAX_BYTES``, or
            the target holds something else or cannot be written.
        BundleError: if the world's bundle is damaged.
    """
    missing = [part for part in (*PARTS, "probe", MADE_BUNDLE, "quality.json")
               if not world.path(part).exists()]  # fmt: skip
    if missing:
        raise InputError(
            f"The demo in {world.folder} is not finished (it lacks {missing[0]}); "
            "run 'csp demo build' again."
        )
    require_place(target)
    temporary, before = _beside(target)
    with translated_os_errors(target):
        temporary.mkdir()
        try:
            _fill(temporary, world, progress)
            size = sum(path.stat().st_size for path in _files(temporary))
            if size > MAX_BYTES:
                raise InputError(
                    f"The demo would be {size / 1e6:.1f} MB, and {MAX_BYTES / 1e6:.0f} MB is the "
                    "most it may be; make thumbnails, probe set or networks smaller."
                )
            if target.exists():
                target.rename(before)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            _recover(target, before)
            raise
        shutil.rmtree(before, ignore_errors=True)
    return target


def _beside(target: Path) -> tuple[Path, Path]:
    """Where a new demo is filled, and where the older one waits until the new one is in place."""
    return target.with_name(f".new-{target.name}"), target.with_name(f".old-{target.name}")


def _recover(target: Path, before: Path) -> None:
    """After a stop between the two renames, the older demo is the one that counts."""
    if before.exists() and not target.exists():
        before.rename(target)
    shutil.rmtree(before, ignore_errors=True)


def _is_replaceable(folder: Path) -> bool:
    return (folder / DEMO).exists() or not any(folder.iterdir())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fill(folder: Path, world: World, progress: Progress) -> None:
    copy_slim(Bundle.open(world.path(MADE_BUNDLE)), folder / BUNDLE)
    for part in PARTS:
        source, copy = world.path(part), folder / part
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copyfile(source, copy)
    cases = probe_cases(world.plan)
    (folder / CASES).write_bytes(gzip.compress(_csv(cases), mtime=0))
    images = sorted((world.path("probe") / "images").iterdir())
    record: dict[str, Any] = {
        "format": FORMAT,
        "settings": world.record["settings"],
        "libraries": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        "files": {
            path.relative_to(folder).as_posix(): {
                "sha256": sha256_file(path),
                "bytes": path.stat().st_size,
            }
            for path in _files(folder)
            if path == folder / BUNDLE / "manifest.json" or BUNDLE not in path.parts
        },
        "pixels": list(_pixel_hashes(map(_pixels, images), len(images), progress)),
        "seconds": {name: part["seconds"] for name, part in world.record["parts"].items()},
        "quality": json.loads(world.path("quality.json").read_text(encoding="utf-8")),
    }
    record["self_sha256"] = sha256_json(record)
    (folder / DEMO).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _pixel_hashes(image_hwc: Iterator[np.ndarray], n: int, progress: Progress) -> Iterator[str]:
    """One sha256 over the pixels of every ``PIXEL_BLOCK`` images, in order."""
    digest = hashlib.sha256()
    for i, image in enumerate(image_hwc, start=1):
        digest.update(image.tobytes())
        progress("pixels", i, n)
        if i % PIXEL_BLOCK == 0 or i == n:
            yield digest.hexdigest()
            digest = hashlib.sha256()


# --- checking ------------------------------------------------------------------------------------


@dataclass
class Report:
    """What was found: problems, one sentence each, and what holds."""

    problems: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)

    def check(self, what: str, problem: str | None) -> None:
        """Note one or the other."""
        if problem is None:
            self.holds.append(what)
        else:
            self.problems.append(problem)


def verify_shipped(
    folder: Path = SHIPPED,
    *,
    against: Path | None = None,
    is_quick: bool = False,
    progress: Progress = silent,
) -> Report:
    """Check a shipped demo: its files, what follows from its seed, and a second making of it.

    The photographs are drawn again and compared bit for bit; so are the tables. Weights are
    compared with those of ``against`` as ``compare_weights`` says.

    Args:
        folder: the shipped demo.
        against: work folder of a finished ``csp demo build`` with the same settings.
        is_quick: only the files.
        progress: called with what is being done.

    Raises:
        MissingModelError, BundleError: if there is no record to check against.
        InputError: if ``against`` is not finished, or of other settings.
    """
    record = read_record(folder)
    report = Report()
    other = None if against is None else _finished(against, record["settings"])
    _check_files(folder, record, report, progress)
    if report.problems or is_quick:
        return report
    if record["settings"]["version"] != VERSION or record["settings"]["render"] != render.VERSION:
        report.problems.append(
            f"The demo in {folder} was drawn by version {record['settings']['render']} of the "
            f"renderer, and this is version {render.VERSION}; run: csp demo build"
        )
        return report
    _check_drawn(folder, record, report, progress)
    if other is not None:
        report.holds.extend(compare_weights(folder, other, record["quality"], report.problems))
    return report


def _check_files(
    folder: Path, record: Mapping[str, Any], report: Report, progress: Progress
) -> None:
    listed = record["files"]
    for i, (name, entry) in enumerate(listed.items(), start=1):
        path = folder / name
        if not path.is_file():
            report.problems.append(f"{path} is missing; {REMEDY}.")
        elif path.stat().st_size != entry["bytes"]:
            report.problems.append(
                f"{path} has {path.stat().st_size} bytes instead of {entry['bytes']}; {REMEDY}."
            )
        elif sha256_file(path) != entry["sha256"]:
            report.problems.append(f"{path} was altered; {REMEDY}.")
        progress("files", i, len(listed))
    try:
        found = verify(Bundle.open(folder / BUNDLE), progress)
    except CspError as error:
        found = [str(error)]
    report.problems += [f"{folder / BUNDLE}: {problem.rstrip('.')}; {REMEDY}." for problem in found]
    strangers = [
        name
        for path in _files(folder)
        if (name := path.relative_to(folder).as_posix()) not in listed
        and BUNDLE not in path.parts
        and name != DEMO
    ]
    report.problems += [
        f"{folder / name} is not part of the demo; remove it." for name in strangers
    ]
    if not report.problems:
        report.holds.append(f"every file of {folder} is the one that was shipped")


def _plan(settings: Mapping[str, Any]) -> Plan:
    return Plan(**{name: settings[name] for name in asdict(Plan())})


def _drawn(case: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, float]]:
    photograph = render.render(case)
    return photograph.image_hwc, photograph.shares()


def _check_drawn(
    folder: Path, record: Mapping[str, Any], report: Report, progress: Progress
) -> None:
    """Draw everything again that follows from the seed alone, and compare."""
    plan = _plan(record["settings"])
    bundle = Bundle.open(folder / BUNDLE)
    cases, held = probe_cases(plan), held_out_cases(plan)
    same_cases = gzip.decompress((folder / CASES).read_bytes()) == _csv(cases)
    report.check(
        f"{len(cases):,} cases follow from the seed",
        None if same_cases else f"{folder / CASES} is not what seed {plan.seed} draws.",
    )
    shares: list[dict[str, float]] = []
    prints: list[np.ndarray] = []
    hashes: list[int] = []
    shown = classifiers.pixel_preprocess()
    n = len(cases) + len(held)

    def images() -> Iterator[np.ndarray]:
        rows = [*cases.to_dict("records"), *held.to_dict("records")]
        with workers(n) as run:
            for i, (image_hwc, share) in enumerate(run(_drawn, rows), start=1):
                image = Image.fromarray(image_hwc)
                shares.append(share)
                prints.append(planted.fingerprint(shown(image)[None])[0])
                progress("photographs", i, n)
                if i <= len(cases):
                    hashes.append(perceptual_hash(image))
                    yield image_hwc

    found = list(_pixel_hashes(images(), len(cases), silent))
    differing = [i for i, pair in enumerate(zip(found, record["pixels"], strict=False))
                 if pair[0] != pair[1]]  # fmt: skip
    if len(found) != len(record["pixels"]) or differing:
        first = (differing or [min(len(found), len(record["pixels"]))])[0] * PIXEL_BLOCK
        report.problems.append(
            f"Photographs {first} to {first + PIXEL_BLOCK - 1} come out as other pixels than the "
            "shipped ones; the renderer, or a library below it, draws differently here."
        )
    else:
        report.holds.append(f"{len(cases):,} photographs are drawn again bit for bit")
    same_hashes = np.array_equal(bundle.images()["perceptual_hash"], np.array(hashes, np.uint64))
    report.check(
        "the bundle was built from these photographs",
        None if same_hashes else f"{folder / BUNDLE} was built from other photographs.",
    )
    expected = probe_table(cases, pd.DataFrame(shares[: len(cases)]))
    report.check(
        "its table of concepts and controls follows from the cases",
        None
        if _is_same_table(bundle.table("probe", "probe"), expected)
        else f"The probe table of {folder / BUNDLE} does not follow from the cases.",
    )
    memory = planted_memory(plan, expected, pd.DataFrame(shares[len(cases) :]), np.stack(prints))
    report.check("the planted units are those of the formulas", _planted_problem(folder, memory))


def _is_same_table(held: pd.DataFrame, expected: pd.DataFrame) -> bool:
    """Whether the columns of ``expected`` are held: texts to the letter, numbers to parsing."""
    if len(held) != len(expected) or not set(expected) <= set(held):
        return False
    for name in expected:
        if pd.api.types.is_numeric_dtype(expected[name]):
            numbers = pd.to_numeric(held[name], errors="coerce").to_numpy(float)
            if not np.allclose(numbers, expected[name].to_numpy(float), rtol=1e-12, atol=0):
                return False
        elif list(held[name].astype(str)) != list(expected[name].astype(str)):
            return False
    return True


def _planted_problem(folder: Path, memory: planted.Planted) -> str | None:
    """Names and formulas to the letter, stored values to rounding."""
    shipped = folder / "planted"
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch)
        planted.save(again, memory, classifiers.DIAGNOSES, classifiers.PIXELS)
        texts = [(home / planted.RECORD_NAME).read_bytes() for home in (shipped, again)]
        weights = [load_file(home / planted.WEIGHTS_NAME) for home in (shipped, again)]
    if texts[0] == texts[1] and _largest_difference(*weights) <= ROUNDING:
        return None
    return f"The planted units in {shipped} are not those of their formulas."


def _finished(folder: Path, settings: Mapping[str, Any]) -> Path:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        is_same = record["settings"] == dict(settings)
        parts = record["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} is no work folder of 'csp demo build' ({RECORD} cannot be read)."
        ) from None
    if not is_same:
        raise InputError(f"{folder} was made with other settings than the shipped demo.")
    if "quality.json" not in parts or not (folder / "quality.json").is_file():
        raise InputError(f"The demo in {folder} is not finished; run 'csp demo build' again.")
    return folder


def compare_weights(
    folder: Path, other: Path, quality: Mapping[str, Any], problems: list[str]
) -> list[str]:
    """Say of every weight file how far a second training came out the same.

    One of three must hold: the same bytes; every tensor within ``WEIGHTS_MAY_DIFFER`` of the other
    (length of the difference by length of the tensor); or figures of quality within
    ``FIGURE_TOLERANCES``, because sums in another order end in other weights of the same worth.

    Returns:
        one sentence for each file that passed; the others are added to ``problems``.
    """
    holds = []
    figures = _figure_differences(
        quality, json.loads((other / "quality.json").read_text(encoding="utf-8"))
    )
    worst = {kind: max(values, default=np.inf) for kind, values in figures.items()}
    is_as_good = all(worst[kind] <= most for kind, most in FIGURE_TOLERANCES.items())
    told = ", ".join(f"{kind} by {worst[kind]:.3f} (at most {FIGURE_TOLERANCES[kind]})"
                     for kind in FIGURE_TOLERANCES)  # fmt: skip
    for path in _files(folder):
        if path.suffix != ".safetensors":
            continue
        name = path.relative_to(folder)
        if not (other / name).is_file():
            problems.append(f"{other / name} is missing; run 'csp demo build' again.")
        elif sha256_file(path) == sha256_file(other / name):
            holds.append(f"{name}: identical bytes")
        else:
            try:
                differs = _largest_difference(load_file(path), load_file(other / name))
            except (SafetensorError, OSError):
                problems.append(f"{other / name} is damaged; run 'csp demo build' again.")
                continue
            if differs <= WEIGHTS_MAY_DIFFER:
                holds.append(
                    f"{name}: tensors differ by at most {differs:.1e} of their length "
                    f"(at most {WEIGHTS_MAY_DIFFER:.0e})"
                )
            elif is_as_good:
                holds.append(f"{name}: other weights of the same worth; figures differ: {told}")
            else:
                problems.append(f"{name} was trained to another result; figures differ: {told}.")
    return holds


def _largest_difference(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> float:
    if {n: v.shape for n, v in left.items()} != {n: v.shape for n, v in right.items()}:
        return np.inf
    largest = 0.0
    for name, values in left.items():
        a, b = (v.astype(np.float64) for v in (values, right[name]))
        length = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
        if length:
            largest = max(largest, float(np.linalg.norm(a - b)) / length)
    return largest


def _figure_differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, list[float]]:
    """By how much the figures of two trainings differ, by kind."""
    right = {(row["model"], row["slice"]): row["accuracy"] for row in two["accuracy"]}
    return {
        "accuracy": [
            abs(row["accuracy"] - right.get((row["model"], row["slice"]), np.inf))
            for row in one["accuracy"]
        ],
        "zero-shot AUROC": [
            abs(figures["mean"] - two["zero_shot"][kind]["mean"])
            for kind, figures in one["zero_shot"].items()
        ],
    }
