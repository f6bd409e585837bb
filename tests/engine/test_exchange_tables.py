"""Label tables: what is exported is what the bundle holds; tables of other tools are understood."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from csp_engine.bundle import Bundle, BundleWriter
from csp_engine.errors import InputError
from csp_engine.exchange import export_labels, label_rows, read_label_table
from csp_engine.types import LabelScores

TEXTS = ["red", "blue, dark", '"quoted"', "=SUM(A1)", "null", "grün\u00a0blau"]
STAGE = {"version": 1, "params": {}, "needs": {}, "inputs": {}}


def label_scores(n_units: int, n_kept: int, seed: int) -> LabelScores:
    rng = np.random.default_rng(seed)
    draw = lambda: rng.normal(size=(n_units, n_kept)).astype(np.float32)  # noqa: E731
    count_u = np.array([n_kept, 0, 2][:n_units], np.int32)
    return LabelScores(
        label_uk=np.array([rng.permutation(len(TEXTS))[:n_kept] for _ in range(n_units)], np.int32),
        score_uk=-np.sort(-draw(), axis=1),
        raw_uk=draw(),
        margin_uk=np.abs(draw()),
        percentile_uk=rng.random((n_units, n_kept), np.float32),
        count_u=count_u,
        best_percentile_u=rng.random(n_units, np.float32),
        reliable_u=np.array([True, False, False][:n_units]),
        vector_ud=np.zeros((n_units, 2), np.float32),
        n_exemplar_u=count_u,
        similarity_u=np.zeros(n_units, np.float32),
        pool_u=count_u,
        reuse_u=np.zeros(n_units, np.float32),
    )


NETWORK = {"spec": "python:nets:a", "fingerprint": "0" * 64}


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    """Three units in each of two layers of two models, two methods, no images."""
    with BundleWriter(tmp_path / "tiny.csp") as writer:
        layers = {
            "a": {"layers": ["conv@mean", "fc@none"], "order": 0, **NETWORK},
            "org/b": {"layers": ["conv@mean"], "order": 1, **NETWORK},
        }
        writer.describe(recipe={"methods": ["csp", "semanticlens"]}, inputs={"models": layers})
        with writer.stage("vocabulary", **STAGE) as folder:
            folder.table("labels", pd.DataFrame({"text": TEXTS, "source": "test"}))
        for seed, (model, described) in enumerate(layers.items()):
            for place, layer in enumerate(described["layers"]):
                inputs = {"which": f"{model}/{layer}"}
                with writer.stage(f"neurons:{model}/{layer}", **{**STAGE, "inputs": inputs}) as f:
                    f.facts["n_units"] = 3
                for method in ("csp", "semanticlens"):
                    name = f"scores:{model}/{layer}/{method}"
                    named = {**inputs, "method": method}
                    with writer.stage(name, **{**STAGE, "inputs": named}) as f:
                        scores = label_scores(3, 3, 10 * seed + place + len(method))
                        for field in LabelScores.__dataclass_fields__:
                            f.array(field, getattr(scores, field))
    return Bundle.open(tmp_path / "tiny.csp")


def read_back(path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        return pd.read_csv(path, keep_default_na=False).replace("'=SUM(A1)", "=SUM(A1)")
    return pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").splitlines()])


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_export_equals_what_the_reader_gives(bundle, tmp_path, ending):
    path = tmp_path / "deep" / f"labels.{ending}"
    n_rows = export_labels(bundle, path, n_labels=3)
    rows = read_back(path)
    assert len(rows) == n_rows == 3 * 2 * (3 + 2)  # layers x methods x labels that count
    assert list(rows.columns[:4]) == ["layer", "unit", "description", "score"]
    for row in rows.itertuples():
        layer = f"{row.layer}@{row.pooling}"
        assert row.neuron == f"{row.model}/{layer}/{row.unit}"
        scores = bundle.scores(row.model, layer, row.method)
        place = (row.unit, row.rank - 1)
        assert row.description == TEXTS[scores.label_uk[place]]
        assert np.float32(row.score) == scores.score_uk[place]
        assert np.float32(row.margin) == scores.margin_uk[place]
        assert np.float32(row.percentile) == scores.percentile_uk[place]
        assert np.float32(row.best_percentile) == scores.best_percentile_u[row.unit]
        assert bool(row.reliable) == bool(scores.reliable_u[row.unit])
    assert not list(path.parent.glob(".*"))


def test_filters_choose_model_layer_method_and_number(bundle):
    rows = label_rows(bundle, model="a", layers=["fc"], methods=["csp"], n_labels=2)
    assert set(rows["neuron"]) == {"a/fc@none/0", "a/fc@none/2"}
    assert set(rows["method"]) == {"csp"}
    assert rows.groupby("neuron")["rank"].max().tolist() == [2, 2]
    both = label_rows(bundle, layers=["conv@mean"])
    assert set(both["model"]) == {"a", "org/b"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"model": "c"}, "a, org/b"),
        ({"layers": ["conv3"]}, "conv@mean, fc@none"),
        ({"methods": ["clip"]}, "csp, semanticlens"),
        ({"n_labels": 0}, "1 or more"),
        ({"file_format": "xlsx"}, "csv, parquet, jsonl"),
    ],
)
def test_unknown_names_are_refused_and_the_sentence_says_what_exists(
    bundle, tmp_path, wrong, named
):
    with pytest.raises(InputError, match=named):
        export_labels(bundle, tmp_path / "out.csv", **wrong)
    assert not (tmp_path / "out.csv").exists()


def test_a_label_that_looks_like_a_formula_is_text_in_a_spreadsheet_and_comes_back(
    bundle, tmp_path
):
    export_labels(bundle, tmp_path / "out.csv", n_labels=3)
    written = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert "'=SUM(A1)" in set(written["description"])
    one = written[(written["method"] == "csp") & (written["model"] == "a")]
    one.to_csv(tmp_path / "one.csv", index=False)
    read = read_label_table(tmp_path / "one.csv")
    assert "=SUM(A1)" in set(read["description"])
    assert "'=SUM(A1)" not in set(read["description"])


def test_an_exported_table_can_be_read_again(bundle, tmp_path):
    path = tmp_path / "out.csv"
    export_labels(bundle, path, model="a", methods=["csp"], n_labels=3)
    again = read_label_table(path)
    rows = label_rows(bundle, model="a", methods=["csp"], n_labels=3)
    rows = rows.sort_values(["layer", "unit", "rank"], ignore_index=True)
    assert again["description"].tolist() == [text.strip() for text in rows["description"]]
    assert np.array_equal(again["score"].astype(np.float32), rows["score"])
    assert again["rank"].tolist() == rows["rank"].tolist()
    assert set(again["method"]) == {"csp"}


def test_milan_table(tmp_path):
    path = tmp_path / "milan.csv"
    path.write_text("layer,unit,description\nlayer4,1,null\nlayer4,0,edges of objects\n", "utf-8")
    rows = read_label_table(path)
    assert rows[["layer", "unit", "rank", "description"]].to_numpy().tolist() == [
        ["layer4", 0, 1, "edges of objects"],
        ["layer4", 1, 1, "null"],
    ]
    assert rows["score"].isna().all()


def test_clip_dissect_table_ranks_by_similarity_and_keeps_row_order_on_ties(tmp_path):
    path = tmp_path / "descriptions.csv"
    path.write_text(
        "layer,unit,description,similarity\nfc,7,b,0.25\nfc,7,a,0.5\nfc,7,c,0.25\nfc,3,d,-1e-3\n",
        "utf-8",
    )
    rows = read_label_table(path)
    assert rows["description"].tolist() == ["d", "a", "b", "c"]
    assert rows["rank"].tolist() == [1, 1, 2, 3]
    assert rows["score"].tolist() == [-1e-3, 0.5, 0.25, 0.25]


def test_describe_and_dissect_table_needs_a_layer_and_skips_blank_later_labels(tmp_path):
    path = tmp_path / "dnd.csv"
    path.write_text("Neuron ID,Label 1,Label 2,Label 3\n5,cat,,fur\n2,sky,cloud,\n", "utf-8")
    with pytest.raises(InputError, match="--layer"):
        read_label_table(path)
    rows = read_label_table(path, layer="layer4")
    assert rows[["unit", "rank", "description"]].to_numpy().tolist() == [
        [2, 1, "sky"],
        [2, 2, "cloud"],
        [5, 1, "cat"],
        [5, 2, "fur"],
    ]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "tsv"])
def test_other_formats(tmp_path, ending):
    path = tmp_path / f"labels.{ending}"
    table = pd.DataFrame({"layer": ["a", "a"], "unit": [1, 0], "description": ["x", "y"]})
    table["score"] = [0.5, np.nan]
    if ending == "jsonl":
        path.write_text(
            '{"layer":"a","unit":1,"description":"x","score":0.5}\n\n'
            '{"layer":"a","unit":0,"description":"y","score":null}\n',
            "utf-8",
        )
    elif ending == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t", index=False)
    rows = read_label_table(path)
    assert rows["description"].tolist() == ["y", "x"]
    assert np.isnan(rows["score"][0])
    assert rows["score"][1] == 0.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("layer,unit,description\nfc,1,\n", "Row 1 .*description"),
        ("layer,unit,description\nfc,0,a\n,1,b\n", "Row 2 .*layer"),
        ("layer,unit,description\nfc,-1,a\n", "Row 1 .*'-1'"),
        ("layer,unit,description\nfc,1.5,a\n", "'1.5'"),
        ("layer,unit,description,score\nfc,1,a,high\n", "Row 1 .*'high'"),
        ("layer,unit\nfc,1\n", "'description'"),
        ("layer,unit,description\n", "no rows"),
        ("layer,unit,description,rank\nfc,1,a,1\nfc,1,b,1\n", "two descriptions of rank 1"),
        ("layer,unit,description,method\nfc,1,a,csp\nfc,1,b,dnd\n", "csp, dnd"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_table_is_refused_and_the_sentence_names_the_row(tmp_path, text, named):
    path = tmp_path / "bad.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=named):
        read_label_table(path)


def test_missing_unknown_and_undecodable_files(tmp_path):
    with pytest.raises(InputError, match=r"no label table at .*gone\.csv"):
        read_label_table(tmp_path / "gone.csv")
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"csv, tsv, .*jsonl, .*parquet"):
        read_label_table(tmp_path / "labels.xlsx")
    (tmp_path / "latin.csv").write_bytes("layer,unit,description\nfc,1,grün\n".encode("latin-1"))
    assert read_label_table(tmp_path / "latin.csv")["description"].tolist() == ["grün"]
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"'cut\.parquet' cannot be read as PARQUET"):
        read_label_table(tmp_path / "cut.parquet")
