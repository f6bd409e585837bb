"""Label files that are no tables: labels by layer and unit in JSON, numpy's and torch's files.

Their entries become rows such as a table has: a record brings its own columns, anything else is a
description. Names around them are units, layers and models, from the inside out.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.errors import InputError
from csp_engine.exchange.label_cells import SCORE, SEVERAL, TEXT, WEIGHT, places_of
from csp_engine.files import ALLOWED, allowed_folders, is_inside
from csp_engine.reading.tables import Table, key_of, read_text

UNIT = (
    "unit", "neuron_id", "neuron", "neuron_idx", "neuron_index", "unit_id", "feature", "feature_id",
    "feature_idx", "channel", "component", "latent",
)  # fmt: skip
UNITS = ("feature_group", "group", "units", "neurons", "features")
"""Columns that may name several units at once; the first is taken where none of ``UNIT`` is."""

IN_LIST = "n_in_list"
"""Column of how many entries the list had whose places are the units; empty for others."""

_FACTS = frozenset({"layer", "model", "method", "pooling", "score_name"})
_CONTAINERS = frozenset(
    {*SEVERAL, "results", "units", "neurons", "features", "data", "annotations", "records", "rows"}
    | {"layers", "entries", "items", "neuron_labels", "label", "description"}
)
_NUMBERS = frozenset({"id", "idx", "index", "number"})
"""Names of what may be the unit of a record that names none otherwise."""
_GROUP = re.compile(r"[\[(]?\s*\d+(\s*[,+]\s*\d+)+\s*[\])]?")
_AT = re.compile(r"\(\s*['\"](.+)['\"]\s*,\s*(\d+)\s*\)")
_MOST_BYTES = 256 << 20
_MOST_NUMBERS = 10_000_000
_MOST_DEPTH = 8


def nested_table(path: Path) -> Table | None:
    """The rows of a label file in JSON, ``.npy``, ``.npz`` or ``.pt``; None if it is a table.

    Raises:
        InputError: if it cannot be read without running code, names a unit twice, or does not say
            what belongs together.
    """
    held = _held(path)
    if held is None or _is_table(held):
        return None
    rows = list(_rows(held, {}, path.name))
    if not rows:
        return None
    if any("description" in row for row in rows):  # of units without records
        rows = [_described(row) for row in rows]
    return Table(path.name, pd.DataFrame(rows))


# --- files ---------------------------------------------------------------------------------------


def _held(path: Path) -> Any:
    """What a file holds, in Python's own types; None for a table's."""
    read = _READERS.get(path.suffix.casefold())
    if read is None:
        return None
    allowed = allowed_folders()
    if allowed is not None and not is_inside(path, allowed):
        raise InputError(
            f"{path.name!r} lies outside of the folders that may be read ({ALLOWED}); start the "
            "server with --allow FOLDER to add the one that it leads to."
        )
    return read(path)


def _read_json(path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                f"{path.name} has {twice[:80]!r} twice in one record, of which only one could be "
                "kept; name each once."
            )
        return held

    try:
        return json.loads(read_text(path, what="Table"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None  # the reader of tables says what is wrong with it


def _read_numpy(path: Path) -> Any:
    try:
        if not path.is_file():
            raise OSError("it is a device or pipe, not a file")
        n_bytes = path.stat().st_size
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                n_bytes = sum(each.file_size for each in archive.infolist())
        _require_small(path, n_bytes)
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return _plain(held)
        with held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None
    found = _plain(arrays)
    return found["arr_0"] if list(found) == ["arr_0"] else found


def _read_torch(path: Path) -> Any:
    try:
        from csp_engine.networks.loading.checkpoints import load_tensors
    except ImportError:
        raise InputError(
            f"{path.name} is a PyTorch file, and torch is not installed here; save the labels as "
            "JSON or CSV."
        ) from None
    _require_small(path, path.stat().st_size)
    try:
        return _plain(load_tensors(path, path.name))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None


def _refuse_pickle(path: Path) -> Any:
    raise InputError(
        f"{path.name} holds pickled Python objects, which could run code when loaded; save the "
        "labels as JSON or CSV."
    )


def _require_small(path: Path, n_bytes: int) -> None:
    if n_bytes > _MOST_BYTES:
        raise InputError(
            f"{path.name} would unpack to {n_bytes:,} bytes, and files of labels may have "
            f"{_MOST_BYTES:,}; is it the right file?"
        )


def _unreadable(path: Path, error: Exception) -> InputError:
    if "allow_pickle" in str(error) or "pickled" in str(error):
        return InputError(
            f"{path.name} is an array of Python objects, which could run code when loaded; save "
            "texts with numpy.save(FILE, numpy.array(labels, dtype=str)), or as JSON or CSV."
        )
    return InputError(
        f"{path.name} cannot be read as {path.suffix[1:]} "
        f"({' '.join(str(error).split())[:120].rstrip('.')}); save it again, or as JSON or CSV."
    )


def _plain(held: Any) -> Any:
    """Tensors and arrays as lists, in whatever holds them."""
    if isinstance(held, Mapping):
        return {key: _plain(value) for key, value in held.items()}
    if isinstance(held, list | tuple | set):
        return [_plain(value) for value in held]
    if isinstance(held, bytes):
        return held.decode("utf-8", "replace")
    if not hasattr(held, "tolist"):
        return held
    if math.prod(held.shape) > _MOST_NUMBERS:
        raise ValueError(f"an array of {math.prod(held.shape):,} values is no list of labels")
    return _plain(held.tolist()) if held.shape else held.tolist()


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _read_json, ".npy": _read_numpy, ".npz": _read_numpy, ".pt": _read_torch,
    ".pth": _read_torch, ".pkl": _refuse_pickle, ".pickle": _refuse_pickle,
    ".joblib": _refuse_pickle,
}  # fmt: skip


# --- what holds what -----------------------------------------------------------------------------


def _is_table(held: Any) -> bool:
    """Whether the reader of tables understands it: records in a list, or columns by row."""
    if isinstance(held, list):
        return bool(held) and all(isinstance(each, Mapping) and _unit_of(each) for each in held)
    if not isinstance(held, Mapping):
        return False
    keys = {key_of(str(key)) for key in held}
    if {"columns", "data"} <= keys:
        return True
    return _is_record(held) and not {*UNIT, *UNITS}.isdisjoint(keys) and not _is_columns(held)


def _is_record(held: Mapping[Any, Any]) -> bool:
    """Whether it names a text as columns do."""
    return any(
        key_of(str(key)) in TEXT or re.match(r"(label|description|concept)_?\d", key_of(str(key)))
        for key in held
    )


def _unit_of(held: Mapping[Any, Any]) -> str | None:
    keys = {key_of(str(key)): str(key) for key, value in held.items() if not _holds_records(value)}
    return next((keys[name] for name in (*UNIT, *UNITS) if name in keys), None)


def _holds_records(value: Any) -> bool:
    """Whether something says more of units than which they are."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], Mapping)
    return isinstance(value, Mapping)


def _is_columns(held: Mapping[Any, Any]) -> bool:
    """Whether it has a list for each column, all of one length."""
    lists = [value for key, value in held.items() if key_of(str(key)) not in _FACTS]
    unit = _unit_of(held)
    return (
        unit is not None
        and all(isinstance(value, list) for value in lists)
        and len({len(value) for value in lists}) == 1
    )


def _rows(held: Any, facts: Mapping[str, Any], name: str, depth: int = 0) -> Iterator[dict]:
    """The rows of what a file holds, in its order.

    ``facts`` are what is known of all of them: layer, model and the like.
    """
    if depth > _MOST_DEPTH:
        raise InputError(
            f"{name} is nested more than {_MOST_DEPTH} deep; write it as "
            '{"layer4": {"7": "stripes"}}.'
        )
    if isinstance(held, list):
        yield from _of_list(held, facts, name, depth)
        return
    if not isinstance(held, Mapping):
        return
    held = {str(key): value for key, value in held.items()}
    if _is_record(held) and _unit_of(held):
        yield from _of_record(held, facts, name)
        return
    named = {key: place for key in held if (place := _place_of(key)) is not None}
    is_layers = any(_is_units(value) for value in held.values())
    if held and len(named) == len(held) and not is_layers:
        which = "units" if any("," in unit or "+" in unit for _, unit in named.values()) else "unit"
        for key, value in held.items():
            layer, unit = named[key]
            own = {**facts, **({"layer": layer} if layer else {})}
            if isinstance(value, Mapping) and _is_record(value):
                unit_if_none = {} if _unit_of(value) else {which: unit}
                yield from _of_record({**unit_if_none, **_without_empty(value)}, own, name)
            elif not _is_empty(value):
                yield {**own, which: unit, "description": value}
        return
    known = {key_of(key): value for key, value in held.items() if key_of(key) in _FACTS}
    facts = {**facts, **{k: v for k, v in known.items() if isinstance(v, str | int)}}
    inside = {
        key: value
        for key, value in held.items()
        if isinstance(value, Mapping | list) and key_of(key) not in _FACTS
    }
    chosen = [key for key in inside if key_of(key) in _CONTAINERS]
    if chosen:
        yield from _of_containers(inside, chosen, facts, name, depth)
        return
    for key, value in inside.items():
        if isinstance(value, Mapping) and _is_record(value) and _unit_of(value):
            yield from _of_record(value, {"layer": key, **facts}, name)
        else:
            yield from _rows(value, _inside(key, facts, name), name, depth + 1)


def _of_containers(
    inside: Mapping[str, Any],
    chosen: Sequence[str],
    facts: Mapping[str, Any],
    name: str,
    depth: int,
) -> Iterator[dict]:
    """The rows of what is called labels, results or the like, with scores that stand beside it."""
    text = next((key for key in chosen if key_of(key) in TEXT), None)
    beside = [key for key in inside if key_of(key) in {*SCORE, *WEIGHT}]
    if text is None or not beside:
        for key in chosen:
            yield from _rows(inside[key], facts, name, depth + 1)
        return
    columns = {key: inside[key] for key in (text, *beside)}
    own = inside[text]
    if all(isinstance(column, list) for column in columns.values()):
        yield from _of_columns(columns, facts, name)
    elif all(
        isinstance(column, Mapping) and column.keys() == own.keys() for column in columns.values()
    ):
        joined = {at: {key: column[at] for key, column in columns.items()} for at in own}
        yield from _rows(joined, facts, name, depth + 1)
    else:
        raise InputError(
            f"{name} has {text!r} and {beside[0]!r} in different shapes; write both as lists of "
            "one length, or by the same units."
        )


def _inside(key: str, facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Facts of what stands below a name: a layer's, below a model's where both are there."""
    if "layer" not in facts:
        return {**facts, "layer": key}
    if "model" not in facts:
        return {**facts, "model": facts["layer"], "layer": key}
    raise InputError(
        f"{name} has the names {facts['model']!r}, {facts['layer']!r} and {key!r} around units; a "
        "model and a layer are understood."
    )


def _of_list(
    held: Sequence[Any], facts: Mapping[str, Any], name: str, depth: int
) -> Iterator[dict]:
    records = [each for each in held if isinstance(each, Mapping)]
    if records and len(records) == len(held):
        own = [{str(key): value for key, value in each.items()} for each in records]
        if all(_is_record(each) and not _unit_of(each) and not _is_layer(each) for each in own):
            for at, each in enumerate(own):
                yield {**facts, "unit": at, **each, IN_LIST: len(own)}
            return
        for each in own:
            if _is_record(each) and (_unit_of(each) or _NUMBERS.intersection(map(key_of, each))):
                yield {**facts, **each}
            else:
                yield from _rows(each, facts, name, depth + 1)
        return
    if held and isinstance(held[0], list) and all(isinstance(each, str) for each in held[0]):
        head = {key_of(each): each for each in held[0]}
        if any(each in head for each in UNIT) and any(each in head for each in TEXT):
            for row in held[1:]:
                yield {**facts, **dict(zip(held[0], row, strict=False))}
            return
    pairs = [each for each in held if isinstance(each, list) and len(each) == 2]
    if (
        held
        and len(pairs) == len(held)
        and all(isinstance(unit, int) and isinstance(text, str) for unit, text in pairs)
    ):
        yield from ({**facts, "unit": unit, "description": text} for unit, text in pairs)
        return
    yield from _of_columns({"description": held}, facts, name)


def _is_layer(record: Mapping[str, Any]) -> bool:
    """Whether a record is about all units of a layer, or names a unit in words unknown here."""
    held = {key_of(key): value for key, value in record.items()}
    is_list = any(isinstance(held.get(name), list | Mapping) for name in TEXT)
    return ("layer" in held and is_list) or bool(_NUMBERS.intersection(held))


def _of_columns(
    columns: Mapping[str, Sequence[Any]], facts: Mapping[str, Any], name: str
) -> Iterator[dict]:
    """Rows of lists of which each place is a unit."""
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        counts = ", ".join(f"{len(column)} of {key!r}" for key, column in columns.items())
        raise InputError(f"{name} has lists of different lengths ({counts}); is one cut off?")
    texts = next(iter(columns.values()))
    if any(_is_numbers(each) for each in texts):
        raise InputError(
            f"{name} has a list of numbers where labels of units should be; write texts, or units "
            'by label the other way round, such as {"7": "stripes"}.'
        )
    for at, own in enumerate(zip(*columns.values(), strict=True)):
        if not _is_empty(own[0]):
            row = dict(zip(columns, own, strict=True))
            yield {**facts, "unit": at, **row, IN_LIST: len(texts)}


def _of_record(
    held: Mapping[str, Any], facts: Mapping[str, Any], name: str
) -> Iterator[dict[str, Any]]:
    """The rows of one record: one, or one for each entry where its columns are lists."""
    unit = _unit_of(held)
    if unit is None or not isinstance(held[unit], list):
        yield {**facts, **held}
        return
    if key_of(unit) in UNITS:
        has_pairs = any(isinstance(v, list) and v and isinstance(v[0], list) for v in held.values())
        if _is_columns(held) and not has_pairs:
            raise InputError(
                f"{name} has as many units in {unit!r} as texts: they may be one group of which "
                "all texts hold, or one text for each. Write a record for each unit or group in a "
                "list."
            )
        yield {**facts, **held}
        return
    shared = {key: value for key, value in held.items() if key_of(key) in _FACTS}
    columns = {key: value for key, value in held.items() if key not in shared}
    if not _is_columns(held):
        raise InputError(
            f"{name} has {len(held[unit])} units in a list and not as many of everything beside "
            "it; write lists of one length, or a record for each unit."
        )
    for own in zip(*columns.values(), strict=True):
        yield {**facts, **shared, **dict(zip(columns, own, strict=True))}


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose text, whatever it is called, is its description."""
    text = next((key for name in TEXT for key in row if key_of(key) == name), None)
    if text is None or "description" in row:
        return row
    return {"description" if key == text else key: value for key, value in row.items()}


def _place_of(key: str) -> tuple[str, str] | None:
    """The layer ("" if it says none) and the unit, or group of units, that a name says."""
    if _GROUP.fullmatch(key):
        return "", key.strip("()[]")
    if at := _AT.fullmatch(key):
        return at[1], at[2]
    (layer,), (unit,) = places_of([key])
    return (layer, unit) if re.fullmatch(r"\d{1,9}", unit) else None


def _is_units(value: Any) -> bool:
    """Whether something holds texts by unit, so that what names it is a layer."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(_place_of(str(key)) is not None for key in value)
        and not all(isinstance(own, int | float) for own in value.values())
    )


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_numbers(each) for each in value)
    return isinstance(value, int | float)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | Mapping) and not value)


def _without_empty(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): own for key, own in value.items() if own is not None}
