"""Candidates in whole builds: what is asked, what joins the vocabulary, what is kept or redone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.captioners import MODES
from csp_engine.errors import InputError, MissingModelError, StaleError
from csp_engine.pipeline.recipe import Recipe, changed
from csp_engine.pipeline.stages.candidates import image_rows
from csp_engine.types import ContrastSet, Exemplars
from tests.worlds import toys
from tests.worlds.small_captioner import NOTHING, small_captioner

ENCODER = toys.ColourEncoder().fingerprint
LAYERS = ("first@mean", "second@mean")
RECIPE = replace(toys.SMALL, n_candidates=3, n_beams=8)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner") / "small"
    return small_captioner(folder, encoder_fingerprint=ENCODER)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner") / "other"
    return small_captioner(folder, encoder_fingerprint=ENCODER, seed=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory, captioner):
    """A folder with images, a bundle with candidates and one without; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    pipeline.build(request(folder, folder / "plain.csp"))
    pipeline.build(request(folder, folder / "done.csp", captioner=captioner))
    return folder


@pytest.fixture
def own(world, tmp_path, captioner):
    """A bundle with candidates of this test's own."""
    pipeline.build(request(world, tmp_path / "own.csp", captioner=captioner))
    return tmp_path / "own.csp"


def request(folder, out, **changes):
    return toys.request(folder, out, **{"recipe": RECIPE, **changes})


def recipe_of(path, **values):
    return changed(Recipe.from_json(Bundle.open(path).manifest.recipe), values)


# ---------------------------------------------------------------- what a captioner is shown


def test_images_shown_by_hand():
    exemplars = Exemplars(
        np.array([[5, 6, 7], [1, 2, 0], [0, 0, 0]], np.int32),
        np.ones((3, 3), np.float32),
        np.array([3, 2, 0], np.int32),
    )
    contrast = ContrastSet(
        np.array([[[8, 1], [8, 2], [9, 3]], [[3, 4], [0, 0], [0, 0]], [[0, 0]] * 3], np.int32),
        np.ones((3, 3, 2), np.float32),
        np.zeros((3, 3, 2), np.float32),
        np.array([[2, 2, 2], [0, 0, 0], [0, 0, 0]], np.int32),
        np.array([4, 0, 0], np.int32),
        np.zeros(3, np.float32),
    )
    shown = [(u, m, a.tolist(), q.tolist()) for u, m, a, q in image_rows(exemplars, contrast, 3)]
    assert shown == [
        (0, "exemplars", [5, 6, 7], []),
        (0, "contrast", [5, 6, 7], [8, 9]),
        (1, "exemplars", [1, 2], []),
    ]
    first = [(a.tolist(), q.tolist()) for _, _, a, q in image_rows(exemplars, contrast, 1)]
    assert first == [([5], []), ([5], [8]), ([1], [])]


def test_the_table_is_what_the_captioner_says(world, captioner):
    bundle = Bundle.open(world / "done.csp")
    image_nd = np.asarray(bundle.image_vectors())
    for layer in LAYERS:
        table = bundle.candidates("small", layer)
        sets = bundle.table(f"candidates:small/{layer}", "sets")
        exemplars, contrast = bundle.exemplars("small", layer), bundle.contrast("small", layer)
        assert set(table["mode"]) == set(MODES)
        for unit in (0, 3, 7):
            for mode in MODES:
                rows = table[(table["unit"] == unit) & (table["mode"] == mode)]
                activating = image_nd[exemplars.image_uk[unit, :4]]
                quiet = contrast.image_ukj[unit, :4, 0][contrast.n_partner_uk[unit, :4] > 0]
                shown = image_nd[sorted(set(quiet.tolist()))]
                (said,) = captioner.describe(
                    [type_of_set(activating, shown if mode == "contrast" else shown[:0])],
                    n_phrases=3,
                    n_beams=8,
                )
                assert list(rows["text"]) == [caption.text for caption in said.phrases]
                assert list(rows["rank"]) == list(range(len(rows)))
                expected = [(c.log_p, c.log_prior, c.pmi) for c in said.phrases]
                np.testing.assert_allclose(
                    rows[["log_p", "log_prior", "pmi"]].to_numpy(), expected, atol=1e-4
                )
                row = sets[(sets["unit"] == unit) & (sets["mode"] == mode)].iloc[0]
                assert row["p_nothing"] == pytest.approx(said.p_nothing, abs=1e-4)
                assert row["n_exemplar"] == 4
                assert row["n_contrast"] == (len(shown) if mode == "contrast" else 0)


def type_of_set(activating, quiet):
    from csp_engine.captioners import ImageSet

    return ImageSet(np.ascontiguousarray(activating), np.ascontiguousarray(quiet))


# ---------------------------------------------------------------- what joins the vocabulary


def test_candidates_of_all_layers_join_the_vocabulary_with_their_source(world):
    bundle = Bundle.open(world / "done.csp")
    source = dict(zip(bundle.labels()["text"], bundle.labels()["source"], strict=True))
    from_file = [text for text, origin in source.items() if "words.txt" in origin]
    assert sorted(from_file) == sorted(toys.WORDS)
    assert list(source)[: len(toys.WORDS)] == toys.WORDS
    proposed: dict[str, set[str]] = {}
    for layer in LAYERS:
        table = bundle.candidates("small", layer)
        for mode, text in zip(table["mode"], table["text"], strict=True):
            label = text.replace("_", " ").lower()
            proposed.setdefault(label, set()).add(f"captioner: {mode}")
    assert NOTHING not in source
    assert "deep blue" in proposed
    for label, modes in proposed.items():
        own = {part for part in source[label].split(";") if part.startswith("captioner: ")}
        assert own == modes
    assert set(source) == {*toys.WORDS, *proposed}
    assert source["red"].startswith("words.txt;captioner: ")
    assert bundle.label_vectors().shape[0] == len(source)
    described = bundle.manifest.inputs["vocabulary"]
    assert described["n_labels"] == len(source)
    assert described["n_candidates"] == len(source) - len(toys.WORDS)
    assert verify(bundle) == []


def test_methods_choose_from_the_larger_vocabulary(world):
    bundle = Bundle.open(world / "done.csp")
    labels = bundle.labels()["text"]
    chosen = {
        labels[int(t)]
        for layer in LAYERS
        for t in np.asarray(bundle.scores("small", layer, "csp").label_uk).ravel()
    }
    assert chosen - set(toys.WORDS)


def test_units_without_exemplars_get_no_candidates(world, tmp_path, captioner):
    import torch

    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.models import target_model

    network = toys.network()
    with torch.no_grad():
        network.second.weight[4] = 0
        network.second.bias[4] = -1
    model = target_model(network, toys.PREPROCESSING, name="dead", spec="python:a:b")
    target = pipeline.Target(model, tuple(select_layers(model, ["last"])))
    bundle = pipeline.build(
        request(world, tmp_path / "a.csp", targets=(target,), captioner=captioner)
    )
    assert bundle.exemplars("dead", "last@mean").count_u[4] == 0
    table = bundle.candidates("dead", "last@mean")
    assert 4 not in set(table["unit"])
    assert {0, 1, 2, 3, 5} <= set(table["unit"])


# ---------------------------------------------------------------- fresh and stale


def test_without_a_captioner_nothing_changes(world):
    bundle = Bundle.open(world / "plain.csp")
    assert bundle.candidates("small", "first@mean") is None
    assert "captioner" not in bundle.manifest.inputs
    assert not any(name.startswith(("candidates", "words")) for name in bundle.manifest.stages)
    done = toys.content(world / "done.csp")
    for name, entry in toys.content(world / "plain.csp").items():
        if not name.startswith(("vocabulary", "separation", "scores", "index", "projection")):
            assert done[name] == entry


def test_building_again_asks_nothing(world, own, captioner):
    before = toys.content(own)
    stages: list[str] = []
    pipeline.build(
        request(world, own, captioner=captioner), lambda stage, done, total: stages.append(stage)
    )
    assert stages == []
    assert toys.content(own) == before == toys.content(world / "done.csp")


@pytest.mark.slow
def test_another_captioner_is_asked_anew(world, own, other, tmp_path):
    before = toys.content(own)
    pipeline.build(request(world, own, captioner=other))
    after = toys.content(own)
    assert before["contrast:small/first@mean"] == after["contrast:small/first@mean"]
    assert before["words"] == after["words"]
    for name in ("candidates:small/first@mean", "vocabulary", "scores:small/first@mean/csp"):
        assert before[name][0] != after[name][0]
    pipeline.build(request(world, tmp_path / "fresh.csp", captioner=other))
    assert after == toys.content(tmp_path / "fresh.csp")
    assert Bundle.open(own).manifest.inputs["captioner"]["fingerprint"] == other.fingerprint


@pytest.mark.slow
def test_building_without_the_captioner_takes_its_words_away(world, own):
    pipeline.build(request(world, own))
    assert toys.content(own) == toys.content(world / "plain.csp")
    assert "captioner" not in Bundle.open(own).manifest.inputs
    assert "n_candidates" not in Bundle.open(own).manifest.inputs["vocabulary"]


@pytest.mark.parametrize("values", [{"n_candidates": 2}, {"n_beams": 9}, {"prior_weight": 0.5}])
def test_parameters_of_the_search_are_part_of_the_key(own, values, captioner):
    before = toys.content(own)
    with pytest.raises(InputError, match=r"made again.*name it with --captioner"):
        pipeline.relabel(own, recipe_of(own, **values))
    assert toys.content(own) == before
    pipeline.relabel(own, recipe_of(own, **values), None, toys.ColourEncoder(), captioner=captioner)
    after = toys.content(own)
    assert before["candidates:small/first@mean"][0] != after["candidates:small/first@mean"][0]


@pytest.mark.slow
def test_a_captioner_for_another_encoder_is_refused_before_anything_is_written(world, tmp_path):
    stranger = small_captioner(tmp_path / "stranger", encoder_fingerprint="f" * 64)
    with pytest.raises(StaleError, match="made for the encoder with fingerprint ffffffffffff"):
        pipeline.build(request(world, tmp_path / "a.csp", captioner=stranger))
    assert not (tmp_path / "a.csp").exists()


# ---------------------------------------------------------------- labelling again


def test_relabel_keeps_candidates(own):
    before = toys.content(own)
    pipeline.relabel(own, recipe_of(own, gamma=0.5))
    after = toys.content(own)
    kept = [n for n in before if n.startswith(("candidates", "words", "vocabulary", "contrast"))]
    assert {name: before[name] for name in kept} == {name: after[name] for name in kept}
    assert before["scores:small/first@mean/csp"] != after["scores:small/first@mean/csp"]


@pytest.mark.slow
def test_new_words_are_merged_with_the_candidates(world, own, tmp_path, captioner):
    words = toys.words(tmp_path, ["Zebra", "deep blue", "red"])
    with pytest.raises(InputError, match="name it with --encoder"):
        pipeline.relabel(own, recipe_of(own), words)
    bundle = pipeline.relabel(own, recipe_of(own), words, toys.ColourEncoder())
    source = dict(zip(bundle.labels()["text"], bundle.labels()["source"], strict=True))
    assert list(source)[:3] == ["zebra", "deep blue", "red"]
    assert source["zebra"] == "words.txt"
    assert source["deep blue"].startswith("words.txt;captioner: ")
    assert not set(source) & (set(toys.WORDS) - {"red"})
    pipeline.build(request(world, tmp_path / "fresh.csp", vocabulary=words, captioner=captioner))
    assert toys.content(own) == toys.content(tmp_path / "fresh.csp")
    assert verify(bundle) == []


def test_other_templates_keep_the_candidates_and_the_words(own):
    recipe = recipe_of(own, templates=("a {}",))
    before = list(Bundle.open(own).labels()["text"])
    bundle = pipeline.relabel(own, recipe, None, toys.ColourEncoder())
    assert list(bundle.labels()["text"]) == before


@pytest.mark.slow
def test_other_contrast_images_need_the_captioner(world, own, tmp_path, captioner):
    before = toys.content(own)
    recipe = recipe_of(own, threshold="quantile:0.3")
    assert pipeline.needs_captions(Bundle.open(own), recipe)
    assert not pipeline.needs_captions(Bundle.open(own), recipe_of(own, gamma=0.1))
    with pytest.raises(InputError, match="--captioner"):
        pipeline.relabel(own, recipe, None, toys.ColourEncoder())
    with pytest.raises(InputError, match="--encoder"):
        pipeline.relabel(own, recipe, captioner=captioner)
    assert toys.content(own) == before
    pipeline.relabel(own, recipe, None, toys.ColourEncoder(), captioner=captioner)
    pipeline.build(request(world, tmp_path / "fresh.csp", recipe=recipe, captioner=captioner))
    assert toys.content(own) == toys.content(tmp_path / "fresh.csp")


@pytest.mark.slow
def test_a_captioner_can_join_later(world, tmp_path, captioner):
    path = pipeline.build(request(world, tmp_path / "a.csp")).path
    pipeline.relabel(path, recipe_of(path), None, toys.ColourEncoder(), captioner=captioner)
    assert toys.content(path) == toys.content(world / "done.csp")


@pytest.mark.slow
def test_words_survive_an_interruption_between_layers(world, own, other, tmp_path):
    """The vocabulary leaves with the first new candidates; the words it was made of must not."""

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "candidates of second@mean":
            raise KeyboardInterrupt

    encoder = toys.ColourEncoder()
    with pytest.raises(KeyboardInterrupt):
        pipeline.relabel(own, recipe_of(own), None, encoder, stop, other)
    broken = Bundle.open(own)
    assert not broken.has("vocabulary")
    assert pipeline.needs_texts(broken, recipe_of(own), None)
    pipeline.relabel(own, recipe_of(own), None, encoder, captioner=other)
    pipeline.build(request(world, tmp_path / "fresh.csp", captioner=other))
    assert toys.content(own) == toys.content(tmp_path / "fresh.csp")


@pytest.mark.slow
def test_the_captioner_of_a_bundle_is_found_again_or_missed(own, tmp_path, captioner):
    bundle = Bundle.open(own)
    assert pipeline.bundle_captioner(bundle).fingerprint == captioner.fingerprint
    moved = small_captioner(tmp_path / "moved", encoder_fingerprint=ENCODER)
    path = pipeline.relabel(own, recipe_of(own), None, toys.ColourEncoder(), captioner=moved).path
    assert Bundle.open(path).manifest.inputs["captioner"]["spec"] == moved.spec
    small_captioner(tmp_path / "moved", encoder_fingerprint=ENCODER, seed=5)
    with pytest.raises(StaleError, match="is not the one that made the candidates"):
        pipeline.bundle_captioner(Bundle.open(path))
    for file in (tmp_path / "moved").iterdir():
        file.unlink()
    (tmp_path / "moved").rmdir()
    with pytest.raises(MissingModelError, match="There is no captioner"):
        pipeline.bundle_captioner(Bundle.open(path))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"n_candidates": 0}, "n_candidates is 0"),
        ({"n_beams": 2, "n_candidates": 3}, "n_beams is 2; it must be at least 3"),
        ({"prior_weight": 1.5}, "between 0 and 1"),
    ],
)
def test_bad_parameters_are_one_sentence(values, sentence):
    with pytest.raises(InputError, match=sentence):
        changed(Recipe(), values)
