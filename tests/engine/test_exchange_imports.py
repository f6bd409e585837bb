"""Labels and NeuroLens runs of other tools, taken into bundles."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import zarr

from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError, StaleError
from csp_engine.exchange import (
    export_labels,
    import_labels,
    import_neurolens,
    label_rows,
    read_neurolens,
)
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import PRESETS, changed
from csp_engine.probe.listing import read_probe_set
from csp_engine.search import rank
from csp_engine.types import TextRecipe
from csp_engine.words.templates import embed_labels
from tests.worlds import toys

PAPER = changed(PRESETS["paper"], {"n_exemplars": 5, "n_score": 3, "n_null": 30, "n_labels": 4})
TEMPLATES = ("a {}", "{}")


class OtherEncoder(toys.ColourEncoder):
    """Another model of the same width."""

    def __init__(self) -> None:
        super().__init__()
        self._projection = self._projection[::-1].copy()
        self.fingerprint = "f" * 64


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The toy world built by the paper's rules, and its folder."""
    folder = tmp_path_factory.mktemp("world")
    recipe = changed(PAPER, {"templates": TEMPLATES})
    return folder, build(toys.request(folder, folder / "built.csp", recipe=recipe))


@pytest.fixture(scope="module")
def once_built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return build(toys.request(folder, folder / "own.csp")).path


@pytest.fixture
def own_bundle(once_built, tmp_path) -> Bundle:
    """A bundle of the test's own, which it may change."""
    shutil.copytree(once_built, tmp_path / "own.csp")
    return Bundle.open(tmp_path / "own.csp")


# ------------------------------------------------------------------------------- label tables


def write_table(path, text):
    path.write_text(text, "utf-8")
    return path


def test_imported_labels_stand_beside_the_others_and_export_again(own_bundle, tmp_path):
    table = write_table(
        tmp_path / "milan.csv",
        "layer,unit,description,score\nfirst,2,not in the vocabulary,0.5\nfirst,2,red,0.75\n"
        "second,0,null,\n",
    )
    layers = own_bundle.layers("small")
    assert import_labels(table, own_bundle.path) == 2
    bundle = Bundle.open(own_bundle.path)
    rows = label_rows(bundle, methods=["imported-milan"], n_labels=9)
    assert rows[["layer", "unit", "rank", "description"]].to_numpy().tolist() == [
        ["first", 2, 1, "red"],
        ["first", 2, 2, "not in the vocabulary"],
        ["second", 0, 1, "null"],
    ]
    assert rows["score"].tolist()[:2] == [0.75, 0.5]
    assert rows["margin"][0] == 0.25
    assert rows[["margin", "score"]].isna().to_numpy().tolist()[1:] == [[True, False], [True, True]]
    assert rows["percentile"].isna().all()
    assert not rows["reliable"].any()
    assert bundle.methods("small", layers[0])[-1] == "imported-milan"
    again = tmp_path / "again.csv"
    export_labels(bundle, again, methods=["imported-milan"], n_labels=9)
    assert import_labels(again, own_bundle.path, name="twice") == 2
    bundle = Bundle.open(own_bundle.path)
    for layer in layers:
        first, second = (bundle.scores("small", layer, f"imported-{n}") for n in ("milan", "twice"))
        assert np.array_equal(first.label_uk, second.label_uk)
        assert np.array_equal(first.score_uk, second.score_uk, equal_nan=True)
    assert verify(bundle) == []


def test_with_the_encoder_imported_labels_can_be_searched(own_bundle, tmp_path):
    table = write_table(
        tmp_path / "t.csv", "layer,unit,description\nfirst,1,blue\nsecond,3,green\nsecond,4,red\n"
    )
    encoder = toys.ColourEncoder()
    import_labels(table, own_bundle.path, name="mine", encoder=encoder)
    bundle = Bundle.open(own_bundle.path)
    import faiss

    index = faiss.read_index(str(bundle.index_path("imported-mine")))
    rows = bundle.index_rows("imported-mine")
    recipe = TextRecipe(toys.SMALL.templates)
    for text, layer, unit in (("blue", "first", 1), ("green", "second", 3), ("red", "second", 4)):
        query_d = embed_labels(encoder.embed_texts, [text], recipe)[0]
        found = rank(index, query_d, 5)
        best = rows.iloc[found.row_m[0]]
        assert (best["layer"].split("@")[0], best["unit"]) == (layer, unit)
        assert found.score_m[0] == pytest.approx(1, abs=1e-5)
        assert len(found) == 3  # neurons without an imported label are never found
    with pytest.raises(StaleError, match="did not make own"):
        import_labels(table, own_bundle.path, encoder=OtherEncoder())


def test_imported_labels_survive_new_labels_but_not_new_neurons(own_bundle, tmp_path):
    table = write_table(tmp_path / "t.csv", "layer,unit,description\nfirst,1,blue\n")
    import_labels(table, own_bundle.path, name="mine", encoder=toys.ColourEncoder())
    stages = {"scores:small/first@mean/imported-mine", "index:imported-mine"}
    bundle = relabel(own_bundle.path, changed(toys.SMALL, {"gamma": 0.25}))
    assert stages <= set(bundle.manifest.stages)
    bundle = relabel(own_bundle.path, changed(toys.SMALL, {"n_exemplars": 5}))
    assert not stages & set(bundle.manifest.stages)


@pytest.mark.parametrize(
    ("text", "arguments", "named"),
    [
        ("layer,unit,description\nthird,0,a\n", {}, "only first@mean, second@mean for small"),
        ("layer,unit,description\nfirst,8,a\n", {}, "unit 8 .*units 0 to 7"),
        ("layer,unit,description,model\nfirst,0,a,big\n", {}, "'big', which own lacks"),
        ("layer,unit,description\nfirst,0,a\n", {"model": "big"}, "'big', which own lacks"),
        ("layer,unit,description\nfirst,0,a\nfirst@mean,1,a\n", {}, "two ways"),
        ("layer,unit,description\nfirst,0,a\n", {"name": "a/b"}, "'a/b' is not a name"),
    ],
)
def test_a_table_that_does_not_fit_the_bundle_changes_nothing(
    own_bundle, tmp_path, text, arguments, named
):
    table = write_table(tmp_path / "t.csv", text)
    with pytest.raises(InputError, match=named):
        import_labels(table, own_bundle.path, **arguments)
    assert Bundle.open(own_bundle.path).digest == own_bundle.digest


# ---------------------------------------------------------------------------------- NeuroLens


def write_array(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = zarr.create_array(
        store=path, shape=values.shape, dtype=values.dtype, chunks=(8, values.shape[1])
    )
    array[:] = values


def write_neurolens(folder, built: Bundle, units=(7, 2, 11)):
    """What NeuroLens would leave behind for layer ``second`` of the toy world."""
    layer = "second@mean"
    acts_nu = np.asarray(built.activations("small", layer)).T.copy()
    precomputed = folder / "data_precomp"
    encoder = precomputed / "img_text_models" / "toy"
    write_array(precomputed / "target_models/small/activations/set_activations.zarr", acts_nu)
    write_array(encoder / "img_embds/set_img_embds.zarr", np.asarray(built.image_vectors()))
    embed = toys.ColourEncoder().embed_texts
    for template in TEMPLATES:
        texts = [template.replace("{}", word) for word in toys.WORDS]
        write_array(encoder / f"text_embds/words_{template}_text_embds.zarr", embed(texts))
    exemplars, contrast = built.exemplars("small", layer), built.contrast("small", layer)
    for kind, images, similarity in (
        ("positive", exemplars.image_uk, np.ones_like(exemplars.activation_uk)),
        ("negative", contrast.image_ukj[:, :, 0], contrast.similarity_ukj[:, :, 0]),
    ):
        rows = [
            (kind, unit, rank_, images[unit, rank_], acts_nu[images[unit, rank_], unit],
             similarity[unit, rank_], acts_nu[:, unit].mean())
            for unit in units
            for rank_ in range(PAPER.n_exemplars)
        ]  # fmt: skip
        columns = ["sample_type", "neuron_idx", "sample_rank", "img_idx", "activation_value"]
        columns += ["similarity_value", "probe_dataset_overall_mean"]
        path = folder / "data_results" / "small" / "set" / f"toy_{kind}_neuron_data.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    (folder / "words.txt").write_text("\n".join(toys.WORDS) + "\n", "utf-8")
    return read_neurolens(folder)


@pytest.fixture
def neurolens(world, tmp_path):
    return write_neurolens(tmp_path / "neurolens", world[1])


def test_an_imported_run_equals_a_build(world, neurolens, tmp_path):
    folder, built = world
    made = import_neurolens(
        neurolens,
        tmp_path / "imported.csp",
        layer="second@mean",
        texts_path=tmp_path / "neurolens" / "words.txt",
        probe=read_probe_set(folder / "images"),
        recipe=PAPER,
    )
    assert made.layers("small") == ("second@mean",)
    assert made.labels()["text"].tolist() == toys.WORDS
    assert np.array_equal(made.label_vectors(), built.label_vectors())
    assert np.array_equal(
        made.activations("small", "second@mean"), built.activations("small", "second@mean")
    )
    for name in ("label_uk", "score_uk", "percentile_uk", "reliable_u", "vector_ud"):
        for method in PAPER.methods:
            ours = getattr(made.scores("small", "second@mean", method), name)
            theirs = getattr(built.scores("small", "second@mean", method), name)
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=f"{method} {name}")
    assert made.thumbnail(3) == built.thumbnail(3)
    assert made.images()["class"].tolist() == built.images()["class"].tolist()
    assert made.manifest.inputs["neurolens"] == {
        "encoder": "toy",
        "n_units_listed": 3,
        "n_exemplars_listed": 15,
        "n_exemplars_equal": 15,
        "n_pairs_equal": 15,
    }
    assert verify(made) == []


def test_without_images_the_numbers_are_the_same_and_pages_get_grey_squares(neurolens, tmp_path):
    made = import_neurolens(
        neurolens,
        tmp_path / "imported.csp",
        layer="second@mean",
        texts_path=tmp_path / "neurolens" / "words.txt",
    )
    assert made.n_images == neurolens.n_images
    assert made.images()["file"].tolist()[:2] == ["set/000000", "set/000001"]
    assert made.thumbnail(0) == made.thumbnail(27)
    assert made.thumbnail(0).startswith(b"RIFF")
    assert made.manifest.inputs["neurolens"]["n_pairs_equal"] == 15
    again = relabel(made.path, changed(PAPER, {"gamma": 0.5, "templates": TEMPLATES}))
    assert again.manifest.recipe["gamma"] == 0.5


def test_the_real_encoder_allows_other_vocabularies(world, neurolens, tmp_path):
    probe = read_probe_set(world[0] / "images")
    vocabulary = toys.words(tmp_path, ["red", "blue", "a new word"])
    made = import_neurolens(
        neurolens,
        tmp_path / "imported.csp",
        layer="second@mean",
        probe=probe,
        encoder=toys.ColourEncoder(),
        vocabulary=vocabulary,
    )
    assert made.labels()["text"].tolist() == ["red", "blue", "a new word"]
    assert made.manifest.inputs["encoder"]["spec"] == "python:tests.worlds.toys:ColourEncoder"
    with pytest.raises(StaleError, match="does not reproduce NeuroLens' vector of image"):
        import_neurolens(
            neurolens,
            tmp_path / "other.csp",
            layer="second@mean",
            probe=probe,
            encoder=OtherEncoder(),
            vocabulary=vocabulary,
        )


def test_nothing_is_left_where_an_import_fails(world, neurolens, tmp_path):
    texts = tmp_path / "neurolens" / "words.txt"
    probe = read_probe_set(world[0] / "images")
    (tmp_path / "there").mkdir()
    few = read_probe_set(world[0] / "images", limit=20)
    short = write_table(tmp_path / "short.txt", "red\nblue\n")
    for arguments, named in (
        ({}, "Labels are needed"),
        ({"vocabulary": toys.words(tmp_path)}, "--encoder"),
        ({"vocabulary": toys.words(tmp_path), "encoder": toys.ColourEncoder()}, "--images"),
        ({"texts_path": texts, "probe": few}, "20 images and NeuroLens' set has 28"),
        ({"texts_path": texts, "text_set": "nouns"}, "text sets words"),
        ({"texts_path": texts, "layer": "second"}, "no pooling"),
        ({"texts_path": short, "probe": probe}, "2 lines and NeuroLens stored 10"),
        ({"texts_path": tmp_path / "gone.txt"}, "cannot be read"),
    ):
        with pytest.raises(InputError, match=named):
            import_neurolens(
                neurolens, tmp_path / "out.csp", **{"layer": "second@mean", **arguments}
            )
        assert not (tmp_path / "out.csp").exists()
    with pytest.raises(InputError, match="already exists"):
        import_neurolens(
            neurolens, tmp_path / "there", layer="second@mean", texts_path=texts, probe=probe
        )


@pytest.mark.parametrize(
    ("units", "is_told"),
    [([1, 2, 3, 4], True), ([4, 3, 1, 2], True), ([0, 1, 2, 3], False), ([1, 2, 4], False),
     ([2, 3, 4], False), ([1, 2], False)],
)  # fmt: skip
def test_units_that_seem_to_be_counted_from_1_are_told(
    own_bundle, tmp_path, caplog, units, is_told
):
    layer = own_bundle.layers(own_bundle.model_names[0])[0]
    path = tmp_path / "of others.csv"
    path.write_text("unit,description\n" + "".join(f"{unit},red\n" for unit in units))
    assert import_labels(path, own_bundle.path, name="others", layer=layer) == len(units)
    assert ("counts from 1" in caplog.text) == is_told
