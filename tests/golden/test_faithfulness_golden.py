"""Figures of labels against loops from their formulas, and against scikit-learn and SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from csp_engine.evaluation.faithfulness.simulation import (
    MOST_DRAWS,
    own_figures,
    predictions,
    said_of,
    simulate,
)
from csp_engine.evaluation.faithfulness.telling import telling
from csp_engine.evaluation.metrics.metric import Columns, Judged
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.stats.paired import compare, holm
from tests.reference import faithfulness_reference as slow

ALL = (*slow.OF_PREDICTIONS, *slow.OF_SAID)


def awkward(kind, n=37, seed=0):
    rng = np.random.default_rng(seed)
    value_n = rng.normal(size=n)
    if kind == "ties":
        value_n = np.round(value_n)
    elif kind == "sparse":
        value_n = np.maximum(value_n - 1.2, 0)
    elif kind == "negative":
        value_n = -np.abs(value_n) - 3
    elif kind == "large":
        value_n = 1e4 + value_n
    elif kind == "one":
        value_n = np.eye(n)[5] * 40
    return value_n.astype(np.float32)


KINDS = ("plain", "ties", "sparse", "negative", "large", "one")


@pytest.mark.parametrize(("kind", "seed"), itertools.product(KINDS, (0, 1)))
def test_every_metric_is_its_formula(kind, seed):
    a_n = awkward(kind, seed=seed)
    predicted_tn = np.stack([awkward("plain", seed=seed + 7), awkward("ties", seed=seed + 8)])
    said_tn = said_of(predicted_tn)
    for t, predicted_n in enumerate(predicted_tn):
        values = predicted_n.tolist()
        threshold = slow.otsu_threshold(values)
        assert said_tn[t].tolist() == [v > threshold for v in values]
    metrics = tuple(METRICS[name] for name in ALL)
    found = own_figures(np.stack([a_n, a_n]), predicted_tn, np.array([1, 0]), metrics)
    for u, t in ((0, 1), (1, 0)):
        for name, formula in slow.OF_PREDICTIONS.items():
            want = formula(a_n.tolist(), predicted_tn[t].tolist())
            assert found[name][u] == pytest.approx(want, abs=2e-5), name
        for name, formula in slow.OF_SAID.items():
            want = formula(a_n.tolist(), said_tn[t].astype(float).tolist())
            assert found[name][u] == pytest.approx(want, rel=2e-5, abs=2e-5), name


def test_other_libraries_agree():
    a_n, predicted_n = awkward("ties", 90), awkward("plain", 90, 3)
    said_n = said_of(predicted_n[None])[0]
    active_n = np.array(slow.active(a_n.tolist()))
    names = ("spearman", "auroc", "auprc", "f1", "iou")
    found = own_figures(a_n[None], predicted_n[None], np.array([0]), tuple(map(METRICS.get, names)))
    want = {
        "spearman": spearmanr(a_n, predicted_n).statistic,
        "auroc": roc_auc_score(said_n, a_n),
        "auprc": average_precision_score(said_n, a_n),
        "f1": f1_score(said_n, active_n),
        "iou": jaccard_score(said_n, active_n),
    }
    for name, value in want.items():
        assert found[name][0] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("name", [n for n in ALL if n not in slow.OF_PREDICTIONS])
def test_a_constant_unit_gets_what_the_formula_gives(name):
    constant_n = np.full(12, 3, np.float32)
    column_n = np.arange(12) < 4
    judged = Judged(constant_n[None], Columns(column_n[:, None].astype(float)))
    want = slow.OF_SAID[name](constant_n.tolist(), column_n.astype(float).tolist())
    assert METRICS[name].figures(judged)[0, 0] == pytest.approx(want, nan_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_points_are_the_metrics_and_bounds_those_of_images_drawn_anew(grouped):
    n, n_labels = 60, 3
    predicted_tn = np.stack([awkward("plain", n, t) for t in range(n_labels)])
    act_un = np.stack([
        predicted_tn[u % n_labels] + awkward(kind, n, 10 + u)
        for u, kind in enumerate(("plain", "ties", "sparse"))
    ])  # fmt: skip
    label_u = np.array([0, 1, 0])
    group_n = np.arange(n) // 3 if grouped else None
    found = simulate(act_un, predicted_tn, label_u, np.ones(3, bool), group_n=group_n, seed=4)
    said_tn = said_of(predicted_tn)
    # The same draws, image by image.
    n_groups = n // 3 if grouped else n
    count_rg = np.random.default_rng(4).multinomial(
        n_groups, np.full(n_groups, 1 / n_groups), size=MOST_DRAWS
    )
    member_n = np.arange(n) if group_n is None else group_n
    for u, t in enumerate(label_u):
        a, p, s = act_un[u].tolist(), predicted_tn[t].tolist(), said_tn[t].astype(float).tolist()
        assert found.pearson_u3[u, 0] == pytest.approx(slow.pearson(a, p), abs=1e-5)
        assert found.auprc_u3[u, 0] == pytest.approx(slow.auprc(a, s), abs=1e-5)
        drawn = {"pearson": [], "auprc": []}
        for count_g in count_rg:
            rows = np.repeat(np.arange(n), count_g[member_n])
            a_r, p_r, s_r = (np.array(x)[rows] for x in (a, p, s))
            drawn["pearson"].append(np.corrcoef(a_r, p_r)[0, 1])
            drawn["auprc"].append(average_precision_score(s_r, a_r))
        for name, figure_u3 in (("pearson", found.pearson_u3), ("auprc", found.auprc_u3)):
            want = np.percentile(drawn[name], [2.5, 97.5])
            assert figure_u3[u, 1:] == pytest.approx(want, abs=1e-4), name
    assert found.n_said_u.tolist() == said_tn.sum(axis=1)[label_u].tolist()


def test_of_few_groups_there_are_figures_and_no_intervals():
    """However many images they are of: 9 groups; or 30, of which a label is said of 9."""
    said_n = np.arange(30) < 9
    predicted_tn = np.stack([said_n + np.linspace(0, 0.1, 30), np.arange(30) % 2.0])
    act_un = np.random.default_rng(3).normal(size=(2, 30)) + said_n
    labels, has = np.array([0, 1]), np.ones(2, bool)
    given = act_un.astype(np.float32), predicted_tn.astype(np.float32)
    alone = simulate(*given, labels, has)
    copies = simulate(*(np.tile(each, 3) for each in given), labels, has,
                      group_n=np.tile(np.arange(30), 3))  # fmt: skip
    for found in (alone, copies):
        assert np.isfinite(found.pearson_u3).all()
        assert np.isfinite(found.auprc_u3[:, 0]).all()
        assert np.isfinite(found.auprc_u3[:, 1:]).tolist() == [[False] * 2, [True] * 2]
    few = simulate(*given, labels, has, group_n=np.arange(30) % 9)
    np.testing.assert_array_equal(few.pearson_u3[:, 0], alone.pearson_u3[:, 0])
    assert np.isnan(few.pearson_u3[:, 1:]).all()
    assert np.isnan(few.auprc_u3[:, 1:]).all()


def test_units_without_a_label_constant_units_and_labels_of_all_images_have_no_figure():
    predicted_tn = np.stack([awkward("plain"), np.full(37, 0.5, np.float32)])
    act_un = np.stack([awkward("plain", seed=2), np.ones(37, np.float32), awkward("sparse")])
    found = simulate(act_un, predicted_tn, np.array([0, 0, 1]), np.array([False, True, True]))
    assert np.isnan(found.pearson_u3).all()
    assert np.isnan(found.auprc_u3).all()
    assert found.n_said_u.tolist() == [0, int(said_of(predicted_tn)[0].sum()), 0]


def test_a_joined_label_predicts_the_smallest_of_what_its_parts_do():
    rng = np.random.default_rng(0)
    text_td, image_nd = rng.normal(size=(4, 6)), rng.normal(size=(20, 6))
    found = predictions(text_td, image_nd, {3: (0, 2)})
    parts = [text_td[t] @ image_nd.T for t in (0, 2)]
    z0, z2 = ((p - p.mean()) / p.std() for p in parts)
    np.testing.assert_allclose(found[3], np.minimum(z0, z2), atol=1e-5)
    np.testing.assert_allclose(found[:3], (text_td @ image_nd.T)[:3], atol=1e-5)


def test_paired_means_are_those_of_scipys_exact_test():
    rng = np.random.default_rng(1)
    one_u, two_u = rng.normal(0.25, 0.5, 12), rng.normal(0, 0.5, 12)
    two_u[3] = np.nan
    (found,) = compare({"one": one_u, "two": two_u})
    is_both_u = np.isfinite(two_u)
    exact = permutation_test(
        (one_u[is_both_u], two_u[is_both_u]),
        lambda x, y: (x - y).mean(),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert (found.n, found.difference) == (11, pytest.approx(np.nanmean(one_u - two_u)))
    assert found.p == pytest.approx(exact.pvalue, abs=0.02)
    assert found.low < found.difference < found.high


def test_holm_steps_down():
    p = [0.01, 0.04, 0.03, 0.2, 0.03]
    assert holm(p) == pytest.approx(slow.holm(p))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([float("nan"), 0.02]) == pytest.approx([float("nan"), 0.02], nan_ok=True)


def test_telling_is_the_area_under_the_curve_and_no_figure_comes_last():
    rng = np.random.default_rng(2)
    right_a = rng.random(80) < 0.4
    figure_a = np.round(rng.normal(size=80) + right_a, 1)
    found = telling(figure_a, right_a)
    assert found.auroc == pytest.approx(roc_auc_score(right_a, figure_a))
    assert found.low < found.auroc < found.high
    lost_a = np.where(right_a, figure_a, np.nan)
    assert telling(lost_a, right_a).auroc == 1
    # Differences that float32 does not hold still count.
    assert telling(1 + right_a * 1e-12, right_a).auroc == 1
    assert np.isnan(telling(figure_a, np.ones(80, bool)).auroc)
