"""An export as a folder that appears when it is whole, and replaces nothing but an export."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.bundle.writer import translated_os_errors
from csp_engine.errors import InputError

RECORD = "export.json"
FORMAT = 1
KINDS = "neuron browser: "
"""How what a record says of its kind begins."""

Files = Iterator[tuple[str, bytes]]
"""Paths inside of the folder, with what the files hold."""


def record_of(bundle: Bundle, kind: str, n_neurons: int) -> dict[str, Any]:
    """What the record of an export says beside its files."""
    return {
        "kind": kind,
        "format": FORMAT,
        "bundle": {"name": bundle.name, "sha256": bundle.digest},
        "n_neurons": n_neurons,
    }


def with_record(files: Files, record: Mapping[str, Any]) -> Files:
    """The files of an export, then the list of them."""
    held: dict[str, dict[str, Any]] = {}
    for path, content in files:
        held[path] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        yield path, content
    whole = {**record, "files": dict(sorted(held.items()))}
    yield RECORD, (json.dumps(whole, indent=1) + "\n").encode()


def write_in_folder(files: Files, out: Path, record: Mapping[str, Any]) -> tuple[int, int]:
    """Write files to a folder, which appears under its name only when it is whole.

    An earlier export in its place is replaced; anything else there is left alone.

    Args:
        files: of the export.
        out: the folder; it may be missing, empty or an export.
        record: from ``record_of``.

    Returns:
        how many files were written, and how many bytes.

    Raises:
        InputError: if ``out``, or a folder that is needed meanwhile, holds anything else, or
            cannot be written.
    """
    require_replaceable(out)
    out = out.resolve()
    temporary = out.with_name(f".tmp-{out.name}")
    with translated_os_errors(out.parent):
        for left in (temporary, _old(out)):
            _clear_away(left)
        temporary.mkdir(parents=True)
        try:
            # Says whose folder it is, should the process be killed; the whole record comes last.
            (temporary / RECORD).write_text(json.dumps(record), "utf-8")
            n_files = n_bytes = 0
            for path, content in with_record(files, record):
                file = temporary / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                n_files, n_bytes = n_files + 1, n_bytes + len(content)
            require_replaceable(out)  # somebody may have put a file there meanwhile
            put_in_place(temporary, out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return n_files, n_bytes


def put_in_place(whole: Path, out: Path) -> None:
    """Give a folder that is whole the name of an export, instead of an earlier one.

    Raises:
        InputError: if what was there cannot be put aside for it.
    """
    old = _old(out)
    _clear_away(old)
    if out.exists():
        out.rename(old)
    whole.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.with_name(f".old-{out.name}")


def require_replaceable(out: Path) -> None:
    """Refuse a place that holds anything an export did not write.

    Raises:
        InputError: in one sentence.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise InputError(f"{out} is not a folder; choose another place for the export.")
    # A link to a folder is none of the export's.
    files = (p for p in out.rglob("*") if p.is_symlink() or not p.is_dir())
    found = {p.relative_to(out).as_posix() for p in files}
    if not found:
        return
    record = _record_in(out)
    strange = sorted(found - {RECORD, *record.get("files", ())} if record else found)
    if strange:
        raise InputError(
            f"{out} holds {strange[0]}, which no export wrote; choose an empty or a new folder."
        )


def _clear_away(left: Path) -> None:
    """Delete what a run that was killed left behind.

    Raises:
        InputError: if something of that name is not from an export.
    """
    if not left.exists() and not left.is_symlink():
        return
    is_folder = left.is_dir() and not left.is_symlink()
    if not is_folder or (any(left.iterdir()) and not _record_in(left)):
        raise InputError(
            f"{left} is in the way and no export wrote it; move it elsewhere, or choose another "
            "name for the export."
        )
    shutil.rmtree(left)


def _record_in(folder: Path) -> dict[str, Any]:
    """The record of an export, whole or begun; empty where there is none."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        is_export = str(record["kind"]).startswith(KINDS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    is_sound = is_export and isinstance(record.get("files", {}), dict)
    return record if is_sound else {}
