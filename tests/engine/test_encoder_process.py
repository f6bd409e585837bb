"""Encoders in a process of their own answer as they do in this one, and their errors arrive."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import csp_engine.search as search
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError, MissingModelError
from csp_engine.pipeline import build
from csp_engine.probe.decoding import decode
from csp_engine.serving.encoder_process import TRUST, EncoderProcess
from tests.worlds import toys


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    build(toys.request(folder, folder / "small.csp"))
    return Bundle.open(folder / "small.csp")


@pytest.fixture(scope="module")
def encoders():
    process = EncoderProcess()
    yield process
    process.close()


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv(TRUST, "1")


def test_texts_and_images_give_the_vectors_that_this_process_gives(bundle, encoders):
    here = search.bundle_encoder(bundle)
    assert not encoders.has_loaded(bundle)
    for text in ("a bright thing", "τ — “x”\nsecond line", "red"):
        expected = search.query_vector(bundle, text, here)
        np.testing.assert_array_equal(encoders.text_vector(bundle, text), expected)
    assert encoders.has_loaded(bundle)
    file = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(file, "PNG")
    expected = search.image_query_vector(bundle, decode(file.getvalue()), here)
    np.testing.assert_array_equal(encoders.image_vector(bundle, file.getvalue()), expected)


def test_errors_arrive_as_they_are_and_the_next_question_is_answered(bundle, encoders, monkeypatch):
    with pytest.raises(InputError, match="query is empty"):
        encoders.text_vector(bundle, " _ ")
    with pytest.raises(InputError):
        encoders.image_vector(bundle, b"no image, but two lines\n{}\n")
    assert encoders.text_vector(bundle, "a bright thing").shape == (16,)


def test_what_is_not_trusted_here_is_not_trusted_there(bundle, monkeypatch):
    monkeypatch.setenv(TRUST, "0")
    apart = EncoderProcess()
    with pytest.raises(MissingModelError, match="Python code"):
        apart.text_vector(bundle, "a bright thing")
    apart.close()


def test_a_process_that_was_killed_is_reported_and_started_again(bundle, encoders):
    encoders.text_vector(bundle, "a bright thing")
    encoders._process.kill()
    encoders._process.wait()
    assert encoders.text_vector(bundle, "a bright thing").shape == (16,)
    encoders._process.stdin.close()
    with pytest.raises(MissingModelError, match="try again"):
        encoders.text_vector(bundle, "a bright thing")
    assert not encoders.has_loaded(bundle)
