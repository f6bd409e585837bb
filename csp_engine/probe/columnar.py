"""Images in columns of Parquet and Arrow files, as Hugging Face keeps its data sets."""

from __future__ import annotations

import json
import logging
import posixpath
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from csp_engine.errors import InputError, UnreadableImageError, shortened
from csp_engine.probe.contents import Packed, Shard, distinct_names, local_shards
from csp_engine.probe.folders import SPLIT_NAME

logger = logging.getLogger(__name__)

_SHARD_NUMBER = re.compile(r"-\d+(-of-\d+)?(-[0-9a-f]+)?$")
_GROUPS_KEPT = 2


def image_column(schema: pa.Schema, asked: str | None = None) -> str | None:
    """The column that holds images: bytes, or bytes and path as Hugging Face writes them."""
    names = [field.name for field in schema if _is_image(field.type)]
    if asked in names:
        return asked
    return names[0] if names and asked is None else None


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        held = {field.name: field.type for field in kind}
        return "bytes" in held and _is_binary(held["bytes"])
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def holds_images(path: Path, asked: str | None = None) -> bool:
    """Whether a Parquet file has a column of images; a table of paths has none."""
    import pyarrow.parquet as pq

    try:
        return image_column(pq.read_schema(path), asked) is not None
    except (OSError, ValueError):  # what it is instead is said where tables are read
        return False


def saved_shards(folder: Path) -> list[Shard] | None:
    """The Arrow files of what ``datasets`` saved to a folder; None if it is no such folder.

    Raises:
        InputError: if a file that it names is not there.
    """
    splits = _names_in(folder / "dataset_dict.json", "splits")
    if splits is not None:
        parts = [saved_shards(folder / name) for name in splits]
        if None in parts:
            raise InputError(
                f"{str(folder)!r} lacks the part {splits[parts.index(None)]!r} that its "
                "dataset_dict.json names; save it again."
            )
        return [
            Shard(f"{name}/{shard.name}", shard.open, shard.path)
            for name, part in zip(splits, parts, strict=True)
            for shard in part or []
        ]
    files = _names_in(folder / "state.json", "_data_files", "filename")
    if files is None:
        return None
    if _names_in(folder / "state.json", "_indices_data_files", "filename"):
        raise InputError(
            f"{str(folder)!r} is a choice of rows of a larger data set, kept as indices; save it "
            "again with dataset.flatten_indices().save_to_disk(FOLDER)."
        )
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{str(folder)!r} lacks its file {missing[0]!r}; save it again.")
    return local_shards([folder / name for name in files], folder)


def _names_in(path: Path, key: str, inner: str | None = None) -> list[str] | None:
    """Plain file names in a JSON file beside the data; None if it is none of that kind."""
    try:
        given = json.loads(path.read_text("utf-8"))[key]
        names = [each if inner is None else each[inner] for each in given]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_plain = all(isinstance(name, str) and name and "/" not in name for name in names)
    return names if is_plain and ".." not in names else None


def packed_columns(
    shards: Sequence[Shard], asked: str | None = None, beside: Path | None = None
) -> Packed:
    """The images of Parquet or Arrow files, and the columns beside them.

    Numbers that the files name as classes become those names. The split is that of the files'
    names (``train-00000-of-00002.parquet``) or folders.

    Args:
        shards: files of one kind and schema.
        asked: column of images.
        beside: folder that paths start from, where a cell holds no bytes but a path.

    Raises:
        InputError: if a file cannot be read, or has no such column.
    """
    readers = [_reader(shard) for shard in shards]
    column = image_column(readers[0].schema, asked)
    if column is None:
        existing = ", ".join(readers[0].schema.names)
        raise InputError(f"{shards[0].name!r} has no column of images; it has {existing}.")
    _tell_left_out(shards[0].name, readers[0].schema, column)
    parts, paths, places, splits = [], [], [], []
    for shard, reader in zip(shards, readers, strict=True):
        if reader.schema.names != readers[0].schema.names:
            raise InputError(
                f"{shard.name!r} has other columns than {shards[0].name!r}; keep files of one "
                "data set in a folder of their own."
            )
        try:
            parts.append(_said(reader.others(column), reader.schema))
            named = reader.paths(column)
        except (OSError, ValueError) as error:
            raise _unusable(shard, error) from error
        paths += named
        places += [(reader, at) for at in range(len(named))]
        splits += [_split_of(shard.name)] * len(named)
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if "split" not in rows and any(splits):
        rows["split"] = splits
    shard_of = [place[0].shard_name for place in places]
    files = distinct_names([posixpath.normpath(p) if p else None for p in paths], shard_of)
    return Packed(files, rows, _InColumns(dict(zip(files, places, strict=True)), column, beside))


def _tell_left_out(shard: str, schema: pa.Schema, column: str) -> None:
    """Say which columns hold no plain values, so that nobody looks for them later."""
    lost = [
        field.name
        for field in schema
        if field.name != column and (pa.types.is_nested(field.type) or _is_binary(field.type))
    ]
    if lost:
        logger.warning(
            "%s: images are those of column %r; left out, for they hold bytes, lists or records: "
            "%s",
            *(shard, column, shortened(", ".join(lost), 200)),
        )


def _split_of(name: str) -> str | None:
    parts = name.split("/")
    stem = _SHARD_NUMBER.sub("", parts[-1].rsplit(".", 1)[0])
    return next((p for p in [stem, *reversed(parts[:-1])] if SPLIT_NAME.fullmatch(p)), None)


def _said(table: pa.Table, schema: pa.Schema) -> pd.DataFrame:
    """Plain columns as pandas has them, classes by name; lists and records say nothing here."""
    features: dict[str, Any] = {}
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        pass
    held: dict[str, Any] = {}
    for field in table.schema:
        if pa.types.is_nested(field.type) or _is_binary(field.type):
            continue
        values = table.column(field.name).to_pandas()
        feature = features.get(field.name, {}) if isinstance(features, dict) else {}
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list) and pa.types.is_integer(field.type):
            values = [
                str(names[int(v)]) if v == v and 0 <= v < len(names) else None for v in values
            ]
        held[field.name] = pd.Series(values, dtype=object if isinstance(values, list) else None)
    return pd.DataFrame(held, index=range(table.num_rows))


# --- files ---------------------------------------------------------------------------------------


class _Reader:
    """One Parquet or Arrow file, read in groups of rows."""

    def __init__(self, shard: Shard) -> None:
        self.shard_name = shard.name
        self.schema: pa.Schema
        self._starts: list[int]
        self._group: Callable[[int, Sequence[str]], pa.Table]
        self._is_parquet = shard.name.endswith(".parquet")
        if self._is_parquet:
            import pyarrow.parquet as pq

            file = pq.ParquetFile(shard.path or shard.open())
            self.schema = file.schema_arrow
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self._group = lambda i, columns: file.read_row_group(i, columns=list(columns))
        else:
            source = shard.open() if shard.path is None else pa.memory_map(str(shard.path))
            try:
                whole = pa.ipc.open_stream(source).read_all()
            except pa.ArrowInvalid:
                source.seek(0)
                whole = pa.ipc.open_file(source).read_all()
            self.schema = whole.schema
            sizes = [batch.num_rows for batch in whole.to_batches()]
            batches = whole.to_batches()
            self._group = lambda i, columns: pa.Table.from_batches([batches[i]]).select(columns)
        self._starts = [0]
        for size in sizes:
            self._starts.append(self._starts[-1] + size)
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def others(self, column: str) -> pa.Table:
        """All columns but that of the images."""
        names = [f.name for f in self.schema if f.name != column and not _is_image(f.type)]
        groups = [self._group(i, names) for i in range(len(self._starts) - 1)]
        if not groups:
            return pa.table({name: pa.array([]) for name in names})
        if not names:  # a table without columns has no length
            return pa.table({"\0none": pa.nulls(self._starts[-1])}).select([])
        return pa.concat_tables(groups)

    def paths(self, column: str) -> list[str | None]:
        """What images are called, as far as cells say."""
        kind = self.schema.field(column).type
        if not pa.types.is_struct(kind) or "path" not in [field.name for field in kind]:
            return [None] * self._starts[-1]
        found: list[str | None] = []
        for i in range(len(self._starts) - 1):
            # Of Parquet the paths alone are read, and not the images beside them.
            part = f"{column}.path" if self._is_parquet else column
            for chunk in self._group(i, [part]).column(column).chunks:
                found += chunk.field("path").to_pylist()
        return found

    def cell(self, column: str, row: int) -> Any:
        """One cell; the groups of rows read last are kept, for images are read in order."""
        group = bisect_right(self._starts, row) - 1
        with self._lock:
            if group not in self._kept:
                self._kept[group] = self._group(group, [column])
                while len(self._kept) > _GROUPS_KEPT:
                    self._kept.popitem(last=False)
            table = self._kept[group]
        return table.column(column)[row - self._starts[group]].as_py()


def _reader(shard: Shard) -> _Reader:
    try:
        return _Reader(shard)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise _unusable(shard, error) from error


def _unusable(shard: Shard, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:120].rstrip(".")
    return InputError(f"{shard.name!r} cannot be read as columns ({reason}).")


class _InColumns:
    """Contents of cells."""

    def __init__(
        self, place_of: dict[str, tuple[_Reader, int]], column: str, beside: Path | None
    ) -> None:
        self._place_of = place_of
        self._column = column
        self._beside = beside

    def read(self, file: str) -> bytes:
        """The bytes in a cell, or in the file that it names."""
        reader, row = self._place_of[file]
        try:
            cell = reader.cell(self._column, row)
        except ValueError as error:
            raise UnreadableImageError(f"{reader.shard_name} is damaged.") from error
        path = None
        if isinstance(cell, dict):
            cell, path = cell.get("bytes"), cell.get("path")
        if cell is not None:
            return cell
        if path and self._beside is not None:
            # A path is data: it leads to nothing outside of the folder.
            place = (self._beside / path).resolve()
            if place.is_relative_to(self._beside.resolve()):
                return place.read_bytes()
        raise UnreadableImageError("The cell holds no image.")
