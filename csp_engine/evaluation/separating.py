"""What a bundle keeps of how far texts separate its images: the sample, the figures, the facts.

A build measures it; ``csp verify`` measures it again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from csp_engine.evaluation.lean import lean
from csp_engine.evaluation.separation import is_separated, naming
from csp_engine.words.vocabularies import clean_label

N_IMAGES, N_TEXTS, N_NAMES = 4000, 500, 200
"""Most images, labels and names that are looked at."""
N_LEAN_IMAGES, N_LEAN_TEXTS = 1000, 100
"""Most images and labels that are looked at again for each draw of the lean."""


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """What images are said to show: name, kind (``column`` or ``class``) and 1, 0 or NaN."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    value_nc: Float32[np.ndarray, "n c"]

    @property
    def texts(self) -> list[str]:
        """The names as texts."""
        return [as_text(name) for name in self.names]

    def some(self, chosen: Sequence[int]) -> Named:
        """Only these."""
        names, of = ([values[at] for at in chosen] for values in (self.names, self.kinds))
        return Named(tuple(names), tuple(of), self.value_nc[:, list(chosen)])


@dataclass(frozen=True, slots=True, eq=False)
class Separating:
    """The table of names and the facts of the stage."""

    names: pd.DataFrame
    facts: dict[str, Any]


def as_text(name: str) -> str:
    """The name of a column or class as words: "dark_corner" is "dark corner"."""
    return clean_label(re.sub(r"^n\d{8}(?=[_ -])", "", name).replace("_", " "))


def named_columns(probe: pd.DataFrame, concepts: Sequence[str]) -> Named:
    """The concept columns of a probe table, and its classes.

    Names without a letter are no texts; of many classes the most frequent are looked at.
    """
    values = list(probe[list(concepts)].to_numpy(np.float32).T)
    found = [(name, "column") for name in concepts]
    if "class" in probe:
        of = probe["class"]
        is_known = of.notna().to_numpy(bool)
        for name in of.value_counts().index[:N_NAMES]:
            shows = (of == name).to_numpy(np.float32, na_value=0)
            values.append(np.where(is_known, shows, np.nan).astype(np.float32))
            found.append((str(name), "class"))
    kept: dict[str, int] = {}
    for at, (name, _) in enumerate(found):
        if re.search(r"[^\W\d_]", as_text(name)):
            kept.setdefault(as_text(name).casefold(), at)
    whole = np.stack(values, axis=1) if values else np.zeros((len(probe), 0), np.float32)
    names, of_names = zip(*found, strict=True) if found else ((), ())
    return Named(names, of_names, whole).some(list(kept.values())[:N_NAMES])


def separating(
    image_nd: Float32[np.ndarray, "n d"],
    labels: Sequence[str],
    label_td: Float32[np.ndarray, "t d"],
    named: Named,
    name_cd: Float32[np.ndarray, "c d"],
) -> Separating:
    """Measure how far labels and names separate images.

    Args:
        image_nd: unit vectors of all images.
        labels: texts of the vocabulary.
        label_td: their vectors.
        named: what images are said to show.
        name_cd: vectors of the names.
    """
    rng = np.random.default_rng(0)
    n_images = len(image_nd)
    rows = np.sort(rng.choice(n_images, min(N_IMAGES, n_images), replace=False))
    image_nd = np.asarray(image_nd[rows])
    drawn = np.sort(rng.choice(len(labels), min(N_TEXTS, len(labels)), replace=False))
    label_td = np.asarray(label_td)[drawn]
    leaning = lean(
        image_nd[rng.permutation(len(rows))[:N_LEAN_IMAGES]],
        label_td[rng.permutation(len(drawn))[:N_LEAN_TEXTS]],
    )
    texts = [*named.texts, *(labels[at] for at in drawn)]
    folded = np.array([text.casefold() for text in texts], object)
    found = naming(
        image_nd,
        np.concatenate([name_cd, label_td]),
        named.value_nc[rows],
        folded[:, None] != folded[None, : len(name_cd)],
    )
    names = pd.DataFrame(
        {
            "name": named.names,
            "kind": named.kinds,
            "auroc": found.auroc_c,
            "shuffled": found.shuffled_c,
        }
    )
    kinds_of = {"name": "string", "kind": "string", "auroc": "float32", "shuffled": "float32"}
    facts = {
        "is_separated": is_separated(leaning, found),
        "n_named": int(np.isfinite(found.auroc_c).sum()),
        "lean": _known(leaning.mean),
        "lean_p": _known(leaning.p),
        "n_images": leaning.n_images,
        "n_texts": leaning.n_texts,
        "auroc": _known(found.mean),
        "shuffled": _known(found.shuffled),
        "auroc_p": _known(found.p),
        "auroc_p_least": _known(found.p_least),
    }
    return Separating(names.astype(kinds_of), facts)


def _known(value: float) -> float | None:
    """A number as JSON has it."""
    return round(value, 4) if np.isfinite(value) else None
