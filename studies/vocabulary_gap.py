"""How often is it noticed that the words lack what a neuron follows? The demo without a word.

Of every neuron with a measured true concept, all wordings of that concept are taken out of the
vocabulary, and what CSP+ stores of the best label that is left is judged (``unsaid``): so concepts
are held out whole, and no word could be recognised. False flags are neurons whose word is there.
Half of the concepts and the other half are given apart. The bound: the same for neurons that are a
concept, 1 where it shows and 0 elsewhere. Activations come from the demo's thumbnails.

    python -m studies vocabulary_gap [--out FOLDER]
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.demo.shipping.parts import FULL
from csp_engine.demo.shipping.world import probe_cases
from csp_engine.demo.simulator.cases import concept_table
from csp_engine.demo.training import classifiers
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.evidence.evidence import Evidence, Given
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.methods.csp_plus import CSP_PLUS
from csp_engine.methods.depths.explained import Readout
from csp_engine.methods.depths.relying import SAID
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.types import ContrastSet
from csp_engine.views.accuracy import wordings_of
from studies.open_words import is_first_half
from studies.real_dermoscopy import ROOT, rounded

DEMO = ROOT / "assets" / "demo" / "dermoscopy.csp"
RESULT = Path(__file__).parent / "results" / "vocabulary_gap.json"
FALSE = 0.05
LEAST = 30
"""Photographs that must show a concept for a neuron that is the concept."""


def activations(bundle: Bundle, out: Path) -> dict[str, np.ndarray]:
    """What the classifiers' units do on the thumbnails, by ``model/layer``."""
    kept = out / "activations.npz"
    if not kept.is_file():
        made = {}
        for name in classifiers.MODELS:
            model = classifiers.target_model(DEMO.parent / f"{name}.safetensors", name)
            parts: dict[str, list[np.ndarray]] = {}
            with ActivationRecorder(model, select_layers(model, [*classifiers.LAYERS])) as recorder:
                for first in range(0, bundle.n_images, 50):
                    some = range(first, min(first + 50, bundle.n_images))
                    images = [Image.open(io.BytesIO(bundle.thumbnail(i))) for i in some]
                    seen = [model.preprocess(image.convert("RGB")) for image in images]
                    for layer, value_nu in recorder(np.stack(seen)).items():
                        parts.setdefault(layer, []).append(value_nu)
            made |= {f"{name}/{layer}": np.concatenate(own).T for layer, own in parts.items()}
        out.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **made)
    with np.load(kept) as held:
        return {name: np.ascontiguousarray(held[name]) for name in held.files}


class Words:
    """The demo's vocabulary, which labels say a concept, and what images say of labels."""

    def __init__(self, bundle: Bundle) -> None:
        self.texts = bundle.labels()["text"].tolist()
        self.label_td = np.asarray(bundle.label_vectors())
        self.image_nd = np.asarray(bundle.image_vectors())
        keys = [wording_key(text) for text in self.texts]
        self.says_tc = {
            name: np.array(
                [
                    bool({key, *key.split(" and ")} & {wording_key(text) for text in wordings})
                    for key in keys
                ]
            )
            for name, wordings in wordings_of(bundle).items()
        }
        column_nt = self.image_nd @ self.label_td.T
        column_nt -= column_nt.mean(axis=0)
        self.column_nt = column_nt / np.linalg.norm(column_nt, axis=0)
        half_n = np.random.default_rng(0).permutation(len(self.image_nd)) % 2 == 1
        self.readout = Readout(self.image_nd, half_n, CSP_PLUS.params["ridge"])

    def scores(self, activation_un: np.ndarray) -> np.ndarray:
        """CSP+ of all labels."""
        exemplars = rank_exemplars(activation_un, 30)
        n, zero = len(activation_un), np.zeros((len(activation_un), 30, 1), np.float32)
        contrast = ContrastSet(
            zero.astype(np.int32), zero, zero, np.zeros((n, 30), np.int32),
            np.zeros(n, np.int32), np.zeros(n, np.float32),
        )  # fmt: skip
        sources = {
            "activations": lambda unit_u: activation_un[unit_u],
            "texts": lambda _: self.texts,
        }
        given = Given("a study", CSP_PLUS.needs, sources)
        evidence = Evidence(exemplars, contrast, self.image_nd, given)
        return CSP_PLUS.score(evidence, self.label_td, CSP_PLUS.params).score_ut

    def judged(
        self, activation_n: np.ndarray, score_t: np.ndarray, concept: str
    ) -> Iterator[dict[str, Any]]:
        """What is stored of the best label with the word there, and with it taken away."""
        centred_n = activation_n - activation_n.mean()
        fit_t = centred_n @ self.column_nt / np.linalg.norm(centred_n)
        reach = self.readout.reach(activation_n)
        says_t = self.says_tc[concept]
        for case, is_out_t in (("there", np.zeros_like(says_t)), ("away", says_t)):
            best = int(np.where(is_out_t, -np.inf, score_t).argmax())
            yield {
                "concept": concept, "case": case, "label": self.texts[best],
                "share": float(fit_t[best] / reach), "reach": reach,
            }  # fmt: skip


def neurons(bundle: Bundle, words: Words, out: Path) -> pd.DataFrame:
    """Every neuron with a true concept, with its word and without."""
    rows: list[dict[str, Any]] = []
    for place, activation_un in activations(bundle, out).items():
        truth = bundle.truth(*place.split("/"))
        assert truth is not None, "the demo has ground truth"
        concepts = truth.units["true_concept"]
        known = np.flatnonzero(concepts.notna().to_numpy())
        for first in range(0, len(known), 64):
            own = known[first : first + 64]
            for unit, score_t in zip(own, words.scores(activation_un[own]), strict=True):
                rows += words.judged(activation_un[unit], score_t, concepts.iloc[unit])
    return pd.DataFrame(rows)


def perfect(words: Words) -> pd.DataFrame:
    """The same for units that are a concept."""
    table = concept_table(probe_cases(FULL))
    names = [n for n in words.says_tc if table[n].sum() >= LEAST]
    activation_un = np.ascontiguousarray(table[names].to_numpy(np.float32).T)
    score_ut = words.scores(activation_un)
    return pd.DataFrame(
        [
            row
            for name, activation_n, score_t in zip(names, activation_un, score_ut, strict=True)
            for row in words.judged(activation_n, score_t, name)
        ]
    )


def flagged(rows: pd.DataFrame, bar: float, real: pd.DataFrame | None = None) -> dict[str, Any]:
    """Shares below a bar: of neurons (of ``real`` ones' concepts if given), and over concepts."""
    found: dict[str, Any] = {"bar": bar, "n": len(rows) // 2}
    for case, own in rows.groupby("case"):
        is_low = own["share"] < bar
        by_concept = is_low.groupby(own["concept"]).mean()
        of = own if real is None else real[real["case"] == case]
        of_neurons = is_low if real is None else of["concept"].map(by_concept).dropna()
        found[str(case)] = {
            "neurons": float(of_neurons.mean()),
            "concepts": float(by_concept.mean()),
            "by_concept": by_concept.to_dict(),
        }
    return found


def bar_of(rows: pd.DataFrame) -> float:
    """The bar below which 5 % lie of those whose word is there."""
    return float(rows.loc[rows["case"] == "there", "share"].quantile(FALSE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "vocabulary_gap")
    args = parser.parse_args()
    bundle = Bundle.open(DEMO)
    words = Words(bundle)
    found, ideal = neurons(bundle, words, args.out), perfect(words)
    is_first = found["concept"].map(is_first_half)
    result: dict[str, Mapping[str, Any]] = {
        "as the browser says": flagged(found, SAID),
        "5 % false": flagged(found, bar_of(found)),
        "half of the concepts": flagged(found[is_first], bar_of(found[is_first])),
        "other half, bar of the first": flagged(found[~is_first], bar_of(found[is_first])),
        "neurons that are a concept": flagged(ideal, bar_of(found), found),
        "the same, bar of their own": flagged(ideal, bar_of(ideal), found),
    }
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")
    print("| bar | n | flagged, word away | mean over concepts | flagged, word there |")
    for name, row in result.items():
        print(
            f"| {name} ({row['bar']:.2f}) | {row['n']} | {row['away']['neurons']:.2f} "
            f"| {row['away']['concepts']:.2f} | {row['there']['neurons']:.2f} |"
        )


if __name__ == "__main__":
    main()
