"""Pasted artefacts on real photographs: what the study counts, and what of it is published."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine.pasting.cutouts import read_cutouts
from csp_engine.pasting.gate import LEAST
from csp_engine.probe import read_probe_set
from studies import real_pastes
from studies.real_dermoscopy import ROOT
from tests.worlds import toys
from tools.melanoma_tables import signed


def pairs(n: int = 24) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "file": [f"{i}.png" for i in range(n)],
            "group": np.arange(n) // 2,
            "score_neutral": rng.normal(size=n),
            "score_with": rng.normal(size=n),
            "is_called_neutral": rng.random(n) < 0.5,
            "is_called_with": rng.random(n) < 0.5,
        }
    )


def test_melanomas_that_are_missed_are_those_found_before():
    rows = pairs()
    sick = {"0.png", "3.png", "7.png", "8.png", "absent.png"}
    own = rows[rows["file"].isin(sick)]
    missed = [
        before and not after
        for before, after in zip(own["is_called_neutral"], own["is_called_with"], strict=True)
    ]
    assert real_pastes.turned(rows, sick) == {
        "n_melanomas": 4,
        "n_found": sum(own["is_called_neutral"]),
        "n_missed_then": sum(missed),
    }


def test_an_effect_of_few_groups_is_not_given():
    rows = pairs()
    found = real_pastes.of_some(rows, {f"{i}.png" for i in range(20)})
    own = rows.iloc[:20]
    assert found["n"] == 20
    assert found["value"] == pytest.approx((own["score_with"] - own["score_neutral"]).mean())
    assert found["low"] < found["value"] < found["high"]
    assert real_pastes.of_some(rows, {f"{i}.png" for i in range(18)}) is None


def test_scores_of_young_and_adult_are_compared_where_no_patch_is():
    labels = pd.DataFrame(
        {
            "age": ["10", "15", "40", "60", "30", None, "12", "70"] * 12,
            "target": [0, 0, 0, 0, 0, 0, 0, 1] * 12,
            "patches": [0, 0, 0, 0, 0, 0, 1, 0] * 12,
            "score": np.random.default_rng(0).normal(size=96),
            "group": np.arange(96),
        }
    )
    found = real_pastes.by_age(labels)
    assert (found["n_young"], found["n_adult"]) == (24, 36)
    score = labels["score"].to_numpy().reshape(12, 8)
    assert found["value"] == pytest.approx(score[:, :2].mean() - score[:, 2:5].mean())
    assert found["low"] < found["value"] < found["high"]
    few = real_pastes.by_age(labels.iloc[:32])
    assert few["n_young"] == 8
    assert np.isnan(few["low"])


def test_a_patch_is_cut_out_where_its_mask_is(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 10:40] = 255
    (tmp_path / "patch_masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "patch_masks" / "one.png")
    table = tmp_path / "all.csv"
    table.write_text("file,patch_mask\none.png,one_downsampled.png\ntwo.png,\n")
    folder, files = real_pastes.cut_out(table, tmp_path)
    assert files == {"one.png"}
    (cut,) = read_cutouts(folder)[real_pastes.CUT_OUT]
    inner = cut.rgba_hwc[4:-4, 4:-4]
    assert (inner[..., 3] > 240).all()
    top, left = 5 - (cut.height - 20) // 2, 10 - (cut.width - 30) // 2
    at = pixels[top + 4 : top + cut.height - 4, left + 4 : left + cut.width - 4]
    assert np.array_equal(inner[..., :3], at)


def test_photographs_that_lent_a_patch_are_asked_for_nothing_else(tmp_path):
    photos = read_probe_set(toys.draw_images(tmp_path / "images", 12))
    files = photos.table["file"].tolist()
    left = real_pastes.without(photos, set(files[::3]))
    assert left.table["file"].tolist() == [each for i, each in enumerate(files) if i % 3]
    assert left.read(0) == photos.read(1)


class TestPublished:
    """What is in the repository: aggregate figures, and no effect behind a closed gate."""

    @pytest.fixture(scope="class")
    def found(self) -> dict:
        return json.loads(real_pastes.RESULT.read_text("utf-8"))

    def test_no_photograph_is_named(self, found):
        assert "ISIC_" not in json.dumps(found)

    def test_every_network_and_artefact_is_there(self, found):
        assert list(found["networks"]) == list(real_pastes.MODELS)
        wanted = {(each, "drawn") for each in real_pastes.PASTED}
        wanted.add((real_pastes.CUT_OUT, "cut out"))
        for rows in found["networks"].values():
            assert {(row["artefact"], row["pasted_as"]) for row in rows} == wanted
            assert all(row["n_groups"] >= 100 for row in rows)

    def test_what_no_probe_takes_for_real_is_withheld(self, found):
        for rows in found["networks"].values():
            for row in rows:
                passes = row["gate"]["pasted"]["value"] >= LEAST[row["artefact"]]
                assert passes or row["withheld"]

    def test_the_document_quotes_these_figures(self, found):
        text = (ROOT / "docs" / "melanoma.md").read_text("utf-8")
        text = text.partition("### Pasted artefacts")[2].partition("\n### ")[0]
        own = {(r["artefact"], r["pasted_as"]): r for r in found["networks"]["melanoma"]}
        patch = own["colour patch", "drawn"]
        assert not patch["withheld"]
        area = found["auroc"]
        assert f"{area['auroc']:.2f} ({area['low']:.2f}–{area['high']:.2f})" in text
        assert f"changes by {signed(patch['effect'])} against plain skin, over 150" in text
        assert f"Of {patch['n_called']} that are called melanoma, {patch['n_lost']} no lon" in text
        assert f"of the {patch['n_found']} true melanomas" in text
        assert f"are found, {patch['n_missed_then']} are missed" in text
        assert f"{signed(patch['adults'])} over {patch['adults']['n']} of known age" in text
        assert f"score {signed(patch['gate']['observed'])} within their class" in text
        assert 0.5 < patch["effect"]["value"] / patch["gate"]["observed"]["value"] < 0.75
        assert (
            f"cut out, do nearly as much: {signed(own['colour patch', 'cut out']['effect'])}"
            in text
        )
        ruler, corners = own["ruler", "drawn"], own["dark corners", "drawn"]
        assert f"by {signed(ruler['effect'])}; {ruler['n_gained']} photographs are" in text
        assert f"that were not, {ruler['n_lost']} no longer" in text
        assert f"ruler differ by {signed(ruler['gate']['observed'])} within" in text
        assert f"raise it**, by {signed(corners['effect'])}" in text
        assert corners["gate"]["observed"]["low"] < 0 < corners["gate"]["observed"]["high"]
        assert f"{found['by_age']['n_young']} are of people under 20" in text
        assert found["by_age"]["low"] is None
        assert f"next to nothing: {signed(own['ink marks', 'drawn']['effect'])}." in text
        other = {(r["artefact"], r["pasted_as"]): r for r in found["networks"]["skin_isic9"]}
        for reversed_ in (other["colour patch", "drawn"], other["dark corners", "drawn"]):
            assert reversed_["effect"]["low"] > 0 > reversed_["gate"]["observed"]["value"]
            assert reversed_["gate"]["observed"]["high"] > 0
        passed = [key for key, r in own.items() if r["general"]["pasted"]["auroc"] >= LEAST[key[0]]]
        assert passed == [("colour patch", "drawn")]

    def test_the_probe_that_decides_tells_every_real_artefact_better(self, found):
        text = (ROOT / "docs" / "melanoma.md").read_text("utf-8")
        told = found["told"]
        assert list(told["imagenet"]) == list(real_pastes.PASTED)
        for artefact, area in told["imagenet"].items():
            assert area > told["last"][artefact]
            assert f"{area:.3f} and {told['last'][artefact]:.3f} for" in text
