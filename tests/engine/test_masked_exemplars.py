"""The study of masked exemplars: what is shown, and what its figures count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.evaluation.paired_effects import halves
from csp_engine.views.accuracy import MEASURED, known_neurons, wordings_of
from studies import masked_exemplars as study

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo" / "dermoscopy.csp"


def test_what_a_neuron_does_not_look_at_is_grey_or_cut_off():
    pixels = np.random.default_rng(0).integers(0, 100, (8, 10, 3)).astype(np.uint8)
    map_yx = np.zeros((8, 10), np.float32)
    map_yx[2:5, 3:7] = 1
    map_yx[3, 4] = 0.4  # inside the box, below half
    picture = Image.fromarray(pixels)
    shown = np.asarray(study.masked(picture, map_yx))
    for y in range(8):
        for x in range(10):
            wanted = pixels[y, x] if map_yx[y, x] >= 0.5 else (study.GREY,) * 3
            assert tuple(shown[y, x]) == tuple(wanted)
    assert (np.asarray(study.boxed(picture, map_yx)) == pixels[2:5, 3:7]).all()
    assert study.WAYS[study.WHOLE](picture, map_yx) is picture
    nothing = np.zeros((8, 10), np.float32)
    assert (np.asarray(study.masked(picture, nothing)) == pixels).all()


@pytest.mark.slow
def test_figures_are_counted_and_the_second_half_chose_nothing():
    bundle = Bundle.open(DEMO)
    known = known_neurons(bundle)
    own = known[known["kind"] == MEASURED].iloc[:40].reset_index(drop=True)
    right = [wordings_of(bundle)[each[0]][0] for each in own["concepts"]]
    is_choosing = halves(np.arange(40))
    said = own[["model", "layer", "unit"]].assign(
        whole=[text if i % 2 else "nonsense" for i, text in enumerate(right)],
        masked=["nonsense"] * 40,
        cropped=[text.upper() if is_choosing[i] else "nonsense" for i, text in enumerate(right)],
        boxed=["nonsense"] * 40,
    )
    found = study.figures(bundle, pd.DataFrame(said))
    assert found["best where chosen"] == found["best that shows a region"] == "cropped"
    assert found["right"]["chosen on"]["cropped"][:2] == [20, 20]
    assert found["right"]["confirmed on"]["cropped"][:2] == [0, 20]
    n_whole = sum(i % 2 for i in range(40) if not is_choosing[i])
    assert found["right"]["confirmed on"]["whole"][:2] == [n_whole, 20]
    assert found["region less whole, confirmed"][0] == pytest.approx(-n_whole / 20)
    assert found["only one right"] == [0, n_whole]


def test_the_document_says_what_was_found():
    text = " ".join((DEMO.parents[2] / "docs" / "methods.md").read_text("utf-8").split())
    found = json.loads(study.RESULT.read_text("utf-8"))
    chosen, confirmed = (found["right"][half] for half in ("chosen on", "confirmed on"))
    assert found["best where chosen"] == study.WHOLE
    assert found["best that shows a region"] == "boxed"
    assert f"{found['limit']} neurons of each layer, {found['neurons']} with a measured" in text
    first = [f"{100 * chosen[way][2]:.0f}" for way in ("boxed", "cropped", "masked")]
    assert "({} %; grey around it, cut or uncut, {} and {} %)".format(*first) in text
    for way, name in (("boxed", "it was right for"), ("whole", "whole images for")):
        share, low, high = (100 * each for each in confirmed[way][2:])
        assert f"{name} {share:.0f} % ({low:.1f}–{high:.1f})" in text
    gain = [f"{100 * each:.0f}".replace("-", "−") for each in found["region less whole, confirmed"]]
    assert "{} points ({} to {})".format(*gain) in text
    assert f"p = {found['p']:.2f}".replace("0.", ".") in text
    own = found["by layer"]["biased/layer2@max"]
    assert f"{own['boxed'] * 20:.0f} to {own['whole'] * 20:.0f} of 20" in text
