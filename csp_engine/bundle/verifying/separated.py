"""Whether what a bundle says of texts that separate its images follows from its vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same
from csp_engine.evaluation.separating import Separating, named_columns, separating
from csp_engine.evaluation.separation import AUROC_MIN

P_LOSS = 0.011
"""Two draws of the fewest, which may tie but for rounding."""


def why_not_separation(bundle: Bundle) -> str:
    """Why the stage cannot be measured again, as the end of a sentence; empty where it can."""
    record = bundle.stage(kinds.SEPARATION.name())
    if record.version != kinds.SEPARATION.version or "name.npy" not in record.files:
        return "another version of this program measured it"
    if not is_here(bundle, "embeddings", "vocabulary", "probe"):
        return "this copy leaves out what it was made from"
    return ""


def separation(bundle: Bundle) -> Found:
    """All facts and names of the stage again, from the vectors that are stored."""
    stage = kinds.SEPARATION.name()
    facts = bundle.stage(stage).facts
    by_name = facts.get("auroc")
    if facts.get("is_separated") and by_name is not None and by_name < AUROC_MIN - LOSS:
        yield stage, f"is_separated of stage {stage} contradicts its auroc."
    if why_not_separation(bundle):
        return
    named = named_columns(
        bundle.table(kinds.PROBE.name(), "probe"), bundle.manifest.inputs["probe"]["concepts"]
    )
    held, name_cd = bundle.table(stage, "names"), np.asarray(bundle.array(stage, "name"))
    place = {pair: at for at, pair in enumerate(zip(named.names, named.kinds, strict=True))}
    chosen = [place.get(pair, -1) for pair in zip(held["name"], held["kind"], strict=True)]
    of_labels = [at for at, text in enumerate(named.texts) if text in bundle.label_ids]
    if chosen not in (list(range(len(named.names))), of_labels):
        yield stage, f"Stage {stage} does not list the names of columns and classes."
        return
    label_td = np.asarray(bundle.label_vectors())
    texts = named.some(chosen).texts
    is_label = np.array([text in bundle.label_ids for text in texts], bool)
    own = [bundle.label_ids[text] for text in texts if text in bundle.label_ids]
    if not is_same(name_cd[is_label], label_td[own]):
        yield stage, f"Vectors of names in stage {stage} are not those of the same labels."
        return
    fresh = separating(
        bundle.image_vectors(),
        bundle.labels()["text"].tolist(),
        label_td,
        named.some(chosen),
        name_cd,
    )
    yield from _compared(stage, facts, held, fresh)


def _compared(stage: str, facts: Any, held: Any, fresh: Separating) -> Found:
    for column in ("auroc", "shuffled"):
        if not is_same(held[column].to_numpy(), fresh.names[column].to_numpy()):
            yield stage, f"{column} of the names in stage {stage} is not what follows from vectors."
    for name, value in fresh.facts.items():
        said = facts.get(name)
        if isinstance(value, float) and isinstance(said, int | float):
            is_near = abs(value - said) <= (P_LOSS if "_p" in name else LOSS)
        else:
            is_near = said == value and isinstance(said, bool) == isinstance(value, bool)
        if not is_near:
            yield stage, f"{name} of stage {stage} is {said}, and {value} follows from its vectors."
