"""Whether a shipped demo is still what was shipped, and whether it can be made again."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from csp_engine.bundle import (
    Bundle,
    verify,
)
from csp_engine.demo.shipping.bundling import held_out_cases
from csp_engine.demo.shipping.opening import BUNDLE, CASES, REMEDY, SHIPPED, read_record
from csp_engine.demo.shipping.opening import RECORD as DEMO
from csp_engine.demo.shipping.packing import PIXEL_BLOCK, as_csv, files_of, pixel_hashes
from csp_engine.demo.shipping.parts import RECORD, VERSION, Plan
from csp_engine.demo.shipping.world import planted_memory, probe_cases
from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.photographs import probe_table
from csp_engine.demo.training import classifiers, planted
from csp_engine.demo.workers import workers
from csp_engine.errors import CspError, InputError
from csp_engine.hashing import sha256_file
from csp_engine.probe.images import perceptual_hash
from csp_engine.types import Progress, silent

WEIGHTS_MAY_DIFFER = 1e-3
"""Training is taken for the same if no tensor differs by more than this share of its length."""

ROUNDING = 1e-5
"""The same for the stored values of planted units, which nothing is trained for."""

FIGURE_TOLERANCES = {"accuracy": 0.05, "zero-shot AUROC": 0.02}
"""Or else if no figure differs by more: accuracies on 1,000 photographs, mean zero-shot AUROCs."""


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
        for path in files_of(folder)
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
    same_cases = gzip.decompress((folder / CASES).read_bytes()) == as_csv(cases)
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

    found = list(pixel_hashes(images(), len(cases), silent))
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
            f"{folder} is not a work folder of 'csp demo build' ({RECORD} cannot be read)."
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
    for path in files_of(folder):
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
