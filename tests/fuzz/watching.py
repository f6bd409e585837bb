"""What of a bundle something looks at: files by their place, and entries of the manifest."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from csp_engine.bundle.files import StageFiles
from tests.worlds.damage import body_of

Thing = tuple[str, ...]
"""``("file", PLACE)``, ``(STAGE, "params" or "facts", KEY)``, ``("inputs" or "recipe", KEY)``."""


class Watched(dict[str, Any]):
    """Entries that tell which of them are looked at; whoever goes through all looks at all."""

    def __init__(self, values: Any, seen: set[Thing], at: Thing) -> None:
        super().__init__(values)
        self._seen, self._at = seen, at

    def _all(self) -> None:
        self._seen.update((*self._at, key) for key in super().__iter__())

    def __getitem__(self, key: str) -> Any:
        self._seen.add((*self._at, key))
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add((*self._at, key))
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._seen.add((*self._at, str(key)))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._all()
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        self._all()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> Any:
        self._all()
        return super().keys()

    def values(self) -> Any:
        self._all()
        return super().values()

    def items(self) -> Any:
        self._all()
        return super().items()


@contextmanager
def watching() -> Generator[set[Thing]]:
    """What bundles that are opened meanwhile are asked for."""
    seen: set[Thing] = set()
    made = StageFiles.__init__

    def watched(self: StageFiles, path: Path, manifest: Any, digest: str) -> None:
        stages = {
            name: replace(
                record,
                params=Watched(record.params, seen, (name, "params")),
                facts=Watched(record.facts, seen, (name, "facts")),
            )
            for name, record in manifest.stages.items()
        }
        inputs = Watched(manifest.inputs, seen, ("inputs",))
        recipe = Watched(manifest.recipe, seen, ("recipe",))
        made(self, path, replace(manifest, stages=stages, inputs=inputs, recipe=recipe), digest)

    def telling(name: str, ending: str) -> Any:
        real = getattr(StageFiles, name)

        def told(self: StageFiles, stage: str, file: str) -> Any:
            if self.has(stage) and file + ending in self.manifest.stages[stage].files:
                seen.add(("file", "/".join(self.manifest.place(stage, file + ending))))
            return real(self, stage, file)

        return mock.patch.object(StageFiles, name, told)

    with (
        mock.patch.object(StageFiles, "__init__", watched),
        telling("table", ".parquet"),
        telling("array", ".npy"),
        telling("kept_open", ""),
        telling("opened", ""),
    ):
        yield seen


def altered(whole: Path, bundle: Path) -> set[Thing] | None:
    """What differs in an altered copy; None if it is more than what ``watching`` tells.

    Hashes and sizes of files and keys of stages are left out: opening compares them, and nothing
    else shows them.
    """
    try:
        one, other = body_of(whole), body_of(bundle)
        found = {
            ("file", f"{record['directory']}/{name}")
            for record in one["stages"].values()
            for name in record["files"]
            if not _is_same(whole / record["directory"] / name, bundle / record["directory"] / name)
        }
        for stage, record in one["stages"].items():
            for part in ("params", "facts"):
                old, new = record.pop(part), other["stages"][stage].pop(part)
                found |= {(stage, part, key) for key in _differing(old, new)}
        for part in ("inputs", "recipe"):
            old, new = one.pop(part), other.pop(part)
            found |= {(part, key) for key in _differing(old, new)}
        return found if _without_hashes(one) == _without_hashes(other) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        return None


def _differing(old: Any, new: Any) -> set[str]:
    nothing = object()
    return {key for key in {*old, *new} if old.get(key, nothing) != new.get(key, nothing)}


def _is_same(one: Path, other: Path) -> bool:
    is_plain = other.is_file() and not other.is_symlink()
    return is_plain and one.read_bytes() == other.read_bytes()


def _without_hashes(body: Any) -> Any:
    del body["self_sha256"]
    for record in body["stages"].values():
        del record["key"]
        record["needs"] = sorted(record["needs"])
        for entry in record["files"].values():
            del entry["sha256"], entry["bytes"]
    return body
