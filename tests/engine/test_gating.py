"""Pasted artefacts behind their gates: from photographs with columns to what is withheld."""

from __future__ import annotations

import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.errors import InputError
from csp_engine.evaluation.within_classes import LEAST_OF_EACH, difference_within_classes
from csp_engine.networks.intervening.pairs import PairRuns
from csp_engine.pasting.paste import paste
from csp_engine.pasting.pasted import PastedPairs
from csp_engine.pasting.sheet import TILE, contact_sheet
from csp_engine.pipeline.intervening.measuring import N_SHOWN
from csp_engine.probe import read_probe_set
from csp_engine.probe.decoding import decode
from csp_engine.views.audit import interventions as view
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.gate import judge, read_condition
from csp_engine.views.audit.gates import Gate, same_sign
from csp_engine.views.memo import Memo
from csp_engine.views.overview.story import story_of
from csp_engine.words.concepts import find_concept_set
from pages.ui.parts import intervened
from tests.engine.test_cli import run
from tests.engine.test_pasting import skin
from tests.worlds import damage, toys

N = 84


def plain_difference(score, has, classes):
    """The definition, class by class, without draws."""
    top = bottom = 0.0
    for each in set(classes):
        own = np.array([c == each for c in classes])
        with_it, without = score[own & has], score[own & ~has]
        if min(len(with_it), len(without)) >= LEAST_OF_EACH:
            weight = len(with_it) * len(without) / own.sum()
            top += weight * (with_it.mean() - without.mean())
            bottom += weight
    return top / bottom if bottom else math.nan


def test_the_difference_is_within_classes():
    """A class that goes with the artefact makes no difference by itself."""
    rng = np.random.default_rng(0)
    classes = np.where(rng.random(400) < 0.5, "a", "b")
    has = rng.random(400) < np.where(classes == "a", 0.8, 0.2)
    score = np.where(classes == "a", 5.0, 0.0) + rng.normal(size=400)
    found = difference_within_classes(score, has, list(classes), np.arange(400))
    assert found.value == pytest.approx(plain_difference(score, has, list(classes)))
    assert not found.is_away_from_zero
    raised = difference_within_classes(score + 0.5 * has, has, list(classes), np.arange(400))
    assert raised.value == pytest.approx(found.value + 0.5)
    assert raised.low < raised.value < raised.high
    assert raised.is_away_from_zero


def test_the_interval_covers_and_groups_are_drawn_together():
    hits, rng = 0, np.random.default_rng(1)
    for seed in range(60):
        has, classes = rng.random(80) < 0.4, list(rng.integers(0, 2, 80))
        score = 0.7 * has + rng.normal(size=80)
        found = difference_within_classes(score, has, classes, np.arange(80), seed)
        hits += found.low <= 0.7 <= found.high
    assert hits >= 52
    one = difference_within_classes(score, has, classes, np.arange(80))
    doubled = [np.tile(each, 4) for each in (score, has, np.array(classes), np.arange(80))]
    four = difference_within_classes(doubled[0], doubled[1], list(doubled[2]), doubled[3])
    assert (four.low, four.high) == pytest.approx((one.low, one.high))


@pytest.mark.parametrize("unknown", [None, float("nan"), pd.NA])
def test_images_of_unknown_class_are_of_no_class(unknown):
    """Among them the thing goes with the class, as it does in all of them together."""
    rng = np.random.default_rng(0)
    is_second = rng.random(4000) < 0.5
    has = rng.random(4000) < np.where(is_second, 0.9, 0.1)
    score = 3.0 * is_second + rng.normal(size=4000)
    classes = [unknown if i % 2 else str(second) for i, second in enumerate(is_second)]
    found = difference_within_classes(score, has, classes, np.arange(4000))
    assert found.low < 0 < found.high
    assert math.isnan(
        difference_within_classes(score, has, [unknown] * 4000, np.arange(4000)).value
    )


def test_no_class_with_both_is_unknown():
    has = np.arange(20) < 10
    assert math.isnan(difference_within_classes(np.ones(20), has, list(has), np.arange(20)).value)
    assert math.isnan(
        difference_within_classes(np.ones(0), np.zeros(0, bool), [], np.zeros(0, int)).value
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Skin with a column for dark corners that tells the truth, one for patches that is chance."""
    folder = tmp_path_factory.mktemp("photos")
    rows = []
    for i in range(N):
        image = skin((48, 48), seed=i)
        has = i % 3 == 0
        if has:
            image = paste(image, "dark corners", 100 + i).with_it
        image.save(folder / f"{i:03d}.png")
        rows.append(
            {
                "file": f"{i:03d}.png",
                "class": ("mole", "spot")[i % 2],
                "dark_corner": int(has),
                "patches": int(i % 5 == 0),
            }
        )
    pd.DataFrame(rows).to_csv(folder / "photos.csv", index=False)
    return folder / "photos.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("pasted")
    target = toys.target()
    asked = toys.request(folder, folder / "small.csp", targets=(target,))
    bundle = pipeline.build(asked)
    probe = read_probe_set(photos)
    pairs = PastedPairs(probe, ["dark corners", "colour patch", "hair"], 24, 0)
    gates = pipeline.gate_pastes(bundle, target, "red", probe, pairs, toys.ColourEncoder())
    bundle = pipeline.add_interventions(bundle.path, target, pairs, "red", gates=gates, n_random=2)
    return bundle, target, pairs, gates, probe


@pytest.mark.slow
def test_a_gate_opens_for_what_passes_for_real_alone(made):
    bundle, _, _, gates, _ = made
    assert gates["dark corners"].gate.is_open
    assert not gates["colour patch"].gate.is_open
    assert gates["hair"].gate is None
    assert "no column of" in gates["hair"].why
    assert (gates["dark corners"].n_with, gates["dark corners"].n_without) == (28, 56)
    stored = bundle.intervention("small")
    found = {each.artefact: each for each in view.effects(stored)}
    assert not found["dark corners"].is_withheld
    assert found["colour patch"].verdict == found["hair"].verdict == "withheld"
    told = view.conclusion("red", view.effects(stored))
    assert "Pasted colour patch and hair do not pass for real" in told or (
        "Pasted hair and colour patch do not pass for real" in told
    )
    withheld = view.audited(bundle, "small", "hair", "csp")
    assert withheld.suspects == ()
    assert "no column" in withheld.effect.sentence("red")
    assert verify(bundle) == []


@pytest.mark.slow
def test_photographs_of_what_is_withheld_tell_no_effect_and_no_decision(made):
    bundle = made[0]
    stored = bundle.intervention("small")
    found = {each.artefact: each for each in view.effects(stored)}
    shown = intervened.pairs(bundle, "small", stored, found["dark corners"])
    assert len(re.findall(r"<p>effect [+−]\d\.\d\d</p>", shown)) == N_SHOWN
    for name in ("hair", "colour patch"):
        shown = intervened.pairs(bundle, "small", stored, found[name])
        assert shown.count("<img") == 3 * N_SHOWN
        assert shown.count("<p>effect withheld</p>") == N_SHOWN
        assert "called red" not in shown
        assert "amber" not in shown
        assert "class='other'" not in shown


@pytest.mark.slow
def test_what_is_withheld_gives_no_figure_to_programs(made, capsys):
    """Reason and gate, but neither effect nor decisions: in Python, JSON and the API."""
    bundle = made[0]
    stored = bundle.intervention("small")
    measured = stored.effects.set_index("artefact")
    by_name = {each.artefact: each for each in view.effects(stored)}
    _, shown, _ = run(capsys, "intervene", bundle.path, "--json")
    for row in [
        *view.as_json(bundle, "small", "csp")["artefacts"],  # what the API gives
        *json.loads(shown)["artefacts"],
    ]:
        own = measured.loc[row["artefact"]]
        if row["artefact"] == "dark corners":
            assert row["effect"]["value"] == own["effect"]
            assert (row["n_called"], row["withheld"]) == (own["n_called"], None)
            continue
        assert row["withheld"]
        told = ("effect", "change", "neutral", "n_called", "n_lost", "n_gained", "scope")
        assert {row[name] for name in told} == {None}
        assert row["layers"] == row["suspects"] == row["given"] == []
        text = json.dumps(row)
        figures = own[["effect", "effect_low", "effect_high", "change", "neutral"]]
        assert not [value for value in figures if repr(float(value)) in text]
    for name in ("hair", "colour patch"):
        effect = by_name[name]
        assert not any(each.is_known for each in (effect.effect, effect.change, effect.neutral))
        assert (effect.n_called, effect.n_lost, effect.n_gained) == (0, 0, 0)
        for picture in view.pictures(stored, effect):
            assert picture.keys() == {"file", "picture"}


def test_what_is_withheld_is_no_headline_and_no_condition(made):
    bundle = made[0]
    told = story_of(bundle, Memo(), "csp")
    assert told is None or told.found.effect.artefact == "dark corners"
    concepts = find_concept_set("melanoma")
    layers = bundle.layers("small")
    (known,) = judge(
        bundle, "small", layers, [read_condition("effect dark corners > 99")], concepts
    )
    assert not known.fails
    for name in ("hair", "colour patch"):
        with pytest.raises(InputError, match=f"pasted {name} is withheld: .* cannot be judged"):
            judge(bundle, "small", layers, [read_condition(f"effect {name} > 99")], concepts)


def test_what_real_photographs_do_is_what_the_network_says(made):
    _, target, _, gates, probe = made
    runs = PairRuns(target.model, target.taps, "red")
    images = [decode(probe.read(row)) for row in range(len(probe))]
    score, _ = runs.scores(np.stack([target.model.preprocess(image) for image in images]))
    has = probe.table["dark_corner"].to_numpy() > 0
    expected = plain_difference(score, has, probe.table["class"].tolist())
    assert gates["dark corners"].observed.value == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_vectors_of_the_bundle_are_those_of_the_encoder(tmp_path, photos):
    """A photograph that the bundle holds is not embedded again, and nothing changes by it."""
    probe = read_probe_set(photos)
    target = toys.target()
    pairs = PastedPairs(probe, ["dark corners"], 20, 0)
    found = []
    for images in (None, probe):
        changes = {} if images is None else {"probe": images}
        asked = toys.request(tmp_path, tmp_path / f"{images is None}.csp", **changes)
        bundle = pipeline.build(asked)
        gates = pipeline.gate_pastes(bundle, target, "red", probe, pairs, toys.ColourEncoder())
        found.append(gates["dark corners"].gate)
    assert found[0].pasted.auroc == pytest.approx(found[1].pasted.auroc, abs=1e-3)
    assert found[0].real.auroc == pytest.approx(found[1].real.auroc, abs=1e-3)


def test_pasted_pairs_need_their_gates(made):
    bundle, target, pairs, _, _ = made
    with pytest.raises(InputError, match="only behind their gates"):
        pipeline.add_interventions(bundle.path, target, pairs, "red")


def test_an_encoder_of_stored_vectors_cannot_judge(made):
    bundle, target, pairs, _, probe = made

    class Stored(toys.ColourEncoder):
        needs_pixels = False

    with pytest.raises(InputError, match="cannot look at pasted images"):
        pipeline.gate_pastes(bundle, target, "red", probe, pairs, Stored())


def a_gate(effect, **changes):
    known = Figure(0.9, 0.85, 0.95)
    given = {"artefact": "ruler", "real": known, "pasted": known, "neutral": Figure(0.5, 0.4, 0.6),
             "least": 0.8, "why": "", "observed": Figure(-0.4, -0.6, -0.2), "n_with": 40,
             "n_without": 80}  # fmt: skip
    given |= changes
    return Gate(**given, agrees=same_sign(given["observed"], effect))


def test_another_sign_than_real_ones_withholds():
    lower, higher, nothing = (Figure(v, v - 0.2, v + 0.2) for v in (-0.5, 0.5, 0.0))
    assert a_gate(lower).why_withheld == ""
    assert "differ the other way" in a_gate(higher).why_withheld
    assert a_gate(nothing).why_withheld == ""
    assert a_gate(higher, observed=nothing).why_withheld == ""
    assert "could not be told" in a_gate(higher, observed=nothing).sentence()
    told = a_gate(nothing).sentence()  # no effect to compare with, but real ones do differ
    assert told.endswith("Real ones differ by −0.40 (−0.60 to −0.20) within classes.")
    assert "0.80 is asked" in a_gate(lower, pasted=Figure(0.79, 0.7, 0.85)).why_withheld
    assert a_gate(lower, pasted=Figure(math.nan, math.nan, math.nan)).why_withheld


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("least", 0.5, "asks for 0.5"),
        ("pasted", 0.97, "Bounds of pasted"),
        ("real", 0.1, "real in the gate"),
        ("pasted", 1.4, "outside of 0 to 1"),
        ("artefact", "ruler", "other artefacts than the effects"),
    ],
)
def test_forged_gates_are_told(made, tmp_path, column, value, said):
    path = tmp_path / "forged.csp"
    shutil.copytree(made[0].path, path)
    file = damage.place(path, "intervention:small", "gates.parquet")
    rows = pd.read_parquet(file)
    at = rows.index[rows["artefact"] == "colour patch"][0]
    rows.loc[at, column] = value
    rows.to_parquet(file, index=False)
    damage.redo(path)
    try:
        problems = verify(Bundle.open(path))
    except Exception as error:
        problems = [str(error)]
    assert any(said in each for each in problems), problems


def test_a_sheet_shows_the_first_pairs(made):
    pairs = made[2]
    sheet = np.asarray(contact_sheet(pairs, 3)).astype(int)
    assert sheet.shape[1] > 3 * TILE
    without, with_it, _ = pairs.images(0)
    assert Image.fromarray(sheet.astype(np.uint8)).getpixel((6 + 80, 18 + 80)) == pytest.approx(
        without.resize((160, 160)).getpixel((80, 80)), abs=30
    )
    assert not np.array_equal(np.asarray(without), np.asarray(with_it))


@pytest.mark.slow
def test_the_command_pastes_and_withholds(made, photos, tmp_path, capsys, monkeypatch):
    bundle = made[0]
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    own = ("--photos", photos, "--output", "red", "--preprocessing", pixels, "--n-pairs", 20)
    sheet = tmp_path / "sheet.png"
    code, _, said = run(capsys, "intervene", bundle.path, "--paste", "hair", *own, "--sheet", sheet)
    assert (code, sheet.exists()) == (0, True), said
    code, shown, said = run(
        capsys, "intervene", bundle.path, "--paste", "dark corners", "--paste", "hair", *own
    )
    assert code == 0, said
    assert "The effect of pasted hair is withheld: no column of" in " ".join(shown.split())
    assert "Pasted dark corners passes for real" in " ".join(shown.split())
    code, shown, _ = run(capsys, "intervene", bundle.path, "--json")
    rows = {row["artefact"]: row for row in json.loads(shown)["artefacts"]}
    assert rows["hair"]["gate"]["withheld"]
    assert rows["dark corners"]["gate"]["withheld"] is None
    for wrong, sentence in (
        (("--paste", "nonsense", *own), "There is no artefact 'nonsense'"),
        (("--paste", "hair", "--output", "red"), "Paste into which photographs?"),
        (("--photos", photos), "--photos, --image-root and --cutouts are for --paste"),
        (("--paste", "hair", "--pairs", photos, *own), "two ways to the same"),
        (("--paste", "hair", *own, "--sheet", tmp_path / "a.gif"), "end --sheet with"),
        (("--sheet", sheet), "Which pairs?"),
        (("--paste", "hair", "--photos", photos, "--output", "mauve"), "no output 'mauve'"),
    ):
        code, _, said = run(capsys, "intervene", bundle.path, *wrong)
        assert code == 2
        assert sentence in " ".join(said.split()), said
