"""Which method names an attribute whose exemplars mostly show one and the same object?

Images are points on a sphere, made like those of an image-text encoder: a direction all images
share, plus an object, plus an attribute on some of them, plus noise. Each neuron fires on one
attribute; of the images with that attribute a share shows the neuron's favourite object. The right
answer is the attribute. Run: python -m studies planted_geometry
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.evidence import Evidence
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.methods import METHODS, label_units, noise_evidence, rescore

GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
CO_OCCURRENCES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Setting:
    """How clear the planted world is; lengths are relative to an object's (1)."""

    name: str
    attribute: float = 0.5
    noise: float = 0.5
    shared: float = 0.8
    objects_alone: bool = True  # whether favourite objects also occur without the attribute


SETTINGS = (
    Setting("clear"),
    Setting("weak attribute, much noise", attribute=0.35, noise=1.0),
    Setting("faint attribute, heavy noise", attribute=0.2, noise=1.5),
    Setting("no look-alikes", objects_alone=False),
)


@dataclass(frozen=True, eq=False)
class World:
    """Images, one neuron per attribute, and labels: attributes, then objects, then others."""

    image_nd: np.ndarray
    acts_un: np.ndarray
    label_td: np.ndarray
    n_attributes: int
    favourite_u: np.ndarray


def normalise(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def plant(
    setting: Setting,
    co_occurrence: float,
    *,
    seed: int,
    n_images: int = 20_000,
    width: int = 512,
    n_attributes: int = 20,
    n_objects: int = 40,
    n_other_labels: int = 200,
) -> World:
    """Draw a world; ``co_occurrence``: share of attribute images that show the favourite object."""
    rng = np.random.default_rng(seed)
    concept_td = normalise(rng.standard_normal((n_attributes + n_objects + n_other_labels, width)))
    shared_image, shared_text = normalise(rng.standard_normal((2, width)))
    favourite_u = rng.permutation(n_objects)[:n_attributes]

    # Two images in a hundred carry each attribute; the rest carry none.
    attribute_n = rng.integers(0, 50, n_images)
    has_attribute_n = attribute_n < n_attributes
    object_n = rng.integers(0, n_objects, n_images)
    if not setting.objects_alone:
        rest = np.setdiff1d(np.arange(n_objects), favourite_u)
        object_n = rng.choice(rest, n_images)
    is_favourite_n = has_attribute_n & (rng.random(n_images) < co_occurrence)
    object_n[is_favourite_n] = favourite_u[attribute_n[is_favourite_n]]

    image_nd = setting.shared * shared_image + concept_td[n_attributes + object_n]
    image_nd[has_attribute_n] += setting.attribute * concept_td[attribute_n[has_attribute_n]]
    image_nd += setting.noise / np.sqrt(width) * rng.standard_normal((n_images, width))
    acts_un = 0.05 * rng.standard_normal((n_attributes, n_images))
    acts_un += (attribute_n == np.arange(n_attributes)[:, None]) * rng.normal(1, 0.1, n_images)
    return World(
        normalise(image_nd),
        acts_un.astype(np.float32),
        normalise(concept_td + 0.8 * shared_text),
        n_attributes,
        favourite_u,
    )


def named(world: World, label_u: np.ndarray) -> tuple[float, float]:
    """The shares of neurons named by their attribute and by their favourite object."""
    own = np.arange(world.n_attributes)
    return (
        float(np.mean(label_u == own)),
        float(np.mean(label_u == world.n_attributes + world.favourite_u)),
    )


def measure(world: World, n_partners: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Every method on one world: shares named right and by the object, and partner similarity."""
    exemplars = rank_exemplars(world.acts_un, 100)
    rule = ContrastRule(n_partners=n_partners)
    contrast = mine_contrast(world.acts_un, exemplars, world.image_nd, rule)
    evidence = Evidence(exemplars, contrast, world.image_nd)
    null = noise_evidence(
        world.image_nd, n_draws=20, n_exemplars=100, rule=rule, seed=seed, n_paired=30
    )
    found: dict[str, dict[str, float]] = {}
    for method in ("semanticlens", "clip_dissect", "csp"):
        scores, extra = label_units(METHODS[method], evidence, null, world.label_td, {}, n_labels=1)
        if method != "csp":
            right, by_object = named(world, scores.label_uk[:, 0])
            found[method] = {"attribute": right, "object": by_object}
            continue
        for gamma in GAMMAS:
            again = rescore(scores, extra, world.label_td, gamma, n_labels=1)
            right, by_object = named(world, again.label_uk[:, 0])
            found[f"csp {gamma:g}"] = {"attribute": right, "object": by_object}
    found["evidence"] = {"partner_similarity": float(scores.similarity_u.mean())}
    return found


def averaged(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(np.mean([run[name][key] for run in runs])) for key in runs[0][name]}
        for name in runs[0]
    }


def markdown(records: list[dict]) -> str:
    """One table per setting, as in docs/methods.md."""
    shown = ("semanticlens", "clip_dissect", *(f"csp {gamma:g}" for gamma in GAMMAS))
    gammas = " | ".join(f"CSP γ={gamma:g}" for gamma in GAMMAS)
    lines: list[str] = []
    for name in dict.fromkeys(record["setting"]["name"] for record in records):
        rows = [record for record in records if record["setting"]["name"] == name]
        setting = rows[0]["setting"]
        lines += [
            f"**{name.capitalize()}** (attribute {setting['attribute']}, "
            f"noise {setting['noise']}; {rows[0]['n_neurons']} neurons a row)",
            "",
            f"| co-occurrence | partners | similarity | SemanticLens | CLIP-Dissect | {gammas} |",
            "|---" * (5 + len(GAMMAS)) + "|",
        ]
        for record in rows:
            cells = " | ".join(f"{record[method]['attribute']:.2f}" for method in shown)
            similarity = record["evidence"]["partner_similarity"]
            lines.append(
                f"| {record['co_occurrence']:g} | {record['n_partners']} | {similarity:.2f} "
                f"| {cells} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--worlds", type=int, default=3, help="worlds per cell, 20 neurons each")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    records = []
    for setting in SETTINGS:
        for co_occurrence in CO_OCCURRENCES:
            worlds = [
                plant(setting, co_occurrence, seed=seed, n_images=args.images)
                for seed in range(args.worlds)
            ]
            for n_partners in (1, 5):
                found = averaged([measure(world, n_partners) for world in worlds])
                records.append(
                    {
                        "setting": asdict(setting),
                        "co_occurrence": co_occurrence,
                        "n_partners": n_partners,
                        "n_neurons": sum(world.n_attributes for world in worlds),
                        "n_images": args.images,
                        **found,
                    }
                )
        print(markdown(records[-2 * len(CO_OCCURRENCES) :]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "planted_geometry.json"
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
