"""Whether texts separate images: known answers, encoders that know nothing, and what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import skew
from sklearn.metrics import roc_auc_score

from csp_engine.bundle import Bundle, kinds, verify
from csp_engine.evaluation import separation
from csp_engine.evaluation.lean import Lean, lean
from csp_engine.evaluation.separation import is_separated, naming
from csp_engine.http.answers import Answers
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import Recipe, changed
from csp_engine.views.images import seen
from csp_engine.views.images.separation import DOUBT, doubt, texts_in_words
from csp_engine.views.memo import Memo
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


def shown_few(rng, n_images, n_texts, dim, near):
    """Images of which each shows three of the texts, and those texts; ``near`` 0 shows nothing."""
    text_td = unit(rng.normal(size=(n_texts, dim)) + rng.normal(size=dim))
    image_nd = rng.normal(size=(n_images, dim)) * np.linspace(2, 0.2, dim)
    for image_d in image_nd:
        image_d += near * text_td[rng.choice(n_texts, 3, replace=False)].sum(axis=0)
    return unit(image_nd + 5 * rng.normal(size=dim)), text_td


def test_lean_is_the_skewness_of_the_scores_of_texts():
    image_nd, text_td = shown_few(np.random.default_rng(0), 120, 60, 24, 3)
    found = lean(image_nd, text_td)
    score_tn = (text_td - text_td.mean(axis=0)) @ image_nd.T
    assert found.mean == pytest.approx(skew(score_tn, axis=1).mean(), abs=1e-9)
    assert found.p == 0.01
    assert (found.n_images, found.n_texts) == (120, 60)
    turned = lean(image_nd, -text_td)
    assert turned.mean == pytest.approx(-found.mean, abs=1e-9)
    assert turned.p == 1


def test_a_text_that_scores_all_images_alike_leans_no_way():
    image_nd = np.random.default_rng(0).normal(size=(60, 4)) * [1, 1, 1, 0]
    assert lean(image_nd, np.array([[0, 0, 0, 1.0], [0, 0, 0, -1.0]])).mean == 0


@pytest.mark.parametrize(
    ("images", "texts"), [(np.ones((9, 4)), np.eye(4)), (np.eye(9, 4), np.ones((5, 4)))]
)
def test_where_nothing_varies_nothing_is_said(images, texts):
    found = lean(images, texts)
    assert np.isnan([found.mean, found.p]).all()
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
    assert is_separated(lean(image_nd, text_td), found)
    blind = naming(image_nd, np.roll(text_td, 7, axis=0), value_nc, other)
    assert blind.p > 0.05
    assert is_separated(lean(image_nd, text_td), blind) is False


def named_together(rng, n_images, n_columns, *, knows, dim=48, n_others=40):
    """Columns that go together, names that lie close to each other, and other texts."""
    common = rng.normal(size=(n_images, 1))
    latent_nc = 0.9 * common + 0.45 * rng.normal(size=(n_images, n_columns))
    value_nc = (latent_nc > 0.5 * rng.random(n_columns)).astype(np.float32)
    meant_cd = 0.9 * rng.normal(size=dim) + 0.45 * rng.normal(size=(n_columns, dim))
    image_nd = unit(value_nc @ meant_cd + 2 * rng.normal(size=(n_images, dim)) + 3)
    said_cd = meant_cd + 0.5 * rng.normal(size=(n_columns, dim))
    if not knows:
        said_cd = said_cd @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    other_td = rng.normal(size=(n_others, dim))
    text_td = unit(np.concatenate([said_cd, other_td]) + 0.5 * rng.normal(size=dim))
    is_other_tc = np.arange(len(text_td))[:, None] != np.arange(n_columns)
    return image_nd, text_td, value_nc, is_other_tc


@pytest.mark.parametrize("n_images", [30, 60, 200])
@pytest.mark.parametrize("n_columns", [2, 6])
def test_names_of_columns_that_go_together_pass_by_chance_one_time_in_twenty(n_images, n_columns):
    """Names drawn one by one let a fifth pass: together they all hit or all miss."""
    nobody = Lean(0.0, 0.5, 1, 1)
    passed = {True: 0, False: 0}
    for knows, n_worlds in ((False, 100), (True, 20)):
        for seed in range(n_worlds):
            world = named_together(np.random.default_rng(seed), n_images, n_columns, knows=knows)
            found = naming(*world, n_draws=39, seed=seed)
            passed[knows] += is_separated(nobody, found) is True
    assert passed[False] <= 11  # 0.4 % of such tests would have more
    assert passed[True] >= 19


def test_the_share_of_turned_names_that_do_as_well_is_counted_by_hand():
    image_nd, text_td, value_nc, is_other_tc = named_together(
        np.random.default_rng(3), 50, 3, knows=False
    )
    value_nc[:7, 1] = np.nan
    found = naming(image_nd, text_td, value_nc, is_other_tc, n_draws=30, seed=5)

    def mean_auroc(name_cd):
        known = ~np.isnan(value_nc)
        areas = [
            roc_auc_score(value_nc[known[:, c], c], image_nd[known[:, c]] @ name_cd[c])
            for c in range(3)
        ]
        return np.mean(areas)

    name_cd = text_td[:3] - text_td.mean(axis=0)
    assert found.mean == pytest.approx(mean_auroc(name_cd), abs=1e-6)
    rng, basis_rd = np.random.default_rng(5), np.linalg.svd(name_cd, full_matrices=False)[2]
    turned = [name_cd @ basis_rd.T @ np.linalg.qr(rng.normal(size=(48, 3)))[0].T for _ in range(30)]
    np.testing.assert_allclose(turned[0] @ turned[0].T, name_cd @ name_cd.T, atol=1e-9)
    n_as_high = sum(mean_auroc(each) >= mean_auroc(name_cd) - 1e-9 for each in turned)
    assert 0 < n_as_high < 30
    assert found.p == pytest.approx((1 + n_as_high) / 31)


def test_two_kinds_of_images_that_differ_in_all_respects_show_nothing(folder):
    """Any direction tells them apart, one way or the other."""
    rng = np.random.default_rng(0)
    class_n = np.arange(60) % 2
    value_nc = np.eye(2, dtype=np.float32)[class_n]
    image_nd = unit(np.eye(20)[class_n] + 1e-6 * rng.normal(size=(60, 20)))
    text_td = unit(np.concatenate([np.eye(20)[:2], rng.normal(size=(9, 20))]))
    found = naming(image_nd, text_td, value_nc, np.arange(11)[:, None] != np.arange(2))
    assert found.mean == 1
    assert found.p_least > 0.05
    assert is_separated(Lean(0.0, 0.5, 60, 60), found) is None
    bundle = Bundle.open(folder / "knows.csp")
    facts = bundle.stage(kinds.SEPARATION.name()).facts
    facts["is_separated"] = None
    assert "That shows nothing" in texts_in_words(bundle)
    assert "only" not in texts_in_words(bundle)
    assert doubt(bundle) == ""


def outliers(rng, n):
    return rng.normal(size=(n, 20)) * (1 + 20 * (rng.random((n, 1)) < 0.05))


def clusters(rng, n):
    return np.eye(20)[rng.integers(0, 3, n)] + 0.1 * rng.normal(size=(n, 20))


KINDS_OF_IMAGES = {
    "alike on all sides": lambda rng, n: rng.normal(size=(n, 20)),
    "flat": lambda rng, n: rng.normal(size=(n, 6)) @ rng.normal(size=(6, 20)),
    "long-tailed": lambda rng, n: rng.exponential(size=(n, 20)) ** 2,
    "with outliers": outliers,
    "in clusters": clusters,
}


@pytest.mark.parametrize("kind", KINDS_OF_IMAGES)
def test_encoders_that_know_nothing_rarely_pass(kind):
    """Of a hundred, about five may by chance; texts share a direction, as real ones do."""
    n_passed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        image_nd = unit(KINDS_OF_IMAGES[kind](rng, 80))
        text_td = unit(rng.normal(size=(60, 20)) * np.linspace(3, 0.1, 20) + rng.normal(size=20))
        text_td = text_td @ np.linalg.qr(rng.normal(size=(20, 20)))[0]
        n_passed += lean(image_nd, text_td, n_draws=19, seed=seed).p <= 0.05
    assert n_passed <= 12  # 0.1 % of such tests would have more


def test_encoders_that_know_the_images_pass():
    """Also where texts spread the images no further than at random, as with real encoders."""
    for seed in range(20):
        image_nd, text_td = shown_few(np.random.default_rng(seed), 60, 50, 64, 6)
        assert lean(image_nd, text_td, n_draws=19).p == 0.05, seed


def test_of_few_images_or_texts_nothing_bad_is_said():
    nobody = naming(np.eye(9, 4), np.eye(4), np.zeros((9, 0), np.float32), np.zeros((4, 0), bool))
    for n_images, n_texts, verdict in ((50, 50, False), (49, 50, None), (50, 49, None)):
        assert is_separated(Lean(0.0, 0.5, n_images, n_texts), nobody) is verdict
        assert is_separated(Lean(0.5, 0.01, n_images, n_texts), nobody) is True


@pytest.mark.slow
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


def without_classes(folder: Path):
    probe = toys.request(folder, folder / "no.csp").probe
    return type(probe)(probe.root, probe.table.drop(columns="class"), probe.name)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [toys.ColourEncoder, KnowsNothing])
def test_without_columns_or_classes_texts_are_measured_all_the_same(
    tmp_path, capsys, monkeypatch, encoder
):
    made = {"probe": without_classes(tmp_path), "encoder": encoder()}
    few = build(toys.request(tmp_path, tmp_path / "few.csp", **made))
    facts = few.stage(kinds.SEPARATION.name()).facts
    assert (facts["n_images"], facts["n_texts"], facts["auroc"]) == (28, 10, None)
    assert facts["is_separated"] is None or facts["lean_p"] <= 0.05
    monkeypatch.setattr(separation, "LEAST_IMAGES", 28)
    monkeypatch.setattr(separation, "LEAST_TEXTS", 10)
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", **made))
    facts = bundle.stage(kinds.SEPARATION.name()).facts
    assert facts["is_separated"] is (encoder is toys.ColourEncoder)
    assert bool(doubt(bundle)) is (encoder is KnowsNothing)
    assert verify(bundle) == []
    _, out, _ = run(capsys, "info", bundle.path)
    said = "more sharply" if encoder is toys.ColourEncoder else "no more sharply"
    assert f"{said} than directions that mean nothing" in out.replace("\n", " ")
    assert "was not measured" not in out


def test_too_few_images_without_names_are_said(tmp_path, capsys):
    made = {"probe": without_classes(tmp_path), "encoder": KnowsNothing()}
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", **made))
    assert doubt(bundle) == ""
    _, out, _ = run(capsys, "info", bundle.path)
    assert "28 images, 10 labels, and no concept columns or classes" in out.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["knows", "blind"])
def test_the_doubt_stands_in_every_answer_to_programs(folder, tmp_path, capsys, name):
    path = folder / f"{name}.csp"
    wanted = DOUBT if name == "blind" else None
    bundle = Bundle.open(path)
    method = bundle.methods("small", bundle.layers("small")[0])[0]
    row = bundle.index_rows(method).iloc[0]
    neuron = f"{row['model']}/{row['layer']}/{row['unit']}"
    for arguments in (
        ("search", path, "red"),
        ("search", path, "--like", neuron),
        ("info", path),
        ("export", path, tmp_path / "labels.csv"),
        ("export", path, tmp_path / "pages", "--format", "html"),
        ("label", path),
    ):
        code, out, error = run(capsys, *arguments, "--json")
        assert code == 0, error
        assert json.loads(out)["doubt"] == wanted, arguments
    _, out, _ = run(capsys, "export", path, tmp_path / "again.csv")
    assert (DOUBT in out.replace("\n", " ")) is (name == "blind")
    card = Answers(lambda _: bundle, Memo(), str).card("b", bundle.digest[:16], method, "0-0")
    assert ("doubtful" in json.loads(card.body)["facts"]) is (name == "blind")


@pytest.mark.slow
def test_searching_by_column_and_auditing_say_the_doubt_too(tmp_path, capsys):
    made = {"probe": toys.with_columns(tmp_path), "encoder": KnowsNothing()}
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", **made))
    assert doubt(bundle) == DOUBT
    column = bundle.table("separation", "names")["name"].iloc[0]
    _, out, _ = run(capsys, "search", bundle.path, "--column", column, "--json")
    assert json.loads(out)["doubt"] == DOUBT
    _, out, _ = run(capsys, "search", bundle.path, "--column", column)
    assert DOUBT in out.replace("\n", " ")


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


def test_bundles_without_the_stage_say_that_nothing_was_measured(folder, tmp_path):
    from csp_engine.bundle import BundleWriter

    path = Path(shutil.copytree(folder / "blind.csp", tmp_path / "a.csp"))
    with BundleWriter(path) as writer:
        writer.drop(["separation"])
    older = Bundle.open(path)
    assert "was not measured: there was no encoder" in texts_in_words(older)
    assert doubt(older) == ""


def test_the_first_version_of_the_stage_counts_for_names_alone(folder, monkeypatch):
    bundle = Bundle.open(folder / "blind.csp")
    first = {"is_separated": False, "n_named": 4, "spread": 1.0, "spread_p": 0.5, "auroc": 0.5}
    facts = bundle.stage(kinds.SEPARATION.name()).facts
    facts.clear()
    facts.update(first, shuffled=0.5, auroc_p=0.6)
    assert "only 0.500" in texts_in_words(bundle)
    assert doubt(bundle) == DOUBT
    facts.update(n_named=0, auroc=None, shuffled=None, auroc_p=None)
    assert "was not measured" in texts_in_words(bundle)
    assert doubt(bundle) == ""


def test_cut_borders_are_said_above_a_tenth(folder, monkeypatch):
    bundle = Bundle.open(folder / "knows.csp")
    model = bundle.manifest.inputs["models"]["small"]
    for cut, said in ((0.05, 0), (0.1, 0), (0.25, 1)):
        monkeypatch.setitem(model, "share_cut", cut)
        assert len(seen.cut_notices(bundle)) == said
    assert "25 %" in seen.cut_notices(bundle)[0]
    assert "--preprocessing whole" in seen.cut_notices(bundle)[0]
