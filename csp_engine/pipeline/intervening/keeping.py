"""What pairs of images showed, in a finished bundle: stages ``intervention:MODEL``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, StoredIntervention, stage_key
from csp_engine.bundle.kinds import INTERVENTION
from csp_engine.errors import InputError
from csp_engine.files import write_whole

FACTS = "facts.json"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What pairs of images showed of one network, outside of any bundle.

    Attributes:
        model: name of the network.
        identity: what it was made from, as the key of a stage takes it.
        facts: what the manifest says of it: output, images, n_pairs, has_neutral.
        tables: those of docs/bundle.md by name.
        thumbs: WebP pictures, in the order of the table ``shown``.
    """

    model: str
    identity: dict[str, Any]
    facts: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    thumbs: tuple[bytes, ...]

    @property
    def stored(self) -> StoredIntervention:
        """As a bundle would give it."""
        held = {name: self.tables[name] for name in ("effects", "pairs", "units", "sets", "shown")}
        return StoredIntervention(
            self.facts["output"],
            self.facts["images"],
            **held,
            gates=self.tables.get("gates"),
            given=self.tables.get("given"),
        )


def keep_interventions(path: Path, measured: Measured) -> Bundle:
    """Keep what pairs of images showed of a network; what the bundle had of it is replaced.

    Args:
        path: a finished bundle, changed in place.
        measured: from ``measure_pairs`` or ``read_interventions``.

    Raises:
        InputError: if the network is not the bundle's, or a layer is not in the bundle.
        BundleError: if another process is writing the bundle.
    """
    bundle, model = Bundle.open(path), measured.model
    require_same(bundle, model, measured.identity["inputs"]["model"])
    known = bundle.layers(model)
    strange = [each for each in measured.identity["params"]["layers"] if each not in known]
    if strange:
        raise InputError(
            f"Layer {strange[0]!r} of {model} is not in {path.name}; it has {', '.join(known)}."
        )
    stage = INTERVENTION.name(model)
    with BundleWriter(path) as writer:
        if writer.is_fresh(stage, stage_key(stage, **measured.identity)):
            return bundle
        with writer.stage(stage, **measured.identity) as folder:
            _write(folder, measured)
    return Bundle.open(path)


def leave_interventions(path: Path, measured: Measured) -> None:
    """Write it into a folder, outside of any bundle, for ``read_interventions``."""
    path.mkdir(parents=True, exist_ok=True)
    folder = StageFolder(path)
    _write(folder, measured)
    told = {"model": measured.model, "identity": measured.identity, "facts": folder.facts}
    write_whole(path / FACTS, json.dumps({**told, "tables": list(measured.tables)}))


def read_interventions(folder: Path) -> Measured:
    """What ``leave_interventions`` left in a folder of this computer's own."""
    told = json.loads((folder / FACTS).read_text("utf-8"))
    offset = np.load(folder / "thumb_offset.npy", allow_pickle=False)
    content = (folder / "thumbs.bin").read_bytes()
    return Measured(
        str(told["model"]),
        dict(told["identity"]),
        dict(told["facts"]),
        {str(name): pd.read_parquet(folder / f"{name}.parquet") for name in told["tables"]},
        tuple(content[a:b] for a, b in pairwise(offset.tolist())),
    )


def _write(folder: StageFolder, measured: Measured) -> None:
    for name, table in measured.tables.items():
        folder.table(name, table, is_coded=name != "units")
    folder.array("thumb_offset", np.cumsum([0, *map(len, measured.thumbs)]).astype(np.int64))
    folder.path.joinpath("thumbs.bin").write_bytes(b"".join(measured.thumbs))
    folder.facts.update(measured.facts)


def require_same(bundle: Bundle, model: str, fingerprint: str) -> None:
    """Refuse a network that is not the one that a bundle was made of."""
    described = bundle.manifest.inputs.get("models", {})
    if described.get(model, {}).get("fingerprint") != fingerprint:
        raise InputError(
            f"{model} is not the network that {bundle.name} was made of; its networks are "
            f"{', '.join(described)}. Give the same weights and preprocessing."
        )
