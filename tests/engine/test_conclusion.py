"""What is said of one neuron is what can be counted from its images, labels, truth and outputs."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from csp_engine.bundle import Bundle
from csp_engine.cli import main
from csp_engine.pipeline import build
from csp_engine.types import NeuronRef
from csp_engine.views.audit import interventions
from csp_engine.views.conclusion.claims import conclusion_of, fires_on
from csp_engine.views.images.facts import properties
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.influence import moved_most
from csp_engine.views.neuron.label import best_label, flags_of, states_of
from csp_engine.views.neuron.shared import shared
from csp_engine.views.table.rows import neuron_table
from tests.worlds import toys

METHOD = "csp_plus"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("conclusion")
    build(toys.request(folder, folder / "small.csp"))
    return Bundle.open(folder / "small.csp")


@pytest.fixture(scope="module")
def demo(shipped_bundle) -> Bundle:
    return Bundle.open(shipped_bundle)


@pytest.fixture(scope="module")
def memo() -> Memo:
    return Memo()


def said(demo, memo, neuron, kind):
    claims = conclusion_of(demo, memo, NeuronRef.parse(neuron), METHOD)
    return [str(each) for each in claims if each.kind == kind]


@pytest.mark.parametrize("unit", [50, 112, 173, 0])
def test_exemplars_and_look_alikes_are_counted_from_the_table_of_images(demo, memo, unit):
    neuron = NeuronRef("biased", "layer2@max", unit)
    (text,) = said(demo, memo, str(neuron), "images")
    name, n_here, n_chosen, n_quiet, n_known = re.fullmatch(
        r"(?:Fires on|Prefers) (?:images of the class )?(.+): (\d+) of (\d+) exemplars show it, "
        r".* of all images; of the look-alikes that leave it quiet, (\d+) of (\d+)"
        r"(?:, .*)?\.(?: What .*)?",
        text,
    ).groups()
    images = demo.images()
    column = name.replace(" ", "_")
    has_n = (
        images["class"] == name
        if name in set(images["class"])
        else images[column if column in images else name].eq(1)
    )
    exemplars = demo.exemplars("biased", "layer2@max")
    chosen = exemplars.image_uk[unit, : exemplars.count_u[unit]]
    assert int(n_here) == int(has_n.iloc[chosen].sum())
    assert int(n_chosen) == len(chosen)
    contrast = demo.contrast("biased", "layer2@max")
    quiet = {
        int(contrast.image_ukj[unit, k, 0])
        for k in range(contrast.n_partner_uk.shape[1])
        if contrast.n_partner_uk[unit, k]
    }
    assert int(n_known) == len(quiet)
    assert int(n_quiet) == int(has_n.iloc[sorted(quiet)].sum())


def shares(demo, memo, neuron, name):
    """How many exemplars and how many nearest look-alikes show a property, and of how many."""
    known = properties(demo, memo)
    at = known.names.index(name)
    code_n = known.property_cn[known.column_p[at]]
    contrast = demo.contrast(neuron.model, neuron.layer)
    has_k = contrast.n_partner_uk[neuron.unit] > 0
    quiet = np.unique(contrast.image_ukj[neuron.unit, has_k, 0])
    row = next(each for each in shared(demo, memo, neuron).rows if each.name == name)
    return row.n_here, row.n_chosen, int((code_n[quiet] == at).sum()), len(quiet)


def test_what_sets_pairs_apart_is_told_where_the_commonest_property_does_not(demo, memo):
    n_told = n_alike = 0
    for unit in range(0, 256, 2):
        neuron = NeuronRef("biased", "layer2@max", unit)
        (text,) = said(demo, memo, str(neuron), "images")
        row = fires_on(shared(demo, memo, neuron))
        if row is None:
            continue
        here, n, quiet, m = shares(demo, memo, neuron, row.name)
        p = stats.fisher_exact([[here, n - here], [quiet, m - quiet]], "greater").pvalue
        is_alike = p > 0.05 and 4 * quiet * n >= 3 * here * m
        n_alike += is_alike
        assert ("as often" in text) == is_alike
        assert text.startswith("Fires on " if 2 * here >= n else "Prefers ")
        told = re.search(
            r"tells them apart most is (?:the class )?(.+): (\d+) of (\d+) exemplars, "
            r"(\d+) of (\d+) look-alikes\.$",
            text,
        )
        assert (", so something else tells them apart." in text) == (is_alike and told is None)
        if told is None:
            continue
        n_told += 1
        name = told[1] if told[1] in properties(demo, memo).names else f"class: {told[1]}"
        found = shares(demo, memo, neuron, name)
        assert found == tuple(map(int, told.groups()[1:]))
        assert found[0] / found[1] - found[2] / found[3] > here / n - quiet / m
        assert quiet / m >= here / n / 2
        table = [[found[0], found[1] - found[0]], [found[2], found[3] - found[2]]]
        n_looked_at = len(shared(demo, memo, neuron).striking)
        assert stats.fisher_exact(table, "greater").pvalue <= 0.05 / n_looked_at + 1e-9
    assert n_told > 5
    assert n_alike > 5


def test_few_look_alikes_are_no_reason_to_call_shares_alike(small, memo):
    """Six of six exemplars and none of one look-alike: nothing is as often, by whatever test."""
    n_few = 0
    for layer in small.layers("small"):
        for unit in range(small.n_units("small", layer)):
            claims = conclusion_of(small, memo, NeuronRef("small", layer, unit), "csp")
            for text in map(str, claims):
                found = re.search(r"leave it quiet, 0 of \d", text)
                n_few += found is not None
                assert not (found and "as often" in text)
    assert n_few > 0


def test_what_chance_explains_is_not_what_a_neuron_fires_on(demo, memo):
    """Of what is said, chance gives as much or more in fewer than 5 % of neurons."""
    for unit in range(60):
        known = shared(demo, memo, NeuronRef("biased", "layer3@mean", unit))
        row = fires_on(known)
        if row is None:
            assert all(each.q > 0.05 for each in known.rows)
        else:
            assert row.q <= 0.05
            assert row.low - row.base == max(e.low - e.base for e in known.rows if e.q <= 0.05)


@pytest.mark.parametrize("unit", range(0, 57, 4))
def test_a_planted_unit_is_said_to_be_planted(demo, memo, unit):
    truth = demo.truth("planted", "planted@none").units.iloc[unit]
    (text,) = said(demo, memo, f"planted/planted@none/{unit}", "truth")
    if truth["planted_kind"] == "noise":
        assert text == "Planted: noise that answers to no concept."
        return
    assert text.startswith(f"Planted: {truth['planted']}")
    label = best_label(demo, NeuronRef("planted", "planted@none", unit), METHOD).text
    if label == truth["planted"]:
        assert "as its best label says" in text


@pytest.mark.slow
@pytest.mark.parametrize("method", [METHOD, "clip_dissect"])
def test_a_label_that_misses_the_measured_truth_is_said_to(demo, memo, method):
    n_missed = n_met = 0
    truth = demo.truth("biased", "layer3@mean")
    wordings = {
        row["name"]: {row["name"], *json.loads(row["wordings"])}
        for row in truth.concepts.to_dict("records")
    }
    for unit in np.flatnonzero(truth.units["true_concept"].notna())[:80]:
        neuron = NeuronRef("biased", "layer3@mean", int(unit))
        claims = conclusion_of(demo, memo, neuron, method)
        (text,) = [str(each) for each in claims if each.kind == "truth"]
        concept = truth.units["true_concept"].iloc[unit]
        assert text.startswith(f"Measured on 1,200 labelled images: it follows {concept} (AUROC ")
        label = best_label(demo, neuron, method).text
        if label in wordings[concept]:
            assert "as its best label says" in text
            n_met += 1
        # A label of a concept that this neuron does not follow at all says something else.
        named = [name for name, texts in wordings.items() if label in texts]
        at = [truth.concepts["name"].tolist().index(name) for name in named]
        if named and concept not in named and float(np.nanmax(truth.auroc_uc[unit, at])) < 0.6:
            assert "which its best label does not say" in text
            n_missed += 1
    assert n_met > 10
    assert n_missed > 0 or method == METHOD


def test_a_neuron_without_a_true_concept_is_said_to_follow_none(demo, memo):
    truth = demo.truth("biased", "layer2@max")
    unit = int(np.flatnonzero(truth.units["true_concept"].isna())[0])
    (text,) = said(demo, memo, f"biased/layer2@max/{unit}", "truth")
    measured = "Measured on 1,200 labelled images"
    assert text == f"{measured}: it follows none of {len(truth.concepts)} known concepts closely."


def test_the_output_named_is_the_one_it_ranks_highest_on(demo, memo):
    held = demo.influence("biased", "layer4@mean")
    effect_cu = np.asarray(held.gradient_activation_cu, float)
    for unit in (3, 100, 555):
        (text,) = said(demo, memo, f"biased/layer4@mean/{unit}", "outputs")
        ranks = [1 + int((np.abs(row) > abs(row[unit])).sum()) for row in effect_cu]
        best = min(ranks)
        output = re.search(
            r"(?:raises|lowers) (?P<a>.+) \(rank (?P<n>\d+) of 768"
            r"|at best, rank (?P<m>\d+) of 768 in its layer on (?P<b>.+)\.",
            text,
        )
        assert int(output["n"] or output["m"]) == best
        c = held.output_names.index(output["a"] or output["b"])
        assert ranks[c] == best
        if "no output much" in text:
            assert best > 76.8
        else:
            assert ("raises" in text) == (effect_cu[c, unit] > 0)


@pytest.mark.slow
def test_carriers_are_those_of_the_audit_and_no_other(demo, memo):
    found = interventions.audited(demo, "biased", "colour patch", METHOD)
    carrying = {each.neuron.unit: each.share for each in found.suspects[: found.scope.n_carriers]}
    for unit in range(256):
        texts = said(demo, memo, f"biased/layer2@max/{unit}", "carries")
        assert any("colour patch" in text for text in texts) == (unit in carrying)
    for unit, share in carrying.items():
        (text,) = said(demo, memo, f"biased/layer2@max/{unit}", "carries")
        if text.startswith("With 19 others it carries the effect of colour patch on melanoma"):
            assert f"(its own part {100 * share:.0f} %)" in text


@pytest.mark.slow
def test_methods_that_say_the_same_text_agree(demo, memo):
    for unit in range(40):
        neuron = NeuronRef("biased", "layer4@mean", unit)
        texts = {best_label(demo, neuron, m).text for m in demo.methods("biased", "layer4@mean")}
        for text in said(demo, memo, str(neuron), "label"):
            if len(texts) == 1:
                assert text.endswith("all 4 methods mean the same.")


def test_a_bundle_that_knows_little_says_little(small, memo):
    for layer in small.layers("small"):
        for unit in range(small.n_units("small", layer)):
            claims = conclusion_of(small, memo, NeuronRef("small", layer, unit), "csp")
            assert {each.kind for each in claims} <= {"images", "label", "outputs"}
            assert not any("Measured" in str(each) for each in claims)


def test_dense_says_something_only_where_it_is_rare(small):
    units = small.units("small", "first@mean").copy()
    units["is_dense"] = True
    units[["is_constant", "is_dead", "never_positive"]] = False
    assert states_of(flags_of(units), 0) == ()
    units["is_dense"] = np.arange(len(units)) == 2
    assert [state.word for state in states_of(flags_of(units), 2)] == ["dense"]


@pytest.mark.slow
def test_the_command_says_what_the_view_says(shipped_bundle, demo, memo, capsys):
    with pytest.raises(SystemExit) as left:
        main(["neuron", str(shipped_bundle), "biased/layer2@max/50", "--json"])
    assert not left.value.code
    told = json.loads(capsys.readouterr().out)
    claims = conclusion_of(demo, memo, NeuronRef("biased", "layer2@max", 50), METHOD)
    assert [each["text"] for each in told["conclusion"]] == [str(each) for each in claims]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("biased/layer2@max/256", "has no unit 256; it has 0 to 255"),
        ("biased/nope/0", "it has layer2@max"),
        ("other/layer2@max/0", "it has biased"),
        ("nonsense", "write model/layer/unit"),
    ],
)
def test_a_neuron_that_is_not_there_is_a_sentence(shipped_bundle, capsys, asked, words):
    with pytest.raises(SystemExit) as left:
        main(["neuron", str(shipped_bundle), asked])
    assert left.value.code == 2
    assert words in capsys.readouterr().err


def test_the_table_ranks_as_the_conclusion_does(demo, memo):
    rows = neuron_table(demo, memo, METHOD)
    held = demo.influence("biased", "layer4@mean")
    effect_cu = np.asarray(held.gradient_activation_cu, float)
    own = rows[(rows["model"] == "biased") & (rows["layer"] == "layer4@mean")]
    rank_cu = stats.rankdata(-np.abs(effect_cu), axis=1, method="min")
    assert (own["moves_rank"].to_numpy() == rank_cu.min(axis=0)).all()
    for unit in (0, 17, 444, 767):
        ranks = rank_cu[:, unit]
        best = held.output_names[int(np.argmin(ranks))]
        told = own.iloc[unit]
        assert told["moves_rank"] == ranks.min()
        assert told["moves"].removeprefix("raises ").removeprefix("lowers ") in (
            {n for n, r in zip(held.output_names, ranks, strict=True) if r == ranks.min()}
        ), best
    planted = rows[rows["model"] == "planted"]
    effect_cu = np.asarray(demo.influence("planted", "planted@none").gradient_activation_cu, float)
    is_idle_u = (effect_cu == 0).all(axis=0)
    assert is_idle_u.any()
    assert planted["moves"].isna().tolist() == is_idle_u.tolist()
    assert planted["moves_rank"].isna().tolist() == is_idle_u.tolist()


def test_equal_effects_share_a_rank_and_the_larger_effect_breaks_ties(demo, monkeypatch):
    effect_cu = np.array(
        [[3, -3, 1, 0, np.nan], [2, 5, 1, 0, 0], [9, 9, 9, 9, 9], [-4, 4, 4, 0, np.inf]]
    ).astype(np.float32)
    held = SimpleNamespace(
        output_names=("a", "b", "unseen", "d"),
        gradient_activation_cu=effect_cu,
        n_image_c=np.array([5, 5, 0, 5]),
    )
    monkeypatch.setattr(Bundle, "influence", lambda *_: held)
    found = moved_most(demo, Memo(), "biased", "layer4@mean")
    assert found.rank_u.tolist() == [1, 1, 1, 0, 0]
    assert found.told().tolist() == ["lowers d", "raises b", "raises d", None, None]
