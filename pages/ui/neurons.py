"""Everything a page says about one neuron, read from a bundle; no drawing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from pages.ui import numbers
from pages.ui.cards import Card, Packs, Shot
from pages.ui.state import View

N_STRIP = 6
METHOD_TITLES = {"csp": "CSP", "semanticlens": "SemanticLens", "clip_dissect": "CLIP-Dissect"}


@dataclass(frozen=True, slots=True)
class BestLabel:
    """What to call a neuron, and whether that means anything."""

    text: str
    score: float
    is_reliable: bool

    @property
    def title(self) -> str:
        """The label, or an honest word for having none."""
        if not self.text:
            return "no label"
        return self.text if self.is_reliable else f"unclear: {self.text}?"


def method_title(method: str) -> str:
    """The name of a method as papers write it."""
    return METHOD_TITLES.get(method, method)


def best_label(bundle: Bundle, model: str, layer: str, unit: int, method: str) -> BestLabel:
    """The first label of a method."""
    if method not in bundle.methods(model, layer):
        return BestLabel("", 0.0, False)
    scores = bundle.scores(model, layer, method)
    if not scores.count_u[unit]:
        return BestLabel("", 0.0, False)
    texts = bundle.method_labels(model, layer, method)["text"]
    return BestLabel(
        str(texts.iloc[int(scores.label_uk[unit, 0])]),
        float(scores.score_uk[unit, 0]),
        bool(scores.reliable_u[unit]),
    )


def flags(row: pd.Series) -> list[tuple[str, str]]:
    """States of a unit worth a word, each with the sentence that explains it."""
    named = [
        ("is_constant", "constant", "It gives the same activation for every probe image."),
        ("is_dead", "dead", "It is zero on every probe image."),
        ("is_dense", "dense", "It is active on nearly every probe image."),
        ("never_positive", "never positive", "Its exemplars are the least negative images."),
    ]
    found = [(word, why) for key, word, why in named if bool(row.get(key, False))]
    return found[:1] if found and found[0][0] == "constant" else found


def statistics(bundle: Bundle, view: View) -> list[tuple[str, str]]:
    """Numbers of one neuron with what they rest on."""
    row = bundle.units(view.model, view.layer).iloc[view.unit]
    count = int(bundle.exemplars(view.model, view.layer).count_u[view.unit])
    contrast = bundle.contrast(view.model, view.layer)
    rows = [
        ("Mean ± sd", f"{numbers.activation(row['mean'])} ± {numbers.activation(row['std'])}"),
        ("Range", f"{numbers.activation(row['min'])} to {numbers.activation(row['max'])}"),
        (
            "Active on",
            f"{numbers.share(row['density'])} of {numbers.count(bundle.n_images)} images",
        ),
        ("Exemplars", numbers.count(count)),
        (
            "Quiet images",
            f"{numbers.count(contrast.pool_u[view.unit])} below "
            f"{numbers.activation(contrast.threshold_u[view.unit])}",
        ),
    ]
    for key, name in (("clarity", "Clarity"), ("polysemanticity", "Polysemanticity")):
        if key in row and pd.notna(row[key]):
            rows.append((name, numbers.score(float(row[key]))))
    if "cluster_0" in row and pd.notna(row["cluster_0"]):
        rows[-1] = (
            rows[-1][0],
            f"{rows[-1][1]} (groups of {int(row['cluster_0'])} and {int(row['cluster_1'])})",
        )
    if "redundancy" in row and pd.notna(row["redundancy"]):
        rows.append(("Redundancy", numbers.score(float(row["redundancy"]))))
    return rows


def n_null(bundle: Bundle) -> int:
    """How many random image sets stand behind the percentiles."""
    if not bundle.has("null"):
        return 0
    return int(bundle.stage("null").params.get("n_draws", 0))


def strip(bundle: Bundle, model: str, layer: str, unit: int, n: int = N_STRIP) -> tuple[Shot, ...]:
    """The first exemplars, for a card."""
    exemplars = bundle.exemplars(model, layer)
    n = min(n, int(exemplars.count_u[unit]))
    return tuple(
        Shot(
            int(exemplars.image_uk[unit, rank]),
            f"Exemplar {rank + 1}, activation "
            f"{numbers.activation(exemplars.activation_uk[unit, rank])}",
        )
        for rank in range(n)
    )


def prefetch_packs(bundle: Bundle, view: View, units: Sequence[int]) -> list[str]:
    """The thumbnail requests that the pages of some other units will make."""
    found: list[str] = []
    n_units = bundle.n_units(view.model, view.layer)
    exemplars = bundle.exemplars(view.model, view.layer)
    contrast = bundle.contrast(view.model, view.layer)
    for unit in units:
        if not 0 <= unit < n_units:
            continue
        packs = Packs(view.bundle, bundle)
        for rank in range(min(view.k, int(exemplars.count_u[unit]))):
            packs.at(int(exemplars.image_uk[unit, rank]))
            has_rank = rank < contrast.n_partner_uk.shape[1]
            if has_rank and contrast.n_partner_uk[unit, rank]:
                packs.at(int(contrast.image_ukj[unit, rank, 0]))
        found += packs.urls()
    return found


def influence_rows(
    bundle: Bundle, view: View, limit: int = 6
) -> list[tuple[str, float, list[str]]] | None:
    """The outputs that a neuron moves most, or None where the bundle does not know."""
    stored = bundle.influence(view.model, view.layer)
    if stored is None:
        return None
    effect_c = np.asarray(stored.gradient_activation_cu[:, view.unit], dtype=float)
    effect_c = np.where(np.asarray(stored.n_image_c) > 0, effect_c, 0.0)
    order = np.argsort(-np.abs(effect_c), kind="stable")[:limit]
    largest = float(np.abs(effect_c[order]).max(initial=0.0)) or 1.0
    direct = stored.direct_weight_cu
    return [
        (
            stored.output_names[output],
            effect_c[output] / largest,
            [
                numbers.signed(effect_c[output]),
                numbers.signed(float(direct[output, view.unit])) if direct is not None else "–",
                numbers.count(stored.n_image_c[output]),
            ],
        )
        for output in order
        if effect_c[output] != 0
    ]


def neuron_card(
    bundle: Bundle,
    view: View,
    model: str,
    layer: str,
    unit: int,
    *,
    score: str,
    note: str,
    n: int,
    mark: str = "",
    is_marked: bool = False,
    params: dict[str, str] | None = None,
) -> Card:
    """A neuron in a list. ``mark`` is a word about it, strong where ``is_marked``."""
    label = best_label(bundle, model, layer, unit, view.method)
    where = f"{layer} / {unit}" if len(bundle.model_names) == 1 else f"{model} / {layer} / {unit}"
    return Card(
        label.title,
        score,
        where,
        note,
        label.is_reliable,
        params or view.params(model=model, layer=layer, unit=unit),
        strip(bundle, model, layer, unit, n),
        mark,
        is_marked,
    )
