"""Three conditions of a reliable CSP+ label: no other meaning is near, its score is enough, and it
explains enough with one more word."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from csp_engine.bundle import Bundle, BundleWriter, verify
from csp_engine.bundle.kept_scores import KeptScores
from csp_engine.bundle.verifying.scored import why_not
from csp_engine.errors import BundleError
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.methods import METHODS, label_units, noise_evidence
from csp_engine.methods.depths.columns import LabelColumns, correlation
from csp_engine.methods.depths.relying import Meanings
from csp_engine.methods.depths.two_words import TwoWords
from csp_engine.pipeline import build
from csp_engine.pipeline.recipe import changed
from csp_engine.types import NeuronRef
from csp_engine.views.confidence import features
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.label import heading_of
from tests.worlds import small_layers, toys
from tests.worlds.damage import place, redo

T, SAME = 14, 0.5
JOINED = (3, 8)
KINDS = {0: (1, 2), 1: (2,), 9: (10, 11)}
WHY = "but a label of another meaning scores"


def slow_share(image_nd, label_td, score_t, kinds):
    """Label by label, with numpy's correlation."""
    best = max(range(T), key=lambda t: (score_t[t], -t))
    if score_t[best] <= 0:
        return 1.0
    highest = 0.0
    for t in range(T):
        r = np.corrcoef(image_nd @ label_td[t], image_nd @ label_td[best])[0, 1]
        is_related = t in kinds.get(best, ()) or best in kinds.get(t, ())
        if t != best and t not in JOINED and r < SAME and not is_related:
            highest = max(highest, score_t[t])
    return highest / score_t[best]


@pytest.mark.parametrize("kinds", [{}, KINDS])
def test_the_share_of_the_next_meaning_is_that_of_labels_compared_one_by_one(kinds):
    rng = np.random.default_rng(2)
    image_nd, label_td = small_layers.unit_rows(rng, 70, 5), small_layers.unit_rows(rng, T, 5)
    score_ut = rng.standard_normal((60, T)).astype(np.float32)
    score_ut[0] = -1  # nothing scores
    score_ut[1], score_ut[1, 4] = -1, 1  # nothing else does
    score_ut[2, :] = 2  # all the same
    is_single_t = ~np.isin(np.arange(T), JOINED)
    found_u = Meanings(image_nd, label_td, is_single_t, kinds, SAME).next_share(score_ut)
    expected = [slow_share(image_nd, label_td, score_t, kinds) for score_t in score_ut]
    np.testing.assert_allclose(found_u, expected, atol=1e-6)
    assert found_u[:3].tolist() == [1, 0, 1]
    assert len(set(score_ut.argmax(axis=1))) > T - 3


def some_words(rng):
    """Images, labels, and random image sets of them."""
    image_nd = small_layers.unit_rows(rng, 300, 12)
    label_td = small_layers.unit_rows(rng, 24, 12)
    null = noise_evidence(image_nd, n_draws=40, n_exemplars=20, rule=ContrastRule(), seed=1)
    null.given.sources["texts"] = lambda _: small_layers.WORDS
    return image_nd, label_td, null


def test_a_label_is_reliable_only_if_the_next_meaning_scores_no_more_than_apart():
    rng = np.random.default_rng(0)
    image_nd, label_td, null = some_words(rng)
    # Each follows two labels, the second less and less.
    weight_u1 = np.linspace(1, 0, 20)[:, None]
    activation_un = (label_td[:20] + weight_u1 * label_td[4:24]) @ image_nd.T
    evidence = small_layers.mined(activation_un, image_nd, 20)
    bars = {"two_words": 0}
    free, extra = label_units("csp_plus", evidence, null, label_td, {**bars, "apart": 1})
    for apart in (0.96, 0.8, 0.5):
        told, again = label_units("csp_plus", evidence, null, label_td, {**bars, "apart": apart})
        is_apart_u = extra["next"] <= np.float32(apart)
        assert (told.reliable_u == (free.reliable_u & is_apart_u)).all()
        assert (again["next"] == extra["next"]).all()
        np.testing.assert_array_equal(told.score_uk, free.score_uk)
    assert 0 < (free.reliable_u & (extra["next"] > 0.8)).sum() < free.reliable_u.sum()


def test_a_half_without_an_exemplar_agrees_with_no_label():
    """Units that fire on one image each, which is the first label: so one half says nothing."""
    rng = np.random.default_rng(0)
    image_nd, label_td = small_layers.unit_rows(rng, 60, 8), small_layers.unit_rows(rng, 20, 8)
    label_td[0] = image_nd[7]
    evidence = small_layers.mined(np.eye(60), image_nd, 20)
    null = small_layers.noise(rng, image_nd, 30, 20)
    for kinds in ({}, {3: (4,)}):
        evidence.given.sources["kinds"] = lambda _, kinds=kinds: kinds
        scores, extra = label_units("csp_plus", evidence, null, label_td, {})
        assert scores.label_uk[7, 0] == 0
        assert not extra["halves_agree"].any()
        assert not scores.reliable_u.any()


def test_a_label_is_reliable_only_if_it_scores_enough_of_what_can_be_read():
    rng = np.random.default_rng(5)
    image_nd, label_td, null = some_words(rng)
    # Each follows a direction that no label has, less and less, and a label beside it.
    weight_u1 = np.linspace(2, 0, 20)[:, None]
    lacking_ud = small_layers.unit_rows(rng, 20, 12)
    activation_un = (label_td[:20] + weight_u1 * lacking_ud) @ image_nd.T
    evidence = small_layers.mined(activation_un, image_nd, 20)
    bars = {"apart": 1, "explained": 0, "least_fit": -1, "two_words": 0}
    free, extra = label_units("csp_plus", evidence, null, label_td, {**bars, "enough": 0})
    share_u = free.score_uk[:, 0] / extra["reach"]
    n_before = int(free.reliable_u.sum())
    for enough in (0.5, 0.65, 0.8):
        told, _ = label_units("csp_plus", evidence, null, label_td, {**bars, "enough": enough})
        is_enough_u = free.score_uk[:, 0] >= np.float32(enough) * extra["reach"]
        assert (told.reliable_u == (free.reliable_u & is_enough_u)).all()
        assert told.reliable_u.sum() <= n_before
        n_before = int(told.reliable_u.sum())
        np.testing.assert_array_equal(told.score_uk, free.score_uk)
    assert 0 < (free.reliable_u & (share_u < 0.8)).sum() < free.reliable_u.sum()


def slow_r(activation_n, best_n, similarity_nw):
    """R of least squares on the best label and a word, of words that do not say nearly the same."""
    found = [abs(correlation(activation_n, best_n))]
    for similarity_n in similarity_nw.T:
        if abs(np.corrcoef(best_n, similarity_n)[0, 1]) <= np.sqrt(1 - 0.2**2):
            design = np.column_stack([best_n, similarity_n, np.ones(len(best_n))])
            said_n = design @ np.linalg.lstsq(design, activation_n, rcond=None)[0]
            found.append(np.corrcoef(said_n, activation_n)[0, 1])
    return max(found)


def test_two_words_explain_what_least_squares_says_they_do():
    rng = np.random.default_rng(7)
    image_nd, label_td = small_layers.unit_rows(rng, 90, 6), small_layers.unit_rows(rng, T, 6)
    label_td[5] = label_td[4] + np.float32(0.001) * label_td[2]  # says what the fourth does
    of_kinds_n = (image_nd @ label_td[[1, 2]].T).max(axis=1)
    columns = LabelColumns(image_nd, label_td, lambda label: of_kinds_n if label == 0 else None)
    is_single_t = ~np.isin(np.arange(T), JOINED)
    activation_un = rng.standard_normal((T, 90)).astype(np.float32)
    activation_un[::2] += 3 * (image_nd @ (label_td[::2] - label_td[1::2]).T).T  # for and against
    best_u = rng.permutation(T)
    pairs = list(zip(activation_un, best_u.tolist(), strict=True))
    fit_u = np.float32([correlation(a_n, columns.similarity(t)) for a_n, t in pairs])
    of = TwoWords(columns, image_nd, label_td, is_single_t)
    expected = [
        slow_r(a_n, columns.similarity(t), (image_nd @ label_td.T)[:, is_single_t])
        for a_n, t in pairs
    ]
    np.testing.assert_allclose(of.explained(activation_un, best_u, fit_u), expected, atol=2e-6)
    alone = TwoWords(columns, image_nd, label_td, np.zeros(T, bool))
    np.testing.assert_allclose(alone.explained(activation_un, best_u, fit_u), abs(fit_u), atol=1e-6)
    still = np.full((1, 90), 3, np.float32)
    assert of.explained(still, best_u[:1], np.zeros(1, np.float32)).tolist() == [0]


def test_a_label_is_reliable_only_if_it_explains_enough_with_one_more_word():
    rng = np.random.default_rng(5)
    image_nd, label_td, null = some_words(rng)
    # Each follows a label, and less and less what takes many words to say.
    weight_u1 = np.linspace(1.5, 0, 20)[:, None]
    activation_un = (label_td[:20] + weight_u1 * small_layers.unit_rows(rng, 20, 12)) @ image_nd.T
    evidence = small_layers.mined(activation_un, image_nd, 20)
    bars = {"apart": 1, "explained": 0, "least_fit": -1, "enough": 0}
    free, extra = label_units("csp_plus", evidence, null, label_td, {**bars, "two_words": 0})
    for share in (0.8, 0.9, 0.95):
        told, again = label_units(
            "csp_plus", evidence, null, label_td, {**bars, "two_words": share}
        )
        is_enough_u = extra["two_words"] >= np.float32(share) * extra["reach"]
        assert (told.reliable_u == (free.reliable_u & is_enough_u)).all()
        assert (again["two_words"] == extra["two_words"]).all()
        np.testing.assert_array_equal(told.score_uk, free.score_uk)
    told_u = extra["two_words"] < 0.9 * extra["reach"]
    assert 0 < (free.reliable_u & told_u).sum() < free.reliable_u.sum()
    assert (extra["two_words"] >= extra["fit"] - 1e-6).all()


def test_that_two_words_explain_too_little_is_said_with_how_little(tmp_path):
    bundle = built_with(tmp_path, apart=1, explained=0, least_fit=-1, enough=0, two_words=1)
    n_said = 0
    for layer in bundle.layers("small"):
        scores = bundle.scores("small", layer, "csp_plus")
        two_u, reach_u = (
            bundle.score_array("small", layer, "csp_plus", name) for name in ("two_words", "reach")
        )
        agree_u = bundle.score_array("small", layer, "csp_plus", "halves_agree")
        is_high_u = np.asarray(scores.best_percentile_u) >= np.float32(0.95)
        assert (scores.reliable_u == (is_high_u & agree_u & (two_u >= reach_u))).all()
        for unit in np.flatnonzero(is_high_u & agree_u & (two_u < reach_u)).tolist():
            neuron = NeuronRef("small", layer, unit)
            why = (
                f"with the word that adds most it explains {two_u[unit]:.2f} (correlation) of "
                f"{reach_u[unit]:.2f} that the images explain, and CSP+ asks for 100 %"
            )
            assert why in str(heading_of(bundle, neuron, "csp_plus").reasons[-1])
            assert why in str(stored(bundle, neuron, "csp_plus").verdict)
            n_said += 1
    assert n_said


def built_with(folder, **bars):
    settings = {f"csp_plus.{name}": bar for name, bar in bars.items()}
    recipe = changed(toys.SMALL, {"methods": "csp_plus", **settings})
    return build(toys.request(folder, folder / "a.csp", recipe=recipe))


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    folder = tmp_path_factory.mktemp("relying")
    return built_with(folder, apart=0, explained=0, least_fit=-1, enough=0, two_words=0)


def test_that_a_score_is_too_small_is_said_with_how_small(tmp_path):
    bundle = built_with(tmp_path, apart=1, explained=0, least_fit=-1, enough=2.9, two_words=0)
    n_said = 0
    for layer in bundle.layers("small"):
        scores = bundle.scores("small", layer, "csp_plus")
        reach_u = bundle.score_array("small", layer, "csp_plus", "reach")
        agree_u = bundle.score_array("small", layer, "csp_plus", "halves_agree")
        is_less_u = np.asarray(scores.score_uk)[:, 0] < np.float32(2.9) * reach_u
        is_high_u = np.asarray(scores.best_percentile_u) >= np.float32(0.95)
        assert (scores.reliable_u == (is_high_u & agree_u & ~is_less_u)).all()
        for unit in np.flatnonzero(is_high_u & agree_u & is_less_u).tolist():
            score, reach = float(scores.score_uk[unit, 0]), float(reach_u[unit])
            neuron = NeuronRef("small", layer, unit)
            why = f"its score is {score:.2f} of {reach:.2f} that the images explain, and CSP+ asks"
            assert why in str(heading_of(bundle, neuron, "csp_plus").reasons[-1])
            assert f"{why} for 290 %" in str(stored(bundle, neuron, "csp_plus").verdict)
            n_said += 1
    assert n_said


def test_that_another_meaning_is_near_is_said_with_how_near(refused):
    n_said = 0
    for layer in refused.layers("small"):
        scores = refused.scores("small", layer, "csp_plus")
        share_u = refused.score_array("small", layer, "csp_plus", "next")
        agree_u = refused.score_array("small", layer, "csp_plus", "halves_agree")
        is_high_u = np.asarray(scores.best_percentile_u) >= np.float32(0.95)
        assert (scores.reliable_u == (is_high_u & agree_u & (share_u <= 0))).all()
        for unit in np.flatnonzero(is_high_u & agree_u & (share_u > 0)).tolist():
            neuron = NeuronRef("small", layer, unit)
            *_, why = heading_of(refused, neuron, "csp_plus").reasons
            for text in (str(why), str(stored(refused, neuron, "csp_plus").verdict)):
                percent = float(text.split(f"{WHY} ")[1].split(" %")[0])
                assert 0 <= percent - 100 * share_u[unit] <= 0.1001
                assert "CSP+ asks for 0 % at most" in text
            n_said += 1
    assert n_said


@pytest.mark.parametrize("name", METHODS["csp_plus"].stores.signals)
def test_a_signal_that_is_no_number_for_each_unit_is_refused(refused, tmp_path, name):
    """With the right number of rows, so that nothing is wrong before it is used."""
    path = shutil.copytree(refused.path, tmp_path / "a.csp")
    stage = "scores:small/second@mean/csp_plus"
    file = place(path, stage, f"{name}.npy")
    np.save(file, np.stack([np.load(file)] * 3, axis=1))
    redo(path)
    bundle = Bundle.open(path)
    said = f"{name}.npy of stage {stage} is no number for each unit"
    with pytest.raises(BundleError, match=said):
        KeptScores(bundle, "small", "second@mean", "csp_plus").numbers_of(0)
    with pytest.raises(BundleError, match=said):
        features(bundle, Memo(), "small", "second@mean", "csp_plus")


LATER = (
    {"apart": ("next",), "enough": (), "two_words": ("two_words",)},
    {"two_words": ("two_words",)},
)
"""Parameters that versions of CSP+ lack, the first and the third, with their arrays."""


def of_version(version, lacks, bundle, path):
    """As an earlier version of CSP+ wrote it."""
    arrays = {
        f"{start}{name}" for names in lacks.values() for name in names for start in ("", "null_")
    }
    shutil.copytree(bundle.path, path)
    with BundleWriter(path) as writer:
        for name in [name for name in bundle.manifest.stages if name.startswith("scores:")]:
            record = bundle.stage(name)
            params = {k: v for k, v in record.params.items() if k not in lacks}
            params["method_version"] = version
            made = {"version": record.version, "needs": record.needs, "inputs": record.inputs}
            with writer.stage(name, params=params, **made) as files:
                for array in (file.removesuffix(".npy") for file in record.files):
                    if array not in arrays:
                        files.array(array, bundle.array(name, array))
                files.facts.update(record.facts)
    return Bundle.open(path)


@pytest.mark.parametrize(("version", "lacks"), [(1, LATER[0]), (3, LATER[1])])
def test_a_bundle_of_an_earlier_version_is_judged_by_what_it_stored(
    refused, tmp_path, version, lacks
):
    """It has neither the shares nor the bars; its labels stay what they were."""
    old = of_version(version, lacks, refused, tmp_path / "old.csp")
    assert verify(old) == []
    for layer in old.layers("small"):
        assert why_not(old, "small", layer, "csp_plus") == "another version of the method made them"
        scores = old.scores("small", layer, "csp_plus")
        for unit in np.flatnonzero(scores.count_u).tolist():
            neuron = NeuronRef("small", layer, unit)
            heading = heading_of(old, neuron, "csp_plus")
            assert heading.label.is_reliable == scores.reliable_u[unit]
            said = str([*heading.reasons, stored(old, neuron, "csp_plus").verdict])
            assert "with the word that adds most" not in said
            assert version == 3 or WHY not in said


def test_the_bar_is_recorded(refused):
    manifest = json.loads((refused.path / "manifest.json").read_text("utf-8"))
    kept = {s["params"]["apart"] for n, s in manifest["stages"].items() if n.startswith("scores:")}
    assert kept == {0}
    assert METHODS["csp_plus"].params["apart"] == 0.96
