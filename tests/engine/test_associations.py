"""Suspects by association: planted ones found, chance not; groups whole; company told apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats

from csp_engine.bundle import Bundle, copy_slim, kinds, verify
from csp_engine.errors import InputError
from csp_engine.evaluation.associations import confounding
from csp_engine.evaluation.associations.asking import columns_asked, groups_of
from csp_engine.evaluation.associations.measuring import (
    Asked,
    Rule,
    associate,
    counts_of,
    one,
    within_strata,
)
from csp_engine.evaluation.ground_truth import bootstrap
from csp_engine.pipeline import build
from csp_engine.probe.isic2017 import ARTEFACTS
from csp_engine.probe.listing import read_probe_set
from csp_engine.reading.tables import singular_key
from csp_engine.views.audit import associations
from csp_engine.views.audit.gate import judge, read_condition
from csp_engine.views.case.audit import melanoma
from csp_engine.views.memo import Memo
from csp_engine.words.concepts import find_concept_set
from tests.engine.test_cli import run
from tests.worlds import toys
from tests.worlds.damage import edit, place, redo

FEW = Rule(n_permutations=99, n_resamples=200)


def asked_of(value_nc, group_n=None, stratum_nc=None, is_kin_cc=None) -> Asked:
    value_nc = np.asarray(value_nc, np.float32)
    n_columns = value_nc.shape[1]
    return Asked(
        value_nc,
        np.eye(n_columns, dtype=bool) if is_kin_cc is None else is_kin_cc,
        np.zeros(value_nc.shape, np.int64) if stratum_nc is None else stratum_nc,
        group_n,
    )


@pytest.fixture
def planted():
    """40 units, 5 columns: three units for the first column, two for the second."""
    rng = np.random.default_rng(0)
    value_nc = (rng.random((400, 5)) < 0.25).astype(np.float32)
    act_un = rng.normal(size=(40, 400)).astype(np.float32)
    act_un[:3] += 3 * value_nc[:, 0]
    act_un[3:5] += 3 * value_nc[:, 1]
    act_un[5] -= 3 * value_nc[:, 0]
    return act_un, value_nc


def test_planted_units_are_found_and_no_others(planted):
    act_un, value_nc = planted
    found = associate(act_un, asked_of(value_nc), FEW)
    suspects = {
        (int(u), int(c))
        for u, c, is_one in zip(
            found.kept.unit_k, found.kept.column_k, found.kept.is_suspect_k, strict=True
        )
        if is_one
    }
    assert suspects == {(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)}
    assert found.n_tests == 200
    # A unit that is silenced goes with the column, and is no suspect.
    assert found.n_associated_c.tolist()[:2] == [4, 2]
    assert (found.least_c > 0.8).all()
    assert (found.least_c < 0.95).all()


def test_figures_do_not_depend_on_the_scale_of_a_unit(planted):
    act_un, value_nc = planted
    first = associate(act_un, asked_of(value_nc), FEW).kept
    second = associate(np.float32(1000) * act_un - 7, asked_of(value_nc), FEW).kept
    np.testing.assert_allclose(first.auroc_k3, second.auroc_k3)
    np.testing.assert_allclose(first.difference_k, second.difference_k, rtol=1e-3)
    np.testing.assert_array_equal(first.p_family_k, second.p_family_k)


def test_labels_that_mean_nothing_give_no_suspects(planted):
    act_un, value_nc = planted
    order = np.random.default_rng(1).permutation(len(value_nc))
    found = associate(act_un, asked_of(value_nc[order]), FEW)
    assert not found.kept.is_suspect_k.any()
    assert len(found.kept.unit_k) == 5  # the best of each column


def test_intervals_are_those_of_the_bootstrap_or_wider(planted):
    act_un, value_nc = planted
    group_n = np.arange(400) // 2
    asked = asked_of(value_nc, group_n)
    kept = associate(act_un, asked, FEW).kept
    for k in range(len(kept.unit_k)):
        label_n = value_nc[:, kept.column_k[k]] == 1
        values = act_un[[kept.unit_k[k]]]
        (low,), (high,) = bootstrap(values, label_n[None], group_n=group_n, n_resamples=200)[1]
        assert kept.auroc_k3[k, 1] <= low + 1e-6
        assert kept.auroc_k3[k, 2] >= high - 1e-6
        again = one(act_un[kept.unit_k[k]], asked, int(kept.column_k[k]), FEW)
        assert again["auroc"] == pytest.approx(kept.auroc_k3[k, 0])
        assert again["auroc_low"] == pytest.approx(kept.auroc_k3[k, 1])
        assert again["p"] == pytest.approx(kept.p_k[k])
        raw = values[0].astype(np.float64)
        slow = (raw[label_n].mean() - raw[~label_n].mean()) / raw.std()
        assert kept.difference_k[k] == pytest.approx(slow, rel=1e-4)


def test_images_that_nobody_knows_are_left_out_of_one_column_alone(planted):
    act_un, value_nc = planted
    gaps = value_nc.copy()
    gaps[::3, 1] = np.nan
    found, whole = (associate(act_un, asked_of(v), FEW) for v in (gaps, value_nc))
    known = ~np.isnan(gaps[:, 1])
    alone = associate(act_un[:, known], asked_of(value_nc[known]), FEW)
    for unit in (3, 4):
        at = [int(np.flatnonzero((f.kept.unit_k == unit) & (f.kept.column_k == 1))[0])
              for f in (found, alone)]  # fmt: skip
        np.testing.assert_allclose(found.kept.auroc_k3[at[0]], alone.kept.auroc_k3[at[1]])
    of = [f.kept.auroc_k3[f.kept.column_k == 0] for f in (found, whole)]
    np.testing.assert_allclose(*of)


def test_copies_of_images_in_groups_add_no_certainty():
    """Ten copies of every image, each with its own group: p is that of one, not of ten."""
    rng = np.random.default_rng(2)
    value_nc = (rng.random((60, 1)) < 0.4).astype(np.float32)
    act_un = rng.normal(size=(8, 60)).astype(np.float32) + 0.6 * value_nc[:, 0]
    once = associate(act_un, asked_of(value_nc), FEW)
    many = np.repeat(np.arange(60), 10)
    grouped = associate(act_un[:, many], asked_of(value_nc[many], many), FEW)
    naive = associate(act_un[:, many], asked_of(value_nc[many]), FEW)
    assert grouped.n_with_c.tolist() == once.n_with_c.tolist()
    assert grouped.kept.p_k[0] == pytest.approx(once.kept.p_k[0], rel=0.1)
    assert naive.kept.p_k[0] < once.kept.p_k[0] / 1000
    assert grouped.kept.auroc_k3[0, 1] == pytest.approx(once.kept.auroc_k3[0, 1], abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_copies_belong_together_whichever_groups_they_are_listed_in(seed):
    """Against networkx: images joined by a group or by their bytes, also by way of others."""
    rng = np.random.default_rng(seed)
    n = 40
    copy_of = np.arange(n)
    for at in rng.choice(np.arange(1, n), 12, replace=False):
        copy_of[at] = copy_of[rng.integers(at)]
    groups = [f"g{each}" if each < 15 else None for each in rng.integers(0, 25, n)]
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    for i in range(n):
        for j in range(i):
            if copy_of[i] == copy_of[j] or (groups[i] is not None and groups[i] == groups[j]):
                graph.add_edge(i, j)
    expected = {frozenset(each) for each in nx.connected_components(graph)}
    images = pd.DataFrame({"duplicate_of": copy_of, "group": groups})
    number_n = groups_of(images)
    assert {frozenset(np.flatnonzero(number_n == g)) for g in set(number_n)} == expected
    assert list(dict.fromkeys(number_n.tolist())) == list(range(len(expected)))
    for column in images:
        keys = [f"{i} alone" if pd.isna(k) else k for i, k in enumerate(images[column])]
        alone_n = pd.factorize(pd.Series(keys, dtype=object))[0]
        np.testing.assert_array_equal(groups_of(images[[column]]), alone_n)


def test_images_that_all_differ_need_no_groups():
    images = pd.DataFrame({"duplicate_of": range(5), "group": ["a", "b", None, None, "c"]})
    assert groups_of(images) is None
    assert groups_of(images[[]]) is None


def test_copies_listed_as_cases_of_their_own_are_one_case():
    """Twelve copies of one photograph, each of a patient of its own, decide nothing."""
    images = pd.DataFrame(
        {
            "duplicate_of": [0] * 12 + list(range(12, 40)),
            "group": [f"patient {i}" for i in range(40)],
            "ruler": [1] * 12 + [0] * 28,
        }
    )
    asked = columns_asked(images, ["ruler"]).asked
    assert counts_of(asked).tolist() == [[1, 28]]
    act_un = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    assert not associate(act_un, asked, FEW).is_tried_c.any()


@pytest.mark.parametrize(
    "column", [np.zeros(100), np.ones(100), np.arange(100) < 9, np.full(100, np.nan)]
)
def test_columns_with_too_little_are_not_tried(column):
    value_nc = np.column_stack([column, np.arange(100) % 2]).astype(np.float32)
    act_un = np.random.default_rng(3).normal(size=(4, 100)).astype(np.float32)
    found = associate(act_un, asked_of(value_nc), FEW)
    assert found.is_tried_c.tolist() == [False, True]
    assert found.n_tests == 4
    assert set(found.kept.column_k.tolist()) <= {1}
    assert np.isnan(found.least_c[0])


@pytest.mark.parametrize("shown", [0, 1])
def test_a_column_that_all_images_show_or_none_says_nothing_of_a_unit(shown):
    value_nc = np.full((40, 1), shown, np.float32)
    values_n = np.random.default_rng(0).normal(size=40).astype(np.float32)
    figures = one(values_n, asked_of(value_nc), 0, FEW)
    assert np.isnan(figures["difference"])
    assert np.isnan(figures["auroc"])


def test_a_single_group_is_too_little():
    value_nc = (np.arange(100) % 2).astype(np.float32)[:, None]
    act_un = np.random.default_rng(3).normal(size=(4, 100)).astype(np.float32)
    asked = asked_of(value_nc, np.zeros(100, int))
    assert counts_of(asked).tolist() == [[1, 1]]
    found = associate(act_un, asked, FEW)
    assert not found.is_tried_c.any()
    assert len(found.kept.unit_k) == 0


def test_constant_and_dead_units_are_never_suspects():
    value_nc = (np.arange(100) % 2).astype(np.float32)[:, None]
    found = associate(np.zeros((3, 100), np.float32), asked_of(value_nc), FEW)
    assert not found.kept.is_suspect_k.any()
    assert found.kept.auroc_k3[0, 0] == 0.5
    assert found.kept.p_k[0] == 1


def test_a_unit_that_answers_to_company_falls_within_strata():
    """Patches stand beside children: a unit for children seems one for patches, until it is asked
    among children, and among grown-ups."""
    rng = np.random.default_rng(4)
    child_n = rng.random(3000) < 0.5
    patch_n = rng.random(3000) < np.where(child_n, 0.8, 0.1)
    unit_n = (rng.normal(size=3000) + 4 * child_n).astype(np.float32)
    value_nc = np.column_stack([patch_n, child_n]).astype(np.float32)
    stratum_nc = np.column_stack([child_n, np.zeros(3000)]).astype(np.int64)
    kept = associate(unit_n[None], asked_of(value_nc, stratum_nc=stratum_nc), FEW).kept
    assert kept.auroc_k3[0, 0] > 0.8
    assert abs(kept.within_k3[0, 0] - 0.5) < 0.05
    assert not kept.is_suspect_k[kept.column_k == 0].any()  # it goes with children better
    assert kept.is_suspect_k[kept.column_k == 1].all()
    slow = []
    for side in (child_n, ~child_n):
        x, y = unit_n[side & patch_n], unit_n[side & ~patch_n]
        slow.append(((x[:, None] > y).sum(), len(x) * len(y)))
    share = sum(w for w, _ in slow) / sum(n for _, n in slow)
    found = within_strata(unit_n, patch_n, child_n.astype(int))
    assert found[0] == pytest.approx(share)


def newcombe(n_with: int, n_without: int) -> float:
    """The bound of a perfect area by the formula: where 1 - A is z errors of A."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def off(a: float) -> float:
        half = (n_with + n_without) / 2
        bracket = 1 + (half - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        return 1 - a - norm.ppf(0.975) * (a * (1 - a) * bracket / (n_with * n_without)) ** 0.5

    return brentq(off, 0.01, 1 - 1e-9)


@pytest.mark.parametrize("repeated", [1, 3])
def test_a_perfect_area_within_strata_is_not_certain(repeated):
    """Images of one group, told apart by the unit in the same way, add nothing to what is known."""
    patch_n = np.repeat([True, False, True, False], [12, 15, 11, 40] * np.array(repeated))
    stratum_n = np.repeat([0, 0, 1, 1], [12, 15, 11, 40] * np.array(repeated))
    group_n = np.arange(78 * repeated) // repeated
    values_n = np.where(patch_n, 1, 0).astype(np.float32)
    whole, low, high = within_strata(values_n, patch_n, stratum_n, group_n)
    reach = [(12 * 15, 1 - newcombe(12, 15)), (11 * 40, 1 - newcombe(11, 40))]
    expected = sum((w * r) ** 2 for w, r in reach) ** 0.5 / sum(w for w, _ in reach)
    assert (whole, high) == (1, 1)
    assert low == pytest.approx(1 - expected, abs=1e-6)
    assert within_strata(-values_n, patch_n, stratum_n, group_n)[:2] == (0, 0)
    assert within_strata(-values_n, patch_n, stratum_n, group_n)[2] == pytest.approx(expected)


def test_areas_within_strata_of_few_groups_have_no_interval():
    rng = np.random.default_rng(8)
    for n_with, n_without in ((9, 40), (40, 9), (10, 40)):
        patch_n = np.repeat([True, False], [n_with, n_without])
        stratum_n = np.arange(len(patch_n)) % 2
        values_n = rng.normal(size=len(patch_n)).astype(np.float32)
        whole, low, high = within_strata(values_n, patch_n, stratum_n)
        assert np.isfinite(whole)
        assert np.isfinite([low, high]).all() == (n_with == 10)
        # More images of the same groups, or of strata of one kind alone, are no more.
        more = np.append(stratum_n, np.full(50, 7))
        again = within_strata(
            np.append(values_n, rng.normal(size=50)).astype(np.float32),
            np.append(patch_n, np.ones(50, bool)), more,
        )  # fmt: skip
        np.testing.assert_allclose(again, (whole, low, high))


def test_cramers_v_is_one_for_copies_and_about_none_for_chance():
    rng = np.random.default_rng(5)
    a = rng.integers(0, 4, 2000)
    assert confounding.cramers_v(a, (a + 1) % 4) == pytest.approx(1)
    assert confounding.cramers_v(a, rng.integers(0, 4, 2000)) < 0.06
    assert confounding.cramers_v(a, np.zeros(2000, int)) == 0
    assert confounding.cramers_v(a, np.full(2000, -1)) == 0
    # scipy's, whose bias correction is the same
    from scipy.stats.contingency import association, crosstab

    b = np.where(rng.random(2000) < 0.3, a, rng.integers(0, 4, 2000))
    plain = association(crosstab(a, b).count, method="cramer", correction=False)
    n, r = 2000, 4
    phi2 = plain**2 * (r - 1) - (r - 1) ** 2 / (n - 1)
    assert confounding.cramers_v(a, b) == pytest.approx(
        (phi2 / (r - (r - 1) ** 2 / (n - 1) - 1)) ** 0.5
    )


def test_kinds_of_a_column_are_told_from_company():
    patch = np.arange(300) < 90
    blue = np.arange(300) < 30
    value_nc = np.column_stack([patch, blue, np.arange(300) % 3 == 0, ~np.isin(np.arange(300), 5)])
    is_kin = confounding.kin(value_nc.astype(np.float32))
    assert is_kin.tolist()[0] == [True, True, False, False]  # what nearly all show is no kind
    assert (is_kin == is_kin.T).all()


def test_what_goes_with_a_column_is_named_and_compared_within():
    rng = np.random.default_rng(6)
    child = rng.random(800) < 0.5
    images = pd.DataFrame(
        {
            "file": [f"{i}.png" for i in range(800)],
            "ruler": (rng.random(800) < 0.5).astype(float),
            "patch": (rng.random(800) < np.where(child, 0.7, 0.1)).astype(float),
            "age": np.where(child, rng.uniform(1, 17, 800), rng.uniform(18, 90, 800)),
            "site": np.where(rng.random(800) < 0.5, "back", "arm"),
            "class": np.where(rng.random(800) < 0.5, "naevus", "melanoma"),
            "group": np.arange(800) // 2,
            "duplicate_of": np.arange(800),
        }
    )
    found = columns_asked(images, ["ruler", "patch"])
    assert found.names == ("ruler", "patch", "melanoma", "naevus")
    assert found.kinds == ("concept", "concept", "class", "class")
    assert [None if b is None else b.name for b in found.beside] == [None, "age", None, None]
    assert len(np.unique(found.asked.stratum_nc[:, 1])) == 3  # thirds of age
    assert len(np.unique(found.asked.group_n)) == 400
    alone = columns_asked(images.drop(columns=["class", "group"]), ["ruler"], ["site"])
    assert alone.asked.group_n is None
    assert alone.names == ("ruler",)


@pytest.mark.parametrize("as_text", [False, True])
def test_codes_of_sites_are_kinds_and_no_sizes(as_text):
    """Site 3 of 7 alone has the ruler: in thirds of the numbers it shares one with two others."""
    rng = np.random.default_rng(0)
    site = rng.integers(1, 8, 700)
    images = pd.DataFrame(
        {
            "file": [f"{i}.png" for i in range(700)],
            "ruler": ((site == 3) & (rng.random(700) < 0.6)).astype(float),
            "site": [f"site {each}" for each in site] if as_text else site,
        }
    )
    found = columns_asked(images, ["ruler"])
    table = pd.crosstab(images["ruler"], site)
    expected = scipy_stats.contingency.association(table, method="cramer")
    assert found.beside[0].name == "site"
    assert found.beside[0].v == pytest.approx(expected, abs=0.02)
    # A unit that answers to the site answers to no ruler among images of one site.
    unit_n = ((site == 3) + 0.1 * rng.normal(size=700)).astype(np.float32)
    label_n = found.asked.value_nc[:, 0] == 1
    area, low, high = within_strata(unit_n, label_n, found.asked.stratum_nc[:, 0])
    assert low < 0.5 < high
    assert area < 0.65


def test_how_much_of_a_concept_there_is_is_no_other_column():
    """The share of a picture that rulers take says what the ruler column says; ages say more."""
    rng = np.random.default_rng(0)
    shown = rng.random(400) < 0.2
    images = pd.DataFrame(
        {
            "file": range(400),
            "ruler": shown.astype(float),
            "share_ruler": np.where(shown, rng.uniform(0.01, 0.3, 400), 0),
            "days": np.where(
                rng.random(400) < np.where(shown, 0.8, 0.05), rng.uniform(1, 9, 400), 0
            ),
        }
    )
    assert list(confounding.levels_of(images, ["ruler"], ["file"])) == ["ruler", "days"]
    # What shows a concept in nearly every image, as all images do, is not about it.
    images["ruler"] = 1.0
    assert list(confounding.levels_of(images, ["ruler"], ["file"])) == ["share_ruler", "days"]


@pytest.mark.parametrize("usual", [0.0, 9.5])
def test_a_count_that_is_mostly_one_value_still_parts_images(usual):
    """Nine tenths of one value leave one third only."""
    rng = np.random.default_rng(0)
    count = np.where(np.arange(400) % 10 == 0, rng.uniform(1, 9, 400), usual)
    images = pd.DataFrame({"file": range(400), "count": count})
    found = confounding.levels_of(images, [], ["file"])
    assert len(np.unique(found["count"])) == 2
    assert len(set(zip(found["count"], count == usual, strict=True))) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"auroc_min": 1.0},
        {"auroc_min": 0.3},
        {"q": 0.0},
        {"min_positive": 1},
        {"n_permutations": 9},
    ],
)
def test_rules_that_mean_nothing_are_refused(change):
    with pytest.raises(InputError, match=str(next(iter(change.values())))):
        Rule(**change)


# ------------------------------------------------------------------ in bundles

FIRST = ("small", "first@mean")
STAGE = kinds.ASSOCIATION.name(*FIRST)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A bundle with a column that half of its images show, and one that too few do."""
    folder = tmp_path_factory.mktemp("associations")
    images = folder / "images"
    toys.draw_images(images)
    files = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    half = [int(i % 2) for i in range(len(files))]
    table = toys.as_table(images, half=half, few=[int(i < 3) for i in range(len(files))])
    return build(toys.request(folder, folder / "a.csp", probe=read_probe_set(table))).path


@pytest.fixture
def path(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "a.csp"))


def test_a_forged_column_that_is_shown_no_more_is_told_of(path):
    """Nine tenths are no flag: nobody shows the column that suspects were found for."""
    file = place(path, "probe", "probe.parquet")
    rows = pd.read_parquet(file)
    rows["half"] = rows["half"] * 0.9
    rows.to_parquet(file, index=False)
    redo(path)
    assert any("association" in each for each in verify(Bundle.open(path)))


def test_a_build_looks_for_every_column_and_class(path):
    bundle = Bundle.open(path)
    held = bundle.association(*FIRST)
    assert held.columns["name"].tolist()[:2] == ["half", "few"]
    assert held.columns["is_tried"].tolist()[:2] == [True, False]
    assert set(held.columns["kind"][2:]) <= {"class"}
    assert verify(bundle) == []
    slim = copy_slim(bundle, path.with_name("slim.csp"))
    pd.testing.assert_frame_equal(slim.association(*FIRST).found, held.found)
    assert verify(slim) == []


@pytest.fixture(scope="module")
def slim(whole) -> Path:
    return copy_slim(Bundle.open(whole), whole.with_name("slim.csp")).path


def change_table(path: Path, table: str, change) -> None:
    file = place(path, STAGE, f"{table}.parquet")
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    redo(path)


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("found", lambda rows: rows.assign(auroc=rows["auroc_high"]), "auroc of"),
        ("found", lambda rows: rows.assign(pearson=0.99), "pearson of"),
        ("found", lambda rows: rows.assign(is_suspect=True), "another number of suspects"),
        ("found", lambda rows: rows.assign(column=99), "names column 99, but there are"),
        ("found", lambda rows: rows.assign(auroc=1.5), "outside of 0 to 1"),
        ("found", lambda rows: pd.concat([rows, rows]), "names a unit twice"),
        ("columns", lambda rows: rows.assign(n_with=rows["n_with"] + 1), "n_with of"),
        ("columns", lambda rows: rows.assign(name="half"), "twice"),
        ("columns", lambda rows: rows.assign(beside="age"), "What goes with the columns"),
        ("columns", lambda rows: rows.assign(is_tried=~rows["is_tried"]), "is_tried of"),
        ("columns", lambda rows: rows.drop(columns="least"), "no column 'least'"),
    ],
)
def test_forged_figures_are_found_out(slim, tmp_path, table, change, said):
    path = Path(shutil.copytree(slim, tmp_path / "a.csp"))  # no activations betray them
    change_table(path, table, change)
    problems = verify(Bundle.open(path))
    assert any(said in problem for problem in problems), problems


def test_figures_that_activations_contradict_are_found_out(path):
    change_table(path, "found", lambda rows: rows.assign(difference=rows["difference"] + 1))
    assert any("not what follows from its activations" in p for p in verify(Bundle.open(path)))


# ------------------------------------------------------------------ conditions


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("nonsense", "no condition"),
        ("suspects", "no condition"),
        ("suspects >", "no condition"),
        ("suspects > half", "no condition"),
        ("effect < -1", "does not say of what"),
        ("association half < .5", "can only be asked with"),
        ("suspects half < 3", "can only be asked with"),
        ("association half > 7", "between 0 and 1"),
        ("suspects > -1", "whole numbers"),
        ("suspects > 0.5", "whole numbers"),
        ("association ruler > 0.9", "no concept column 'ruler'"),
        ("association few > 0.9", "few was not tried"),
        ("suspects few > 0", "few was not tried for want of images"),
        ("effect half < -1", "No pairs of images"),
        ("suspects half > 0 ; rm", "no condition"),
    ],
)
def test_conditions_that_cannot_be_judged_are_refused(path, capsys, condition, said):
    code, out, err = run(capsys, "audit", path, "--fail-if", condition)
    assert (code, out) == (2, "")
    assert said in err
    assert "\n" not in err


def test_a_gate_passes_or_fails_with_one_sentence_and_json(path, capsys):
    best = Bundle.open(path)
    low = max(
        float(best.association("small", layer).found["auroc_low"].iloc[0])
        for layer in best.layers("small")
    )
    below, above = f"association half > {low - 0.01:.3f}", f"association: half > {low + 0.01:.3f}"
    code, out, err = run(capsys, "audit", path, "--fail-if", above, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["passed"] is True
    code, out, err = run(capsys, "audit", path, "--fail-if", above, "--fail-if", below, "--json")
    assert code == 1
    assert err == f"csp: 1 of 2 conditions of --fail-if hold: {below}."
    told = json.loads(out)
    assert [each["fails"] for each in told["conditions"]] == [False, True]
    assert told["conditions"][1]["low"] == pytest.approx(low)
    assert told["passed"] is False
    code, out, err = run(capsys, "audit", path, "--fail-if", "suspects > 0")
    assert "Not tried for want of images: few." in out
    n = sum(int(best.association("small", x).found["is_suspect"].sum()) for x in
            best.layers("small"))  # fmt: skip
    assert code == int(n > 0)


def test_what_a_concept_set_calls_otherwise_is_not_passed_over():
    tags = associations.tags_of(find_concept_set("melanoma"))
    for column in (*ARTEFACTS, "Patches", "dark corners", "gel-bubbles", "ink"):
        assert tags[singular_key(column)] == "spurious", column
    nothing = associations.NO_AREA
    sought = associations.Sought(
        "x", "concept", "", 9, 5, 5, 4, True, 0, 0, nothing, -1, 0.9, "", 0.0
    )
    assert sought.is_in_question
    assert replace(sought, tag="spurious").is_in_question
    for changes in ({"tag": "valid"}, {"tag": "neutral"}, {"kind": "class"}):
        assert not replace(sought, **changes).is_in_question


@pytest.mark.slow
def test_the_shipped_demo_fails_where_it_should(shipped_bundle, capsys):
    asked = ("--fail-if", "effect colour patch < -0.5", "--fail-if", "suspects colour patch > 0")
    code, out, _ = run(capsys, "audit", shipped_bundle, *asked, "--json")
    assert code == 1
    told = json.loads(out)
    assert [each["fails"] for each in told["conditions"]] == [True, True]
    assert told["conditions"][0]["high"] < -0.5
    by_column = {
        row["column"]: row for row in told["associations"][0]["columns"] if row["kind"] == "concept"
    }
    patch = by_column["colour patch"]
    assert patch["n_suspects"] == len(patch["suspects"]) > 20
    assert all(each["auroc"]["value"] > 0.8 for each in patch["suspects"])
    assert by_column["ruler"]["suspects"] == []
    assert 0.8 < by_column["ruler"]["least_found"] < 0.9
    code, out, err = run(capsys, "audit", shipped_bundle, "--model", "retrained", *asked, "--json")
    assert (code, err) == (0, "")


def test_conditions_know_names_in_any_case_and_number(shipped_bundle):
    bundle, concepts = Bundle.open(shipped_bundle), find_concept_set("melanoma")
    layers = bundle.layers("biased")

    def figures(*texts):
        asked = [read_condition(text) for text in texts]
        return [each.figures for each in judge(bundle, "biased", layers, asked, concepts)]

    usual = ("effect colour patch < -0.5", "suspects colour patch > 0", "association ruler > .9")
    other = (
        "effect Colour Patches < -0.5",
        "suspects colour-patches > 0",
        "association Rulers > .9",
    )
    assert figures(*usual) == figures(*other)
    with pytest.raises(InputError, match="no concept column 'rules'"):
        figures("suspects rules > 0")


def test_what_images_show_is_told_from_what_they_do_not():
    rng = np.random.default_rng(7)
    label_n = rng.random(600) < 0.3
    image_nd = rng.normal(size=(600, 20)).astype(np.float32)
    chance = confounding.seen_without(image_nd, label_n)
    image_nd[:, 3] += 2 * label_n
    told = confounding.seen_without(image_nd, label_n)
    areas = [(score[label_n][:, None] > score[~label_n]).mean() for score in (chance, told)]
    assert abs(areas[0] - 0.5) < 0.1
    assert areas[1] > 0.85
    # Copies of an image in one group tell nothing of one another: pure chance stays chance.
    twice = np.repeat(np.arange(300), 2)
    noise = rng.normal(size=(300, 200)).astype(np.float32)[twice]
    own = (rng.random(300) < 0.5)[twice]
    grouped = confounding.seen_without(noise, own, twice)
    alone = confounding.seen_without(noise, own)
    assert abs((grouped[own][:, None] > grouped[~own]).mean() - 0.5) < 0.1
    assert (alone[own][:, None] > alone[~own]).mean() > 0.8


@pytest.mark.slow
def test_company_that_shows_by_itself_is_said(shipped_bundle):
    bundle = Bundle.open(shipped_bundle)
    found = associations.look(
        bundle, Memo(), "biased", "layer2@max", "gel border", "csp_plus", melanoma(Memo())
    )
    assert [each.name for each in found.goes_with] == ["gel bubbles"]
    assert found.seen_without.low > 0.9
    assert "it shows in the images" in found.confounding()


def test_a_bundle_with_a_constant_unit_is_no_forgery(tmp_path):
    """Dead units are usual: they count among what was compared, and csp verify knows it."""
    images = toys.draw_images(tmp_path / "images", 64)
    files = sorted(images.rglob("*.png"))
    named = [str(each.relative_to(images)) for each in files]
    table = pd.DataFrame({"file": named, "flag": np.arange(len(files)) % 2})
    table.to_csv(images / "images.csv", index=False)
    target = toys.target(["first"])
    with torch.no_grad():
        target.model.network.first.weight[2] = 0
        target.model.network.first.bias[2] = 0.5
    probe = read_probe_set(images / "images.csv")
    asked = toys.request(tmp_path, tmp_path / "small.csp", probe=probe, targets=(target,))
    bundle = build(asked)
    (layer,) = bundle.layers("small")
    assert bundle.units("small", layer)["is_constant"].sum() == 1
    stage = f"association:small/{layer}"
    n_tried = int(bundle.association("small", layer).columns["is_tried"].sum())
    assert bundle.stage(stage).facts["n_tests"] == 8 * n_tried > 0
    assert verify(bundle) == []
    for n_tests in (7 * n_tried, 8 * n_tried + 1):
        change = {"n_tests": n_tests}
        edit(bundle.path, lambda body, to=change: body["stages"][stage]["facts"].update(to))
        assert f"n_tests of {stage} is not the pairs that were tried." in verify(
            Bundle.open(bundle.path)
        )
