"""The demo's judge: an encoder as any other, that knows a little from a few photographs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.cases import concept_table, draw_cases
from csp_engine.demo.training.judge import PatchJudge
from csp_engine.encoders import load_encoder


def small():
    """The factory behind ``python:tests.engine.test_demo_judge:small``."""
    return PatchJudge(n_lessons=80, n_captions=600)


@pytest.fixture(scope="module")
def judge():
    return load_encoder("python:tests.engine.test_demo_judge:small")


@pytest.mark.slow
def test_it_tells_photographs_apart_that_it_never_saw(judge):
    cases = draw_cases("words", 60, 5)
    images = [render.render(row).image() for row in cases.to_dict("records")]
    image_nd = judge.embed_images(np.stack([judge.preprocess(image) for image in images]))
    shown = concept_table(cases)
    areas = [
        roc_auc_score(shown[name], image_nd @ judge.embed_texts([name])[0])
        for name in ("colour patch", "dark corners", "dark skin", "large lesion")
    ]
    assert np.mean(areas) > 0.75


def test_texts_follow_their_words_and_unknown_ones_say_nothing(judge):
    one, same, other, lost = judge.embed_texts(
        ["dark corners", "a photo of a vignette", "ruler", "xylophone"]
    )
    assert one @ same > one @ other + 0.3
    assert lost.tolist() == [0.0] * (judge.dim - 1) + [1.0]


@pytest.mark.slow
def test_another_seed_is_another_encoder(judge):
    assert judge.fingerprint != PatchJudge(n_lessons=20, n_captions=50).fingerprint
