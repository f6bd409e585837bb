"""What may become of a bundle's manifest and files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.worlds.damage import body_of, redo, write_body


def _odd_value(rng: np.random.Generator) -> Any:
    deep: Any = 1
    for _ in range(int(rng.integers(1, 400))):
        deep = [deep]
    odd = [None, -1, 0, 3, 1 << 40, 1 << 70, 0.5, True, "", "x", "../x", "/etc", [], [1], {}, deep]
    return odd[int(rng.integers(len(odd)))]


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return
    for key, inner in items:
        yield (*at, key)
        yield from _paths(inner, (*at, key))


def mutate_manifest(bundle: Path, rng: np.random.Generator, is_redone: bool) -> str:
    """Change one to three entries of the manifest, or its text."""
    if rng.random() < 0.1:
        return _mutate_bytes(bundle / "manifest.json", rng)
    body = body_of(bundle)
    told = []
    for _ in range(int(rng.integers(1, 4))):
        paths = list(_paths(body))
        path = paths[int(rng.integers(len(paths)))]
        holder = body
        for key in path[:-1]:
            holder = holder[key]
        if rng.random() < 0.3:
            del holder[path[-1]]
        else:
            holder[path[-1]] = _odd_value(rng)
        told.append(".".join(map(str, path))[:100])
    if is_redone:
        write_body(bundle, body)
    else:
        (bundle / "manifest.json").write_text(json.dumps(body))
    return f"manifest {', '.join(told)}"


def _mutate_bytes(path: Path, rng: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    how = ("flip", "cut", "more", "zeros", "shuffle")[int(rng.integers(5))]
    if how == "flip" and content:
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    elif how == "cut":
        del content[int(rng.integers(len(content) + 1)) :]
    elif how == "more":
        content += rng.bytes(int(rng.integers(1, 200)))
    elif how == "zeros" and content:
        start = int(rng.integers(len(content)))
        content[start : start + 64] = b"\0" * min(64, len(content) - start)
    elif content:
        start = int(rng.integers(len(content)))
        part = list(content[start : start + 256])
        rng.shuffle(part)
        content[start : start + 256] = bytes(part)
    path.write_bytes(content)
    return f"{how} {path.parent.name}/{path.name}"


def _replace(path: Path, files: list[Path], rng: np.random.Generator) -> str:
    how = ("delete", "other", "link", "pipe", "folder", "empty")[int(rng.integers(6))]
    other = files[int(rng.integers(len(files)))].read_bytes()
    path.unlink()
    if how == "other":
        path.write_bytes(other)
    elif how == "link":
        path.symlink_to("/dev/zero" if rng.random() < 0.5 else "/etc/hostname")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    return f"{how} {path.parent.name}/{path.name}"


def _mutate_array(path: Path, rng: np.random.Generator) -> str:
    values = np.load(path)
    how = ("roll", "reverse", "set", "nan", "add", "type", "fewer")[int(rng.integers(7))]
    flat = values.reshape(-1)
    if how == "roll":
        values = np.roll(values, 1, axis=0)
    elif how == "reverse":
        values = np.flip(values, axis=-1).copy()
    elif how == "set" and flat.size:
        odd = (-1, 0, 1, 7, 1 << 20)[int(rng.integers(5))]
        with np.errstate(all="ignore"):
            flat[int(rng.integers(flat.size))] = np.array(odd).astype(values.dtype)
    elif how == "nan" and flat.size and values.dtype.kind == "f":
        flat[int(rng.integers(flat.size))] = (np.nan, np.inf, 1e30)[int(rng.integers(3))]
    elif how == "add" and values.dtype.kind in "fi":
        values = values + values.dtype.type(1)
    elif how == "type":
        values = values.astype((np.float64, np.int64, np.int8, bool)[int(rng.integers(4))])
    else:
        values = values[:-1]
    np.save(path, values)
    return f"{how} {path.parent.name}/{path.name}"


def _mutate_table(path: Path, rng: np.random.Generator) -> str:
    rows = pd.read_parquet(path)
    ways = ("reverse", "fewer", "null", "column", "text", "number", "rename", "shuffle", "one")
    how = ways[int(rng.integers(len(ways)))]
    columns = list(rows.columns)
    column = columns[int(rng.integers(len(columns)))]
    if how == "reverse":
        rows = rows.iloc[::-1]
    elif how == "fewer":
        rows = rows.iloc[:-1]
    elif how == "null":
        rows[column] = None
    elif how == "column":
        rows = rows.drop(columns=column)
    elif how == "text":
        rows[column] = "x"
    elif how == "rename":
        rows = rows.rename(columns={column: f"{column}_"})
    elif how == "shuffle":
        rows[column] = rng.permutation(rows[column].to_numpy())
    elif how == "one":
        values = rows[column].to_numpy(object, copy=True)
        odd = (None, np.nan, np.inf, -1, 0, 1, 1 << 40, "x", True)
        if len(values):
            values[int(rng.integers(len(values)))] = odd[int(rng.integers(len(odd)))]
        rows[column] = (
            values if pd.api.types.is_string_dtype(rows[column]) else values.astype(float)
        )
    else:
        rows[column] = -1
    rows.to_parquet(path, index=False)
    return f"{how} {column} of {path.parent.name}/{path.name}"


def mutate(bundle: Path, rng: np.random.Generator) -> tuple[str, bool]:
    """One case: what was done, and whether the hashes were redone."""
    is_redone = bool(rng.random() < 0.5)
    if rng.random() < 0.3:
        return mutate_manifest(bundle, rng, is_redone), is_redone
    files = sorted(p for p in bundle.rglob("*") if p.is_file() and p.name != "manifest.json")
    told = []
    for _ in range(1 + int(rng.random() < 0.2)):
        path = files[int(rng.integers(len(files)))]
        if not path.is_file() or path.is_symlink():
            continue
        means = rng.random()
        with suppress(ValueError, OSError, EOFError, TypeError, IndexError, OverflowError):
            if means < 0.35:
                told.append(_mutate_bytes(path, rng))
            elif means < 0.5:
                told.append(_replace(path, [p for p in files if p.is_file()], rng))
            elif path.suffix == ".npy":
                told.append(_mutate_array(path, rng))
            elif path.suffix == ".parquet":
                told.append(_mutate_table(path, rng))
            else:
                told.append(_mutate_bytes(path, rng))
    if is_redone:
        redo(bundle)
    return "; ".join(told) or "nothing", is_redone
