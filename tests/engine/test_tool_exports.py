"""Exports for Hugging Face datasets, Neuronpedia and FiftyOne say what the exported table says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.cells import original
from csp_engine.cli import main
from tests.worlds import toys

HOSTILE = ["=1+1", "<script>alert(1)</script>", "'quoted", "two\nlines", '@cmd, "x"', "ключ 🔑"]
N_PAIRS = 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """A model whose name has a slash, labels from anywhere, and a neuron that never speaks."""
    import dataclasses

    import torch

    folder = tmp_path_factory.mktemp("tools")
    toys.draw_images(folder / "images")
    target = toys.target(["first", "second"], name="lab/net")
    with torch.no_grad():
        target.model.network.second.weight[0] = 0
        target.model.network.second.bias[0] = 0
    words = toys.words(folder, [f"word {i}" for i in range(len(HOSTILE))])
    words = dataclasses.replace(words, table=words.table.assign(text=HOSTILE))
    asked = {"targets": (target,), "vocabulary": words, "n_influence_images": 0}
    return pipeline.build(toys.request(folder, folder / "a.csp", **asked))


def csp(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory) -> Path:
    """The table, and the three folders beside it."""
    out = tmp_path_factory.mktemp("out")
    assert csp("export", bundle.path, out / "labels.csv", "-n", 2) == 0
    for tool in ("huggingface", "neuronpedia", "fiftyone"):
        place = bundle.path, out / tool
        assert csp("export", *place, "--format", tool, "-n", 2, "--pairs", N_PAIRS) == 0
    return out


@pytest.fixture(scope="module")
def table(exported) -> pd.DataFrame:
    """The rows of the CSV by other means than the exports use."""
    return pd.read_csv(exported / "labels.csv", dtype={"score": str}, keep_default_na=False)


@pytest.fixture(scope="module")
def texts(table) -> list[str]:
    """Without the apostrophes that keep a spreadsheet from running a text."""
    return [original(text) for text in table["description"]]


def pairs_by_hand(bundle: Bundle) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Neuron and rank to images, activations and similarity, read from the arrays themselves."""
    found = {}
    for layer in bundle.layers("lab/net"):
        stage = f"neurons:lab/net/{layer}"
        image_uk = bundle.array(stage, "exemplar_image")
        activation_uk = bundle.array(stage, "exemplar_activation")
        count_u = bundle.array(stage, "exemplar_count")
        contrast = bundle.contrast("lab/net", layer)
        for u in range(len(count_u)):
            for k in range(min(int(count_u[u]), N_PAIRS)):
                other: tuple[Any, ...] = (None, None, None)
                if contrast.n_partner_uk[u, k]:
                    other = (
                        int(contrast.image_ukj[u, k, 0]),
                        contrast.activation_ukj[u, k, 0],
                        contrast.similarity_ukj[u, k, 0],
                    )
                here = (int(image_uk[u, k]), activation_uk[u, k])
                found[f"lab/net/{layer}/{u}", k + 1] = (*here, *other)
    return found


def test_hugging_face_labels_are_the_rows_of_the_table(exported, table, texts):
    rows = pq.read_table(exported / "huggingface" / "labels" / "labels-00000.parquet").to_pandas()
    assert list(rows.columns) == list(table.columns)
    assert list(rows["description"]) == texts
    assert {"=1+1", "<script>alert(1)</script>"} <= set(texts)
    assert list(rows["score"]) == [np.float32(score) for score in table["score"]]
    for name in ("neuron", "rank", "method"):
        assert list(rows[name]) == list(table[name])


def test_hugging_face_tables_join_by_every_column_that_they_share(exported):
    folder = exported / "huggingface"
    labels, pairs = (
        pq.read_table(next((folder / name).glob("*.parquet"))).to_pandas()
        for name in ("labels", "pairs")
    )
    shared = [name for name in labels if name in pairs and name != "rank"]
    assert shared == ["layer", "unit", "neuron", "model", "pooling"]
    spoken = labels[shared].drop_duplicates()
    assert len(pairs.merge(spoken, on=shared)) == len(pairs.merge(spoken, on="neuron")) > 0
    assert "null" not in {str(each.type) for each in pq.read_schema(
        folder / "labels" / "labels-00000.parquet")}  # fmt: skip


def test_hugging_face_pairs_are_the_arrays_with_their_images(bundle, exported):
    file = exported / "huggingface" / "pairs" / "pairs-00000.parquet"
    rows = pq.read_table(file).to_pylist()
    expected = pairs_by_hand(bundle)
    names = list(bundle.table("probe", "probe")["file"])
    assert [(row["neuron"], row["rank"]) for row in rows] == list(expected)
    for row in rows:
        image, high, other, low, alike = expected[row["neuron"], row["rank"]]
        assert row["exemplar"] == {"bytes": bundle.thumbnail(image), "path": f"{image}.webp"}
        assert row["exemplar_file"] == names[image]
        assert np.float32(row["exemplar_activation"]) == high
        if other is None:
            assert row["contrast"] is row["contrast_file"] is row["similarity"] is None
            continue
        assert row["contrast"]["bytes"] == bundle.thumbnail(other)
        assert row["contrast_file"] == names[other]
        assert np.float32(row["contrast_activation"]) == low
        assert np.float32(row["similarity"]) == alike


def test_hugging_face_reads_its_folder(bundle, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    folder = str(exported / "huggingface")
    labels = datasets.load_dataset(folder, "labels", split="train", cache_dir=str(tmp_path))
    assert "=1+1" in labels["description"]
    pairs = datasets.load_dataset(folder, "pairs", split="train", cache_dir=str(tmp_path))
    assert isinstance(pairs.features["exemplar"], datasets.Image)
    shown = Image.open(io.BytesIO(bundle.thumbnail(next(iter(pairs_by_hand(bundle).values()))[0])))
    assert pairs[0]["exemplar"].size == shown.size
    assert len(pairs) == len(pairs_by_hand(bundle))


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(folder.glob(f"*/*/{kind}/batch-0.jsonl"))
        for line in file.read_text("utf-8").splitlines()
    ]


def test_neuronpedia_lines_say_what_the_table_says(bundle, exported, table, texts):
    folder = exported / "neuronpedia"
    said = {
        (f"{row['modelId']}/{row['layer']}/{row['index']}", row["typeName"], row["rank"]): row
        for row in lines(folder, "explanations")
    }
    keys = list(zip(table["neuron"], table["method"], table["rank"], strict=True))
    assert set(said) == set(keys)
    for key, text, score in zip(keys, texts, table["score"], strict=True):
        assert said[key]["description"] == text
        assert said[key]["score"] == float(score)  # the same digits, not only the same number
        assert said[key]["neuron"] == key[0]
    features = lines(folder, "features")
    act_un = np.asarray(bundle.array("activations:lab/net/first@mean", "activation"))
    for row in features[: len(act_un)]:
        assert np.float32(row["maxActApprox"]) == act_un[row["index"]].max()
        assert row["frac_nonzero"] == pytest.approx((act_un[row["index"]] > 0).mean())
    n_units = sum(bundle.n_units("lab/net", layer) for layer in bundle.layers("lab/net"))
    assert len(features) == n_units


def test_neuronpedia_activations_show_images_that_are_there(bundle, exported):
    folder = exported / "neuronpedia"
    rows = lines(folder, "activations")
    expected = pairs_by_hand(bundle)
    assert len(rows) == len(expected)
    for row in rows:
        key = f"{row['modelId']}/{row['layer']}/{row['index']}", row["rank"]
        image, high, other, low, alike = expected[key]
        assert (folder / row["image"]).read_bytes() == bundle.thumbnail(image)
        assert np.float32(row["maxValue"]) == high
        if other is None:
            assert "contrast" not in row
            continue
        contrast = row["contrast"]
        assert (folder / contrast["image"]).read_bytes() == bundle.thumbnail(other)
        assert np.float32(contrast["value"]) == low
        assert np.float32(contrast["similarity"]) == alike


def test_fiftyone_labels_are_the_neurons_of_each_image(bundle, exported, table):
    folder = exported / "fiftyone"
    whole = json.loads((folder / "labels.json").read_text("utf-8"))
    files = {p.stem: p for p in (folder / "data").iterdir()}
    assert set(whole["labels"]) == set(files)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for image, labels in whole["labels"].items():
        assert files[image].read_bytes() == bundle.thumbnail(int(image))
        for label in labels:
            assert label["label"] in whole["classes"]
            about = label["attributes"]
            entry = found.setdefault((label["label"], about["rank"]), {})
            entry[about["role"]] = (int(image), about)
    best = table[table["rank"] == 1].drop_duplicates("neuron").set_index("neuron")
    expected = pairs_by_hand(bundle)
    assert set(found) == set(expected)
    for key, (image, high, other, low, alike) in expected.items():
        shown, about = found[key]["exemplar"]
        assert (shown, np.float32(about["activation"])) == (image, high)
        if key[0] in best.index:
            assert str(about["score"]) == str(float(best.loc[key[0], "score"]))
        assert ("contrast" in found[key]) == (other is not None)
        if other is not None:
            shown, about = found[key]["contrast"]
            assert (shown, np.float32(about["activation"])) == (other, low)
            assert np.float32(about["similarity"]) == alike


def test_fiftyone_imports_its_folder(exported, monkeypatch):
    """By its own importer, which needs no database, as ``Dataset.from_dir`` does."""
    monkeypatch.setenv("FIFTYONE_DISABLE_SERVICES", "1")
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    folder = exported / "fiftyone"
    whole = json.loads((folder / "labels.json").read_text("utf-8"))
    importer = importers.FiftyOneImageClassificationDatasetImporter(dataset_dir=str(folder))
    importer.setup()
    assert len(importer) == len(whole["labels"])
    for file, _, found in importer:
        assert Path(file).is_file()
        own = whole["labels"][Path(file).stem]
        assert [each.label for each in found.classifications] == [each["label"] for each in own]
        for each, wanted in zip(found.classifications, own, strict=True):
            for name, value in wanted["attributes"].items():
                assert each[name] == value


def test_chosen_neurons_alone_are_written(bundle, tmp_path, capsys):
    out = tmp_path / "few"
    neuron = "lab/net/second@mean/3"
    assert csp("export", bundle.path, out, "--format", "neuronpedia", "--neuron", neuron) == 0
    assert {row["index"] for row in lines(out, "features")} == {3}
    assert {row["neuron"] for row in lines(out, "explanations")} == {neuron}
    assert csp("export", bundle.path, out, "--format", "fiftyone", "--layer", "first") == 0
    assert not list(out.glob("net*"))  # the export before is replaced as a whole
    whole = json.loads((out / "labels.json").read_text("utf-8"))
    assert {name.rsplit("/", 1)[0] for name in whole["classes"]} == {"lab/net/first@mean"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--format", "huggingface", "--method", "milan"], "no labels by method 'milan'"),
        (["--format", "fiftyone", "--neuron", "lab/net/second@mean/99"], "99"),
        (["--format", "html", "--pairs", "3"], "--pairs is for --format huggingface, neuronpedia"),
        (["--format", "huggingface", "--columns"], "leave out --method, -n, --neuron and hugg"),
        (["--format", "labelbox"], "'labelbox' is not a table format"),
    ],
)
def test_what_cannot_be_is_one_sentence(bundle, tmp_path, capsys, arguments, sentence):
    out = tmp_path / "out"
    assert csp("export", bundle.path, out, *arguments) != 0
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_what_no_export_wrote_stays(bundle, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert csp("export", bundle.path, out, "--format", "huggingface") != 0
    assert "holds notes.txt, which no export wrote" in " ".join(capsys.readouterr().err.split())
    assert [p.name for p in out.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", [".tmp-out", ".old-out"])
def test_a_folder_that_is_needed_meanwhile_is_not_taken_from_its_owner(
    bundle, tmp_path, capsys, name
):
    asked = ("export", bundle.path, tmp_path / "out", "--format", "fiftyone", "--layer", "first")
    theirs = tmp_path / name
    theirs.mkdir()
    assert csp(*asked) == 0  # empty, so nobody misses it
    (theirs / "deep").mkdir(parents=True)
    (theirs / "deep" / "notes.txt").write_text("mine")
    before = (tmp_path / "out" / "export.json").read_bytes()
    assert csp(*asked) != 0
    assert f"{name} is in the way" in " ".join(capsys.readouterr().err.split())
    assert (theirs / "deep" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "export.json").read_bytes() == before


def test_what_a_killed_export_left_is_cleared_away(bundle, tmp_path, monkeypatch):
    asked = ("export", bundle.path, tmp_path / "out", "--format", "fiftyone", "--layer", "first")
    assert csp(*asked) == 0
    whole = sorted(p.name for p in (tmp_path / "out").rglob("*"))
    with monkeypatch.context() as patch:  # as a signal that cannot be caught
        patch.setattr("csp_engine.exports.folders.shutil.rmtree", lambda *a, **k: None)
        patch.setattr(Bundle, "thumbnail", lambda self, image: 1 / 0)
        assert csp(*asked) != 0
    (tmp_path / "out").rename(tmp_path / ".old-out")
    assert (tmp_path / ".tmp-out" / "labels.json").is_file()
    assert csp(*asked) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == whole
