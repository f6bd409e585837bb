"""Whether texts separate images: known answers, encoders that know nothing, and what is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ortho_group
from sklearn.metrics import roc_auc_score

from csp_engine.bundle import Bundle, kinds, verify
from csp_engine.evaluation.separation import is_separated, naming, spread
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import Recipe, changed
from csp_engine.views.images import seen
from csp_engine.views.images.separation import DOUBT, doubt, texts_in_words
from tests.engine.test_cli import run
from tests.worlds import toys


class KnowsNothing(toys.ColourEncoder):
    """Images as before, texts as directions of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = "0" * 64

    def embed_texts(self, texts):
        seeds = [sum(map(ord, text)) * 7919 + len(text) for text in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("separation")
    build(toys.request(folder, folder / "knows.csp"))
    build(toys.request(folder, folder / "blind.csp", encoder=KnowsNothing()))
    return folder


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_spread_is_the_variance_along_texts_over_that_along_rotated_ones():
    rng = np.random.default_rng(0)
    image_nd = rng.normal(size=(300, 8)) * [5, 4, 1, 1, 1, 1, 1, 1]
    text_td = np.zeros((6, 8))
    text_td[:, :2] = rng.normal(size=(6, 2))
    found = spread(image_nd, text_td, n_draws=99)

    def slowly(text_td):
        text_td = text_td - text_td.mean(axis=0)
        return np.mean([(image_nd @ text_d).var() for text_d in text_td])

    drawn = [slowly(text_td @ ortho_group.rvs(8, random_state=seed)) for seed in range(300)]
    assert found.ratio == pytest.approx(slowly(text_td) / np.mean(drawn), rel=0.1)
    assert found.p == 0.01
    assert spread(image_nd, text_td[:, ::-1].copy()).p > 0.5


@pytest.mark.parametrize(
    ("images", "texts"), [(np.ones((9, 4)), np.eye(4)), (np.eye(9, 4), np.ones((5, 4)))]
)
def test_where_nothing_varies_nothing_is_said(images, texts):
    found = spread(images, texts)
    assert np.isnan([found.ratio, found.p]).all()
    nothing = naming(images, texts, np.zeros((9, 0), np.float32), np.zeros((len(texts), 0), bool))
    assert is_separated(found, nothing) is None


def test_names_are_judged_by_the_area_and_by_other_texts():
    rng = np.random.default_rng(1)
    value_nc = (rng.random((200, 3)) < 0.3).astype(np.float32)
    value_nc[:20, 0] = np.nan
    text_td = unit(rng.normal(size=(30, 12)))
    shown_nd = np.nan_to_num(value_nc) @ text_td[:3] + 0.3 * rng.normal(size=(200, 12))
    image_nd = unit(shown_nd)
    other = np.ones((30, 3), bool)
    other[:3][np.eye(3, dtype=bool)] = False
    found = naming(image_nd, text_td, value_nc, other)
    known = ~np.isnan(value_nc[:, 0])
    score_n = image_nd @ (text_td[0] - text_td.mean(axis=0))
    assert found.auroc_c[0] == pytest.approx(
        roc_auc_score(value_nc[known, 0], score_n[known]), abs=1e-6
    )
    assert found.mean > 0.8
    assert found.p < 0.01
    assert is_separated(spread(image_nd, text_td), found)
    blind = naming(image_nd, np.roll(text_td, 7, axis=0), value_nc, other)
    assert blind.p > 0.05
    assert is_separated(spread(image_nd, text_td), blind) is False


def test_encoders_that_know_nothing_rarely_pass():
    """Of a hundred, about five may by chance."""
    n_passed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        image_nd = unit(rng.normal(size=(80, 6)) @ rng.normal(size=(6, 20)))
        text_td = unit(rng.normal(size=(25, 20)))
        n_passed += spread(image_nd, text_td).p <= 0.05
    assert n_passed <= 12


def test_a_build_says_whether_texts_separate_its_images(folder, capsys):
    knows, blind = (Bundle.open(folder / f"{name}.csp") for name in ("knows", "blind"))
    facts = knows.stage(kinds.SEPARATION.name()).facts
    assert facts["is_separated"] is True
    assert facts["n_named"] == 4
    names = knows.table("separation", "names")
    assert sorted(names["name"]) == sorted(toys.COLOURS)
    assert set(names["kind"]) == {"class"}
    assert "mean AUROC of 0." in texts_in_words(knows)
    assert doubt(knows) == ""
    assert blind.stage(kinds.SEPARATION.name()).facts["is_separated"] is False
    assert doubt(blind) == DOUBT
    assert "only" in texts_in_words(blind)
    assert verify(knows) == verify(blind) == []
    _, out, _ = run(capsys, "info", blind.path)
    assert "mean AUROC of only" in out.replace("\n", " ")
    _, out, _ = run(capsys, "search", blind.path, "red")
    assert DOUBT in out.replace("\n", " ")
    _, out, _ = run(capsys, "search", knows.path, "red")
    assert "doubtful" not in out


def test_columns_count_beside_classes_and_numbers_are_no_names(tmp_path):
    probe = toys.with_columns(tmp_path)
    table = probe.table.assign(**{"2": [float(i % 2) for i in range(28)]})
    probe = type(probe)(probe.root, table, probe.name, (*probe.concepts, "2"), probe.masks)
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", probe=probe))
    names = bundle.table("separation", "names").set_index("name")
    assert set(names.index) == {*toys.CONCEPTS}
    assert pd.isna(names.loc["never", "auroc"])


def test_labelling_without_the_encoder_keeps_what_was_measured(folder, tmp_path):
    path = Path(shutil.copytree(folder / "knows.csp", tmp_path / "a.csp"))
    before = toys.content(path)["separation"]
    recipe = Recipe.from_json(Bundle.open(path).manifest.recipe)
    relabel(path, changed(recipe, {"gamma": 0.5}))
    assert toys.content(path)["separation"] == before


def test_bundles_without_the_stage_say_nothing(folder, tmp_path):
    from csp_engine.bundle import BundleWriter

    path = Path(shutil.copytree(folder / "blind.csp", tmp_path / "a.csp"))
    with BundleWriter(path) as writer:
        writer.drop(["separation"])
    older = Bundle.open(path)
    assert texts_in_words(older) == doubt(older) == ""


def test_cut_borders_are_said_above_a_tenth(folder, monkeypatch):
    bundle = Bundle.open(folder / "knows.csp")
    model = bundle.manifest.inputs["models"]["small"]
    for cut, said in ((0.05, 0), (0.1, 0), (0.25, 1)):
        monkeypatch.setitem(model, "share_cut", cut)
        assert len(seen.cut_notices(bundle)) == said
    assert "25 %" in seen.cut_notices(bundle)[0]
    assert "--preprocessing whole" in seen.cut_notices(bundle)[0]
