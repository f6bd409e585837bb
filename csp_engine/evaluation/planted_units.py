"""Units planted into a probe set: activations whose meaning is known because it was put there.

A unit answers to concept columns of the probe set, or to nothing that has a name. Images come from
the probe set itself, so encoder and look-alikes are the real ones; only the activations are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float32

from csp_engine.errors import InputError
from csp_engine.evaluation.ground_truth import true_concepts

NOISE = 0.25
"""Standard deviation of the noise on an activation that is about 1 where the concept shows."""
SPREAD = 0.1
"""Standard deviation of the activation among the images that show the concept."""
FAINT = 0.4
"""What a unit that prefers a companion gives the other images of its concept."""
MOST_CONTAINED = 0.8
"""Of two concepts joined or set beside each other, neither shows on more of the other's images."""
MOST_ROUNDS = 20
"""So often directions that answer to a concept are drawn anew; those that still do are left out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many units of every row.

    Attributes:
        n_units: of a row; of a row of pairs fewer where there are not as many.
        co_occurrences: shares of the strongest images that show the companion.
        n_strong: how many images those are.
        n_least: a concept that fewer images show, or lack, is not planted.
        seed: decides everything.
    """

    n_units: int = 60
    co_occurrences: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
    n_strong: int = 60
    n_least: int = 60
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One planted unit: the row of the table it counts in, and its columns; none for noise.

    ``companion`` is the column that its strongest images show beside its own, where there is one.
    """

    row: str
    concepts: tuple[int, ...]
    activation_n: Float32[np.ndarray, " n"]
    companion: int | None = None


def plant(
    is_shown_nc: Bool[np.ndarray, "n c"], image_nd: Float32[np.ndarray, "n d"], plan: Plan
) -> list[Unit]:
    """All units of a plan.

    Raises:
        InputError: if there is no concept, or no pair of concepts, that enough images show.
    """
    n_with_c = is_shown_nc.sum(axis=0)
    usable = np.flatnonzero(np.minimum(n_with_c, len(is_shown_nc) - n_with_c) >= plan.n_least)
    together_cc = is_shown_nc.T.astype(np.int64) @ is_shown_nc
    pairs = [
        (a, b)
        for a, b in permutations(usable.tolist(), 2)
        if max(together_cc[a, b] / n_with_c[a], together_cc[a, b] / n_with_c[b]) <= MOST_CONTAINED
        and together_cc[a, b] >= plan.n_strong * max(plan.co_occurrences)
        and n_with_c[a] - together_cc[a, b] >= plan.n_strong
    ]
    if not pairs:
        raise InputError(
            f"Of {is_shown_nc.shape[1]} concepts {len(usable)} are shown by at least "
            f"{plan.n_least} images, and no two of them often enough together and apart; a probe "
            "set with more images of each is needed."
        )
    rng = np.random.default_rng(plan.seed)
    units = list(_single(is_shown_nc, usable, plan, rng))
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[: plan.n_units]]
    for share in plan.co_occurrences:
        for a, b in chosen:
            strong_n = _beside(is_shown_nc[:, a], is_shown_nc[:, b], share, plan.n_strong, rng)
            level_n = np.where(strong_n, 1, FAINT) * is_shown_nc[:, a]
            units.append(Unit(f"co-occurrence {share:g}", (a,), _noisy(level_n, rng), b))
    unordered = sorted({(min(pair), max(pair)) for pair in pairs})
    chosen = [unordered[i] for i in rng.permutation(len(unordered))[: plan.n_units]]
    for a, b in chosen:
        both_n = is_shown_nc[:, a] & is_shown_nc[:, b]
        units.append(Unit("conjunction", (a, b), _noisy(both_n, rng)))
        either_n = is_shown_nc[:, a] | is_shown_nc[:, b]
        units.append(Unit("either", (a, b), _noisy(either_n, rng)))
    return [*units, *_nothing(units, is_shown_nc, image_nd, plan, rng)]


def _single(
    is_shown_nc: np.ndarray, usable: np.ndarray, plan: Plan, rng: np.random.Generator
) -> Iterator[Unit]:
    """As many units of every concept, in turn."""
    for place in range(plan.n_units):
        concept = int(usable[place % len(usable)])
        yield Unit("single", (concept,), _noisy(is_shown_nc[:, concept], rng))


def _beside(
    shows_n: np.ndarray, companion_n: np.ndarray, share: float, n: int, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """``n`` images of a concept, a share of which shows the companion."""
    n_both = round(share * n)
    both = rng.permutation(np.flatnonzero(shows_n & companion_n))[:n_both]
    alone = rng.permutation(np.flatnonzero(shows_n & ~companion_n))[: n - n_both]
    strong_n = np.zeros(len(shows_n), bool)
    strong_n[np.concatenate([both, alone])] = True
    return strong_n


def _noisy(level_n: np.ndarray, rng: np.random.Generator) -> Float32[np.ndarray, " n"]:
    n = len(level_n)
    response_n = level_n * (1 + SPREAD * rng.standard_normal(n)) + NOISE * rng.standard_normal(n)
    return response_n.astype(np.float32)


def _nothing(
    units: list[Unit],
    is_shown_nc: np.ndarray,
    image_nd: np.ndarray,
    plan: Plan,
    rng: np.random.Generator,
) -> Iterator[Unit]:
    """Three kinds of units that no label is right for.

    Independent noise; activations of other units, shuffled over the images; and directions of
    the embeddings at random, which images share and no word names.
    """
    direction_ud = np.empty((plan.n_units, image_nd.shape[1]))
    for u in range(plan.n_units):
        noise_n = rng.standard_normal(len(image_nd)).astype(np.float32)
        yield Unit("noise: independent", (), noise_n)
        other = units[int(rng.integers(len(units)))]
        yield Unit("noise: permuted", (), rng.permutation(other.activation_n))
        direction_ud[u] = rng.standard_normal(image_nd.shape[1])
    for activation_n in _unnamed(direction_ud, image_nd, is_shown_nc, rng):
        yield Unit("noise: off the vocabulary", (), activation_n)


def _unnamed(
    direction_ud: np.ndarray,
    image_nd: np.ndarray,
    is_shown_nc: np.ndarray,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "u n"]:
    """What images have along directions, drawn anew where a concept is a direction's true one.

    Images differ most along few directions, and concepts are what they differ in: by the rule of
    ``true_concepts`` about one direction in five answers to a concept, whose name is then right.
    """
    centred_nd = image_nd - image_nd.mean(axis=0)
    activation_un = (direction_ud @ centred_nd.T).astype(np.float32)
    named = np.arange(len(activation_un))
    for _ in range(MOST_ROUNDS):
        named = named[true_concepts(activation_un[named], is_shown_nc).is_true_u]
        if not len(named):
            break
        anew_ud = rng.standard_normal((len(named), image_nd.shape[1]))
        activation_un[named] = (anew_ud @ centred_nd.T).astype(np.float32)
    return np.delete(activation_un, named, axis=0)
