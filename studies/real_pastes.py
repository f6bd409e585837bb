"""What pasting an artefact does to two classifiers of dermoscopy: ISIC 2017 photographs.

Photographs that the classifier of ``python -m studies train_melanoma`` never saw get a drawn
artefact, and beside it plain skin of the same shape, as ``csp intervene --paste`` does it; for
patches also real ones, cut out of other photographs where a mask says where they are. Two gates are
asked, with probes that learn the real artefact from all photographs whose artefacts are known:
features of ImageNet's MobileNetV2, which was never trained on skin, decide: the mean and maximum of
every channel after seven of its blocks, since on photographs that nothing is pasted into they tell
every real artefact better than the last block alone. What the stand-in encoder makes of the last
block stands beside them. Only aggregate figures are written, artefact
by artefact, and what is there already is not measured again; docs/melanoma.md reads them. Needs the
shared test material (CSP_SHARED_DATA).

    python -m studies real_pastes [--out FOLDER] [--to FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFilter

from csp_engine.bundle import StoredIntervention
from csp_engine.evaluation.paired_effects import (
    LEAST_GROUPS,
    UNKNOWN,
    count_groups,
    enough,
    halves,
    mean_effect,
    mean_gap,
)
from csp_engine.evaluation.within_classes import difference_within_classes
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.networks.models import TargetModel
from csp_engine.pasting.gate import Gate, gate, told_apart
from csp_engine.pasting.pairs import VERSIONS
from csp_engine.pasting.pasted import PastedPairs, columns_of
from csp_engine.pipeline.added.gating import Gated, as_rows
from csp_engine.pipeline.intervening.rows import Shot, bounds, no_units, pair_rows, set_rows
from csp_engine.probe.decoding import decode
from csp_engine.probe.isic2017 import ARTEFACTS
from csp_engine.probe.listing import ProbeSet, read_probe_set
from csp_engine.reading.groups import group_numbers, names_of_groups, numbers_over
from csp_engine.views.audit import interventions
from csp_engine.views.audit.figures import figure
from studies import dermoscopy_models
from studies.real_browser import probe_table
from studies.real_dermoscopy import ROOT, area, rounded
from studies.surrogate import SurrogateEncoder, shared_folder

RESULT = Path(__file__).parent / "results" / "real_pastes.json"
PASTED = ("colour patch", "dark corners", "ruler", "ink marks")
"""Hair and bubbles are left out: no probe at hand tells real ones well (docs/methods.md)."""
N_PAIRS = 150
"""Of each artefact."""
BATCH = 32

MODELS: dict[str, tuple[Callable[[], TargetModel], str]] = {
    "melanoma": (dermoscopy_models.melanoma, "melanoma"),
    "skin_isic9": (dermoscopy_models.skin_isic9, "Melanoma"),
}
"""Networks with the output that is followed."""
CUT_OUT = "colour patch"
"""What is also pasted as cut out of other photographs; they are not asked for anything else."""
BLOCKS = (3, 6, 10, 13, 16, 17, 18)
"""Of MobileNetV2: what the probe that decides reads."""
GATED = ("real", "pasted", "neutral")
"""What a gate asks of the probe."""
ADULT = 20
"""Years: nearly all real patches of this archive lie beside moles of younger people."""


def known(out: Path) -> tuple[Path, Path, pd.DataFrame]:
    """Photographs whose artefacts are known, as probe tables: all, and those held out.

    With the labels of the latter.
    """
    photographs = pd.read_parquet(out / "photographs.parquet")
    path = probe_table(out, photographs)
    table = pd.read_csv(path, dtype=str)
    table["group"] = [f"look-alikes {group}" for group in photographs["group"]]
    is_known = table[list(ARTEFACTS)].notna().all(axis=1)
    is_used = (table["split"] == "held out") & is_known
    for name, own in (("all", is_known), ("pasted_into", is_used)):
        table[own].to_csv(out / f"{name}.csv", index=False)
    return out / "all.csv", out / "pasted_into.csv", photographs[is_used.to_numpy()]


def cut_out(table: Path, folder: Path) -> tuple[Path, set[str]]:
    """Real patches with transparency, as ``--cutouts`` takes them, and the photographs they are of.

    Their edge is that of the mask, one pixel soft.
    """
    rows = pd.read_csv(table, dtype=str).dropna(subset=["patch_mask"])
    to = table.parent / "cutouts" / CUT_OUT
    to.mkdir(parents=True, exist_ok=True)
    for file in rows["file"]:
        image = Image.open(folder / file).convert("RGB")
        mask = folder / "patch_masks" / f"{Path(file).stem}.png"
        alpha = Image.open(mask).convert("L").resize(image.size)
        image.putalpha(alpha.filter(ImageFilter.GaussianBlur(1)))
        image.save(to / f"{Path(file).stem}.png")
    return to.parent, set(rows["file"])


def without(photos: ProbeSet, files: set[str]) -> ProbeSet:
    """The same photographs without some."""
    table = photos.table[~photos.table["file"].isin(files)].reset_index(drop=True)
    return replace(photos, table=table)


def by_age(labels: pd.DataFrame) -> dict[str, Any]:
    """Scores of benign photographs without a patch: those of young people less those of adults.

    The other thing that may have been learnt from where the patches lie.
    """
    age_n = pd.to_numeric(labels["age"], errors="coerce").to_numpy()
    own = labels[((labels["target"] == 0) & (labels["patches"] == 0)).to_numpy() & (age_n >= 0)]
    is_young_n = pd.to_numeric(own["age"]).to_numpy() < ADULT
    group_n = own["group"].to_numpy()
    least = min(count_groups(group_n[each]) for each in (is_young_n, ~is_young_n))
    gap = mean_gap(own["score"].to_numpy(np.float64), is_young_n, group_n) if least else UNKNOWN
    return {
        "n_young": int(is_young_n.sum()),
        "n_adult": int((~is_young_n).sum()),
        **asdict(enough(gap, least)),
    }


def of_some(rows: pd.DataFrame, is_in: set[str]) -> dict[str, Any] | None:
    """The effect over the photographs of ``is_in`` alone; None where no interval can be drawn."""
    own = rows[rows["file"].isin(is_in)]
    if count_groups(own["group"].to_numpy()) < LEAST_GROUPS:
        return None
    net_n = (own["score_with"] - own["score_neutral"]).to_numpy(np.float64)
    return {"n": len(own), **asdict(mean_effect(net_n, own["group"].to_numpy()))}


def turned(rows: pd.DataFrame, sick: set[str]) -> dict[str, int]:
    """True melanomas that are found beside plain skin, and how many are not beside the artefact."""
    own = rows[rows["file"].isin(sick)]
    is_found_n = own["is_called_neutral"]
    return {
        "n_melanomas": len(own),
        "n_found": int(is_found_n.sum()),
        "n_missed_then": int((is_found_n & ~own["is_called_with"]).sum()),
    }


class Looker(SurrogateEncoder):
    """What the two encoders that gates are asked of see in pictures."""

    def see(self, images: Sequence[Image.Image]) -> dict[str, np.ndarray]:
        """Features of ImageNet's network, those of its last block, and the stand-in's vectors."""
        parts = [
            self.blocks(np.stack([self.preprocess(each) for each in images[at : at + BATCH]]))
            for at in range(0, len(images), BATCH)
        ]
        every, last = (np.concatenate(each) for each in zip(*parts, strict=True))
        return {"imagenet": every, "last": last, "general": self.of_pooled(last)}

    def blocks(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and maximum of every channel after ``BLOCKS``, and the means of the last one."""
        seen = []
        with torch.inference_mode():
            now = torch.from_numpy(pixels)
            for at, block in enumerate(self._features):
                now = block(now)
                if at in BLOCKS:
                    seen += [now.mean((2, 3)), now.amax((2, 3))]
        return torch.cat(seen, 1).numpy(), seen[-2].numpy()


@dataclass(frozen=True, eq=False)
class Real:
    """Real photographs whose artefacts are known, what encoders see in them, and which are new."""

    photos: ProbeSet
    seen: dict[str, np.ndarray]
    group_n: np.ndarray
    is_held_out_n: np.ndarray

    def has(self, artefact: str) -> np.ndarray:
        """Which have it."""
        return (self.photos.table[columns_of(self.photos, artefact)] > 0).any(axis=1).to_numpy()

    def told(self) -> dict[str, dict[str, float]]:
        """How well either probe tells real artefacts, on photographs that nothing is pasted into.

        None of them is held out, so none can be pasted into; AUROC by probe and artefact.
        """
        own = ~self.is_held_out_n
        return {
            name: {
                artefact: told_apart(
                    self.seen[name][own], self.has(artefact)[own], self.group_n[own]
                )[1]
                for artefact in PASTED
            }
            for name in ("imagenet", "last")
        }


@dataclass(frozen=True, eq=False)
class Tried:
    """The pairs of one artefact: their three versions, and the gates of both encoders."""

    pairs: PastedPairs
    row_n: np.ndarray
    images: dict[str, list[Image.Image]]
    group_n: np.ndarray
    gates: dict[str, Gate]


def tried(artefact: str, pairs: PastedPairs, real: Real, lent: set[str], looker: Looker) -> Tried:
    """Draw the pairs of one artefact and ask both gates.

    Args:
        artefact: its name.
        pairs: of several artefacts.
        real: what the probes learn from.
        lent: files that a cut-out is of; nothing is learnt from them.
        looker: the encoders.
    """
    row_n = np.flatnonzero((pairs.table["artefact"] == artefact).to_numpy())
    held = zip(*(pairs.images(int(row)) for row in row_n), strict=True)
    images = dict(zip(("without", "with", "neutral"), map(list, held), strict=True))
    seen = {name: looker.see(each) for name, each in images.items()}
    number_n, group_p = numbers_over(real.photos.table, pairs.table)
    group_n = group_p[row_n]
    is_asked_n = ~real.photos.table["file"].isin(lent).to_numpy()
    gates = {
        encoder: gate(
            artefact, vector_nd[is_asked_n], real.has(artefact)[is_asked_n],
            number_n[is_asked_n],
            *(seen[version][encoder] for version in ("without", "with", "neutral")), group_n,
        )
        for encoder, vector_nd in real.seen.items() if encoder != "last"
    }  # fmt: skip
    return Tried(pairs, row_n, images, group_n, gates)


def effect_of(
    artefact: str, runs: PairRuns, one: Tried, real: Real, real_score_n: np.ndarray
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What one artefact does to the output of one network, and the scores of its pairs.

    As ``csp intervene`` has it, without what carries the effect; how real photographs differ, and
    their numbers, are counted on those that the network of ``train_melanoma`` never saw, whose
    scores are given.
    """
    pixels = {
        name: np.stack([runs.model.preprocess(image) for image in images])
        for name, images in one.images.items()
    }
    shot = Shot(artefact, one.row_n, pixels, one.group_n)
    scored = {name: runs.scores(pixels[name]) for name in VERSIONS}
    (without_n, _), (neutral_n, before_n), (with_n, after_n) = (
        scored[name] for name in ("without", "neutral", "with")
    )
    own = real.is_held_out_n
    observed = difference_within_classes(
        real_score_n, real.has(artefact)[own], list(real.photos.table["class"][own]),
        real.group_n[own],
    )  # fmt: skip
    counts = int(real.has(artefact)[own].sum()), int((~real.has(artefact)[own]).sum())
    effect = {
        "artefact": artefact,
        "foil": shot.foil,
        "n_pairs": len(one.row_n),
        "n_groups": count_groups(one.group_n),
        **bounds("change", mean_effect(with_n - without_n, one.group_n)),
        **bounds("effect", mean_effect(with_n - neutral_n, one.group_n)),
        **bounds("neutral", mean_effect(neutral_n - without_n, one.group_n)),
        "n_called": int(before_n.sum()),
        "n_lost": int((before_n & ~after_n).sum()),
        "n_gained": int((~before_n & after_n).sum()),
    }
    rows = pair_rows(shot, one.pairs, scored, halves(one.group_n))
    gates = as_rows({artefact: Gated(artefact, one.gates["imagenet"], "", observed, *counts)})
    stored = StoredIntervention(
        "", one.pairs.name, effects=pd.DataFrame([effect]), pairs=rows, units=no_units(),
        sets=set_rows([]), shown=pd.DataFrame(), gates=gates, given=None,
    )  # fmt: skip
    (found,) = interventions.effects(stored)
    general = {name: asdict(getattr(one.gates["general"], name)) for name in GATED}
    measured = {
        **{name: figure(effect, name).as_json() for name in ("effect", "change", "neutral")},
        **{name: effect[name] for name in ("n_called", "n_lost", "n_gained")},
    }  # of what is withheld too, for gates are what is studied
    return interventions.effect_json(found) | measured | {"general": general}, rows


def measure(out: Path, tables: tuple[Path, Path], labels: pd.DataFrame, to: Path) -> None:
    """Effects on both networks, behind their gates; written to ``to`` after each artefact."""
    folder = shared_folder() / "images" / "isic2017"
    every, photos = (read_probe_set(table, image_root=folder) for table in tables)
    looker = Looker(shared_folder())
    pictures = [decode(every.read(row)) for row in range(len(every))]
    real = Real(
        every,
        looker.see(pictures),
        group_numbers(names_of_groups(every.table)),
        every.table["file"].isin(photos.table["file"]).to_numpy(),
    )
    folder_of_cutouts, sources = cut_out(tables[0], folder)
    kinds: dict[str, tuple[PastedPairs, set[str]]] = {
        "cut out": (
            PastedPairs(without(photos, sources), (CUT_OUT,), N_PAIRS, 0, folder_of_cutouts),
            sources,
        ),
        "drawn": (PastedPairs(photos, PASTED, N_PAIRS, 0), set()),
    }
    age_n = pd.to_numeric(labels["age"], errors="coerce").to_numpy()
    adults = set(photos.table["file"][age_n >= ADULT])
    sick = set(photos.table["file"][(labels["target"] == 1).to_numpy()])
    result: dict[str, Any] = {
        "n_known": len(every),
        "n_photographs": len(photos),
        "n_groups": int(labels["group"].nunique()),
        "n_melanomas": len(sick),
        "auroc": area(labels["score"].to_numpy(), (labels["target"] == 1).to_numpy()),
        "by_age": by_age(labels),
        "n_cut_out": len(sources),
        "told": real.told(),
        "networks": json.loads(to.read_text("utf-8"))["networks"] if to.is_file() else {},
    }
    runs = {name: PairRuns(make(), (), output) for name, (make, output) in MODELS.items()}
    unseen = [image for image, own in zip(pictures, real.is_held_out_n, strict=True) if own]
    scores = {
        name: each.scores(np.stack([each.model.preprocess(image) for image in unseen]))[0]
        for name, each in runs.items()
    }
    for kind, (pairs, lent) in kinds.items():
        for artefact in pairs.table["artefact"].unique():
            place = {"artefact": str(artefact), "pasted_as": kind}
            left = [
                name
                for name in MODELS
                if not any(place.items() <= row.items() for row in result["networks"].get(name, []))
            ]
            if not left:
                continue
            one = tried(str(artefact), pairs, real, lent, looker)
            for name in left:
                found, own = effect_of(str(artefact), runs[name], one, real, scores[name])
                found |= place | turned(own, sick) | {"adults": of_some(own, adults)}
                result["networks"].setdefault(name, []).append(found)
                to.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
                print(name, json.dumps(rounded(found)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "real_dermoscopy")
    parser.add_argument("--to", type=Path, default=RESULT)
    args = parser.parse_args()
    every, held_out, labels = known(args.out)
    measure(args.out, (every, held_out), labels, args.to)


if __name__ == "__main__":
    main()
