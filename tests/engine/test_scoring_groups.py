from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods import NullComponents, group_labels
from csp_engine.vectors import directions
from tests.worlds import small_layers

PLAIN = ("x", "y", "z")


def drawn(n: int, width: int, seed: int = 0) -> NullComponents:
    rng = np.random.default_rng(seed)
    anchor_rd, projection_rd = rng.standard_normal((2, n, width)).astype(np.float32) * 0.1
    return NullComponents(anchor_rd, projection_rd, np.full(n, 30))


def look_alikes():
    """Two exemplars of x and two of y, each beside a z look-alike."""
    x, y, z = np.eye(3)
    images = np.array([x + z, x + 0.9 * z, y + z, y + 1.1 * z, z])
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    return small_layers.by_hand(images, [0, 2, 1, 3], [[4]] * 4)


def test_each_group_gets_the_label_of_its_own_images():
    group_k = np.array([0, 1, 0, 1])
    label_td = np.eye(3, dtype=np.float32)
    first, second = group_labels(look_alikes(), group_k, label_td, PLAIN, drawn(400, 3), gamma=1.0)
    assert (first[0], second[0]) == (0, 1)
    kept = group_labels(look_alikes(), group_k, label_td, PLAIN, drawn(400, 3), gamma=0.0)
    assert 2 in kept[0][:2]  # z is back


def test_a_label_that_chance_moves_far_needs_more():
    """z is in every exemplar; it wins until chance is seen to give it as much."""
    label_td = np.eye(3, dtype=np.float32)
    group_k, null = np.zeros(4, int), drawn(400, 3)
    assert group_labels(look_alikes(), group_k, label_td, PLAIN, null, gamma=0.0)[0][0] == 2
    null.anchor_rd[:, 2] *= 20
    assert group_labels(look_alikes(), group_k, label_td, PLAIN, null, gamma=0.0)[0][0] != 2


@pytest.mark.parametrize("weighting", ["none", "rank"])
def test_order_is_that_of_the_formula_exemplar_by_exemplar(weighting):
    rng = np.random.default_rng(3)
    evidence = small_layers.awkward(rng, 6, 40, 8, 12, 2)
    label_td = small_layers.unit_rows(rng, 15, 8)
    one, null, gamma = evidence.block(np.array([5])), drawn(50, 8), 0.7
    group_k = np.array([0, 1, 1, 0, 0, 1, 0, 0])
    texts = [f"word {t}" for t in range(15)]
    found = group_labels(
        one, group_k, label_td, texts, null, gamma=gamma, weighting=weighting, n_labels=4
    )
    chance_rt = [
        [float((a - gamma * p) @ t) for t in label_td]
        for a, p in zip(null.anchor_rd.astype(float), null.projection_rd.astype(float), strict=True)
    ]
    for group in (0, 1):
        ranks = np.flatnonzero(group_k == group)
        total_d, weight = np.zeros(8), 0.0
        for place, rank in enumerate(ranks):
            own = 1.0 if weighting == "none" else 1 - place / len(ranks)
            p_d = one.image_nd[one.exemplars.image_uk[0, rank]].astype(float)
            near = one.contrast.image_ukj[0, rank, : one.contrast.n_partner_uk[0, rank]]
            n_d = directions(one.image_nd[near].astype(float).sum(axis=0)[None])[0]
            total_d += own * (p_d - gamma * (p_d @ n_d) * n_d)
            weight += own
        score_t = [
            (float(total_d / weight @ t) - np.mean(chance)) / np.std(chance)
            for t, chance in zip(label_td, np.transpose(chance_rt), strict=True)
        ]
        expected: list[int] = []
        for t in np.argsort(-np.array(score_t), kind="stable").tolist():
            alike = [np.corrcoef(np.transpose(chance_rt)[[t, kept]])[0, 1] for kept in expected]
            if score_t[t] >= 0.7 * max(score_t) and not any(r >= 0.8 for r in alike):
                expected.append(t)
        assert found[group] == expected[:4]


def test_a_joined_label_comes_after_what_it_joins():
    label_td = np.array([[1, 0, 0], [0, 1, 0], [0.7, 0.7, 0]], np.float32)
    null = drawn(400, 3)
    alone = ("ruler", "hair", "coarse hair")
    (found,) = group_labels(look_alikes(), np.zeros(4, int), label_td, alone, null, gamma=1.0)
    assert found[0] == 2
    joined = ("ruler", "hair", "ruler and hair")
    (found,) = group_labels(look_alikes(), np.zeros(4, int), label_td, joined, null, gamma=1.0)
    assert found[:2] in ([0, 1], [1, 0])


def test_one_of_several_words_for_one_thing_stands_for_them():
    label_td = np.array([[1, 0.05, 0], [1, 0, 0], [0, 1, 0], [0.98, 0, 0.1]], np.float32)
    texts = ("ruler", "scale bar", "hair", "tick marks")
    (found,) = group_labels(
        look_alikes(), np.zeros(4, int), label_td, texts, drawn(400, 3), gamma=1.0
    )
    assert len(found) == 2
    assert 2 in found


def test_ranks_without_contrast_images_enter_unchanged():
    images = np.eye(3, dtype=np.float32)
    evidence = small_layers.by_hand(images, [0, 1], [[], []])
    found = group_labels(evidence, np.array([0, 1]), images, PLAIN, drawn(400, 3), gamma=1.0)
    assert [labels[0] for labels in found] == [0, 1]


def test_a_group_of_which_nothing_is_left_has_no_label():
    """Every exemplar is its own look-alike."""
    images = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    evidence = small_layers.by_hand(images, [0, 2], [[1], []])
    label_td = np.eye(3, dtype=np.float32)
    found = group_labels(evidence, np.array([0, 1]), label_td, PLAIN, drawn(400, 3), gamma=1.0)
    assert found[0] == []
    assert found[1][0] == 1
