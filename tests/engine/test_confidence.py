"""How likely a label is right: against scikit-learn, by hand, and on labels of known odds."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.evaluation import confidence
from csp_engine.stats.intervals import share_of
from csp_engine.views import confidence as shown
from csp_engine.views.accuracy import kept_judged_labels
from csp_engine.views.memo import Memo
from csp_engine.views.places import places, scoring_methods


def labels(n: int, seed: int = 0):
    """Features, and labels that are right with the odds that two of the features say."""
    rng = np.random.default_rng(seed)
    x_uf = np.column_stack(
        [rng.normal(size=n), rng.gamma(2, 1, n), rng.random(n) < 0.3, np.ones(n)]
    )
    p_u = 1 / (1 + np.exp(-(1.5 * x_uf[:, 0] - x_uf[:, 1] + 1)))
    return x_uf, rng.random(n) < p_u, p_u


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
def test_the_same_as_scikit_learn_on_standardised_features(penalty):
    x_uf, right_u, _ = labels(400)
    spread_f = x_uf.std(axis=0)
    z_uf = (x_uf - x_uf.mean(axis=0)) / np.where(spread_f > 0, spread_f, 1)
    oracle = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(z_uf, right_u)
    found = confidence.calibrate(x_uf, right_u, penalty)
    np.testing.assert_allclose(found.weight_f, oracle.coef_[0], atol=1e-5)
    np.testing.assert_allclose(found.probability(x_uf), oracle.predict_proba(z_uf)[:, 1], atol=1e-6)


def test_probabilities_come_true_on_labels_that_taught_nothing():
    learnt = confidence.calibrate(*labels(3000)[:2])
    x_uf, right_u, p_u = labels(20_000, seed=1)
    said_u = learnt.probability(x_uf)
    assert np.abs(said_u - p_u).mean() < 0.02
    assert confidence.calibration_error(confidence.reliability(said_u, right_u)) < 0.015


def test_features_that_say_nothing_give_the_base_rate_to_all():
    x_uf, right_u, _ = labels(500)
    found = confidence.calibrate(np.full_like(x_uf, 3.0), right_u)
    np.testing.assert_allclose(
        found.probability(np.full_like(x_uf, 3.0)), right_u.mean(), atol=1e-6
    )


def test_features_that_tell_perfectly_end_too():
    right_u = np.arange(40) % 2 == 0
    found = confidence.calibrate(right_u[:, None] * 1e6, right_u)
    p_u = found.probability(right_u[:, None] * 1e6)
    assert np.isfinite(p_u).all()
    assert p_u[right_u].min() > 0.9
    assert p_u[~right_u].max() < 0.1


@pytest.mark.parametrize("n_right", [0, 9, 91, 100])
def test_too_few_of_a_kind_teach_nothing(n_right):
    right_u = np.arange(100) < n_right
    with pytest.raises(InputError, match=f"{n_right} of 100 labels are right"):
        confidence.calibrate(np.zeros((100, 1)), right_u)
    assert np.isnan(confidence.left_out(np.zeros((100, 1)), right_u, ["a"] * 50 + ["b"] * 50)).all()


def test_a_group_is_judged_by_what_the_others_teach():
    x_uf, right_u, _ = labels(300)
    group_u = np.array(["a", "b", "c"] * 100)
    found_u = confidence.left_out(x_uf, right_u, list(group_u))
    for group in "abc":
        own_u = group_u == group
        learnt = confidence.calibrate(x_uf[~own_u], right_u[~own_u])
        np.testing.assert_array_equal(found_u[own_u], learnt.probability(x_uf[own_u]))
    turned_u = right_u ^ (group_u == "a")
    unmoved_u = confidence.left_out(x_uf, turned_u, list(group_u))
    np.testing.assert_array_equal(unmoved_u[group_u == "a"], found_u[group_u == "a"])


def test_the_error_by_hand():
    p_u = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 0.95])
    right_u = np.array([False, True, True, True, True, False])
    bins = confidence.reliability(p_u, right_u)
    assert [each.right for each in bins] == [share_of(1, 2), share_of(3, 4)]
    assert confidence.calibration_error(bins) == pytest.approx((2 * 0.45 + 4 * 0.2) / 6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_error_is_what_a_loop_over_bins_finds(rows):
    p_u, right_u = np.array([p for p, _ in rows]), np.array([r for _, r in rows])
    total = 0.0
    for low in range(10):
        own = [(p, r) for p, r in rows if low <= p * 10 < low + 1 or (low == 9 and p * 10 >= 10)]
        if own:
            mean, share = (sum(column) / len(own) for column in zip(*own, strict=True))
            total += len(own) / len(rows) * abs(mean - share)
    found = confidence.calibration_error(confidence.reliability(p_u, right_u))
    assert found == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.999, "likely right (49 in 50)"),
        (0.96, "likely right (19 in 20)"),
        (0.9, "likely right (9 in 10)"),
        (0.7, "plausible (7 in 10)"),
        (0.3, "probably wrong (3 in 10)"),
        (0.49, "as likely wrong as right (5 in 10)"),
        (0.001, "probably wrong (less than 1 in 20)"),
        (None, "not calibrated for these images"),
    ],
)
def test_probabilities_in_words(p, words):
    assert shown.in_words(p) == words


@pytest.mark.slow
def test_the_demo_keeps_its_word_on_layers_left_out(shipped_bundle):
    demo, memo = Bundle.open(shipped_bundle), Memo()
    for method in scoring_methods(demo):
        found = shown.learnt(demo, memo, method)
        assert found.groups == "layers"
        assert found.error <= 0.05, method
        for place in places(demo):
            p_u = shown.probabilities(demo, memo, *place, method)
            count_u = np.asarray(demo.scores(*place, method).count_u)
            assert (np.isnan(p_u) == (count_u == 0)).all()


def test_a_label_that_is_not_relied_on_is_never_called_likely(shipped_bundle):
    """Whatever else speaks for it: those that the regression finds plausible are as often wrong."""
    demo, memo = Bundle.open(shipped_bundle), Memo()
    judged = kept_judged_labels(demo, memo)["csp_plus"]
    n, n_right, n_changed = 0, 0, 0
    found = shown.learnt(demo, memo, "csp_plus")
    places_of = judged.groupby(["model", "layer"], sort=False)
    x_of = {at: shown.features(demo, memo, *at, "csp_plus")[own["unit"]] for at, own in places_of}
    for at, own in places_of:
        others = {name: each for name, each in places_of if name != at}
        teach = np.concatenate([x_of[name] for name in others])
        right = np.concatenate([each["best"].to_numpy(bool) for each in others.values()])
        p_u = confidence.calibrate(teach, right).probability(x_of[at])
        reliable_u = np.asarray(demo.scores(*at, "csp_plus").reliable_u)[own["unit"]]
        is_own_u = (p_u >= 0.5) & ~reliable_u
        n += int(is_own_u.sum())
        n_right += int(own["best"].to_numpy(bool)[is_own_u].sum())
        free_u = found.calibration.probability(x_of[at])
        told_u = shown.probabilities(demo, memo, *at, "csp_plus")[own["unit"]]
        assert (told_u[reliable_u] == free_u[reliable_u]).all()
        assert told_u[~reliable_u].max() < shown.LIKELY
        n_changed += int((told_u < free_u).sum())
    assert n_changed > 10
    assert found.most_refused == pytest.approx((n_right + 1) / (n + 2))


@pytest.mark.parametrize(
    ("p", "is_reliable", "part"),
    [
        (0.08, True, "right 1 in 10 times"),
        (0.01, True, "right less than 1 in 20 times"),
        (0.6, True, ""),
        (0.08, False, ""),  # the heading already says that it has no reliable label
        (None, True, ""),
    ],
)
def test_a_label_that_beats_chance_and_is_probably_wrong_is_doubted(p, is_reliable, part):
    told = shown.doubt(p, is_reliable)
    assert part in told
    assert bool(part) == bool(told)


@pytest.mark.parametrize(
    ("ends", "told"),
    [((0.94, 0.96), "94 to 96 %"), ((0.031, 0.12), "3.1 to 12 %"), ((float("nan"), 0.5), "–")],
)
def test_an_interval_says_its_unit_once(ends, told):
    assert numbers.share_range(*ends) == told


def taught(monkeypatch, layers, seed=0):
    """What the known neurons of made-up layers teach: layer id to features and what is right."""
    rows = [
        {"model": "m", "layer": layer, "unit": unit, "best": bool(right)}
        for layer, (_, right_u) in layers.items()
        for unit, right in enumerate(right_u)
    ]
    bundle = Mock(spec=Bundle, digest="")
    bundle.scores.side_effect = lambda _, layer, __: SimpleNamespace(
        reliable_u=np.ones(len(layers[layer][1]), bool)
    )
    monkeypatch.setattr(shown, "places", lambda _: [("m", layer) for layer in layers])
    monkeypatch.setattr(shown, "features", lambda _, __, ___, layer, ____: layers[layer][0])
    monkeypatch.setattr(shown, "kept_judged_labels", lambda *_: {"own": pd.DataFrame(rows)})
    return shown.learnt(bundle, Memo(), "own")


def test_what_was_tried_on_a_handful_of_neurons_gives_no_probability(monkeypatch):
    """Three neurons may bear out any probability; without them nobody left out was judged."""
    x_uf, right_u, _ = labels(400)
    sure_u = np.flatnonzero(
        right_u & (confidence.calibrate(x_uf, right_u).probability(x_uf) > 0.95)
    )[:3]
    large, handful = (x_uf, right_u), (x_uf[sure_u], right_u[sure_u])
    found = taught(monkeypatch, {"one@mean": large, "two@mean": handful})
    assert found.error <= shown.LARGEST_ERROR  # by chance it looks well
    assert (found.n_known, found.n_judged) == (403, 3)
    assert not found.holds
    both = labels(4000, seed=1)[:2]
    held = taught(monkeypatch, {"one@mean": labels(4000)[:2], "two@mean": both})
    assert held.n_judged == 8000
    assert held.holds


def test_a_unit_teaches_nothing_about_itself_under_another_pooling(monkeypatch):
    """Features that mean nothing but know the unit would seem to tell what is right."""
    rng = np.random.default_rng(0)
    n = 60
    right_u = rng.random(n) < 0.5
    x_uf = np.eye(n)  # one for each unit, the same under both poolings
    twins = {"one@mean": (x_uf, right_u), "one@max": (x_uf, right_u)}
    found = taught(monkeypatch, twins)
    assert found.groups == "fifths of the layer"
    said = [each.mean for each in found.bins]
    assert max(said) - min(said) < 0.4  # that of the fifths, which differ in what is right
    apart = taught(monkeypatch, {"one@mean": (x_uf, right_u), "two@mean": (x_uf, right_u)})
    said = [each.mean for each in apart.bins]
    assert max(said) - min(said) > 0.6
