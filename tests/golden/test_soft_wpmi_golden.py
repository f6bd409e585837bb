from __future__ import annotations

import numpy as np
import pytest

from csp_engine.methods import METHODS, label_units
from csp_engine.methods.clip_dissect import CLIP_DISSECT
from csp_engine.methods.scoring.log_mean import leave_one_out
from tests.reference import soft_wpmi_reference as reference
from tests.worlds import small_layers

SHAPES = [(8, 40, 8, 8, 20), (6, 12, 5, 30, 100), (5, 60, 6, 17, 33)]


def match(evidence, label_td, **params):
    scored = CLIP_DISSECT.score(evidence, label_td, {**CLIP_DISSECT.params, **params})
    return scored.score_ut + scored.offset_u[:, None]


def reference_match(evidence, label_td, n_images=100, **params):
    rows = [small_layers.rows_of(evidence, unit, n_images)[0] for unit in range(evidence.n_units)]
    return [reference.log_match(images, label_td, **params) if images else None for images in rows]


@pytest.mark.parametrize(("u", "n", "d", "t", "n_exemplars"), SHAPES)
@pytest.mark.parametrize(("scale", "first", "last"), [(10.0, 0.998, 0.97), (3.0, 0.9, 0.2)])
def test_log_match_agrees_with_the_loops(u, n, d, t, n_exemplars, scale, first, last):
    rng = np.random.default_rng(u)
    evidence = small_layers.awkward(rng, u, n, d, n_exemplars, 1)
    label_td = small_layers.unit_rows(rng, t, d) * np.float32(0.6)
    found = match(evidence, label_td, scale=scale, first_weight=first, last_weight=last)
    expected = reference_match(evidence, label_td, scale=scale, first=first, last=last)
    for unit, row in enumerate(expected):
        if row is None:
            np.testing.assert_array_equal(found[unit], 0)
        else:
            np.testing.assert_allclose(found[unit], row, atol=2e-5)


@pytest.mark.parametrize("weight", [1.0, 0.6])
@pytest.mark.parametrize("unit_block", [1, 3, None])
def test_layer_prior_gives_the_published_scores(weight, unit_block):
    rng = np.random.default_rng(1)
    evidence = small_layers.awkward(rng, 8, 50, 8, 25, 1)
    label_td = small_layers.unit_rows(rng, 12, 8)
    null = small_layers.noise(rng, evidence.image_nd, 10, 25)
    scores, _ = label_units(
        METHODS["clip_dissect"],
        evidence,
        null,
        label_td,
        {"prior": "layer", "prior_weight": weight},
        n_labels=12,
        unit_block=unit_block,
    )
    rows = reference_match(evidence, label_td)
    kept = [unit for unit, row in enumerate(rows) if row is not None]
    expected = reference.layer_scores([rows[unit] for unit in kept], weight)
    for unit, row in zip(kept, expected, strict=True):
        # Unit 3 has few images, so its g is far above the others' and all of the prior: its scores
        # are log 7 for every label, and the order is rounding.
        if unit == 3 and weight == 1:
            np.testing.assert_allclose(scores.score_uk[unit], np.log(7), atol=1e-3)
            continue
        assert scores.label_uk[unit].tolist() == sorted(range(12), key=lambda i: -row[i])
        np.testing.assert_allclose(scores.score_uk[unit], sorted(row)[::-1], atol=5e-5)
    assert scores.count_u[2] == 0


def test_null_prior_is_the_log_mean_over_draws():
    rng = np.random.default_rng(2)
    evidence = small_layers.awkward(rng, 6, 50, 8, 25, 1)
    label_td = small_layers.unit_rows(rng, 12, 8)
    null = small_layers.noise(rng, evidence.image_nd, 9, 25)
    scores, _ = label_units("clip_dissect", evidence, null, label_td, {}, n_labels=12)
    draws = reference_match(null, label_td)
    prior = [reference.log_mean_exp([row[t] for row in draws]) for t in range(12)]
    expected = np.subtract(reference_match(evidence, label_td)[0], prior)
    np.testing.assert_allclose(scores.score_uk[0], np.sort(expected)[::-1], atol=5e-5)
    np.testing.assert_array_equal(scores.label_uk[0], np.argsort(-expected))


@pytest.mark.parametrize(("u", "n", "d", "t", "n_exemplars"), [*SHAPES, (5, 30, 3, 900, 40)])
@pytest.mark.parametrize(("scale", "n_images"), [(2.0, 28), (60.0, 5)])
def test_plain_match_agrees_with_the_loops(u, n, d, t, n_exemplars, scale, n_images):
    """At a scale of 60 most probabilities are below the 1e-7 that is added to them."""
    rng = np.random.default_rng(u)
    evidence = small_layers.awkward(rng, u, n, d, n_exemplars, 1)
    label_td = small_layers.unit_rows(rng, t, d) * np.float32(0.6)
    found = match(evidence, label_td, form="wpmi", scale=scale, n_images=n_images)
    for unit in range(u):
        images = small_layers.rows_of(evidence, unit, n_images)[0]
        expected = reference.plain_match(images, label_td, scale) if images else 0
        np.testing.assert_allclose(found[unit], expected, rtol=1e-6, atol=1e-4)


def test_wpmi_with_the_published_settings_gives_the_published_scores_and_order():
    rng = np.random.default_rng(4)
    image_nd, label_td = small_layers.unit_rows(rng, 70, 8), small_layers.unit_rows(rng, 12, 8)
    evidence = small_layers.mined(rng.standard_normal((8, 70)), image_nd, 40)
    null = small_layers.noise(rng, image_nd, 10, 40)
    params = {"form": "wpmi", "n_images": 28, "scale": 2.0, "prior": "layer", "prior_weight": 0.6}
    scores, _ = label_units("clip_dissect", evidence, null, label_td, params, n_labels=12)
    rows = [
        reference.plain_match(small_layers.rows_of(evidence, unit, 28)[0], label_td)
        for unit in range(8)
    ]
    for unit, row in enumerate(reference.layer_scores(rows, 0.6)):
        assert scores.label_uk[unit].tolist() == sorted(range(12), key=lambda i: -row[i])
        np.testing.assert_allclose(scores.score_uk[unit], sorted(row)[::-1], atol=5e-5)


def test_the_form_is_recorded_only_where_it_is_not_what_it_always_was():
    """So that scores of bundles from before it was a choice keep their keys."""
    assert "form" not in CLIP_DISSECT.recorded(CLIP_DISSECT.params)
    assert CLIP_DISSECT.recorded({**CLIP_DISSECT.params, "form": "wpmi"})["form"] == "wpmi"


@pytest.mark.parametrize("spread", [0.1, 5.0, 200.0])
def test_leave_one_out_agrees_with_leaving_one_out(spread):
    """At a spread of 200 one row is nearly all of a column; subtracting it would leave 0."""
    g_rt = np.random.default_rng(0).standard_normal((7, 5)) * spread
    found = leave_one_out(g_rt)
    for r in range(7):
        others = np.delete(g_rt, r, axis=0)
        expected = [reference.log_mean_exp(others[:, t].tolist()) for t in range(5)]
        np.testing.assert_allclose(found[r], expected, rtol=1e-10)


def test_logits_are_multiplied_by_ten_and_not_divided():
    """Divided, as one published re-implementation does, the probabilities are nearly uniform."""
    image_nd = np.eye(4, dtype=np.float32)
    evidence = small_layers.by_hand(image_nd, [0], [[]])
    g_t = match(evidence, image_nd)[0]
    q = 0.998
    p = np.exp(10) / (np.exp(10) + 3)
    assert g_t[0] == pytest.approx(np.log(1 + q * (p - 1) + 1e-7), abs=1e-5)
    flattened = np.exp(0.1) / (np.exp(0.1) + 3)
    assert abs(g_t[0] - np.log(1 + q * (flattened - 1))) > 1
