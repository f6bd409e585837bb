"""Encoders in a process of their own, so that whoever shows pages never holds torch.

Importing torch takes seconds during which a process answers nobody, and keeps hundreds of megabytes
for ever. Here a second process does that when the first text needs it (or ``warm`` says that one
soon will); it ends with the process that started it. The two speak over pipes: a line of JSON and
the bytes of an image there, a line of JSON and the bytes of vectors back.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32

from csp_engine import errors
from csp_engine.bundle import Bundle
from csp_engine.garbage import left_lying
from csp_engine.printable import shown_spec
from csp_engine.serving.turns import Turns
from csp_engine.trust import TRUST

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
MOST_PIXELS = 32_000_000
"""Of an image to search by. Decoding takes up to 24 bytes for each: 0.8 GB beside the encoder."""
MOST_TIMES_LONGER = 50
"""How much longer its longer side may be; encoders bring the shorter one to 224 pixels or so."""
TEXTS_AT_ONCE = 16
"""Of one question: whoever asks for more lets others ask in between."""
ANSWERS_WITHIN_S, LOADS_WITHIN_S = 120.0, 900.0
"""A process that takes longer is ended: what it does would keep all others waiting."""


class Apart:
    """A process that holds torch, started when it is first needed; safe between threads.

    Questions are answered one by one, and each visitor gets a share of the time, see ``Turns``.
    """

    module = __name__
    """What the process runs; its ``main`` answers questions."""

    def __init__(self, turns: Turns | None = None) -> None:
        self._turns = turns or Turns()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._loaded: set[str] = set()

    @property
    def turns(self) -> Turns:
        """Who waits for it."""
        return self._turns

    @property
    def pid(self) -> int | None:
        """Of the process; None where none runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in filter(None, (self._process.stdin, self._process.stdout)):
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()  # what was not sent yet fails to be
        self._process, self._loaded = None, set()

    def _ask(
        self,
        bundle: Bundle,
        question: dict[str, Any],
        content: bytes = b"",
        visitor: str = "",
        *,
        needed: str,
        what: str,
    ) -> bytes:
        """Ask, and wait for the answer.

        Args:
            bundle: what the question is about.
            question: JSON-ready.
            content: bytes that go with it.
            visitor: who asks.
            needed: the fingerprint of what has to be loaded for it.
            what: what that is, to begin a sentence with.
        """
        asked = {"bundle": str(bundle.path.resolve()), "digest": bundle.digest, **question}
        asked[TRUST] = os.environ.get(TRUST, "")
        with self._turns.turn(visitor) as turn, self._lock:
            is_new = needed not in self._loaded
            try:
                process = self._started()
                with _ended_after(process, LOADS_WITHIN_S if is_new else ANSWERS_WITHIN_S):
                    assert process.stdin is not None
                    assert process.stdout is not None
                    process.stdin.write(json.dumps(asked).encode() + b"\n" + content)
                    process.stdin.flush()
                    answer = json.loads(process.stdout.readline())
                    body = process.stdout.read(answer.get("bytes", 0))
            except (OSError, ValueError):
                self._end()
                raise errors.MissingModelError(
                    f"{what} stopped while it was loading or working, perhaps for want "
                    "of memory; try again."
                ) from None
            if "error" in answer:
                raise getattr(errors, answer["error"], errors.CspError)(answer["message"])
            self._loaded.add(answer["fingerprint"])
            turn.is_free = is_new  # loading is for all, not for who comes first
        return body

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._loaded = set()
            # Not all of sys.path: Streamlit puts the folder of the running script there.
            path = os.pathsep.join(
                filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")))
            )
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
        return self._process


class EncoderProcess(Apart):
    """The encoders of any bundles, each loaded when it is first needed."""

    def has_loaded(self, bundle: Bundle) -> bool:
        """Whether the encoder of a bundle answers at once."""
        return bundle.manifest.inputs["encoder"]["fingerprint"] in self._loaded

    def warm(self, bundle: Bundle, ask: Callable[[], object]) -> None:
        """Begin to load the encoder of a bundle in the background; asking says what failed.

        Args:
            bundle: whose encoder.
            ask: asks it something, for which it has to be loaded.
        """
        if self.has_loaded(bundle) or self._lock.locked():
            return

        def load() -> None:
            with contextlib.suppress(errors.CspError):
                ask()

        threading.Thread(target=load, name="encoder warm-up", daemon=True).start()

    def text_vectors(
        self, bundle: Bundle, texts: Sequence[str], visitor: str = ""
    ) -> Float32[np.ndarray, "t d"]:
        """``search.query_vector`` of each text.

        Raises:
            BusyError: if too many ask, or this visitor has asked for too much.
            CspError: what that raises, and what loading the encoder does.
        """
        parts = [list(texts[at : at + TEXTS_AT_ONCE]) for at in range(0, len(texts), TEXTS_AT_ONCE)]
        found = [self._vector(bundle, {"texts": part}, visitor=visitor) for part in parts]
        return np.concatenate(found).reshape(len(texts), -1)

    def image_vector(
        self, bundle: Bundle, content: bytes, visitor: str = ""
    ) -> Float32[np.ndarray, " d"]:
        """The vector of the bytes of an image file.

        Raises:
            BusyError: if too many ask, or this visitor has asked for too much.
            CspError: if it is no image or too large a one, or the encoder cannot be had.
        """
        return self._vector(bundle, {"image": len(content)}, content, visitor)

    def _vector(
        self, bundle: Bundle, question: dict[str, Any], content: bytes = b"", visitor: str = ""
    ) -> np.ndarray:
        held = bundle.manifest.inputs["encoder"]
        what = f"The encoder {shown_spec(held['spec'])}"
        body = self._ask(bundle, question, content, visitor, needed=held["fingerprint"], what=what)
        return np.frombuffer(body, np.float32).copy()


@contextlib.contextmanager
def _ended_after(process: subprocess.Popen[bytes], seconds: float) -> Generator[None]:
    """End a process that takes longer for what the block waits for."""
    watch = threading.Timer(seconds, process.kill)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def answer(question: dict[str, Any], content: bytes, loaded: dict[Any, Any]) -> tuple[str, bytes]:
    """The fingerprint of a bundle's encoder, and the vectors of texts or of an image.

    ``loaded`` holds encoders by fingerprint and bundles by path and digest; what is new is added.

    Raises:
        CspError: as the functions of ``search`` do.
    """
    import csp_engine.search as search
    from csp_engine.encoders import open_clip_alone
    from csp_engine.encoders.threads import threads, threads_for_texts
    from csp_engine.probe.decoding import decode

    os.environ[TRUST] = question[TRUST]
    place = question["bundle"], question["digest"]
    bundle = loaded[place] = loaded.get(place) or Bundle.open(question["bundle"])
    fingerprint = bundle.manifest.inputs["encoder"]["fingerprint"]
    if fingerprint not in loaded:
        with left_lying():
            open_clip_alone.prepare(search.encoder_description(bundle))
            encoder = search.bundle_encoder(bundle)
            encode = partial(search.query_vector, bundle, encoder=encoder)
            loaded[fingerprint] = encoder, threads_for_texts(encode)
    encoder, n_for_texts = loaded[fingerprint]
    if "texts" in question:
        with threads(n_for_texts):
            found = [search.query_vector(bundle, text, encoder) for text in question["texts"]]
    else:
        image = decode(content)
        if max(image.size) > MOST_TIMES_LONGER * min(image.size):
            raise errors.InputError(
                f"The image has {image.width:,} x {image.height:,} pixels; crop it until the "
                f"longer side is at most {MOST_TIMES_LONGER} times the shorter."
            )
        found = [search.image_query_vector(bundle, image, encoder)]
    return fingerprint, np.stack(found).astype(np.float32, copy=False).tobytes()


Answer = Callable[[dict[str, Any], bytes, dict[Any, Any]], tuple[str, bytes]]
"""From a question, what goes with it and what is loaded, to a fingerprint and bytes."""


def serve(questions: BinaryIO, answers: BinaryIO, reply: Answer = answer) -> None:
    """Answer until nobody asks any more."""
    loaded: dict[Any, Any] = {}
    while line := questions.readline():
        question = json.loads(line)
        content = questions.read(question.get("image", 0))
        try:
            fingerprint, body = reply(question, content, loaded)
            head = {"fingerprint": fingerprint, "bytes": len(body)}
        except (errors.CspError, ModuleNotFoundError) as error:
            known = error if isinstance(error, errors.CspError) else errors.no_networks(error)
            if known is None:
                raise
            head, body = {"error": type(known).__name__, "message": str(known)}, b""
        answers.write(json.dumps(head).encode() + b"\n" + body)
        answers.flush()


def main(reply: Answer = answer) -> None:
    """Speak over standard input and output; what libraries print goes to standard error."""
    import warnings

    from PIL import Image

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # what is twice as large is refused by all decoders
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        serve(sys.stdin.buffer, answers, reply)


if __name__ == "__main__":
    main()
