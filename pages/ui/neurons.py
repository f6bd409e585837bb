"""Everything a page says about one neuron, read from a bundle; no drawing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from pages.ui import numbers
from pages.ui.cards import Card, Packs, Shot, Tile
from pages.ui.state import View

N_STRIP = 6
METHOD_TITLES = {"csp": "CSP", "semanticlens": "SemanticLens", "clip_dissect": "CLIP-Dissect"}
SHOW_TITLES = {
    "contrast": "Exemplars and contrast images",
    "stratified": "Across all activations",
    "random": "Random images",
}


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


def image_facts(bundle: Bundle, image: int) -> tuple[tuple[str, str], ...]:
    """What is known about a probe image, for the enlarged view."""
    row = bundle.images().iloc[image]
    hidden = {
        "sha256",
        "perceptual_hash",
        "listed",
        "thumb_bytes",
        "duplicate_of",
        "duplicate_group",
    }
    kept = [
        (str(name).replace("_", " "), str(value))
        for name, value in row.items()
        if name not in hidden | {"width", "height"} and pd.notna(value)
    ]
    size = [("size", f"{row['width']} × {row['height']}")] if "width" in row else []
    return (("image", str(image)), *kept[:8], *size)


def pair_tiles(bundle: Bundle, view: View, limit: int) -> list[Tile]:
    """Exemplars, strongest first, each beside its nearest contrast image."""
    exemplars = bundle.exemplars(view.model, view.layer)
    contrast = bundle.contrast(view.model, view.layer)
    n_ranks = min(limit, int(exemplars.count_u[view.unit]))
    tiles = []
    for rank in range(n_ranks):
        image = int(exemplars.image_uk[view.unit, rank])
        value = numbers.activation(exemplars.activation_uk[view.unit, rank])
        shots = [
            Shot(
                image,
                f"Exemplar {rank + 1}: image {image} of the probe set, activation {value}",
                f"fires {value}",
                f"Exemplar {rank + 1}",
                "exemplar",
                (("activation", value), *image_facts(bundle, image)),
            )
        ]
        note = "no quiet look-alike"
        n_partners = 0
        if rank < contrast.n_partner_uk.shape[1]:
            n_partners = int(contrast.n_partner_uk[view.unit, rank])
        if n_partners:
            other = int(contrast.image_ukj[view.unit, rank, 0])
            low = numbers.activation(contrast.activation_ukj[view.unit, rank, 0])
            alike = numbers.score(float(contrast.similarity_ukj[view.unit, rank, 0]))
            note = f"#{rank + 1} · similarity {alike}"
            shots.append(
                Shot(
                    other,
                    f"Contrast image of exemplar {rank + 1}: image {other}, activation {low}, "
                    f"similarity {alike}",
                    f"quiet {low}",
                    "Contrast image",
                    "contrast",
                    (("activation", low), ("similarity", alike), *image_facts(bundle, other)),
                )
            )
        tiles.append(Tile(f"Exemplar {rank + 1}", tuple(shots), note))
    return tiles


def sample_tiles(bundle: Bundle, view: View) -> list[Tile]:
    """Images not chosen for being strongest: by activation band, or at random."""
    samples = bundle.samples(view.model, view.layer)
    if view.show == "stratified":
        images = samples.stratified_image_us[view.unit]
        values = samples.stratified_activation_us[view.unit]
        n_bands = int(samples.stratum_s.max(initial=0)) + 1
        notes = [f"band {int(band) + 1} of {n_bands}" for band in samples.stratum_s]
        order = np.argsort(-np.asarray(values), kind="stable")
    else:
        images, values = samples.random_image_us[view.unit], samples.random_activation_us[view.unit]
        notes = [""] * len(images)
        order = np.arange(len(images))
    tiles = []
    for at in order:
        image, value = int(images[at]), numbers.activation(values[at])
        shot = Shot(
            image,
            f"Image {image} of the probe set, activation {value}",
            value,
            f"Image {image}",
            "",
            (("activation", value), *image_facts(bundle, image)),
        )
        tiles.append(Tile(f"Image {image}", (shot,), notes[at]))
    return tiles


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


def class_rows(
    bundle: Bundle, view: View, limit: int = 6
) -> list[tuple[str, float, list[str]]] | None:
    """Classes of the exemplars against the base rate, or None where the probe set has none."""
    classes = bundle.classes()
    if classes.empty:
        return None
    counts = bundle.class_counts(view.model, view.layer)
    mine = counts[counts["unit"] == view.unit].sort_values(
        ["count", "class"], ascending=[False, True]
    )
    total = int(mine["count"].sum())
    n_all = int(classes["n_images"].sum())
    rows = []
    for row in mine.head(limit).itertuples():
        known = classes.iloc[int(row[mine.columns.get_loc("class") + 1])]
        here = int(row[mine.columns.get_loc("count") + 1]) / max(1, total)
        base = int(known["n_images"]) / max(1, n_all)
        lift = f"{here / base:.1f}×" if base else "–"
        rows.append((str(known["name"]), here, [numbers.share(here), numbers.share(base), lift]))
    return rows


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
    bundle: Bundle, view: View, model: str, layer: str, unit: int, *, score: str, note: str, n: int
) -> Card:
    """A neuron in a list of results."""
    label = best_label(bundle, model, layer, unit, view.method)
    where = f"{layer} / {unit}" if len(bundle.model_names) == 1 else f"{model} / {layer} / {unit}"
    return Card(
        label.title,
        score,
        where,
        note,
        label.is_reliable,
        view.params(model=model, layer=layer, unit=unit, show="", q="", **{"not": ""}),
        strip(bundle, model, layer, unit, n),
    )
