"""CSP+ leads what is built by default, and gives way where a copy lacks what it needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle, KeptScores, copy_slim, read_contrast, verify
from csp_engine.errors import BundleError, InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.hashing import sha256_json
from csp_engine.methods import resolve_params
from csp_engine.methods.csp_plus import CSP_PLUS
from csp_engine.methods.scoring.random_sets import noise_activations
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import PRESETS, Recipe, changed
from csp_engine.views.comparison import Side, compare
from csp_engine.views.finding.query import Query
from csp_engine.views.finding.standing import judged
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.views.random_sets import live_null
from tests.engine.test_cli import run
from tests.worlds import toys

DEFAULT = PRESETS["default"].methods
ENCODER = ("--encoder", toys.ColourEncoder.spec)
NEEDS = "csp_plus is left out and csp, semanticlens, clip_dissect ran: it needs activations over "


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    recipe = changed(toys.SMALL, {"methods": DEFAULT, "csp_plus.least_fit": 0.1})
    return build(toys.request(folder, folder / "a.csp", recipe=recipe))


@pytest.fixture
def slim(whole, tmp_path):
    return copy_slim(whole, tmp_path / "slim.csp")


def new_words(folder):
    toys.words(folder, ["red", "crimson", "grey"])
    return folder / "words.txt"


def test_csp_plus_comes_first_by_default_and_is_not_in_the_paper(whole):
    assert Recipe().methods == DEFAULT == ("csp_plus", "csp", "semanticlens", "clip_dissect")
    assert PRESETS["paper"].methods == DEFAULT[1:]
    for layer in whole.layers("small"):
        assert whole.methods("small", layer) == DEFAULT
        assert whole.scores("small", layer, "csp_plus").count_u.any()
    assert verify(whole) == []


@pytest.mark.slow
def test_a_slim_copy_gets_new_words_by_the_other_methods_and_says_so(slim, tmp_path, capsys):
    words = new_words(tmp_path)
    code, out, _ = run(capsys, "label", slim.path, "-v", words, *ENCODER, "--json")
    assert code == 0
    (said,) = [each for each in json.loads(out)["notices"] if "left out" in each]
    assert said.startswith(NEEDS)
    done = Bundle.open(slim.path)
    assert done.manifest.recipe["methods"] == list(DEFAULT[1:])
    assert not [name for name in done.manifest.recipe if name.startswith("csp_plus")]
    assert not [name for name in done.manifest.stages if "csp_plus" in name]
    assert list(done.labels()["text"]) == ["red", "crimson", "grey"]
    assert verify(done) == []
    # What went is no longer asked for, so nothing is said again.
    code, out, _ = run(capsys, "label", slim.path, "--gamma", "0.5")
    assert code == 0
    assert "left out" not in out


def test_labels_that_are_there_need_nothing_any_more(slim, capsys):
    code, out, _ = run(capsys, "label", slim.path, "--gamma", "0.5")
    assert code == 0
    assert "left out" not in out
    done = Bundle.open(slim.path)
    assert done.methods("small", "first@mean") == DEFAULT
    assert done.manifest.recipe["csp_plus.least_fit"] == 0.1


@pytest.mark.parametrize("named", [("--method", "csp_plus"), ("--set", "methods=csp,csp_plus")])
def test_a_method_that_was_asked_for_by_name_is_refused_instead(slim, tmp_path, capsys, named):
    before = (slim.path / "manifest.json").read_bytes()
    code, _, err = run(capsys, "label", slim.path, "-v", new_words(tmp_path), *ENCODER, *named)
    assert code == 2
    assert "'csp_plus' needs activations over the whole probe set" in err
    assert (slim.path / "manifest.json").read_bytes() == before


def test_where_no_method_would_be_left_the_refusal_says_what_is_needed(slim, tmp_path):
    words = toys.words(tmp_path, ["red", "crimson"])
    recipe = changed(Recipe.from_json(slim.manifest.recipe), {"methods": "csp_plus"})
    told = []
    with pytest.raises(BundleError, match="'csp_plus' needs activations"):
        relabel(slim.path, recipe, words, toys.ColourEncoder(), told=told.append)
    with pytest.raises(BundleError, match="'csp_plus' needs activations"):
        relabel(slim.path, Recipe.from_json(slim.manifest.recipe), words, toys.ColourEncoder())
    assert told == []


def test_a_whole_bundle_gets_new_words_by_all_methods(whole, tmp_path, capsys):
    copy = shutil.copytree(whole.path, tmp_path / "b.csp")
    code, out, _ = run(capsys, "label", copy, "-v", new_words(tmp_path), *ENCODER)
    assert code == 0
    assert "left out" not in out
    assert Bundle.open(copy).methods("small", "first@mean") == DEFAULT


@pytest.mark.slow
def test_an_older_bundle_keeps_its_methods_unless_the_preset_is_named(whole, tmp_path, capsys):
    folder = tmp_path / "old"
    build(toys.request(folder, folder / "a.csp"))
    code, _, _ = run(capsys, "label", folder / "a.csp", "--gamma", "0.5")
    assert code == 0
    assert Bundle.open(folder / "a.csp").methods("small", "first@mean") == DEFAULT[1:]
    code, _, _ = run(
        capsys, "label", folder / "a.csp", *ENCODER, "--preset", "default",
        "--set", "n_exemplars=6", "--set", "n_score=4", "--set", "n_null=30",
    )  # fmt: skip
    assert code == 0
    assert Bundle.open(folder / "a.csp").methods("small", "first@mean") == DEFAULT


# ---------------------------------------------------------------- random image sets of CSP+


def test_concept_vectors_of_random_image_sets_are_kept_and_judge(whole):
    for layer in whole.layers("small"):
        kept = KeptScores(whole, "small", layer, "csp_plus")
        null_rd = kept.null_vectors()
        assert null_rd.shape == (30, whole.label_vectors().shape[1])
        np.testing.assert_allclose(np.linalg.norm(null_rd, axis=1), 1, atol=1e-5)
        # They are what the method says of the noise itself.
        again = noise_labels(whole, layer)
        np.testing.assert_allclose(null_rd, again.vector_ud, atol=1e-5)
        best_r = np.sort(again.score_ut.max(axis=1))
        scores = whole.scores("small", layer, "csp_plus")
        has_label = np.flatnonzero(scores.count_u)
        below_u = np.searchsorted(best_r, scores.score_uk[has_label, 0] - 1e-4)
        np.testing.assert_allclose(scores.best_percentile_u[has_label], below_u / 31, atol=2.1 / 31)


def noise_labels(bundle, layer):
    """What CSP+ says of the activations that the random image sets were drawn with."""
    params = KeptScores(bundle, "small", layer, "csp_plus").method_params
    seed = int(bundle.stage("null").params["seed"])
    noise_rn = noise_activations(bundle.n_images, 0, 30, seed)
    sources = {
        "activations": lambda units: noise_rn[units],
        "texts": lambda _: bundle.labels()["text"].tolist(),
    }
    evidence = Evidence(
        bundle.random_sets(), read_contrast(bundle, "null"), bundle.image_vectors()
    ).asked_by("a test", CSP_PLUS.needs, sources)
    label_td = np.asarray(bundle.label_vectors())
    return CSP_PLUS.score(evidence, label_td, resolve_params(CSP_PLUS, params))


def test_search_and_comparison_have_a_chance_line(whole):
    memo, place = Memo(), ("small", "first@mean", "csp_plus")
    assert len(live_null(whole, memo, *place)) == 30
    query = Query("text", "it", np.asarray(whole.label_vectors()[0], np.float32))
    rows = found_neurons(whole, memo, "csp_plus", query)
    assert rows["match_null"].notna().all()
    found = judged(whole, memo, query, "csp_plus", rows)
    assert (found.method, found.n_draws) == ("csp_plus", 30)
    sides = [Side("a", whole, "small", layer) for layer in whole.layers("small")]
    compared = compare(memo, *sides, "csp_plus")
    assert np.isfinite(compared.bars).all()


def test_an_older_bundle_is_judged_by_another_method_and_verified_as_before(
    whole, tmp_path, monkeypatch
):
    copy = Path(shutil.copytree(whole.path, tmp_path / "old.csp"))
    body = json.loads((copy / "manifest.json").read_text())
    for record in body["stages"].values():
        if record["files"].pop("null_vector.npy", None):
            (copy / record["directory"] / "null_vector.npy").unlink()
    del body["self_sha256"]
    body["self_sha256"] = sha256_json(body)
    (copy / "manifest.json").write_text(json.dumps(body))
    old = Bundle.open(copy)
    assert verify(old) == []
    memo = Memo()
    assert live_null(old, memo, "small", "first@mean", "csp_plus") is None
    query = Query("text", "it", np.asarray(old.label_vectors()[0], np.float32))
    rows = found_neurons(old, memo, "csp_plus", query)
    assert judged(old, memo, query, "csp_plus", rows).method == "csp"


@pytest.mark.parametrize("given", ["csp,csp", " csp ,csp,", ["csp", "csp"], ("csp",)])
def test_a_method_named_twice_is_run_once(given):
    assert changed(toys.SMALL, {"methods": given}).methods == ("csp",)
    assert Recipe.restated({"methods": list(DEFAULT)}, {"methods": given}).methods == ("csp",)


def test_repeated_modes_are_asked_once_and_repeated_templates_stay_weights():
    assert changed(Recipe(), {"caption_modes": "contrast, contrast"}).caption_modes == ("contrast",)
    assert changed(Recipe(), {"templates": ["a {}", "a {}", "b {}"]}).templates == (
        "a {}", "a {}", "b {}",
    )  # fmt: skip


@pytest.mark.parametrize("given", ["", ",", []])
def test_no_method_at_all_is_refused(given):
    with pytest.raises(InputError, match="No label method is given"):
        changed(Recipe(), {"methods": given})


def test_a_recipe_in_python_names_each_method_once():
    with pytest.raises(InputError, match="methods has 'csp' twice; give each method once"):
        Recipe(methods=("csp", "csp"))
