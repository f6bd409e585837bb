"""Tables to take along: images that drive suspects, and what an artefact does to every neuron."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.cells import csv_text
from csp_engine.types import NeuronRef
from csp_engine.views.audit.associations import in_question, look, sought_in
from csp_engine.views.audit.interventions import Audited, Effect, audited, effects
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import BestLabel
from csp_engine.words.concepts import ConceptSet

COLUMNS = {
    "model": "string", "layer": "string", "unit": "Int64", "label": "string",
    "evidence": "string", "of": "string", "auroc": "float64", "effect": "float64",
    "rank": "Int64", "file": "string", "class": "string", "group": "string",
    "activation": "float64", "shows": "float64",
}  # fmt: skip
"""Of the table, in order.

``evidence`` is ``association`` or ``intervention``, ``of`` the concept column or the artefact;
``auroc`` is the neuron's for that column, ``effect`` the part of the artefact's effect on the
output that attribution gives it, in log-odds. ``rank`` counts from 1, the image that excites most;
``shows`` is the column of that name, empty where there is none or nobody knows.
"""


def images_of_associated(
    bundle: Bundle,
    memo: Memo,
    model: str,
    layers: Iterable[str],
    method: str,
    concepts: ConceptSet,
    column: str = "",
) -> pd.DataFrame:
    """Exemplars of every suspect of a column, or of all columns that are in question."""
    rows = []
    for layer in layers:
        for sought in sought_in(bundle, model, layer, concepts):
            if sought.name != column if column else not sought.is_in_question:
                continue
            if sought.kind != "concept" or not sought.n_suspects:
                continue
            found = look(bundle, memo, model, layer, sought.name, method, concepts)
            rows += [
                _images(
                    bundle, each.neuron, each.label, "association", sought.name,
                    each.auroc.value, float("nan"),
                )
                for each in (() if found is None else found.suspects)
            ]  # fmt: skip
    return _joined(rows)


def images_of_all(
    bundle: Bundle,
    memo: Memo,
    model: str,
    layers: Iterable[str],
    method: str,
    concepts: ConceptSet,
) -> pd.DataFrame:
    """Exemplars of all suspects of a model: of columns, then of tried artefacts, in question."""
    stored = bundle.intervention(model)
    tried = [] if stored is None else [each.artefact for each in effects(stored)]
    tried = in_question(tried, concepts)
    told = [audited(bundle, model, artefact, method) for artefact in tried]
    layers = tuple(layers)
    carried = [images_of_carriers(bundle, each) for each in told if each is not None]
    rows = [
        images_of_associated(bundle, memo, model, layers, method, concepts),
        *(each[each["layer"].isin(layers)] for each in carried),
    ]
    return _joined([each for each in rows if len(each)])


def images_of_carriers(bundle: Bundle, found: Audited) -> pd.DataFrame:
    """Exemplars of the neurons that carry an artefact's effect."""
    artefact = found.effect.artefact
    return _joined(
        [
            _images(
                bundle, each.neuron, each.label, "intervention", artefact,
                float("nan"), each.attribution,
            )
            for each in found.suspects
        ]
    )  # fmt: skip


def images_csv(rows: pd.DataFrame) -> bytes:
    """The table as CSV that a spreadsheet only shows."""
    return csv_text(rows).encode()


def every_neuron_csv(stored: StoredIntervention, effect: Effect) -> bytes:
    """``every_neuron`` as CSV that a spreadsheet only shows."""
    return csv_text(every_neuron(stored, effect)).encode()


def every_neuron(stored: StoredIntervention, effect: Effect) -> pd.DataFrame:
    """What an artefact does to every neuron: its part of the effect, its change, with intervals.

    Columns are those of a bundle's table of units, with bounds; none where the effect is withheld.
    """
    own = stored.units[stored.units["artefact"] == effect.artefact]
    rows = own.iloc[:0] if effect.is_withheld else own
    found = rows[["artefact", "layer", "unit", "attribution", "change"]].copy()
    for name in ("confirmed", "moved"):
        if name in rows:
            value, within = (rows[each].astype(np.float64) for each in (name, f"{name}_within"))
            found[name], found[f"{name}_low"] = value, value - within
            found[f"{name}_high"] = value + within
    return found.reset_index(drop=True)


def _images(
    bundle: Bundle,
    neuron: NeuronRef,
    label: BestLabel,
    evidence: str,
    of: str,
    auroc: float,
    effect: float,
) -> pd.DataFrame:
    held = bundle.exemplars(neuron.model, neuron.layer)
    n = int(held.count_u[neuron.unit])
    image_k = np.asarray(held.image_uk[neuron.unit, :n], np.int64)
    shot = bundle.images().iloc[image_k]
    missing = pd.Series([pd.NA] * n, shot.index)
    columns = list(bundle.manifest.inputs["probe"].get("concepts", ()))
    return pd.DataFrame(
        {
            "model": neuron.model,
            "layer": neuron.layer,
            "unit": neuron.unit,
            "label": label.text if label.is_named else pd.NA,
            "evidence": evidence,
            "of": of,
            "auroc": auroc,
            "effect": effect,
            "rank": np.arange(1, n + 1),
            "file": shot["file"].to_numpy(),
            "class": shot.get("class", missing).to_numpy(),
            "group": shot.get("group", missing).to_numpy(),
            "activation": np.asarray(held.activation_uk[neuron.unit, :n], np.float64),
            "shows": shot[of].to_numpy(np.float64) if of in columns else np.nan,
        }
    )


def _joined(rows: list[pd.DataFrame]) -> pd.DataFrame:
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat(rows, ignore_index=True).astype(COLUMNS) if rows else empty
