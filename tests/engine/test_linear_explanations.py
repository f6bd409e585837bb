"""Linear Explanations against slow references, scikit-learn, SciPy, and units that mean nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import kstest, pearsonr

from csp_engine.bundle import verify
from csp_engine.evidence.evidence import ConceptColumns
from csp_engine.methods import label_layer, resolve_params
from csp_engine.methods.linear_explanations import (
    LINEAR_EXPLANATIONS,
    Sum,
    p_of_correlation,
    prepare,
)
from csp_engine.methods.sums.elastic_net import ElasticNet
from csp_engine.methods.sums.moments import Rows, standardised
from csp_engine.pipeline import build
from csp_engine.pipeline.recipe import changed
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.candidates import stored
from tests.reference import linear_explanations_reference as reference
from tests.worlds import small_layers, toys

DEFAULTS = resolve_params(LINEAR_EXPLANATIONS, {})


def world(seed, n=400, d=12, t=8, u=6, noise=0.3):
    """Images and labels on a sphere; units are sums of some labels' similarities."""
    rng = np.random.default_rng(seed)
    image_nd = small_layers.unit_rows(rng, n, d)
    label_td = small_layers.unit_rows(rng, t, d)
    weight_ut = rng.standard_normal((u, t)) * (rng.random((u, t)) < 0.4)
    weight_ut[np.arange(u), np.arange(u) % t] = 1
    activation_un = weight_ut @ (label_td @ image_nd.T) + noise * rng.standard_normal((u, n))
    return image_nd, label_td, activation_un.astype(np.float32)


def evidence_of(image_nd, activation_un, columns=None):
    evidence = small_layers.mined(activation_un, image_nd)
    if columns is not None:
        evidence.given.sources["columns"] = lambda _: columns
    return evidence


def told(image_nd, label_td, activation_un, columns=None, unit_block=None, **params):
    evidence = evidence_of(image_nd, activation_un, columns)
    null = small_layers.noise(np.random.default_rng(0), image_nd, 5)
    return label_layer(LINEAR_EXPLANATIONS, evidence, null, label_td, params, unit_block=unit_block)


def parts_of_images(image_nd, label_td, activation_un):
    """Which images fit, choose and test."""
    evidence = evidence_of(image_nd, activation_un)
    asked = evidence.asked_by("a test", LINEAR_EXPLANATIONS.needs)
    layer = prepare(asked, label_td, DEFAULTS)
    return layer.fit.image_s, layer.choose.image_s, layer.test.image_s


def said(text):
    """Weights and names of a sum in words."""
    found = re.findall(r"(−|\+|^)\s*(\d+\.\d\d) (word \d+|c\d)", text)
    return [(-float(w) if sign == "−" else float(w), name) for sign, w, name in found]


@pytest.mark.parametrize(("t", "penalty", "share"), [(8, 0.05, 0.99), (90, 0.05, 0.99),
                                                     (90, 0.01, 0.5), (8, 0.9, 0.99)])  # fmt: skip
def test_the_elastic_net_is_that_of_scikit_learn_on_the_columns(t, penalty, share):
    """Also with many more labels than dimensions, and with two labels that are nearly the same."""
    image_nd, label_td, activation_un = world(1, t=t)
    label_td[1] = label_td[0] + np.float32(1e-3)
    x_nt = (image_nd @ label_td.T).astype(np.float64)
    rows = Rows(image_nd, np.arange(len(image_nd)))
    moments = rows.with_activations(activation_un)
    concept_td, kept = standardised(label_td.astype(np.float64), rows.row_dd)
    assert len(kept) == t
    net = ElasticNet(concept_td, rows.row_dd, penalty, share)
    for u, y_n in enumerate(activation_un.astype(np.float64)):
        x, y, expected = reference.net(x_nt, y_n, penalty, share)
        found = net.weights(moments.cross_ud[u] / np.sqrt(moments.variance_u[u]))
        ours, theirs = (reference.objective(x, y, w, penalty, share) for w in (found, expected))
        assert ours <= theirs + 1e-5
        np.testing.assert_allclose(x @ found, x @ expected, atol=0.02)
        if t == 8 and penalty < 0.5:
            np.testing.assert_allclose(found[2:], expected[2:], atol=1e-3)


@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize("params", [{}, {"tolerance": 0.0, "width": 3}, {"length": 2}])
def test_every_step_agrees_with_the_loops(seed, params):
    image_nd, label_td, activation_un = world(seed)
    fit, choose, test = parts_of_images(image_nd, label_td, activation_un)
    assert [len(part) for part in (fit, choose, test)] == [280, 40, 80]
    assert sorted([*fit, *choose, *test]) == list(range(400))
    x_nt = (image_nd @ label_td.T).astype(np.float64)
    done = told(image_nd, label_td, activation_un, **params)
    for u, y_n in enumerate(activation_un.astype(np.float64)):
        steps = reference.explained(x_nt, y_n, fit, choose, **params)
        count = int(done.scores.count_u[u])
        assert count == len(steps)
        for k, (own, weights, r) in enumerate(reversed(steps)):
            assert done.scores.score_uk[u, k] == pytest.approx(r, abs=1e-5)
            found = said(done.texts[done.scores.label_uk[u, k]])
            expected = sorted(zip(weights, own, strict=True), key=lambda one: -abs(one[0]))
            assert [name for _, name in found] == [f"word {q}" for _, q in expected]
            np.testing.assert_allclose([w for w, _ in found], [w for w, _ in expected], atol=6e-3)
        if steps:
            own, weights, _ = steps[-1]
            sum_n = x_nt[:, own] / x_nt[fit][:, own].std(axis=0) @ weights
            r = pearsonr(sum_n[test], y_n[test], alternative="greater")
            assert done.arrays["held_out"][u] == pytest.approx(r.statistic, abs=1e-5)
            assert done.arrays["p"][u] == pytest.approx(r.pvalue, rel=1e-3, abs=1e-300)
            assert done.arrays["n_concepts"][u] == len(own)


def test_what_is_named_predicts_the_unit_on_images_that_had_no_part_in_it():
    """The published code returns the concepts tried last, with the weights of those chosen."""
    image_nd, label_td, activation_un = world(5, n=3000, noise=0.05)
    fit, _, test = parts_of_images(image_nd, label_td, activation_un)
    x_nt = image_nd @ label_td.T
    done = told(image_nd, label_td, activation_un)
    for u, y_n in enumerate(activation_un):
        found = said(done.texts[done.scores.label_uk[u, 0]])
        sum_n = sum(w * x_nt[:, t] / x_nt[fit, t].std() for w, t in
                    ((w, int(name.split()[1])) for w, name in found))  # fmt: skip
        assert np.corrcoef(sum_n[test], y_n[test])[0, 1] > 0.9
        assert done.arrays["held_out"][u] > 0.9
    assert done.scores.reliable_u.all()


def test_p_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for n in (3, 4, 30, 1000):
        x_n = rng.standard_normal(n)
        y_n = 0.3 * x_n + rng.standard_normal(n)
        expected = pearsonr(x_n, y_n, alternative="greater")
        assert p_of_correlation(expected.statistic, n) == pytest.approx(expected.pvalue, rel=1e-6)
    assert p_of_correlation(0.5, 2) == p_of_correlation(0.0, 50) == 1


def test_p_is_uniform_on_noise():
    rng = np.random.default_rng(6)
    image_nd, label_td, _ = world(6, n=500, t=60)
    done = told(image_nd, label_td, rng.standard_normal((300, 500)).astype(np.float32))
    has_u = done.scores.count_u > 0
    assert has_u.sum() > 150
    assert kstest(done.arrays["p"][has_u], "uniform").pvalue > 0.01
    assert not done.scores.reliable_u.any()
    # On the images that chose it, the same sum looks like something.
    assert np.median(done.scores.score_uk[has_u, 0]) > 0.15
    assert abs(np.median(done.arrays["held_out"][has_u])) < 0.05


def test_a_copy_of_an_image_tests_no_sum_that_it_fitted():
    rng = np.random.default_rng(3)
    image_nd, label_td, _ = world(3, n=150)
    activation_un = rng.standard_normal((40, 150)).astype(np.float32)
    once = told(image_nd, label_td, activation_un)
    image_n = np.repeat(np.arange(150), 3)
    evidence = evidence_of(image_nd[image_n], activation_un[:, image_n])
    evidence.given.sources["copies"] = lambda _: 3 * image_n
    null = small_layers.noise(np.random.default_rng(0), image_nd[image_n], 5)
    done = label_layer(LINEAR_EXPLANATIONS, evidence, null, label_td, {})
    assert done.texts == once.texts
    np.testing.assert_allclose(done.arrays["p"], once.arrays["p"], rtol=1e-9)
    assert not done.scores.reliable_u.any()
    unknown = told(image_nd[image_n], label_td, activation_un[:, image_n])
    assert (unknown.arrays["p"] < 0.05).mean() > 0.1  # so it would be


def test_results_do_not_depend_on_the_block():
    image_nd, label_td, activation_un = world(7, u=11)
    whole = told(image_nd, label_td, activation_un)
    parts = told(image_nd, label_td, activation_un, unit_block=3)
    assert whole.texts == parts.texts
    np.testing.assert_array_equal(whole.scores.label_uk, parts.scores.label_uk)
    np.testing.assert_allclose(whole.scores.score_uk, parts.scores.score_uk, atol=1e-6)
    np.testing.assert_array_equal(whole.scores.reliable_u, parts.scores.reliable_u)


def test_columns_are_used_where_asked_and_there():
    """Unknown values count as the mean; columns of one value, or none, are never named."""
    rng = np.random.default_rng(8)
    image_nd, label_td, _ = world(8, n=600)
    value_nc = (rng.random((600, 6)) < 0.3).astype(np.float32)
    activation_un = (2 * value_nc[:, :3] - value_nc[:, [5, 5, 5]]).T
    activation_un = (activation_un + 0.3 * rng.standard_normal((3, 600))).astype(np.float32)
    value_nc[:, 3], value_nc[:, 4] = 1, np.nan
    value_nc[rng.random(600) < 0.1, 0] = np.nan
    columns = ConceptColumns(tuple(f"c{c}" for c in range(6)), value_nc)
    done = told(image_nd, label_td, activation_un, columns, atoms="columns")
    for u in range(3):
        (first, name), (second, other) = said(done.texts[done.scores.label_uk[u, 0]])
        assert (name, other) == (f"c{u}", "c5")
        assert first > 0.5 > 0 > second
    assert done.arrays["from_columns"].all()
    for params, held in (({}, columns), ({"atoms": "columns"}, None)):
        labels = told(image_nd, label_td, activation_un, held, **params)
        assert not labels.arrays["from_columns"].any()
        assert not [text for text in labels.texts if "c0" in text]


def test_units_that_nothing_goes_along_with_have_no_label():
    image_nd, label_td, activation_un = world(9)
    activation_un[1] = 0
    fit, choose, _ = parts_of_images(image_nd, label_td, activation_un)
    activation_un[2, np.concatenate([fit, choose])] = 3
    activation_un[3, choose] = 3
    done = told(image_nd, label_td, activation_un)
    assert done.scores.count_u[[1, 2, 3]].tolist() == [0, 0, 0]
    assert not done.scores.reliable_u[[1, 2, 3]].any()
    for array in (done.scores.score_uk, done.scores.best_percentile_u, *done.arrays.values()):
        assert np.isfinite(np.asarray(array, float)).all()
    few = told(image_nd[:4], label_td, activation_un[:, :4] + np.arange(4, dtype=np.float32))
    assert np.isfinite(few.scores.score_uk).all()


def test_joined_labels_are_no_concepts():
    image_nd, label_td, activation_un = world(10, t=3)
    evidence = evidence_of(image_nd, activation_un)
    evidence.given.sources["texts"] = lambda _: ["ruler", "hair", "ruler and hair"]
    layer = prepare(evidence.asked_by("a test", LINEAR_EXPLANATIONS.needs), label_td, DEFAULTS)
    assert layer.names == ("ruler", "hair")


def test_a_sum_in_words():
    names = ("ruler", "hair", "pen")
    assert Sum((1, 0), np.array([-0.3, 0.8]), 0.5).text(names) == "0.80 ruler − 0.30 hair"
    assert Sum((2, 0), np.array([-1.25, 0.8]), 0.5).text(names) == "−1.25 pen + 0.80 ruler"


@pytest.mark.slow
def test_a_bundle_holds_sums_and_says_how_they_were_tested(tmp_path):
    recipe = changed(toys.SMALL, {"methods": "csp,linear_explanations"})
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe))
    assert verify(bundle) == []
    n_labelled = 0
    for layer in bundle.layers("small"):
        scores = bundle.scores("small", layer, "linear_explanations")
        for unit in np.flatnonzero(scores.count_u).tolist():
            n_labelled += 1
            neuron = NeuronRef("small", layer, unit)
            verdict = str(stored(bundle, neuron, "linear_explanations").verdict)
            assert "its test on images that neither fitted nor chose it" in verdict
    assert n_labelled
