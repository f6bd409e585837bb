"""Answers that were given once, kept by what was asked: a rerun pays for nothing twice."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from csp_engine.errors import InputError
from csp_engine.files import write_whole

log = logging.getLogger(__name__)

VARIABLE = "CSP_ANSWERS"
"""Environment variable: the folder where answers are kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one question, or why it said nothing (``failure``, else empty).

    Tokens are 0 where the server does not count them, and ``cost`` where it states none.
    """

    text: str = ""
    failure: str = ""
    n_tokens_in: int = 0
    n_tokens_out: int = 0
    cost: float = 0.0


def usual_folder() -> Path:
    """Where answers are kept: the folder that ``CSP_ANSWERS`` names, or one of the user's cache."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "csp-neuron-browser" / "answers"


class KeptAnswers:
    """Answers in a folder, one small file each, by the hash of what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def require_writable(self) -> None:
        """Refuse before anything is paid for that could not be kept.

        Raises:
            InputError: naming the folder.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Answers cannot be kept in {str(self.folder)!r} ({error.strerror}); name another "
                f"folder in the environment variable {VARIABLE}."
            ) from None
        if not os.access(self.folder, os.W_OK):
            raise InputError(
                f"Answers cannot be kept in {str(self.folder)!r} (it cannot be written to); name "
                f"another folder in the environment variable {VARIABLE}."
            )

    def of(self, key: str) -> Answer | None:
        """The answer to a question, or None; a damaged file is as good as none."""
        try:
            stored = json.loads(self._file(key).read_text("utf-8"))
            answer = Answer(**stored)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = isinstance(answer.text, str) and answer.failure == ""
        counts = (answer.n_tokens_in, answer.n_tokens_out, answer.cost)
        return answer if texts and all(type(n) in (int, float) and n >= 0 for n in counts) else None

    def keep(self, key: str, answer: Answer) -> None:
        """Keep an answer; what failed is asked again next time.

        Raises:
            InputError: if it cannot be written, so that nothing more is paid for.
        """
        if answer.failure:
            return
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(asdict(answer)))
        except OSError as error:
            raise InputError(
                f"An answer cannot be kept in {str(file.parent)!r} ({error.strerror}); make room, "
                f"or name another folder in the environment variable {VARIABLE}."
            ) from None

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
