"""Encoders in a process of their own answer as they do in this one, and their errors arrive."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import csp_engine.search as search
from csp_engine.bundle import Bundle
from csp_engine.encoders.threads import threads_for_texts
from csp_engine.errors import (
    BusyError,
    InputError,
    MissingModelError,
    UnreadableImageError,
)
from csp_engine.pipeline import build
from csp_engine.probe.decoding import decode
from csp_engine.serving import encoder_process
from csp_engine.serving.encoder_process import MOST_PIXELS, EncoderProcess
from csp_engine.serving.turns import Limits, Turns
from csp_engine.trust import TRUST
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


@pytest.mark.slow
def test_texts_and_images_give_the_vectors_that_this_process_gives(bundle, encoders):
    here = search.bundle_encoder(bundle)
    assert not encoders.has_loaded(bundle)
    texts = ["a bright thing", "τ — “x”\nsecond line", "red"] * 6
    assert len(texts) > encoder_process.TEXTS_AT_ONCE
    expected = [search.query_vector(bundle, text, here) for text in texts]
    np.testing.assert_array_equal(encoders.text_vectors(bundle, texts), expected)
    np.testing.assert_array_equal(encoders.text_vectors(bundle, texts[:1]), expected[:1])
    assert encoders.has_loaded(bundle)
    file = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(file, "PNG")
    expected = search.image_query_vector(bundle, decode(file.getvalue()), here)
    np.testing.assert_array_equal(encoders.image_vector(bundle, file.getvalue()), expected)


def test_errors_arrive_as_they_are_and_the_next_question_is_answered(bundle, encoders, monkeypatch):
    with pytest.raises(InputError, match="query is empty"):
        encoders.text_vectors(bundle, [" _ "])
    with pytest.raises(InputError):
        encoders.image_vector(bundle, b"no image, but two lines\n{}\n")
    assert encoders.text_vectors(bundle, ["a bright thing"]).shape == (1, 16)


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_an_image_that_would_fill_the_memory_is_refused_and_costs_nothing(bundle, encoders):
    assert 5700**2 > MOST_PIXELS > 5600**2
    for size in ((5700, 5700), (13_300, 13_300), (30_000, 30_000)):
        content = png(*size)
        assert len(content) < 1_000_000
        with pytest.raises(UnreadableImageError, match="more than 32 million pixels"):
            encoders.image_vector(bundle, content)
    for size in ((1, 51), (2_000_000, 1)):  # the shorter side would be brought to 224 pixels
        with pytest.raises(InputError, match="at most 50 times the shorter"):
            encoders.image_vector(bundle, png(*size))
    assert encoders.image_vector(bundle, png(1, 50)).shape == (16,)
    assert encoders.has_loaded(bundle)  # nothing of it had to be ended


DECODES = """
import io, sys
from PIL import Image
from csp_engine.probe.decoding import decode

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

content = open(sys.argv[1], "rb").read()
small = io.BytesIO()
Image.new("RGBA", (9, 9)).save(small, "WEBP")
decode(small.getvalue())
before = peak()
size = decode(content).size
print((peak() - before) / (size[0] * size[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "WEBP"), ("I", "TIFF"), ("RGBA", "PNG")])
def test_what_a_pixel_takes_is_what_the_limit_was_made_for(tmp_path, mode, kind):
    file = tmp_path / "image"
    Image.new(mode, (3000, 3000), 700 if mode == "I" else (9, 99, 200, 7)).save(file, kind)
    command = [sys.executable, "-c", DECODES, str(file)]
    taken = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 3 < float(taken) <= 24


def test_questions_go_in_turns_and_each_visitor_has_a_share(bundle):
    apart = EncoderProcess(Turns(Limits(n_of_one=0)))
    for ask in (
        lambda: apart.text_vectors(bundle, ["red"], "a"),
        lambda: apart.image_vector(bundle, b""),
    ):
        with pytest.raises(BusyError):
            ask()
    assert apart._process is None
    apart.close()


@pytest.mark.slow
def test_a_question_that_never_ends_is_ended(bundle, encoders, monkeypatch):
    encoders.text_vectors(bundle, ["a bright thing"])
    monkeypatch.setattr(encoder_process, "ANSWERS_WITHIN_S", 0.05)
    encoders._process.send_signal(signal.SIGSTOP)
    with pytest.raises(MissingModelError, match="try again"):
        encoders.text_vectors(bundle, ["a bright thing"])
    monkeypatch.undo()
    monkeypatch.setenv(TRUST, "1")
    assert encoders.text_vectors(bundle, ["a bright thing"]).shape == (1, 16)


@pytest.mark.slow
def test_what_is_not_trusted_here_is_not_trusted_there(bundle, monkeypatch):
    monkeypatch.setenv(TRUST, "0")
    apart = EncoderProcess()
    with pytest.raises(MissingModelError, match="Python code"):
        apart.text_vectors(bundle, ["a bright thing"])
    apart.close()


@pytest.mark.slow
def test_a_process_that_was_killed_is_reported_and_started_again(bundle, encoders):
    encoders.text_vectors(bundle, ["a bright thing"])
    encoders._process.kill()
    encoders._process.wait()
    assert encoders.text_vectors(bundle, ["a bright thing"]).shape == (1, 16)
    encoders._process.stdin.close()
    with pytest.raises(MissingModelError, match="try again"):
        encoders.text_vectors(bundle, ["a bright thing"])
    assert not encoders.has_loaded(bundle)


class Timed:
    """Encodes a text after a pause, and notes how many threads there were."""

    spec, dim, fingerprint, description = "python:timed", 4, "0" * 64, {}

    def preprocess(self, image):
        raise NotImplementedError

    embed_images = preprocess

    def __init__(self, pause_s: float, error: Exception | None = None) -> None:
        self.pause_s, self.error, self.threads = pause_s, error, []

    def embed_texts(self, texts):
        import time

        import torch

        self.threads.append(torch.get_num_threads())
        time.sleep(self.pause_s)
        if self.error:
            raise self.error
        return np.eye(len(texts), 4, dtype=np.float32)


@pytest.mark.parametrize(
    ("encoder", "is_for_one"),
    [
        (Timed(0), True),
        (Timed(0.03), False),
        (Timed(0, InputError("no such text")), False),
        (Timed(0, RuntimeError("its own")), False),
    ],
)
def test_a_text_that_one_thread_encodes_at_once_is_left_to_it(encoder, is_for_one):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert threads_for_texts(lambda text: encoder.embed_texts([text])) == (
            1 if is_for_one else 3
        )
        assert torch.get_num_threads() == 3
        assert set(encoder.threads) == {1}
    finally:
        torch.set_num_threads(before)


def test_images_have_all_threads_after_a_text_had_one(bundle, monkeypatch):
    import torch

    encoder = Timed(0)
    monkeypatch.setattr(search, "bundle_encoder", lambda _: encoder)
    monkeypatch.setattr(
        search, "query_vector", lambda bundle, text, encoder: encoder.embed_texts([text])[0]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    question = {"bundle": str(bundle.path), "digest": bundle.digest, TRUST: "1", "texts": ["x"]}
    loaded = {}
    try:
        for _ in range(2):
            encoder_process.answer(question, b"", loaded)
            assert encoder.threads[-1] == 1
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
