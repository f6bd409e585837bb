"""One image changed: every version against array arithmetic and a forward pass by hand."""

from __future__ import annotations

import copy
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import logit, softmax

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline.mapping import changes
from csp_engine.pipeline.mapping.changes import CHANGES, Version, packed, unpacked, versions
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.pipeline.mapping.overlays import NeuronOverlays
from csp_engine.serving.map_process import MapProcess
from csp_engine.trust import TRUST
from csp_engine.types import NeuronRef
from csp_engine.views.images.changes import changed, usual_image
from tests.engine.test_cli import run
from tests.worlds import toys

NEURON = NeuronRef("small", "first@mean", 1)


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv(TRUST, "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes")
    target = toys.target(["first", "head"])
    request = toys.request(folder, folder / "small.csp", targets=(target,))
    return pipeline.build(request), target


@pytest.fixture(scope="module")
def overlays(made) -> NeuronOverlays:
    bundle, target = made
    (tap,) = select_layers(target.model, [NEURON.layer])
    return NeuronOverlays(bundle, target.model, tap, NEURON.unit)


def by_hand(picture: Image.Image) -> dict[str, np.ndarray]:
    """The changes that are arithmetic on an array of pixels."""
    yxc = np.asarray(picture, np.float64)
    height, width = yxc.shape[:2]
    y, x = round(height * 0.15), round(width * 0.15)
    grey = yxc @ np.array([299, 587, 114]) / 1000
    return {
        "as it is": yxc,
        "flipped left to right": yxc[:, ::-1],
        "flipped upside down": yxc[::-1],
        "cropped to the middle": yxc[y : height - y, x : width - x],
        "turned grey": np.repeat(grey[..., None], 3, 2),
        "darkened": yxc * 0.6,
    }


def test_every_change_is_what_its_name_says(made):
    bundle, _ = made
    (picture,) = pictures(bundle, [3])
    found = {name: np.asarray(change(picture), np.float64) for name, change in CHANGES.items()}
    for name, expected in by_hand(picture).items():
        assert found[name].shape == expected.shape
        assert np.abs(found[name] - expected).max() <= 1.01, name
    hue, *rest = np.moveaxis(np.asarray(picture.convert("HSV"), np.int64), 2, 0)
    turned = np.moveaxis(np.asarray(CHANGES["recoloured"](picture).convert("HSV"), np.int64), 2, 0)
    is_colourful = (rest[0] > 60) & (rest[1] > 60)
    assert is_colourful.any()
    off = (turned[0] - hue - changes.HUE + 128) % 256 - 128
    assert np.abs(off[is_colourful]).max() <= 4
    blurred = found["blurred"]
    assert (
        np.abs(np.diff(blurred, axis=1)).mean() < np.abs(np.diff(found["as it is"], axis=1)).mean()
    )
    assert blurred.mean() == pytest.approx(found["as it is"].mean(), abs=2)


def test_figures_are_those_of_a_forward_pass_by_hand(made, overlays):
    bundle, target = made
    (picture,) = pictures(bundle, [5])
    found = versions(overlays, picture)
    assert [each.name for each in found] == list(CHANGES)
    kept: list[torch.Tensor] = []
    hook = target.model.network.first.register_forward_hook(lambda m, a, out: kept.append(out))
    decided = None
    for each in found:
        shown = CHANGES[each.name](picture)
        pixels = torch.from_numpy(target.model.preprocess(shown))[None]
        with torch.no_grad():
            logits = target.model.network(pixels)[0].double().numpy()
        own = float(kept[-1][0, NEURON.unit].double().mean())
        assert each.activation == pytest.approx(own, rel=1e-4, abs=1e-5)
        decided = int(logits.argmax()) if decided is None else decided
        assert each.decided == int(logits.argmax())
        assert each.log_odds == pytest.approx(float(logit(softmax(logits)[decided])), abs=1e-3)
        assert Image.open(io.BytesIO(each.picture)).size == shown.size
    hook.remove()
    row = bundle.exemplars("small", NEURON.layer).image_uk[NEURON.unit, 0]
    (strongest,) = pictures(bundle, [int(row)])
    stored = float(bundle.exemplars("small", NEURON.layer).activation_uk[NEURON.unit, 0])
    assert usual_image(bundle, NEURON) == row
    assert versions(overlays, strongest)[0].activation == pytest.approx(stored, rel=0.25)


def test_maps_lie_over_the_versions_on_one_scale(made, overlays):
    bundle, _ = made
    (picture,) = pictures(bundle, [5])
    plain, mapped = versions(overlays, picture), versions(overlays, picture, "activation")
    for one, other in zip(plain, mapped, strict=True):
        assert (one.activation, one.log_odds) == (other.activation, other.log_odds)
        bright, dark = (
            np.asarray(Image.open(io.BytesIO(each.picture)), np.float64).mean()
            for each in (one, other)
        )
        assert dark < bright + 60  # the line of a map is white
    first = overlays.over("activation", [picture])
    assert np.array_equal(first[0], overlays.raw("activation", [5])[0])
    with pytest.raises(InputError, match="no map 'sideways'"):
        versions(overlays, picture, "sideways")


@pytest.mark.slow
def test_they_come_through_a_pipe_as_they_are(made, overlays):
    bundle, _ = made
    found = versions(overlays, pictures(bundle, [2])[0])
    assert unpacked(packed(found)) == found
    odd = [Version("as it is", 0.0, None, math.nan, b"\x00\xff")]
    (back,) = unpacked(packed(odd))
    assert math.isnan(back.log_odds)
    assert (back.decided, back.picture) == (None, b"\x00\xff")
    process = MapProcess()
    try:
        assert process.versions(bundle, NEURON, "", 2) == found
        assert process.versions(bundle, NEURON, "gradient", 2)[0].activation == found[0].activation
        with pytest.raises(InputError, match="no place"):
            process.versions(bundle, NeuronRef("small", "head@none", 0), "activation", 2)
    finally:
        process.close()


@pytest.mark.slow
def test_without_the_network_one_sentence_says_how_to_get_it(made, monkeypatch):
    monkeypatch.setenv(TRUST, "")
    process = MapProcess()
    try:
        with pytest.raises(MissingModelError, match="runs only if you trust it"):
            process.versions(made[0], NEURON, "", 2)
    finally:
        process.close()


def shown(bundle: Bundle, *rows: tuple[str, float, int | None]):
    held = [Version(name, value, decided, 0.0, b"", 3) for name, value, decided in rows]
    return changed(bundle, "small", 7, held)


def said_of(bundle: Bundle, names: list[str] | None, n_outputs: int, decided: list[int]):
    model = {**bundle.manifest.inputs["models"]["small"], "class_names": names}
    inputs = {**bundle.manifest.inputs, "models": {"small": model}}
    held = [Version(f"v{i}", 1.0, d, 0.0, b"", n_outputs) for i, d in enumerate(decided)]
    named = copy.copy(bundle)
    named.manifest = replace(bundle.manifest, inputs=inputs)
    return changed(named, "small", 0, held)


def test_classes_of_one_name_are_two_classes(made):
    """ImageNet has two called crane and two called maillot."""
    found = said_of(made[0], ["crane", "ox", "crane"], 3, [0, 2, 1, 0])
    assert [each.is_turned for each in found.versions] == [False, True, True, False]
    assert "The decision, crane (output 0), stays in 1 of 3." in found.sentence
    assert "It becomes crane (output 2) when v1. It becomes ox when v2." in found.sentence


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["mole"], ["mole", "not mole"]), (None, ["output 0", "not output 0"]),
     ([], ["output 0", "not output 0"])],
)  # fmt: skip
def test_one_output_says_yes_or_no_whether_it_has_a_name_or_not(made, names, expected):
    """Without a name, 'no' was called output 0, and 'yes' output 1, which there is none of."""
    assert [each.decided for each in said_of(made[0], names, 1, [1, 0]).versions] == expected


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 7), (101, 5), (5, 101)])
def test_any_size_of_picture_is_changed(overlays, size):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    found = versions(overlays, picture)
    cropped = Image.open(io.BytesIO(found[3].picture))
    assert cropped.size == tuple(side - 2 * round(side * 0.15) for side in size)
    assert all(math.isfinite(each.log_odds) for each in found)


def test_the_sentence_says_what_stays(made):
    bundle = made[0]
    first, second, *_ = sorted(toys.COLOURS)
    found = shown(bundle, ("as it is", 4.0, 0), ("blurred", 1.0, 1), ("turned grey", 2.0, 0),
                  ("darkened", 3.0, 1))  # fmt: skip
    assert found.sentence == (
        "In 2 of 3 changes of image 7, the neuron keeps at least half of its activation; it keeps "
        f"least when blurred: 25 %. The decision, {first}, stays in 1 of 3. It becomes {second} "
        "when blurred or darkened."
    )
    assert [each.words for each in found.versions][:2] == ["4.000 (100 %)", "1.000 (25 %)"]
    silent = shown(bundle, ("as it is", -0.5, None), ("blurred", 1.0, None))
    assert silent.sentence == (
        "The neuron is not active above 0 on image 7 (−0.500), so no shares are given."
    )
    assert silent.as_json()["versions"][1] == {
        "change": "blurred", "activation": 1.0, "share": None, "decided": None, "log_odds": 0.0,
    }  # fmt: skip
    below = shown(bundle, ("as it is", 2.0, 1), ("blurred", -0.1, 1))
    assert "least when blurred: −5.0 %" in below.sentence


def test_the_command_says_the_same(made, overlays, tmp_path, capsys):
    bundle, _ = made
    pixels = tmp_path / "pixels.json"
    pixels.write_text(json.dumps(toys.PREPROCESSING))
    asked = ("maps", bundle.path, "--neuron", NEURON, "--preprocessing", pixels, "--changes")
    out = tmp_path / "out"
    code, said, error = run(capsys, *asked, "--image", 5, "--image", 0, "--out", out, "--json")
    assert code == 0, error
    (told, _) = json.loads(said)
    here = changed(bundle, "small", 5, versions(overlays, pictures(bundle, [5])[0]))
    assert told == json.loads(json.dumps(here.as_json()))
    assert sorted(each.name for each in out.iterdir()) == [
        "changes-image-0.png", "changes-image-5.png",
    ]  # fmt: skip
    code, said, _ = run(capsys, *asked)
    assert code == 0
    assert f"changes of image {usual_image(bundle, NEURON)}" in said
    for wrong, sentence in (
        (("--image", 99), "There is no probe image 99"),
        (("--map", "sideways"), "There is no map 'sideways'"),
        (("--out", pixels), "is there already"),
    ):
        code, _, error = run(capsys, *asked, *wrong)
        assert (code, sentence in error) == (2, True), error
    code, _, error = run(capsys, "maps", bundle.path, "--changes")
    assert (code, "name one with --neuron" in error) == (2, True)


def test_the_bundle_is_as_it_was(made):
    assert Bundle.open(made[0].path).digest == made[0].digest
