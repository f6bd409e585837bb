"""CSP+: contrast at several depths of a unit's ranking, judged by each label's own spread.

Our own departure from CSP ("Contrastive semantic projection", arXiv 2604.22477), for what was
measured to go wrong there: the strongest images alone are full of what merely goes along with the
concept, so several depths compete; chance moves the scores of some labels eight times as far as
those of others, so every score is divided by its label's own spread; a phrase that joins labels is
worth no more than the weakest of them; and a frequent part gives way to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.depths.columns import LabelColumns, correlation, meanings, whole_of
from csp_engine.methods.depths.explained import Readout
from csp_engine.methods.depths.joined import parts_of
from csp_engine.methods.depths.kinds import KindColumns, most_general, shown_by
from csp_engine.methods.depths.rings import HALVES, Depths, Partners, depths_of
from csp_engine.methods.method import Method, Parameter, Params, Scored, Stores
from csp_engine.vectors import directions

N_RANDOM, N_UNITS = 4000, 16
"""Pairs that say how far chance moves a label's score, and units that they are drawn for."""

READABLE, SAID = 0.5, 0.65
"""A unit follows something that the words lack if the embeddings predict its activation at least so
well (r), and the best label's similarities go with it by less than that share of r."""

SEED = 0
_SILENT = np.float32(-1e6)


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
    parts: dict[int, tuple[int, ...]]
    is_single_t: Bool[np.ndarray, " t"]
    kinds: KindColumns
    is_shown_t: Bool[np.ndarray, " t"]
    columns: LabelColumns
    meaning_td: Float32[np.ndarray, "t d"]
    readout: Readout


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
    partners = Partners(image_nd)
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
    gamma_g = numbers(params["gammas"], "gammas", low=0, high=1)
    centre_gt, spread_gt = _chance(partners, label_td, kinds, gamma_g, rng)
    parts = parts_of(evidence.texts)
    is_single_t = np.ones(len(label_td), bool)
    is_single_t[list(parts)] = False
    return Layer(
        partners=partners,
        half_n=half_n,
        gamma_g=gamma_g,
        share_q=_shares(params),
        centre_gt=centre_gt,
        spread_gt=spread_gt,
        parts=parts,
        is_single_t=is_single_t,
        kinds=kinds,
        is_shown_t=is_shown_t,
        columns=LabelColumns(image_nd, label_td, kinds.of),
        meaning_td=meanings(image_nd, label_td),
        readout=Readout(image_nd, half_n, params["ridge"]),
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
        pairs = partners.of(image_k, quiet_n)
        value_kw, shared_kw = kinds.value_nw[image_k], pairs.shared_of(kinds.value_nw)
        for g, gamma in enumerate(gamma_g):
            parts[g].append(partners.space.image_nd[image_k] - np.float32(gamma) * pairs.shared_kd)
            kind_parts[g].append(value_kw - np.float32(gamma) * shared_kw)
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
    layer = evidence.once("csp_plus", lambda: prepare(evidence, label_td, params))
    activation_un = evidence.activation_un
    n_units, n_labels = evidence.n_units, len(label_td)
    out_ut = np.full((n_units, n_labels), _SILENT, np.float32)
    vector_ud = np.zeros((n_units, label_td.shape[1]), np.float32)
    raw_ud = np.zeros_like(vector_ud)
    reliable_u = np.zeros(n_units, bool)
    extra = {
        "depth": np.zeros(n_units, np.float32),
        "fit": np.zeros(n_units, np.float32),
        "reach": np.zeros(n_units, np.float32),
        "halves_agree": np.zeros(n_units, bool),
    }
    for u in range(n_units):
        activation_n = np.asarray(activation_un[u], np.float32)
        quiet_n = activation_n <= np.quantile(activation_n, params["quiet"])
        if not evidence.exemplars.count_u[u] or quiet_n.all():
            continue
        depths = depths_of(
            layer.partners, activation_n, quiet_n, layer.half_n, layer.share_q, params["ring"],
            layer.kinds.value_nw,
        )  # fmt: skip
        whole_t, depth_gt = _standardised(layer, depths, label_td, 0)
        if params["whole"]:
            whole = whole_of(
                layer.columns, whole_t, activation_n, layer.is_single_t,
                near=params["near"], holds=params["holds"], larger=params["larger"],
            )  # fmt: skip
            if whole is not None:
                best = int(whole_t.argmax())
                whole_t[[best, whole]] = whole_t[[whole, best]]
                _hold_down(whole_t, layer.parts)  # the part may now score less than it did
        general = most_general(whole_t, layer.kinds.kinds, params["general"])
        best = int(whole_t.argmax())
        whole_t[[best, general]] = whole_t[[general, best]]
        out_ut[u] = whole_t
        best = int(whole_t.argmax())
        said = [
            int(_standardised(layer, depths, label_td, 1 + h)[0].argmax()) for h in range(HALVES)
        ]
        _describe(layer, extra, u, activation_n, best, said, params)
        q_g = depth_gt[:, best]
        extra["depth"][u] = np.mean([layer.share_q[q] for q in q_g])
        anchor_gd, shared_gd = depths.anchor_hqd[0, q_g], depths.shared_hqd[0, q_g]
        gamma_g1 = np.asarray(layer.gamma_g, np.float32)[:, None]
        vector_ud[u] = directions((anchor_gd - gamma_g1 * shared_gd).mean(axis=0)[None])[0]
        raw_ud[u] = directions(anchor_gd.mean(axis=0)[None])[0]
        reliable_u[u] = (
            extra["halves_agree"][u]
            and extra["fit"][u] >= params["least_fit"]
            and extra["fit"][u] >= params["explained"] * extra["reach"][u]
        )
    return Scored(
        score_ut=out_ut,
        has_label_u=out_ut.max(axis=1) > _SILENT,
        vector_ud=vector_ud,
        raw_vector_ud=raw_ud,
        may_rely_u=reliable_u,
        extra=extra,
    )


def _standardised(
    layer: Layer, depths: Depths, label_td: Float32[np.ndarray, "t d"], half: int
) -> tuple[np.ndarray, np.ndarray]:
    """The score of every label, and at which depth each gamma found it."""
    share_q = depths.share_hq[half]
    factor_q = np.sqrt(share_q / np.maximum(1 - share_q, 1e-6))[:, None]
    total_t, depth = np.zeros(len(label_td), np.float32), []
    for g, gamma in enumerate(layer.gamma_g):
        z_qd = depths.anchor_hqd[half] - np.float32(gamma) * depths.shared_hqd[half]
        d_qt = z_qd @ label_td.T
        value_qw = depths.anchor_hqw[half] - np.float32(gamma) * depths.shared_hqw[half]
        d_qt[:, layer.kinds.label_w] = value_qw
        d_qt = (d_qt - layer.centre_gt[g]) / layer.spread_gt[g] * factor_q
        d_qt[share_q == 0] = -np.inf
        depth.append(d_qt.argmax(axis=0))
        total_t += d_qt.max(axis=0)
    total_t /= len(layer.gamma_g)
    if not layer.is_shown_t.all():  # what no image shows comes after all that some do
        unseen_t = ~layer.is_shown_t
        total_t[unseen_t] -= max(0, total_t[unseen_t].max() - total_t[layer.is_shown_t].min()) + 1
    _hold_down(total_t, layer.parts)
    return total_t, np.stack(depth)


def _hold_down(score_t: Float32[np.ndarray, " t"], parts: dict[int, tuple[int, ...]]) -> None:
    """Keep every joined label below the weakest of its parts, in place; never tied with it."""
    for joined, parts_t in parts.items():
        below = np.nextafter(score_t[list(parts_t)].min(), np.float32(-np.inf))
        score_t[joined] = min(score_t[joined], below)


def _describe(
    layer: Layer,
    extra: dict[str, np.ndarray],
    u: int,
    activation_n: Float32[np.ndarray, " n"],
    best: int,
    said: list[int],
    params: Params,
) -> None:
    """What decides whether the best label can be relied on."""
    fit = correlation(activation_n, layer.columns.of(best)[0])
    extra["fit"][u] = fit
    extra["reach"][u] = layer.readout.reach(activation_n)
    alike = layer.meaning_td[said] @ layer.meaning_td[best]
    extra["halves_agree"][u] = bool((alike >= params["same"]).all())


def unsaid(stored: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " u"]:
    """Units that the embeddings predict well, and the best label badly."""
    reach_u = np.asarray(stored["reach"])
    return (reach_u >= READABLE) & (np.asarray(stored["fit"]) < SAID * reach_u)


def lacks(stored: Mapping[str, float], params: Params) -> str:
    """The first of the three conditions of a reliable label that does not hold."""
    fit, reach = stored["fit"], stored["reach"]
    if not stored["halves_agree"]:
        return "the two halves of the probe set give labels of different meanings"
    if fit < params["least_fit"]:
        return (
            f"its correlation with the activation is {fit:.2f}, and {params['least_fit']:g} is the "
            "least that CSP+ asks for"
        )
    if fit < params["explained"] * reach:
        return (
            f"it explains {fit:.2f} (correlation) of {reach:.2f} that the images explain, and CSP+ "
            f"asks for {100 * params['explained']:g} %"
        )
    return ""


CSP_PLUS = Method(
    name="csp_plus",
    title="CSP+",
    summary="Names a neuron by what sets its images apart from quiet look-alikes, at the depth of "
    "its ranking where that shows most, measured by what chance would give.",
    version=1,
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
    ),
    needs=("exemplars", "activations", "texts"),
    uses=("kinds",),
    stores=Stores(
        arrays={
            "depth": "share of the images at which the best label was found, mean over gammas",
            "fit": "correlation of the activation with the images' similarity to the best label",
            "reach": "correlation with what the embeddings predict at best, each half from the "
            "other",
            "halves_agree": "whether either half of the probe set gives a label of that meaning",
        },
        signals=("depth", "fit", "reach", "halves_agree"),
    ),
    check=check,
    score=score,
    lacks=lacks,
    unsaid=unsaid,
    depth="",
    unit_block=64,
)
