"""CSP+ where some labels are kinds of others: against loops from the formula, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from csp_engine.methods import resolve_params
from csp_engine.methods.csp_plus import CSP_PLUS, prepare
from csp_engine.methods.depths.kinds import KindColumns, most_general, shown_by
from tests.worlds import small_layers

KINDS = {0: (3, 4), 2: (0, 3, 4, 5), 6: (7,)}
PLAIN = {"whole": False, "general": 0, "shown": 0}


def layer(seed=0, u=7, n=90, d=8, t=12):
    rng = np.random.default_rng(seed)
    evidence = small_layers.awkward(rng, u, n, d, 15, 2)
    return evidence, small_layers.unit_rows(rng, t, d)


def asked(evidence, kinds=KINDS):
    evidence.given.sources["kinds"] = lambda _: kinds
    evidence.given.sources["texts"] = lambda _: [f"w{t}" for t in range(12)]
    return evidence.asked_by("a test", (*CSP_PLUS.needs, "kinds"))


def slow_values(image_nd, label_td, kinds):
    """What every image says of every label with kinds, one by one."""
    x_nd = image_nd.astype(np.float64)
    values = {}
    for label, below in kinds.items():
        columns = []
        for t in (label, *below):
            cosine = [float(x @ label_td[t]) for x in x_nd]
            columns.append([(c - np.mean(cosine)) / np.std(cosine) for c in cosine])
        values[label] = [max(column[i] for column in columns) for i in range(len(x_nd))]
    return values


def slow_pair(image_nd, quiet, i):
    """The two nearest quiet images, and what each of them counts for what is shared."""
    near = sorted(quiet, key=lambda j: (-round(float(image_nd[i] @ image_nd[j]), 9), j))[:2]
    total = sum(image_nd[j] for j in near)
    length = np.linalg.norm(total)
    return near, float(image_nd[i] @ total) / length / length


@pytest.mark.parametrize("gammas", ["0,1", "0.4"])
def test_scores_of_labels_with_kinds_are_those_of_the_formula(gammas):
    evidence, label_td = layer()
    params = resolve_params(CSP_PLUS, {**PLAIN, "gammas": gammas})
    given = asked(evidence)
    found = CSP_PLUS.score(given, label_td, params)
    without = CSP_PLUS.score(asked(layer()[0], {}), label_td, params)
    shared = prepare(asked(evidence), label_td, params)
    x_nd = evidence.image_nd.astype(np.float64)
    values = slow_values(evidence.image_nd, label_td, KINDS)
    for u in (0, 1, 3, 4):
        activation_n = given.activation_un[u]
        bar = np.quantile(activation_n, params["quiet"])
        quiet = [i for i in range(len(x_nd)) if activation_n[i] <= bar]
        loud = sorted(set(range(len(x_nd))) - set(quiet), key=lambda i: (-activation_n[i], i))
        pairs = {i: slow_pair(x_nd, quiet, i) for i in loud}
        for label, value_n in values.items():
            total = 0.0
            for g, gamma in enumerate(shared.gamma_g):
                tried = []
                for share in shared.share_q:
                    chosen = loud[: math.ceil(share * len(x_nd))]
                    q = len(chosen) / len(x_nd)
                    mean = np.mean([
                        value_n[i] - gamma * pairs[i][1] * sum(value_n[j] for j in pairs[i][0])
                        for i in chosen
                    ])  # fmt: skip
                    z = (mean - shared.centre_gt[g, label]) / shared.spread_gt[g, label]
                    tried.append(z * math.sqrt(q / (1 - q)))
                total += max(tried)
            expected = total / len(shared.gamma_g)
            assert found.score_ut[u, label] == pytest.approx(expected, abs=5e-4)
        alone = [t for t in range(12) if t not in KINDS]
        np.testing.assert_allclose(found.score_ut[u, alone], without.score_ut[u, alone], atol=1e-5)


def test_without_kinds_or_when_told_not_to_look_nothing_changes():
    evidence, label_td = layer()
    plain = resolve_params(CSP_PLUS, {})
    before = CSP_PLUS.score(evidence.asked_by("a test", CSP_PLUS.needs), label_td, plain)
    for given, params in (
        (asked(layer()[0], {}), plain),
        (asked(layer()[0]), resolve_params(CSP_PLUS, {"kinds": False})),
    ):
        after = CSP_PLUS.score(given, label_td, params)
        assert np.array_equal(after.score_ut, before.score_ut)
        assert np.array_equal(after.vector_ud, before.vector_ud)


def test_bundles_made_before_there_were_kinds_keep_their_keys():
    assert not {"kinds", "general", "shown", "among"} & set(CSP_PLUS.recorded(CSP_PLUS.params))


def test_a_dog_is_what_any_kind_of_dog_is():
    """Units that answer to all kinds together are called by the word above them."""
    rng = np.random.default_rng(0)
    n_kinds, n_each, width = 8, 25, 40
    label_td = np.linalg.qr(rng.standard_normal((width, width)))[0][:30].astype(np.float32)
    kind_n = np.repeat(np.arange(24), n_each)  # labels 1 to 24 are shown; 0 stands above 1 to 8
    image_nd = label_td[1 + kind_n] + 0.25 / np.sqrt(width) * rng.standard_normal((600, width))
    image_nd = (image_nd / np.linalg.norm(image_nd, axis=1, keepdims=True)).astype(np.float32)
    activation_n = (kind_n < n_kinds) + 0.2 * rng.standard_normal(600)
    narrow_n = (kind_n == 3) + 0.2 * rng.standard_normal(600)
    evidence = small_layers.mined(np.stack([activation_n, narrow_n]), image_nd, 20)
    evidence.given.sources["texts"] = lambda _: [f"w{t}" for t in range(30)]
    evidence.given.sources["kinds"] = lambda _: {0: tuple(range(1, n_kinds + 1))}
    for needs, best in (((*CSP_PLUS.needs, "kinds"), [0, 4]), (CSP_PLUS.needs, None)):
        given = evidence.asked_by("a test", needs)
        told = CSP_PLUS.score(given, label_td, CSP_PLUS.params).score_ut.argmax(axis=1).tolist()
        assert told == best if best else told[0] != 0


def test_the_most_general_of_labels_that_say_nearly_as_much():
    kinds = {0: (1, 2, 3), 1: (2, 3), 5: (6,)}
    for score_t, near, best in (
        ([0.91, 0.92, 1.0, 0, 0, 0.99, 0], 0.1, 0),  # the one with most kinds
        ([0.89, 0.92, 1.0, 0, 0, 0.99, 0], 0.1, 1),  # the highest is too far below
        ([0.89, 0.92, 1.0, 0, 0, 0.99, 0], 0.0, 2),
        ([0.2, 0.2, 0.9, 0, 0, 1.0, 0.95], 0.1, 5),  # above the best only
        ([-1, -1, -0.5, -1, -1, -1, -1], 0.9, 2),
    ):
        assert most_general(np.array(score_t, np.float32), kinds, near) == best


def test_columns_of_labels_without_kinds_are_left_to_the_vectors():
    evidence, label_td = layer()
    columns = KindColumns(evidence.image_nd, label_td, KINDS)
    assert columns.of(3) is None
    for label, values in slow_values(evidence.image_nd, label_td, KINDS).items():
        np.testing.assert_allclose(columns.of(label), values, atol=1e-4)
    assert KindColumns(evidence.image_nd, label_td, {}).value_nw.shape == (90, 0)


def test_a_label_is_shown_if_enough_images_have_it_or_a_kind_among_their_best():
    rng = np.random.default_rng(4)
    image_nd, label_td = small_layers.unit_rows(rng, 60, 5), small_layers.unit_rows(rng, 30, 5)
    cosine_nt = image_nd.astype(np.float64) @ label_td.T.astype(np.float64)
    kinds = {2: (7, 9), 11: (12,)}
    for among, images in ((1, 1), (3, 5), (2, 9), (40, 3)):
        count_t = [0] * 30
        for i in range(60):
            z_t = [(cosine_nt[i, t] - cosine_nt[:, t].mean()) / cosine_nt[:, t].std()
                   for t in range(30)]  # fmt: skip
            for t in sorted(range(30), key=lambda t: -z_t[t])[:among]:
                count_t[t] += 1
        expected = [count >= images for count in count_t]
        for above, below in kinds.items():
            expected[above] |= any(count_t[t] >= images for t in below)
        found = shown_by(image_nd, label_td, kinds, among=among, images=images)
        assert found.tolist() == expected


def test_labels_that_no_image_shows_come_after_all_others():
    evidence, label_td = layer()
    label_td[9] = -evidence.image_nd.mean(axis=0)  # the last thing that any image shows
    label_td[9] /= np.linalg.norm(label_td[9])
    params = resolve_params(CSP_PLUS, {"whole": False, "shown": 20, "among": 2})
    shown_t = shown_by(evidence.image_nd, label_td, KINDS, among=2, images=20)
    assert 0 < shown_t.sum() < 12
    score_ut = CSP_PLUS.score(asked(evidence), label_td, params).score_ut
    score_ut = score_ut[score_ut.max(axis=1) > -1e5]
    assert (score_ut[:, ~shown_t].max(axis=1) < score_ut[:, shown_t].min(axis=1)).all()
    nothing = resolve_params(CSP_PLUS, {"shown": 10_000})
    assert np.isfinite(CSP_PLUS.score(asked(layer()[0]), label_td, nothing).score_ut).all()
