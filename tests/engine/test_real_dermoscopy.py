"""The measurement on real dermoscopy: its splits, its target models, and what may be published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from csp_engine.errors import MissingModelError
from csp_engine.probe.decoding import decode
from studies import dermoscopy_models, real_channels, real_dermoscopy, train_melanoma

ROOT = Path(__file__).resolve().parents[2]


def made_up(n: int = 300) -> pd.DataFrame:
    """Labels without photographs; every third one looks like the next."""
    rng = np.random.default_rng(5)
    group = np.arange(n)
    group[::3] = group[1::3]
    return pd.DataFrame(
        {
            "image": [f"ISIC_{i:07d}" for i in range(n)],
            "target": (rng.random(n) < 0.2).astype(float),
            "patches": (rng.random(n) < 0.1).astype(float),
            "group": group,
        }
    )


def test_the_split_keeps_groups_whole_and_holds_out_a_third():
    table = made_up()
    table.loc[::10, "target"] = np.nan
    split = train_melanoma.with_split(table)["split"]
    assert ((split == "no diagnosis") == table["target"].isna()).all()
    learnt, left = table[split == "trained on"], table[split == "held out"]
    assert not set(learnt["group"]) & set(left["group"])
    assert len(left) / (len(learnt) + len(left)) == pytest.approx(1 / 3, abs=0.02)
    assert left["target"].mean() == pytest.approx(learnt["target"].mean(), abs=0.1)
    assert left["patches"].mean() == pytest.approx(learnt["patches"].mean(), abs=0.1)


def test_the_half_that_measures_never_chose():
    table = made_up().assign(split="held out")
    columns = real_dermoscopy.Columns(table)
    assert (columns.first_n ^ columns.second_n).all()
    assert not set(columns.group_n[columns.first_n]) & set(columns.group_n[columns.second_n])


def test_a_network_is_not_asked_about_melanoma_on_what_it_learnt_from():
    table = made_up().assign(split="trained on")
    table.loc[:49, "split"] = "held out"
    columns = real_dermoscopy.Columns(table)
    assert columns.rows("melanoma", "melanoma").sum() == 50
    assert columns.rows("melanoma", "imagenet").sum() == 300
    assert columns.rows("patches", "melanoma").sum() == 300


def test_a_classifier_that_reads_the_artefact_shows_in_the_slices():
    table = made_up().assign(split="held out")
    for column in real_dermoscopy.ARTEFACTS:
        table[column] = made_up()["patches"]
    columns = real_dermoscopy.Columns(table)
    noise_n = np.random.default_rng(0).normal(size=300)
    blind = real_dermoscopy.slices(table["target"].to_numpy() + noise_n, columns)
    leaning = real_dermoscopy.slices(noise_n - 9 * table["patches"].to_numpy(), columns)

    def patches(rows: list[dict]) -> dict:
        return next(r for r in rows if (r["column"], r["value"]) == ("patches", 1))

    assert (
        patches(blind)["artefact_lowers"]["low"] < 0.5 < patches(blind)["artefact_lowers"]["high"]
    )
    assert patches(leaning)["artefact_lowers"]["auroc"] == 1
    assert patches(leaning)["specificity"]["share"] == 1


def test_without_weights_one_sentence_says_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setenv("CSP_MELANOMA_WEIGHTS", str(tmp_path / "none.safetensors"))
    with pytest.raises(MissingModelError, match=r"There are no weights at .*none\.safetensors"):
        dermoscopy_models.melanoma()
    monkeypatch.setenv("CSP_SHARED_DATA", str(tmp_path))
    with pytest.raises(MissingModelError, match="set CSP_SHARED_DATA"):
        dermoscopy_models.skin_isic9()


@pytest.mark.slow
def test_the_lesion_classifier_is_as_good_as_its_data_say(shared_data):
    folder = shared_data / "images" / "isic9" / "train"
    model = dermoscopy_models.skin_isic9()
    names = [re.sub(r"\W", "_", name).lower() for name in model.class_names or ()]
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    assert [path.name for path in folders] == names
    import torch

    right = []
    for number, path in enumerate(folders):
        pixels = [model.preprocess(decode(file.read_bytes())) for file in sorted(path.iterdir())]
        with torch.inference_mode():
            logits = model.network(torch.from_numpy(np.stack(pixels)))
        right += (logits.argmax(1) == number).tolist()
    assert np.mean(right) == pytest.approx(0.64, abs=0.01)


class TestPublished:
    """What is in the repository: aggregate figures, and the same ones in the document."""

    @pytest.fixture(scope="class")
    def found(self) -> dict:
        parts = (real_dermoscopy.RESULT, real_channels.RESULT)
        return {k: v for path in parts for k, v in json.loads(path.read_text("utf-8")).items()}

    def test_no_photograph_is_named(self, found):
        assert "ISIC_" not in json.dumps(found)

        def longest(value: object) -> int:
            inner = value.values() if isinstance(value, dict) else value
            if not isinstance(value, dict | list):
                return 0
            return max([len(value) if isinstance(value, list) else 0, *map(longest, inner)])

        assert longest(found) < found["n_photographs"] / 2

    def test_the_document_quotes_these_figures(self, found):
        text = (ROOT / "docs" / "melanoma.md").read_text("utf-8")

        def share(row: dict) -> str:
            low, high = f"{row['low']:.0%}".rstrip("%"), f"{row['high']:.0%}".rstrip("%")
            return f"{row['share']:.0%}".replace("%", " %") + f" ({low}–{high})"

        def figure(row: dict) -> str:
            return f"{row['auroc']:.2f} ({row['low']:.2f}–{row['high']:.2f})"

        assert figure(found["classifier"]["held out"]) in text
        lines = text.splitlines()
        for row in found["together"]:
            wanted = [share(row["melanoma"]), share(row["benign"])]
            assert any(all(w in line for w in wanted) for line in lines), row["column"]
        pairs = zip(found["slices"][1::2], found["slices"][2::2], strict=True)
        for without, with_it in pairs:
            assert without["column"] == with_it["column"]
            wanted = [
                share(without["specificity"]),
                share(with_it["specificity"]),
                figure(with_it["artefact_lowers"]),
            ]
            assert any(all(w in line for w in wanted) for line in lines), without["column"]
        for by_column in found["best"].values():
            for row in by_column.values():
                assert f"{figure(row)} `{row['layer']}/{row['unit']}`" in text, row["column"]
