"""Checking a bundle against its manifest, byte for byte."""

from __future__ import annotations

from csp_engine.bundle.manifest import stage_key
from csp_engine.bundle.reader import Bundle
from csp_engine.hashing import sha256_file
from csp_engine.types import Progress, silent


def verify(bundle: Bundle, progress: Progress = silent) -> list[str]:
    """Hash every file again and check keys and needs; an empty list means the bundle is whole.

    Files that this copy leaves out (``Bundle.omitted``) are no problem; keys are checked all the
    same.

    Each entry is one sentence that names the file or stage.
    """
    problems: list[str] = []
    stages = bundle.manifest.stages
    total = sum(len(record.files) for record in stages.values() if not record.omitted)
    done = 0
    for name, record in stages.items():
        key = stage_key(name, record.version, record.params, record.needs, record.inputs)
        if key != record.key:
            problems.append(f"Stage {name} has key {record.key[:12]} but describes {key[:12]}.")
        for need, need_key in record.needs.items():
            held = stages.get(need)
            if held is None:
                problems.append(f"Stage {name} was made from {need}, which is not in the bundle.")
            elif held.key != need_key:
                problems.append(f"Stage {name} is older than the {need} now in the bundle.")
        if record.omitted:
            continue
        for file, entry in record.files.items():
            path = bundle.path / record.directory / file
            where = f"{record.directory}/{file}"
            if not path.is_file():
                problems.append(f"{where} is missing.")
            elif path.stat().st_size != entry.bytes:
                problems.append(f"{where} has {path.stat().st_size} bytes, not {entry.bytes}.")
            elif sha256_file(path) != entry.sha256:
                problems.append(f"{where} was altered: its sha256 does not match the manifest.")
            done += 1
            progress("verify", done, total)
    return problems
