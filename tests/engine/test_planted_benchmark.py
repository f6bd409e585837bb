"""Units planted into a probe set: that they are what they say, and how good each method must be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.captioners import load_captioner
from csp_engine.captioners.speaking import Speaking
from csp_engine.errors import InputError
from csp_engine.evaluation.ground_truth import true_concepts
from csp_engine.evaluation.planted_units import FAINT, Plan, Unit, plant
from csp_engine.exports.planted_plots import ABOVE, BELOW, HEIGHT, planted_svg
from csp_engine.methods.formulas.formula import Formula, affirmed
from csp_engine.methods.linear_explanations import Sum, foremost
from csp_engine.views.benchmark.planted import (
    ORACLE,
    error_of,
    judged,
    planted_benchmark,
    world_of,
)
from tests.engine.test_cli import run

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo" / "dermoscopy.csp"
SMALL = Plan(n_units=12, co_occurrences=(0.0, 0.9))


def columns(n=600, c=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, c)) < 0.4, rng.standard_normal((n, 8)).astype(np.float32)


def test_units_fire_where_their_concepts_show_and_nowhere_else():
    is_shown_nc, image_nd = columns()
    plan = Plan(n_units=10, n_strong=40)
    for unit in plant(is_shown_nc, image_nd, plan):
        if unit.row == "single":
            shows_n = is_shown_nc[:, unit.concepts[0]]
        elif unit.row == "conjunction":
            shows_n = is_shown_nc[:, list(unit.concepts)].all(axis=1)
        elif unit.row == "either":
            shows_n = is_shown_nc[:, list(unit.concepts)].any(axis=1)
        else:
            continue
        assert unit.activation_n[shows_n].mean() == pytest.approx(1, abs=0.1)
        assert unit.activation_n[~shows_n].mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.95])
def test_as_many_of_the_strong_images_show_the_companion_as_the_row_says(share):
    is_shown_nc, image_nd = columns()
    plan = Plan(n_units=6, n_strong=40, co_occurrences=(share,))
    rows = [u for u in plant(is_shown_nc, image_nd, plan) if u.row.startswith("co-occurrence")]
    assert len(rows) == 6
    for unit in rows:
        concept = unit.concepts[0]
        strong_n = unit.activation_n > (1 + FAINT) / 2
        assert is_shown_nc[strong_n, concept].mean() > 0.9
        beside_c = is_shown_nc[strong_n & is_shown_nc[:, concept]].mean(axis=0)
        beside_c[concept] = share
        # Of five independent concepts, the companion is the one whose share is the row's.
        assert np.abs(beside_c - share).min() <= 0.12
        quiet_n = ~is_shown_nc[:, concept]
        assert abs(unit.activation_n[quiet_n].mean()) < 0.05


def test_the_same_seed_plants_the_same_and_another_does_not():
    is_shown_nc, image_nd = columns()
    plan = Plan(n_units=4, n_strong=40)
    one, two = (plant(is_shown_nc, image_nd, plan) for _ in range(2))
    other = plant(is_shown_nc, image_nd, Plan(n_units=4, n_strong=40, seed=1))
    for a, b in zip(one, two, strict=True):
        assert (a.row, a.concepts) == (b.row, b.concepts)
        np.testing.assert_array_equal(a.activation_n, b.activation_n)
    assert any((a.activation_n != b.activation_n).any() for a, b in zip(one, other, strict=True))


def test_what_is_off_the_vocabulary_answers_to_no_concept():
    """Images differ most in whether they show a concept, so most directions answer to it."""
    is_shown_nc, image_nd = columns(c=3)
    image_nd[:, 0] += 6 * is_shown_nc[:, 1]
    plan = Plan(n_units=25, n_strong=40)
    named = true_concepts((image_nd @ np.eye(8, dtype=np.float32)).T, is_shown_nc).is_true_u
    assert named.tolist() == [True] + 7 * [False]
    units = [u for u in plant(is_shown_nc, image_nd, plan) if u.row.endswith("the vocabulary")]
    assert len(units) == 25
    for unit in units:
        r_c = [np.corrcoef(unit.activation_n, shown_n)[0, 1] for shown_n in is_shown_nc.T]
        assert max(r_c) < 0.6
    first, second = (np.stack([u.activation_n for u in units[k::2]]) for k in (0, 1))
    assert not true_concepts(np.concatenate([first, second]), is_shown_nc).is_true_u.any()


def test_where_nothing_is_off_the_vocabulary_the_row_is_left_out():
    is_shown_nc, _ = columns(c=3)
    rng = np.random.default_rng(3)
    turned_n = np.where(is_shown_nc[:, 0], 1, -1) + 0.1 * rng.standard_normal(600)
    image_nd = np.stack([turned_n, -turned_n], axis=1).astype(np.float32)
    is_shown_nc[:, 1] = ~is_shown_nc[:, 0]
    rows = [unit.row for unit in plant(is_shown_nc, image_nd, Plan(n_units=4, n_strong=20))]
    assert "noise: independent" in rows
    assert "noise: off the vocabulary" not in rows


def test_concepts_that_hide_in_each_other_are_no_pair():
    """One concept lies within the other; of two such nothing can be joined."""
    outer_n = np.arange(600) < 300
    inner_n = np.arange(600) < 150
    with pytest.raises(InputError, match=r"Of 2 concepts 2 are shown by at least 60 images"):
        plant(np.stack([outer_n, inner_n], axis=1), np.ones((600, 4), np.float32), Plan())


@pytest.fixture(scope="module")
def figures():
    return planted_benchmark(Bundle.open(DEMO), SMALL, tries=False)


def share(figures, method, row, key):
    (found,) = [r for r in figures["rows"] if (r["method"], r["row"]) == (method, row)]
    return found[key]["share"]


FLOORS = {
    "csp_plus": {"single": 0.8, "co-occurrence 0.9": 0.8, "conjunction": 0.75, "either": 0.75},
    "csp": {"single": 0.5, "co-occurrence 0.9": 0.25, "conjunction": 0.4, "either": 0.4},
    "semanticlens": {"single": 0.6, "co-occurrence 0.9": 0.0, "conjunction": 0.4, "either": 0.3},
    "clip_dissect": {"single": 0.5, "co-occurrence 0.9": 0.0, "conjunction": 0.35, "either": 0.3},
    "falcon": {"single": 0.05, "co-occurrence 0.9": 0.0, "conjunction": 0.4, "either": 0.5},
    "invert": {"single": 0.05, "co-occurrence 0.9": 0.2, "conjunction": 0.0, "either": 0.6},
    "linear_explanations": {
        "single": 0.6,
        "co-occurrence 0.9": 0.75,
        "conjunction": 0.75,
        "either": 0.6,
    },
}
"""What no change may fall below: right, about two standard errors under what was measured."""


@pytest.mark.slow
def test_no_method_is_worse_than_its_floor(figures):
    assert set(figures["methods"]) == set(FLOORS)
    for method, floors in FLOORS.items():
        for row, floor in floors.items():
            assert share(figures, method, row, "right") >= floor, (method, row)
    for row in ("noise: independent", "noise: permuted"):
        for method in FLOORS:
            assert share(figures, method, row, "refused") >= 0.7, (method, row)


def test_the_default_method_refuses_what_means_nothing_and_is_ahead(figures):
    for row, floor in (("independent", 1), ("permuted", 1), ("off the vocabulary", 0.9)):
        assert share(figures, "csp_plus", f"noise: {row}", "refused") >= floor
    for other in ("csp", "semanticlens", "clip_dissect"):
        for row in ("single", "co-occurrence 0.9"):
            mine, theirs = (share(figures, m, row, "right") for m in ("csp_plus", other))
            assert mine > theirs


def test_the_task_is_well_posed(figures):
    """Whoever knows the columns is right: what is planted is what goes best with the unit."""
    for row in ("single", "co-occurrence 0", "co-occurrence 0.9", "conjunction", "either"):
        assert share(figures, ORACLE, row, "right") >= 0.95


def test_wrong_labels_are_told_by_what_their_images_show():
    """Of 8 images: lesion on 6, melanoma on 3 of these, ruler on 4, hair on 2 others."""
    shown = {
        "lesion": [1, 1, 1, 1, 1, 1, 0, 0],
        "melanoma": [1, 1, 1, 0, 0, 0, 0, 0],
        "ruler": [1, 0, 0, 1, 0, 0, 1, 1],
        "hair": [0, 0, 0, 0, 0, 0, 1, 1],
    }
    is_shown_nc, accepted_c = np.array(list(shown.values()), bool).T, [{name} for name in shown]
    nothing_n = np.zeros(8, np.float32)

    def told(concept, said, companion=None):
        place = list(shown).index
        beside = None if companion is None else place(companion)
        return error_of(
            is_shown_nc, accepted_c, Unit("", (place(concept),), nothing_n, beside), said
        )

    assert told("melanoma", "lesion") == "broader"
    assert told("lesion", "melanoma") == "narrower"
    assert told("melanoma", "ruler") == "other concept"
    assert told("melanoma", "ruler", companion="ruler") == "companion"
    assert told("melanoma", "cat") == "no concept"


def test_every_wrong_label_of_one_concept_is_told_how(figures):
    for row in figures["rows"]:
        is_of_one = row["row"].startswith(("single", "co-occurrence"))
        is_of_one &= row["method"] not in (ORACLE, "invert", "linear_explanations")
        assert ("errors" in row) == is_of_one
        if is_of_one:
            n_wrong = (1 - row["right"]["share"]) * row["n"]
            n_told = sum(row["errors"].values())
            # FALCON has no label at all where contrast images hold every word.
            assert (
                n_told <= n_wrong + 0.1
                if row["method"] == "falcon"
                else n_told == pytest.approx(n_wrong)
            )


@pytest.mark.slow
def test_what_a_captioner_finds_likely_is_right_and_chosen_among_the_same_words():
    world = world_of(Bundle.open(DEMO))
    speaker = Speaking(load_captioner(DEMO.parent / "captioner"))
    milan = replace(world, speaker=speaker).of_writers
    assert list(world.of_writers.params) == [m for m in milan.params if m != "milan"]
    milan = replace(milan, params={"milan": milan.params["milan"]})
    units = [u for u in plant(world.is_shown_nc, world.image_nd, SMALL) if u.row == "single"]
    told = judged(milan, units, 2)["milan"]
    assert told["label"].notna().all()
    assert told["is_right"].mean() >= 0.6


def test_of_a_formula_all_counts_that_it_does_not_deny():
    names = ("ruler", "dark hair", "naevus (junctional)", "ink and pen")
    one = Formula(((0, False),))
    both = one.joined("AND", (2, False)).joined("AND", (1, True))
    nested = one.joined("OR", (2, False)).joined("AND", (3, False)).joined("OR", (1, True))
    for formula, said in ((one, {0}), (both, {0, 2}), (nested, {0, 2, 3})):
        assert set(affirmed(formula.text(names))) == {names[place] for place in said}
    assert affirmed(Formula(((1, True),)).text(names)) == ()


def test_of_a_sum_the_largest_weight_counts_unless_it_is_below_zero():
    names = ("ruler", "dark hair", "size: 3 + 4")
    for weights, said in (
        ((0.8,), ("ruler",)),
        ((0.3, -0.2), ("ruler",)),
        ((0.3, 0.51), ("dark hair",)),
        ((0.3, -0.51), ()),
        ((0.1, -0.2, 1.5), ("size: 3 + 4",)),
    ):
        text = Sum(tuple(range(len(weights))), np.array(weights), 0.5).text(names)
        assert foremost(text) == said, text


def share_of(n, hits):
    return {"n": n, "share": hits / n, "low": 0.1, "high": 0.95}


def test_the_picture_has_a_point_for_every_share_where_it_belongs():
    rows = [
        {"row": f"co-occurrence {c:g}", "method": m, "right": share_of(4, hits)}
        for c, hits in ((0.0, 4), (0.5, 1))
        for m in ("csp", "a<b", "concept columns")
    ]
    tries = [
        {"setting": "candidates", "value": "contrastive", "method": "csp", "right": share_of(4, 0)}
    ]
    figures = {"rows": rows, "tries": tries, "methods": ["csp", "a<b"], "n_images": 4000}
    picture = ElementTree.fromstring(planted_svg(figures))
    space = "{http://www.w3.org/2000/svg}"
    at = [
        [float(point.get("cy")) for point in group.iter(f"{space}circle")]
        for group in picture.iter(f"{space}g")
    ]
    assert len(at) == 2
    of_csp, of_other = at[0][:2], at[0][2:]
    assert of_csp == of_other
    top, bottom = ABOVE, HEIGHT - BELOW
    assert of_csp == pytest.approx([top, bottom - 0.25 * (bottom - top)], abs=0.1)
    assert at[1] == pytest.approx([bottom])
    assert "a<b" in "".join(picture.itertext())


@pytest.mark.slow
def test_the_command_gives_json_of_all_that_was_tried(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("csp_engine.views.benchmark.planted.N_NULL_TRIED", 20)
    code, _, err = run(capsys, "evaluate", DEMO, "--units", 1)
    assert (code, "--benchmark planted" in err) == (2, True)
    code, _, err = run(capsys, "evaluate", DEMO, "--plot", tmp_path / "a.svg")
    assert (code, "--plot goes with --benchmark planted" in err) == (2, True)
    nowhere = tmp_path / "no" / "a.svg"
    code, _, err = run(capsys, "evaluate", DEMO, "--benchmark", "planted", "--plot", nowhere)
    assert (code, "There is no folder" in err) == (2, True)
    plot = tmp_path / "planted.svg"
    command = ("evaluate", DEMO, "--benchmark", "planted", "--units", 1, "--json", "--plot", plot)
    code, out, err = run(capsys, *command)
    assert code == 0, err
    told = json.loads(out)
    assert {row["setting"] for row in told["tries"]} == {
        "gamma", "depth", "partners", "images", "encoder noise", "candidates",
    }  # fmt: skip
    assert told["plan"]["seed"] == 0
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
