"""Open vocabularies on real photographs: which method says the exact word, of a thousand and more?

Units answer to all classes of a word together, the ImageNet classes that WordNet counts among its
kinds, in SqueezeNet and in MobileNetV2: by the probability that the network gives to them, or by
their mean logit, which similar classes move too. So the exact word is known; a narrower one is
wrong, and so is a broader one. Probe set: 1,000 photographs, one of each
class, and an encoder fitted to CLIP's space. Two vocabularies: the names of LVIS and COCO with real
CLIP vectors, and ``general`` with vectors of the fitted text encoder. Words fall into two halves;
settings of CSP+ were chosen on the first. Needs the shared test material (CSP_SHARED_DATA) and
WordNet 3.0. Only figures are written.

    python -m studies open_words [--wordnet FOLDER] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.evidence import Evidence, Given
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.methods import METHODS, label_units, noise_evidence
from csp_engine.probe.decoding import decode
from csp_engine.vectors import normalise_rows
from csp_engine.words.hierarchy import kinds_of
from csp_engine.words.vocabularies import parents_in, read_vocabulary
from studies.real_dermoscopy import ROOT, rounded
from studies.surrogate import SurrogateEncoder, shared_folder
from tools.general_vocabulary import own_synsets, parents_of, read_nouns, read_senses, select

RESULT = Path(__file__).parent / "results" / "open_words.json"
NETWORKS = {"squeezenet1_1": "squeezenet1_1_imagenet", "mobilenet_v2": "mobilenet_v2_imagenet"}
MOST = 300
LEAST = 5
"""Fewest and most of the thousand classes that a word may stand for."""

SENSES = {"heron": 2, "skirt": 2, "turtle": 2}
"""Senses in which LVIS means a word, where not the first."""
LEFT_OUT = frozenset({"hose", "person"})
"""A hose of LVIS is a tube, and persons are on photographs of many classes."""

N_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A vocabulary whose words have meanings in WordNet; texts without one have None."""

    name: str
    texts: tuple[str, ...]
    vector_td: np.ndarray
    synset_t: tuple[str | None, ...]
    kinds: Mapping[int, Sequence[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Units with the word that they answer to, and every label that says the same."""

    activation_un: np.ndarray
    word_u: tuple[str, ...]
    right_u: tuple[frozenset[int], ...]


def photographs(shared: Path, out: Path) -> dict[str, np.ndarray]:
    """Image vectors, and logits of both networks, of one photograph of each ImageNet class."""
    kept = out / "imagenet.npz"
    if not kept.is_file():
        import torch
        import torchvision
        from safetensors.torch import load_file as load_weights

        encoder = SurrogateEncoder(shared)
        made: dict[str, list[np.ndarray]] = {name: [] for name in ("image", *NETWORKS)}
        networks = {}
        for name, folder in NETWORKS.items():
            networks[name] = getattr(torchvision.models, name)().eval()
            weights = next((shared / "models" / folder).glob("*.safetensors"))
            networks[name].load_state_dict(load_weights(weights))
        see = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()
        files = sorted((shared / "images" / "imagenet_sample_1000").iterdir())
        for first in range(0, len(files), 20):
            images = [decode(file.read_bytes()) for file in files[first : first + 20]]
            made["image"].append(encoder.embed_images(np.stack([*map(encoder.preprocess, images)])))
            with torch.inference_mode():
                pixels = torch.stack([see(image) for image in images])
                for name, network in networks.items():
                    made[name].append(network(pixels).numpy())
        out.mkdir(parents=True, exist_ok=True)
        whole = {name: np.concatenate(parts) for name, parts in made.items()}
        np.savez(kept, offset=np.array([file.name[1:9] for file in files]), **whole)
    with np.load(kept) as held:
        return dict(held)


def lvis_words(shared: Path, wordnet: Path, *, is_centred: bool = True) -> Words:
    """Names of LVIS and COCO with real CLIP vectors, less what all texts share if centred."""
    vectors, senses, synsets = shared / "clip_vectors", read_senses(wordnet), read_nouns(wordnet)
    mean_d = load_file(shared / "surrogate_clip_vitb32" / "text_adapter.safetensors")["text_mean"]
    texts: dict[str, np.ndarray] = {}
    for name in ("text_lvis1203", "text_coco80"):
        lines = (vectors / f"{name}.txt").read_text("utf-8").split("\n")
        rows = normalise_rows(np.load(vectors / f"{name}.npy").astype(np.float32))
        for line, row in zip(filter(None, lines), rows, strict=True):
            texts.setdefault(line.split("_(")[0].replace("_", " ").lower(), row)
    synset_of = {
        text: senses[word][SENSES.get(word, 1) - 1]
        for text in texts
        if (word := text.replace(" ", "_")) in senses and word not in LEFT_OUT
    }
    above = parents_of(synset_of, lambda offset: synsets[offset].above)
    vector_td = np.stack(list(texts.values()))
    return Words(
        "lvis",
        tuple(texts),
        normalise_rows(vector_td - mean_d if is_centred else vector_td),
        tuple(synset_of.get(text) for text in texts),
        kinds_of(list(texts), [";".join(above.get(text, ())) for text in texts]),
    )


def general_words(encoder: SurrogateEncoder, wordnet: Path) -> Words:
    """The shipped vocabulary with its own links, by the fitted text encoder."""
    table = read_vocabulary(["general"]).table
    texts = table["text"].tolist()
    synset_of = {
        word.replace("_", " "): offset
        for word, offset in {**own_synsets(wordnet), **select(wordnet)}.items()
    }
    return Words(
        "general",
        tuple(texts),
        encoder.embed_texts(texts),
        tuple(synset_of.get(text) for text in texts),
        kinds_of(texts, parents_in(table)),
    )


def probability(logit_nc: np.ndarray, class_k: Sequence[int]) -> np.ndarray:
    """What the network gives to some classes together."""
    odds_nc = np.exp(logit_nc - logit_nc.max(axis=1, keepdims=True))
    return odds_nc[:, class_k].sum(axis=1) / odds_nc.sum(axis=1)


def mean_logit(logit_nc: np.ndarray, class_k: Sequence[int]) -> np.ndarray:
    """The mean of their logits."""
    return logit_nc[:, class_k].mean(axis=1)


GROUPED = {"probability": probability, "mean logit": mean_logit}


def grouped_units(seen: Mapping[str, np.ndarray], words: Words, wordnet: Path, way: str) -> Units:
    """For each meaning of enough classes a unit in each network."""
    synsets = read_nouns(wordnet)

    def above(offset: str) -> set[str]:
        found, todo = set(), [offset]
        while todo:
            synset = todo.pop()
            if synset not in found:
                found.add(synset)
                todo.extend(synsets[synset].above)
        return found

    above_c = [above(offset) for offset in seen["offset"].tolist()]
    rows: list[tuple[np.ndarray, str, frozenset[int]]] = []
    for synset in dict.fromkeys(filter(None, words.synset_t)):
        class_k = [c for c, held in enumerate(above_c) if synset in held]
        if LEAST <= len(class_k) <= MOST:
            right = frozenset(t for t, own in enumerate(words.synset_t) if own == synset)
            rows += [
                (GROUPED[way](seen[name], class_k), words.texts[min(right)], right)
                for name in NETWORKS
            ]
    activations, word_u, right_u = zip(*rows, strict=True)
    return Units(np.stack(activations).astype(np.float32), word_u, right_u)


def said(
    image_nd: np.ndarray,
    words: Words,
    activation_un: np.ndarray,
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    n_exemplars: int = 100,
) -> dict[str, np.ndarray]:
    """The best label of every unit, by methods of the browser and by correlation alone."""
    rule = ContrastRule()
    exemplars = rank_exemplars(activation_un, n_exemplars)
    sources = {
        "activations": lambda unit_u: activation_un[unit_u],
        "texts": lambda _: words.texts,
        "kinds": lambda _: words.kinds,
    }
    evidence = Evidence(
        exemplars,
        mine_contrast(activation_un, exemplars, image_nd, rule),
        image_nd,
        Given(sources=sources),
    )
    null = noise_evidence(image_nd, n_draws=20, n_exemplars=n_exemplars, rule=rule)
    told = {
        name: label_units(METHODS[method], evidence, null, words.vector_td, params, n_labels=1)[
            0
        ].label_uk[:, 0]
        for name, (method, params) in methods.items()
    }
    score_nt = image_nd @ words.vector_td.T
    score_nt = (score_nt - score_nt.mean(axis=0)) / score_nt.std(axis=0)
    centred_un = activation_un - activation_un.mean(axis=1, keepdims=True)
    return {**told, "correlation": (centred_un @ score_nt).argmax(axis=1)}


def is_first_half(word: str) -> bool:
    """Words on which settings were chosen; the others confirm."""
    return zlib.crc32(word.encode()) % 2 == 0


def drawn(value_u: np.ndarray, word_u: Sequence[str]) -> dict[str, float]:
    """A mean with its 95 % interval from drawing words, each with all of its units."""
    names, place_u = np.unique(np.asarray(word_u), return_inverse=True)
    sum_w = np.bincount(place_u, weights=value_u, minlength=len(names))
    n_w = np.bincount(place_u, minlength=len(names))
    pick_rw = np.random.default_rng(0).integers(len(names), size=(N_RESAMPLES, len(names)))
    low, high = np.percentile(sum_w[pick_rw].sum(axis=1) / n_w[pick_rw].sum(axis=1), [2.5, 97.5])
    return {"mean": float(np.mean(value_u)), "low": float(low), "high": float(high)}


def figures(words: Words, units: Units, told: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Shares of exact words, of each half and of all, and what the first method has in front."""
    right = {
        name: np.array([int(best) in own for best, own in zip(best_u, units.right_u, strict=True)])
        for name, best_u in told.items()
    }
    first_u = np.array([is_first_half(word) for word in units.word_u])
    parts = {"chosen on": first_u, "confirmed on": ~first_u, "all": np.ones(len(first_u), bool)}
    found: dict[str, Any] = {
        "n_words": len(words.texts),
        "n_with_kinds": len(words.kinds),
        "words": sorted(set(units.word_u)),
    }
    leader, *others = told
    for part, is_in_u in parts.items():
        word_u = [word for word, is_in in zip(units.word_u, is_in_u, strict=True) if is_in]
        found[part] = {
            "n_units": len(word_u),
            "n_asked": len(set(word_u)),
            "exact": {name: drawn(hit_u[is_in_u], word_u) for name, hit_u in right.items()},
            "ahead": {
                name: drawn(right[leader][is_in_u].astype(float) - right[name][is_in_u], word_u)
                for name in others
            },
        }
    return found


def markdown(result: Mapping[str, Any]) -> Iterable[str]:
    """The table of docs/real_labels.md."""
    for name, found in result.items():
        yield f"\n**{name}**: {found['n_words']} words, {found['n_with_kinds']} with kinds\n"
        parts = ("chosen on", "confirmed on", "all")
        heads = [
            f"{part} ({found[part]['n_asked']} words, {found[part]['n_units']} units)"
            for part in parts
        ]
        yield f"| exact word, % | {' | '.join(heads)} | CSP+ ahead by |"
        yield "|---" * (len(heads) + 2) + "|"
        for method in found["all"]["exact"]:
            cells = [shown(found[part]["exact"][method]) for part in parts]
            ahead = found["all"]["ahead"].get(method)
            yield f"| {method} | {' | '.join(cells)} | {shown(ahead) if ahead else ''} |"


def shown(figure: Mapping[str, float]) -> str:
    mean, low, high = (100 * figure[key] for key in ("mean", "low", "high"))
    return f"{mean:.0f} ({low:.0f} to {high:.0f})"


METHODS_TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "CSP+": ("csp_plus", {}),
    "CSP+, what is not shown competes": ("csp_plus", {"shown": 0}),
    "CSP+, no tie rule": ("csp_plus", {"general": 0.0}),
    "CSP+ without kinds": ("csp_plus", {"kinds": False}),
    "CSP": ("csp", {}),
    "SemanticLens": ("semanticlens", {}),
    "CLIP-Dissect": ("clip_dissect", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "open_words")
    args = parser.parse_args()
    shared = shared_folder()
    seen = photographs(shared, args.out)
    result = {}
    for words in (
        lvis_words(shared, args.wordnet),
        general_words(SurrogateEncoder(shared), args.wordnet),
    ):
        for way in GROUPED:
            units = grouped_units(seen, words, args.wordnet, way)
            told = said(seen["image"], words, units.activation_un, METHODS_TRIED)
            result[f"{words.name}, {way}"] = figures(words, units, told)
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")
    print("\n".join(markdown(result)))


if __name__ == "__main__":
    main()
