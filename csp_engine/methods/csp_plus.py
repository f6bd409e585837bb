"""CSP+: contrast at several depths of a unit's ranking, judged by each label's own spread.

Our own departure from CSP ("Contrastive semantic projection", arXiv 2604.22477), for what was
measured to go wrong there: the strongest images alone are full of what merely goes along with the
concept, so several depths compete; chance moves the scores of some labels eight times as far as
those of others, so every score is divided by its label's own spread; a phrase that joins labels is
worth no more than the weakest of them; and a frequent part gives way to the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.depths.columns import LabelColumns, correlation, near_best, whole_of
from csp_engine.methods.depths.explained import Readout
from csp_engine.methods.depths.joined import Joined, parts_of
from csp_engine.methods.depths.kinds import KindColumns, most_general, shown_by
from csp_engine.methods.depths.relying import Meanings, lacks, unsaid
from csp_engine.methods.depths.rings import LIST_LENGTH, Depths, Partners, depths_of
from csp_engine.methods.depths.two_words import TwoWords
from csp_engine.methods.method import (
    NEIGHBOURS,
    Method,
    Parameter,
    Params,
    Scored,
    Stores,
    kept_null_vectors,
)
from csp_engine.vectors import directions

N_RANDOM, N_UNITS = 4000, 16
"""Pairs that say how far chance moves a label's score, and units that they are drawn for."""

SEED = 0
_SILENT = np.float32(-1e6)
_VALUES = 4_000_000
"""Scores of one depth that are made at a time; changes no result."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What is the same for all units of a layer.

    ``centre_gt`` and ``spread_gt`` are mean and standard deviation, over pairs of random units, of
    the score of label t for one pair at gamma g.
    """

    partners: Partners
    half_n: Bool[np.ndarray, " n"]
    gamma_g: tuple[float, ...]
    share_q: tuple[float, ...]
    centre_gt: Float32[np.ndarray, "g t"]
    spread_gt: Float32[np.ndarray, "g t"]
    joined: Joined
    is_single_t: Bool[np.ndarray, " t"]
    kinds: KindColumns
    is_shown_t: Bool[np.ndarray, " t"]
    columns: LabelColumns
    meanings: Meanings
    readout: Readout
    two_words: TwoWords


def numbers(text: str, name: str, *, low: float | int, high: float | int) -> tuple[float, ...]:
    """Rising numbers of a parameter, separated by commas.

    Raises:
        InputError: naming the parameter, what it is, and what may be given.
    """
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or list(found) != sorted(set(found)) or not all(low <= x <= high for x in found):
        raise InputError(
            f"{name} is {text!r}; give rising numbers from {low:g} to {high:g} with commas between."
        )
    return found


def check(params: Params) -> None:
    """Depths and gammas are lists of numbers."""
    _shares(params)
    numbers(params["gammas"], "gammas", low=0, high=1)


def _shares(params: Params) -> tuple[float, ...]:
    percent = numbers(params["depths"], "depths", low=0.01, high=50)
    return tuple(each / 100 for each in percent)


def prepare(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Layer:
    """Everything about images and labels that no unit changes."""
    image_nd = directions(np.asarray(evidence.image_nd))
    partners = Partners(image_nd, evidence.found_elsewhere(NEIGHBOURS))
    has_kinds = params["kinds"] and evidence.has("kinds")
    kinds = KindColumns(image_nd, label_td, evidence.kinds if has_kinds else {})
    is_shown_t = np.ones(len(label_td), bool)
    if kinds.kinds and params["shown"]:
        is_shown_t = shown_by(
            image_nd, label_td, kinds.kinds, among=params["among"], images=params["shown"]
        )
        is_shown_t |= not is_shown_t.any()
    rng = np.random.default_rng(SEED)
    half_n = rng.permutation(len(image_nd)) % 2 == 1
    if evidence.has("copies"):  # copies would have either half agree with itself
        half_n = half_n[evidence.copy_of_n]
    gamma_g = numbers(params["gammas"], "gammas", low=0, high=1)
    centre_gt, spread_gt = _chance(partners, label_td, kinds, gamma_g, rng)
    parts = parts_of(evidence.texts)
    is_single_t = np.ones(len(label_td), bool)
    is_single_t[list(parts)] = False
    columns = LabelColumns(image_nd, label_td, kinds.of)
    return Layer(
        partners=partners,
        half_n=half_n,
        gamma_g=gamma_g,
        share_q=_shares(params),
        centre_gt=centre_gt,
        spread_gt=spread_gt,
        joined=Joined.of(parts),
        is_single_t=is_single_t,
        kinds=kinds,
        is_shown_t=is_shown_t,
        columns=columns,
        meanings=Meanings(image_nd, label_td, is_single_t, kinds.kinds, params["same"]),
        readout=Readout(image_nd, half_n, params["ridge"]),
        two_words=TwoWords(columns, image_nd, label_td, is_single_t & is_shown_t),
    )


def _chance(
    partners: Partners,
    label_td: Float32[np.ndarray, "t d"],
    kinds: KindColumns,
    gamma_g: tuple[float, ...],
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "g t"], Float32[np.ndarray, "g t"]]:
    """Mean and spread of every label's score over pairs of units that fire at random.

    Half of the images, drawn anew for every unit, are quiet for it; the others are its exemplars.
    """
    n_images = len(partners.space.image_nd)
    each = max(1, min(N_RANDOM // N_UNITS, n_images // 2))
    parts: list[list[np.ndarray]] = [[] for _ in gamma_g]
    kind_parts: list[list[np.ndarray]] = [[] for _ in gamma_g]
    for _ in range(N_UNITS):
        quiet_n = rng.permutation(n_images) < n_images // 2
        image_k = rng.permutation(np.flatnonzero(~quiet_n))[:each].astype(np.int64)
        shared_kd, shared_kw = partners.shared(image_k, quiet_n, kinds.value_nw)
        for g, gamma in enumerate(gamma_g):
            parts[g].append(partners.space.image_nd[image_k] - np.float32(gamma) * shared_kd)
            kind_parts[g].append(kinds.value_nw[image_k] - np.float32(gamma) * shared_kw)
    centre, spread = [], []
    for rows, kind_rows in zip(parts, kind_parts, strict=True):
        z_kd = np.concatenate(rows).astype(np.float64)
        mean_d = z_kd.mean(axis=0)
        z_kd -= mean_d
        spread_dd = z_kd.T @ z_kd / max(len(z_kd), 1)
        label = label_td.astype(np.float64)
        centre_t = label @ mean_d
        variance_t = np.einsum("td,td->t", label @ spread_dd, label)
        value_kw = np.concatenate(kind_rows).astype(np.float64)
        centre_t[kinds.label_w] = value_kw.mean(axis=0)
        variance_t[kinds.label_w] = value_kw.var(axis=0)
        centre.append(centre_t)
        spread.append(np.sqrt(np.maximum(variance_t, 1e-12)))
    return np.stack(centre).astype(np.float32), np.stack(spread).astype(np.float32)


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Scored:
    """``mean over gamma of max over q of d_q(t) sqrt(q / (1 - q))``.

    ``d_q(t) = (mean over the strongest share q of (p - gamma s n) . T_t - m_t) / s_t`` is a
    standardised difference; the factor turns it into the correlation that a column of ones on that
    share and zeros elsewhere would have. See docs/methods.md.
    """
    layer = evidence.once_for_all("csp_plus", lambda: prepare(evidence, label_td, params))
    n_units, n_labels = evidence.n_units, len(label_td)
    activation_un = np.asarray(evidence.activation_un, np.float32)
    live, found = _depths(layer, evidence.exemplars.count_u, activation_un, params)
    out_ut = np.full((n_units, n_labels), _SILENT, np.float32)
    vector_ud = np.zeros((n_units, label_td.shape[1]), np.float32)
    raw_ud = np.zeros_like(vector_ud)
    extra = {
        "depth": np.zeros(n_units, np.float32),
        "fit": np.zeros(n_units, np.float32),
        "reach": np.zeros(n_units, np.float32),
        "halves_agree": np.zeros(n_units, bool),
        "next": np.zeros(n_units, np.float32),
        "two_words": np.zeros(n_units, np.float32),
    }
    for some in _few(len(live), layer, n_labels):
        units, depths = live[some], found[some]
        score_uht = _standardised(layer, depths, label_td)
        whole_ut = score_uht[:, 0]
        if params["whole"]:
            _give_way(layer, whole_ut, activation_un[units], params)
        for score_t in whole_ut:
            best = int(score_t.argmax())
            general = most_general(score_t, layer.kinds.kinds, params["general"])
            score_t[[best, general]] = score_t[[general, best]]
        out_ut[units] = whole_ut
        best_u = whole_ut.argmax(axis=1)
        extra["next"][units] = layer.meanings.next_share(whole_ut)
        said_uh = score_uht[:, 1:].argmax(axis=2)
        layer.columns.load(best_u.tolist())
        for u, best, said_h, each in zip(units, best_u.tolist(), said_uh, depths, strict=True):
            q_g = _depth_of(layer, each, label_td[best], best)
            extra["depth"][u] = np.mean([layer.share_q[q] for q in q_g])
            extra["fit"][u] = correlation(activation_un[u], layer.columns.similarity(best))
            is_said_h = each.share_hq[1:].any(axis=1)  # a half without an exemplar says nothing
            agrees_h = is_said_h & layer.meanings.are_one(said_h, best)
            extra["halves_agree"][u] = bool(agrees_h.all())
            anchor_gd, shared_gd = each.anchor_hqd[0, q_g], each.shared_hqd[0, q_g]
            gamma_g1 = np.asarray(layer.gamma_g, np.float32)[:, None]
            vector_ud[u] = directions((anchor_gd - gamma_g1 * shared_gd).mean(axis=0)[None])[0]
            raw_ud[u] = directions(anchor_gd.mean(axis=0)[None])[0]
        extra["two_words"][units] = layer.two_words.explained(
            activation_un[units], best_u, extra["fit"][units]
        )
    if len(live):
        # What decides whether the best label can be relied on.
        extra["reach"][live] = layer.readout.reach(activation_un[live])
    reliable_u = extra["halves_agree"] & (extra["fit"] >= params["least_fit"])
    reliable_u &= extra["fit"] >= params["explained"] * extra["reach"]
    reliable_u &= extra["next"] <= np.float32(params["apart"])
    reliable_u &= out_ut.max(axis=1) >= np.float32(params["enough"]) * extra["reach"]
    reliable_u &= extra["two_words"] >= np.float32(params["two_words"]) * extra["reach"]
    return Scored(
        score_ut=out_ut,
        has_label_u=out_ut.max(axis=1) > _SILENT,
        vector_ud=vector_ud,
        raw_vector_ud=raw_ud,
        may_rely_u=reliable_u,
        extra=extra,
    )


def _depths(
    layer: Layer,
    count_u: Int32[np.ndarray, " u"],
    activation_un: Float32[np.ndarray, "u n"],
    params: Params,
) -> tuple[Int64[np.ndarray, " live"], list[Depths]]:
    """The units that have loud and quiet images, and their means at every depth."""
    # Unit by unit: sorting many rows at once would hold a copy of them all.
    quiet_un = np.stack(
        [
            activation_n <= np.quantile(activation_n, params["quiet"])
            for activation_n in activation_un
        ]
    )
    live = np.flatnonzero((count_u > 0) & ~quiet_un.all(axis=1))
    return live, depths_of(
        layer.partners, activation_un[live], quiet_un[live], layer.half_n, layer.share_q,
        params["ring"], layer.kinds.value_nw,
    )  # fmt: skip


def _few(n_units: int, layer: Layer, n_labels: int) -> Iterator[slice]:
    """Some units at a time, as many as their scores at every depth may take memory."""
    step = max(1, _VALUES // (3 * len(layer.share_q) * n_labels))
    return (slice(start, start + step) for start in range(0, n_units, step))


def _standardised(
    layer: Layer, depths: Sequence[Depths], label_td: Float32[np.ndarray, "t d"]
) -> Float32[np.ndarray, "u h t"]:
    """The score of every label: of all images, and of either half."""
    anchor_uhqd = np.stack([each.anchor_hqd for each in depths])
    shared_uhqd = np.stack([each.shared_hqd for each in depths])
    share_uhq = np.stack([each.share_hq for each in depths])
    more_uhqw = [np.stack([e.anchor_hqw for e in depths]), np.stack([e.shared_hqw for e in depths])]
    factor_uhq = _factor(share_uhq)
    *shape, width = anchor_uhqd.shape
    total_uht = np.zeros((*shape[:2], len(label_td)), np.float32)
    for gamma, centre_t, spread_t in zip(
        layer.gamma_g, layer.centre_gt, layer.spread_gt, strict=True
    ):
        z_uhqd = anchor_uhqd - np.float32(gamma) * shared_uhqd
        d_uhqt = (z_uhqd.reshape(-1, width) @ label_td.T).reshape(*shape, len(label_td))
        d_uhqt[..., layer.kinds.label_w] = more_uhqw[0] - np.float32(gamma) * more_uhqw[1]
        d_uhqt -= centre_t
        d_uhqt /= spread_t
        d_uhqt *= factor_uhq[..., None]
        d_uhqt[share_uhq == 0] = -np.inf
        total_uht += d_uhqt.max(axis=2)
    total_uht /= len(layer.gamma_g)
    total_uht[share_uhq.max(axis=2) == 0] = 0  # a half may hold no exemplar
    if not layer.is_shown_t.all():  # what no image shows comes after all that some do
        best_uh1 = total_uht[..., ~layer.is_shown_t].max(axis=2, keepdims=True)
        least_uh1 = total_uht[..., layer.is_shown_t].min(axis=2, keepdims=True)
        total_uht[..., ~layer.is_shown_t] -= np.maximum(0, best_uh1 - least_uh1) + 1
    layer.joined.hold_down(total_uht.reshape(-1, len(label_td)))
    return total_uht


def _factor(share: Float32[np.ndarray, "*axes"]) -> Float32[np.ndarray, "*axes"]:
    """What makes a standardised difference the correlation of a column of ones on that share."""
    return np.sqrt(share / np.maximum(1 - share, 1e-6))


def _depth_of(
    layer: Layer, depths: Depths, label_d: Float32[np.ndarray, " d"], label: int
) -> Int64[np.ndarray, " g"]:
    """At which depth each gamma finds a label."""
    share_q, place = depths.share_hq[0], layer.kinds.place.get(label)
    found = []
    for g, gamma in enumerate(layer.gamma_g):
        z_qd = depths.anchor_hqd[0] - np.float32(gamma) * depths.shared_hqd[0]
        # Row by row, so that depths that hold the same images tie, and the first of them counts.
        value_q = (z_qd * label_d).sum(axis=1)
        if place is not None:
            value_qw = depths.anchor_hqw[0] - np.float32(gamma) * depths.shared_hqw[0]
            value_q = value_qw[:, place]
        d_q = (value_q - layer.centre_gt[g, label]) / layer.spread_gt[g, label]
        found.append(np.where(share_q == 0, -np.inf, d_q * _factor(share_q)).argmax())
    return np.array(found)


def _give_way(
    layer: Layer,
    score_ut: Float32[np.ndarray, "u t"],
    activation_un: Float32[np.ndarray, "u n"],
    params: Params,
) -> None:
    """Let the whole take the place of its frequent part, in place."""
    near_u = [near_best(score_t, layer.is_single_t, params["near"]) for score_t in score_ut]
    layer.columns.load(label for best_first in near_u for label in best_first)
    rule = {"holds": params["holds"], "larger": params["larger"]}
    for score_t, best_first, activation_n in zip(score_ut, near_u, activation_un, strict=True):
        whole = whole_of(layer.columns, best_first, activation_n, **rule)
        if whole is not None:
            best = int(score_t.argmax())
            score_t[[best, whole]] = score_t[[whole, best]]
            layer.joined.hold_down(score_t[None])  # the part may now score less than it did


CSP_PLUS = Method(
    name="csp_plus",
    title="CSP+",
    summary="Names a neuron by what sets its images apart from quiet look-alikes, at the depth of "
    "its ranking where that shows most, measured by what chance would give.",
    version=4,
    order=5,
    parameters=(
        Parameter("depths", "0.75,2.5,5,10,20,30", "strongest per cent of the images, rising"),
        Parameter("gammas", "0,1", "shares of the common part that are removed, rising"),
        Parameter("quiet", 0.5, "share of the images that is quiet", low=0.05, high=0.95),
        Parameter("ring", 1000, "images looked at between two depths", low=10),
        Parameter("whole", True, "whether a frequent part gives way to the whole"),
        Parameter("near", 0.7, "how near a whole must score", low=0, high=1),
        Parameter("holds", 0.95, "share of a part's images that show the whole", low=0, high=1),
        Parameter("larger", 1.1, "how many times as many images show the whole", low=1, high=100),
        Parameter(
            "kinds",
            True,
            "whether a label that has kinds is read as the best of them",
            is_later=True,
        ),
        Parameter(
            "general",
            0.1,
            "how much less a label may score than one of its kinds, and be chosen",
            low=0,
            high=1,
            is_later=True,
        ),
        Parameter(
            "shown",
            3,
            "images that must show a label, where some labels have kinds; 0: none",
            low=0,
            is_later=True,
        ),
        Parameter(
            "among", 5, "labels that an image shows: those nearest to it", low=1, is_later=True
        ),
        Parameter("ridge", 0.01, "penalty of the readout, per mean variance", low=1e-6, high=100),
        Parameter("same", 0.8, "correlation from which two labels mean one thing", low=0, high=1),
        Parameter("least_fit", 0.3, "least correlation of a reliable label", low=-1, high=1),
        Parameter("explained", 0.675, "least share of what can be read at all", low=0, high=1),
        Parameter(
            "apart", 0.96, "most that another meaning may score, of the best score", low=0, high=1
        ),
        Parameter(
            "enough", 0.65, "least score of a reliable label, of what can be read", low=0, high=10
        ),
        Parameter(
            "two_words",
            0.8,
            "least share of what can be read that the label and one more word explain",
            low=0,
            high=1,
        ),
    ),
    needs=("exemplars", "activations", "texts"),
    uses=("kinds", "copies"),
    stores=Stores(
        arrays={
            "depth": "share of the images at which the best label was found, mean over gammas",
            "fit": "correlation of the activation with the images' similarity to the best label",
            "reach": "correlation with what the embeddings predict at best, each half from the "
            "other",
            "halves_agree": "whether either half of the probe set gives a label of that meaning",
            "next": "what the best label of another meaning scores, as a share of the best score",
            "two_words": "multiple correlation of the activation with the similarities to the best "
            "label and to the word that adds most",
        },
        null_vectors=kept_null_vectors,
        signals=("depth", "fit", "reach", "halves_agree"),
        keeps_null_vectors=True,
    ),
    check=check,
    score=score,
    lacks=lacks,
    unsaid=unsaid,
    depth="",
    unit_block=64,
    lists=LIST_LENGTH,
)
