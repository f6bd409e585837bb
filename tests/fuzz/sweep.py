"""Alters every column, array and entry of a bundle, one at a time: what is shown must be told of.

    python -m tests.fuzz.sweep

Of each column of a table one value becomes another that could be (a number a little off, the text
of another row, yes for no), then two rows change places; likewise with each array; each number,
text and flag of the manifest's stages and descriptions; one byte of every other file. Every
alteration is tried with all hashes and keys redone, and of each file one without. Where a reading
of ``tests.fuzz.readings`` then gives another result than before, opening or ``csp verify`` has to
tell; ``UNDETERMINED`` names what nothing else in a bundle determines, as docs/security.md does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import stage_key
from csp_engine.bundle.verifying.sampling import LOSS
from tests.fuzz.bundles import World, make_world, tried
from tests.worlds.damage import MANIFEST, body_of, redo, write_body

UNDETERMINED = {
    "activations": "activations of the network",
    "association/params.": "settings with which the same comes out",
    "candidates": "what a captioner wrote, and what it was asked",
    "circuit/edges.parquet.effect": "what units of inner layers do to one another",
    "curves/photographs": "which photographs there were",
    "curves/facts.images": "which photographs there were",
    "factors/direction": "what a layer's activations are made of",
    "factors/factors.parquet.share": "what a layer's activations are made of",
    "factors/facts.images": "which photographs there were",
    "factors/thumbs.bin": "pictures",
    "faithfulness": "figures that need the judge",
    "fix/cuts": "what a part of the network does",
    "fix/photographs": "names, classes and groups of photographs",
    "fix/score": "scores of the network",
    "fix/shown": "pictures",
    "fix/thumbs.bin": "pictures",
    "images/images.parquet.height": "sizes of images",
    "images/images.parquet.width": "sizes of images",
    "images/thumbs.bin": "pictures",
    "influence/gradient_activation": "what units of inner layers do to outputs",
    "intervention/units": "what units of inner layers do to outputs",
    "intervention/sets": "what units of inner layers do to outputs",
    "intervention/pairs": "scores of the network, and names of photographs",
    "intervention/facts": "names of photographs",
    "intervention/gates": "what real photographs say, and how many there were",
    "intervention/thumbs.bin": "pictures",
    "maps": "what maps of a network show on photographs",
    "performance/slices": "counts of right answers",
    "probe/probe.parquet": "names of images, and columns that no figure is computed of",
    "seen": "pictures",
    "trust": "figures that need the judge",
    "truth": "true concepts that somebody measured",
    "vocabulary/labels.parquet.source": "which list a label comes from",
    "inputs.": "what the bundle says of networks, encoder and images",
    "recipe.": "what the last build was asked for",
    "scores/params.": "settings with which labels come out the same",
}
"""Stages, or parts of them, of which an alteration may be told by nobody, and what they hold."""

Alter = Callable[[Path], bool]
"""Alters a bundle; False where there is nothing to alter."""


def alterations(whole: Path) -> Iterator[tuple[str, str, Alter]]:
    """Every alteration of a bundle: its name ``STAGE/FILE.COLUMN: HOW``, the file, and the act."""
    body = body_of(whole)
    for stage, record in sorted(body["stages"].items()):
        folder = record["directory"]
        for file in sorted(record["files"]):
            path = f"{folder}/{file}"
            if file.endswith(".npy"):
                for how in ("nudged", "swapped"):
                    yield f"{stage}/{file}: {how}", path, _array(path, how)
            elif file.endswith(".parquet"):
                for column in pd.read_parquet(whole / path).columns:
                    for how in ("nudged", "swapped"):
                        name = f"{stage}/{file}.{column}: {how}"
                        yield name, path, _column(path, column, how)
            else:
                yield f"{stage}/{file}: a byte", path, _byte(path)
        for part in ("params", "facts"):
            for at in _leaves(record[part]):
                entry = _entry(("stages", stage, part, *at))
                yield f"{stage}/{part}.{_dotted(at)}", MANIFEST, entry
    for part in ("inputs", "recipe"):
        for at in _leaves(body[part]):
            yield f"{part}.{_dotted(at)}", MANIFEST, _entry((part, *at))


def _dotted(at: tuple[Any, ...]) -> str:
    return ".".join(map(str, at))


def _leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _leaves(inner, (*at, key))
    elif value is not None:
        yield at


def _other(value: Any) -> Any:
    """Another value of the same kind, near to it."""
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, int | np.integer):
        return value + 1 if value < 100 else value - 1
    if isinstance(value, float | np.floating):
        return value * 0.9 if abs(value) > 1e-3 else value + 0.05
    return f"{value}x"


def _apart(one: Any, other: Any) -> float:
    """How far numbers lie apart; machines differ in the last digits of what they compute."""
    is_number = isinstance(one, float | int) and isinstance(other, float | int)
    return 0.0 if not is_number or one != one else abs(float(one) - float(other))


def _array(path: str, how: str) -> Alter:
    def alter(bundle: Path) -> bool:
        values = np.load(bundle / path)
        if how == "swapped":
            if len(values) < 2 or np.array_equal(values, values[::-1], equal_nan=False):
                return False
            # Machines differ in the last digits of what they compute.
            if values.dtype.kind == "f" and np.allclose(values, values[::-1], rtol=0, atol=LOSS):
                return False
            np.save(bundle / path, values[::-1].copy())
            return True
        flat = values.reshape(-1)
        here = np.flatnonzero(np.isfinite(flat)) if flat.dtype.kind == "f" else np.arange(len(flat))
        if not len(here):
            return False
        at = here[0]  # of unit 0, which every sample holds
        flat[at] = _other(flat[at].item())
        np.save(bundle / path, values)
        return True

    return alter


def _column(path: str, column: str, how: str) -> Alter:
    def alter(bundle: Path) -> bool:
        rows = pd.read_parquet(bundle / path)
        known = np.flatnonzero(rows[column].notna().to_numpy())
        if not len(known):
            return False
        values = rows[column].to_numpy(object, copy=True)
        if how == "nudged":
            values[known[0]] = _other(values[known[0]])
        else:
            first = known[0]
            others = [at for at in range(len(values)) if repr(values[at]) != repr(values[first])]
            if not others:
                return False
            far = max(others, key=lambda at: _apart(values[at], values[first]))
            if 0 < _apart(values[far], values[first]) <= LOSS:
                return False
            values[first], values[far] = values[far], values[first]
        rows[column] = pd.Series(values, dtype=object).astype(rows[column].dtype)
        rows.to_parquet(bundle / path, index=False)
        return True

    return alter


def _byte(path: str) -> Alter:
    def alter(bundle: Path) -> bool:
        content = bytearray((bundle / path).read_bytes())
        if not content:
            return False
        content[len(content) // 2] ^= 1
        (bundle / path).write_bytes(content)
        return True

    return alter


def _entry(at: tuple[Any, ...]) -> Alter:
    def alter(bundle: Path) -> bool:
        body = body_of(bundle)
        holder = body
        for key in at[:-1]:
            holder = holder[key]
        holder[at[-1]] = _other(holder[at[-1]])
        (bundle / "manifest.json").write_text(json.dumps(body, indent=1, sort_keys=True))
        return True

    return alter


def redo_keys(bundle: Path) -> None:
    """Have every stage carry the key of what it now says, and name those of its needs."""
    body = body_of(bundle)
    stages, done = body["stages"], {}

    def key_of(name: str) -> str:
        if name not in done:
            record = stages[name]
            record["needs"] = {need: key_of(need) for need in record["needs"]}
            parts = (record[part] for part in ("version", "params", "needs", "inputs"))
            done[name] = record["key"] = stage_key(name, *parts)
        return done[name]

    for name in stages:
        key_of(name)
    write_body(bundle, body)


def verdict(world: World, alter: Alter, *, is_redone: bool) -> str:
    """What becomes of one alteration; "told by nobody: READINGS" is the one to look at.

    What ``verify`` tells of is not read any more: it takes a fraction of the time of all readings.
    """
    with tempfile.TemporaryDirectory(prefix="csp-sweep-") as folder:
        bundle = Path(shutil.copytree(world.path, Path(folder) / "a.csp"))
        if not alter(bundle):
            return "nothing to alter"
        if is_redone:
            redo(bundle)
            redo_keys(bundle)
            failure, problems = tried(world.problems, bundle)
            if failure not in ("", "told"):
                return f"{failure}: verify: {problems}"
            if problems:
                return "told by verify"
        told, differ = "", []
        for name, reading in world.looking(bundle).items():
            failure, result = tried(reading, bundle)
            if failure == "told":
                told = result
            elif failure:
                return f"{failure}: {name}: {result}"
            elif result != world.truth[name]:
                differ.append(name)
        if not differ:
            return "told in reading" if told else "nothing shown differs"
        return f"{'told by nobody' if is_redone else 'wrong'}: {', '.join(differ)}"


def why_undetermined(name: str) -> str:
    """What nobody can tell of an alteration; empty where somebody has to."""
    stage, _, inside = name.partition("/") if not name.startswith("inputs") else ("", "", "")
    of = stage.partition(":")[0]
    file = name.rpartition("/")[2]
    for start, what in UNDETERMINED.items():
        kind, _, part = start.partition("/")
        if name.startswith(start) or (kind == of and (file or inside).startswith(part)):
            return what
    return ""


def main() -> None:
    """Try all, print what nobody tells of and why, and counts; fails where it is determined."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--of", default="", help="only alterations whose name holds this")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    n_bad = 0
    with tempfile.TemporaryDirectory(prefix="csp-sweep-") as folder:
        world, looked_at = make_world(Path(folder)), set()
        for name, file, alter in alterations(world.path):
            if options.of not in name:
                continue
            ways = (True,) if file in looked_at else (False, True)
            for is_redone in ways:
                found = verdict(world, alter, is_redone=is_redone)
                kind = found.partition(": ")[0]
                if not is_redone and kind != "nothing to alter":
                    looked_at.add(file)
                why = why_undetermined(name) if kind == "told by nobody" else ""
                counts[f"{kind}{', as said' if why else ''}"] += 1
                is_bad = kind in ("wrong", "traceback", "hang") or (
                    kind == "told by nobody" and not why
                )
                n_bad += is_bad
                if is_bad or why:
                    said = f" ({why})" if why else ""
                    sys.stdout.write(f"{name}{' (redone)' if is_redone else ''}: {found}{said}\n")
                    sys.stdout.flush()
    sys.stdout.write(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")
    sys.exit(1 if n_bad else 0)


if __name__ == "__main__":
    main()
