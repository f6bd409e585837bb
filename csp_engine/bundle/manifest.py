"""The manifest: what a bundle holds, from which inputs, made how. See docs/bundle.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from csp_engine.bundle.checks.inside import open_plain
from csp_engine.bundle.checks.structure import (
    Malformed,
    require_holders,
    require_shapes,
    require_types,
)
from csp_engine.bundle.kinds import stage_kind
from csp_engine.errors import BundleError
from csp_engine.hashing import sha256_json

SCHEMA = 1
"""Version of the layout that docs/bundle.md describes; readers refuse any other."""

MANIFEST_NAME = "manifest.json"
UNFINISHED = ".unfinished"
"""File beside the manifest while a build has more to add."""

LARGEST_MANIFEST = 1 << 28
"""Bytes; a bundle of a thousand layers stays far below."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a stage: content hash, size, and dtype and shape where it is an array.

    ``kept_in`` names the stage whose folder holds these very bytes for this one too; None where the
    file lies in its own stage's folder.
    """

    sha256: str
    bytes: int
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    kept_in: str | None = None


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One committed stage.

    ``key`` is the sha256 of the canonical JSON of kind, version, params, needs (stage name to key)
    and inputs (input name to content hash): equal keys mean equal content.
    ``facts`` are small results worth having without opening a file, such as counts.
    ``omitted`` says that this copy of the bundle leaves the stage's files out; what was made from
    them is here, so the record stays.
    """

    key: str
    version: int
    params: Mapping[str, Any]
    needs: Mapping[str, str]
    inputs: Mapping[str, str]
    directory: str
    files: Mapping[str, FileRecord]
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)
    omitted: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of ``manifest.json``.

    ``inputs`` describes probe set, models, encoder and vocabulary with their hashes; ``recipe`` is
    the full set of parameters of the last build, enough to derive everything again.
    """

    schema: int
    engine_version: str
    created: str
    updated: str
    inputs: Mapping[str, Any]
    recipe: Mapping[str, Any]
    stages: Mapping[str, StageRecord]

    def place(self, stage: str, file: str) -> tuple[str, str]:
        """The folder and the name under which a file lies: another stage's, where one holds it."""
        record = self.stages[stage]
        entry = record.files[file]
        if entry.kept_in is None:
            return record.directory, file
        holder = self.stages[entry.kept_in]
        return holder.directory, next(
            name
            for name, other in holder.files.items()
            if other.kept_in is None and other.sha256 == entry.sha256
        )

    def to_json(self) -> str:
        """The file's text; its last member is a hash over all the others."""
        # Written once for each stage: what ``asdict`` copies leaf by leaf is only read here.
        body = {**_fields(self), "stages": {n: _fields(r) for n, r in self.stages.items()}}
        for record in body["stages"].values():
            record["files"] = {file: _fields(entry) for file, entry in record["files"].items()}
            if not record["omitted"]:
                del record["omitted"]
            for entry in record["files"].values():
                if entry["kept_in"] is None:
                    del entry["kept_in"]
        body["self_sha256"] = sha256_json(body)
        return json.dumps(body, indent=1, sort_keys=True) + "\n"


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def stage_key(
    name: str,
    version: int,
    params: Mapping[str, Any],
    needs: Mapping[str, str],
    inputs: Mapping[str, str],
) -> str:
    """The content key of a stage. Paths, times and function names never enter."""
    return sha256_json(
        {
            "stage": stage_kind(name),
            "version": version,
            "params": dict(params),
            "needs": dict(needs),
            "inputs": dict(inputs),
        }
    )


def stage_directory(name: str, key: str) -> str:
    """The folder of a stage: a readable slug and the first 12 digits of its key."""
    slug = re.sub(r"[^A-Za-z0-9._@+-]+", "-", name)[:80].strip("-.")
    return f"{slug}-{key[:12]}"


def read_manifest(bundle_path: Path) -> Manifest:
    """Read and check ``manifest.json``.

    Raises:
        BundleError: if it is missing, altered, or of another schema.
    """
    return read_whole_manifest(bundle_path)[0]


def read_whole_manifest(bundle_path: Path) -> tuple[Manifest, str]:
    """The manifest and the sha256 of the file it was read from.

    Raises:
        BundleError: as ``read_manifest``.
    """
    if not bundle_path.is_dir():
        raise BundleError(f"There is no bundle at {bundle_path}; make one with: csp build --help")
    try:
        with open_plain(bundle_path / MANIFEST_NAME) as handle:
            content = handle.read(LARGEST_MANIFEST + 1)
        if len(content) > LARGEST_MANIFEST:
            raise BundleError(_damaged(bundle_path, f"has over {LARGEST_MANIFEST >> 20} MB"))
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise BundleError(
            f"{bundle_path} holds no finished stage (no {MANIFEST_NAME}); if a build was "
            "interrupted, run the same 'csp build' again and it resumes."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(_damaged(bundle_path, f"cannot be read ({error})")) from None
    return _parsed(bundle_path, text), hashlib.sha256(content).hexdigest()


def _parsed(bundle_path: Path, text: str) -> Manifest:
    try:
        body = json.loads(text)
        schema = body["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(_damaged(bundle_path, "is not complete JSON")) from None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema != SCHEMA:
        raise BundleError(
            f"Bundle {bundle_path.name} has schema {repr(schema)[:40]}, written by engine "
            f"{str(body.get('engine_version', 'unknown'))[:40]}; this version reads schema "
            f"{SCHEMA}. Install the version that wrote it, or build the bundle again."
        )
    stated = body.pop("self_sha256", None)
    try:
        if stated != sha256_json(body):
            raise BundleError(_damaged(bundle_path, "was altered (its own hash does not match)"))
        require_types(body)
        stages = {name: _record(record) for name, record in body["stages"].items()}
        require_holders(stages)
        require_shapes(stages)
        whole: dict[str, Any] = {**body, "stages": stages}
        return Manifest(**whole)
    except Malformed as error:
        raise BundleError(_damaged(bundle_path, str(error))) from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise BundleError(_damaged(bundle_path, "lacks required fields")) from None


def _record(record: dict[str, Any]) -> StageRecord:
    files = {
        file: FileRecord(
            entry["sha256"],
            entry["bytes"],
            entry["dtype"],
            None if entry["shape"] is None else tuple(entry["shape"]),
            entry.get("kept_in"),
        )
        for file, entry in record["files"].items()
    }
    known: dict[str, Any] = {**record, "files": files}
    return StageRecord(**known)


def _damaged(bundle_path: Path, what: str) -> str:
    return (
        f"Bundle {bundle_path.name} is damaged: its {MANIFEST_NAME} {what}; restore it from "
        "a copy, or build it again into an empty folder."
    )
