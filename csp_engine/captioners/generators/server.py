"""A model behind an OpenAI-compatible server: vLLM, Ollama, LM Studio, or a hosted one.

What is sent: the grids as JPEG, the question, the model's name, and the key if there is one.
Nothing that the server answers is obeyed: no redirect is followed, no address in it is opened.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import io
import ipaddress
import json
import logging
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from csp_engine.captioners.generators.asking import Question
from csp_engine.captioners.generators.kept import Answer
from csp_engine.captioners.generators.naming import Named
from csp_engine.captioners.generators.parsing import MOST_CHARACTERS
from csp_engine.captioners.generators.prompts import N_SHOWN
from csp_engine.errors import InputError, MissingModelError
from csp_engine.hashing import sha256_json
from csp_engine.printable import one_line
from csp_engine.waiting import within

log = logging.getLogger(__name__)

KEY = "CSP_CAPTIONER_KEY"
"""Environment variable: the key of the server. No other place is looked at."""
MOST_BYTES = 4 << 20
"""Of an answer; the longest is a few kilobytes."""
LONGEST_WAIT = 120.0
"""Seconds before another try, whatever the server asks for."""
PATIENCE = 8
"""Questions without an answer, one after another, from which the server counts as down."""
QUALITY = 92
_FIRST_WAIT = 1.0
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_CHANGEABLE = ("max_tokens", "temperature", "seed")
"""Fields of a request that some servers refuse; then they are renamed or left out."""


class _Retry(Exception):
    """A try that failed in a way that another may not."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Refused(Exception):
    """The server will not answer this question, however often it is asked."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key and the images go where the person said, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Got:
    status: int
    headers: Any
    body: bytes


class Server:
    """A generator behind HTTP. The server is not asked anything before the first question."""

    n_images = N_SHOWN

    def __init__(self, named: Named, *, first_wait: float = _FIRST_WAIT) -> None:
        self.spec = named.spec
        self.named = named
        self.description: dict[str, Any] = {
            "kind": "openai",
            "model": named.what,
            "url": named.url,
            "tokens": named.whole("tokens"),
        }
        self.fingerprint = sha256_json(self.description)
        n_at_once = named.whole("concurrency")
        # Enough that nobody waits long for the slowest; their pictures are all in memory.
        self.n_at_once = max(n_at_once, min(4 * n_at_once, 128))
        self._where = urlsplit(named.url).netloc
        self._key = _key_for(named.url)
        self._first_wait = first_wait
        self._left_out: set[str] = set()
        handlers: list[Any] = [_NoRedirect()]
        if _is_here(urlsplit(named.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._n_failed = 0

    def answer(self, questions: Sequence[Question], keep: Callable[[int, Answer], None]) -> None:
        """See ``Generator``; several questions are under way at a time.

        Interrupted, it waits for the answers that are under way, which are kept too.

        Raises:
            InputError: if the server refuses the key, or sends elsewhere.
            MissingModelError: if it does not know the model, or does not answer.
        """
        self._stop.clear()

        def one(place: int) -> None:
            if self._stop.is_set():
                return
            try:
                answer = self._asked(questions[place])
                keep(place, answer)
                self._count(answer)
            except BaseException:
                self._stop.set()  # before this thread takes the next question
                raise

        with ThreadPoolExecutor(self.named.whole("concurrency")) as pool:
            try:
                futures = [pool.submit(one, place) for place in range(len(questions))]
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _count(self, answer: Answer) -> None:
        with self._lock:
            self._n_failed = self._n_failed + 1 if answer.failure else 0
            is_down = self._n_failed >= PATIENCE
        if is_down:
            raise MissingModelError(
                f"The server {self._where} left the last {PATIENCE} questions unanswered "
                f"({answer.failure}); see that it runs and that {self.named.what!r} takes images, "
                "then run the same command again: answers so far are kept."
            )

    def _asked(self, question: Question) -> Answer:
        """One question, tried several times."""
        failure, attempts = "", self.named.whole("attempts")
        for attempt in range(attempts):
            try:
                return self._tried(question)
            except _Refused as error:
                return Answer(failure=str(error))
            except _Retry as error:
                failure = str(error)
                asked_s = error.wait_s
                log.info("%s: %s (try %d of %d)", self._where, failure, attempt + 1, attempts)
            if asked_s is not None and asked_s > LONGEST_WAIT:
                return Answer(failure=f"{failure}, and asks to wait {asked_s:.0f} s")
            # Not all at the same moment: each waits between half and all of its time.
            usual_s = self._first_wait * 2**attempt * (0.5 + random.random() / 2)
            is_last = attempt + 1 == attempts
            if not is_last and self._stop.wait(min(max(usual_s, asked_s or 0.0), LONGEST_WAIT)):
                return Answer(failure="the build was stopped")
        return Answer(failure=f"{failure}, {attempts} times" if attempts > 1 else failure)

    def _tried(self, question: Question) -> Answer:
        got = self._posted(self._request(question))
        if got.status == 200:
            return self._read(got.body)
        said = _message(got.body)
        if got.status in (401, 403):
            state = "the key in" if self._key else "no key, for there is none in"
            raise InputError(
                f"The server {self._where} answers {got.status} to {state} the environment "
                f"variable {KEY}{said}; set it to a key that may ask {self.named.what!r}."
            )
        if 300 <= got.status < 400:
            raise InputError(
                f"The server {self._where} sends questions elsewhere ({got.status}), which is not "
                "followed; give the address itself after @ in --captioner."
            )
        if got.status == 404:
            raise MissingModelError(
                f"The server {self._where} knows no model {self.named.what!r} at {self.named.url}"
                f"{said}; correct --captioner openai/MODEL@URL, where URL often ends in /v1."
            )
        if got.status in _AGAIN:
            raise _Retry(f"it answers {got.status}{said}", _retry_after(got.headers))
        if self._gives_in(got.status, said):
            raise _Retry(f"it answers {got.status}{said}", 0.0)
        raise _Refused(f"it answers {got.status}{said}")

    def _gives_in(self, status: int, said: str) -> bool:
        """Whether the server refuses a field that can be done without; it is left out from now."""
        if status not in (400, 422):
            return False
        refused = [name for name in _CHANGEABLE if name in said and name not in self._left_out]
        self._left_out.update(refused[:1])
        return bool(refused)

    def _request(self, question: Question) -> dict[str, Any]:
        pictures = [
            {"type": "image_url", "image_url": {"url": _as_data(each)}} for each in question.grids
        ]
        content = [*pictures, {"type": "text", "text": question.prompt}]
        fields: dict[str, Any] = {
            "max_tokens": self.named.whole("tokens"),
            "temperature": 0,
            "seed": question.seed,
        }
        if "max_tokens" in self._left_out:
            fields["max_completion_tokens"] = fields["max_tokens"]
        for name in self._left_out:
            fields.pop(name)
        return {
            "model": self.named.what,
            "messages": [{"role": "user", "content": content}],
            **fields,
        }

    def _posted(self, request: dict[str, Any]) -> _Got:
        """The answer to a request, read to its end within the time-out as a whole."""
        headers = {"Content-Type": "application/json", "User-Agent": "csp-neuron-browser"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        timeout = self.named.settings["timeout"]
        ends = time.monotonic() + timeout
        sent = urllib.request.Request(
            f"{self.named.url}/chat/completions", json.dumps(request).encode(), headers
        )
        try:
            # Its head may come byte by byte as well.
            with within(timeout, lambda: self._opener.open(sent, timeout=timeout)) as answer:
                return _Got(answer.status, answer.headers, _whole_body(answer, ends))
        except urllib.error.HTTPError as error:
            with error:
                try:
                    body = _whole_body(error, ends)
                except (OSError, http.client.HTTPException, _Retry):
                    body = b""
                return _Got(error.code, error.headers, body)
        except TimeoutError:
            raise _Retry(f"no answer within {timeout:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _Retry(f"no answer within {timeout:g} s") from None
            raise _Retry(f"no connection: {_brief(error.reason)}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Retry(f"the connection broke: {_brief(error)}") from None
        except ValueError as error:  # a status line or header that is none
            raise _Retry(f"it answers no HTTP: {_brief(error)}") from None

    def _read(self, body: bytes) -> Answer:
        """The words in an answer, and what they cost."""
        try:
            said = json.loads(body)
            choice = said["choices"][0]
            text = choice["message"].get("content")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _Retry("its answer is not one of a chat") from None
        if isinstance(text, list):  # parts, as some servers answer
            text = "".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
        if text is not None and not isinstance(text, str):
            raise _Retry("its answer is not one of a chat")
        usage = said.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        n_in, n_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        prices = self.named.settings
        cost = (n_in * prices["price_in"] + n_out * prices["price_out"]) / 1e6
        stated = usage.get("cost")
        if not cost and isinstance(stated, int | float) and 0 <= stated < 1e6:
            cost = float(stated)
        return Answer((text or "")[:MOST_CHARACTERS], "", n_in, n_out, cost)


def _whole_body(answer: Any, ends: float) -> bytes:
    """All that is sent; a server that sends a byte now and then is not waited for."""
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(65536) if hasattr(answer, "read1") else answer.read(65536):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise _Retry(f"its answer is longer than {MOST_BYTES >> 20} MB")
        if time.monotonic() > ends:
            raise _Retry("its answer does not end within the time-out")
    stated = answer.headers.get("Content-Length", "")
    if stated.isdecimal() and size < int(stated):
        raise _Retry("the connection broke within the answer")
    return b"".join(parts)


def _key_for(url: str) -> str:
    """The key, if there is one, and it may be sent there.

    Raises:
        InputError: if it would cross a network in the clear, or is no key.
    """
    key = os.environ.get(KEY, "").strip()
    parts = urlsplit(url)
    if key and (not key.isascii() or not key.isprintable()):
        raise InputError(f"The environment variable {KEY} holds characters that no key has.")
    if key and parts.scheme == "http" and not _is_near(parts.hostname or ""):
        raise InputError(
            f"{url} is not encrypted, so the key in {KEY} could be read on its way; use https, or "
            f"unset {KEY}."
        )
    return key


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_near(host: str) -> bool:
    """Whether a host is this machine or one of its own network, by its name.

    Numbers without points are addresses too, of anywhere: 134744072 is 8.8.8.8.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _is_here(host) or ("." not in host and not host[:1].isdigit())
    return (getattr(address, "ipv4_mapped", None) or address).is_private


def _as_data(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 40 else 0


def _brief(error: object) -> str:
    return one_line(str(getattr(error, "strerror", None) or error or type(error).__name__))[:120]


def _message(body: bytes) -> str:
    """What a server says of an error, in brief, or nothing."""
    text = body[:4000].decode("utf-8", "replace")
    try:
        said = json.loads(text)
        error = said.get("error", said)
        text = error.get("message", "") if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError, RecursionError):
        text = ""
    return f" (“{one_line(str(text))[:160]}”)" if text else ""


def _retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait, stated as such or as a date."""
    stated = str(headers.get("Retry-After") or "").strip()
    if not stated:
        return None
    try:
        seconds = float(stated)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(stated).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds == seconds else None
