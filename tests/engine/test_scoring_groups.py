from __future__ import annotations

import numpy as np

from csp_engine.methods import METHODS, group_labels
from tests.worlds import small_layers

CSP = METHODS["csp"]


def test_each_group_gets_the_label_of_its_own_images():
    """Two exemplars of x and two of y, each beside a z look-alike: the groups are x and y."""
    x, y, z = np.eye(3)
    images = np.array([x + z, x + 0.9 * z, y + z, y + 1.1 * z, z])
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    evidence = small_layers.by_hand(images, [0, 2, 1, 3], [[4]] * 4)
    label_td = np.eye(3, dtype=np.float32)
    first, second = group_labels(CSP, evidence, np.array([0, 1, 0, 1]), label_td, {})
    assert first[0][0] == 0
    assert second[0][0] == 1
    assert first[0][1] > 0.99
    kept = group_labels(CSP, evidence, np.array([0, 1, 0, 1]), label_td, {"gamma": 0.0})
    assert kept[0][0][1] < 0.8  # z is back in both


def test_a_group_is_labelled_as_a_unit_of_those_exemplars_would_be():
    rng = np.random.default_rng(3)
    evidence = small_layers.awkward(rng, 6, 40, 8, 12, 2)
    label_td = small_layers.unit_rows(rng, 15, 8)
    one = evidence.block(np.array([5]))
    group_k = np.array([0, 1, 1, 0, 0, 1, 0, 0])
    found = group_labels(CSP, one, group_k, label_td, {"weighting": "rank"}, n_labels=4)
    for group in (0, 1):
        ranks = np.flatnonzero(group_k == group)
        n_partner_k = one.contrast.n_partner_uk[0, ranks]
        partners = [
            one.contrast.image_ukj[0, rank, :n].tolist()
            for rank, n in zip(ranks, n_partner_k, strict=True)
        ]
        alone = small_layers.by_hand(
            one.image_nd, one.exemplars.image_uk[0, ranks].tolist(), partners
        )
        scored = METHODS["csp"].score(
            alone, label_td, {"gamma": 1.0, "n_score": 30, "weighting": "rank"}
        )
        best = np.argsort(-scored.score_ut[0], kind="stable")[:4]
        assert [t for t, _ in found[group]] == best.tolist()


def test_ranks_without_contrast_images_enter_unchanged():
    images = np.eye(3, dtype=np.float32)
    evidence = small_layers.by_hand(images, [0, 1], [[], []])
    found = group_labels(CSP, evidence, np.array([0, 1]), images, {})
    assert [labels[0][0] for labels in found] == [0, 1]
