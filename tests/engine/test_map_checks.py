"""Checks of maps in a bundle, overlays from a process of their own, and the command."""

from __future__ import annotations

import io
import json
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.bundle.checks.pointing import SHARES, fault_of_maps
from csp_engine.errors import InputError, MissingModelError, StaleError
from csp_engine.exports.report.sections import maps as maps_section
from csp_engine.http.answers import Answers
from csp_engine.http.permissions import Permission, needed
from csp_engine.networks.layers import select_layers
from csp_engine.pasting.pairs import mask_of
from csp_engine.pipeline.added import map_checks
from csp_engine.pipeline.mapping.overlays import NeuronOverlays, overlay
from csp_engine.pipeline.recipe import Recipe
from csp_engine.reading.groups import by_turns
from csp_engine.serving.map_process import MapProcess, network_of
from csp_engine.trust import TRUST
from csp_engine.types import NeuronRef
from csp_engine.views.memo import Memo
from csp_engine.views.neuron import looking
from csp_engine.views.neuron.looking import check_of, checks_of, said_of_map, why_no_map
from tests.engine.test_cli import run
from tests.worlds import toys

PAGES = ["activation", "gradient"]
FIRST = NeuronRef("small", "first@mean", 1)


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv(TRUST, "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    images = toys.draw_images(folder / "images")
    target = toys.target(["first", "head"])
    bundle = pipeline.build(toys.request(images, folder / "small.csp", targets=(target,)))
    shutil.copytree(bundle.path, folder / "plain.csp")
    checked = pipeline.add_map_checks(bundle.path, target, toys.CornerPairs(), maps=PAGES)
    return checked, target


# ------------------------------------------------------------------ the stage


def test_figures_are_of_every_photograph_and_controls_are_beside_them(made):
    bundle, _ = made
    stored = bundle.map_checks("small", "first@mean")
    rows = stored.photographs
    assert set(rows["map"]) == {"activation", "gradient"}
    assert set(stored.units["unit"]) <= set(range(8))
    assert (stored.units["answer"] >= 1).all()
    # a red corner of 16 of 40 pixels, and what lies within a fifteenth of the side of it
    assert 0.16 < rows["base"].mean() < 0.23
    assert rows["random_hit"].mean() == pytest.approx(rows["base"].mean(), abs=0.1)
    own = rows[rows["map"] == "activation"]
    assert own["hit"].mean() > 0.6
    assert own["overlap"].mean() > own["random_overlap"].mean()
    assert rows[list(SHARES)].to_numpy().min() >= 0
    assert verify(bundle) == []


def test_a_vector_layer_has_no_map_of_its_own_but_contrast(made):
    bundle, _ = made
    head = bundle.map_checks("small", "head@none")
    assert set(head.photographs["map"]) <= {"gradient"}
    assert "no place" in why_no_map(bundle, NeuronRef("small", "head@none", 0), "activation")
    assert why_no_map(bundle, NeuronRef("small", "head@none", 0), "gradient") == ""
    assert why_no_map(bundle, FIRST, "activation") == ""


def test_what_is_said_follows_from_the_figures(made):
    bundle, _ = made
    found = check_of(bundle, FIRST, "activation")
    rows = bundle.map_checks("small", "first@mean").photographs
    rows = rows[rows["map"] == "activation"]
    assert found.rate.value == pytest.approx(rows["hit"].mean())
    assert found.n_photographs == len(rows)
    is_better = all(
        (rows["hit"] - rows[f"{control}_hit"]).mean() > 0 and found.against[control].is_better
        for control in found.against
    )
    assert found.is_good == is_better
    mark, said = said_of_map(bundle, FIRST, "activation")
    assert (mark == "") == found.is_good
    assert "red corner" in said
    assert "random weights" in said
    mark, said = said_of_map(bundle, FIRST, "rise")
    assert mark == "Not checked."
    assert [each.artefact for each in checks_of(bundle, "small", "first@mean")].count("") == 2


def test_it_is_measured_once_and_stays_while_the_network_does(made):
    bundle, target = made
    stage = "maps:small/first@mean"
    key = bundle.manifest.stages[stage].key
    again = pipeline.add_map_checks(bundle.path, target, toys.CornerPairs(), maps=PAGES)
    assert again.manifest.stages[stage].key == key
    relabelled = pipeline.relabel(bundle.path, Recipe.restated(bundle.manifest.recipe, {}))
    assert relabelled.manifest.stages[stage].key == key


def test_bad_requests_are_one_sentence(made):
    bundle, target = made
    with pytest.raises(InputError, match="choose one of activation"):
        pipeline.add_map_checks(bundle.path, target, toys.CornerPairs(), maps=["lime"])
    with pytest.raises(InputError, match=r"has pairs of 2 groups\. .*pairs of 20 groups"):
        pipeline.add_map_checks(bundle.path, target, toys.CornerPairs(4), maps=["occlusion"])
    other = toys.target(["first"], name="other")
    with pytest.raises(InputError, match="not the network that"):
        pipeline.add_map_checks(bundle.path, other, toys.CornerPairs())


@pytest.mark.parametrize(("n_groups", "n"), [(1, 60), (5, 60), (19, 76)])
def test_maps_are_not_checked_on_few_groups(made, n_groups, n):
    bundle, target = made
    pairs = toys.CornerPairs(n)
    pairs.table["group"] = [f"lesion {i % n_groups}" for i in range(n)]
    pairs.fingerprint = f"few {n_groups}"
    said = f"red corner has pairs of {n_groups} group{'s' * (n_groups != 1)}. Checks need"
    with pytest.raises(InputError, match=said):
        pipeline.add_map_checks(bundle.path, target, pairs, maps=["activation"])
    assert bundle.map_checks("small", "first@mean") is not None  # what there was stays


def test_of_many_pairs_every_group_gets_its_turn(tmp_path, made):
    """The first so many photographs would be of few groups."""
    bundle, target = made
    copy = shutil.copytree(bundle.path, tmp_path / "own.csp")
    pairs = toys.CornerPairs(132)
    pairs.table["group"] = [f"lesion {i // 6}" for i in range(132)]
    pairs.fingerprint = "turns"
    found = pipeline.add_map_checks(copy, target, pairs, maps=["activation"])
    rows = found.map_checks("small", "first@mean").photographs
    assert len(rows) == map_checks.N_PHOTOGRAPHS
    assert sorted(rows["group"].value_counts()) == [2] + [3] * 10
    order = by_turns(np.array([1, 2, 4, 5, 6]), np.array([9, 0, 0, 9, 3, 0, 3]))
    assert order.tolist() == [1, 4, 2, 6, 5]


def test_tables_that_cannot_be_are_told(made):
    bundle, _ = made
    rows = bundle.map_checks("small", "first@mean").photographs
    assert fault_of_maps(rows, {"red corner"}) == ""
    assert "no neuron was tried" in fault_of_maps(rows, {"ruler"})
    assert "outside" in fault_of_maps(rows.assign(other_hit=np.float32(1.5)), {"red corner"})


def test_masks_are_where_a_pair_differs():
    pairs = toys.CornerPairs()
    without, with_it, _ = pairs.images(3)
    change = np.abs(np.asarray(with_it, int) - np.asarray(without, int)).max(-1) > 20
    assert (mask_of(pairs, 3) == change).all()
    assert change[:16, :16].mean() > 0.95
    assert not change[16:].any()


# ------------------------------------------------------------------ overlays


def opened(pack):
    (count,) = struct.unpack_from("<I", pack)
    lengths = struct.unpack_from(f"<{count}I", pack, 4)
    at, found = 4 + 4 * count, []
    for length in lengths:
        found.append(Image.open(io.BytesIO(pack[at : at + length])))
        at += length
    assert at == len(pack)
    return found


@pytest.fixture(scope="module")
def process():
    running = MapProcess()
    yield running
    running.close()


@pytest.mark.slow
def test_another_process_draws_what_this_one_would(made, process):
    bundle, target = made
    (tap,) = select_layers(target.model, ["first@mean"])
    here = NeuronOverlays(bundle, target.model, tap, 1)
    for name in ("activation", "gradient"):
        found = process.overlays(bundle, FIRST, name, [5, 0])
        for picture, expected in zip(opened(found), here.of(name, [5, 0]), strict=True):
            wanted = Image.open(io.BytesIO(expected))
            assert picture.size == (40, 40)
            assert picture.tobytes() == wanted.tobytes()
        assert process.overlays(bundle, FIRST, name, [5, 0]) == found
    assert here.off < 0.1


@pytest.mark.slow
def test_sentences_arrive_and_the_next_question_is_answered(made, process, monkeypatch):
    bundle, _ = made
    with pytest.raises(InputError, match="no place"):
        process.overlays(bundle, NeuronRef("small", "head@none", 0), "activation", [0])
    assert len(opened(process.overlays(bundle, FIRST, "activation", [1]))) == 1
    fresh = MapProcess()
    monkeypatch.setenv(TRUST, "")
    with pytest.raises(MissingModelError, match="runs only if you trust it"):
        fresh.overlays(bundle, FIRST, "activation", [1])
    fresh.close()


def test_a_network_with_other_weights_is_refused(made):
    bundle, _ = made
    held = bundle.manifest.inputs["models"]["small"]
    before, held["fingerprint"] = held["fingerprint"], "0" * 64
    try:
        with pytest.raises(StaleError, match="is not the network that made"):
            network_of(bundle, "small")
    finally:
        held["fingerprint"] = before


def test_thumbnails_on_which_a_neuron_fires_otherwise_get_no_map(made):
    bundle, target = made
    (tap,) = select_layers(target.model, ["first@mean"])
    found = NeuronOverlays(bundle, target.model, tap, 1)
    found.require_alike()
    found.__dict__["off"] = 0.4
    with pytest.raises(InputError, match="fires 40% off"):
        found.require_alike()


def test_an_overlay_is_clear_where_the_map_is_full_and_dark_where_it_is_nothing():
    value = np.zeros((40, 40), np.float32)
    value[10:30, 10:30] = 1
    alpha = np.asarray(Image.open(io.BytesIO(overlay(value))).convert("RGBA"))[..., 3]
    assert alpha[14:26, 14:26].max() < 20
    assert alpha[:6].min() > 150


def test_addresses_of_maps_answer_or_say_why_not(made):
    bundle, _ = made
    asked = []

    def overlays(*given):
        asked.append(given[1:])
        if given[1].unit == 7:
            raise InputError("no map, see /a/secret/place")
        return b"pack"

    answers = Answers(
        lambda _: bundle, Memo(), str, overlays, lambda s: s.replace("/a/secret/", "")
    )
    digest = bundle.digest[:16]
    found = answers.maps("b", digest, "activation", "0-1", "3-1", "me")
    assert (found.status_code, found.body) == (200, b"pack")
    assert "immutable" in found.headers["cache-control"]
    assert asked == [(FIRST, "activation", [3, 1], "me")]
    refused = answers.maps("b", digest, "activation", "0-7", "3", "me")
    assert (refused.status_code, refused.body) == (409, b"no map, see place")
    for name, address, images in (
        ("rise", "0-1", "3"),  # not from a page: it takes too long
        ("none", "0-1", "3"),
        ("activation", "0-99", "3"),
        ("activation", "0-1", "999"),
        ("activation", "0-1", "x"),
        ("activation", "0-1", "-".join(["1"] * 201)),
    ):
        assert answers.maps("b", digest, name, address, images, "me").status_code == 404
    assert answers.maps("b", "0" * 16, "activation", "0-1", "3", "me").status_code == 404
    assert needed(["csp", "maps", "b"]) is Permission.ENCODE


# ------------------------------------------------------------------ the command


def test_the_command_shows_checks_and_draws(made, tmp_path, capsys):
    bundle, _ = made
    code, out, error = run(capsys, "maps", bundle.path, "--layer", "first@mean")
    assert code == 0, error
    assert "red corner" in out
    known = json.loads(run(capsys, "maps", bundle.path, "--json")[1])
    (first, *_) = known["layers"]["first@mean"]
    assert first["map"] == "activation"
    assert first["hit"]["value"] == check_of(bundle, FIRST, "activation").rate.value
    looks = tmp_path / "looks"
    asked = ["--neuron", "small/first@mean/1", "--map", "activation", "--map", "occlusion"]
    code, _, error = run(capsys, "maps", bundle.path, *asked, "--image", "3", "--out", looks)
    assert code == 0, error
    assert sorted(path.name for path in looks.iterdir()) == [
        "activation-01-image-3.png",
        "occlusion-01-image-3.png",
    ]
    with Image.open(looks / "activation-01-image-3.png") as picture:
        assert picture.size == (40, 40)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--neuron", "small/first@mean/1"], "Name a new folder with --out"),
        (["--neuron", "small/first@mean/99", "--out", "x"], "has no unit 99"),
        (["--neuron", "other/first@mean/1", "--out", "x"], "it has small"),
        (["--neuron", "small/third/1", "--out", "x"], "first@mean"),
        (["--neuron", "small/first@mean/1", "--out", "x", "--map", "lime"], "choose one of"),
        (["--neuron", "small/first@mean/1", "--out", "x", "--image", "99"], "0 to 27"),
        (["--neuron", "small/head@none/1", "--out", "x"], "no place"),
        (["--text", "red", "--image", "1", "--out", "x"], "does not run as a network"),
        (["--text", "red", "--neuron", "a/b/1"], "not both"),
        (["--text", "red"], "--image"),
        (["--model", "other"], "it has small"),
    ],
)
def test_what_cannot_be_mapped_is_one_sentence(
    made, arguments, words, tmp_path, monkeypatch, capsys
):
    bundle, _ = made
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, "maps", bundle.path, *arguments)
    assert code == 2
    assert words in error
    assert not (tmp_path / "x").exists()


def test_a_bundle_without_checks_says_how_to_get_them(made, capsys):
    plain = made[0].path.with_name("plain.csp")
    code, _, error = run(capsys, "maps", plain)
    assert code == 2
    assert "--pairs" in error
    assert said_of_map(Bundle.open(plain), FIRST, "activation")[0] == "Not checked."


def test_maps_on_images_of_a_few_patients_are_not_judged(shipped_bundle):
    """Many photographs of nine patients point at the thing every time, and prove nothing."""
    stored = Bundle.open(shipped_bundle).map_checks("biased", "layer2@max")
    rows = stored.photographs[stored.photographs["map"] == "gradient"].assign(
        hit=1.0, random_hit=0.0, other_hit=0.0, weights_hit=0.0
    )
    patient_n = np.arange(len(rows))
    found = {
        n: looking._checked("gradient", "", rows.assign(group=patient_n % n), 0) for n in (9, 10)
    }
    assert found[10].beats_all == "yes"
    assert found[9].beats_all == "cannot tell"
    assert not found[9].is_good
    assert "are of 9 groups" in found[9].verdict
    assert looking.rate(found[9].rate) == "100 % (no interval)"
    told = json.loads(json.dumps(found[9].as_json()), parse_constant=pytest.fail)
    assert told["hit"] == {"value": 1.0, "low": None, "high": None}
    cells = maps_section._row(found[9])
    assert cells[-1].text == "cannot tell"
    assert all(cell.low is None for cell in cells)
