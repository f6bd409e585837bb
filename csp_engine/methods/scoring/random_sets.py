"""Units that mean nothing, so that scores can be compared with what chance gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int, Int32

from csp_engine.errors import InputError
from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.evidence import Evidence, Given
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.types import ContrastSet, Exemplars, Progress, silent

_BLOCK_BYTES = 200 << 20


def noise_activations(
    n_images: int, first_draw: int, n_draws: int, seed: int
) -> Float32[np.ndarray, "r n"]:
    """Independent standard normal activations; draw r depends on ``seed`` and r alone."""
    noise_rn = np.empty((n_draws, n_images), np.float32)
    for row in range(n_draws):
        generator = np.random.default_rng([seed, first_draw + row])
        generator.standard_normal(out=noise_rn[row], dtype=np.float32)
    return noise_rn


def noise_evidence(
    image_nd: Float32[np.ndarray, "n d"],
    *,
    n_draws: int = 500,
    n_exemplars: int = 100,
    rule: ContrastRule,
    seed: int = 0,
    duplicate_group_n: Int32[np.ndarray, " n"] | None = None,
    group_n: Int32[np.ndarray, " n"] | None = None,
    n_paired: int | None = None,
    copy_of_n: Int32[np.ndarray, " n"] | None = None,
    partner_copy_of_n: Int32[np.ndarray, " n"] | None = None,
    progress: Progress = silent,
) -> Evidence:
    """Exemplars and contrast images of units whose activations are noise.

    Their exemplars are a random set of images, their quiet images are found by the same rule and
    the same mining as for real units, so a method's answer to them is its answer to a neuron that
    means nothing.

    Args:
        image_nd: unit rows.
        n_draws: how many such units; a percentile cannot be finer than 1/(n_draws + 1).
        n_exemplars: exemplars of each, as many as real units have.
        rule: how contrast images are mined.
        seed: the same seed gives the same units, whatever the block size.
        duplicate_group_n: near-duplicate group of each image, where the rule uses it.
        group_n: metadata group of each image, where the rule uses it.
        n_paired: mine contrast images for the first ``n_paired`` exemplars only, which is enough
            when no method scores more. Ignored where the rule forbids reuse, because there every
            exemplar bears on the others' partners.
        copy_of_n: the first copy of each image, where copies count once among exemplars.
        partner_copy_of_n: the same, where copies count once among contrast images.
        progress: called with the draws done.

    Raises:
        InputError: if ``n_draws`` is below 1.
    """
    if n_draws < 1:
        raise InputError(f"n_draws is {n_draws}; draw at least 1 random image set (500 is usual).")
    n_images = len(image_nd)
    block = max(1, min(n_draws, _BLOCK_BYTES // (4 * max(n_images, 1))))
    parts: list[Evidence] = []
    for start in range(0, n_draws, block):
        noise_rn = noise_activations(n_images, start, min(block, n_draws - start), seed)
        exemplars = rank_exemplars(noise_rn, n_exemplars, copy_of_n=copy_of_n)
        paired = exemplars
        if n_paired is not None and rule.reuse:
            paired = first_exemplars(exemplars, n_paired)
        contrast = mine_contrast(
            noise_rn,
            paired,
            image_nd,
            rule,
            duplicate_group_n=duplicate_group_n,
            group_n=group_n,
            copy_of_n=partner_copy_of_n,
        )
        parts.append(
            Evidence(exemplars, _pad_ranks(contrast, exemplars.image_uk.shape[1]), image_nd)
        )
        progress("null", start + len(noise_rn), n_draws)

    def activations(units: Int[np.ndarray, " b"]) -> Float32[np.ndarray, "b n"]:
        return np.concatenate([noise_activations(n_images, int(unit), 1, seed) for unit in units])

    return replace(_joined(parts, image_nd), given=Given(sources={"activations": activations}))


def first_exemplars(exemplars: Exemplars, n: int) -> Exemplars:
    """The same units with at most ``n`` exemplars each."""
    return Exemplars(
        exemplars.image_uk[:, :n],
        exemplars.activation_uk[:, :n],
        np.minimum(exemplars.count_u, n).astype(np.int32),
    )


def evidence_of_size(evidence: Evidence, size: int) -> Evidence:
    """What the evidence would be had only the first ``size`` exemplars been kept.

    The contrast images of ranks beyond that stay where they are; nothing reads them.
    """
    exemplars = evidence.exemplars
    count_u = np.minimum(exemplars.count_u, size).astype(np.int32)
    return replace(evidence, exemplars=replace(exemplars, count_u=count_u))


def _pad_ranks(contrast: ContrastSet, n_ranks: int) -> ContrastSet:
    """Ranks without partners added at the end."""
    missing = n_ranks - contrast.image_ukj.shape[1]
    if missing <= 0:
        return contrast
    ranks = ((0, 0), (0, missing))
    return replace(
        contrast,
        image_ukj=np.pad(contrast.image_ukj, (*ranks, (0, 0))),
        similarity_ukj=np.pad(contrast.similarity_ukj, (*ranks, (0, 0))),
        activation_ukj=np.pad(contrast.activation_ukj, (*ranks, (0, 0))),
        n_partner_uk=np.pad(contrast.n_partner_uk, ranks),
    )


def _joined(parts: list[Evidence], image_nd: Float32[np.ndarray, "n d"]) -> Evidence:
    """One evidence from blocks of units."""

    def join(kind: str, name: str) -> np.ndarray:
        return np.concatenate([getattr(getattr(part, kind), name) for part in parts])

    return Evidence(
        Exemplars(*(join("exemplars", name) for name in Exemplars.__dataclass_fields__)),
        ContrastSet(*(join("contrast", name) for name in ContrastSet.__dataclass_fields__)),
        image_nd,
    )
