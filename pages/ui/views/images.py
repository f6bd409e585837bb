"""The images that say what a neuron responds to, chosen several ways; no drawing here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, KeptScores
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods import group_labels
from csp_engine.stats.enrichment import Enrichment
from csp_engine.views.address import View
from csp_engine.views.image_facts import Properties, properties_of, shared_properties
from csp_engine.views.image_facts import image_facts as facts_of_images
from csp_engine.views.images.tiles import ShownImage, Tile
from pages.ui.shell import store

MOST_FACTS = 5000
SHOW_TITLES = {
    "contrast": "Pairs",
    "exemplars": "Exemplars",
    "groups": "Groups",
    "stratified": "All bands",
    "random": "Random",
}
ABOUT_SHOW = {
    "exemplars": "The images that excite it most, strongest first.",
    "stratified": "Images from every band of activation, strongest first.",
    "random": "Images drawn at random from the probe set.",
}


def properties(bundle: Bundle) -> Properties:
    """The properties of the probe images."""
    return store.MEMO.once(("properties", bundle.digest), lambda: properties_of(bundle.images()))


def breakdown(bundle: Bundle, view: View) -> list[Enrichment]:
    """What the exemplars have more often than the probe set; one image of each group counts."""
    images = exemplar_images(bundle, view)
    return shared_properties(bundle.images(), properties(bundle), images)


def exemplar_images(bundle: Bundle, view: View) -> np.ndarray:
    """The exemplars of the neuron, strongest first."""
    exemplars = bundle.exemplars(view.model, view.layer)
    return np.asarray(exemplars.image_uk[view.unit, : int(exemplars.count_u[view.unit])])


class Describer:
    """What is known about each image beside one neuron, for tags, words and the enlarged view."""

    def __init__(self, bundle: Bundle, view: View) -> None:
        self.bundle = bundle
        self._sorted_n: np.ndarray | None = None
        self._quantile_q: np.ndarray | None = None
        stage, neurons = (
            f"{kind}:{view.model}/{view.layer}" for kind in ("activations", "neurons")
        )
        if bundle.has(stage) and not bundle.stage(stage).omitted:
            activation_un = bundle.activations(view.model, view.layer)
            self._sorted_n = np.sort(np.asarray(activation_un[view.unit]))
        elif bundle.has(stage):  # a slim copy still has some quantiles
            self._quantile_q = np.asarray(bundle.quantiles(view.model, view.layer)[view.unit])
            self._level_q = np.asarray(bundle.stage(neurons).facts["quantile_levels"])

    def facts(self, image: int, activation: float) -> tuple[tuple[str, str], ...]:
        """Activation and its place among all probe images, then the image itself."""
        rows = [("activation", numbers.activation(activation))]
        if self._sorted_n is not None:
            n_images = len(self._sorted_n)
            n_below = int(np.searchsorted(self._sorted_n, np.float32(activation)))
            share = f"{numbers.percentile(n_below / n_images, n_images)} of {n_images:,} images"
            rows.append(("stronger than", share if n_below < n_images - 1 else "all other images"))
        elif self._quantile_q is not None:
            level = float(np.interp(activation, self._quantile_q, self._level_q))
            rows.append(("stronger than", f"about {level:.0%} of {self.bundle.n_images:,} images"))
        return (*rows, *learnt(self.bundle, [image])[image])


def learnt(bundle: Bundle, images: Iterable[int]) -> dict[int, tuple[tuple[str, str], ...]]:
    """What is known about some probe images: class, group, what each shows, then its file.

    Kept, because neighbours share their images; asked for many at once, a table is read faster.
    """
    known = store.MEMO.once(("image facts", bundle.digest), dict)
    found = {image: known.get(image) for image in map(int, images)}
    new = [image for image, facts in found.items() if facts is None]
    if new:
        rows = facts_of_images(bundle.images(), properties(bundle).flags, new)
        fresh = dict(zip(new, rows, strict=True))
        found.update(fresh)
        if len(known) + len(fresh) > MOST_FACTS:
            known.clear()
        known.update(fresh)
    return found


class Copies:
    """Near-duplicates of images already shown, left out where the view asks for that."""

    def __init__(self, bundle: Bundle, view: View) -> None:
        table = bundle.images()
        is_hiding = view.copies == "hide" and "duplicate_group" in table
        self._group_n = table["duplicate_group"].to_numpy() if is_hiding else None
        self._seen: set[int] = set()
        self.n_hidden = 0

    def is_new(self, image: int) -> bool:
        """Whether to show an image; asked once for each, strongest first."""
        if self._group_n is None:
            return True
        group = int(self._group_n[image])
        if group in self._seen:
            self.n_hidden += 1
            return False
        self._seen.add(group)
        return True


def tiles_of(bundle: Bundle, view: View) -> tuple[list[tuple[str, list[Tile]]], int]:
    """The images of a view under their headings, and how many near-duplicates were left out."""
    copies = Copies(bundle, view)
    if view.show == "contrast":
        parts = [("", pair_tiles(bundle, view, view.k, copies))]
    elif view.show == "exemplars":
        parts = [("", exemplar_tiles(bundle, view, copies))]
    elif view.show == "groups":
        parts = group_tiles(bundle, view, copies)
    else:
        parts = [("", sample_tiles(bundle, view, copies))]
    return [part for part in parts if part[1]], copies.n_hidden


def pair_tiles(bundle: Bundle, view: View, limit: int, copies: Copies | None = None) -> list[Tile]:
    """Exemplars, strongest first, each beside its nearest contrast image."""
    exemplars = bundle.exemplars(view.model, view.layer)
    contrast = bundle.contrast(view.model, view.layer)
    describe = Describer(bundle, view)
    images = exemplar_images(bundle, view).tolist()
    partners = np.asarray(contrast.image_ukj[view.unit, : len(images), 0])[:limit]
    learnt(bundle, [*images[:limit], *partners[partners >= 0]])
    tiles: list[Tile] = []
    for rank, image in enumerate(images):
        if len(tiles) == limit:
            break
        if copies is not None and not copies.is_new(image):
            continue
        activation = float(exemplars.activation_uk[view.unit, rank])
        value = numbers.activation(activation)
        shots = [
            ShownImage(
                image,
                f"Exemplar {rank + 1}: image {image} of the probe set, activation {value}",
                f"fires {value}",
                f"Exemplar {rank + 1}",
                "exemplar",
                describe.facts(image, activation),
            )
        ]
        note = "no quiet look-alike"
        n_partners = 0
        if rank < contrast.n_partner_uk.shape[1]:
            n_partners = int(contrast.n_partner_uk[view.unit, rank])
        if n_partners:
            other = int(contrast.image_ukj[view.unit, rank, 0])
            activation = float(contrast.activation_ukj[view.unit, rank, 0])
            low = numbers.activation(activation)
            alike = numbers.score(float(contrast.similarity_ukj[view.unit, rank, 0]))
            note = f"#{rank + 1} · similarity {alike}"
            facts = describe.facts(other, activation)
            shots.append(
                ShownImage(
                    other,
                    f"Contrast image of exemplar {rank + 1}: image {other}, activation {low}, "
                    f"similarity {alike}",
                    f"quiet {low}",
                    "Contrast image",
                    "contrast",
                    (("similarity", alike), *facts),
                )
            )
        tiles.append(Tile(f"Exemplar {rank + 1}", tuple(shots), note))
    return tiles


def exemplar_tiles(
    bundle: Bundle, view: View, copies: Copies, ranks: Sequence[int] | None = None
) -> list[Tile]:
    """Exemplars alone, strongest first; all of them, or those of some ranks."""
    exemplars = bundle.exemplars(view.model, view.layer)
    describe = Describer(bundle, view)
    images = exemplar_images(bundle, view).tolist()
    learnt(bundle, images)
    tiles = []
    for rank in range(len(images)) if ranks is None else ranks:
        image, activation = images[rank], float(exemplars.activation_uk[view.unit, rank])
        if copies.is_new(image):
            value = numbers.activation(activation)
            words = f"Exemplar {rank + 1}: image {image} of the probe set, activation {value}"
            name = f"Exemplar {rank + 1}"
            shot = ShownImage(image, words, value, name, "", describe.facts(image, activation))
            tiles.append(Tile(name, (shot,)))
    return tiles


def group_tiles(bundle: Bundle, view: View, copies: Copies) -> list[tuple[str, list[Tile]]]:
    """The two groups of exemplars behind polysemanticity, each with the labels nearest to it."""
    stage = f"audit:{view.model}/{view.layer}"
    if not bundle.has(stage):
        return []
    sizes = bundle.units(view.model, view.layer)[["cluster_0", "cluster_1"]].iloc[view.unit]
    n_ranks = int(sizes.sum())
    group_k = np.asarray(bundle.array(stage, "image_group")[view.unit, :n_ranks])
    labels = _labels_of_groups(bundle, view, group_k)
    parts = []
    for group in range(2):
        ranks = np.flatnonzero(group_k == group).tolist()
        count = f"{len(ranks)} exemplars" if len(ranks) != 1 else "1 exemplar"
        near = ", ".join(labels[group]) if group < len(labels) else ""
        heading = f"{count}, nearest to: {near}" if near else count
        parts.append((heading, exemplar_tiles(bundle, view, copies, ranks)))
    return parts


def split_in_words(row: pd.Series) -> str:
    """Whether the two groups look like two things or like one cloud cut in half."""
    silhouette = float(row["silhouette"])
    if not silhouette >= 0:  # also where it is not defined
        return "there is nothing to split."
    if silhouette >= 0.25:
        return "the groups stand apart."
    return "the groups run into each other, so they may be one thing."


def _labels_of_groups(bundle: Bundle, view: View, group_k: np.ndarray) -> list[list[str]]:
    """The labels nearest to each group, by the first method that can be asked about some images.

    Those are the methods that keep the two halves of a contrastive concept vector.
    """
    methods = bundle.methods(view.model, view.layer)
    kept = [KeptScores(bundle, view.model, view.layer, method) for method in methods]
    first = next((each for each in kept if each.has_halves), None)
    if first is None or first.method is None or not bundle.has("embeddings") or not len(group_k):
        return []
    one = slice(view.unit, view.unit + 1)
    evidence = Evidence(
        bundle.exemplars(view.model, view.layer).block(one),
        bundle.contrast(view.model, view.layer).block(one),
        bundle.image_vectors(),
    )
    groups, label_td = group_k.astype(np.int64), bundle.label_vectors()
    found = group_labels(first.method, evidence, groups, label_td, first.method_params)
    texts = bundle.labels()["text"]
    return [[str(texts.iloc[label]) for label, _ in labels] for labels in found]


def sample_tiles(bundle: Bundle, view: View, copies: Copies) -> list[Tile]:
    """Images not chosen for being strongest: by activation band, or at random."""
    samples = bundle.samples(view.model, view.layer)
    describe = Describer(bundle, view)
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
    learnt(bundle, images)
    tiles = []
    for at in order:
        image, activation = int(images[at]), float(values[at])
        if copies.is_new(image):
            value = numbers.activation(activation)
            name, words = f"Image {image}", f"Image {image} of the probe set, activation {value}"
            shot = ShownImage(image, words, value, name, "", describe.facts(image, activation))
            tiles.append(Tile(name, (shot,), notes[at]))
    return tiles
