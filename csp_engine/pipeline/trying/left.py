"""What a trial of an encoder found, and the folder that it is left in for another process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError
from csp_engine.files import write_whole

FOUND, PICTURE = "trial.json", "{:02d}.webp"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the trial, its class if known, and its nearest words with their cosines."""

    file: str
    of: str
    nearest: tuple[tuple[str, float], ...]
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EncoderTrial:
    """What an encoder made of some images and words.

    ``facts`` are those of the stage ``separation``; ``unread`` are the words that mean no more to
    the encoder than nonsense does.
    """

    encoder: str
    n_images: int
    n_unreadable: int
    n_words: int
    n_vocabulary: int
    unread: tuple[str, ...]
    facts: Mapping[str, Any]
    pictures: tuple[Picture, ...]

    def to_json(self) -> dict[str, Any]:
        """All but the pictures themselves, JSON-ready."""
        pictures = [
            {"file": each.file, "class": each.of, "nearest": [list(one) for one in each.nearest]}
            for each in self.pictures
        ]
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**own, "unread": list(self.unread), "facts": dict(self.facts), "pictures": pictures}


def leave_trial(path: Path, found: EncoderTrial) -> None:
    """Write a trial into a folder, for ``read_trial``."""
    path.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(found.pictures):
        (path / PICTURE.format(number)).write_bytes(each.content)
    write_whole(path / FOUND, json.dumps(found.to_json(), ensure_ascii=False))


def read_trial(path: Path) -> EncoderTrial:
    """What ``leave_trial`` wrote.

    Raises:
        InputError: if there is no such thing.
    """
    try:
        held = json.loads((path / FOUND).read_text("utf-8"))
        pictures = tuple(
            Picture(
                each["file"],
                each["class"],
                tuple((str(text), float(score)) for text, score in each["nearest"]),
                (path / PICTURE.format(number)).read_bytes(),
            )
            for number, each in enumerate(held["pictures"])
        )
        whole: dict[str, Any] = {**held, "unread": tuple(held["unread"]), "pictures": pictures}
        return EncoderTrial(**whole)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{str(path)!r} holds no trial of an encoder; try it again.") from None
